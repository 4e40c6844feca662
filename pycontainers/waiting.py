"""Waiting until a container is ready: conditions, woken by its log, its end and its events."""

from __future__ import annotations

import re
import threading
import time
from abc import ABC
from abc import abstractmethod
from typing import NoReturn

from pycontainers.backend import Attachment
from pycontainers.backend import ContainerState
from pycontainers.backend import Status
from pycontainers.errors import ContainerNotFound
from pycontainers.errors import InvalidSpec
from pycontainers.errors import InvalidState
from pycontainers.errors import InvalidType
from pycontainers.errors import TimedOut
from pycontainers.errors import WaitFailed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Literal

    from pycontainers.container import Container

#: Seconds between two looks at what no event tells (LISTEN, a file): at first, and at most.
_FIRST_LOOK = 0.002
_LAST_LOOK = 0.02
#: A function of the container is asked at least this often, and after each piece of output and each event.
_LAST_ASK = 0.1
_TAIL_LINES = 20


class Condition(ABC):
    """Something to wait for; `str()` names it."""

    @abstractmethod
    def wait(self, container: Container, deadline: float | None) -> None:
        """Return once it is true. Raises `WaitFailed` if the container ends first, `TimedOut` at the deadline."""


def wait_for(container: Container, condition: Condition | Callable[[Container], object], timeout: float | None) -> None:
    """Wait until the condition is true; see `Container.wait_for`."""
    if timeout is not None and (isinstance(timeout, bool) or not isinstance(timeout, (int, float))):
        raise InvalidType(f"timeout takes seconds: got {timeout!r}")
    if not isinstance(condition, Condition):
        if not callable(condition):
            raise InvalidType(f"condition takes log(), port(), http(), healthy(), exited() or a function: got {condition!r}")
        condition = _Function(condition)
    condition.wait(container, None if timeout is None else time.monotonic() + timeout)


def log(pattern: str | re.Pattern[str], *, stream: Literal["stdout", "stderr"] | None = None) -> Condition:
    """True once a line of the output, from the first byte, matches the regular expression (as `re.search` finds it)."""
    return _Log(pattern, stream)


def port(number: int, protocol: str = "tcp") -> Condition:
    """True once a process of the container listens on the port, seen inside its own network."""
    return _Port(number, protocol)


def http(path: str = "/", *, port: int | None = None, status: int | None = None) -> Condition:
    """True once a GET of the path, made inside the container's network, is answered with `status` (or any below 400).

    `port` is the image's exposed one, else 80.
    """
    return _Http(path, port, status)


def healthy() -> Condition:
    """True once the container's health check says healthy."""
    return _Healthy()


def exited(code: int | None = None) -> Condition:
    """True once the container has ended (with that exit code, if one is given)."""
    return _Exited(code)


class _Function(Condition):
    def __init__(self, function: Callable[[Container], object]) -> None:
        self.function = function

    def __str__(self) -> str:
        return getattr(self.function, "__name__", None) or repr(self.function)

    def wait(self, container: Container, deadline: float | None) -> None:
        if self.function(container):
            return
        with _Watch(container) as watch:
            delay = _FIRST_LOOK
            while True:
                ended = _ended(container)
                if self.function(container):
                    return
                if ended is not None:
                    _fail(container, self, ended)
                _check(container, self, deadline)
                delay = _FIRST_LOOK if watch.wait(_shorter(delay, deadline)) else min(delay * 2, _LAST_ASK)


class _Healthy(_Function):
    def __init__(self) -> None:
        super().__init__(self._is_healthy)

    def __str__(self) -> str:
        return "healthy()"

    def wait(self, container: Container, deadline: float | None) -> None:
        record = container._now()
        check = record.spec.healthcheck or record.image_config.healthcheck
        if check is None or check.test[:1] == ("NONE",):
            raise InvalidState(f"container {container.short_id} has no health check to wait for")
        super().wait(container, deadline)

    @staticmethod
    def _is_healthy(container: Container) -> bool:
        try:
            health = container.health
        except ContainerNotFound:
            return False
        return health is not None and health.status == "healthy"


class _Log(Condition):
    def __init__(self, pattern: str | re.Pattern[str], stream: Literal["stdout", "stderr"] | None) -> None:
        if not isinstance(pattern, (str, re.Pattern)):
            raise InvalidType(f"log takes a regular expression: got {pattern!r}")
        try:
            self.pattern = re.compile(pattern)
        except re.error as error:
            raise InvalidSpec(f"log: {pattern!r} is not a regular expression: {error}") from error
        self.stream: Literal["stdout", "stderr"] | None = stream

    def __str__(self) -> str:
        return f"log({self.pattern.pattern!r})"

    def wait(self, container: Container, deadline: float | None) -> None:
        backend = container.engine.backend
        try:
            attachment = backend.attach(container.id, stdin=False, logs=True)
        except (InvalidState, ContainerNotFound):
            self._past(container)
            return
        timer = None
        if deadline is not None:
            timer = threading.Timer(max(0.0, deadline - time.monotonic()), attachment.close)
            timer.daemon = True
            timer.start()
        try:
            if self._seen(attachment):
                return
        finally:
            if timer is not None:
                timer.cancel()
            attachment.close()
        if deadline is not None and time.monotonic() >= deadline and _ended(container) is None:
            _check(container, self, deadline)
        # The output is at its end: the container is ending, if its state doesn't say so yet.
        try:
            state = backend.wait(container.id, None if deadline is None else max(0.0, deadline - time.monotonic()))
        except ContainerNotFound:
            state = _ended(container)
        if state is None:
            _check(container, self, deadline)
        _fail(container, self, state or ContainerState())

    def _seen(self, attachment: Attachment) -> bool:
        from pycontainers.backend import STDERR
        from pycontainers.backend import STDOUT

        only = {None: 0, "stdout": STDOUT, "stderr": STDERR}[self.stream]
        begun: dict[int, bytes] = {}
        for frame in attachment.frames():
            if only and frame.stream != only:
                continue
            # The line that isn't whole yet counts as well: a prompt has no newline.
            *lines, last = (begun.get(frame.stream, b"") + frame.data).split(b"\n")
            begun[frame.stream] = last
            if any(self.pattern.search(line.decode("utf-8", "replace")) for line in (*lines, last)):
                return True
        return False

    def _past(self, container: Container) -> None:
        text = container.logs(stream=self.stream)
        if any(self.pattern.search(line) for line in text.splitlines()):
            return
        state = _ended(container)
        _fail(container, self, state or ContainerState())


class _Port(Condition):
    def __init__(self, number: int, protocol: str) -> None:
        if isinstance(number, bool) or not isinstance(number, int):
            raise InvalidType(f"port takes a number: got {number!r}")
        if not 0 < number < 65536 or protocol not in ("tcp", "udp", "sctp"):
            raise InvalidSpec(f"port: {number!r}/{protocol} is not a port")
        self.number = number
        self.protocol = protocol

    def __str__(self) -> str:
        return f"port({self.number})"

    def wait(self, container: Container, deadline: float | None) -> None:
        backend = container.engine.backend
        _look(container, self, deadline, lambda: backend.listening(container.id, self.number, self.protocol))


class _Http(Condition):
    def __init__(self, path: str, port: int | None, status: int | None) -> None:
        if not isinstance(path, str) or not path.startswith("/"):
            raise InvalidSpec(f"http takes a path that begins with '/': got {path!r}")
        self.path = path
        self.port = port
        self.status = status

    def __str__(self) -> str:
        return f"http({self.path!r})"

    def wait(self, container: Container, deadline: float | None) -> None:
        from pycontainers.backend import Capability

        container.engine.require(Capability.CONNECT, str(self))
        exposed = [int(text.partition("/")[0]) for text in container._now().image_config.exposed_ports]
        number = self.port or (exposed or [80])[0]
        _look(container, self, deadline, lambda: self._answers(container, number, deadline))

    def _answers(self, container: Container, number: int, deadline: float | None) -> bool:
        import http.client

        limit = 5.0 if deadline is None else min(5.0, max(0.01, deadline - time.monotonic()))
        try:
            with container.connect(number) as connected:
                connected.settimeout(limit)
                connection = http.client.HTTPConnection("localhost", number, timeout=limit)
                connection.sock = connected
                connection.request("GET", self.path, headers={"Connection": "close"})
                code = connection.getresponse().status
        except (OSError, http.client.HTTPException, InvalidState, ContainerNotFound):
            return False
        return code == self.status if self.status is not None else code < 400


class _Exited(Condition):
    def __init__(self, code: int | None) -> None:
        self.code = code

    def __str__(self) -> str:
        return "exited()" if self.code is None else f"exited({self.code})"

    def wait(self, container: Container, deadline: float | None) -> None:
        left = None if deadline is None else max(0.0, deadline - time.monotonic())
        try:
            code = container.wait(left, "next-exit" if container.status in ("created", "restarting") else "not-running")
        except TimedOut:
            raise _timed_out(container, self) from None
        if self.code is not None and code != self.code:
            _fail(container, self, _ended(container) or ContainerState(exit_code=code))


class _Watch:
    """Wakes its owner whenever the container writes something or something happens to it."""

    def __init__(self, container: Container) -> None:
        self._container = container
        self._wake = threading.Event()
        self._done = False
        self._attachment: Attachment | None = None

    def __enter__(self) -> _Watch:
        backend = self._container.engine.backend
        try:
            self._attachment = backend.attach(self._container.id, stdin=False)
        except (InvalidState, ContainerNotFound):
            return self
        for target in (self._read, self._listen):
            threading.Thread(target=target, daemon=True, name="pycontainers-wait").start()
        return self

    def __exit__(self, *error: object) -> None:
        self._done = True
        if self._attachment is not None:
            self._attachment.close()

    def wait(self, seconds: float) -> bool:
        """Return True when woken, False after so many seconds."""
        woken = self._wake.wait(seconds)
        self._wake.clear()
        return woken

    def _read(self) -> None:
        if self._attachment is not None:
            for _ in self._attachment.frames():
                self._wake.set()
        self._wake.set()

    def _listen(self) -> None:
        for event in self._container.engine.backend.events():
            if self._done:
                return
            if event is not None and event.id == self._container.id:
                self._wake.set()


def _look(container: Container, condition: Condition, deadline: float | None, test: Callable[[], bool]) -> None:
    """Ask again and again, with growing pauses which the container's end cuts short."""
    backend = container.engine.backend
    delay = _FIRST_LOOK
    while True:
        try:
            if test():
                return
        except (InvalidState, ContainerNotFound):
            pass
        _check(container, condition, deadline)
        ended = _ended(container)
        if ended is not None:
            _fail(container, condition, ended)
        pause = _shorter(delay, deadline)
        if container.status == "created":
            time.sleep(pause)
        else:
            try:
                backend.wait(container.id, pause)
            except ContainerNotFound:
                pass
        delay = min(delay * 1.5, _LAST_LOOK)


def _shorter(delay: float, deadline: float | None) -> float:
    return delay if deadline is None else max(0.0, min(delay, deadline - time.monotonic()))


def _ended(container: Container) -> ContainerState | None:
    """The container's state if it has ended for good, else None. Raises `ContainerNotFound` if that can't be known."""
    state = container.state
    return state if state.status in (Status.EXITED, Status.DEAD, Status.REMOVING) else None


def _check(container: Container, condition: Condition, deadline: float | None) -> None:
    if deadline is not None and time.monotonic() >= deadline:
        raise _timed_out(container, condition)


def _timed_out(container: Container, condition: Condition) -> TimedOut:
    tail = _tail(container)
    said = f"; its log ends:\n{tail}" if tail else "; it wrote nothing"
    return TimedOut(f"container {container.short_id} did not become {condition} in time{said}", stdout=tail)


def _fail(container: Container, condition: Condition, state: ContainerState) -> NoReturn:
    tail = _tail(container)
    why = " (out of memory)" if state.oom_killed else f" ({state.error})" if state.error else ""
    said = f"; its log ends:\n{tail}" if tail else "; it wrote nothing"
    raise WaitFailed(
        f"container {container.short_id} ended with exit code {state.exit_code}{why} before {condition}{said}",
        exit_code=state.exit_code, oom_killed=state.oom_killed, log_tail=tail,
    )


def _tail(container: Container) -> str:
    try:
        return container.logs(tail=_TAIL_LINES)
    except ContainerNotFound:
        return ""
