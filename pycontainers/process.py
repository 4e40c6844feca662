"""Commands in containers, shaped like `subprocess`: a completed process, a running one, and a hold on a container's streams."""

from __future__ import annotations

import errno
import io
import os
import selectors
import subprocess
import threading
import time
from collections.abc import Iterator
from typing import IO
from typing import Any
from typing import AnyStr
from typing import BinaryIO
from typing import Generic
from typing import Union
from typing import cast

from pycontainers.backend import Attachment
from pycontainers.backend import Backend
from pycontainers.backend import LogFrame
from pycontainers.backend import Process
from pycontainers.backend import Stdio
from pycontainers.errors import InvalidSpec
from pycontainers.errors import InvalidType
from pycontainers.errors import ProcessFailed
from pycontainers.errors import TimedOut
from pycontainers.spec import ContainerSpec
from pycontainers.spec import ExecSpec
from pycontainers.spec import parse_signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

PIPE = subprocess.PIPE
STDOUT = subprocess.STDOUT
DEVNULL = subprocess.DEVNULL

File = Union[int, IO[Any], None]

_CHUNK = 1 << 16
#: What a new pipe holds: this much input is written at once, without a thread.
_PIPE_SIZE = 1 << 16
#: Seconds in which a killed command's pipes are drained.
_DRAIN = 5.0


class CompletedProcess(subprocess.CompletedProcess[AnyStr]):
    """How a command ended: `args`, `returncode` (Docker's: 128+n for a signal), `stdout`, `stderr`, `oom_killed`."""

    def __init__(
        self, args: tuple[str, ...], returncode: int, stdout: Any, stderr: Any, *, oom_killed: bool = False
    ) -> None:
        super().__init__(args, returncode, stdout, stderr)
        self.oom_killed = oom_killed

    def check_returncode(self) -> None:
        """Raise `ProcessFailed` unless the exit code is 0."""
        if self.returncode:
            raise ProcessFailed(self.returncode, self.args, self.stdout, self.stderr)


def _text(data: bytes) -> str:
    """Decode as `subprocess` does in text mode; a byte that isn't UTF-8 becomes U+FFFD."""
    return data.decode("utf-8", "replace").replace("\r\n", "\n").replace("\r", "\n")


def _bytes(data: str | bytes | None) -> bytes | None:
    if data is None or isinstance(data, (bytes, bytearray, memoryview)):
        return data
    if isinstance(data, str):
        return data.encode()
    raise InvalidType(f"input takes a text or bytes: got {data!r}")


def _deadline(timeout: float | None) -> float | None:
    if timeout is None:
        return None
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
        raise InvalidType(f"timeout takes seconds: got {timeout!r}")
    return time.monotonic() + timeout


def _finished(
    args: tuple[str, ...], code: int, out: bytes, err: bytes, check: bool, text: bool, oom_killed: bool = False
) -> CompletedProcess[Any]:
    done: CompletedProcess[Any]
    if text:
        done = CompletedProcess(args, code, _text(out), _text(err), oom_killed=oom_killed)
    else:
        done = CompletedProcess(args, code, out, err, oom_killed=oom_killed)
    if check:
        done.check_returncode()
    return done


def run_container(
    backend: Backend, spec: ContainerSpec, input: str | bytes | None, timeout: float | None, check: bool, text: bool
) -> CompletedProcess[Any]:
    """Run a container's whole life and answer as `subprocess.run` does; see `Image.run`."""
    _deadline(timeout)
    data = _bytes(input)
    args = spec.command or ()
    try:
        if data is None:
            result = backend.run(spec, timeout=timeout)
        else:
            reader, writer = os.pipe()
            try:
                _feed(writer, data)
                result = backend.run(spec, stdin=reader, timeout=timeout)
            finally:
                os.close(reader)
    except TimedOut as error:
        raise _as_asked(error, text) from error.__cause__
    return _finished(args, result.exit_code, result.stdout, result.stderr, check, text, result.oom_killed)


def _as_asked(error: TimedOut, text: bool) -> TimedOut:
    """Have the output so far in the type that was asked for."""
    for name in ("stdout", "stderr"):
        value = getattr(error, name)
        if text and isinstance(value, bytes):
            setattr(error, name, _text(value))
    return error


def _feed(writer: int, data: bytes) -> None:
    """Write all data into a pipe and close it; in a thread of its own if the pipe can't hold it."""
    view = memoryview(data)
    os.set_blocking(writer, False)
    try:
        view = view[os.write(writer, view[:_PIPE_SIZE]) :] if view else view
    except BlockingIOError:
        pass
    if not view:
        os.close(writer)
        return
    os.set_blocking(writer, True)

    def write() -> None:
        rest = view
        try:
            while rest:
                rest = rest[os.write(writer, rest) :]
        except BrokenPipeError:
            pass
        finally:
            os.close(writer)

    threading.Thread(target=write, daemon=True, name="pycontainers-input").start()


def execute(
    backend: Backend, ref: str, spec: ExecSpec, input: str | bytes | None, timeout: float | None, check: bool, text: bool
) -> CompletedProcess[Any]:
    """Run a command in a container and answer as `subprocess.run` does; see `Container.exec`."""
    deadline = _deadline(timeout)
    data = _bytes(input)
    fds: list[int] = []
    process: Process | None = None
    streams: _Streams | None = None
    stdin = out = err = own_in = own_out = own_err = -1
    try:
        if not spec.tty:
            own_out, out = _pipe(fds)
            own_err, err = _pipe(fds)
            if data is not None:
                stdin, own_in = _pipe(fds)
        process = backend.exec(ref, spec, Stdio(stdin=stdin, stdout=out, stderr=err))
        for fd in (stdin, out, err):
            if fd >= 0:
                fds.remove(fd)
                os.close(fd)
        if spec.tty:
            own_out = process.terminal
            if data is not None:
                own_in, data = process.terminal, data + b"\x04"
        streams = _Streams(own_in, data, own_out, own_err)
        done = streams.move(deadline)
        code = process.wait(_left(deadline)) if done else None
        if code is None:
            process.kill()
            streams.move(time.monotonic() + _DRAIN)
            process.wait(_DRAIN)
            raise _timed_out(spec.command, timeout, streams, text)
        return _finished(spec.command, code, bytes(streams.out), bytes(streams.err), check, text)
    except BaseException:
        if process is not None:
            process.kill()
        raise
    finally:
        if streams is not None and streams.closed_in:
            fds.remove(own_in)
        for fd in fds:
            os.close(fd)
        if process is not None:
            process.close()


def _pipe(fds: list[int]) -> tuple[int, int]:
    both = os.pipe()
    fds += both
    return both


def _left(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.0, deadline - time.monotonic())


def _timed_out(command: tuple[str, ...], timeout: float | None, streams: _Streams, text: bool) -> TimedOut:
    out, err = bytes(streams.out), bytes(streams.err)
    return TimedOut(f"{command!r} was killed with all its descendants: it ran longer than {timeout} s",
                    stdout=_text(out) if text else out, stderr=_text(err) if text else err)


class _Streams:
    """A process's streams from our side: what is still to be written to it, and what it wrote so far."""

    def __init__(self, stdin: int, data: bytes | None, stdout: int, stderr: int) -> None:
        #: True once all input was written and its pipe closed; a terminal's one descriptor stays open.
        self.closed_in = False
        self._in = stdin if data is not None else -1
        self._data = memoryview(data or b"")
        self._open = {fd: buffer for fd, buffer in ((stdout, bytearray()), (stderr, bytearray())) if fd >= 0}
        self.out = self._open.get(stdout, bytearray())
        self.err = self._open.get(stderr, bytearray())
        if self._in >= 0:
            os.set_blocking(self._in, False)

    def move(self, deadline: float | None) -> bool:
        """Write and read until both outputs are at their end; False if the deadline passes first."""
        with selectors.PollSelector() as selector:
            for fd in self._open:
                selector.register(fd, selectors.EVENT_READ)
            if self._in >= 0 and self._in not in self._open:
                selector.register(self._in, selectors.EVENT_WRITE)
            elif self._in >= 0:
                selector.modify(self._in, selectors.EVENT_READ | selectors.EVENT_WRITE)
            while selector.get_map():
                ready = selector.select(_left(deadline))
                if not ready and deadline is not None and time.monotonic() >= deadline:
                    return False
                for key, events in ready:
                    if key.fd == self._in and events & selectors.EVENT_WRITE:
                        self._write(selector)
                    if key.fd in self._open and events & selectors.EVENT_READ:
                        self._read(selector, key.fd)
        return True

    def _write(self, selector: selectors.BaseSelector) -> None:
        try:
            self._data = self._data[os.write(self._in, self._data[:_CHUNK]) :]
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.EIO):
                raise
            self._data = self._data[:0]
        if not self._data:
            if self._in in self._open:
                selector.modify(self._in, selectors.EVENT_READ)
            else:
                selector.unregister(self._in)
                os.close(self._in)
                self.closed_in = True
            self._in = -1

    def _read(self, selector: selectors.BaseSelector, fd: int) -> None:
        try:
            data = os.read(fd, _CHUNK)
        except BlockingIOError:
            return
        except OSError as error:  # A terminal whose last user is gone says EIO.
            if error.errno != errno.EIO:
                raise
            data = b""
        if data:
            self._open[fd] += data
        else:
            del self._open[fd]
            selector.unregister(fd)


class _Terminal(io.RawIOBase):
    """A terminal's master: the end of its other side's users reads as end of file."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def fileno(self) -> int:
        return self._fd

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            data = os.read(self._fd, len(buffer))
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            return 0
        buffer[: len(data)] = data
        return len(data)

    def write(self, data: Any) -> int:
        return os.write(self._fd, data)

    def close(self) -> None:
        if not self.closed:
            try:
                super().close()
            finally:
                os.close(self._fd)


class Popen(Generic[AnyStr]):
    """A command running in a container, as `subprocess.Popen` is one on this machine. Thread-safe.

    `kill()` ends the command and every descendant of it; `terminate()` and `send_signal()` reach its first process.
    The end of a `with` block closes the pipes and waits. `terminal` is a descriptor of its terminal, or -1.
    """

    args: tuple[str, ...]
    stdin: IO[AnyStr] | None
    stdout: IO[AnyStr] | None
    stderr: IO[AnyStr] | None
    returncode: int | None

    def __init__(
        self, backend: Backend, ref: str, spec: ExecSpec, stdin: File, stdout: File, stderr: File, text: bool
    ) -> None:
        self.args = spec.command
        self.returncode = None
        self.stdin = self.stdout = self.stderr = None
        self.terminal: int = -1
        self._text = text
        self._lock = threading.Lock()
        self._pumps: list[threading.Thread] = []
        self._streams: _Streams | None = None
        closing: list[int] = []
        ours: dict[str, int] = {}
        try:
            theirs = Stdio() if spec.tty else self._descriptors(stdin, stdout, stderr, closing, ours)
            self._process = backend.exec(ref, spec, theirs)
        except BaseException:
            for fd in (*closing, *ours.values()):
                os.close(fd)
            raise
        for fd in closing:
            os.close(fd)
        self.pid: int = self._process.pid
        if spec.tty:
            self.terminal = self._process.terminal
            self.stdin = self._file(_Terminal(os.dup(self.terminal)), "w")
            self.stdout = self._file(_Terminal(os.dup(self.terminal)), "r")
            return
        if "stdin" in ours:
            self.stdin = self._file(io.FileIO(ours["stdin"], "w"), "w")
        if "stdout" in ours:
            self.stdout = self._file(io.FileIO(ours["stdout"], "r"), "r")
        if "stderr" in ours:
            self.stderr = self._file(io.FileIO(ours["stderr"], "r"), "r")
        for name, target in (("stdout", 1), ("stderr", 2)):
            copied = ours.get(f"copy {name}")
            if copied is not None:
                pump = threading.Thread(target=_copy, args=(copied, target), daemon=True, name="pycontainers-output")
                pump.start()
                self._pumps.append(pump)

    @staticmethod
    def _descriptors(stdin: File, stdout: File, stderr: File, closing: list[int], ours: dict[str, int]) -> Stdio:
        """The process's ends. What is PIPE, and what is copied to our own output, has its other end in `ours`.

        Our own stdout is copied, not handed over: it may be a terminal, or a file that a container should not reopen.
        """

        def output(name: str, value: File) -> int:
            if value is None or value == PIPE:
                reader, writer = os.pipe()
                closing.append(writer)
                ours[name if value == PIPE else f"copy {name}"] = reader
                return writer
            if value == DEVNULL:
                return -1
            return _number(name, value)

        if stdin == PIPE:
            reader, writer = os.pipe()
            closing.append(reader)
            ours["stdin"] = writer
            first = reader
        else:
            first = -1 if stdin is None or stdin == DEVNULL else _number("stdin", stdin)
        out = output("stdout", stdout)
        return Stdio(stdin=first, stdout=out, stderr=out if stderr == STDOUT else output("stderr", stderr))

    def _file(self, raw: io.RawIOBase, mode: str) -> IO[AnyStr]:
        buffered: Any = io.BufferedWriter(raw) if mode == "w" else io.BufferedReader(raw)
        if self._text:
            buffered = io.TextIOWrapper(buffered, encoding="utf-8", errors="replace", line_buffering=mode == "w")
        return cast("IO[AnyStr]", buffered)

    def poll(self) -> int | None:
        """Return the exit code if the command has ended, else None."""
        return self._wait(0.0)

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code once the command has ended. Raises `TimedOut`, which kills nothing."""
        code = self._wait(timeout)
        if code is None:
            raise TimedOut(f"{self.args!r} did not end within {timeout} s")
        return code

    def _wait(self, timeout: float | None) -> int | None:
        if self.returncode is None:
            code = self._process.wait(timeout)
            if code is None:
                return None
            for pump in self._pumps:
                pump.join(_DRAIN)
            self.returncode = code
        return self.returncode

    def communicate(self, input: AnyStr | None = None, timeout: float | None = None) -> tuple[AnyStr, AnyStr]:
        """Write `input`, read both outputs to their end, wait, and return them (None for what isn't PIPE).

        Raises `TimedOut`, which kills nothing: call it again, without `input`, to go on and lose no output.
        """
        deadline = _deadline(timeout)
        with self._lock:
            if self._streams is None:
                data = _bytes(input)
                own_in = -1
                if self.stdin is not None and self.terminal < 0:
                    try:
                        self.stdin.flush()
                    except BrokenPipeError:
                        pass
                    own_in = os.dup(self.stdin.fileno())
                    try:
                        self.stdin.close()
                    except BrokenPipeError:
                        pass
                    data = data or b""
                elif self.stdin is not None:
                    own_in = self.terminal
                self._streams = _Streams(
                    own_in, data,
                    self.terminal if self.terminal >= 0 else self.stdout.fileno() if self.stdout else -1,
                    self.stderr.fileno() if self.stderr else -1,
                )
            done = self._streams.move(deadline)
            code = self._wait(_left(deadline)) if done else None
            out = bytes(self._streams.out) if self.stdout is not None else None
            err = bytes(self._streams.err) if self.stderr is not None else None
            if code is None:
                error = TimedOut(f"{self.args!r} did not end within {timeout} s", stdout=out, stderr=err)
                raise _as_asked(error, self._text)
            self._close_files()
        both = [_text(data) if self._text and data is not None else data for data in (out, err)]
        return cast("tuple[AnyStr, AnyStr]", tuple(both))

    def send_signal(self, signal: int | str) -> None:
        """Send a signal, by number or name, to the command's first process; nothing if it ended."""
        self._process.signal(parse_signal(signal))

    def terminate(self) -> None:
        """Send SIGTERM to the command's first process."""
        self.send_signal(15)

    def kill(self) -> None:
        """Kill the command and every descendant of it, orphans and new sessions too, and nothing else. Idempotent."""
        self._process.kill()

    def resize(self, rows: int, columns: int) -> None:
        """Tell its terminal the window's size. Raises `InvalidSpec` if it has no terminal."""
        _resize(self.terminal, rows, columns)

    def _close_files(self) -> None:
        for file in (self.stdin, self.stdout, self.stderr):
            if file is not None:
                try:
                    file.close()
                except BrokenPipeError:
                    pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._close_files()
        try:
            if kind is not None and not issubclass(kind, Exception):  # KeyboardInterrupt: nothing may stay behind.
                self.kill()
            self.wait()
        finally:
            self.close()

    def close(self) -> None:
        """Close the pipes and give up the process; one that still runs is killed. Idempotent."""
        self._close_files()
        self._process.close()

    def __del__(self) -> None:
        process = getattr(self, "_process", None)
        if process is not None and self.returncode is None:
            process.close()

    def __repr__(self) -> str:
        return f"<Popen {self.args!r} returncode={self.returncode}>"


def _number(name: str, value: Any) -> int:
    if isinstance(value, bool) or (not isinstance(value, int) and not hasattr(value, "fileno")):
        raise InvalidType(f"{name} takes PIPE, DEVNULL, a descriptor or a file: got {value!r}")
    number = value if isinstance(value, int) else int(value.fileno())
    if number < 0:
        raise InvalidSpec(f"{name} takes PIPE, DEVNULL, a descriptor or a file: got {value!r}")
    return number


def _copy(source: int, target: int) -> None:
    try:
        while data := os.read(source, _CHUNK):
            view = memoryview(data)
            while view:
                view = view[os.write(target, view) :]
    except OSError:
        pass
    finally:
        os.close(source)


def _resize(terminal: int, rows: int, columns: int) -> None:
    import fcntl
    import struct
    import termios

    if terminal < 0:
        raise InvalidSpec("it has no terminal to resize")
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


class Attached:
    """A hold on a container's streams: iterate over it for the output, write to its stdin. Use it in a `with` block.

    The output ends when the container ends, or when `close()` is called, from any thread.
    """

    def __init__(self, attachment: Attachment) -> None:
        self._attachment = attachment
        self.tty: bool = attachment.tty

    def __iter__(self) -> Iterator[LogFrame]:
        return self._attachment.frames()

    def fileno(self) -> int:
        """Return the descriptor of the container's stdin. Raises `InvalidSpec` if it has none."""
        if self._attachment.stdin < 0:
            raise InvalidSpec("the container has no stdin to write to; make it with stdin_open=True")
        return self._attachment.stdin

    def read(self) -> bytes:
        """Return all output, both streams in order, until the container ends."""
        return b"".join(frame.data for frame in self)

    def write(self, data: str | bytes) -> None:
        """Write all of it to the container's stdin. Raises `InvalidSpec` if it has none, `BrokenPipeError`."""
        view = memoryview(_bytes(data) or b"")
        while view:
            view = view[os.write(self.fileno(), view) :]

    def close_stdin(self) -> None:
        """Have the container read end of file after what was written. Idempotent."""
        self._attachment.close_stdin()

    def resize(self, rows: int, columns: int) -> None:
        """Tell the container's terminal the window's size. Raises `InvalidSpec` if it has none."""
        _resize(self._attachment.stdin if self.tty else -1, rows, columns)

    def close(self) -> None:
        """Detach; the container goes on. Idempotent."""
        self._attachment.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def save(stream: BinaryIO, target: BinaryIO) -> None:
    """Copy a stream to its end into an open file."""
    while data := stream.read(1 << 20):
        target.write(data)
