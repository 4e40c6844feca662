"""Processes in memory: threads that can be signalled, paused and killed while they sleep, read or write."""

from __future__ import annotations

import errno
import itertools
import os
import select
import signal
import stat
import threading
import time
from collections.abc import Callable
from typing import Protocol

from pycontainers.backends.memory.tree import Tree
from pycontainers.errors import CommandNotExecutable
from pycontainers.errors import CommandNotFound

_CHUNK = 1 << 16
#: A write of that size to a pipe that is ready for one never blocks (POSIX: PIPE_BUF).
_SAFE_WRITE = 4096 if os.name == "posix" else 512
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_IGNORED = {signal.SIGCHLD, signal.SIGCONT, signal.SIGURG, signal.SIGWINCH}
MAGIC = b"#!memory"

_pids = itertools.count(100_001)


class Killed(BaseException):
    """Ends a process's thread; `number` is the signal."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Exit(Exception):
    """Ends a program, as exit(3) does."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code & 255


class Sink(Protocol):
    """Where a process's output goes."""

    def write(self, process: Process, data: bytes) -> None:
        """Write all of it; may block, and be interrupted."""

    def share(self) -> Sink:
        """Return one for another process; each is closed by its own."""
        raise NotImplementedError

    def close(self) -> None:
        """Give it up."""


class Null:
    """/dev/null."""

    def write(self, process: Process, data: bytes) -> None:
        """Drop it."""
        process.check()

    def share(self) -> Null:
        """Return itself: there is nothing to close."""
        return self

    def close(self) -> None:
        """Do nothing."""


class Descriptor:
    """A real descriptor, for reading or writing; closed with its last user."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def share(self) -> Descriptor:
        """Return one for another process."""
        return Descriptor(os.dup(self.fd))

    def close(self) -> None:
        """Close it. Idempotent."""
        if self.fd >= 0:
            fd, self.fd = self.fd, -1
            os.close(fd)

    def write(self, process: Process, data: bytes) -> None:
        """Write all of it; SIGPIPE ends the process if nobody reads."""
        view = memoryview(data)
        while view:
            process.ready(self.fd, select.POLLOUT)
            try:
                view = view[os.write(self.fd, view[:_SAFE_WRITE]) :]
            except BlockingIOError:
                continue
            except OSError as error:
                if error.errno in (errno.EPIPE, errno.ECONNRESET):
                    raise Killed(signal.SIGPIPE) from None
                raise

    def read(self, process: Process, size: int = _CHUNK) -> bytes:
        """Read what is there, at least a byte; nothing at its end."""
        while True:
            process.ready(self.fd, select.POLLIN)
            try:
                return os.read(self.fd, size)
            except BlockingIOError:
                continue
            except OSError as error:
                if error.errno in (errno.ECONNRESET, errno.EIO):
                    return b""
                raise


class Group:
    """The processes of one container, and what they share."""

    def __init__(self, tree: Tree, hostname: str) -> None:
        self.tree = tree
        self.hostname = hostname
        self.lock = threading.Condition(threading.RLock())
        self.paused = False
        self.ended = False
        self.processes: dict[int, Process] = {}
        #: Listening ports: what gets each new connection's descriptor.
        self.listeners: dict[int, Callable[[int], None]] = {}

    def set_paused(self, paused: bool) -> None:
        """Stop all processes at their next step, or let them go on."""
        with self.lock:
            self.paused = paused
            self.lock.notify_all()

    def kill_all(self) -> None:
        """End every process; none can be started any more."""
        with self.lock:
            self.ended = True
            for process in [*self.processes.values()]:
                process.deliver(signal.SIGKILL)


Program = Callable[["Process", "list[str]"], int]


class Process:
    """One process. It runs in a thread of its own; its methods are called from there, unless they say otherwise."""

    def __init__(
        self, group: Group, argv: list[str], environment: dict[str, str], cwd: str, user: tuple[int, int],
        streams: tuple[Descriptor | None, Sink, Sink], parent: Process | None = None, *, first: bool = False,
    ) -> None:
        self.group = group
        self.argv = argv
        self.environment = environment
        self.cwd = cwd
        self.uid, self.gid = user
        self.stdin, self.stdout, self.stderr = streams
        self.parent = parent
        #: Process 1 has no default actions: a signal without a handler is nothing to it, SIGKILL from outside excepted.
        self.first = first
        #: The exec that it descends from, whose kill reaches orphans too.
        self.root: Process = parent.root if parent is not None else self
        self.pid = next(_pids)
        self.started = time.time()
        self.exit_code: int | None = None
        self.done = threading.Event()
        self.on_exit: Callable[[Process], None] | None = None
        #: Signals that have a handler, as sh's trap sets them; None ignores.
        self.handlers: dict[int, Callable[[], None] | None] = {}
        self.pending: list[int] = []
        self.killed = 0
        self._wake: tuple[int, int] | None = None

    # -- from any thread ---------------------------------------------------------------------------------------------

    def start(self, program: Program) -> None:
        """Begin to run. Raises `CommandNotFound` if the container has ended."""
        with self.group.lock:
            if self.group.ended:
                self._close()
                raise CommandNotFound(errno.ESRCH, "the container has ended", self.argv[0])
            self.group.processes[self.pid] = self
        threading.Thread(target=self._run, args=(program,), daemon=True, name=f"memory-{self.argv[0]}").start()

    def deliver(self, number: int) -> None:
        """Send it a signal."""
        with self.group.lock:
            if self.exit_code is not None:
                return
            if number == signal.SIGKILL:
                self.killed = number
            elif number in self.handlers:
                if self.handlers[number] is not None:
                    self.pending.append(number)
            elif not self.first and number not in _IGNORED and number not in (signal.SIGSTOP, signal.SIGTSTP):
                self.killed = self.killed or number
            self.group.lock.notify_all()
            if self._wake is not None:
                os.write(self._wake[1], b"x")

    def descendants(self) -> list[Process]:
        """The processes of the exec that it began, itself included."""
        with self.group.lock:
            return [process for process in self.group.processes.values() if process.root is self]

    def _close(self) -> None:
        for stream in (self.stdin, self.stdout, self.stderr):
            if stream is not None:
                stream.close()

    def _run(self, program: Program) -> None:
        code = 1
        try:
            self.check()
            code = program(self, self.argv)
        except Exit as end:
            code = end.code
        except Killed as end:
            code = 128 + end.number
        except OSError as error:
            self._say(error)
        finally:
            self._close()
            with self.group.lock:
                self.exit_code = code
                self.group.processes.pop(self.pid, None)
                if self._wake is not None:
                    for fd in self._wake:
                        os.close(fd)
                    self._wake = None
                self.group.lock.notify_all()
            if self.on_exit is not None:
                self.on_exit(self)
            self.done.set()

    def _say(self, error: OSError) -> None:
        try:
            self.error(f"{os.path.basename(self.argv[0])}: {error.filename or ''}: {error.strerror}\n")
        except (OSError, Killed):
            pass

    # -- from its own thread -----------------------------------------------------------------------------------------

    def check(self) -> None:
        """Stop while paused; end if killed."""
        with self.group.lock:
            while self.group.paused and self.killed != signal.SIGKILL:
                self.group.lock.wait()
            if self.killed:
                raise Killed(self.killed)

    def handle(self) -> bool:
        """Run the handlers of signals that came; tell whether there were any."""
        self.check()
        ran = False
        while self.pending:
            handler = self.handlers.get(self.pending.pop(0))
            if handler is not None:
                ran = True
                handler()
        return ran

    def sleep(self, seconds: float) -> None:
        """Sleep; a fatal signal cuts it short."""
        end = time.monotonic() + seconds
        with self.group.lock:
            while True:
                self.check()
                left = end - time.monotonic()
                if left <= 0:
                    return
                self.group.lock.wait(min(left, 3600.0))

    def wait(self, child: Process, *, interruptible: bool = False) -> int | None:
        """Wait for another process and return its exit code; None if a handled signal came first."""
        with self.group.lock:
            while True:
                self.check()  # It may wait too, and the child end meanwhile.
                if child.exit_code is not None:
                    return child.exit_code
                if interruptible and self.pending:
                    return None
                self.group.lock.wait()

    def ready(self, fd: int, event: int) -> None:
        """Wait until a descriptor can be read or written."""
        poll = select.poll()
        poll.register(fd, event)
        if poll.poll(0):
            self.check()
            return
        with self.group.lock:
            if self._wake is None:
                self._wake = os.pipe()
        poll.register(self._wake[0], select.POLLIN)
        while True:
            self.check()
            for number, _ in poll.poll():
                if number == self._wake[0]:
                    os.read(self._wake[0], _CHUNK)
                else:
                    self.check()
                    return

    def write(self, text: str | bytes) -> None:
        """Write to stdout."""
        self.stdout.write(self, text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape"))

    def error(self, text: str) -> None:
        """Write to stderr."""
        self.stderr.write(self, text.encode("utf-8", "surrogateescape"))

    def read(self, size: int = _CHUNK) -> bytes:
        """Read from stdin; nothing at its end."""
        return self.stdin.read(self, size) if self.stdin is not None else b""

    def path(self, text: str) -> str:
        """Return a path as the tree takes it: from its working directory."""
        return text if text.startswith("/") else f"{self.cwd}/{text}"

    def child(self, argv: list[str], streams: tuple[Descriptor | None, Sink, Sink] | None = None) -> Process:
        """Return a new process below it, with its own share of the streams; not started."""
        streams = streams or (self.stdin, self.stdout, self.stderr)
        shared = (None if streams[0] is None else streams[0].share(), streams[1].share(), streams[2].share())
        return Process(self.group, argv, dict(self.environment), self.cwd, (self.uid, self.gid), shared, self)


def find_program(tree: Tree, argv: list[str], path: str, cwd: str) -> tuple[str, list[str]]:
    """Return the name of the built-in program that a command line means, and its whole argument vector.

    Raises `CommandNotFound`, `CommandNotExecutable`.
    """
    name = argv[0]
    if not name:
        raise CommandNotFound(errno.ENOENT, "no such file or directory", name)
    places = [name if name.startswith("/") else f"{cwd}/{name}"] if "/" in name else [
        f"{folder}/{name}" for folder in (path or _PATH).split(":")]
    denied: CommandNotExecutable | None = None
    for place in places:
        try:
            node = tree.get(place)
        except OSError as error:
            if error.errno == errno.EACCES:
                denied = CommandNotExecutable(errno.EACCES, "permission denied", name)
            continue
        if node.content is None or not stat.S_ISREG(node.mode) or not node.mode & 0o111:
            denied = CommandNotExecutable(errno.EACCES, "permission denied", name)
            continue
        head = node.content.read()
        if head.startswith(MAGIC):
            applet = os.path.basename(name)
            if applet == "busybox" and len(argv) > 1:
                return argv[1], argv[1:]
            return applet, argv
        if head.startswith(b"#!"):
            interpreter = head.partition(b"\n")[0][2:].decode("utf-8", "replace").split(None, 1)
            return find_program(tree, [*interpreter, place, *argv[1:]], path, cwd)
        raise CommandNotExecutable(errno.ENOEXEC, "exec format error", name)
    if denied is not None:
        raise denied
    what = "no such file or directory" if "/" in name else "executable file not found in $PATH"
    raise CommandNotFound(errno.ENOENT, what, name)
