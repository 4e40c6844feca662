"""How long containers live: as long as told, and never longer, whoever dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from lifekit import Store
from lifekit import die
from lifekit import finish
from lifekit import heard
from lifekit import own_store
from lifekit import payloads
from lifekit import require_native
from lifekit import wait_until

from pycontainers import Container
from pycontainers import Image
from pycontainers import NotFound

require_native()

#: A container that dies with its process is gone within this many seconds.
WITHIN = 1.0


@pytest.fixture(scope="module")
def shared_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A store for all tests of this module."""
    with own_store(tmp_path_factory.mktemp("lifetime")) as made:
        yield made


@pytest.fixture
def store(shared_store: Store) -> Iterator[Store]:
    """The store, and an end to every process that a test started on it."""
    yield shared_store
    shared_store.end_others()


def marked(store: Store, more: str = "") -> dict[str, str]:
    """Return the environment by which a container's processes are found, wherever they went."""
    return {"STORE": f"{store.root}{more}"}


def env(store: Store) -> str:
    """Return the same as source code."""
    return f"environment={marked(store)!r}"


def gone(store: Store, id: str) -> bool:
    """Tell whether a container, its processes, its supervisor and its cgroups are no more; without a use of the store."""
    return (not payloads(str(store.root)) and not store.supervisor(id) and not store.cgroups()
            and not (store.root / "containers" / id[:2] / id).exists())


# -- detached ----------------------------------------------------------------------------------------------------------


def test_detached_outlives_its_process(store: Store) -> None:
    """It is found, used and stopped from another process than the one that started it."""
    starter = store.python(f"""
c = Box("sh", "-c", "while read line; do echo got $line; done; echo over", name="survivor", stdin_open=True, {env(store)})
c.start()
say(c.id)
hear()
""")
    id = heard(starter)
    die(starter)

    found = Container.get("survivor", engine=store.engine)
    assert found.id == id
    assert found.status == "running"
    assert found.exec("echo", "inside").stdout == "inside\n"
    with found.attach() as attached:
        attached.write("hello\n")
        assert next(iter(attached)).data == b"got hello\n"

    stopper = store.python("""
c = Container.get("survivor", engine=engine)
c.stop(timeout=0)
say(c.status, c.exit_code)
c.remove()
""")
    assert finish(stopper).split() == ["exited", "137"]
    store.check_clean()


# -- with --------------------------------------------------------------------------------------------------------------


PAYLOADS = {
    "plain": ('"sleep", "600"', ""),
    "paused": ('"sleep", "600"', "c.pause()"),
    "set-user-id": ('"/setuid/sleep", "600"', ""),
    "set-user-id-user": ('"/setuid/sleep", "600"', ""),
    "sessions": (('"sh", "-c", "setsid setsid sleep 600 & setsid sh -c \'trap : TERM INT HUP; sleep 600\' & '
                  'trap : TERM; sleep 600 & wait; wait"'), 'wait_for_three()'),
    "exec": ('"sleep", "600"', 'p = c.popen("setsid", "sleep", "600")'),
    "host-pid": ('"sh", "-c", "setsid sleep 600 & sleep 600"', ""),
    "restarting": ('"sh", "-c", "exit 1"', 'wait_restarts()'),
    "tty": ('"sh"', ""),
    "init": ('"sh", "-c", "setsid sleep 600 & sleep 600"', ""),
}
OPTIONS = {"host-pid": ", pid='host'", "restarting": ", restart='always'", "set-user-id-user": ", user='user'",
           "tty": ", tty=True, stdin_open=True", "init": ", init=True"}


@pytest.mark.parametrize("kind", PAYLOADS)
@pytest.mark.parametrize("how", ["KILL", "SEGV", "exit"])
def test_with_dies_with_its_process(store: Store, kind: str, how: str) -> None:
    """Whatever ends the process, and whatever the container is doing: nothing is left of it within a second."""
    command, then = PAYLOADS[kind]
    owner = store.python(f"""
def wait_for_three():
    while len(c.top()) < 4:
        time.sleep(0.01)
def wait_restarts():
    while c.restart_count < 1 if hasattr(c, "restart_count") else c.inspect()["RestartCount"] < 1:
        time.sleep(0.01)
c = Box({command}, {env(store)}{OPTIONS.get(kind, '')})
c.__enter__()
{then}
say(c.id)
hear()
os._exit(0)
""")
    id = heard(owner)
    assert kind == "restarting" or payloads(str(store.root))
    began = time.monotonic()
    if how == "exit":
        assert owner.stdin is not None
        owner.stdin.close()
    else:
        owner.send_signal(getattr(signal, f"SIG{how}"))
    owner.wait()

    wait_until(lambda: gone(store, id), WITHIN)
    assert time.monotonic() - began < WITHIN
    with pytest.raises(NotFound):
        Container.get(id, engine=store.engine)
    store.check_clean()


@pytest.mark.parametrize("how", ["exec", "popen"])
def test_an_exec_dies_with_its_caller(store: Store, how: str) -> None:
    """A command in someone else's container ends with who asked for it, with all that it started; the container goes on."""
    with store.box("sleep", "600", environment=marked(store)) as container:
        command = f'c.{how}("sh", "-c", "setsid sleep 600 & sleep 600", environment={marked(store, "e")!r})'
        caller = store.python(f"""
c = Container.get({container.id!r}, engine=engine)
kept = []
threading.Thread(target=lambda: kept.append({command}), daemon=True).start()
hear()
""")
        wait_until(lambda: len(payloads(f"{store.root}e")) >= 2)
        die(caller)
        wait_until(lambda: not payloads(f"{store.root}e"), WITHIN)
        assert container.exec("echo", "alive").stdout == "alive\n"
    store.check_clean()


def test_the_thread_that_started_it_may_end(store: Store) -> None:
    """A container is its process's, not its thread's."""
    made = []

    def enter() -> None:
        container = store.box("sleep", "600", environment=marked(store))
        container.__enter__()
        made.append(container)

    import threading
    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert made[0].status == "running"
    assert made[0].exec("true").returncode == 0
    made[0].__exit__(None, None, None)
    store.check_clean()


def test_a_forked_child_is_not_the_owner(store: Store) -> None:
    """The owner's end is the container's, though a child that it forked lives on; and a child's end is not."""
    owner = store.python(f"""
c = Box("sleep", "600", {env(store)})
c.__enter__()
pid = os.fork()
if pid == 0:
    os._exit(0)
os.waitpid(pid, 0)
say(c.id, c.status)
pid = os.fork()
if pid == 0:
    os.close(1)
    while True:
        signal.pause()
say(pid)
hear()
""")
    id, status = heard(owner).split()
    child = int(heard(owner))
    try:
        assert status == "running"
        owner.kill()
        owner.wait()
        wait_until(lambda: gone(store, id), WITHIN)
        os.kill(child, 0)
    finally:
        os.kill(child, signal.SIGKILL)
    store.check_clean()


def test_run_killed_half_way_leaves_nothing(store: Store) -> None:
    """The caller of run() dies: so does the container, with all it wrote."""
    runner = store.python(f"""
threading.Thread(target=lambda: Box.run("sh", "-c", "setsid sleep 600 & sleep 600", {env(store)}), daemon=True).start()
while not Container.list(engine=engine):
    time.sleep(0.005)
say(Container.list(engine=engine)[0].id)
hear()
""")
    id = heard(runner)
    die(runner)
    wait_until(lambda: gone(store, id), WITHIN)
    store.check_clean()


def test_never_started_is_swept(store: Store) -> None:
    """One created for a `with` that never came goes with the next use after its creator's end; a detached one stays."""
    creator = store.python("""
say(Box("true").id)
say(Box("true", lifetime="detached").id)
hear()
""")
    orphan, kept = heard(creator), heard(creator)
    assert {orphan, kept} <= {c.id for c in Container.list(all=True, engine=store.engine)}
    die(creator)

    user = store.python('say(*(c.id for c in Container.list(all=True, engine=engine)))')
    assert finish(user).split() == [kept]
    Container.get(kept, engine=store.engine).remove()
    store.check_clean()


# -- callers in different places ---------------------------------------------------------------------------------------

SHOW_NETWORK = """
say(os.readlink("/proc/self/ns/net"))
say(Box.run("readlink", "/proc/self/ns/net", network="host").stdout.strip())
"""


def test_host_network_is_each_callers_own(store: Store) -> None:
    """Two callers in two network namespaces share a store, and `host` means each one's own."""
    told = [finish(store.python(SHOW_NETWORK, *wrapper)).split() for wrapper in ((), ("unshare", "--net"))]
    (here, inside_here), (there, inside_there) = told
    assert here == inside_here
    assert there == inside_there
    assert here != there
    store.check_clean()


def in_cgroups(name: str) -> list[str]:
    """Make a cgroup in every hierarchy, and return a command that joins them all before it runs its arguments."""
    script = []
    for top in ("/sys/fs/cgroup", *map(str, Path("/sys/fs/cgroup").glob("*"))):
        if os.path.exists(f"{top}/cgroup.procs") and "cpuset" not in top:
            os.makedirs(f"{top}/{name}", exist_ok=True)
            script.append(f"echo $$ > {top}/{name}/cgroup.procs || exit 9")
    return ["sh", "-c", "\n".join(script) + '\nexec "$@"', "sh"]


def members(name: str) -> set[int]:
    """Return the processes in those cgroups."""
    found = set()
    for path in (*Path("/sys/fs/cgroup").glob(f"*/{name}/cgroup.procs"), *Path("/sys/fs/cgroup").glob(f"{name}/cgroup.procs")):
        found |= {int(pid) for pid in path.read_text().split()}
    return found


def test_a_callers_cgroup_is_not_its_containers(store: Store) -> None:
    """Killing everything in one caller's cgroup, launcher-starter or not, harms no detached container and no launcher."""
    store.engine.close()
    wait_until(lambda: not store.launchers())
    name = f"lifetime-{os.getpid()}"
    caller = store.python(f"""
c = Box("sleep", "600", {env(store)})
c.start()
say(c.id)
hear()
""", *in_cgroups(name))
    try:
        id = heard(caller)
        launchers = store.launchers()
        assert launchers
        other = store.box("sleep", "600", environment=marked(store))
        other.start()
        inside = members(name)
        assert caller.pid in inside
        for pid in inside:
            os.kill(pid, signal.SIGKILL)
        die(caller)

        assert store.launchers() == launchers
        for container in (Container.get(id, engine=store.engine), other):
            assert container.exec("echo", "alive").stdout == "alive\n"
            container.stop(timeout=0)
            container.remove()
    finally:
        wait_until(lambda: not members(name))
        for path in (*Path("/sys/fs/cgroup").glob(f"*/{name}"), *Path("/sys/fs/cgroup").glob(name)):
            path.rmdir()
    store.check_clean()


def test_a_callers_terminal_is_not_its_containers(store: Store) -> None:
    """The end of a session, and its hang-up, reach no detached container."""
    caller = subprocess.run(
        ["setsid", "--wait", sys.executable, "-c", f"""
import os, signal
from pycontainers import Engine, Image
engine = Engine("native", root={str(store.root)!r})
c = Image.get("box", engine=engine)("sleep", "600", environment={marked(store)!r})
c.start()
print(c.id, flush=True)
os.killpg(0, signal.SIGKILL)
"""], capture_output=True, text=True, check=False, cwd="/")
    container = Container.get(caller.stdout.strip(), engine=store.engine)
    assert container.exec("true").returncode == 0
    container.remove(force=True)
    store.check_clean()


# -- the death of one of ours ------------------------------------------------------------------------------------------


def test_launcher_killed(store: Store) -> None:
    """kill -9 of the launcher harms no container; the next start finds another."""
    container = store.box("sleep", "600", environment=marked(store))
    container.start()
    for pid in store.launchers():
        os.kill(pid, signal.SIGKILL)
    assert container.exec("echo", "alive").stdout == "alive\n"
    assert store.box.run("echo", "next").stdout == "next\n"
    container.stop(timeout=0)
    assert container.exit_code == 137
    container.remove()
    store.check_clean()


@pytest.mark.parametrize("state", ["running", "paused", "host-pid", "exec"])
def test_supervisor_killed(store: Store, state: str) -> None:
    """kill -9 of one supervisor ends that container alone, and its state says why."""
    options = {"pid": "host"} if state == "host-pid" else {}
    other = store.box("sleep", "600", environment=marked(store))
    other.start()
    container = store.box("sh", "-c", "setsid sleep 600 & sleep 600", environment=marked(store, "x"), **options)
    container.start()
    if state == "paused":
        container.pause()
    if state == "exec":
        running = container.popen("sleep", "600")
    os.kill(store.supervisor(container.id), signal.SIGKILL)

    if state == "exec":
        assert running.wait(PATIENT) == 137
        running.close() if hasattr(running, "close") else None
    assert container.wait(timeout=PATIENT) == 137
    assert container.status == "exited"
    assert container.exit_code == 137
    assert container.inspect()["State"]["Error"] or container._now().state.reason == "supervisor"
    wait_until(lambda: not payloads(f"{store.root}x"), 2)
    wait_until(lambda: not [path for path in store.cgroups() if container.id in path], 2)
    assert other.exec("echo", "alive").stdout == "alive\n"

    container.start()
    assert container.status == "running"
    container.remove(force=True)
    other.remove(force=True)
    store.check_clean()


PATIENT = 10.0


def test_init_killed(store: Store) -> None:
    """kill -9 of a container's first process ends it with 137."""
    container = store.box("sh", "-c", "setsid sleep 600 & sleep 600", environment=marked(store))
    container.start()
    os.kill(container.pid, signal.SIGKILL)
    assert container.wait(timeout=PATIENT) == 137
    assert not payloads(str(store.root))
    container.remove()
    store.check_clean()


def test_everything_of_ours_killed(store: Store) -> None:
    """kill -9 of every process of ours at once: the next use tells the truth, and starts again."""
    containers = [store.box("sleep", "600", environment=marked(store)) for _ in range(3)]
    for container in containers:
        container.start()
    containers[0].pause()
    for pid in store.processes():
        os.kill(pid, signal.SIGKILL)

    told = finish(store.python(
        'say(*sorted(f"{c.id}:{c.status}:{c.exit_code}" for c in Container.list(all=True, engine=engine)))'
    ))
    assert told.split() == sorted(f"{c.id}:exited:137" for c in containers)
    wait_until(lambda: not payloads(str(store.root)), 2)
    assert not store.cgroups()
    for container in containers:
        container.start()
        container.remove(force=True)
    store.check_clean()


def test_owner_dies_before_and_after_everything_else(store: Store) -> None:
    """Owner and supervisor die together: nobody is left to tidy, and the next use does."""
    owner = store.python(f"""
c = Box("sleep", "600", {env(store)})
c.__enter__()
say(c.id)
hear()
""")
    id = heard(owner)
    os.kill(store.supervisor(id), signal.SIGKILL)
    die(owner)
    assert id not in finish(store.python('say(*(c.id for c in Container.list(all=True, engine=engine)))'))
    store.check_clean()
    assert Image.list(engine=store.engine)


def test_stores_come_and_go_at_once(store: Store, tmp_path: Path) -> None:
    """The last launcher of one store removes the cgroups that all share, while another store's begins: both work."""
    code = """
import shutil
for number in range(15):
    other = Engine("native", root=f"{sys.argv[1]}-{os.getpid()}")
    if number == 0:
        Image.import_rootfs(os.path.join(os.path.dirname(sys.argv[1]), "rootfs"), "box", engine=other)
    script = "grep -c /pycontainers/ /proc/self/cgroup; echo x"
    assert Image.get("box", engine=other).run("sh", "-c", script, memory="64m").stdout.endswith("x\\n")
    other.close()
shutil.rmtree(other.backend._store.root)
say("done")
"""
    workers = [store.python(code) for _ in range(4)]
    assert [finish(worker) for worker in workers] == ["done\n"] * 4
