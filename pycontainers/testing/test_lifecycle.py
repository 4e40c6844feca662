"""Containers: from creation to removal."""

from __future__ import annotations

import re
import threading
import time

import pytest

from pycontainers import Container
from pycontainers import Engine
from pycontainers import Image
from pycontainers import run
from pycontainers.backend import Capability
from pycontainers.errors import AmbiguousName
from pycontainers.errors import CommandNotExecutable
from pycontainers.errors import CommandNotFound
from pycontainers.errors import ContainerNotFound
from pycontainers.errors import ImageNotFound
from pycontainers.errors import InUse
from pycontainers.errors import InvalidSpec
from pycontainers.errors import InvalidState
from pycontainers.errors import InvalidType
from pycontainers.errors import NameInUse
from pycontainers.errors import ProcessFailed
from pycontainers.errors import TimedOut
from pycontainers.errors import Unsupported

TRAP = "trap 'echo bye; exit 7' TERM; echo ready; while true; do sleep 0.05; done"


# -- run -----------------------------------------------------------------------------------------------------------------


def test_run_answers_as_subprocess(box: type[Container]) -> None:
    """`run` gives exit code and both outputs apart, and leaves no container."""
    done = box.run("sh", "-c", "echo out; echo err >&2; exit 3")

    assert (done.returncode, done.stdout, done.stderr) == (3, "out\n", "err\n")
    assert Container.list(all=True) == []
    with pytest.raises(ProcessFailed) as caught:
        done.check_returncode()
    assert caught.value.returncode == 3
    assert "err" in str(caught.value)


def test_run_by_reference(box: type[Container]) -> None:
    """The module's `run` takes a reference or a class."""
    assert run("kit/busybox:1", "echo", "Salut").stdout == "Salut\n"
    assert run(box, "echo", "Salut", text=False).stdout == b"Salut\n"


def test_run_checks(box: type[Container]) -> None:
    """With `check`, an exit code other than 0 raises, and holds the outputs."""
    with pytest.raises(ProcessFailed) as caught:
        box.run("sh", "-c", "echo no >&2; exit 4", check=True)

    assert (caught.value.returncode, caught.value.stderr) == (4, "no\n")


@pytest.mark.parametrize("size", [0, 5, 300_000])
def test_run_feeds_input(box: type[Container], size: int) -> None:
    """`input` is the command's whole stdin, however long."""
    data = bytes(range(256)) * (size // 256 + 1)

    done = box.run("cat", input=data[:size], text=False)

    assert done.stdout == data[:size]


def test_run_without_input_reads_nothing(box: type[Container]) -> None:
    """Without `input`, stdin is at its end."""
    assert box.run("cat", timeout=10).stdout == ""


def test_run_loses_no_byte(box: type[Container]) -> None:
    """Output of a megabyte comes back whole."""
    done = box.run("sh", "-c", "seq 1 200000; echo end >&2", timeout=60)

    assert done.stdout == "".join(f"{n}\n" for n in range(1, 200001))
    assert done.stderr == "end\n"


def test_run_times_out(box: type[Container]) -> None:
    """After `timeout` the container is killed and gone, and the output so far isn't lost."""
    began = time.monotonic()

    with pytest.raises(TimedOut) as caught:
        box.run("sh", "-c", "echo so far; sleep 60", timeout=0.7)

    assert time.monotonic() - began < 10
    assert caught.value.stdout == "so far\n"
    assert Container.list(all=True) == []


@pytest.mark.parametrize("number", [9, 15, 1])
def test_run_tells_the_signal(box: type[Container], number: int) -> None:
    """A command that a signal ends has exit code 128+n."""
    assert box.run("sh", "-c", f"kill -{number} $$; sleep 5", init=True).returncode == 128 + number


def test_missing_command(box: type[Container]) -> None:
    """A command that isn't there: `CommandNotFound`, a FileNotFoundError, exit code 127; and nothing stays."""
    for command in ("no-such-program", "/no/such/program"):
        with pytest.raises(CommandNotFound, match=r"no.such.program") as caught:
            box.run(command)
        assert caught.value.exit_code == 127
        assert isinstance(caught.value, FileNotFoundError)
    assert Container.list(all=True) == []


def test_command_that_is_no_program(box: type[Container]) -> None:
    """A command that can't be executed: `CommandNotExecutable`, a PermissionError, exit code 126."""
    for command in ("/srv/not-a-program", "/srv"):
        with pytest.raises(CommandNotExecutable) as caught:
            box.run(command)
        assert caught.value.exit_code == 126
        assert isinstance(caught.value, PermissionError)


def test_script_is_a_command(box: type[Container]) -> None:
    """A script runs by its interpreter line."""
    assert box.run("/srv/script", "one").stdout == "script one\n"


def test_no_command(box: type[Container]) -> None:
    """An image without a command needs one."""
    with pytest.raises((InvalidSpec, CommandNotFound)):
        box.run()


# -- create, start, wait -------------------------------------------------------------------------------------------------


def test_states(box: type[Container]) -> None:
    """A container is created, running, exited; its attributes are never stale."""
    container = box("sh", "-c", TRAP)
    assert (container.status, container.exit_code, container.pid) == ("created", None, 0)

    container.start()
    assert (container.status, container.exit_code) == ("running", None)
    assert container.pid > 0
    assert container.state.started_at > 0

    container.wait_for(lambda c: "ready" in c.logs(), 10)
    container.stop()
    assert (container.status, container.exit_code, container.pid) == ("exited", 7, 0)
    assert container.state.finished_at >= container.state.started_at
    assert container.logs() == "ready\nbye\n"


def test_identity(box: type[Container]) -> None:
    """Ids have 64 hexadecimal digits; a random name is an adjective and a surname; the class is the image."""
    container = box("true")

    assert re.fullmatch("[0-9a-f]{64}", container.id)
    assert container.short_id == container.id[:12]
    assert re.fullmatch(r"[a-z]+_[a-z]+\d*", container.name)
    assert isinstance(container, box)
    assert container.image is box
    assert abs(container.created.timestamp() - time.time()) < 60


def test_get_by_name_id_and_prefix(box: type[Container]) -> None:
    """A container is found by name, id and unambiguous prefix, with the class of its image."""
    container = box("true", name="findable")

    for ref in ("findable", container.id, container.short_id):
        found = Container.get(ref)
        assert found == container
        assert type(found) is box
    assert box.get("findable") == container
    with pytest.raises(ContainerNotFound, match="nobody"):
        Container.get("nobody")


def test_ambiguous_prefix(box: type[Container]) -> None:
    """A prefix that fits two containers raises `AmbiguousName`, a LookupError."""
    seen: dict[str, int] = {}
    for _ in range(17):  # Seventeen ids have sixteen first digits between them.
        first = box("true").id[0]
        seen[first] = seen.get(first, 0) + 1
    digit = next(digit for digit, count in seen.items() if count > 1)

    with pytest.raises(AmbiguousName):
        Container.get(digit)


def test_names_are_unique(box: type[Container]) -> None:
    """A name that is taken can't be given twice, at creation or by renaming, and the loser leaves nothing."""
    box("true", name="taken")
    other = box("true", name="other")

    with pytest.raises(NameInUse, match="taken"):
        box("true", name="taken")
    with pytest.raises(NameInUse, match="taken"):
        other.rename("taken")

    other.rename("renamed")
    assert other.name == "renamed"
    assert len(Container.list(all=True)) == 2


def test_bad_options(box: type[Container]) -> None:
    """What makes no sense is refused before anything is made, naming the option."""
    with pytest.raises(InvalidSpec, match="Invalid container name"):
        box("true", name="a b")
    with pytest.raises(InvalidType, match=r"memroy.*memory"):
        box("true", memroy="1g")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="tty"):
        box("true", tty="yes")  # type: ignore[arg-type]
    with pytest.raises(InvalidSpec, match=r"workdir|working directory"):
        box("true", workdir="not/absolute")
    with pytest.raises(ImageNotFound):
        Missing("true")
    assert Container.list(all=True) == []


class Missing(Container, image="no-such-image:1"):
    """A class whose image isn't there."""


def test_start_twice(running: Container) -> None:
    """Starting a running container does nothing."""
    pid = running.pid

    running.start()

    assert running.pid == pid


def test_start_again(box: type[Container]) -> None:
    """An ended container can be started again; its files and its log stay."""
    container = box("sh", "-c", "echo run >> /tmp/runs; cat /tmp/runs")
    container.start()
    container.wait(20)
    container.start()
    assert container.wait(20) == 0

    assert container.logs() == "run\nrun\nrun\n"


def test_start_of_a_missing_command(box: type[Container]) -> None:
    """A container whose command isn't there can be created, but not started; its exit code tells."""
    container = box("no-such-program")

    with pytest.raises(CommandNotFound):
        container.start()

    assert container.status in ("created", "exited")
    assert container.state.exit_code == 127
    container.remove()


def test_wait(box: type[Container]) -> None:
    """`wait` returns the exit code, again and again; a deadline raises `TimedOut`, a TimeoutError."""
    container = box("sh", "-c", "sleep 0.5; exit 5")
    container.start()

    with pytest.raises(TimeoutError):
        container.wait(0.01)
    assert container.wait(20) == 5
    assert container.wait() == 5


def test_wait_for_removal(box: type[Container]) -> None:
    """Waiting for `removed` returns when the container is gone."""
    container = box("sh", "-c", "sleep 0.3; exit 6", auto_remove=True)
    container.start()

    assert container.wait(20, "removed") == 6
    with pytest.raises(ContainerNotFound):
        Container.get(container.id)


def test_waiters_are_many(running: Container) -> None:
    """Any number of threads can wait for the same end."""
    codes: list[int] = []
    threads = [threading.Thread(target=lambda: codes.append(running.wait(20))) for _ in range(5)]
    for thread in threads:
        thread.start()

    running.kill()
    for thread in threads:
        thread.join(20)

    assert codes == [137] * 5


# -- stop, kill, restart, pause ------------------------------------------------------------------------------------------


def test_stop_is_gentle(box: type[Container]) -> None:
    """`stop` sends the stop signal and lets the command end by itself."""
    container = box("sh", "-c", TRAP.replace("TERM", "USR1"), stop_signal="USR1")
    container.start()
    container.wait_for(lambda c: "ready" in c.logs(), 10)

    container.stop()

    assert container.exit_code == 7


def test_stop_kills_in_the_end(box: type[Container]) -> None:
    """A command that takes no notice is killed after the timeout: 137."""
    container = box("sh", "-c", "trap '' TERM; while true; do sleep 0.05; done")
    container.start()
    began = time.monotonic()

    container.stop(timeout=0.5)

    assert 0.4 < time.monotonic() - began < 5
    assert container.exit_code == 137


def test_stop_is_idempotent(running: Container) -> None:
    """Stopping an ended container does nothing."""
    running.stop()
    running.stop()

    assert running.status == "exited"


def test_stop_with_init(running: Container) -> None:
    """With `init`, a command that doesn't expect to be process 1 ends at the first signal: 143."""
    began = time.monotonic()

    running.stop()

    assert time.monotonic() - began < 4
    assert running.exit_code == 143


def test_kill_by_name_and_number(box: type[Container]) -> None:
    """`kill` sends any signal, by name or number."""
    container = box("sh", "-c", "trap 'echo one' USR1; trap 'exit 9' HUP; echo ready; while true; do sleep 0.05; done")
    container.start()
    container.wait_for(lambda c: "ready" in c.logs(), 10)

    container.kill("USR1")
    container.wait_for(lambda c: "one" in c.logs(), 10)
    assert container.status == "running"
    container.kill(1)

    assert container.wait(20) == 9
    with pytest.raises(InvalidState):
        container.kill()
    with pytest.raises(InvalidSpec, match="NONSENSE"):
        container.kill("NONSENSE")


def test_restart(running: Container) -> None:
    """`restart` ends the command and starts it anew."""
    pid = running.pid

    running.restart(timeout=1)

    assert running.status == "running"
    assert running.pid != pid


@pytest.mark.needs(Capability.PAUSE)
def test_pause(box: type[Container]) -> None:
    """A paused container does nothing until it is unpaused; it can be killed."""
    container = box("sh", "-c", "while true; do echo tick; sleep 0.02; done", init=True)
    container.start()
    container.wait_for(lambda c: "tick" in c.logs(), 10)

    container.pause()
    assert container.status == "paused"
    time.sleep(0.1)
    before = len(container.logs())
    time.sleep(0.3)
    assert len(container.logs()) == before
    with pytest.raises(InvalidState):
        container.pause()
    with pytest.raises(InvalidState):
        container.exec("true")

    container.unpause()
    container.wait_for(lambda c: len(c.logs()) > before, 10)
    with pytest.raises(InvalidState):
        container.unpause()
    container.pause()
    container.kill()
    assert container.wait(20) == 137


@pytest.mark.needs(Capability.PAUSE)
def test_stop_of_a_paused_one(running: Container) -> None:
    """A paused container can be stopped."""
    running.pause()

    running.stop(timeout=2)

    assert running.status == "exited"


# -- remove, list, prune -------------------------------------------------------------------------------------------------


def test_remove(running: Container) -> None:
    """A running container isn't removed unless by force; then it is gone for everyone."""
    with pytest.raises(InUse):
        running.remove()
    running.remove(force=True)

    with pytest.raises(ContainerNotFound):
        running.remove()
    with pytest.raises(ContainerNotFound):
        _ = running.status
    assert running not in Container.list(all=True)


def test_list_and_its_filters(box: type[Container]) -> None:
    """`list` gives what runs, newest first, or all; Docker's filters narrow it."""
    first = box("true", name="first-one", labels={"tier": "web", "n": "1"})
    second = box("sleep", "300", name="second-one", labels={"tier": "db"}, init=True)
    third = box("sh", "-c", "exit 3", name="third-one")
    second.start()
    third.start()
    third.wait(20)

    assert Container.list() == [second]
    assert Container.list(all=True) == [third, second, first]
    cases: list[tuple[dict[str, object], list[Container]]] = [
        ({"name": "second"}, [second]),
        ({"name": "^first-one$"}, [first]),
        ({"id": third.short_id}, [third]),
        ({"label": "tier"}, [second, first]),
        ({"label": ["tier=web", "n"]}, [first]),
        ({"status": "created"}, [first]),
        ({"status": ["exited", "running"]}, [third, second]),
        ({"exited": 3}, [third]),
        ({"exited": 0}, []),
        ({"before": "second-one"}, [first]),
        ({"since": "second-one"}, [third]),
        ({"ancestor": "kit/busybox:1"}, [third, second, first]),
        ({"ancestor": box.short_id, "label": "tier=db"}, [second]),
        ({"ancestor": "nothing"}, []),
        ({"health": "none"}, [third, second, first]),
        ({"network": "none"}, [third, second, first]),
    ]
    for filters, expected in cases:
        assert Container.list(all=True, filters=filters) == expected, filters
    assert Container.list(filters={"status": "exited"}) == [third]
    with pytest.raises(InvalidSpec, match="colour"):
        Container.list(filters={"colour": "red"})
    with pytest.raises(InvalidSpec, match="asleep"):
        Container.list(filters={"status": "asleep"})


def test_prune(box: type[Container], running: Container) -> None:
    """`prune` removes what doesn't run, and tells what."""
    ended = box("true")
    ended.start()
    ended.wait(20)
    created = box("true", labels={"keep": "yes"})

    assert set(Container.prune(filters={"label!": "keep"}).deleted) == {ended.id}
    assert set(Container.prune().deleted) == {created.id}
    assert Container.list(all=True) == [running]


def test_list_never_raises_under_churn(box: type[Container]) -> None:
    """`list` gives containers while others come and go, and never raises because one went."""
    stop = threading.Event()
    failures: list[BaseException] = []

    def churn() -> None:
        try:
            while not stop.is_set():
                box("true", engine=engine).remove()
        except BaseException as error:
            failures.append(error)

    engine = box("true").engine
    threads = [threading.Thread(target=churn) for _ in range(2)]
    for thread in threads:
        thread.start()
    end = time.monotonic() + 1.0
    while time.monotonic() < end:
        Container.list(all=True, filters={"label": "none"})
    stop.set()
    for thread in threads:
        thread.join()

    assert failures == []


# -- by itself -----------------------------------------------------------------------------------------------------------


def test_with_block(box: type[Container]) -> None:
    """In a `with` block a container runs; at its end it is stopped and gone."""
    with box("sleep", "300", init=True) as container:
        assert container.status == "running"
        assert container.exec("echo", "inside").stdout == "inside\n"

    with pytest.raises(ContainerNotFound):
        Container.get(container.id)


def test_with_block_and_an_error(box: type[Container]) -> None:
    """An error in the block, or at its start, leaves no container."""
    with pytest.raises(ZeroDivisionError), box("sleep", "300", init=True):
        1 / 0  # noqa: B018
    with pytest.raises(CommandNotFound), box("no-such-program"):
        pass

    assert Container.list(all=True) == []


def test_auto_remove(box: type[Container]) -> None:
    """An auto-removed container goes by itself, and the object that started it still knows its log and exit code."""
    container = box("sh", "-c", "echo last words; exit 4", auto_remove=True)
    container.start()

    assert container.wait(20) == 4
    deadline = time.monotonic() + 20
    while Container.list(all=True) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert Container.list(all=True) == []
    assert container.logs() == "last words\n"
    assert container.exit_code == 4
    assert list(container.logs(follow=True)) == ["last words\n"]


@pytest.mark.needs(Capability.RESTART)
def test_restart_policy(box: type[Container]) -> None:
    """`on-failure:2` starts a failing command again twice, and then no more."""
    container = box("sh", "-c", "echo run; exit 1", restart="on-failure:2")
    container.start()

    container.wait_for(lambda c: c.status == "exited", 20)

    assert container.logs() == "run\n" * 3
    assert container.state.restart_count == 2
    assert container.exit_code == 1


@pytest.mark.needs(Capability.RESTART)
def test_restart_policy_of_success(box: type[Container]) -> None:
    """`on-failure` takes an exit code of 0 for what it is."""
    container = box("true", restart="on-failure")
    container.start()

    assert container.wait(20) == 0
    assert container.state.restart_count == 0


@pytest.mark.needs(Capability.RESTART)
def test_restart_policy_ends_with_stop(box: type[Container]) -> None:
    """`always` goes on until the container is stopped; the policy can be changed while it runs."""
    container = box("sh", "-c", "echo run; sleep 0.05", restart="always")
    container.start()
    container.wait_for(lambda c: c.logs().count("run") >= 2, 20)

    container.stop(timeout=0)
    count = container.logs().count("run")
    time.sleep(0.5)
    assert (container.status, container.logs().count("run")) == ("exited", count)

    container.update(restart="no")
    container.start()
    container.wait(20)
    assert container.config.restart.name == "no"


# -- what a container is made with ---------------------------------------------------------------------------------------


@pytest.mark.needs(Capability.USERS)
def test_environment_and_user(box: type[Container]) -> None:
    """Variables, user, group, working directory and host name are what was asked for."""
    script = "echo $COLOUR; id -u; id -g; pwd; hostname"
    done = box.run("sh", "-c", script, environment={"COLOUR": "red"}, user="alice:staff", workdir="/srv/data", hostname="hal")

    assert done.stdout == "red\n1000\n50\n/srv/data\nhal\n"


def test_defaults(box: type[Container]) -> None:
    """By default a command runs as root, in /, with a PATH, and a host name made of its id."""
    container = box("sh", "-c", "id -u; pwd; echo $HOME; echo $PATH; hostname")
    container.start()
    container.wait(20)

    uid, cwd, home, path, hostname = container.logs().splitlines()
    assert (uid, cwd, home, hostname) == ("0", "/", "/root", container.short_id)
    assert "/bin" in path


@pytest.mark.needs(Capability.USERS)
def test_unknown_user(box: type[Container]) -> None:
    """A user that the image doesn't know is refused, by name; a number needs no entry."""
    with pytest.raises(Exception, match="ghost"):
        box.run("true", user="ghost")
    assert box.run("id", "-u", user="4242").stdout == "4242\n"


def test_missing_workdir_is_made(box: type[Container]) -> None:
    """A working directory that isn't there is made, as Docker does."""
    assert box.run("pwd", workdir="/brand/new").stdout == "/brand/new\n"


def test_labels_and_config(box: type[Container]) -> None:
    """Labels and the whole spec can be read back."""
    container = box("sleep", "1", labels={"a": "1"}, environment=["B=2"], stop_timeout=3)

    assert container.labels == {"a": "1"}
    assert container.config.command == ("sleep", "1")
    assert dict(container.config.environment) == {"B": "2"}
    assert container.config.stop_timeout == 3


def test_inspect_is_dockers(running: Container) -> None:
    """`inspect` gives Docker's JSON."""
    found = running.inspect()

    assert found["Id"] == running.id
    assert found["Name"] == f"/{running.name}"
    assert found["State"]["Status"] == "running"
    assert found["State"]["Pid"] == running.pid


@pytest.mark.needs(Capability.TOP)
def test_top(running: Container) -> None:
    """`top` shows the processes, and needs a running container."""
    assert any("sleep 300" in process.command for process in running.top())
    running.kill()
    running.wait(20)
    with pytest.raises(InvalidState):
        running.top()


@pytest.mark.needs(Capability.STATS)
def test_stats(running: Container) -> None:
    """`stats` answers at once, and needs a running container."""
    began = time.monotonic()
    found = running.stats()

    assert time.monotonic() - began < 0.5
    assert found.pids >= 1
    assert found.memory > 0
    running.kill()
    running.wait(20)
    with pytest.raises(InvalidState):
        running.stats()


@pytest.mark.needs(Capability.LIMITS)
def test_limits(box: type[Container]) -> None:
    """Limits can be given and changed, and read back."""
    container = box("sleep", "300", memory="64m", pids_limit=20, cpus=0.5, init=True)
    container.start()

    container.update(memory="128m")

    assert container.config.memory == 128 * 1024**2
    assert container.status == "running"


@pytest.mark.needs(Capability.LIMITS)
def test_out_of_memory(box: type[Container]) -> None:
    """A command that takes more memory than it may is killed, and said to have been."""
    container = box("sh", "-c", "x=xxxxxxxxxxxxxxxx; while true; do x=$x$x; done", memory="8m", memory_swap="8m")
    container.start()

    assert container.wait(60) == 137
    assert container.state.oom_killed


@pytest.mark.needs(Capability.LIFETIME)
def test_lifetime_is_kept(box: type[Container]) -> None:
    """A plain start outlives its creator; a `with` block doesn't; an explicit wish is kept."""
    plain = box("true")
    plain.start()
    assert plain.config.lifetime == "detached"
    explicit = box("true", lifetime="process")
    explicit.start()
    assert explicit.config.lifetime == "process"
    with box("sleep", "300", init=True) as container:
        assert container.config.lifetime == "process"


def test_unknown_network(box: type[Container]) -> None:
    """A network that there isn't is refused, never replaced by another."""
    with pytest.raises((Unsupported, LookupError)):
        box("true", network="no-such-network")
    assert Container.list(all=True) == []


def test_many_threads(box: type[Container], engine: Engine) -> None:
    """Containers can be made, run and removed from many threads at once."""
    outputs: list[str] = []
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for turn in range(5):
                outputs.append(box.run("echo", f"{number}.{turn}").stdout)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []
    assert sorted(outputs) == sorted(f"{n}.{t}\n" for n in range(6) for t in range(5))
    assert Container.list(all=True) == []
    assert Image.list() == [box]
