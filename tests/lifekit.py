"""A native store of a test's own with a busybox image, other processes that use it, and a search for what is left of it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from collections.abc import Iterator
from contextlib import contextmanager
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import pytest
from storekit import left_over
from storekit import open_store

from pycontainers import Container
from pycontainers import Engine
from pycontainers import Image
from pycontainers import list_backends

PATIENCE = 20.0
#: True where a race, storm or sweep shall have its whole size.
SOAK = bool(os.environ.get("PYCONTAINERS_SOAK"))

#: What a process started by `Store.python` has at hand.
PRELUDE = """
import os, signal, socket, subprocess, sys, threading, time
from pycontainers import Container, Engine, Image
engine = Engine("native", root=sys.argv[1])
Box = Image.get("box", engine=engine)
def say(*words):
    print(*words, flush=True)
def hear():
    return sys.stdin.readline().strip()
"""


def require_native() -> None:
    """Skip the module where there is no native backend; fail where everything is demanded."""
    reason = next((b.reason for b in list_backends() if b.name == "native"), "it isn't installed")
    if reason:
        assert not os.environ.get("PYCONTAINERS_REQUIRE"), reason
        pytest.skip(f"no native backend: {reason}", allow_module_level=True)


def wait_until(true: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Look every few ms until something is true: for what no event tells."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.005)


def make_rootfs(folder: Path) -> Path:
    """Fill a directory with a root file system of busybox, one copy of it set-user-ID."""
    program = shutil.which("busybox")
    assert program
    for name in ("bin", "dev", "etc", "proc", "sys", "tmp"):
        (folder / name).mkdir(parents=True)
    shutil.copy(program, folder / "bin/busybox")
    for applet in subprocess.run([program, "--list"], capture_output=True, text=True, check=True).stdout.split():
        with suppress(FileExistsError):
            (folder / "bin" / applet).symlink_to("busybox")
    (folder / "setuid").mkdir()
    shutil.copy(program, folder / "setuid/sleep")
    (folder / "setuid/sleep").chmod(0o4755)
    (folder / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\nuser:x:1000:1000::/:/bin/sh\n")
    (folder / "etc/group").write_text("root:x:0:\nuser:x:1000:\n")
    return folder


class Store:
    """A store with an image `box`, as this process and others use it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.engine = Engine("native", root=root)
        #: Cgroups of this store begin so.
        self.tag = sha256(os.fsencode(str(root))).hexdigest()[:8] + "-"
        self._others: list[subprocess.Popen[str]] = []

    @property
    def box(self) -> type[Container]:
        """The image."""
        return Image.get("box", engine=self.engine)

    def python(self, code: str, *wrapper: str) -> subprocess.Popen[str]:
        """Start another process on the same store, which runs code after `PRELUDE`; talk to it in lines."""
        other = subprocess.Popen([*wrapper, sys.executable, "-c", PRELUDE + code, str(self.root)], stdin=subprocess.PIPE,
                                 stdout=subprocess.PIPE, text=True, cwd="/")
        self._others.append(other)
        return other

    def end_others(self) -> None:
        """End the processes that `python` started."""
        while self._others:
            other = self._others.pop()
            other.kill()
            other.wait()
            for stream in (other.stdin, other.stdout):
                if stream is not None:
                    stream.close()

    def processes(self) -> dict[int, str]:
        """Return our helper processes that work in this store, by pid: launchers, supervisors, jobs."""
        found = {}
        here = os.stat(self.root)
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                name = (folder / "comm").read_text().strip()
                if name.startswith("pycontainers-"):
                    there = os.stat(folder / "cwd")
                    if (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino):
                        found[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
        return found

    def launchers(self) -> list[int]:
        """Return the pids of the launchers."""
        return [pid for pid, title in self.processes().items() if title.startswith("pycontainers-launcher")]

    def supervisor(self, id: str) -> int:
        """Return the pid of a container's supervisor, 0 if there is none."""
        return next((pid for pid, title in self.processes().items() if title.startswith(f"pycontainers-supervisor {id}")), 0)

    def cgroups(self) -> set[str]:
        """Return the cgroups of this store's containers."""
        found = set()
        for top in ("/sys/fs/cgroup", *map(str, Path("/sys/fs/cgroup").glob("*"))):
            with suppress(OSError):
                names = os.listdir(f"{top}/pycontainers")
                found |= {f"{top}/pycontainers/{name}" for name in names if name.startswith(self.tag)}
        return found

    def left(self) -> dict[str, object]:
        """Return what is where it should not be, once no container of this store runs."""
        found: dict[str, object] = dict(left_over(open_store(self.root)))
        found["processes"] = {pid: title for pid, title in self.processes().items() if "launcher" not in title}
        found["payloads"] = payloads(str(self.root))
        found["cgroups"] = self.cgroups()
        with open("/proc/self/mountinfo") as file:
            found["mounts"] = [line for line in file if str(self.root) in line]
        return {kind: things for kind, things in found.items() if things}

    def check_clean(self) -> None:
        """Check that nothing of ended containers is left, after one use of the store."""
        Container.list(all=True, engine=self.engine)
        with suppress(AssertionError):
            wait_until(lambda: not self.left(), 2)
        left = self.left()
        assert not left, left


def payloads(mark: str) -> set[int]:
    """Return the pids of processes, inside containers or not, whose environment says `STORE=mark`."""
    found = set()
    wanted = f"STORE={mark}".encode()
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if wanted in (folder / "environ").read_bytes().split(b"\0"):
                found.add(int(folder.name))
    return found


@contextmanager
def own_store(folder: Path) -> Iterator[Store]:
    """Give a store, and let nothing of it stay in the end."""
    store = Store(folder / "store")
    Image.import_rootfs(make_rootfs(folder / "rootfs"), "box", engine=store.engine)
    try:
        yield store
    finally:
        for container in Container.list(all=True, engine=store.engine):
            container.remove(force=True)
        store.engine.close()
        wait_until(lambda: not store.processes())


def die(process: subprocess.Popen[str]) -> None:
    """Kill a process as nothing survives it, and reap it."""
    process.kill()
    process.wait()


def finish(process: subprocess.Popen[str], timeout: float = 60) -> str:
    """Wait for a process that shall end well; returns what it still said."""
    out, _ = process.communicate(timeout=timeout)
    assert process.returncode == 0, out
    return out


def heard(process: subprocess.Popen[str]) -> str:
    """Return the next line that a process says."""
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, f"it ended with {process.wait()}"
    return line.strip()
