"""Row 1: nothing of the host's that runs a container can be written through /proc/PID/exe (CVE-2019-5736)."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

from securitykit import digests
from securitykit import require_root

import pycontainers._native as native
from pycontainers import Container
from pycontainers import Engine
from pycontainers import Image
from pycontainers.errors import ContainersError

require_root()


def host_files() -> list[str]:
    """Return what a container's start has to do with on the host: Python, all that it has mapped, and the helper."""
    helper = Path(native.__file__ or "").parent / "pycontainers-launcher"
    with open("/proc/self/maps") as file:
        mapped = {line.split(None, 5)[5].strip() for line in file if line.count("/") and "r-xp" in line}
    return sorted({os.path.realpath(sys.executable), str(helper), *(path for path in mapped if os.path.isfile(path))})


def script(rootfs: Path, name: str, text: str) -> None:
    """Write an executable file into the image."""
    (rootfs / name).write_text(text)
    (rootfs / name).chmod(0o755)


def enter_often(container: Container, stop: threading.Event, entered: list[int], *command: str) -> None:
    """Enter it again and again; a hostile command may fail, with an error of ours."""
    while not stop.is_set():
        try:
            container.exec(*command)
        except ContainersError:
            pass
        entered[0] += 1


def attack(container: Container, seconds: float, *command: str, name: str = "pycontainers") -> tuple[str, int]:
    """Let a process of the container go for whoever enters; return what it says, and how many entered."""
    stop = threading.Event()
    entered = [0]
    enter = threading.Thread(target=enter_often, args=(container, stop, entered, *command))
    enter.start()
    try:
        told = container.exec("probe", "hunt", str(seconds), name, "write").stdout
    finally:
        stop.set()
        enter.join()
    return told, entered[0]


def test_an_entrypoint_of_proc_self_exe_changes_nothing_of_the_host(engine: Engine, rootfs: Path) -> None:
    """CVE-2019-5736's first form: the image's entrypoint is whatever runs it."""
    script(rootfs, "again", "#!/proc/self/exe\n")
    evil = Image.import_rootfs(rootfs, "evil", engine=engine)
    files = host_files()
    assert len(files) > 3
    before = digests(files)
    for options in ({}, {"init": True}, {"cap_add": ["SYS_PTRACE"]}):
        for _ in range(5):
            try:
                assert evil.run("/again", **options, check=False).returncode != 0  # type: ignore[arg-type]
            except ContainersError:
                pass
    # A link to the running program as the command, and as a script's interpreter.
    with evil("sleep", "60", init=True) as container:
        for command in ("/again", "/proc/self/exe", "/proc/1/exe"):
            try:
                container.exec(command)
            except ContainersError:
                pass
    assert digests(files) == before


def test_a_racer_at_proc_pid_exe_writes_into_no_program_of_ours(engine: Engine, rootfs: Path) -> None:
    """CVE-2019-5736's second form: a process inside opens every process's program while execs enter."""
    script(rootfs, "again", "#!/proc/self/exe\n")
    evil = Image.import_rootfs(rootfs, "evil", engine=engine)
    before = digests(host_files())
    for options in ({}, {"cap_add": ["SYS_PTRACE"]}, {"init": True}):
        with evil("sleep", "60", **options) as container:  # type: ignore[arg-type]
            for command in (["/again"], ["true"]):
                told, entered = attack(container, 1.0, *command)
                assert entered > 1
                assert " written 0" in told, told
            # The helper program runs in the container as its first process: for reading only.
            if options.get("init"):
                told = container.exec("sh", "-c", "readlink /proc/1/exe; printf x >> /proc/1/exe || echo refused").stdout
                assert "memfd:pycontainers" in told
                assert "refused" in told
    assert digests(host_files()) == before


def test_the_racer_does_write_into_a_program_of_the_containers_own(box: type[Container]) -> None:
    """So that the two tests above can fail: the same racer, and a program that is not out of its reach."""
    with box("sleep", "60") as container:
        container.exec("cp", "/bin/busybox", "/tmp/sleep")
        # On a busy machine the racer may not have its turn while the program is running.
        for _ in range(5):
            told, _ = attack(container, 2.0, "/tmp/sleep", "0.005", name="sleep")
            if "overwrote /tmp/sleep" in told:
                break
        assert "overwrote /tmp/sleep" in told, told
        assert container.exec("head", "-c", "11", "/tmp/sleep").stdout == "#!/tmp/evil"
