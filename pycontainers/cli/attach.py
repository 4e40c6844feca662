"""attach, exec, start: whatever joins this process's streams to a container's."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable
from collections.abc import Iterator
from typing import TYPE_CHECKING
from typing import Any

from pycontainers.cli import terminal
from pycontainers.cli.each import each
from pycontainers.cli.flags import Command
from pycontainers.cli.flags import Failure
from pycontainers.cli.flags import Flag
from pycontainers.cli.flags import Options
from pycontainers.cli.output import reason
from pycontainers.errors import ContainersError
from pycontainers.errors import InvalidState
from pycontainers.errors import NotFound
from pycontainers.errors import StartFailed

if TYPE_CHECKING:
    from pycontainers.backend import Attachment
    from pycontainers.backend import LogFrame
    from pycontainers.container import Container


#: Signals that end the client itself while it has the terminal in raw mode.
_ENDING = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)


class Session:
    """One container's streams joined to this process's, until it ends or the user detaches.

    `wanted` says which of stdin, stdout and stderr. Signals are passed on unless there is a terminal or `sig_proxy` is
    false.
    """

    def __init__(
        self, container: Container, *, tty: bool, wanted: tuple[bool, bool, bool] = (True, True, True),
        keys: str | None = None, sig_proxy: bool = True, removed: bool = False,
    ) -> None:
        """Keep what is wanted; with `removed`, the session lasts until the container is gone, too."""
        self.container = container
        self.tty = tty
        self.wanted = wanted
        self.keys = terminal.parse_keys(terminal.DETACH_KEYS if keys is None else keys)
        self.sig_proxy = sig_proxy and not tty
        self.code = 0
        self.error: Exception | None = None
        self.detached = False
        self._asked = 0
        self._condition = "removed" if removed else "not-running"
        self._done = threading.Event()
        self._ended = threading.Event()

    def start(self) -> int | None:
        """Start the container and join its streams; return the exit code, None if the user detached.

        Output is read from the log, behind what earlier runs left in it: so none is lost, however short the run.
        """
        cursor = 0
        if self.container.status != "created":
            for frame in self.container.frames():
                cursor = frame.cursor
        self.container.start()
        attachment = None
        if self.wanted[0] or self.tty:
            try:
                attachment = self._attach()
            except (InvalidState, NotFound):
                pass  # It has ended already.
        frames = self.container.engine.backend.logs(self.container.id, follow=True, cursor=cursor)
        return self._join(attachment, frames)

    def attach(self) -> int | None:
        """Join the streams of a running container from now on; return as `start` does."""
        attachment = self._attach()
        return self._join(attachment, attachment.frames(), redraw=1)

    def _attach(self) -> Attachment:
        return self.container.engine.backend.attach(self.container.id, stdin=self.wanted[0])

    def _join(self, attachment: Attachment | None, frames: Iterator[LogFrame], redraw: int = 0) -> int | None:
        inward, out, err = terminal.streams()
        stdin = attachment.stdin if attachment is not None and self.wanted[0] else -1
        master = attachment.stdin if attachment is not None and attachment.tty else -1
        handlers = terminal.proxied(self._signal) if self.sig_proxy else {}
        with contextlib.ExitStack() as stack:
            if attachment is not None:
                stack.callback(attachment.close)
            if master >= 0 and os.isatty(out):
                # One line more for a moment: a program that runs already draws its screen again.
                terminal.copy_size(out, master, more=redraw)
                terminal.copy_size(out, master)
                handlers[signal.SIGWINCH] = lambda _: terminal.copy_size(out, master)
            if self.tty and stdin >= 0:
                stack.enter_context(terminal.RawMode(inward))
                # A client that is killed leaves the container running, and the terminal as it was.
                handlers.update(dict.fromkeys(_ENDING, self._leave))
            stack.enter_context(terminal.Signals(handlers))
            threading.Thread(target=self._copy, args=(frames, out, err), daemon=True).start()
            threading.Thread(target=self._wait, daemon=True).start()
            if attachment is not None and stdin >= 0:
                # Detach keys are looked for on a terminal only, as Docker does: a pipe carries any bytes.
                copier = terminal.InputCopier(inward, stdin, attachment.close_stdin, self.keys if self.tty else b"")
                copier.on_detach = self._detach
                copier.start()
                stack.callback(copier.stop)
            while not self._done.wait(3600):
                continue
            if not self.detached:
                # What the container wrote before its end is still to be copied.
                self._ended.wait()
        if self.detached:
            return None
        if self.error is not None:
            raise self.error
        return self.code

    def _copy(self, frames: Iterator[LogFrame], out: int, err: int) -> None:
        try:
            terminal.copy_frames(frames, out, err, self.wanted[1:])
        except BrokenPipeError:
            self.error = BrokenPipeError()
            self._done.set()
        except ContainersError:
            pass
        except Exception as error:
            self.error = error
            self._done.set()
        finally:
            self._ended.set()

    def _wait(self) -> None:
        try:
            self.code = self.container.wait(condition=self._condition)
        except Exception as error:
            self.error = error
        finally:
            self._done.set()

    def _detach(self) -> None:
        self.detached = True
        self._done.set()

    def _leave(self, number: int) -> None:
        self.error = Failure(code=128 + number)
        self._ended.set()
        self._done.set()

    def _signal(self, number: int) -> None:
        """Pass a signal on. A process 1 without a handler never sees it: so the third SIGINT or SIGTERM ends the client."""
        if number in (signal.SIGINT, signal.SIGTERM):
            self._asked += 1
            if self._asked == 3:
                self.error = Failure("got 3 SIGTERM/SIGINTs, forcefully exiting")
                self._ended.set()
                self._done.set()
                return
        try:
            self.container.kill(number)
        except (InvalidState, NotFound):
            pass


def need_terminal(tty: bool, stdin: bool) -> None:
    """Refuse `-it` when stdin is no terminal, in Docker's words."""
    if tty and stdin and not os.isatty(terminal.streams()[0]):
        raise Failure("the input device is not a TTY", 1)


# -- attach ------------------------------------------------------------------------------------------------------------


def _attach(options: Options) -> int | None:
    from pycontainers.container import Container

    container = Container.get(options.args[0])
    status = container.status
    if status not in ("running", "paused", "restarting"):
        raise Failure("You cannot attach to a stopped container, start it first")
    if status == "paused":
        raise Failure("You cannot attach to a paused container, unpause it first")
    if status == "restarting":
        raise Failure("You cannot attach to a restarting container, wait until it is running")
    spec = container.config
    stdin = spec.stdin_open and not options.no_stdin
    need_terminal(spec.tty, stdin)
    session = Session(container, tty=spec.tty, wanted=(stdin, True, True), keys=options.detach_keys,
                      sig_proxy=options.sig_proxy)
    return session.attach()


# -- start -------------------------------------------------------------------------------------------------------------


def _start(options: Options) -> int | None:
    from pycontainers.container import Container

    if options.attach or options.interactive:
        if len(options.args) != 1:
            raise Failure("you cannot start and attach multiple containers at once")
        container = Container.get(options.args[0])
        spec = container.config
        stdin = options.interactive and spec.stdin_open
        need_terminal(spec.tty, stdin)
        session = Session(container, tty=spec.tty, wanted=(stdin, True, True), keys=options.detach_keys,
                          removed=spec.auto_remove)
        return session.start() if container.status not in ("running", "paused") else session.attach()
    names: list[str] = []

    def one(ref: str) -> str:
        names.append(ref)
        Container.get(ref).start()
        names.pop()
        return ref

    try:
        each(options.args, one)
    except Failure:
        raise Failure(f"Error: failed to start containers: {', '.join(names)}") from None
    return None


# -- exec --------------------------------------------------------------------------------------------------------------


def _exec(options: Options) -> int | None:
    from pycontainers.backend import Stdio
    from pycontainers.cli.options import read_environment
    from pycontainers.container import Container
    from pycontainers.spec import ExecSpec

    ref, *command = options.args
    container = Container.get(ref)
    backend = container.engine.backend
    stdin = options.interactive and not options.detach
    need_terminal(options.tty, stdin)
    environment = read_environment(options.env, options.env_file)
    if options.tty and "TERM" not in environment and os.environ.get("TERM"):
        environment = {"TERM": os.environ["TERM"], **environment}
    spec = ExecSpec(command=command, user=options.user, workdir=options.workdir, environment=environment,
                    tty=options.tty, privileged=options.privileged)
    try:
        if options.detach:
            backend.exec(container.id, spec, Stdio()).close()
            return None
        if options.tty:
            return _exec_terminal(backend, container.id, spec, stdin, options.detach_keys)
        return _exec_pipes(backend, container.id, spec, stdin)
    except StartFailed as error:
        # Docker's exec, unlike its run, ends so whatever kept the command from starting.
        raise Failure(f"Error: {reason(error)}", max(error.exit_code, 126)) from error


def _exec_pipes(backend: Any, ref: str, spec: Any, stdin: bool) -> int:
    """Run an exec over pipes of its own: it gets none of this process's files, nor its terminal."""
    from pycontainers.backend import Stdio

    inward, out, err = terminal.streams()
    with contextlib.ExitStack() as stack:
        pipes = [os.pipe() if wanted else (-1, -1) for wanted in (stdin, True, True)]
        theirs = [pipes[0][0], pipes[1][1], pipes[2][1]]
        try:
            process = backend.exec(ref, spec, Stdio(stdin=theirs[0], stdout=theirs[1], stderr=theirs[2]))
        except BaseException:
            _close(fd for pair in pipes for fd in pair)
            raise
        _close(theirs)
        stack.callback(process.close)
        feeding = pipes[0][1]
        if stdin:
            os.set_blocking(feeding, True)
            closing = threading.Lock()

            def close_stdin() -> None:
                if closing.acquire(blocking=False):
                    os.close(feeding)

            copier = terminal.InputCopier(inward, feeding, close_stdin)
            copier.start()
            stack.callback(close_stdin)
            stack.callback(copier.stop)
        pumps = [_Pump(source, target) for source, target in ((pipes[1][0], out), (pipes[2][0], err))]
        for pump in pumps:
            stack.callback(pump.close)
        with terminal.Signals({}):
            code = process.wait()
        for pump in pumps:
            pump.finish()
    for pump in pumps:
        if pump.broken:
            raise BrokenPipeError
    return int(code or 0)


class _Pump:
    """Copies a pipe to a descriptor in a thread; once told to finish, until the pipe is empty rather than closed.

    A process that the exec left behind may keep its end open for ever.
    """

    def __init__(self, source: int, target: int) -> None:
        self.source = source
        self.target = target
        self.broken = False
        self._finishing = threading.Event()
        self._thread = threading.Thread(target=self._copy, daemon=True)
        self._thread.start()

    def _copy(self) -> None:
        import select

        poll = select.poll()
        poll.register(self.source, select.POLLIN)
        while True:
            # A first look after the process ended must see all that it wrote.
            finishing = self._finishing.is_set()
            if not poll.poll(0 if finishing else 20):
                if finishing:
                    return
                continue
            data = os.read(self.source, 65536)
            if not data:
                return
            try:
                terminal.write_all(self.target, data)
            except BrokenPipeError:
                self.broken = True
                return

    def finish(self) -> None:
        """Copy what is there, and end."""
        self._finishing.set()
        self._thread.join()

    def close(self) -> None:
        """Give up the pipe."""
        self._finishing.set()
        self._thread.join()
        os.close(self.source)


def _exec_terminal(backend: Any, ref: str, spec: Any, stdin: bool, keys: str | None) -> int:
    from pycontainers.backend import Stdio

    inward, out, _ = terminal.streams()
    with contextlib.ExitStack() as stack:
        process = backend.exec(ref, spec, Stdio())
        stack.callback(process.close)
        terminal.copy_size(out, process.terminal)
        detached = threading.Event()
        left: list[int] = []

        def leave(number: int) -> None:
            left.append(number)
            detached.set()

        handlers: dict[int, Callable[[int], None]] = dict.fromkeys(_ENDING, leave)
        handlers[signal.SIGWINCH] = lambda _: terminal.copy_size(out, process.terminal)
        if stdin:
            stack.enter_context(terminal.RawMode(inward))
        stack.enter_context(terminal.Signals(handlers))
        ended = threading.Event()
        pump = threading.Thread(target=_read_terminal, args=(process.terminal, out, ended), daemon=True)
        pump.start()
        if stdin:
            wanted = terminal.parse_keys(terminal.DETACH_KEYS if keys is None else keys)
            copier = terminal.InputCopier(inward, process.terminal, lambda: None, wanted)

            def detach() -> None:
                detached.set()

            copier.on_detach = detach
            copier.start()
            stack.callback(copier.stop)
        code: int | None = None
        while not detached.is_set():
            code = process.wait(0.1) if ended.is_set() else process.wait(0.25)
            if code is not None:
                ended.wait(0.5)
                break
    if left:
        raise Failure(code=128 + left[0])
    return 0 if code is None else int(code)


def _read_terminal(source: int, target: int, ended: threading.Event) -> None:
    try:
        while data := os.read(source, 65536):
            terminal.write_all(target, data)
    except OSError:
        # EIO: the last process that had the terminal open is gone.
        pass
    ended.set()


def _close(fds: Any) -> None:
    for fd in fds:
        if fd >= 0:
            os.close(fd)


_KEYS = Flag("detach-keys", "", "string", "Override the key sequence for detaching a container")
_PROXY = "Proxy all received signals to the process"

ATTACH = Command(
    _attach, "CONTAINER",
    (_KEYS, Flag("no-stdin", "", "bool", "Do not attach STDIN"), Flag("sig-proxy", "", "bool", _PROXY, True)),
    least=1, most=1,
)
START = Command(
    _start, "CONTAINER [CONTAINER...]",
    (Flag("attach", "a", "bool", "Attach STDOUT/STDERR and forward signals"), _KEYS,
     Flag("interactive", "i", "bool", "Attach container's STDIN")),
    least=1, most=None,
)
EXEC = Command(
    _exec, "CONTAINER COMMAND [ARG...]",
    (
        Flag("detach", "d", "bool", "Detached mode: run command in the background"),
        _KEYS,
        Flag("env", "e", "list", "Set environment variables"),
        Flag("env-file", "", "list", "Read in a file of environment variables"),
        Flag("interactive", "i", "bool", "Keep STDIN open even if not attached"),
        Flag("privileged", "", "bool", "Give extended privileges to the command"),
        Flag("tty", "t", "bool", "Allocate a pseudo-TTY"),
        Flag("user", "u", "string", 'Username or UID (format: "<name|uid>[:<group|gid>]")'),
        Flag("workdir", "w", "string", "Working directory inside the container"),
    ),
    least=2, most=None, interspersed=False,
)
