"""The command line as users have it: a program on a terminal, real containers of this machine's own system."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from clikit import PATIENCE
from clikit import Program
from clikit import own_program
from clikit import wait_until

from pycontainers import Engine
from pycontainers.cli.output import list_lines
from pycontainers.cli.ps import DEFAULT
from pycontainers.cli.ps import columns
from pycontainers.engine import list_backends

REASON = next((b.reason for b in list_backends() if b.name == "native"), "it isn't installed")
if REASON:
    assert not os.environ.get("PYCONTAINERS_REQUIRE"), REASON
    pytest.skip(f"no native backend: {REASON}", allow_module_level=True)


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Program]:
    """The program, on a store of its own."""
    with own_program(tmp_path / "store") as made:
        yield made


def test_a_shell_on_a_terminal(program: Program) -> None:
    """`run -it` gives a terminal of the window's size that follows it, and takes ctrl-c for the program inside."""
    shell = program.terminal("run", "-it", "--name", "tt", "host", "sh")
    shell.type("stty size; test -t 0 && echo yes a termi''nal\n")
    shell.expect(r"24 80\s")
    shell.expect("yes a terminal")
    shell.resize(33, 101)
    os.kill(shell.process.pid, signal.SIGWINCH)
    shell.type("sleep 0.2; stty size\n")
    shell.expect(r"33 101\s")
    shell.type("sleep 60\n")
    time.sleep(0.3)
    shell.type("\x03")
    shell.type("echo ended: $?\n")
    shell.expect("ended: 130")
    shell.type("exit 5\n")

    assert 5 == shell.end()


def test_detach_and_attach(program: Program) -> None:
    """ctrl-p ctrl-q leaves the container running; `attach` draws its screen again; other keys can be chosen."""
    shell = program.terminal("run", "-it", "--name", "tt", "host", "sh")
    shell.type("echo rea''dy\n")
    shell.expect("ready")
    shell.type("\x10\x11")
    assert 0 == shell.end()
    assert "running\n" == program("inspect", "-f", "{{.State.Status}}", "tt").stdout

    again = program.terminal("attach", "--detach-keys", "ctrl-x,x", "tt")
    again.type("echo ba''ck\n")
    again.expect("back")
    again.type("\x18x")
    assert 0 == again.end()

    third = program.terminal("attach", "tt")
    third.type("exit 3\n")
    assert 3 == third.end()
    once_more = program.terminal("start", "-ai", "tt")
    once_more.type("echo a''gain; exit 4\n")
    once_more.expect("again")
    assert 4 == once_more.end()


def test_exec_on_a_terminal(program: Program) -> None:
    """`exec -it`, with the em dash of the course, is a second terminal in the same container."""
    program("run", "-d", "--name", "nap", "host", "sleep", "60")
    shell = program.terminal("exec", "—it", "nap", "sh")
    shell.type("stty size; cat /proc/1/comm\n")
    shell.expect(r"24 80\s")
    shell.expect("sleep")
    shell.type("exit 4\n")

    assert 4 == shell.end()


def test_a_terminal_is_restored_when_the_container_is_killed(program: Program) -> None:
    """Whatever ends the container, the caller's terminal is as it was."""
    shell = program.terminal("run", "-it", "--name", "tt", "host", "sh")
    shell.type("echo rea''dy\n")
    shell.expect("ready")
    program("kill", "tt")

    assert 137 == shell.end()


@pytest.mark.parametrize("argv", [("run", "-it", "--name", "tt", "host", "sh"), ("exec", "-it", "nap", "sh")])
def test_a_terminal_is_restored_when_the_client_is_killed(program: Program, argv: tuple[str, ...]) -> None:
    """A client that is told to end leaves the container running and the terminal as it was."""
    program("run", "-d", "--name", "nap", "host", "sleep", "60")
    shell = program.terminal(*argv)
    shell.type("echo rea''dy\n")
    shell.expect("ready")
    shell.process.send_signal(signal.SIGTERM)

    assert 143 == shell.end()
    assert {"nap"} <= {*program("ps", "--format", "{{.Names}}").stdout.split()}


def test_signals_are_passed_on(program: Program) -> None:
    """Without a terminal the container gets the client's signals, and the client ends as it does."""
    client = program.start("run", "--name", "one", "host", "sh", "-c",
                           "trap 'echo got it; exit 9' TERM; echo ready; while :; do sleep 0.05; done",
                           stdout=subprocess.PIPE)
    assert client.stdout is not None
    assert b"ready\n" == client.stdout.readline()
    client.send_signal(signal.SIGTERM)

    assert b"got it\n" == client.stdout.read()
    assert 9 == client.wait(PATIENCE)
    client.stdout.close()


def test_the_third_interrupt_ends_the_client(program: Program) -> None:
    """A process 1 without a handler never sees SIGINT: the client can be left nevertheless."""
    client = program.start("run", "--rm", "--name", "one", "host", "sh", "-c", "echo ready; exec sleep 60",
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert client.stdout is not None
    assert client.stderr is not None
    client.stdout.readline()
    for _ in range(3):
        client.send_signal(signal.SIGINT)
        time.sleep(0.2)

    assert 1 == client.wait(PATIENCE)
    assert b"got 3 SIGTERM/SIGINTs, forcefully exiting\n" == client.stderr.read()
    client.stdout.close()
    client.stderr.close()


def test_all_output_arrives(program: Program) -> None:
    """Megabytes through run, run --rm, exec, logs and stdin, whole; a reader that goes away is no error."""
    script = "i=0; while [ $i -lt 2000 ]; do printf '%01023d\\n' $i; i=$((i+1)); done"
    expected = "".join(f"{i:01023d}\n" for i in range(2000))
    for options in ((), ("--rm",)):
        assert expected == program("run", *options, "--name", f"r{len(options)}", "host", "sh", "-c", script).stdout
    assert expected == program("logs", "r0").stdout
    program("run", "-d", "--name", "nap", "host", "sleep", "60")
    assert expected == program("exec", "nap", "sh", "-c", script).stdout
    assert expected == program("exec", "-i", "nap", "cat", input=expected).stdout
    assert expected == program("run", "-i", "--rm", "host", "cat", input=expected).stdout
    piped = subprocess.run(f"{sys.executable} -m pycontainers logs r0 | head -c 5", shell=True, capture_output=True,
                           env=program.environment, cwd="/", check=True)
    assert (b"00000", b"") == (piped.stdout, piped.stderr)


def test_exec_does_not_wait_for_what_it_leaves_behind(program: Program) -> None:
    """A background process that keeps the streams open doesn't keep the client."""
    program("run", "-d", "--name", "nap", "host", "sleep", "60")
    begin = time.monotonic()

    said = program("exec", "nap", "sh", "-c", "sleep 30 & echo done")

    assert "done\n" == said.stdout
    assert time.monotonic() - begin < 15


def test_containers_outlive_the_program(program: Program) -> None:
    """`run -d` in one process, everything else in others."""
    id = program("run", "-d", "--name", "one", "host", "sh", "-c", "echo Salut; exec sleep 60").stdout.strip()
    wait_until(lambda: "Salut\n" == program("logs", "one").stdout)

    assert id == program("ps", "-q", "--no-trunc").stdout.strip()
    assert "one\n" == program("stop", "-t", "0", "one").stdout
    assert "137\n" == program("wait", "one").stdout
    assert "one\n" == program("rm", "one").stdout
    assert "" == program("ps", "-aq").stdout


def test_quick_listing_is_the_engines(program: Program) -> None:
    """`ps` without an engine shows what the engine's records show."""
    from pycontainers.backend import ContainerRecord
    from pycontainers.backends.native import listing

    program("run", "-d", "--name", "healthy", "--health-cmd", "true", "--health-interval", "1s", "-l", "a=b", "--expose", "80",
            "-v", "/tmp:/mnt:ro", "host", "sleep", "60")
    program("run", "-d", "--name", "paused", "--entrypoint", "sleep", "host", "60")
    program("pause", "paused")
    program("run", "--name", "ended", "host", "sh", "-c", "exit 3")
    program("create", "--name", "made", "host", "true")
    wait_until(lambda: "(healthy)" in program("ps").stdout)

    engine = Engine("native", root=program.root)
    full = engine.backend.list(ContainerRecord)
    quick = listing.list_containers(str(program.root))

    assert quick is not None
    names = [*DEFAULT, "Labels", "Mounts", "Networks", "State", "CreatedAt", "LocalVolumes"]
    assert list_lines(full, columns(), names) == list_lines(quick, columns(), names)
    assert {"Up", "Exited", "Created"} <= {line.split("ago")[1].split()[0] for line in
                                           list_lines(full, columns(), DEFAULT).splitlines()[1:]}
    engine.close()


def test_quick_listing_knows_its_limits(program: Program) -> None:
    """A dead supervisor, another version and a lost file are left to the backend; an empty store is no error."""
    from pycontainers._native._lib import lib
    from pycontainers.backends.native import listing
    from pycontainers.backends.native import record
    from pycontainers.backends.native import store

    assert [] == listing.list_containers(str(program.root))
    id = program("run", "--name", "one", "host", "true")
    assert 0 == id.returncode
    assert 1 == len(listing.list_containers(str(program.root)) or ())
    state = next(program.root.glob("containers/*/*/state"))
    whole = state.read_bytes()
    fields = list(struct.unpack_from(listing.RECORD, whole))
    fields[1] = lib.PYC_STATUS_RUNNING
    state.write_bytes(struct.pack(listing.RECORD, *fields))
    assert listing.list_containers(str(program.root)) is None
    state.write_bytes(whole)
    (program.root / "version").write_text("2\n")
    assert listing.list_containers(str(program.root)) is None
    (program.root / "version").write_text("1\n")

    assert record._RECORD.format == listing.RECORD
    assert (lib.PYC_RECORD_MAGIC, store.VERSION) == (listing.MAGIC, listing.VERSION)
    assert {n: v.value for n, v in record._STATUS.items()} == dict(enumerate(listing.STATUSES))
    assert record._HEALTH_NAMES == {n: name for n, name in enumerate(listing.HEALTH) if name}


def test_ps_imports_little() -> None:
    """`ps` loads neither attrs nor an engine nor the C part: each would take longer than it does."""
    code = ("import sys; from pycontainers.cli import main; main(['--root', '/nonexistent', 'ps']); "
            "print([m for m in ('attr', 'attrs', 'pluggy', 'click', 'rich', 'pycontainers.engine', 'pycontainers.backend', "
            "'pycontainers._native._lib') if m in sys.modules])")

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="/",
                          env={**os.environ, "PYCONTAINERS_BACKEND": "native"})

    assert "CONTAINER ID   IMAGE     COMMAND   CREATED   STATUS    PORTS     NAMES\n[]\n" == done.stdout


def test_demo(program: Program) -> None:
    """The demo runs to its end in under a minute, and leaves nothing."""
    begin = time.monotonic()
    said = program("demo")

    assert (0, "") == (said.returncode, said.stderr)
    assert "'/proc/1\\n'" in said.stdout
    assert "'A /etc/pycontainers-demo'" in said.stdout
    assert not os.path.exists("/etc/pycontainers-demo")
    assert "TimedOut: " in said.stdout
    assert time.monotonic() - begin < 60
    assert "" == program("ps", "-aq").stdout


def test_doctor_and_info(program: Program) -> None:
    """They know this machine."""
    assert 0 == program("doctor").returncode
    assert str(program.root) in program("info").stdout
    assert f"{os.uname().release}\n" == program("info", "-f", "{{.KernelVersion}}").stdout
