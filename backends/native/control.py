"""A container's supervisor, as a client of it: watching, signals, execs, attaching."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from collections.abc import Iterator

from pycontainers._native._lib import lib as C
from pycontainers.backend import LogFrame
from pycontainers.backends.native.launcher import Answer
from pycontainers.backends.native.launcher import Connection
from pycontainers.backends.native.launcher import Gone
from pycontainers.backends.native.launcher import call
from pycontainers.backends.native.logs import follow_frames
from pycontainers.backends.native.record import Record
from pycontainers.backends.native.record import parse_record


def ask(root_fd: int, directory: str, kind: int, flags: int = 0, *, a: int = 0, b: int = 0, c: int = 0) -> Answer:
    """Ask a supervisor one thing. Raises `Gone` where there is none (any more)."""
    answer, connection = call(root_fd, f"{directory}/ctl.sock", kind, flags, a=a, b=b, c=c)
    connection.close()
    assert answer is not None
    return answer


class Watch:
    """A long poll of a supervisor: each `next` returns the record once it differs from the last one."""

    def __init__(self, root_fd: int, directory: str) -> None:
        """Name the container; the first `next` connects."""
        self._root_fd = root_fd
        self._path = f"{directory}/ctl.sock"
        self._connection: Connection | None = None
        self._sequence = -1
        self._asked = False
        self._closed = False

    def next(self, timeout: float | None = None, log_known: int = -1) -> Record | None:
        """Return the record once it, or (from `log_known` on) the log, has changed; None when time is up.

        Raises `Gone` when the supervisor has ended, or after `close`.
        """
        if self._closed:
            raise Gone("closed")
        if self._connection is None:
            answer, self._connection = call(self._root_fd, self._path, C.PYC_REQ_WATCH, a=log_known, b=self._sequence,
                                            timeout=timeout)
        else:
            if not self._asked:
                self._connection.send(C.PYC_REQ_WATCH, a=log_known, b=self._sequence)
            answer = self._connection.receive(timeout)
        self._asked = answer is None
        if answer is None:
            return None
        answer.close()
        record = parse_record(answer.record)
        self._sequence = record.sequence
        return record

    def close(self) -> None:
        """End it; wakes a thread inside `next`. Idempotent."""
        self._closed = True
        if self._connection is not None:
            self._connection.close()


def pid_of(pidfd: int) -> int:
    """Return the pid behind a pidfd as this process's /proc counts, 0 if it ended."""
    with open(f"/proc/self/fdinfo/{pidfd}") as file:
        for line in file:
            if line.startswith("Pid:"):
                return max(0, int(line[4:]))
    return 0


class Exec:
    """A running exec, by its connection to the supervisor; see `pycontainers.backend.Process`."""

    def __init__(self, connection: Connection, pidfd: int, terminal: int) -> None:
        """Take over connection and descriptors."""
        self._connection = connection
        self._pidfd = pidfd
        self.terminal = terminal
        self._pid: int | None = None
        self._code: int | None = None
        self._lock = threading.Lock()

    @property
    def pid(self) -> int:
        """The first process's pid in this process's namespace; 0 if it ended before anyone asked."""
        pidfd = self._pidfd
        if self._pid is None:
            self._pid = pid_of(pidfd) if pidfd >= 0 else 0
        return self._pid

    def fileno(self) -> int:
        """Return a descriptor that is readable once the exec has ended."""
        return self._connection.fileno()

    def wait(self, timeout: float | None = None) -> int | None:
        """Return Docker's exit code; None when time is up."""
        deadline = None if timeout is None else time.monotonic() + timeout
        if not self._lock.acquire(timeout=-1 if timeout is None else max(0.0, timeout)):
            return None
        try:
            if self._code is None:
                left = None if deadline is None else max(0.0, deadline - time.monotonic())
                try:
                    answer = self._connection.receive(left)
                except Gone:
                    self._code = 137
                else:
                    if answer is None:
                        return None
                    self._code = answer.exit_code
            return self._code
        finally:
            self._lock.release()

    def signal(self, number: int) -> None:
        """Send a signal to the first process."""
        self._tell(C.PYC_REQ_EXEC_SIGNAL, number)

    def kill(self) -> None:
        """Kill the whole tree."""
        self._tell(C.PYC_REQ_EXEC_KILL, int(signal.SIGKILL))

    def _tell(self, kind: int, number: int) -> None:
        if self._code is None:
            try:
                self._connection.send(kind, a=number)
            except Gone:
                return

    def close(self) -> None:
        """Release the handle."""
        self._connection.close()
        with self._lock:
            if self.terminal >= 0:
                os.close(self.terminal)
                self.terminal = -1
            if self._pidfd >= 0:
                os.close(self._pidfd)
                self._pidfd = -1


class Attached:
    """A hold on a container's streams; see `pycontainers.backend.Attachment`."""

    def __init__(self, root_fd: int, directory: str, log: int, more: Callable[[int], bool], stop: Callable[[], None], *,
                 gap: Callable[[int], Iterator[LogFrame]], stdin: bool, start: int) -> None:
        """Attach: takes over the log's descriptor; `more(cursor)` waits for output, `stop` wakes it; `gap` marks a loss."""
        self._root_fd, self._directory = root_fd, directory
        self._log = log
        self._more, self._stop, self._gap = more, stop, gap
        self._start = start
        self._wanted = stdin
        self._stdin = -1
        self._tty = False
        self._lock = threading.Lock()

    @property
    def stdin(self) -> int:
        """Write end of the container's stdin or its terminal's master; -1 if it has none, or does not run yet."""
        with self._lock:
            if self._wanted:
                try:
                    answer = ask(self._root_fd, self._directory, C.PYC_REQ_STDIN)
                    self._stdin = answer.take_fd()
                    self._tty = bool(answer.flags & 1)
                    self._wanted = False
                except Gone:
                    pass
            return self._stdin

    @property
    def tty(self) -> bool:
        """True when `stdin` is a terminal's master."""
        return self.stdin >= 0 and self._tty

    def frames(self) -> Iterator[LogFrame]:
        """Yield output until the container ends."""
        cursor = self._start
        for frame in follow_frames(self._log, self._start, self._more):
            cursor = frame.cursor
            yield frame
        yield from self._gap(cursor)

    def close_stdin(self) -> None:
        """Half-close."""
        if self.tty:
            return
        self._drop_stdin()
        try:
            ask(self._root_fd, self._directory, C.PYC_REQ_CLOSE_STDIN)
        except Gone:
            pass

    def _drop_stdin(self) -> None:
        with self._lock:
            self._wanted = False
            if self._stdin >= 0:
                os.close(self._stdin)
                self._stdin = -1

    def close(self) -> None:
        """Detach."""
        self._stop()
        self._drop_stdin()

    def __del__(self) -> None:
        """Give the log back."""
        try:
            os.close(self._log)
        except OSError:
            pass
