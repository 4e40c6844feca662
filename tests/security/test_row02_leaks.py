"""Row 2: no descriptor or directory of the host's gets into a container, and nobody inside catches whoever enters
(CVE-2024-21626, CVE-2016-9962)."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from securitykit import DEFAULT_CAPABILITIES
from securitykit import require_root

from pycontainers import Container
from pycontainers import Engine
from pycontainers import Image
from pycontainers.errors import ContainersError
from pycontainers.spec import ImageConfig

require_root()

#: Says where it is, and whether the way up ends at the image's own root.
WHERE = "readlink /proc/self/cwd; cd ../../../../../../../../..; test -f marker && echo inside"
PLACES = [*(f"/proc/self/fd/{n}" for n in range(3, 65)), *(f"/proc/1/fd/{n}" for n in range(3, 20)), "/dev/fd/7",
          "/proc/self/cwd", "/proc/1/root/../..", "/proc/thread-self/cwd", "/link", "/proc/self/fd/7/../..",
          "/proc/self/root/..", "/work"]


@pytest.fixture
def leaks(tmp_path: Path) -> Iterator[list[int]]:
    """Directories of the host's that the caller has open, inheritable, on many numbers."""
    fds = [os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY) for _ in range(40)]
    for fd in fds:
        os.set_inheritable(fd, True)
    yield fds
    for fd in fds:
        os.close(fd)


def refused_or_inside(told: str | None) -> bool:
    """Judge an answer of `WHERE`; None for a start that was refused."""
    return told is None or bool(re.fullmatch(r"/.*\ninside\n", told))


def answer(container_or_image: Container | type[Container], call: str, *command: str, **options: str) -> str | None:
    """Run or enter; None if it was refused."""
    try:
        return str(getattr(container_or_image, call)(*command, **options).stdout)
    except ContainersError:
        return None


def test_no_workdir_of_an_image_leads_out(engine: Engine, rootfs: Path, leaks: list[int]) -> None:
    """CVE-2024-21626: no working directory in an image's config is a directory of the host."""
    link = rootfs / "link"
    link.symlink_to("/proc/self/fd/7")
    told = {}
    for place in PLACES:
        image = Image.import_rootfs(rootfs, "evil", engine=engine, config=ImageConfig(workdir=place)) if place in (
            "/link", "/proc/self/fd/7") else None
        if image is not None:
            told["image " + place] = answer(image, "run", "sh", "-c", WHERE)
    plain = Image.import_rootfs(rootfs, "plain", engine=engine)
    for place in PLACES:
        told[place] = answer(plain, "run", "sh", "-c", WHERE, workdir=place)
    link.unlink()
    assert not {place: text for place, text in told.items() if not refused_or_inside(text)}
    assert told["/proc/self/fd/7"] is None
    assert told["/work"] is not None


def test_no_workdir_of_an_exec_leads_out(box: type[Container], leaks: list[int]) -> None:
    """CVE-2024-21626's second form: nor is one that an exec asks for."""
    for options in ({}, {"cap_add": ["SYS_PTRACE"]}):
        with box("sleep", "60", **options) as container:  # type: ignore[arg-type]
            container.exec("ln", "-s", "/proc/self/fd/7", "/link")
            told = {place: answer(container, "exec", "sh", "-c", WHERE, workdir=place) for place in PLACES}
            assert not {place: text for place, text in told.items() if not refused_or_inside(text)}
            assert told["/proc/self/fd/7"] is None
            assert told["/work"] is not None


def test_a_leaked_directory_would_show(rootfs: Path, leaks: list[int]) -> None:
    """So that the tests above can fail: the same question asked with a leak, in a plain chroot."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.dup2(write, 1)
        os.chroot(rootfs)
        os.fchdir(leaks[0])
        os.execv("/bin/sh", ["sh", "-c", WHERE.replace("readlink /proc/self/cwd", "pwd")])
    os.close(write)
    with open(read) as file:
        told = file.read()
    os.waitpid(pid, 0)
    assert not refused_or_inside(told), told


def test_only_the_standard_streams_are_open_inside(box: type[Container], leaks: list[int], tmp_path: Path) -> None:
    """A container's processes have three open files, whatever the options and the caller's own open files."""
    listing = "ls /proc/1/fd; ls /proc/$$/fd; true"
    for options in ({}, {"init": True}, {"cap_add": ["SYS_PTRACE"]}, {"privileged": True},
                    {"volumes": {str(tmp_path): "/data"}}, {"stdin_open": True}, {"read_only": True}, {"network": "host"}):
        assert box.run("sh", "-c", "ls /proc/$$/fd; true", **options).stdout.split() == ["0", "1", "2"], options  # type: ignore[arg-type]
        with box("sleep", "60", **options) as container:  # type: ignore[arg-type]
            told = container.exec("sh", "-c", listing).stdout
            assert told.split() == ["0", "1", "2"] * 2, (options, told)
    with box("sleep", "60", tty=True) as container:
        assert container.exec("ls", "/proc/1/fd").stdout.split() == ["0", "1", "2"]


def test_a_leaked_descriptor_would_show(leaks: list[int]) -> None:
    """So that the test above can fail: a child that inherits them lists them."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.dup2(write, 1)
        os.execv("/bin/sh", ["sh", "-c", "ls /proc/$$/fd; true"])
    os.close(write)
    with open(read) as file:
        assert len(file.read().split()) > 40
    os.waitpid(pid, 0)


def hunted(container: Container, seconds: float = 2.0, **options: str) -> tuple[str, int]:
    """Enter a container again and again while a process of it goes for whoever enters."""
    stop = threading.Event()
    entered = [0]

    def enter() -> None:
        while not stop.is_set():
            container.exec("true", **options)  # type: ignore[call-overload]
            entered[0] += 1

    thread = threading.Thread(target=enter)
    thread.start()
    try:
        told = container.exec("probe", "hunt", str(seconds), "pycontainers").stdout
    finally:
        stop.set()
        thread.join()
    return told, entered[0]


def test_nobody_traces_an_entering_process(box: type[Container]) -> None:
    """CVE-2016-9962: a process that enters can't be traced from inside."""
    with box("sleep", "60") as container:
        for options in ({}, {"user": "user"}):
            told, entered = hunted(container, **options)
            assert entered > 1
            assert re.search(r"^seen \d+ traced 0 stolen 0 read 0", told, re.M), told


def test_who_may_trace_finds_no_more_than_the_container_has(box: type[Container]) -> None:
    """With SYS_PTRACE the kernel lets it trace: what it gets hold of has the container's own rights and no descriptor."""
    # SYS_PTRACE beside the default ones.
    allowed = int(DEFAULT_CAPABILITIES, 16) | 1 << 19
    with box("sleep", "60", cap_add=["SYS_PTRACE"]) as container:
        told, entered = hunted(container, 3.0)
        assert entered > 1
        assert "stolen 0" in told, told
        assert "descriptor" not in told, told
        for capabilities, mode in re.findall(r"^traced capabilities (\S+) filter (\d)", told, re.M):
            assert int(capabilities, 16) & ~allowed == 0, told
            assert mode == "2", told


def test_the_hunter_catches_what_is_not_protected(box: type[Container]) -> None:
    """So that the tests above can fail: the same hunter takes hold of a process of the container's own."""
    with box("sh", "-c", "exec 5< /marker; sleep 60 & wait", cap_add=["SYS_PTRACE"]) as container:
        container.exec("sh", "-c", "until pidof sleep; do sleep 0.01; done")
        told = container.exec("probe", "hunt", "0.2", "sleep").stdout
        assert "stole /marker" in told, told
        assert re.search(r"^seen [1-9]\d* traced [1-9]", told, re.M), told
