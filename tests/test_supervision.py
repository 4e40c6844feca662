"""What a supervisor owes its clients and the machine: answers, ends, rest, and a quick stop."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from lifekit import Store
from lifekit import own_store
from lifekit import require_native
from lifekit import wait_until

from pycontainers import Container

require_native()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A store for all tests of this module."""
    with own_store(tmp_path_factory.mktemp("supervision")) as made:
        yield made


def supervisor_of(container: Container) -> int:
    """Return the pid of a container's supervisor."""
    begin = f"pycontainers-supervisor {container.id}".encode()
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (process / "cmdline").read_bytes().replace(b"\0", b" ").startswith(begin):
                return int(process.name)
    raise LookupError(begin)


def cpu_ticks(pid: int) -> int:
    """Return the CPU time of a process in ticks."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def test_supervisors_rest_when_their_clients_left(store: Store) -> None:
    """Many starts at once leave no supervisor busy: a connection that was closed is not looked at for ever."""
    started: list[Container] = []

    def start() -> None:
        container = store.box("sleep", "100")
        container.start()
        started.append(container)

    threads = [threading.Thread(target=start) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    pids = [supervisor_of(container) for container in started]
    before = [cpu_ticks(pid) for pid in pids]
    time.sleep(0.5)
    assert [cpu_ticks(pid) - ticks for pid, ticks in zip(pids, before, strict=True)] == [0] * len(pids)
    for pid in pids:
        sockets = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
        # Its listener alone: neither the launcher's nor another client's.
        assert sum(name.startswith("socket:") for name in sockets) == 1
        assert sum(name == "anon_inode:[eventpoll]" for name in sockets) == 1
    for container in started:
        container.remove(force=True)


def test_a_signal_left_at_its_default_stops_at_once(store: Store) -> None:
    """Process 1 that does nothing about SIGTERM would never get it: `stop` doesn't wait out its time."""
    container = store.box("sleep", "100")
    container.start()
    begin = time.monotonic()
    container.stop(timeout=30)
    assert time.monotonic() - begin < 10
    assert container.exit_code == 137


@pytest.mark.parametrize("script", [
    "trap 'exit 5' TERM; echo ready; while :; do sleep 0.01; done",
    "trap '' TERM; echo ready; sleep 0.3; exit 5",
])
def test_who_heeds_the_stop_signal_gets_its_time(store: Store, script: str) -> None:
    """A process that catches the stop signal, or ignores it to finish its work, is let."""
    container = store.box("sh", "-c", script)
    container.start()
    wait_until(lambda: "ready" in container.logs())
    container.stop(timeout=30)
    assert container.exit_code == 5


def test_an_init_that_waits_for_signals_passes_them_on(store: Store) -> None:
    """Init programs wait in sigtimedwait(2), where a signal shows as neither caught nor blocked."""
    container = store.box("sh", "-c", "trap 'exit 6' TERM; echo ready; while :; do sleep 0.01; done", init=True)
    container.start()
    wait_until(lambda: "ready" in container.logs())
    container.stop(timeout=30)
    assert container.exit_code == 6


def test_starting_is_not_disturbed_by_looking(store: Store) -> None:
    """Listing asks who holds a container's lock without taking it: no start fails because somebody looked."""
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            Container.list(all=True, engine=store.engine)

    lookers = [threading.Thread(target=look) for _ in range(3)]
    for looker in lookers:
        looker.start()
    try:
        container = store.box("true")
        for _ in range(20):
            container.start()
            assert container.wait() == 0
    finally:
        stop.set()
        for looker in lookers:
            looker.join()
    container.remove()


@pytest.mark.skipif(os.geteuid() != 0, reason="chroot needs root")
def test_a_caller_in_a_chroot_has_its_containers_confined(store: Store, tmp_path: Path) -> None:
    """The container's root is its mount namespace's, whatever root the caller has: an exec lands in the container."""
    program = textwrap.dedent("""
        import sys
        from pycontainers import Engine, Image
        engine = Engine("native", root=sys.argv[1])
        box = Image.get("box", engine=engine)
        container = box("sleep", "100")
        container.start()
        print(container.exec("ls", "/").stdout.split())
        print(box.run("ls", "/").stdout.split())
        container.remove(force=True)
        engine.close()
    """)
    (tmp_path / "program.py").write_text(program)
    jail = tmp_path / "jail"
    jail.mkdir()
    # A root of its own made of binds, in a mount namespace that ends with the command.
    script = f"""
        set -e
        mount --make-rprivate /
        mount -t tmpfs jail {jail}
        for d in /*; do
            if [ -d "$d" ] && [ ! -L "$d" ]; then mkdir -p {jail}$d; mount --rbind "$d" {jail}$d; fi
            if [ -L "$d" ]; then cp -a "$d" {jail}$d; fi
        done
        exec chroot {jail} {sys.executable} {tmp_path}/program.py {store.root}
    """
    done = subprocess.run(["unshare", "-m", "sh", "-c", script], capture_output=True, text=True, timeout=60, cwd="/",
                          env={**os.environ, "PYTHONPATH": ":".join(p for p in sys.path if p)})
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first == second
    assert "busybox" not in first and "jail" not in first
    assert "'boot'" not in first
