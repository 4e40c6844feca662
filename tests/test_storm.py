"""Many at once, and often: nothing is lost, nothing is left, and nothing grows.

Here at a stated smaller size; `tox -e soak` runs them whole.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from lifekit import SOAK
from lifekit import Store
from lifekit import finish
from lifekit import own_store
from lifekit import require_native
from lifekit import wait_until

from pycontainers import Container

require_native()

pytestmark = [pytest.mark.soak] if SOAK else []

#: Containers of the storm, calls of run() with 1 MB of output each, and rounds of the leak tests.
STORM = 500 if SOAK else 60
OUTPUTS = 1000 if SOAK else 60
ROUNDS = 500 if SOAK else 60
MEGABYTE = 1_000_000


@pytest.fixture(scope="module")
def shared_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A store for all tests of this module."""
    with own_store(tmp_path_factory.mktemp("storm")) as made:
        yield made


@pytest.fixture
def store(shared_store: Store) -> Iterator[Store]:
    """The store, and an end to every process that a test started on it."""
    yield shared_store
    shared_store.end_others()


def in_threads(count: int, work: Callable[[int], None]) -> None:
    """Do work(0), work(1), ... at once; the first error is raised."""
    errors: list[BaseException] = []

    def do(number: int) -> None:
        try:
            work(number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=do, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


WORKER = """
def work(number):
    for round in range({each}):
        name = f"{process}-{{number}}-{{round}}"
        c = Box("sh", "-c", "echo $NAME; exec sleep 600", name=name, environment={{"NAME": name}})
        c.start()
        assert c.status == "running"
        assert next(iter(c.logs(follow=True))).strip() == c.name
        if round % 2:
            assert c.exec("echo", "in").stdout == "in\\n"
        assert any(other.id == c.id for other in Container.list(engine=engine))
        if round % 3:
            c.stop(timeout=0)
            assert c.exit_code == 137, c.exit_code
            c.start() if round % 4 == 0 else None
        done.append(c.id)
        if round % 5:
            c.remove(force=True)
            gone.append(c.id)
        else:
            kept.append(c.id)
done, gone, kept, errors = [], [], [], []
def guarded(number):
    try:
        work(number)
    except BaseException as error:
        import traceback
        errors.append(traceback.format_exc())
threads = [threading.Thread(target=guarded, args=(n,)) for n in range({threads})]
[t.start() for t in threads]
[t.join() for t in threads]
for error in errors:
    print(error, file=sys.stderr)
assert not errors
say("done", len(done))
say(*gone)
say(*kept)
"""


@pytest.mark.timeout(3600 if SOAK else 300)
def test_storm(store: Store) -> None:
    """Eight threads and four processes start, look at and remove containers of one store: none lost, none left, no error."""
    threads, processes = 8, 4
    each = -(-STORM // (threads * processes))
    began = time.monotonic()
    workers = [store.python(WORKER.format(each=each, threads=threads, process=f"p{number}")) for number in range(processes)]
    done, kept, gone = 0, set[str](), set[str]()
    for worker in workers:
        first, removed, there = finish(worker, 280).splitlines()
        done += int(first.split()[1])
        gone |= set(removed.split())
        kept |= set(there.split())
    print(f"{done} containers in {time.monotonic() - began:.1f} s")
    assert done == each * threads * processes
    assert len(gone | kept) == done
    assert {c.id for c in Container.list(all=True, engine=store.engine)} == kept
    for container in Container.list(all=True, engine=store.engine):
        container.remove(force=True)
    store.check_clean()


@pytest.mark.timeout(3600 if SOAK else 300)
def test_no_byte_is_lost(store: Store) -> None:
    """Many runs at once that write 1 MB each, in two streams and odd pieces: every byte comes back."""
    box = store.box
    script = ("i=0; while [ $i -lt 20 ]; do dd if=/data bs=30011 count=1 skip=$i 2>/dev/null; i=$((i+1)); done; "
              f"dd if=/data bs=1 skip=600220 count=7 2>/dev/null; head -c {MEGABYTE - 600227} /data >&2")
    data = bytes(range(256)) * (MEGABYTE // 256 + 1)
    made = box("sleep", "600", lifetime="detached")
    made.start()
    source = store.root.parent / "data"
    source.write_bytes(data[:MEGABYTE])
    expected_out, expected_err = data[:600227], data[:MEGABYTE - 600227]
    left = iter(range(OUTPUTS))
    lock = threading.Lock()
    counts: list[int] = []

    def work(_: int) -> None:
        while True:
            with lock:
                if next(left, None) is None:
                    return
            result = box.run("sh", "-c", script, volumes={str(source): "/data"}, text=False)
            assert len(result.stdout) + len(result.stderr) == MEGABYTE
            assert result.stdout == expected_out
            assert result.stderr == expected_err
            counts.append(len(result.stdout) + len(result.stderr))

    began = time.monotonic()
    in_threads(8, work)
    print(f"{len(counts)} runs, {sum(counts)} bytes in {time.monotonic() - began:.1f} s")
    assert sum(counts) == OUTPUTS * MEGABYTE
    made.remove(force=True)
    store.check_clean()


# -- leaks -------------------------------------------------------------------------------------------------------------


def descriptors(pid: int) -> int:
    """Return how many descriptors a process has."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def memory(pid: int) -> int:
    """Return a process's own memory (private pages) in KiB."""
    total = 0
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith(("Private_Clean:", "Private_Dirty:")):
            total += int(line.split()[1])
    return total


def zombies(parent: int) -> list[str]:
    """Return a process's children that it has not reaped."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            name, _, rest = (folder / "stat").read_text().rpartition(")")
            fields = rest.split()
            if fields[0] == "Z" and int(fields[1]) == parent:
                found.append(name)
    return found


@pytest.mark.timeout(3600 if SOAK else 300)
def test_nothing_grows(store: Store) -> None:
    """Hundreds of run, exec, start, stop, attach and logs: descriptors and memory of all involved stay as they were."""
    box = store.box
    long = box("sleep", "600")
    long.__enter__()

    def round_(count: int) -> None:
        for _ in range(count):
            assert box.run("echo", "x").stdout == "x\n"
            assert long.exec("echo", "y").stdout == "y\n"
            with long.popen("cat", stdin=-1, stdout=-1) as process:
                assert process.communicate("z")[0] == "z"
            with box("sh", "-c", "echo a; exec sleep 600") as short:
                assert next(iter(short.logs(follow=True))) == "a\n"
                short.pause()
                short.unpause()
                short.restart(timeout=0)
                with short.attach() as attached:
                    assert not attached.tty
            with suppress(ValueError):
                box("true", cpus=-1.0)
        wait_until(lambda: sum("launcher" not in title for title in store.processes().values()) == 1)

    round_(10)
    launcher = store.launchers()[0]
    supervisor = store.supervisor(long.id)
    everyone = {"caller": os.getpid(), "launcher": launcher, "supervisor": supervisor}
    before = {name: (descriptors(pid), memory(pid)) for name, pid in everyone.items()}
    round_(ROUNDS)
    assert store.launchers() == [launcher]
    after = {name: (descriptors(pid), memory(pid)) for name, pid in everyone.items()}
    print(f"descriptors and KiB before {before}, after {ROUNDS} rounds {after}")

    for name in everyone:
        assert after[name][0] <= before[name][0], (name, before, after)
    assert after["launcher"][1] <= before["launcher"][1] + 16
    assert after["supervisor"][1] <= before["supervisor"][1] + 16
    assert after["caller"][1] <= before["caller"][1] + 4096
    assert not any(zombies(pid) for pid in everyone.values())
    long.__exit__(None, None, None)
    store.check_clean()


def test_orphans_inside_are_reaped(store: Store) -> None:
    """Processes that a container's commands leave behind do not stay as zombies of ours."""
    with store.box("sleep", "600", init=True) as container:
        supervisor = store.supervisor(container.id)
        for _ in range(20):
            container.exec("sh", "-c", "sleep 0.01 & setsid sleep 0.01 & true")
        wait_until(lambda: len(container.top()) <= 2)
        assert not zombies(supervisor)
    store.check_clean()


def test_idle_launcher_goes(store: Store) -> None:
    """close() lets the launcher go, with what it made of cgroups if nobody else needs them."""
    store.box.run("true")
    assert store.launchers()
    store.engine.close()
    wait_until(lambda: not store.launchers(), 5)
    assert store.box.run("echo", "again").stdout == "again\n"
