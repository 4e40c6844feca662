"""The contract between the API and whatever runs containers: its records, its capabilities, its pluggy hooks.

A backend speaks values, file descriptors and iterators only. It gets specs that are already valid, and ids or names as
the user wrote them; it raises errors of `pycontainers.errors` alone. Every method may be called from any thread.
"""

from __future__ import annotations

import builtins
import enum
from abc import ABC
from abc import abstractmethod
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from types import MappingProxyType
from typing import BinaryIO
from typing import Protocol
from typing import TypeVar
from typing import Union

from attrs import field
from attrs import frozen

from pycontainers.spec import ContainerSpec
from pycontainers.spec import ContainerUpdate
from pycontainers.spec import ExecSpec
from pycontainers.spec import ImageConfig
from pycontainers.spec import ImageUpdate
from pycontainers.spec import ImportSpec
from pycontainers.spec import Strings

#: Raised by one whenever a method or a value changes incompatibly; a plugin says which one it was written for.
CONTRACT_VERSION = 1

STDOUT = 1
STDERR = 2


class Capability(enum.Enum):
    """What a backend may lack; the API raises `Unsupported` for an absent one."""

    IMPORT = "import a root file system"
    HOST_IMAGE = "the machine's own root file system as an image"
    EXEC = "exec in a running container"
    TTY = "terminals"
    PAUSE = "pause and unpause"
    LIMITS = "memory, CPU and process limits"
    USERS = "processes of other users than root"
    STATS = "resource statistics"
    TOP = "process listing"
    DIFF = "changes of the file system"
    ARCHIVE = "copying files in and out"
    FILES = "path() into a container"
    HEALTH = "health checks"
    RESTART = "restart policies"
    BIND = "bind mounts of the caller's files"
    HOST_NETWORK = "the caller's own network"
    CONNECT = "sockets inside a container's network"
    PRIVILEGED = "privileged containers, added capabilities and devices"
    LIFETIME = "containers that die with their creator"


@frozen(kw_only=True)
class Check:
    """One thing that a backend needs, or is the better for, as a machine has it now."""

    name: str
    ok: bool
    #: What was found, in a few words.
    found: str
    #: True if nothing works without it.
    needed: bool = False
    #: What can't be done while it is missing; empty if it isn't.
    cost: str = ""
    #: The command that mends it, or what else does; empty if nothing is to be mended.
    remedy: str = ""


@frozen(kw_only=True)
class LayerRecord:
    """One layer of an image, lowest first; `size` is of its unpacked content in bytes."""

    diff_id: str
    digest: str = ""
    size: int = 0
    created: float = 0.0
    created_by: str = ""
    comment: str = ""
    empty: bool = False


@frozen(kw_only=True)
class ImageRecord:
    """An image as it is now. `id` is `sha256:` and 64 digits; `tags` are canonical references."""

    id: str
    tags: Strings = ()
    digests: Strings = ()
    created: float = 0.0
    #: Bytes of all layers together.
    size: int = 0
    config: ImageConfig = ImageConfig()
    #: Includes empty history entries (`empty=True`), lowest first.
    layers: tuple[LayerRecord, ...] = ()
    parent: str = ""


class Status(enum.Enum):
    """A container's state, by Docker's names."""

    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    RESTARTING = "restarting"
    REMOVING = "removing"
    EXITED = "exited"
    DEAD = "dead"


@frozen(kw_only=True)
class HealthResult:
    """One run of a health check."""

    start: float
    end: float
    exit_code: int
    output: str


@frozen(kw_only=True)
class Health:
    """A container's health: `starting`, `healthy` or `unhealthy`, and the last five results."""

    status: str
    failing_streak: int = 0
    log: tuple[HealthResult, ...] = ()


@frozen(kw_only=True)
class ContainerState:
    """A container's live state; times are seconds since the epoch, 0.0 for never."""

    status: Status = Status.CREATED
    #: As the caller's process namespace counts; 0 when nothing runs.
    pid: int = 0
    exit_code: int = 0
    oom_killed: bool = False
    error: str = ""
    #: Why it ended, when not by itself: `supervisor`, `reboot`.
    reason: str = ""
    started_at: float = 0.0
    finished_at: float = 0.0
    restart_count: int = 0
    health: Health | None = None


@frozen(kw_only=True)
class ContainerRecord:
    """A container as it is now."""

    id: str
    name: str
    spec: ContainerSpec
    image_id: str
    created: float
    state: ContainerState
    #: The image's config as it was at creation.
    image_config: ImageConfig = ImageConfig()
    #: Bytes of the write layer, only when asked for.
    size_rw: int | None = None


Object = TypeVar("Object", ImageRecord, ContainerRecord)
Creatable = Union[ContainerSpec, ImportSpec]
Update = Union[ContainerUpdate, ImageUpdate]


@frozen(kw_only=True)
class Removed:
    """What a removal did: ids that are gone, references that were taken away, bytes that came back."""

    deleted: Strings = ()
    untagged: Strings = ()
    reclaimed: int = 0


@frozen(kw_only=True)
class LogFrame:
    """Output as a container wrote it, in order. `cursor` resumes after this frame; `time` is nanoseconds since the epoch."""

    stream: int
    time: int
    data: bytes
    cursor: int = 0


@frozen(kw_only=True)
class Event:
    """Something that happened; `type`, `action` and attributes are Docker's (`container`, `die`, `exitCode`)."""

    time: int
    type: str
    action: str
    id: str
    attributes: tuple[tuple[str, str], ...] = ()


@frozen(kw_only=True)
class RunResult:
    """How a whole run ended: all that it wrote to each stream, and Docker's exit code."""

    container_id: str
    exit_code: int
    stdout: bytes
    stderr: bytes
    oom_killed: bool = False


@frozen(kw_only=True)
class ProcessRecord:
    """One process of a container, as `ps -ef` tells it."""

    uid: str
    pid: int
    ppid: int
    cpu: int
    start: float
    tty: str
    time: float
    command: str


@frozen(kw_only=True)
class Stats:
    """A container's use of resources now; times in seconds, sizes in bytes."""

    time: float
    cpu_time: float
    #: Of one CPU, since the backend's last own sample or the start: 1.5 is one and a half CPUs.
    cpu: float
    memory: int
    memory_limit: int
    pids: int
    block_read: int = 0
    block_written: int = 0
    net_received: int = 0
    net_sent: int = 0


@frozen(kw_only=True)
class Change:
    """One change of a container's file system against its image: kind `A`, `C` or `D`."""

    kind: str
    path: str


@frozen(kw_only=True)
class FileStat:
    """A file in a container, as lstat(2) tells it; `link` is a symbolic link's text."""

    name: str
    mode: int
    size: int
    mtime: float
    uid: int = 0
    gid: int = 0
    link: str = ""


@frozen(kw_only=True)
class FileOp:
    """One call on a file in a container, resolved below its root. `kind`: stat, lstat, list, open, mkdir, unlink,
    rmdir, rename, symlink, chmod, readlink."""

    kind: str
    path: str
    #: open(2) flags, and the mode of what is made.
    flags: int = 0
    mode: int = 0o666
    #: rename's and symlink's second path.
    target: str = ""


@frozen(kw_only=True)
class FileReply:
    """What a `FileOp` gave: a stat, a directory's entries, or a descriptor that the caller closes."""

    stat: FileStat | None = None
    entries: tuple[FileStat, ...] = ()
    fd: int = -1
    text: str = ""


@frozen(kw_only=True)
class Stdio:
    """Descriptors for a new process's stdin, stdout and stderr; -1 is none (`/dev/null`, or the log alone).

    They stay the caller's to close. With a terminal, `stdin` and `stdout` are ignored.
    """

    stdin: int = -1
    stdout: int = -1
    stderr: int = -1


class Process(Protocol):
    """A running exec. All methods are thread-safe; `close` gives up the handle (and ends a `kill_on_close` exec)."""

    @property
    def pid(self) -> int:
        """Its pid in the caller's process namespace."""

    @property
    def terminal(self) -> int:
        """The terminal's master for an exec with `tty`, else -1; closed by `close`."""

    def fileno(self) -> int:
        """Return a descriptor that is readable once the exec has ended."""

    def wait(self, timeout: float | None = None) -> int | None:
        """Return Docker's exit code once it ended; None when `timeout` seconds pass first."""

    def signal(self, number: int) -> None:
        """Send the signal to the exec's first process; nothing if it ended. Idempotent."""

    def kill(self) -> None:
        """Kill every descendant of the exec, orphans and new sessions too, and nothing else. Idempotent."""

    def close(self) -> None:
        """Release the handle. Idempotent."""


class Attachment(Protocol):
    """A client's hold on a container's streams. `stdin` and output are apart: the log is the output's one source."""

    @property
    def stdin(self) -> int:
        """Write end of the container's stdin pipe, or its terminal's master; -1 if it has none. Closed by `close`."""

    @property
    def tty(self) -> bool:
        """True when `stdin` is a terminal's master (resize it with TIOCSWINSZ)."""

    def frames(self) -> Iterator[LogFrame]:
        """Yield output from the moment of attaching (or the first byte, if asked so) until the container ends."""

    def close_stdin(self) -> None:
        """Half-close: the container reads end of file once what was written is read. Idempotent."""

    def close(self) -> None:
        """Detach. Idempotent; wakes a thread inside `frames`."""


class Backend(ABC):
    """What runs containers. Absent capabilities raise `Unsupported`, naming backend and capability.

    `ref` is a name, id, or unambiguous id prefix (an image's: reference, id, prefix or digest).
    """

    name: str
    capabilities: frozenset[Capability]
    #: What would bring an absent capability here, for `Unsupported` to tell; those that nothing brings aren't in it.
    remedies: Mapping[Capability, str] = MappingProxyType({})

    # -- the machine ------------------------------------------------------------------------------------------------

    @abstractmethod
    def info(self) -> dict[str, object]:
        """Return facts of backend and machine under Docker's `info` keys (`ServerVersion`, `Driver`, `CgroupVersion`)."""

    @abstractmethod
    def close(self) -> None:
        """Release what the object holds; containers live on. Idempotent."""

    # -- things: containers and images --------------------------------------------------------------------------------

    @abstractmethod
    def list(self, kind: type[Object]) -> list[Object]:
        """Return all things of that kind, newest first. Never raises because one went away meanwhile."""

    @abstractmethod
    def get(self, kind: type[Object], ref: str) -> Object:
        """Return one thing. Raises a `NotFound`, `AmbiguousName`. `get(ImageRecord, "host")` is the host image."""

    @abstractmethod
    def create(self, spec: Creatable) -> str:
        """Make a thing and return its id. Atomic: on any error, and on a kill, nothing of it is left.

        Raises `NameInUse`, `ImageNotFound`, `InvalidSpec`, `Unsupported`, `CorruptArchive`, `StoreFull`.
        A container without a name gets a random one.
        """

    @abstractmethod
    def update(self, kind: type[Object], ref: str, changes: Update) -> None:
        """Change a thing. Idempotent; atomic for names and tags. Raises `NotFound`, `NameInUse`, `InvalidState`."""

    @abstractmethod
    def remove(self, kind: type[Object], ref: str, *, force: bool = False, volumes: bool = False) -> Removed:
        """Remove a thing, wholly. Raises `NotFound`; `InUse` for a running container or a used image unless `force`.

        An image's tag removes just that tag while others remain. Atomic: after a kill it is there, or gone.
        """

    # -- a container's life -------------------------------------------------------------------------------------------

    @abstractmethod
    def start(self, ref: str, stdio: Stdio = Stdio()) -> None:
        """Start a created or ended container; returns once its command runs. A running one: no error, nothing done.

        Raises `StartFailed` (or `CommandNotFound`, `CommandNotExecutable`), `InvalidState`, `NotFound`.
        """

    @abstractmethod
    def run(self, spec: ContainerSpec, *, stdin: int = -1, timeout: float | None = None) -> RunResult:
        """Create, start, wait, collect, remove: one container's whole life, which ends with its caller's too.

        Raises as `create` and `start`; `TimedOut` (holding the output so far) after killing it.
        """

    @abstractmethod
    def signal(self, ref: str, number: int) -> None:
        """Send a signal to the first process. Raises `InvalidState` if not running. SIGKILL reaches a paused one."""

    @abstractmethod
    def stop(self, ref: str, timeout: float | None = None, number: int | None = None) -> None:
        """Send the stop signal, then SIGKILL after `timeout` seconds; returns when it ended. Ends restarts. Idempotent."""

    @abstractmethod
    def wait(self, ref: str, timeout: float | None = None, condition: str = "not-running") -> ContainerState | None:
        """Return the state once it is `not-running`, has a `next-exit`, or is `removed`; None when time runs out first."""

    @abstractmethod
    def exec(self, ref: str, spec: ExecSpec, stdio: Stdio = Stdio()) -> Process:
        """Run a command in a running container. Raises `CommandNotFound`, `CommandNotExecutable`, `InvalidState`."""

    # -- output and events ---------------------------------------------------------------------------------------------

    @abstractmethod
    def attach(self, ref: str, *, stdin: bool = True, logs: bool = False) -> Attachment:
        """Attach to a running (or created, before its start) container; `logs` begins at the first byte."""

    @abstractmethod
    def logs(self, ref: str, *, follow: bool = False, cursor: int = 0) -> Iterator[LogFrame]:
        """Yield output after `cursor` (0: the first byte); with `follow`, until the container ends. Closing stops it."""

    @abstractmethod
    def events(self, *, since: int | None = None, follow: bool = True) -> Iterator[Event | None]:
        """Yield events after `since` (ns; None: from now). With `follow` it never ends, and yields None about every
        100 ms of silence so that a caller can look up. Closing stops it."""

    # -- looking inside -------------------------------------------------------------------------------------------------

    @abstractmethod
    def listening(self, ref: str, port: int, protocol: str = "tcp") -> bool:
        """Tell whether a process of the container listens on the port, in its own network namespace."""

    @abstractmethod
    def connect(self, ref: str, port: int) -> int:
        """Return a connected TCP socket's descriptor, made inside the container's network. The caller closes it."""

    @abstractmethod
    def stats(self, ref: str) -> Stats:
        """Return the use of resources now, without waiting. Raises `InvalidState` if not running."""

    @abstractmethod
    def top(self, ref: str) -> builtins.list[ProcessRecord]:
        """Return the container's processes. Raises `InvalidState` if not running."""

    @abstractmethod
    def diff(self, ref: str) -> builtins.list[Change]:
        """Return what changed against the image, sorted by path."""

    @abstractmethod
    def read_archive(self, ref: str, path: str) -> tuple[FileStat, BinaryIO]:
        """Return the file's stat and a tar stream of it (a directory: with all below). Symbolic links in the way are
        followed inside the container's root. Raises `NotFound` naming the path. `/` without mounts is `export`."""

    @abstractmethod
    def write_archive(self, ref: str, path: str, archive: BinaryIO) -> None:
        """Unpack a tar below the directory `path`. Raises `NotFound`, `CorruptArchive`, `StoreFull`."""

    @abstractmethod
    def file(self, ref: str, op: FileOp) -> FileReply:
        """Do one call on a file. Raises the `OSError` that the kernel gave."""


@frozen(kw_only=True)
class BackendInfo:
    """What a backend's plugin says of itself: how to open it, and why it can't be used here (None if it can)."""

    name: str
    #: Called with the keywords of `Engine(name, ...)`.
    open: Callable[..., Backend]
    #: Returns None when usable, else the reason and the remedy.
    unavailable: Callable[[], str | None]
    #: Lower is tried earlier when none is named.
    priority: int = 100
    contract: int = field(default=CONTRACT_VERSION)
    #: Looks at what the machine has of what the backend needs, usable or not; takes the store's root, None for the default.
    doctor: Callable[[str | None], Sequence[Check]] = field(default=lambda root: ())
