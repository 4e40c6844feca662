"""Commands in a running container."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from pycontainers import DEVNULL
from pycontainers import PIPE
from pycontainers import STDOUT
from pycontainers import Container
from pycontainers import Popen
from pycontainers.backend import Capability
from pycontainers.errors import CommandNotExecutable
from pycontainers.errors import CommandNotFound
from pycontainers.errors import InvalidSpec
from pycontainers.errors import InvalidState
from pycontainers.errors import InvalidType
from pycontainers.errors import ProcessFailed
from pycontainers.errors import TimedOut

pytestmark = pytest.mark.needs(Capability.EXEC)


def processes(container: Container, text: str) -> int:
    """Count the processes whose command line holds a text."""
    return sum(text in process.command for process in container.top())


def both(process: Popen[str]) -> tuple[object, ...]:
    """Return both outputs of a process, None for what isn't a pipe."""
    return process.communicate(timeout=20)


def test_exec_answers_as_subprocess(running: Container) -> None:
    """`exec` gives exit code and both outputs apart."""
    done = running.exec("sh", "-c", "echo out; echo err >&2; exit 3")

    assert (done.args[0], done.returncode, done.stdout, done.stderr) == ("sh", 3, "out\n", "err\n")
    assert running.exec("echo", "bytes", text=False).stdout == b"bytes\n"


def test_exec_checks(running: Container) -> None:
    """With `check`, an exit code other than 0 raises `ProcessFailed`."""
    with pytest.raises(ProcessFailed) as caught:
        running.exec("sh", "-c", "echo no >&2; exit 4", check=True)

    assert (caught.value.returncode, caught.value.stderr) == (4, "no\n")


@pytest.mark.parametrize("size", [0, 5, 1_000_000])
def test_exec_feeds_input(running: Container, size: int) -> None:
    """`input` is the command's whole stdin, and all its output comes back, however long."""
    data = (bytes(range(256)) * (size // 256 + 1))[:size]

    assert running.exec("cat", input=data, text=False, timeout=60).stdout == data


def test_exec_need_not_read_its_input(running: Container) -> None:
    """A command that reads nothing of a long input ends as it would."""
    assert running.exec("echo", "done", input="x" * 1_000_000, timeout=20).stdout == "done\n"


def test_exec_without_input_reads_nothing(running: Container) -> None:
    """Without `input`, stdin is at its end."""
    assert running.exec("cat", timeout=10).stdout == ""


@pytest.mark.needs(Capability.USERS)
def test_exec_options(running: Container) -> None:
    """User, working directory and variables are what was asked for."""
    done = running.exec("sh", "-c", "id -u; pwd; echo $COLOUR", user="alice", workdir="/srv", environment={"COLOUR": "red"})

    assert done.stdout == "1000\n/srv\nred\n"


@pytest.mark.needs(Capability.USERS)
def test_exec_stands_where_the_container_does(box: type[Container]) -> None:
    """Without options an exec has the container's variables, user, directory and files."""
    with box("sleep", "300", init=True, environment={"A": "1"}, user="1000", workdir="/srv") as container:
        container.exec("sh", "-c", "echo x > /tmp/written", check=True)
        assert container.exec("sh", "-c", "echo $A; id -u; pwd; cat /tmp/written").stdout == "1\n1000\n/srv\nx\n"


def test_exec_of_a_missing_command(running: Container) -> None:
    """127 and 126 raise, as they do for a container's own command."""
    with pytest.raises(CommandNotFound) as missing:
        running.exec("no-such-program")
    with pytest.raises(CommandNotExecutable) as denied:
        running.exec("/srv/not-a-program")

    assert (missing.value.exit_code, denied.value.exit_code) == (127, 126)
    with pytest.raises(InvalidSpec):
        running.exec()


def test_exec_needs_a_running_container(box: type[Container]) -> None:
    """Nothing can be run in a container that doesn't run."""
    container = box("true")

    with pytest.raises(InvalidState):
        container.exec("true")
    container.start()
    container.wait(20)
    with pytest.raises(InvalidState):
        container.exec("true")


@pytest.mark.needs(Capability.TOP)
def test_timeout_kills_the_tree(running: Container) -> None:
    """After `timeout` the command and all its descendants are gone, orphans too, and nothing else."""
    began = time.monotonic()

    with pytest.raises(TimedOut) as caught:
        running.exec("sh", "-c", "echo so far; (sleep 271 & sleep 272 &); sleep 273", timeout=0.5)

    assert time.monotonic() - began < 8
    assert caught.value.stdout == "so far\n"
    deadline = time.monotonic() + 5
    while processes(running, "sleep 27") and time.monotonic() < deadline:
        time.sleep(0.01)
    assert processes(running, "sleep 27") == 0
    assert processes(running, "sleep 300") >= 1
    assert running.exec("echo", "alive").stdout == "alive\n"


def test_execs_side_by_side(running: Container) -> None:
    """Many execs at once don't disturb each other."""
    outputs: list[str] = []
    threads = [
        threading.Thread(target=lambda n=n: outputs.append(running.exec("sh", "-c", f"sleep 0.05; echo {n}").stdout))
        for n in range(10)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(outputs) == sorted(f"{n}\n" for n in range(10))


def test_exec_ends_with_its_container(running: Container) -> None:
    """An exec that runs when its container is killed ends too: 137."""
    with running.popen("sleep", "280") as process:
        running.kill()
        assert process.wait(20) == 137


def test_popen_pipes(running: Container) -> None:
    """`popen` has real pipes: what is written is read at once, while the command runs."""
    with running.popen("sh", "-c", "while read line; do echo got $line; done", stdin=PIPE, stdout=PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.poll() is None
        for word in ("one", "two"):
            process.stdin.write(word + "\n")
            process.stdin.flush()
            assert process.stdout.readline() == f"got {word}\n"
        process.stdin.close()
        assert process.stdout.read() == ""
        assert process.wait(20) == 0
        assert (process.returncode, process.poll()) == (0, 0)
    os.fstat(1)


def test_popen_communicates(running: Container) -> None:
    """`communicate` writes, reads both outputs and waits; what isn't PIPE is None."""
    process = running.popen("sh", "-c", "cat; echo err >&2", stdin=PIPE, stdout=PIPE, stderr=PIPE, text=False)
    assert process.communicate(b"in") == (b"in", b"err\n")
    assert process.returncode == 0
    process.close()

    with running.popen("echo", "x", stdout=PIPE) as second:
        assert both(second) == ("x\n", None)


def test_popen_communicate_can_go_on(running: Container) -> None:
    """After a deadline `communicate` can be called again, and no output is lost."""
    with running.popen("sh", "-c", "echo one; sleep 0.6; echo two", stdout=PIPE) as process:
        with pytest.raises(TimedOut) as caught:
            process.communicate(timeout=0.2)
        assert caught.value.stdout == "one\n"
        assert both(process) == ("one\ntwo\n", None)


def test_popen_to_a_file(running: Container, tmp_path: Path) -> None:
    """Outputs can go to a file, together, or nowhere."""
    script = "echo out; echo err >&2"
    with (tmp_path / "both").open("wb") as out, running.popen("sh", "-c", script, stdout=out, stderr=STDOUT) as process:
        process.wait(20)
    with (tmp_path / "both").open("rb") as file, running.popen("cat", stdin=file, stdout=PIPE, stderr=DEVNULL) as second:
        assert both(second) == ("out\nerr\n", None)
    with running.popen("echo", "x", stdout=DEVNULL) as third:
        assert third.wait(20) == 0


def test_popen_inherits(running: Container, capfd: pytest.CaptureFixture[str]) -> None:
    """Without an argument the outputs go where this process's own go."""
    with running.popen("sh", "-c", "echo out; echo err >&2") as process:
        process.wait(20)

    assert capfd.readouterr() == ("out\n", "err\n")


def test_popen_signals(running: Container) -> None:
    """`send_signal`, `terminate` and `kill` reach the command; its exit code is Docker's."""
    with running.popen("sh", "-c", "trap 'exit 9' USR1; echo ready; while true; do sleep 0.05; done", stdout=PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        with pytest.raises(TimedOut):
            process.wait(0.05)
        process.send_signal("USR1")
        assert process.wait(20) == 9
        process.send_signal("USR1")
    with running.popen("sleep", "280") as second:
        second.terminate()
        assert second.wait(20) == 143
    with running.popen("sleep", "280") as third:
        third.kill()
        assert third.wait(20) == 137


@pytest.mark.needs(Capability.TOP)
def test_popen_closed_is_killed(running: Container) -> None:
    """A command whose handle is given up doesn't go on."""
    process = running.popen("sleep", "281")
    process.close()

    deadline = time.monotonic() + 5
    while processes(running, "sleep 281") and time.monotonic() < deadline:
        time.sleep(0.01)
    assert processes(running, "sleep 281") == 0


@pytest.mark.needs(Capability.TOP)
def test_interrupted_call_kills(running: Container) -> None:
    """Ctrl-C in the middle of a call leaves nothing of the command behind."""
    import signal

    main = threading.main_thread()
    timer = threading.Timer(0.4, lambda: signal.pthread_kill(main.ident or 0, signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        running.exec("sleep", "282")

    deadline = time.monotonic() + 5
    while processes(running, "sleep 282") and time.monotonic() < deadline:
        time.sleep(0.01)
    assert processes(running, "sleep 282") == 0


def test_popen_refuses_nonsense(running: Container) -> None:
    """What is no file can't be a stream."""
    with pytest.raises(InvalidType):
        running.popen("true", stdout="a name")  # type: ignore[call-overload]
    with pytest.raises(InvalidType):
        running.exec("true", input=5)  # type: ignore[call-overload]
    with pytest.raises(InvalidType):
        running.exec("true", timeout="soon")  # type: ignore[call-overload]


@pytest.mark.needs(Capability.TTY)
def test_exec_in_a_terminal(running: Container) -> None:
    """With `tty` the command has a terminal: one output, and the size that it is told."""
    assert running.exec("sh", "-c", "test -t 0 && test -t 1 && echo yes", tty=True).stdout == "yes\n"
    with running.popen("sh", "-c", "read line; echo got $line", tty=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.resize(33, 99)
        process.stdin.write("word\n")
        process.stdin.flush()
        assert "got word" in process.stdout.read()
        assert process.wait(20) == 0
