"""A whole Debian, made by debootstrap: imported, run, worked in, watched and stopped through the installed program."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from clikit import Program
from clikit import own_program
from clikit import wait_until

from pycontainers import Engine
from pycontainers import Image

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

PROMPT = r"root@([0-9a-f]{12}):/# "
APT_PATIENCE = 600.0
#: Kind, mode and owner of everything, and the text of links.
LISTING = "find / -xdev \\( -path /proc -o -path /sys -o -path /dev \\) -prune -o -printf '%y %m %U:%G %p %l\\n' | sort"


@pytest.fixture(scope="module")
def program(debian_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    """The program on a store with Debian, imported from a directory (`debian`) and from a tar (`debian:tar`)."""
    with own_program(tmp_path_factory.mktemp("debian") / "store") as program:
        engine = Engine("native", root=program.root)
        Image.import_rootfs(debian_root, "debian", engine=engine)
        engine.close()
        packed = subprocess.Popen(["tar", "-C", str(debian_root), "-c", "."], stdout=subprocess.PIPE)
        assert packed.stdout is not None
        done = subprocess.run([*program.command, "import", "-", "debian:tar"], stdin=packed.stdout, capture_output=True,
                              text=True, check=False, env=program.environment, timeout=300)
        packed.stdout.close()
        assert (0, 0) == (packed.wait(), done.returncode), done.stderr
        assert re.fullmatch(r"sha256:[0-9a-f]{64}\n", done.stdout)
        yield program


@pytest.fixture(autouse=True)
def empty(program: Program) -> Iterator[None]:
    """Each test begins without containers."""
    yield
    ids = program("ps", "-aq").stdout.split()
    if ids:
        assert 0 == program("rm", "-f", *ids).returncode


def test_a_directory_and_its_tar_are_one_system(program: Program, debian_root: Path) -> None:
    """Whichever way it was imported: every file is there, with kind, mode, owner and link."""
    own = subprocess.run(["chroot", str(debian_root), "sh", "-c", LISTING], capture_output=True, text=True, check=True).stdout
    one, other = (program("run", "--rm", image, "sh", "-c", LISTING).stdout for image in ("debian", "debian:tar"))

    # What every container has of its own.
    made = re.compile(r". \d+ \d+:\d+ /(etc/(hosts|hostname|resolv\.conf|mtab))? .*")
    listed = [[line for line in text.splitlines() if not made.fullmatch(line)] for text in (one, other, own)]
    assert listed[0] == listed[1] == listed[2]
    assert " 4755 0:0 /usr/bin/passwd" in one
    assert len(one.splitlines()) > 5000
    sizes = program("images", "--format", "{{.Tag}} {{.Size}}").stdout.splitlines()
    assert {"latest", "tar"} == {line.split()[0] for line in sizes}
    assert 1 == len({line.split()[1] for line in sizes})


def test_a_shell_with_job_control(program: Program) -> None:
    """The prompt names the container; jobs stop, go on and are interrupted; the window's size is known and followed."""
    shell = program.terminal("run", "-it", "debian", "/bin/bash")
    id = shell.expect(PROMPT)[1]
    assert [id, "debian", '"/bin/bash"'] == program("ps", "--format", "{{.ID}} {{.Image}} {{.Command}}").stdout.split()
    shell.type("stty size\n")
    shell.expect(r"24 80\s")
    shell.resize(40, 120)
    os.kill(shell.process.pid, signal.SIGWINCH)
    shell.type("sleep 0.2; stty size\n")
    shell.expect(r"40 120\s")

    # Once echo has run, the terminal is as cat finds it, no longer as bash edits its line.
    shell.type("echo on; cat\n")
    shell.expect(r"\son\s")
    shell.type("hello\n")
    shell.expect(r"hello\s+hello")
    shell.type("\x1a")
    shell.expect(r"\[1\]\+ +Stopped +cat")
    shell.type("fg\n")
    shell.expect(r"cat\s")
    shell.type("\x04")
    shell.expect(PROMPT)
    shell.type("sleep 100 &\n")
    shell.expect(r"\[1\] \d+")
    shell.type("jobs; kill %1; wait %1; echo ended: $?\n")
    shell.expect(r"\[1\]\+ +Running +sleep 100 &")
    shell.expect(r"ended: 143\s")
    shell.type("ps -a; tty\n")
    shell.expect(r"PID TTY +TIME CMD")
    shell.expect(r"pts/0 +00:00:00 ps\s")
    shell.expect(r"/dev/pts/0\s")
    shell.type("exit 6\n")

    assert 6 == shell.end()
    assert re.fullmatch(r"Exited \(6\) .* ago\n", program("ps", "-a", "--format", "{{.Status}}").stdout)
    again = program.terminal("start", "-ai", id)
    assert id == again.expect(PROMPT)[1]
    again.type("exit\n")
    assert 0 == again.end()


def test_apt_in_a_container(program: Program) -> None:
    """`apt-get install` works inside with the host's network; diff, logs, export and another start show what it did."""
    shell = program.terminal("run", "-it", "--network", "host", "--name", "cow", "debian", "/bin/bash")
    shell.expect(PROMPT)
    shell.type("apt-get update && apt-get install -y cowsay; echo installed: $?\n")
    shell.expect(r"installed: 0\s", APT_PATIENCE)
    shell.type("/usr/games/cowsay Salut\n")
    shell.expect(r"< Salut >")
    shell.type("exit\n")
    assert 0 == shell.end()

    changes = program("diff", "cow").stdout.splitlines()
    assert {"C /var", "C /var/lib/dpkg/status", "A /usr/games/cowsay", "A /usr/share/cowsay"} <= set(changes)
    assert [line[2:] for line in changes] == sorted(line[2:] for line in changes)
    assert "< Salut >" in program("logs", "cow").stdout
    assert "" == program("diff", program("create", "debian", "true").stdout.strip()).stdout
    packed = subprocess.run(f"{program.command[0]} export cow | tar -t", shell=True, capture_output=True, text=True,
                            check=True, env=program.environment, cwd="/")
    assert {"usr/games/cowsay", "etc/debian_version"} <= set(packed.stdout.splitlines())

    again = program.terminal("start", "-ai", "cow")
    again.expect(PROMPT)
    again.type("/usr/games/cowsay Encore; exit\n")
    again.expect("< Encore >")
    assert 0 == again.end()
    assert re.search("< Salut >.*< Encore >", program("logs", "cow").stdout, re.DOTALL)


def test_start_i_says_it_again(program: Program) -> None:
    """An ended container runs again with its command, and its log goes on."""
    name = "vibrant_swanson"
    assert "Salut\n" == program("run", "--name", name, "debian", "/bin/echo", "Salut").stdout
    assert ["Salut\n"] * 2 == [program("start", "-i", name).stdout for _ in range(2)]
    assert "Salut\n" * 3 == program("logs", name).stdout
    assert f"{name}\n" == program("rm", name).stdout
    assert f"Error: No such container: {name}\n" == program("logs", name).stderr


def test_pause_stop_and_kill(program: Program) -> None:
    """A paused container does nothing until it goes on; stop asks first, kill doesn't."""
    count = "trap 'echo asked; exit 7' TERM; while :; do echo tick; sleep 0.05; done"
    program("run", "-d", "--name", "clock", "debian", "bash", "-c", count)
    wait_until(lambda: "tick" in program("logs", "clock").stdout)

    assert "clock\n" == program("pause", "clock").stdout
    assert re.fullmatch(r"Up .* \(Paused\)\n", program("ps", "--format", "{{.Status}}").stdout)
    before = program("logs", "clock").stdout
    time.sleep(0.5)
    assert before == program("logs", "clock").stdout
    refused = program("exec", "clock", "true")
    assert 1 == refused.returncode
    assert "is paused, unpause the container before exec" in refused.stderr
    assert "clock\n" == program("unpause", "clock").stdout
    wait_until(lambda: len(program("logs", "clock").stdout) > len(before))

    assert "clock\n" == program("stop", "clock").stdout
    assert "7\n" == program("wait", "clock").stdout
    assert program("logs", "clock").stdout.endswith("asked\n")
    assert "clock\n" == program("start", "clock").stdout
    assert "clock\n" == program("kill", "clock").stdout
    assert re.fullmatch(r"Exited \(137\) .* ago\n", program("ps", "-a", "--format", "{{.Status}}").stdout)
    assert (1, "") == (program("kill", "clock").returncode, program("kill", "clock").stdout)


def test_exec_beside_it(program: Program) -> None:
    """`exec -it` is another terminal of the same container, and `top` sees what runs in both."""
    program("run", "-d", "--name", "nap", "debian", "sleep", "100")
    shell = program.terminal("exec", "-it", "nap", "/bin/bash")
    shell.expect(PROMPT)
    shell.type("cat /proc/1/cmdline | tr '\\0' ' '; echo; ps -a\n")
    shell.expect(r"sleep 100\s")
    shell.expect(r"pts/0 +00:00:00 ps\s")
    assert {"sleep 100", "/bin/bash"} <= set(re.findall(r"sleep 100|/bin/bash", program("top", "nap").stdout))
    shell.type("exit 4\n")

    assert 4 == shell.end()
    assert "nap\n" == program("rm", "-f", "nap").stdout
