"""Ordinary users made for a test, and an interpreter with pycontainers that they may execute."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextlib import suppress
from pathlib import Path

import pytest
from attrs import frozen
from lifekit import make_rootfs
from lifekit import wait_until

import pycontainers
from pycontainers import _native
from pycontainers import backends

#: Subordinate ids in one range.
COUNT = 65536
#: What is in no need of being copied: programs of the build, and what only the interpreter's own tests take.
_LEFT = shutil.ignore_patterns("__pycache__", "test", "idlelib", "tkinter", "lib2to3", "config-*", "pip", "mypy", "mypyc",
                               "ruff", "sphinx", "nodejs*", "site-packages", "dist-packages")

#: What code of `Account.python` has at hand; it stands in the user's home.
PRELUDE = """
import os, signal, socket, stat, subprocess, sys, threading, time
from pathlib import Path
from pycontainers import *
home = Path.home()
root = home / "store"
def image(engine):
    return Image.get("box", engine=engine)
def say(*words):
    print(*words, flush=True)
def hear():
    return sys.stdin.readline().strip()
def raises(kind, call, *words):
    try:
        call()
    except kind as error:
        for word in words:
            assert word in str(error), (word, str(error))
        return error
    raise AssertionError(f"{kind.__name__} was not raised")
"""


@frozen
class Interpreter:
    """A Python that anyone may execute, and the paths of what it imports."""

    program: str
    paths: tuple[str, ...] = ()
    #: Where its own library lies, if that isn't where it looks for it.
    library: str = ""

    @property
    def environment(self) -> dict[str, str]:
        """What it needs."""
        return {"PYTHONPATH": os.pathsep.join(self.paths), "PYTHONSAFEPATH": "1",
                **({"LD_LIBRARY_PATH": self.library} if self.library else {})}


@frozen
class Account:
    """An ordinary user of this machine, with ranges of subordinate ids or without."""

    name: str
    uid: int
    gid: int
    home: Path
    ranges: bool
    interpreter: Interpreter

    @property
    def environment(self) -> dict[str, str]:
        """What the user's processes see."""
        return {"HOME": str(self.home), "USER": self.name, "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
                "LANG": "C.UTF-8", **self.interpreter.environment,
                **{name: value for name, value in os.environ.items() if name == "PYCONTAINERS_REQUIRE"}}

    def start(self, *argv: str, wrapper: tuple[str, ...] = ()) -> subprocess.Popen[str]:
        """Start the interpreter as the user; talk to it in lines. A wrapper is root's."""
        if wrapper:
            become = ("setpriv", f"--reuid={self.uid}", f"--regid={self.gid}", "--clear-groups")
            return subprocess.Popen([*wrapper, *become, self.interpreter.program, *argv], stdin=subprocess.PIPE,
                                    stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=self.home,
                                    env=self.environment)
        return subprocess.Popen([self.interpreter.program, *argv], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT, text=True, cwd=self.home, env=self.environment, user=self.uid,
                                group=self.gid, extra_groups=[])

    def run(self, *argv: str, timeout: float = 100) -> str:
        """Run the interpreter as the user to its good end; returns what it said."""
        process = self.start(*argv)
        try:
            out, _ = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            out, _ = process.communicate()
            raise AssertionError(f"not within {timeout} s:\n{out}") from None
        assert process.returncode == 0, out
        return out

    def python(self, code: str, *argv: str) -> str:
        """Run code after `PRELUDE` as the user, with an engine on the store in the home and its image as `Box`."""
        opened = 'engine = Engine("native", root=root)\nBox = image(engine)\n'
        return self.run("-c", PRELUDE + opened + code + "\nengine.close()\n", *argv)

    def talk(self, code: str, wrapper: tuple[str, ...] = ()) -> subprocess.Popen[str]:
        """As `python`, but only started: it says and hears lines."""
        opened = 'engine = Engine("native", root=root)\nBox = image(engine)\n'
        return self.start("-c", PRELUDE + opened + code, wrapper=wrapper)

    def processes(self) -> dict[int, str]:
        """Return what runs as the user, or as one of its subordinate ids, by pid; no zombies."""
        lines = subordinate("uid", self.name)
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                status = (folder / "status").read_text()
                match = re.search(r"^Uid:\t\d+\t(\d+)", status, re.MULTILINE)
                assert match
                uid = int(match[1])
                if (uid == self.uid or any(first <= uid <= last for first, last in lines)) and "State:\tZ" not in status:
                    found[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        return found


def subordinate(kind: str, name: str) -> list[tuple[int, int]]:
    """Return the first and last id of each range that /etc/subuid or /etc/subgid gives a user ("" for all users)."""
    with suppress(FileNotFoundError), open(f"/etc/sub{kind}") as file:
        lines = [line.strip().split(":") for line in file if line.count(":") == 2]
        return [(int(first), int(first) + int(count) - 1) for who, first, count in lines if name in ("", who)]
    return []


def take_ranges(name: str) -> None:
    """Take the subordinate ids from a user, of whom nothing may run."""
    for kind in ("uid", "gid"):
        for first, last in subordinate(kind, name):
            call("usermod", f"--del-sub{kind}s", f"{first}-{last}", name)


def give_ranges(name: str, first: int) -> None:
    """Give a user subordinate ids from `first` on."""
    for kind in ("uid", "gid"):
        call("usermod", f"--add-sub{kind}s", f"{first}-{first + COUNT - 1}", name)


def free_range() -> int:
    """Return where nobody's subordinate ids begin."""
    taken = subordinate("uid", "") + subordinate("gid", "")
    return max((last for _, last in taken), default=599_999_999) + 1


def call(*argv: str) -> None:
    """Run a program of the system; the files of accounts may be locked by another one for a moment, and a launcher that
    has nothing to do goes after 10 s."""
    for _ in range(150):
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return
        if "lock" not in done.stderr and "currently used" not in done.stderr:
            break
        time.sleep(0.1)
    raise AssertionError(f"{' '.join(argv)}: {done.stderr}")


def _unusable(interpreter: Interpreter) -> str:
    """Return why anyone can't execute it, "" if they can."""
    code = "import pycontainers.backends.native.backend, pytest, pytest_timeout"
    try:
        done = subprocess.run([interpreter.program, "-c", code], user=65534, group=65534, extra_groups=[], cwd="/", check=False,
                              env=interpreter.environment, capture_output=True, text=True)
    except OSError as error:
        return str(error)
    return done.stderr if done.returncode else ""


def _copied(folder: Path) -> Interpreter:
    """Copy what runs here to where anyone may read it: the interpreter too, if it lies in somebody's home."""
    libraries = folder / "libraries"
    shutil.copytree(sysconfig.get_path("purelib"), libraries, symlinks=True,
                    ignore=lambda path, names: {*_LEFT(path, names), *(n for n in names if n == "pycontainers")})
    # By their own paths: in an installation in place they lie in the sources.
    for package in (pycontainers, backends, _native):
        place = libraries / package.__name__.replace(".", "/")
        shutil.copytree(next(iter(package.__path__)), place, ignore=_LEFT, dirs_exist_ok=True)
    made = Interpreter(os.path.realpath(sys.executable), (str(libraries),))
    if _unusable(made):
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        shutil.copytree(f"{sys.base_prefix}/lib/{version}", folder / "lib" / version, ignore=_LEFT, symlinks=True)
        for library in Path(sys.base_prefix, "lib").glob("libpython*.so*"):
            shutil.copy2(library, folder / "lib")
        (folder / "bin").mkdir()
        shutil.copy2(made.program, folder / "bin" / version)
        made = Interpreter(str(folder / "bin" / version), made.paths, str(folder / "lib"))
    for path, folders, files in os.walk(folder):
        for name in (*folders, *files):
            if not os.path.islink(f"{path}/{name}"):
                os.chmod(f"{path}/{name}", os.stat(f"{path}/{name}").st_mode | (0o555 if name in folders else 0o444))
    return made


@contextmanager
def readable_folder() -> Iterator[Path]:
    """Give a directory that anyone may read; pytest's own are its user's alone."""
    folder = Path(tempfile.mkdtemp(prefix="pyctest-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@contextmanager
def own_interpreter() -> Iterator[Interpreter]:
    """Give an interpreter that anyone may execute."""
    here = Interpreter(sys.executable)
    if not _unusable(here):
        yield here
        return
    with readable_folder() as folder:
        made = _copied(folder)
        assert not _unusable(made), _unusable(made)
        yield made


@contextmanager
def own_account(interpreter: Interpreter, *, ranges: bool) -> Iterator[Account]:
    """Make a user with a root file system in `~/rootfs`, and remove the user in the end; nothing of it may run then."""
    name = f"pyct{os.getpid()}{'r' if ranges else 's'}"
    call("useradd", "--create-home", "--shell", "/bin/sh", name)
    try:
        take_ranges(name)
        if ranges:
            give_ranges(name, free_range())
        import pwd
        entry = pwd.getpwnam(name)
        account = Account(name, entry.pw_uid, entry.pw_gid, Path(entry.pw_dir), ranges, interpreter)
        make_rootfs(account.home / "rootfs")
        call("chown", "-Rh", f"{entry.pw_uid}:{entry.pw_gid}", str(account.home / "rootfs"))
        os.chmod(account.home / "rootfs/setuid/sleep", 0o4755)
        os.chmod(account.home / "rootfs/tmp", 0o1777)
        try:
            yield account
        finally:
            with suppress(AssertionError):
                wait_until(lambda: not account.processes(), 20)
            left = account.processes()
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, 9)
            assert not left, left
    finally:
        wait_until(lambda: _removed(name), 20)


def _removed(name: str) -> bool:
    done = subprocess.run(["userdel", "--remove", name], capture_output=True, text=True, check=False)
    # 6: no such user. 8: it is still logged in, which is what processes count as.
    return done.returncode in (0, 6)


def require_root() -> None:
    """Skip the module where no users can be made; fail where everything is demanded."""
    reason = ""
    if os.geteuid():
        reason = "only root can make users"
    for program in ("useradd", "usermod", "newuidmap", "setpriv"):
        if not reason and not shutil.which(program):
            reason = f"{program} is missing"
    if reason:
        assert not os.environ.get("PYCONTAINERS_REQUIRE"), reason
        pytest.skip(f"no ordinary users: {reason}", allow_module_level=True)
