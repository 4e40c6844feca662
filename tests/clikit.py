"""The installed program, as a user has it: on a store of its own, with and without a terminal."""

from __future__ import annotations

import os
import pty
import re
import struct
import subprocess
import sysconfig
import termios
import time
from collections.abc import Callable
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import ioctl
from pathlib import Path

from pycontainers import Container
from pycontainers import Engine

#: What pip installed.
COMMAND = (f"{sysconfig.get_path('scripts')}/pycontainers",)
PATIENCE = 20.0


class Program:
    """The command line on one store."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.command = COMMAND
        self.environment = {**os.environ, "PYCONTAINERS_ROOT": str(root), "PYCONTAINERS_BACKEND": "native"}

    def __call__(self, *argv: str, input: str = "") -> subprocess.CompletedProcess[str]:
        """Run it to its end."""
        return subprocess.run([*COMMAND, *argv], input=input, capture_output=True, text=True, check=False, cwd="/",
                              env=self.environment, timeout=60)

    def shell(self, line: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a line of shell in which `docker` is the program."""
        return subprocess.run(["bash", "-c", f'docker() {{ {COMMAND[0]} "$@"; }}\n{line}'], capture_output=True, text=True,
                              check=False, cwd="/", env={**self.environment, **variables}, timeout=60)

    def start(self, *argv: str, **how: int) -> subprocess.Popen[bytes]:
        """Start it."""
        return subprocess.Popen([*COMMAND, *argv], cwd="/", env=self.environment, **how)  # type: ignore[call-overload,no-any-return]

    def terminal(self, *argv: str) -> Terminal:
        """Start it on a terminal of its own."""
        return Terminal(self, argv)


class Terminal:
    """The program on a pseudo-terminal of 24 lines and 80 columns."""

    def __init__(self, program: Program, argv: tuple[str, ...]) -> None:
        self.master, self.slave = pty.openpty()
        self.resize(24, 80)
        self.before = termios.tcgetattr(self.slave)
        self.seen = ""
        self.process = subprocess.Popen([*COMMAND, *argv], stdin=self.slave, stdout=self.slave, stderr=self.slave, cwd="/",
                                        env={**program.environment, "PS1": "$ "}, start_new_session=True)
        os.set_blocking(self.master, False)

    def resize(self, rows: int, columns: int) -> None:
        """Give the terminal another size, as a window does."""
        ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text: str) -> None:
        """Type."""
        os.write(self.master, text.encode())

    def expect(self, pattern: str, patience: float = PATIENCE) -> re.Match[str]:
        """Wait until the pattern is on the screen, and forget everything up to its end."""
        deadline = time.monotonic() + patience
        while not (match := re.search(pattern, self.seen)):
            assert time.monotonic() < deadline, f"no {pattern!r} in {self.seen!r}"
            try:
                self.seen += os.read(self.master, 65536).decode(errors="replace")
            except BlockingIOError:
                time.sleep(0.01)
        self.seen = self.seen[match.end():]
        return match

    def end(self) -> int:
        """Wait for the program's end, check that the terminal is as it was, and return the exit code."""
        code = self.process.wait(PATIENCE)
        assert self.before == termios.tcgetattr(self.slave)
        self.close()
        return code

    def close(self) -> None:
        """Close the terminal."""
        for fd in (self.master, self.slave):
            os.close(fd)


@contextmanager
def own_program(root: Path) -> Iterator[Program]:
    """Give the program on a store of its own, and let nothing of it stay in the end."""
    made = Program(root)
    yield made
    engine = Engine("native", root=root)
    for container in Container.list(all=True, engine=engine):
        container.remove(force=True)
    engine.close()


def wait_until(true: Callable[[], object]) -> None:
    """Wait for something to become true."""
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)
