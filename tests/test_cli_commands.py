"""The commands: output, exit codes and messages are Docker's, over a whole engine in this process."""

from __future__ import annotations

import io
import json
import os
import re
import tarfile
import threading
import time
from collections.abc import Callable
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from pycontainers import Container
from pycontainers import Engine
from pycontainers import Image
from pycontainers.backend import ContainerRecord
from pycontainers.backend import Stats
from pycontainers.cli import main
from pycontainers.cli import stats
from pycontainers.cli.output import list_lines

APPLETS = ("cat chmod date echo env false grep head hostname id kill ln ls mkdir mv nc printf pwd rm seq sh sleep test touch "
           "true wc yes").split()


class Said(NamedTuple):
    """What a command line wrote, and its exit code."""

    code: int
    out: str
    err: str


Cli = Callable[..., Said]


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """An engine in memory, the default one, with the image `busybox:1`."""
    root = tmp_path / "rootfs"
    for folder in ("bin", "etc", "tmp", "root"):
        (root / folder).mkdir(parents=True)
    for name in APPLETS:
        (root / "bin" / name).write_text("#!memory\n")
        (root / "bin" / name).chmod(0o755)
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\nuser:x:5:6::/:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\nstaff:x:6:\n")
    (root / "etc/plain").write_text("not a program\n")
    engine = Engine("memory")
    with engine:
        Image.import_rootfs(root, "busybox:1")
        yield engine
        for container in Container.list(all=True):
            container.remove(force=True)
    engine.close()


@pytest.fixture
def cli(engine: Engine, capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Run a command line in this process, its stdin a pipe that holds `input`."""

    def run(*argv: str, input: bytes = b"") -> Said:
        capfdbinary.readouterr()
        reader, writer = os.pipe()
        feeder = threading.Thread(target=lambda: _feed(writer, input))
        feeder.start()
        with monkeypatch.context() as patch, os.fdopen(reader, "r") as stdin:
            patch.setattr("sys.stdin", stdin)
            code = main(argv)
        feeder.join()
        out, err = capfdbinary.readouterr()
        return Said(code, out.decode(), err.decode())

    return run


def _feed(writer: int, data: bytes) -> None:
    with os.fdopen(writer, "wb") as file:
        try:
            file.write(data)
        except BrokenPipeError:
            pass


def wait_until(true: Callable[[], object]) -> None:
    """Wait up to ten seconds for something to become true."""
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.005)


# -- run and create ------------------------------------------------------------------------------------------------------


def test_run_shows_output_and_gives_the_exit_code(cli: Cli) -> None:
    """`run` writes each stream where it belongs and ends as the command did."""
    said = cli("run", "busybox:1", "sh", "-c", "echo Salut; echo oops >&2; exit 7")

    assert Said(7, "Salut\n", "oops\n") == said


def test_run_passes_stdin_to_its_end(cli: Cli) -> None:
    """`run -i` passes stdin on, and its end; without -i the container reads nothing."""
    assert "one\ntwo" == cli("run", "-i", "--rm", "busybox:1", "cat", input=b"one\ntwo").out
    assert "" == cli("run", "--rm", "busybox:1", "cat", input=b"one").out


def test_run_detached_prints_the_id(cli: Cli) -> None:
    """`run -d` prints the id, and the container goes on."""
    said = cli("run", "-d", "--name", "nap", "busybox:1", "sleep", "60")

    assert re.fullmatch(r"[0-9a-f]{64}\n", said.out)
    assert "running" == Container.get("nap").status
    assert said.out.strip() == Container.get("nap").id


def test_run_with_rm_leaves_nothing(cli: Cli) -> None:
    """`run --rm` removes the container when it ends, whatever its exit code, and when it can't be started."""
    assert 3 == cli("run", "--rm", "busybox:1", "sh", "-c", "exit 3").code
    assert 127 == cli("run", "--rm", "busybox:1", "nosuch").code
    assert [] == Container.list(all=True)


@pytest.mark.parametrize(("argv", "code", "message"), [
    (["busybox:1", "nosuch"], 127, "pycontainers: .*nosuch"),
    (["busybox:1", "/etc/plain"], 126, "pycontainers: .*/etc/plain"),
    (["nosuch:1"], 125, "Unable to find image 'nosuch:1' locally\npycontainers: No such image: nosuch:1"),
    (["nosuch"], 125, "Unable to find image 'nosuch:latest' locally\n"),
    (["-w", "rel", "busybox:1"], 125, "pycontainers: the working directory 'rel' is invalid"),
    (["--bad", "busybox:1"], 125, "unknown flag: --bad\n\nUsage:  pycontainers run "),
    (["-it", "busybox:1", "sh"], 1, "the input device is not a TTY"),
    (["-d", "-a", "stdout", "busybox:1"], 125, "conflicting options: cannot specify both --attach and --detach"),
    (["--gpus", "all", "busybox:1"], 125, "pycontainers: --gpus is not supported"),
    (["--name", "x", "busybox:1"], 125, "pycontainers: Invalid container name"),
    ([], 1, "pycontainers: 'pycontainers run' requires at least 1 argument"),
])
def test_run_fails_as_docker_does(cli: Cli, argv: list[str], code: int, message: str) -> None:
    """Exit codes 125, 126 and 127 and their messages, without a traceback."""
    said = cli("run", *argv)

    assert code == said.code
    assert re.match(message, said.err)
    assert "Traceback" not in said.err


def test_create_and_start(cli: Cli, tmp_path: Path) -> None:
    """`create` prints the id and writes the --cidfile; `start` prints the name, `start -a` the output."""
    file = tmp_path / "cid"
    said = cli("create", "--name", "one", "--cidfile", str(file), "busybox:1", "echo", "Salut")

    assert (0, file.read_text()) == (said.code, said.out.strip())
    assert "created" == Container.get("one").status
    assert "one\n" == cli("start", "one").out
    Container.get("one").wait()
    assert "Salut\n" == cli("start", "-a", "one").out
    again = cli("create", "--cidfile", str(file), "busybox:1")
    assert (1, f"pycontainers: container ID file found, make sure the other container isn't running or delete {file}\n") == (
        again.code, again.err)
    taken = cli("create", "--name", "one", "busybox:1")
    assert 1 == taken.code
    assert "one" in taken.err
    assert 125 == cli("run", "--name", "one", "busybox:1").code


def test_start_i_of_an_ended_container(cli: Cli) -> None:
    """`start -i` runs an ended container again, with its output and its stdin (the course's "Ré-exécuter")."""
    cli("run", "-i", "--name", "vibrant_swanson", "busybox:1", "cat", input=b"first\n")

    assert "second\n" == cli("start", "-i", "vibrant_swanson", input=b"second\n").out
    assert "first\nsecond\n" == cli("logs", "vibrant_swanson").out


def test_start_says_which_failed(cli: Cli) -> None:
    """`start` goes on after an error, and names what failed."""
    cli("create", "--name", "good", "busybox:1", "true")

    said = cli("start", "nope", "good")

    assert (1, "good\n") == (said.code, said.out)
    assert "Error: No such container: nope\nError: failed to start containers: nope\n" == said.err


def test_attach(cli: Cli) -> None:
    """`attach` shows what comes, passes stdin on, and ends with the container's exit code."""
    cli("run", "-d", "-i", "--name", "aa", "busybox:1", "sh", "-c", "read line; echo got $line; exit 4")

    assert Said(4, "got it\n", "") == cli("attach", "aa", input=b"it\n")
    assert (1, "You cannot attach to a stopped container, start it first\n") == cli("attach", "aa")[::2]
    cli("run", "-d", "--name", "bb", "busybox:1", "sleep", "60")
    cli("pause", "bb")
    assert (1, "You cannot attach to a paused container, unpause it first\n") == cli("attach", "bb")[::2]


# -- exec ----------------------------------------------------------------------------------------------------------------


def test_exec(cli: Cli) -> None:
    """`exec` runs beside the main process, with streams, environment, user and directory, and gives its exit code."""
    cli("run", "-d", "--name", "nap", "busybox:1", "sleep", "60")

    assert Said(7, "out\n", "err\n") == cli("exec", "nap", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert "in" == cli("exec", "-i", "nap", "cat", input=b"in").out
    assert "b /etc\n" == cli("exec", "-e", "A=b", "-w", "/etc", "nap", "sh", "-c", "echo $A $(pwd)").out
    assert Said(0, "", "") == cli("exec", "-d", "nap", "sh", "-c", "touch /tmp/made")
    wait_until(lambda: Container.get("nap").path("/tmp/made").exists())


@pytest.mark.parametrize(("argv", "code", "message"), [
    (["nope", "ls"], 1, "Error: No such container: nope\n"),
    (["nap", "nosuch"], 127, ".*nosuch"),
    (["nap", "/etc/plain"], 126, ".*/etc/plain"),
    (["nap"], 1, "pycontainers: 'pycontainers exec' requires at least 2 arguments"),
    (["-it", "nap", "sh"], 1, "the input device is not a TTY"),
])
def test_exec_fails_as_docker_does(cli: Cli, argv: list[str], code: int, message: str) -> None:
    """What can't be executed has Docker's exit code."""
    cli("run", "-d", "--name", "nap", "busybox:1", "sleep", "60")

    said = cli("exec", *argv)

    assert code == said.code
    assert re.match(message, said.err)


def test_exec_in_a_stopped_or_paused_container(cli: Cli) -> None:
    """It is refused, with what to do."""
    cli("run", "--name", "ended", "busybox:1", "true")
    assert 1 == cli("exec", "ended", "true").code
    assert "not running" in cli("exec", "ended", "true").err
    cli("run", "-d", "--name", "frozen", "busybox:1", "sleep", "60")
    cli("pause", "frozen")
    assert "paused" in cli("exec", "frozen", "true").err


# -- ps ------------------------------------------------------------------------------------------------------------------


def test_ps_is_dockers_table(cli: Cli) -> None:
    """Columns, widths, and the texts of STATUS."""
    header = "CONTAINER ID   IMAGE     COMMAND   CREATED   STATUS    PORTS     NAMES\n"
    assert header == cli("ps").out
    cli("run", "--name", "two", "busybox:1", "sh", "-c", "echo hi; exit 3")
    cli("run", "-d", "--name", "three", "busybox:1", "sleep", "1000")
    cli("pause", "three")
    cli("create", "--name", "four", "busybox:1", "true")

    lines = cli("ps", "-a").out.splitlines()

    row = re.compile(r'[0-9a-f]{12}   busybox:1   (".*")\s+(Less than a second|\d seconds?) ago\s+(\S.*\S)\s+(\S+)')
    found = [row.fullmatch(line) for line in lines[1:]]
    assert all(found)
    assert [('"true"', "four"), ('"sleep 1000"', "three"), ("\"sh -c 'echo hi; exi…\"", "two")] == [
        (f[1], f[4]) for f in found if f]
    assert "Created" == found[0][3]  # type: ignore[index]
    assert re.fullmatch(r"Up (Less than a second|\d seconds?) \(Paused\)", found[1][3])  # type: ignore[index]
    assert re.fullmatch(r"Exited \(3\) (Less than a second|\d seconds?) ago", found[2][3])  # type: ignore[index]
    starts = {line.index(text) for line, text in ((lines[0], "NAMES"), (lines[1], "four"), (lines[2], "three"))}
    assert 1 == len(starts)
    assert [lines[0].index("NAMES")] == [*starts]


def test_ps_shows_what_is_asked_for(cli: Cli) -> None:
    """-q, -l, -n, -a, -f and --no-trunc."""
    first = cli("create", "--name", "first", "busybox:1", "true").out.strip()
    second = cli("run", "-d", "--name", "second", "-l", "a=b", "busybox:1", "sleep", "60").out.strip()

    assert f"{second[:12]}\n" == cli("ps", "-q").out
    assert f"{second}\n{first}\n" == cli("ps", "-aq", "--no-trunc").out
    assert f"{second[:12]}\n" == cli("ps", "-ql").out
    assert f"{second[:12]}\n{first[:12]}\n" == cli("ps", "-q", "-n", "5").out
    assert f"{first[:12]}\n" == cli("ps", "-q", "-f", "status=created").out
    assert f"{second[:12]}\n" == cli("ps", "-aq", "--filter", "label=a=b").out
    assert "second\nfirst\n" == cli("container", "ls", "–a", "--format", "{{.Names}}").out
    bad = cli("ps", "-f", "bad=1")
    assert 1 == bad.code
    assert bad.err.startswith("Error: invalid filter 'bad'")


def test_ps_format_json_has_dockers_keys(cli: Cli) -> None:
    """One object a line, with the keys of Docker's client."""
    cli("run", "-d", "--name", "one", "-l", "x=y", "busybox:1", "sleep", "60")

    body = json.loads(cli("ps", "--format", "json").out)

    assert ["Command", "CreatedAt", "ID", "Image", "Labels", "LocalVolumes", "Mounts", "Names", "Networks", "Platform",
            "Ports", "RunningFor", "Size", "State", "Status"] == list(body)
    assert ('"sleep 60"', "busybox:1", "x=y", "one", "running") == (
        body["Command"], body["Image"], body["Labels"], body["Names"], body["State"])


def test_ps_size(cli: Cli) -> None:
    """-s adds the size of what was written, and of the whole root."""
    cli("run", "--name", "one", "busybox:1", "sh", "-c", "printf 12345 > /tmp/x")

    assert re.search(r"SIZE\n.* 5B \(virtual [\d.]+k?B\)\n$", cli("ps", "-as").out)
    assert "5 true\n" == cli("inspect", "-s", "-f", "{{.SizeRw}} {{gt .SizeRootFs .SizeRw}}", "one").out


# -- life ----------------------------------------------------------------------------------------------------------------


def test_a_life(cli: Cli) -> None:
    """pause, unpause, rename, restart, kill, wait, start, stop, rm: each prints the name as it was given."""
    cli("run", "-d", "--name", "one", "busybox:1", "sleep", "60")

    assert Said(0, "one\n", "") == cli("pause", "one")
    assert Said(0, "one\n", "") == cli("unpause", "one")
    assert Said(0, "", "") == cli("rename", "one", "two")
    assert Said(0, "two\n", "") == cli("restart", "-t", "0", "two")
    assert Said(0, "two\n", "") == cli("kill", "two")
    assert Said(0, "137\n", "") == cli("wait", "two")
    assert Said(0, "two\n", "") == cli("start", "two")
    assert Said(0, "two\n", "") == cli("stop", "-t", "0", "two")
    assert Said(0, "two\n", "") == cli("stop", "two")
    assert Said(0, "two\n", "") == cli("rm", "two")
    assert [] == Container.list(all=True)


@pytest.mark.parametrize("command", ["stop", "kill", "restart", "pause", "unpause", "wait", "rm", "logs", "top", "diff",
                                     "export", "attach", "port"])
def test_what_is_not_there(cli: Cli, command: str) -> None:
    """Every command says so in Docker's words, with exit code 1."""
    assert Said(1, "", "Error: No such container: nope\n") == cli(command, "nope")


def test_commands_go_on_after_an_error(cli: Cli) -> None:
    """What can be done is done; the exit code tells that something could not."""
    cli("create", "--name", "one", "busybox:1")
    cli("create", "--name", "two", "busybox:1")

    assert Said(1, "one\ntwo\n", "Error: No such container: nope\n") == cli("rm", "one", "nope", "two")


def test_rm_of_a_running_container(cli: Cli) -> None:
    """It is refused without -f; -f is content with what isn't there."""
    cli("run", "-d", "--name", "one", "busybox:1", "sleep", "60")

    refused = cli("rm", "one")
    assert 1 == refused.code
    assert "running" in refused.err
    assert Said(0, "one\n", "") == cli("rm", "-f", "one")
    assert 0 == cli("rm", "-f", "one").code


def test_wrong_states_and_names(cli: Cli) -> None:
    """kill, pause and rename refuse what makes no sense."""
    cli("run", "--name", "one", "busybox:1", "true")
    cli("create", "--name", "two", "busybox:1", "true")

    assert "not running" in cli("kill", "one").err
    assert "not running" in cli("pause", "one").err
    assert "Error: signal is not a signal: 'FOO'\n" == cli("kill", "-s", "FOO", "one").err
    assert "Error: Renaming a container with the same name as its current name\n" == cli("rename", "one", "one").err
    assert 1 == cli("rename", "one", "two").code
    assert Said(1, "", "you must provide one or more flags when using this command\n") == cli("update", "one")


def test_update(cli: Cli) -> None:
    """`update` prints the name; the change is there."""
    cli("create", "--name", "one", "busybox:1")

    assert Said(0, "one\n", "") == cli("update", "--restart", "on-failure:2", "one")
    assert "on-failure:2" == str(Container.get("one").config.restart)


# -- output --------------------------------------------------------------------------------------------------------------


def test_logs(cli: Cli) -> None:
    """Streams stay apart, a last line without a newline is kept, -n counts lines, -t adds times."""
    cli("run", "--name", "one", "busybox:1", "sh", "-c", "echo a; echo b >&2; printf c")

    assert Said(0, "a\nc", "b\n") == cli("logs", "one")
    assert Said(0, "c", "") == cli("logs", "-n", "1", "one")
    assert Said(0, "a\nc", "b\n") == cli("logs", "--tail", "all", "one")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z a\n\S+Z c", cli("logs", "-t", "one").out)
    assert Said(0, "", "") == cli("logs", "--until", "1h", "one")
    assert "a\nc" == cli("logs", "--since", "1h", "one").out
    assert Said(1, "", 'invalid value for "since": failed to parse value as time or duration: "foo"\n') == cli(
        "logs", "--since", "foo", "one")


def test_logs_follow_to_the_end(cli: Cli) -> None:
    """`logs -f` shows what was and what comes, and ends with the container; --tail counts what was."""
    cli("run", "-d", "--name", "one", "busybox:1", "sh", "-c", "echo a; echo b; sleep 0.3; printf c; sleep 0.1")
    wait_until(lambda: "b" in Container.get("one").logs())

    assert Said(0, "b\nc", "") == cli("logs", "-f", "-n", "1", "one")


def test_top(cli: Cli) -> None:
    """Docker's columns, 20 wide."""
    cli("run", "-d", "--name", "one", "busybox:1", "sleep", "60")

    header, row = cli("top", "one").out.splitlines()

    assert ("UID                 PID                 PPID                C                   STIME               TTY"
            "                 TIME                CMD") == header
    assert row.startswith("root ")
    assert row.endswith(" sleep 60")


def test_stats(cli: Cli) -> None:
    """One look: Docker's columns and units; without the capability it says so."""
    cli("run", "-d", "--name", "one", "busybox:1", "sleep", "60")
    record = Container.get("one").engine.backend.get(ContainerRecord, "one")
    figures = Stats(time=0, cpu_time=1, cpu=0.0237, memory=528 * 1024, memory_limit=25275916779, pids=1)

    columns = stats.columns(trunc=True)
    text = list_lines([("one", record, figures), ("one", record, None)], columns, stats.DEFAULT)

    assert ["CONTAINER ID   NAME      CPU %     MEM USAGE / LIMIT   MEM %     NET I/O   BLOCK I/O   PIDS",
            f"{record.id[:12]}   one       2.37%     528KiB / 23.54GiB   0.00%     0B / 0B   0B / 0B     1",
            f"{record.id[:12]}   one       --        -- / --             --        --        --          --",
            ] == text.splitlines()
    assert {"BlockIO", "CPUPerc", "Container", "ID", "MemPerc", "MemUsage", "Name", "NetIO", "PIDs"} == columns.keys()
    assert Said(1, "", "Error: No such container: nope\n") == cli("stats", "--no-stream", "nope")
    assert "STATS" in cli("stats", "--no-stream", "one").err


def test_inspect(cli: Cli) -> None:
    """JSON as Docker writes it, templates, several things at once, and what isn't there."""
    id = cli("run", "-d", "--name", "one", "-e", "A=b", "busybox:1", "sleep", "60").out.strip()

    said = cli("inspect", "one")
    assert said.out.startswith('[\n    {\n        "Id": "')
    body = json.loads(said.out)[0]
    assert (id, "/one", "running", ["A=b"]) == (body["Id"], body["Name"], body["State"]["Status"], body["Config"]["Env"])
    assert "/one running\n" == cli("inspect", "-f", "{{.Name}} {{.State.Status}}", "one").out
    assert "[busybox:1]\n" == cli("inspect", "--type", "image", "-f", "{{.RepoTags}}", "busybox:1").out
    assert "[busybox:1]\n" == cli("image", "inspect", "-f", "{{.RepoTags}}", "busybox:1").out
    assert Said(1, "running\n", "Error: No such object: nope\n") == cli(
        "inspect", "-f", "{{if .State}}{{.State.Status}}{{end}}", "one", "nope")
    assert Said(1, "[]\n", "Error: No such container: nope\n") == cli("container", "inspect", "nope")
    bad = cli("inspect", "-f", "{{.Nope}}", "one")
    assert (1, 'template parsing error: template: :1:2: executing "" at <.Nope>: map has no entry for key "Nope"\n') == (
        bad.code, bad.err)
    assert cli("inspect", "--type", "foo", "one").err.startswith('unknown type: "foo"')


def test_events(cli: Cli) -> None:
    """What happened, as Docker's lines, JSON and templates."""
    begin = time.time()
    cli("run", "--name", "one", "busybox:1", "sh", "-c", "exit 3")
    since = f"{begin:.3f}"

    lines = cli("events", "--since", since, "--until", "0s").out.splitlines()
    actions = [line.split()[2] for line in lines if " container " in line]
    assert ["create", "start", "die"] == [a for a in actions if a in ("create", "start", "die")]
    assert re.fullmatch(r"\S+T\S+ container die [0-9a-f]{64} \(.*exitCode=3.*name=one.*\)",
                        next(line for line in lines if " die " in line))
    said = cli("events", "--since", since, "--until", "0s", "--filter", "event=die", "--format",
               "{{.Status}} {{.Type}} {{.Actor.Attributes.exitCode}}")
    assert "die container 3\n" == said.out
    body = json.loads(cli("events", "--since", since, "--until", "0s", "-f", "event=start", "--format", "json").out)
    assert ["status", "id", "from", "Type", "Action", "Actor", "scope", "time", "timeNano"] == list(body)
    assert 'invalid value for "since"' in cli("events", "--since", "foo").err


# -- files ---------------------------------------------------------------------------------------------------------------


def test_diff(cli: Cli) -> None:
    """A, C and D."""
    cli("run", "--name", "one", "busybox:1", "sh", "-c", "echo a > /new; rm /etc/passwd")

    assert "C /etc\nD /etc/passwd\nA /new\n" == cli("diff", "one").out


def test_cp_both_ways(cli: Cli, tmp_path: Path) -> None:
    """Files and directories, by Docker's rules for where they land."""
    cli("run", "-d", "--name", "one", "busybox:1", "sleep", "60")
    (tmp_path / "file").write_text("Salut")
    (tmp_path / "dir").mkdir()
    (tmp_path / "dir" / "inner").write_text("x")

    assert Said(0, "", "") == cli("cp", str(tmp_path / "file"), "one:/tmp/")
    assert "Salut" == cli("exec", "one", "cat", "/tmp/file").out
    assert 0 == cli("cp", str(tmp_path / "dir"), "one:/made").code
    assert "x" == cli("exec", "one", "cat", "/made/inner").out
    assert Said(0, "", "") == cli("cp", "one:/tmp/file", str(tmp_path / "back"))
    assert "Salut" == (tmp_path / "back").read_text()
    assert 0 == cli("cp", "one:/made/.", str(tmp_path)).code
    assert "x" == (tmp_path / "inner").read_text()


def test_cp_of_tars(cli: Cli) -> None:
    """`-` is a tar on stdin or stdout."""
    cli("run", "-d", "--name", "one", "busybox:1", "sleep", "60")
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        info = tarfile.TarInfo("from_tar")
        info.size = 3
        tar.addfile(info, io.BytesIO(b"abc"))

    assert 0 == cli("cp", "-", "one:/tmp", input=packed.getvalue()).code
    assert "abc" == cli("exec", "one", "cat", "/tmp/from_tar").out
    said = cli("cp", "one:/tmp/from_tar", "-")
    with tarfile.open(fileobj=io.BytesIO(said.out.encode())) as tar:
        assert ["from_tar"] == tar.getnames()


def test_cp_follows_links_and_keeps_owners(cli: Cli, tmp_path: Path) -> None:
    """-L copies what a link leads to, on either side; -a keeps the owners' numbers."""
    cli("run", "-d", "--name", "one", "busybox:1", "sleep", "60")
    (tmp_path / "real").write_text("Salut")
    (tmp_path / "link").symlink_to("real")
    os.chmod(tmp_path / "real", 0o640)
    if os.geteuid() == 0:
        os.chown(tmp_path / "real", 5, 6)

    assert 0 == cli("cp", "-L", str(tmp_path / "link"), "one:/tmp/followed").code
    assert "Salut" == cli("exec", "one", "cat", "/tmp/followed").out
    assert 0 == cli("cp", str(tmp_path / "link"), "one:/tmp/link").code
    assert Container.get("one").path("/tmp/link").is_symlink()
    cli("exec", "one", "ln", "-s", "followed", "/tmp/inside")
    assert 0 == cli("cp", "-L", "one:/tmp/inside", str(tmp_path / "out")).code
    assert "Salut" == (tmp_path / "out").read_text()

    assert 0 == cli("cp", "-a", str(tmp_path / "real"), "one:/tmp/owned").code
    found = Container.get("one").path("/tmp/owned").stat()
    there = os.stat(tmp_path / "real")
    assert (there.st_uid, there.st_gid) == (found.st_uid, found.st_gid)
    assert 0 == cli("cp", "-a", "one:/tmp/owned", str(tmp_path / "back")).code
    assert there.st_uid == os.stat(tmp_path / "back").st_uid


@pytest.mark.parametrize(("argv", "message"), [
    (["one:/nope", "."], "Error: Could not find the file /nope in container one\n"),
    (["/nope/nope", "one:/"], "lstat /nope/nope: no such file or directory\n"),
    (["one:/etc/passwd", "/nodir/x"], 'invalid output path: directory "/nodir" does not exist\n'),
    (["a", "b"], "must specify at least one container source\n"),
    (["one:/etc", "one:/x"], "copying between containers is not supported\n"),
    (["nope:/etc", "."], "Error: No such container: nope\n"),
])
def test_cp_fails_as_docker_does(cli: Cli, argv: list[str], message: str) -> None:
    """Docker's messages."""
    cli("create", "--name", "one", "busybox:1", "true")

    assert Said(1, "", message) == cli("cp", *argv)


def test_export_and_import(cli: Cli, tmp_path: Path) -> None:
    """A container's root file system, exported and imported with changes, is an image that says so."""
    cli("run", "--name", "one", "busybox:1", "sh", "-c", "echo Salut > /made")
    file = tmp_path / "root.tar"

    assert Said(0, "", "") == cli("export", "-o", str(file), "one")
    said = cli("import", "-c", 'CMD ["cat", "/made"]', "-c", "ENV A=b C=d", "-c", "EXPOSE 80", "-c", "LABEL l=m",
               "-c", "WORKDIR /tmp", "-c", "USER user", "-c", "HEALTHCHECK --interval=3s CMD true", "-c", "VOLUME /data",
               "-m", "made here", str(file), "mine:2")
    assert re.fullmatch(r"sha256:[0-9a-f]{64}\n", said.out)
    assert "Salut\n" == cli("run", "mine:2").out
    config = json.loads(cli("inspect", "--type=image", "mine:2").out)[0]["Config"]
    assert (["A=b", "C=d"], {"80/tcp": {}}, {"l": "m"}, "/tmp", "user", {"/data": {}}) == tuple(
        config[k] for k in ("Env", "ExposedPorts", "Labels", "WorkingDir", "User", "Volumes"))
    assert {"Test": ["CMD-SHELL", "true"], "Interval": 3000000000} == config["Healthcheck"]
    assert "made here" in cli("history", "mine:2").out
    assert 0 == cli("import", "-", input=file.read_bytes()).code
    assert Said(1, "", f"open {tmp_path}/nope: no such file or directory\n") == cli("import", str(tmp_path / "nope"))
    assert Said(1, "", "Error: run is not a valid change command\n") == cli("import", "-c", "RUN x", str(file))


# -- images --------------------------------------------------------------------------------------------------------------


def test_images(cli: Cli) -> None:
    """One line a reference, Docker's columns."""
    id = Image.get("busybox:1").id
    assert Said(0, "", "") == cli("tag", "busybox:1", "localhost:5000/x/y")

    lines = cli("images").out.splitlines()
    assert re.fullmatch(r"REPOSITORY {11}TAG {7}IMAGE ID {7}CREATED( +)SIZE", lines[0])
    assert {"localhost:5000/x/y", "busybox"} == {line.split()[0] for line in lines[1:]}
    assert f"{id[7:19]}\n" == cli("images", "-q").out
    assert f"{id}\n" == cli("image", "ls", "-q", "--no-trunc").out
    assert "busybox:1\n" == cli("images", "--format", "{{.Repository}}:{{.Tag}}", "busybox").out
    assert "" == cli("images", "-q", "nope").out
    assert "" == cli("images", "-q", "--filter", "dangling=true").out
    body = json.loads(cli("images", "--format", "json", "busybox").out)
    assert ["Containers", "CreatedAt", "CreatedSince", "Digest", "ID", "Repository", "SharedSize", "Size", "Tag",
            "UniqueSize", "VirtualSize"] == list(body)


def test_rmi(cli: Cli) -> None:
    """A tag goes alone while there are others, the image with its last; not while a container uses it."""
    id = Image.get("busybox:1").id
    cli("tag", "busybox:1", "bb:2")
    assert Said(0, "Untagged: bb:2\n", "") == cli("rmi", "bb:2")
    cli("create", "--name", "one", "busybox:1")
    assert 1 == cli("rmi", "busybox:1").code
    cli("rm", "one")
    assert cli("rmi", "busybox:1").out.startswith(f"Untagged: busybox:1\nDeleted: {id}\n")
    missing = cli("rmi", "busybox:1")
    assert 1 == missing.code
    assert missing.err.startswith("Error: No such image: busybox:1")


def test_history(cli: Cli) -> None:
    """Docker's columns; the top has the image's id."""
    id = Image.get("busybox:1").id

    lines = cli("history", "busybox:1").out.splitlines()

    assert ["IMAGE", "CREATED", "CREATED BY", "SIZE", "COMMENT"] == re.split(r" {2,}", lines[0])
    assert lines[1].startswith(id[7:19])
    assert f"{id}\n" == cli("history", "-q", "--no-trunc", "busybox:1").out
    assert ["Comment", "CreatedAt", "CreatedBy", "CreatedSince", "ID", "Size"] == list(
        json.loads(cli("history", "--format", "json", "busybox:1").out))


# -- prune, system -------------------------------------------------------------------------------------------------------


def test_prune_asks(cli: Cli) -> None:
    """Without -f nothing goes unless the answer is yes."""
    id = cli("create", "--name", "one", "busybox:1").out
    question = "WARNING! This will remove all stopped containers.\nAre you sure you want to continue? [y/N] "

    assert Said(0, question, "") == cli("container", "prune")
    assert Said(0, question, "") == cli("container", "prune", input=b"n\n")
    said = cli("container", "prune", input=b"y\n")
    assert said.out == f"{question}Deleted Containers:\n{id}\nTotal reclaimed space: 0B\n"
    assert Said(0, "Total reclaimed space: 0B\n", "") == cli("container", "prune", "-f")


def test_system_prune(cli: Cli) -> None:
    """Stopped containers, and images without a tag; with -a, every image that nothing uses."""
    cli("run", "-d", "--name", "runs", "busybox:1", "sleep", "60")
    cli("create", "--name", "one", "busybox:1")

    said = cli("system", "prune")
    assert said.out.startswith("WARNING! This will remove:\n  - all stopped containers\n  - all dangling images\n")
    assert "Deleted Containers:\n" in cli("system", "prune", "-af").out
    assert ["runs"] == [c.name for c in Container.list(all=True)]
    cli("rm", "-f", "runs")
    assert "untagged: busybox:1\n" in cli("image", "prune", "-af").out
    assert [] == Image.list()


def test_system_df(cli: Cli) -> None:
    """What images and containers take, and what could be had back."""
    cli("run", "--name", "one", "busybox:1", "sh", "-c", "printf 12345 > /x")

    lines = cli("system", "df").out.splitlines()
    assert ["TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE"] == lines[0].split()
    assert ["Images", "1", "1"] == lines[1].split()[:3]
    assert ["Containers", "1", "0", "5B", "5B", "(100%)"] == lines[2].split()
    verbose = cli("system", "df", "-v").out
    assert "Images space usage:\n\nREPOSITORY" in verbose
    assert "Containers space usage:\n\nCONTAINER ID" in verbose
    assert ["Active", "Reclaimable", "Size", "TotalCount", "Type"] == list(
        json.loads(cli("system", "df", "--format", "json").out.splitlines()[0]))


def test_info_version_backends_doctor(cli: Cli) -> None:
    """They tell which backend works, and answer in JSON and templates."""
    assert " Backend:    memory\n" in cli("info").out
    assert json.loads(cli("system", "info", "-f", "json").out)
    assert "memory\n" == cli("version", "--format", "{{.Server.Backend}}").out
    assert "the memory backend" in cli("version").out
    assert re.search(r"^memory +yes", cli("backends").out, re.MULTILINE)
    doctor = cli("doctor")
    assert 0 == doctor.code
    assert "memory" in doctor.out
    assert any(b["Name"] == "memory" for b in json.loads(cli("doctor", "-f", "json").out)["Backends"])


# -- the program itself ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("argv", [["--help"], [], ["help"]])
def test_help_of_the_program(cli: Cli, argv: list[str]) -> None:
    """It lists every command once."""
    said = cli(*argv)

    assert 0 == said.code
    for name in ("run", "ps", "images", "container", "system", "doctor", "demo", "rmi", "import"):
        assert 1 == len(re.findall(rf"^  {name} +[A-Z]", said.out, re.MULTILINE))


def test_help_of_every_command(cli: Cli) -> None:
    """Every path and alias has a help text that names it."""
    from pycontainers.cli.main import COMMANDS
    from pycontainers.cli.main import GROUPS
    from pycontainers.cli.main import aliases

    for path in COMMANDS:
        for name in aliases(path):
            said = cli(*name.split(), "--help")
            assert (0, "") == (said.code, said.err)
            assert said.out.startswith(f"Usage:  pycontainers {name}")
    for group in GROUPS:
        assert cli(group).out.startswith(f"Usage:  pycontainers {group} COMMAND\n")


def test_what_the_program_does_not_know(cli: Cli) -> None:
    """Unknown commands and flags, in Docker's words."""
    assert Said(1, "", "pycontainers: unknown command: pycontainers nosuch\n\nRun 'pycontainers --help' for more "
                       "information\n") == cli("nosuch")
    assert cli("container", "nosuch").err.startswith("pycontainers: unknown command: pycontainers container nosuch\n")
    assert 125 == cli("--nosuch", "ps").code
    assert cli("-v").out.startswith("pycontainers version ")


def test_global_backend(cli: Cli) -> None:
    """`--backend` makes an engine of its own; one that isn't there is named."""
    assert 0 == cli("--backend", "memory", "ps").code
    missing = cli("--backend", "nosuch", "ps")
    assert 1 == missing.code
    assert "nosuch" in missing.err


def test_debug_shows_the_traceback(cli: Cli) -> None:
    """With --debug the error itself is raised."""
    with pytest.raises(LookupError):
        cli("--debug", "logs", "nope")


def test_a_closed_pipe_is_quiet(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """`pycontainers ... | head` says nothing when head is done."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as closed:
        monkeypatch.setattr("sys.stdout", closed)

        assert 141 == main(["images"])


def test_demo_needs_the_host_image(cli: Cli) -> None:
    """Where the machine can't be an image, the demo says so and does nothing."""
    said = cli("demo")

    assert 1 == said.code
    assert said.err.startswith("Error: the memory backend lacks HOST_IMAGE: the demo needs")
