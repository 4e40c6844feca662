"""The caller's terminal and streams: raw mode, window size, detach keys, signals, and the copying of bytes."""

from __future__ import annotations

import errno
import fcntl
import os
import select
import signal
import struct
import sys
import termios
import threading
import tty
from collections.abc import Callable
from collections.abc import Iterable
from types import FrameType
from types import TracebackType
from typing import Any

from pycontainers.errors import InvalidSpec

#: Docker's default: ctrl-p, ctrl-q.
DETACH_KEYS = "ctrl-p,ctrl-q"
#: Signals that are the client's own business.
_KEPT = ("SIGCHLD", "SIGPIPE", "SIGURG", "SIGWINCH", "SIGKILL", "SIGSTOP", "SIGTSTP", "SIGTTIN", "SIGTTOU", "SIGCONT",
         "SIGSEGV", "SIGBUS", "SIGFPE", "SIGILL", "SIGABRT", "SIGTRAP", "SIGSYS", "SIGIOT", "SIGCLD", "SIGPROF", "SIGVTALRM")


def parse_keys(text: str) -> bytes:
    """Return the bytes of a key sequence (`ctrl-p,ctrl-q`, `a,b`). Raises `InvalidSpec`."""
    result = bytearray()
    for key in text.split(","):
        name = key.removeprefix("ctrl-")
        if name == key and len(key) == 1:
            result += key.encode()
        elif name != key and len(name) == 1 and "@" <= name.upper() <= "_":
            result.append(ord(name.upper()) & 0x1F)
        elif text:
            raise InvalidSpec(f"Invalid detach keys ({text}) provided: write a character, or ctrl- and one of a-z @ [ ] ^ _ \\")
    return bytes(result)


class DetachKeys:
    """Looks for the detach keys in what is typed; keeps back a prefix of them until it is known what they are."""

    def __init__(self, keys: bytes) -> None:
        """Look for `keys`; none if empty."""
        self.keys = keys
        self.held = 0

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """Return what to pass on, and whether the keys were typed."""
        if not self.keys:
            return data, False
        out = bytearray()
        for byte in data:
            if byte == self.keys[self.held]:
                self.held += 1
                if self.held == len(self.keys):
                    return bytes(out), True
                continue
            out += self.keys[:self.held]
            self.held = 1 if byte == self.keys[0] else 0
            if not self.held:
                out.append(byte)
        return bytes(out), False


class RawMode:
    """Puts a terminal in raw mode for the length of a block, and always back."""

    def __init__(self, fd: int) -> None:
        """Serve the terminal `fd`; do nothing if it isn't one."""
        self.fd = fd
        self.before: list[Any] | None = None

    def __enter__(self) -> RawMode:
        if os.isatty(self.fd):
            self.before = termios.tcgetattr(self.fd)
            tty.setraw(self.fd, termios.TCSADRAIN)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.before is not None:
            termios.tcsetattr(self.fd, termios.TCSADRAIN, self.before)


def copy_size(source: int, target: int, more: int = 0) -> None:
    """Give the terminal `target` the window size of the terminal `source`, and so many lines more."""
    try:
        rows, columns, width, height = struct.unpack("HHHH", fcntl.ioctl(source, termios.TIOCGWINSZ, b"\0" * 8))
        if rows or columns:
            fcntl.ioctl(target, termios.TIOCSWINSZ, struct.pack("HHHH", rows + more, columns, width, height))
    except OSError as error:
        if error.errno not in (errno.ENOTTY, errno.EBADF, errno.EIO):
            raise


class Signals:
    """Handlers for the length of a block: only in the main thread, elsewhere nothing is done."""

    def __init__(self, handlers: dict[int, Callable[[int], None]]) -> None:
        """Call the handler of a signal's number with that number."""
        self.handlers = handlers
        self.before: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            for number, handler in self.handlers.items():
                def call(number: int, frame: FrameType | None, handler: Callable[[int], None] = handler) -> None:
                    handler(number)

                self.before[number] = signal.signal(number, call)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self.before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def proxied(send: Callable[[int], None]) -> dict[int, Callable[[int], None]]:
    """Return handlers that send every signal on which a client would pass on."""
    kept = {getattr(signal, name) for name in _KEPT if hasattr(signal, name)}
    numbers = [n for n in signal.valid_signals() if n not in kept and int(n) < 32]
    return dict.fromkeys(map(int, numbers), send)


class InputCopier:
    """Copies this process's stdin to a descriptor in a thread, until it ends, detach keys are typed, or it is stopped."""

    def __init__(self, source: int, target: int, at_end: Callable[[], None], keys: bytes = b"") -> None:
        """Copy from `source` to `target`, and call `at_end` at the end of file."""
        self.source = source
        self.target = target
        self.at_end = at_end
        self.keys = DetachKeys(keys)
        #: Set once the detach keys were typed.
        self.detached = threading.Event()
        self.on_detach: Callable[[], None] = lambda: None
        self._wake, self._stop = os.pipe()
        self._thread = threading.Thread(target=self._copy, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, and wait for the thread."""
        os.write(self._stop, b"x")
        self._thread.join(1)
        os.close(self._wake)
        os.close(self._stop)

    def _copy(self) -> None:
        try:
            while True:
                poll = select.poll()
                poll.register(self.source, select.POLLIN)
                poll.register(self._wake, select.POLLIN)
                if any(fd == self._wake for fd, _ in poll.poll()):
                    return
                data = os.read(self.source, 65536)
                if not data:
                    self._write(self.keys.keys[:self.keys.held])
                    self.at_end()
                    return
                data, detach = self.keys.feed(data)
                if detach:
                    self._write(data)
                    self.detached.set()
                    self.on_detach()
                    return
                if not self._write(data):
                    return
        except OSError as error:
            # The container or the exec is gone, and with it the reader; or our own terminal is.
            if error.errno not in (errno.EPIPE, errno.EIO, errno.EBADF):
                raise

    def _write(self, data: bytes) -> bool:
        """Write all of it; False if asked to stop while the reader is busy."""
        while data:
            poll = select.poll()
            poll.register(self.target, select.POLLOUT)
            poll.register(self._wake, select.POLLIN)
            if any(fd == self._wake for fd, _ in poll.poll()):
                return False
            # A pipe that is writable takes PIPE_BUF bytes without blocking.
            data = data[os.write(self.target, data[:4096]):]
        return True


def write_all(fd: int, data: bytes) -> None:
    """Write all bytes to a descriptor."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view):]


def streams() -> tuple[int, int, int]:
    """Return the descriptors of stdin, stdout and stderr, after flushing what Python holds back."""
    sys.stdout.flush()
    sys.stderr.flush()
    return _fd(sys.stdin, 0), _fd(sys.stdout, 1), _fd(sys.stderr, 2)


def _fd(stream: Any, default: int) -> int:
    try:
        return int(stream.fileno())
    except (AttributeError, OSError, ValueError):
        return default


def copy_frames(frames: Iterable[Any], out: int, err: int, wanted: tuple[bool, bool] = (True, True)) -> None:
    """Write a container's output to two descriptors as it comes."""
    for frame in frames:
        if wanted[frame.stream != 1]:
            write_all(out if frame.stream == 1 else err, frame.data)
