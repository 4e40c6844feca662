"""An engine: one backend, opened; and which engine is meant when none is named."""

from __future__ import annotations

import os
import threading
import weakref
from contextvars import ContextVar

from attrs import frozen

from pycontainers import plugins
from pycontainers.backend import Backend
from pycontainers.backend import Capability
from pycontainers.errors import ContainersError
from pycontainers.errors import InvalidType
from pycontainers.errors import Unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterator
    from os import PathLike
    from types import TracebackType

    from typing_extensions import Self

    from pycontainers.backend import Check
    from pycontainers.backend import Event
    from pycontainers.image import Image
    from pycontainers.spec import ContainerSpec

_entered: ContextVar[tuple[Engine, ...]] = ContextVar("pycontainers_engines", default=())
_process_lock = threading.Lock()
_process_engine: Engine | None = None


@frozen
class BackendStatus:
    """An installed backend: its name, and why it can't be used on this machine (empty if it can)."""

    name: str
    reason: str = ""

    @property
    def usable(self) -> bool:
        """True if an `Engine` of this backend can be made here."""
        return not self.reason

    def checks(self, root: str | PathLike[str] | None = None) -> tuple[Check, ...]:
        """Return what the backend needs and what this machine has of it: what a lack costs, and the command that mends it.

        Looks anew at each call, by trying things; takes up to a second. `root` is the store's, by default the user's own.
        Raises `BackendUnavailable` if the backend can't even be loaded.
        """
        return plugins.backend_checks(self.name, None if root is None else os.fspath(root))


def list_backends() -> list[BackendStatus]:
    """Return every installed backend, in the order in which a default is looked for. Raises nothing."""
    return [BackendStatus(name, reason) for name, reason in plugins.backend_reasons()]


class Engine:
    """One backend, opened. Thread-safe.

    `Engine("native", root="/srv/store")` opens a backend by its name, with its own options; `Engine()` opens the first
    one that can be used here. As a context manager it is the default engine inside the block, in this thread and in the
    asyncio tasks made there. Leaving the block closes nothing: images and containers stay with their engine.

    Raises `BackendUnavailable`.
    """

    def __init__(self, backend: str | Backend | None = None, **options: object) -> None:
        if isinstance(backend, Backend):
            self._backend = backend
        else:
            info = plugins.find_backend(backend) if backend is not None else plugins.default_backend()
            try:
                self._backend = info.open(**options)
            except TypeError as error:
                if isinstance(error, ContainersError) or error.__traceback__ is None or error.__traceback__.tb_next is not None:
                    raise
                raise InvalidType(f"the {info.name} backend has no such option: {', '.join(options)} ({error})") from error
        #: One class per image id; `Image` keeps it.
        self._classes: weakref.WeakValueDictionary[str, Image] = weakref.WeakValueDictionary()
        self._lock = threading.RLock()
        self._closed = threading.Event()
        observe = plugins.observers()
        if observe is not None:
            threading.Thread(target=_observe, args=(self._backend, self._closed, observe), daemon=True,
                             name="pycontainers-observers").start()

    @property
    def backend(self) -> Backend:
        """The backend itself, by the contract of `pycontainers.backend`."""
        return self._backend

    @property
    def name(self) -> str:
        """The backend's name."""
        return self._backend.name

    def __repr__(self) -> str:
        return f"<Engine {self._backend.name!r}>"

    def info(self) -> dict[str, object]:
        """Return facts of backend and machine under the keys of Docker's `info`."""
        return self._backend.info()

    def events(
        self,
        *,
        since: float | None = None,
        until: float | None = None,
        follow: bool = True,
        filters: dict[str, object] | None = None,
    ) -> Iterator[Event]:
        """Yield what happens, by Docker's types and actions.

        `since` and `until` are seconds since the epoch; without `since` it begins now. With `follow` it goes on until
        `until`, or until the iterator is closed. Raises `InvalidSpec` for a filter that Docker doesn't have.
        """
        from pycontainers.filters import event_filter

        wanted = event_filter(filters)
        first = None if since is None else int(since * 1e9)
        last = None if until is None else int(until * 1e9)
        return _events(self._backend, first, last, follow, wanted)

    def supports(self, capability: Capability) -> bool:
        """Tell whether the backend has that capability."""
        return capability in self._backend.capabilities

    def require(self, capability: Capability, what: str = "") -> None:
        """Raise `Unsupported`, naming backend and capability, if the backend lacks it."""
        if capability not in self._backend.capabilities:
            wanted = f"{what} needs {capability.value}" if what else capability.value
            remedy = self._backend.remedies.get(capability, "")
            text = f"the {self._backend.name} backend lacks {capability.name}: {wanted}"
            raise Unsupported(text + (remedy and f"; {remedy}"))

    def require_for(self, spec: ContainerSpec) -> None:
        """Raise `Unsupported` if the backend lacks what the options ask for; nothing is done less silently."""
        from pycontainers.spec import is_root

        for option, capability in _NEEDS:
            if getattr(spec, option):
                self.require(capability, f"the option {option}")
        if spec.restart.name != "no":
            self.require(Capability.RESTART, "the option restart")
        if not is_root(spec.user):
            self.require(Capability.USERS, f"user={spec.user!r}")
        if spec.network == "host":
            self.require(Capability.HOST_NETWORK, "network='host'")
        if any(mount.type == "bind" for mount in spec.volumes):
            self.require(Capability.BIND, "a bind mount in volumes")

    def close(self) -> None:
        """Release what the engine holds; containers live on. Idempotent."""
        self._closed.set()
        self._backend.close()

    def __enter__(self) -> Self:
        _entered.set((*_entered.get(), self))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        _entered.set(_entered.get()[:-1])


_NEEDS = (
    ("tty", Capability.TTY),
    ("memory", Capability.LIMITS),
    ("memory_swap", Capability.LIMITS),
    ("memory_reservation", Capability.LIMITS),
    ("cpus", Capability.LIMITS),
    ("cpu_shares", Capability.LIMITS),
    ("cpu_period", Capability.LIMITS),
    ("cpu_quota", Capability.LIMITS),
    ("cpuset_cpus", Capability.LIMITS),
    ("cpuset_mems", Capability.LIMITS),
    ("pids_limit", Capability.LIMITS),
    ("blkio_weight", Capability.LIMITS),
    ("healthcheck", Capability.HEALTH),
    ("privileged", Capability.PRIVILEGED),
    ("cap_add", Capability.PRIVILEGED),
    ("devices", Capability.PRIVILEGED),
    ("device_cgroup_rules", Capability.PRIVILEGED),
)


def default_engine() -> Engine:
    """Return the engine that is meant when none is named.

    It's that of the innermost `with Engine(...)` block of this thread or task; else the process's own, opened at first
    use on the backend that `PYCONTAINERS_BACKEND` names (its store at `PYCONTAINERS_ROOT`), or on the first usable one.
    Raises `BackendUnavailable`.
    """
    global _process_engine
    entered = _entered.get()
    if entered:
        return entered[-1]
    if _process_engine is None:
        with _process_lock:
            if _process_engine is None:
                name = os.environ.get("PYCONTAINERS_BACKEND") or None
                root = os.environ.get("PYCONTAINERS_ROOT")
                options = {"root": root} if root and name in (None, "native") else {}
                _process_engine = Engine(name, **options)
    return _process_engine


def _forget_parent() -> None:
    """Have a forked child open its own engine: its parent's threads and locks are not its own."""
    global _process_engine, _process_lock
    _process_engine = None
    _process_lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_parent)


def _events(
    backend: Backend, since: int | None, until: int | None, follow: bool, wanted: Callable[[Event], bool]
) -> Iterator[Event]:
    import time

    source = backend.events(since=since, follow=follow)
    try:
        for event in source:
            if event is None:
                if until is not None and time.time_ns() > until:
                    return
            elif until is not None and event.time > until:
                return
            elif wanted(event):
                yield event
    finally:
        close = getattr(source, "close", None)
        if close is not None:
            close()


def _observe(backend: Backend, closed: threading.Event, call: Callable[[Event], None]) -> None:
    for event in backend.events(follow=True):
        if closed.is_set():
            return
        if event is None:
            continue
        try:
            call(event)
        except Exception as error:
            import warnings

            warnings.warn(f"an observer of events failed: {error!r}", RuntimeWarning, stacklevel=1)
