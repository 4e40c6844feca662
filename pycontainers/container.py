"""`Container`: an instance of its image's class, and the root of those classes.

What both an image and a container have is one descriptor, which answers for the class or for the instance.
"""

from __future__ import annotations

import builtins

from pycontainers.image import Image as Image
from pycontainers.image import _check_text
from pycontainers.image import _short
from pycontainers.image import _unknown_option
from pycontainers.image import image_class

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from collections.abc import Iterator
    from collections.abc import Mapping
    from datetime import datetime
    from datetime import timedelta
    from os import PathLike
    from pathlib import Path
    from types import TracebackType
    from typing import Any
    from typing import BinaryIO
    from typing import ClassVar
    from typing import Concatenate
    from typing import Generic
    from typing import Literal
    from typing import ParamSpec
    from typing import Protocol
    from typing import TypeVar
    from typing import Union
    from typing import overload

    from typing_extensions import Self
    from typing_extensions import Unpack

    from pycontainers.backend import Change
    from pycontainers.backend import ContainerRecord
    from pycontainers.backend import ContainerState
    from pycontainers.backend import Health
    from pycontainers.backend import LogFrame
    from pycontainers.backend import ProcessRecord
    from pycontainers.backend import Removed
    from pycontainers.backend import Stats
    from pycontainers.engine import Engine
    from pycontainers.filesystem import ContainerPath
    from pycontainers.options import ContainerOptions
    from pycontainers.options import Pairs
    from pycontainers.options import Text
    from pycontainers.options import UpdateOptions
    from pycontainers.process import Attached
    from pycontainers.process import CompletedProcess
    from pycontainers.process import File
    from pycontainers.process import Popen
    from pycontainers.spec import ContainerSpec
    from pycontainers.spec import ImageConfig
    from pycontainers.waiting import Condition

    OfImage = TypeVar("OfImage")
    OfContainer = TypeVar("OfContainer")
    ImageArgs = ParamSpec("ImageArgs")
    ContainerArgs = ParamSpec("ContainerArgs")
    Moment = Union[datetime, timedelta, float, None]

    class both(Generic[OfImage, OfContainer]):
        """A read-only attribute of images and of containers."""

        def __init__(
            self, of_image: Callable[[type[Container]], OfImage], of_container: Callable[[Container], OfContainer]
        ) -> None: ...

        @overload
        def __get__(self, instance: None, owner: type[Container]) -> OfImage: ...
        @overload
        def __get__(self, instance: Container, owner: type[Container]) -> OfContainer: ...
        def __get__(self, instance: Container | None, owner: type[Container]) -> OfImage | OfContainer: ...

    class RemoveImage(Protocol):
        """An image's `remove`."""

        def __call__(self, *, force: bool = False) -> Removed:
            """Remove it."""
            raise NotImplementedError

    class RemoveContainer(Protocol):
        """A container's `remove`."""

        def __call__(self, *, force: bool = False, volumes: bool = False) -> Removed:
            """Remove it."""
            raise NotImplementedError

    class both_methods(Generic[ImageArgs, OfImage, ContainerArgs, OfContainer]):
        """A method of images and of containers."""

        def __init__(
            self,
            of_image: Callable[Concatenate[type[Container], ImageArgs], OfImage],
            of_container: Callable[Concatenate[Container, ContainerArgs], OfContainer],
        ) -> None: ...
        @overload
        def __get__(self, instance: None, owner: type[Container]) -> Callable[ImageArgs, OfImage]: ...
        @overload
        def __get__(self, instance: Container, owner: type[Container]) -> Callable[ContainerArgs, OfContainer]: ...
        def __get__(
            self, instance: Container | None, owner: type[Container]
        ) -> Callable[ImageArgs, OfImage] | Callable[ContainerArgs, OfContainer]: ...

else:

    class both:
        """A read-only attribute of images and of containers; the root class, which has no image, shows it itself."""

        def __init__(self, of_image, of_container):
            self.of_image = of_image
            self.of_container = of_container
            self.__doc__ = f"Of an image: {of_image.__doc__} Of a container: {of_container.__doc__}"

        def __get__(self, instance, owner):
            if instance is not None:
                return self.of_container(instance)
            return self if owner._source() is None else self.of_image(owner)

        def __set__(self, instance, value):
            raise AttributeError("it can't be set")

    class both_methods:
        """A method of images and of containers."""

        def __init__(self, of_image, of_container):
            self.of_image = of_image
            self.of_container = of_container
            self.__doc__ = f"Of an image: {of_image.__doc__} Of a container: {of_container.__doc__}"

        def __get__(self, instance, owner):
            if instance is not None:
                return self.of_container.__get__(instance)
            return self if owner._source() is None else self.of_image.__get__(owner)


class _Handle:
    """What an instance knows for ever: engine and id; and what it saw of a container that may be removed by itself."""

    __slots__ = ("auto_remove", "engine", "id", "lifetime_open", "output", "since", "stopped")

    def __init__(self, engine: Engine, id: str, *, lifetime_open: bool = False, auto_remove: bool = False) -> None:
        self.engine = engine
        self.id = id
        #: True until `start` or `with` decides whether the container outlives this process.
        self.lifetime_open = lifetime_open
        self.auto_remove = auto_remove
        self.output: Any = None
        self.since = 0


def _image_id(cls: type[Container]) -> str:
    """`sha256:` and 64 digits."""
    return cls._image_id()


def _container_id(self: Container) -> str:
    """64 digits."""
    return self._handle.id


def _image_short_id(cls: type[Container]) -> str:
    """The id's first 12 digits."""
    return _short(cls._image_id())


def _container_short_id(self: Container) -> str:
    """The id's first 12 digits."""
    return self._handle.id[:12]


def _time(seconds: float) -> datetime:
    from datetime import datetime
    from datetime import timezone

    return datetime.fromtimestamp(seconds, timezone.utc)


def _image_created(cls: type[Container]) -> datetime:
    """When it was made."""
    return _time(cls._record().created)


def _container_created(self: Container) -> datetime:
    """When it was made."""
    return _time(self._now().created)


def _image_config(cls: type[Container]) -> ImageConfig:
    """What it says of its containers."""
    return cls._record().config


def _container_config(self: Container) -> ContainerSpec:
    """The options it was made with."""
    return self._now().spec


def _remove_image(cls: type[Container], *, force: bool = False) -> Removed:
    """Remove it with all its references. Atomic. Raises `ImageNotFound`; `InUse` while a container uses it, unless
    `force`.
    """
    from pycontainers.backend import ImageRecord

    engine = cls._engine_for()
    return engine.backend.remove(ImageRecord, cls._record(engine).id, force=force)


def _remove_container(self: Container, *, force: bool = False, volumes: bool = False) -> Removed:
    """Remove it; `force` kills it first, `volumes` takes its anonymous volumes too. Atomic. Raises `ContainerNotFound`;
    `InUse` if it runs and `force` wasn't given.
    """
    from pycontainers.backend import ContainerRecord

    return self._handle.engine.backend.remove(ContainerRecord, self._handle.id, force=force, volumes=volumes)


def _inspect_image(cls: type[Container]) -> dict[str, Any]:
    """Return everything about it, as Docker's JSON has it."""
    from pycontainers.dockerapi import image_json

    return image_json(cls._record())


def _inspect_container(self: Container) -> dict[str, Any]:
    """Return everything about it, as Docker's JSON has it."""
    from pycontainers.dockerapi import container_json

    return container_json(self._now())


class Container(metaclass=Image):
    """A container. Its class is its image: `Debian = Image.get("debian:12")`, then `Debian("sleep", "60", name="nap")`.

    `command` replaces the image's command; `options` are the fields of `ContainerSpec`. Making an instance creates the
    container and starts nothing. Attributes are read at each use, so they are never stale. All of it is thread-safe.

    As a context manager a container starts on entry, and is stopped and removed at the end of the block; it dies with
    this process, whatever kills it. A plain `start()` makes it outlive the process. `lifetime="process"` or
    `"detached"` says so explicitly.

    A subclass names its image: `class Web(Container, image="debian:12")`, by a reference or a class. Its methods are
    the containers' methods.

    Raises `ImageNotFound`, `NameInUse`, `InvalidSpec`, `InvalidType`, `Unsupported`.
    """

    _handle: _Handle
    _image: ClassVar[str | Image]

    def __init__(self, *command: Text, engine: Engine | None = None, **options: Unpack[ContainerOptions]) -> None:
        from pycontainers.backend import Capability

        cls = type(self)
        engine = cls._engine_for(engine)
        said = "lifetime" in options
        if said and options["lifetime"] == "process":
            engine.require(Capability.LIFETIME, "lifetime='process'")
        undecided = not said and engine.supports(Capability.LIFETIME)
        if undecided:
            options["lifetime"] = "process"
        spec = cls._spec(engine, command, options)
        handle = _Handle(engine, engine.backend.create(spec), lifetime_open=undecided, auto_remove=spec.auto_remove)
        object.__setattr__(self, "_handle", handle)

    def __init_subclass__(cls, *, image: str | type[Container] | None = None) -> None:
        super().__init_subclass__()
        if image is None:
            return
        if not isinstance(image, (str, Image)) or (isinstance(image, Image) and image._source() is None):
            from pycontainers.errors import InvalidType

            raise InvalidType(f"image takes a reference or an image's class: got {image!r}")
        cls._image = image

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._handle.id[:12]}>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Container):
            return NotImplemented
        return self._handle.id == other._handle.id and self._handle.engine is other._handle.engine

    def __hash__(self) -> int:
        return hash(self._handle.id)

    # -- finding -----------------------------------------------------------------------------------------------------

    @classmethod
    def get(cls, ref: str, *, engine: Engine | None = None) -> Self:
        """Return the container with that name, id or id prefix; of an image's class, only if it is of that image.

        Raises `ContainerNotFound`, `AmbiguousName`.
        """
        from pycontainers.backend import ContainerRecord
        from pycontainers.errors import ContainerNotFound

        _check_text("ref", ref)
        engine = cls._engine_for(engine)
        record = engine.backend.get(ContainerRecord, ref)
        found = cls._instances(engine, [record])
        if not found:
            raise ContainerNotFound(f"container {record.name!r} is not one of {cls.__name__}")
        return found[0]

    @classmethod
    def list(
        cls, *, all: bool = False, filters: Mapping[str, object] | None = None, engine: Engine | None = None
    ) -> builtins.list[Self]:
        """Return the running containers, newest first; with `all`, the others too. Of an image's class: of that image.

        `filters` are Docker's: id, name, label, status, ancestor, exited, before, since, health, volume, network,
        publish, expose. Never raises because one went away meanwhile. Raises `InvalidSpec` for an unknown filter.
        """
        from pycontainers.backend import ContainerRecord
        from pycontainers.filters import select_containers

        engine = cls._engine_for(engine)
        records = select_containers(engine.backend, engine.backend.list(ContainerRecord), filters, all=all)
        return cls._instances(engine, records)

    @classmethod
    def prune(cls, *, filters: Mapping[str, object] | None = None, engine: Engine | None = None) -> Removed:
        """Remove every container that doesn't run; say what went. `filters` are Docker's: label, label!, until."""
        from pycontainers.backend import ContainerRecord
        from pycontainers.errors import InUse
        from pycontainers.errors import NotFound
        from pycontainers.filters import merge_removed
        from pycontainers.filters import prunable

        engine = cls._engine_for(engine)
        records = [r for r in prunable(engine.backend.list(ContainerRecord), filters)
                   if r.state.status.value in ("created", "exited", "dead")]
        results = []
        for container in cls._instances(engine, records):
            try:
                results.append(engine.backend.remove(ContainerRecord, container.id))
            except (NotFound, InUse):
                continue
        return merge_removed(results)

    @classmethod
    def _instances(cls, engine: Engine, records: builtins.list[ContainerRecord]) -> builtins.list[Self]:
        """The containers of these records that are of the class; `Container` itself gives each one its image's class."""
        result: builtins.list[Any] = []
        any_image = cls._source() is None
        wanted = None if any_image else cls._family(engine)
        for record in records:
            if wanted is not None and record.image_id not in wanted:
                continue
            made: Any = _class_of(engine, record) if any_image and cls is Container else cls
            self = made.__new__(made)
            handle = _Handle(engine, record.id, auto_remove=record.spec.auto_remove)
            object.__setattr__(self, "_handle", handle)
            result.append(self)
        return result

    @classmethod
    def _family(cls, engine: Engine) -> set[str]:
        from pycontainers.backend import ImageRecord
        from pycontainers.errors import NotFound
        from pycontainers.filters import descendants

        try:
            own = cls._record(engine).id
        except NotFound:
            source = cls._image_ref()
            return {source}
        return descendants(own, engine.backend.list(ImageRecord))

    # -- what both have ----------------------------------------------------------------------------------------------

    id: both[str, str] = both(_image_id, _container_id)
    short_id: both[str, str] = both(_image_short_id, _container_short_id)
    created: both[datetime, datetime] = both(_image_created, _container_created)
    config: both[ImageConfig, ContainerSpec] = both(_image_config, _container_config)
    if TYPE_CHECKING:
        remove: ClassVar[both[RemoveImage, RemoveContainer]]
    else:
        remove = both_methods(_remove_image, _remove_container)
    inspect: both_methods[[], dict[str, Any], [], dict[str, Any]] = both_methods(_inspect_image, _inspect_container)

    # -- attributes --------------------------------------------------------------------------------------------------

    @property
    def engine(self) -> Engine:
        """The engine that has the container."""
        return self._handle.engine

    @property
    def name(self) -> str:
        """Its name now."""
        return self._now().name

    @property
    def image(self) -> type[Container]:
        """Its image's class; it is there even when the image is gone."""
        return _class_of(self._handle.engine, self._now())

    @property
    def state(self) -> ContainerState:
        """Its whole live state: status, pid, exit code, times, health."""
        return self._state()

    @property
    def status(self) -> str:
        """`created`, `running`, `paused`, `restarting`, `removing`, `exited` or `dead`."""
        return self._state().status.value

    @property
    def exit_code(self) -> int | None:
        """How it ended, as Docker counts (128+n for a signal); None while it hasn't."""
        state = self._state()
        return state.exit_code if state.status.value in ("exited", "dead", "removing") else None

    @property
    def pid(self) -> int:
        """Its first process's id as this process sees it; 0 when nothing runs."""
        return self._state().pid

    @property
    def labels(self) -> dict[str, str]:
        """Its labels, its image's included."""
        record = self._now()
        return {**dict(record.image_config.labels), **dict(record.spec.labels)}

    @property
    def health(self) -> Health | None:
        """What its health checks say: `status` is `starting`, `healthy` or `unhealthy`; None without a check."""
        return self._state().health

    # -- life --------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start it; returns once its command runs. Does nothing if it runs.

        Raises `CommandNotFound`, `CommandNotExecutable`, `StartFailed`, `InvalidState`.
        """
        self._decide("detached")
        self._start()

    def _decide(self, lifetime: str) -> None:
        handle = self._handle
        if handle.lifetime_open:
            handle.lifetime_open = False
            if lifetime != "process":
                from pycontainers.backend import ContainerRecord
                from pycontainers.spec import ContainerUpdate

                handle.engine.backend.update(ContainerRecord, handle.id, ContainerUpdate(lifetime=lifetime))

    def _start(self) -> None:
        handle = self._handle
        if handle.auto_remove and handle.output is None:
            import time

            from pycontainers.output import Keeper

            handle.since = time.time_ns()
            handle.output = Keeper(handle.engine.backend.attach(handle.id, stdin=False, logs=True))
        handle.engine.backend.start(handle.id)

    def stop(self, timeout: float | None = None, signal: int | str | None = None) -> None:
        """Send its stop signal (or `signal`), and SIGKILL after `timeout` seconds (its own, or 10). Idempotent.

        Returns when it has ended; a restart policy doesn't start it again.
        """
        from pycontainers.errors import InvalidType
        from pycontainers.spec import parse_signal

        if timeout is not None and (isinstance(timeout, bool) or not isinstance(timeout, (int, float))):
            raise InvalidType(f"timeout takes seconds: got {timeout!r}")
        number = None if signal is None else parse_signal(signal)
        self._handle.engine.backend.stop(self._handle.id, timeout, number)

    def kill(self, signal: int | str = "KILL") -> None:
        """Send a signal, by number or name, to its first process. Raises `InvalidState` if it doesn't run."""
        from pycontainers.spec import parse_signal

        self._handle.engine.backend.signal(self._handle.id, parse_signal(signal))

    def restart(self, timeout: float | None = None) -> None:
        """Stop it (see `stop`) and start it again."""
        self._decide("detached")
        self._handle.engine.backend.stop(self._handle.id, timeout)
        self._start()

    def pause(self) -> None:
        """Freeze all its processes. Raises `InvalidState` if it doesn't run, or is paused; `Unsupported`."""
        self._pause(True)

    def unpause(self) -> None:
        """Let its processes go on. Raises `InvalidState` if it isn't paused; `Unsupported`."""
        self._pause(False)

    def _pause(self, paused: bool) -> None:
        from pycontainers.backend import Capability
        from pycontainers.backend import ContainerRecord
        from pycontainers.spec import ContainerUpdate

        self._handle.engine.require(Capability.PAUSE)
        self._handle.engine.backend.update(ContainerRecord, self._handle.id, ContainerUpdate(paused=paused))

    def wait(self, timeout: float | None = None, condition: str = "not-running") -> int:
        """Return its exit code once it is `not-running`, had a `next-exit`, or is `removed`.

        Raises `TimedOut` after `timeout` seconds, `ContainerNotFound`.
        """
        from pycontainers.errors import ContainerNotFound
        from pycontainers.errors import TimedOut

        try:
            state = self._handle.engine.backend.wait(self._handle.id, timeout, condition)
        except ContainerNotFound:
            state = self._last_state()
            if state is None:
                raise
        if state is None:
            raise TimedOut(f"container {self.short_id} was not {condition} within {timeout} s")
        return state.exit_code

    def wait_for(self, condition: Condition | Callable[[Container], object], timeout: float | None = None) -> Self:
        """Wait until a condition is true, and return the container.

        `condition` is `log(regex)`, `port(n)`, `http(path)`, `healthy()`, `exited()`, or any function of the container.
        Raises `WaitFailed` at once when the container ends first, with its exit code and the end of its log; `TimedOut`
        after `timeout` seconds.
        """
        from pycontainers.waiting import wait_for

        wait_for(self, condition, timeout)
        return self

    def rename(self, name: str) -> None:
        """Give it another name. Atomic. Raises `NameInUse`, `InvalidSpec`."""
        from pycontainers.backend import ContainerRecord
        from pycontainers.spec import ContainerUpdate

        if not name:
            from pycontainers.errors import InvalidSpec

            raise InvalidSpec("name must not be empty")
        self._handle.engine.backend.update(ContainerRecord, self._handle.id, ContainerUpdate(name=name))

    def update(self, **changes: Unpack[UpdateOptions]) -> None:
        """Change its limits (`memory=`, `cpus=`, ...) or restart policy, while it runs too. Raises `Unsupported`."""
        from pycontainers.backend import Capability
        from pycontainers.backend import ContainerRecord
        from pycontainers.spec import ContainerUpdate

        try:
            update = ContainerUpdate(**changes)
        except TypeError as error:
            raise _unknown_option(changes, ContainerUpdate, error) from error
        for option in changes:
            self._handle.engine.require(
                Capability.RESTART if option == "restart" else Capability.LIMITS, f"the option {option}"
            )
        self._handle.engine.backend.update(ContainerRecord, self._handle.id, update)

    def __enter__(self) -> Self:
        self._decide("process")
        try:
            self._start()
        except BaseException:
            self._discard()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        from pycontainers.errors import NotFound

        try:
            self.stop()
        except NotFound:
            return
        except BaseException:
            self._discard()
            raise
        self._discard()

    def _discard(self) -> None:
        from pycontainers.errors import NotFound

        try:
            self.remove(force=True, volumes=True)
        except NotFound:
            pass

    # -- commands inside ---------------------------------------------------------------------------------------------

    if TYPE_CHECKING:

        @overload
        def exec(
            self, *command: Text, input: str | bytes | None = None, timeout: float | None = None, check: bool = False,
            text: Literal[True] = True, user: str | None = None, workdir: str | None = None,
            environment: Pairs | None = None, tty: bool = False, privileged: bool = False,
        ) -> CompletedProcess[str]: ...

        @overload
        def exec(
            self, *command: Text, input: str | bytes | None = None, timeout: float | None = None, check: bool = False,
            text: Literal[False], user: str | None = None, workdir: str | None = None,
            environment: Pairs | None = None, tty: bool = False, privileged: bool = False,
        ) -> CompletedProcess[bytes]: ...

    def exec(
        self,
        *command: Text,
        input: str | bytes | None = None,
        timeout: float | None = None,
        check: bool = False,
        text: bool = True,
        user: str | None = None,
        workdir: str | None = None,
        environment: Pairs | None = None,
        tty: bool = False,
        privileged: bool = False,
    ) -> CompletedProcess[Any]:
        """Run a command in it and answer as `subprocess.run` does, output captured.

        After `timeout` seconds, and when the call is interrupted, the command and every descendant of it are killed,
        and nothing else. Raises `ProcessFailed` with `check`, `TimedOut` (with the output so far), `CommandNotFound`,
        `CommandNotExecutable`, `InvalidState`, `Unsupported`.
        """
        from pycontainers.process import execute

        spec = self._exec_spec(command, user, workdir, environment, tty, privileged)
        return execute(self._handle.engine.backend, self._handle.id, spec, input, timeout, check, text)

    if TYPE_CHECKING:

        @overload
        def popen(
            self, *command: Text, stdin: File = None, stdout: File = None, stderr: File = None,
            text: Literal[True] = True, user: str | None = None, workdir: str | None = None,
            environment: Pairs | None = None, tty: bool = False, privileged: bool = False,
        ) -> Popen[str]: ...

        @overload
        def popen(
            self, *command: Text, stdin: File = None, stdout: File = None, stderr: File = None, text: Literal[False],
            user: str | None = None, workdir: str | None = None, environment: Pairs | None = None, tty: bool = False,
            privileged: bool = False,
        ) -> Popen[bytes]: ...

    def popen(
        self,
        *command: Text,
        stdin: File = None,
        stdout: File = None,
        stderr: File = None,
        text: bool = True,
        user: str | None = None,
        workdir: str | None = None,
        environment: Pairs | None = None,
        tty: bool = False,
        privileged: bool = False,
    ) -> Popen[Any]:
        """Start a command in it and return the running process, as `subprocess.Popen` does.

        `stdin`, `stdout` and `stderr` are PIPE, DEVNULL, a descriptor, or a file (`stderr` also STDOUT), and the
        process gets these very pipes. None is this process's own stdout and stderr, copied, and no stdin. With `tty` it
        gets a terminal of its own, whose other end are the result's `stdin` and `stdout`.
        Raises `CommandNotFound`, `CommandNotExecutable`, `InvalidState`, `Unsupported`.
        """
        from pycontainers.process import Popen

        spec = self._exec_spec(command, user, workdir, environment, tty, privileged)
        return Popen(self._handle.engine.backend, self._handle.id, spec, stdin, stdout, stderr, text)

    def _exec_spec(
        self, command: tuple[Text, ...], user: str | None, workdir: str | None, environment: Pairs | None, tty: bool,
        privileged: bool,
    ) -> Any:
        from pycontainers.backend import Capability
        from pycontainers.errors import InvalidSpec
        from pycontainers.spec import ExecSpec
        from pycontainers.spec import is_root

        engine = self._handle.engine
        engine.require(Capability.EXEC)
        if tty:
            engine.require(Capability.TTY, "the option tty")
        if not is_root(user):
            engine.require(Capability.USERS, f"user={user!r}")
        if not command:
            raise InvalidSpec("exec needs a command")
        return ExecSpec(command=command, user=user, workdir=workdir, environment=environment, tty=tty,
                        privileged=privileged, kill_on_close=True)

    # -- output ------------------------------------------------------------------------------------------------------

    def attach(self, *, stdin: bool = True, logs: bool = False) -> Attached:
        """Attach to its streams, running or not yet started; `logs` begins with its first byte.

        Raises `InvalidState` if it has ended.
        """
        from pycontainers.output import Keeper
        from pycontainers.process import Attached

        handle = self._handle
        if handle.auto_remove and handle.output is None:
            handle.output = Keeper(handle.engine.backend.attach(handle.id, stdin=False, logs=True))
        return Attached(handle.engine.backend.attach(handle.id, stdin=stdin, logs=logs))

    if TYPE_CHECKING:

        @overload
        def logs(
            self, *, stream: Literal["stdout", "stderr"] | None = None, follow: Literal[False] = False,
            since: Moment = None, until: Moment = None, tail: int | None = None, timestamps: bool = False,
            text: Literal[True] = True,
        ) -> str: ...

        @overload
        def logs(
            self, *, stream: Literal["stdout", "stderr"] | None = None, follow: Literal[False] = False,
            since: Moment = None, until: Moment = None, tail: int | None = None, timestamps: bool = False,
            text: Literal[False],
        ) -> bytes: ...

        @overload
        def logs(
            self, *, stream: Literal["stdout", "stderr"] | None = None, follow: Literal[True], since: Moment = None,
            until: Moment = None, tail: int | None = None, timestamps: bool = False, text: Literal[True] = True,
        ) -> Iterator[str]: ...

        @overload
        def logs(
            self, *, stream: Literal["stdout", "stderr"] | None = None, follow: Literal[True], since: Moment = None,
            until: Moment = None, tail: int | None = None, timestamps: bool = False, text: Literal[False],
        ) -> Iterator[bytes]: ...

    def logs(
        self,
        *,
        stream: Literal["stdout", "stderr"] | None = None,
        follow: bool = False,
        since: Moment = None,
        until: Moment = None,
        tail: int | None = None,
        timestamps: bool = False,
        text: bool = True,
    ) -> Any:
        """Return all that it wrote, from the first byte; with `follow`, an iterator of lines that ends when it ends.

        `stream` picks one of the two. `since` and `until` are a datetime, seconds since the epoch, or a timedelta (so
        long ago); `tail` is a number of lines. `timestamps` puts the time before each line. A last line without a
        newline is kept. The object that started, ran or attached to an auto-removed container can read it afterwards.
        """
        from pycontainers import output

        frames = self.frames(follow=follow)
        lines = output.lines(frames, stream=stream, since=output.moment(since), until=output.moment(until), tail=tail,
                             timestamps=timestamps)
        if follow:
            return (output.decode(line) if text else line for _, line in lines)
        whole = b"".join(line for _, line in lines)
        return output.decode(whole) if text else whole

    def frames(self, *, follow: bool = False, cursor: int = 0) -> Iterator[LogFrame]:
        """Yield its output piece by piece, each with its stream, its time in nanoseconds, and a cursor to resume from.

        With `follow` it ends when the container ends. Closing the iterator stops it.
        """
        from pycontainers.errors import ContainerNotFound

        handle = self._handle
        if handle.output is None:
            return handle.engine.backend.logs(handle.id, follow=follow, cursor=cursor)
        if not follow:
            try:
                return iter([*handle.engine.backend.logs(handle.id, cursor=cursor)])
            except ContainerNotFound:
                pass
        kept: Iterator[LogFrame] = handle.output.frames(cursor)
        return kept

    def stats(self) -> Stats:
        """Return its use of CPU, memory, processes and disk now, without waiting. Raises `InvalidState`, `Unsupported`."""
        from pycontainers.backend import Capability

        self._handle.engine.require(Capability.STATS)
        return self._handle.engine.backend.stats(self._handle.id)

    def top(self) -> builtins.list[ProcessRecord]:
        """Return its processes. Raises `InvalidState` if it doesn't run, `Unsupported`."""
        from pycontainers.backend import Capability

        self._handle.engine.require(Capability.TOP)
        return self._handle.engine.backend.top(self._handle.id)

    # -- files -------------------------------------------------------------------------------------------------------

    def diff(self) -> builtins.list[Change]:
        """Return what changed in its file system against its image, sorted by path. Raises `Unsupported`."""
        from pycontainers.backend import Capability

        self._handle.engine.require(Capability.DIFF)
        return self._handle.engine.backend.diff(self._handle.id)

    def copy_to(self, source: str | PathLike[str] | bytes, path: str) -> None:
        """Copy a file or directory of this machine into it, as `docker cp` does; bytes become a file's content.

        An existing directory `path` receives it under its own name, and `source/.` copies a directory's content.
        Raises `FileNotFoundError`, `NotFound` naming the path, `StoreFull`, `Unsupported`.
        """
        from pycontainers.filesystem import copy_to

        copy_to(self._handle.engine, self._handle.id, source, path)

    if TYPE_CHECKING:

        @overload
        def copy_from(self, path: str) -> bytes: ...

        @overload
        def copy_from(self, path: str, target: str | PathLike[str]) -> Path: ...

    def copy_from(self, path: str, target: str | PathLike[str] | None = None) -> Any:
        """Copy a file or directory out of it, as `docker cp` does, and return where it is; without `target`, its bytes.

        Nothing is written outside `target`, whatever the container holds. Raises `NotFound` naming the path,
        `InvalidSpec` for the bytes of a directory, `CorruptArchive`, `Unsupported`.
        """
        from pycontainers.filesystem import copy_from

        return copy_from(self._handle.engine, self._handle.id, path, target)

    def path(self, path: str = "/") -> ContainerPath:
        """Return a path inside it that works as pathlib's do. Raises `Unsupported`."""
        from pycontainers.backend import Capability
        from pycontainers.filesystem import ContainerPath

        self._handle.engine.require(Capability.FILES)
        return ContainerPath(self._handle.engine.backend, self._handle.id, path)

    def export(self, target: str | PathLike[str] | BinaryIO) -> None:
        """Write a tar of its whole file system, without mounts, to a path or an open binary file."""
        from pycontainers.filesystem import export

        export(self._handle.engine, self._handle.id, target)

    def connect(self, port: int) -> socket.socket:
        """Return a TCP socket connected to a port inside its own network; no published port is needed.

        Raises `ConnectionRefusedError`, `InvalidState`, `Unsupported`.
        """
        import socket

        from pycontainers.backend import Capability

        self._handle.engine.require(Capability.CONNECT)
        return socket.socket(fileno=self._handle.engine.backend.connect(self._handle.id, port))

    # -- reading -----------------------------------------------------------------------------------------------------

    def _now(self) -> ContainerRecord:
        from pycontainers.backend import ContainerRecord

        return self._handle.engine.backend.get(ContainerRecord, self._handle.id)

    def _state(self) -> ContainerState:
        from pycontainers.errors import ContainerNotFound

        try:
            return self._now().state
        except ContainerNotFound:
            state = self._last_state()
            if state is None:
                raise
            return state

    def _last_state(self) -> ContainerState | None:
        """How an auto-removed container that this object started ended, from the events; None if it isn't one."""
        handle = self._handle
        if not handle.since:
            return None
        from pycontainers.output import last_state

        return last_state(handle.engine.backend, handle.id, handle.since)


def _class_of(engine: Engine, record: ContainerRecord) -> type[Container]:
    """The class of a container's image; one made from its own record if the image was removed by force."""
    from pycontainers.backend import ImageRecord
    from pycontainers.errors import NotFound

    found = engine._classes.get(record.image_id)
    if found is not None:
        return found  # type: ignore[return-value]
    try:
        image = engine.backend.get(ImageRecord, record.image_id)
    except NotFound:
        image = ImageRecord(id=record.image_id, config=record.image_config)
    return image_class(engine, image, "" if image.tags else record.spec.image)


if TYPE_CHECKING:

    @overload
    def run(
        image: str | type[Container], *command: Text, input: str | bytes | None = None, timeout: float | None = None,
        check: bool = False, text: Literal[True] = True, engine: Engine | None = None,
        **options: Unpack[ContainerOptions],
    ) -> CompletedProcess[str]: ...

    @overload
    def run(
        image: str | type[Container], *command: Text, input: str | bytes | None = None, timeout: float | None = None,
        check: bool = False, text: Literal[False], engine: Engine | None = None, **options: Unpack[ContainerOptions],
    ) -> CompletedProcess[bytes]: ...


def run(
    image: str | type[Container],
    *command: Text,
    input: str | bytes | None = None,
    timeout: float | None = None,
    check: bool = False,
    text: bool = True,
    engine: Engine | None = None,
    **options: Unpack[ContainerOptions],
) -> CompletedProcess[Any]:
    """Run a command in a new container of an image (a reference, or a class), and remove it; see `Image.run`."""
    if isinstance(image, str):
        image = Image.get(image, engine=engine)
    return image.run(*command, input=input, timeout=timeout, check=check, text=text, engine=engine, **options)  # type: ignore[no-any-return, call-overload]
