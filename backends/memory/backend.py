"""The memory backend's side of the contract."""

from __future__ import annotations

import builtins
import hashlib
import io
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any
from typing import BinaryIO
from typing import cast

from attrs import evolve

from pycontainers.backend import Attachment
from pycontainers.backend import Backend
from pycontainers.backend import Capability
from pycontainers.backend import Change
from pycontainers.backend import ContainerRecord
from pycontainers.backend import ContainerState
from pycontainers.backend import Creatable
from pycontainers.backend import Event
from pycontainers.backend import FileOp
from pycontainers.backend import FileReply
from pycontainers.backend import FileStat
from pycontainers.backend import ImageRecord
from pycontainers.backend import LayerRecord
from pycontainers.backend import LogFrame
from pycontainers.backend import Object
from pycontainers.backend import Process
from pycontainers.backend import ProcessRecord
from pycontainers.backend import Removed
from pycontainers.backend import RunResult
from pycontainers.backend import Stats
from pycontainers.backend import Stdio
from pycontainers.backend import Update
from pycontainers.backends.memory.container import RUNNING
from pycontainers.backends.memory.container import MemoryContainer
from pycontainers.backends.memory.tree import Node
from pycontainers.backends.memory.tree import Tree
from pycontainers.backends.memory.tree import read_directory
from pycontainers.errors import AmbiguousName
from pycontainers.errors import ContainerNotFound
from pycontainers.errors import ImageNotFound
from pycontainers.errors import InUse
from pycontainers.errors import InvalidReference
from pycontainers.errors import InvalidSpec
from pycontainers.errors import InvalidState
from pycontainers.errors import NameInUse
from pycontainers.errors import NotFound
from pycontainers.errors import TimedOut
from pycontainers.errors import Unsupported
from pycontainers.naming import random_name
from pycontainers.oci.compression import ArchiveReader
from pycontainers.oci.compression import open_archive
from pycontainers.oci.config import ImageDocument
from pycontainers.oci.config import encode_document
from pycontainers.oci.names import familiar
from pycontainers.oci.names import normalise
from pycontainers.spec import ContainerSpec
from pycontainers.spec import ContainerUpdate
from pycontainers.spec import ExecSpec
from pycontainers.spec import ImageUpdate
from pycontainers.spec import ImportSpec

#: Seconds of silence after which `events` gives its caller a look.
_TICK = 0.1
_NO_STDIO = Stdio()


class _Reader(io.RawIOBase):
    """An archive's uncompressed bytes as a file."""

    def __init__(self, archive: ArchiveReader) -> None:
        self._pieces = iter(archive)
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        if not self._rest:
            self._rest = next(self._pieces, b"")
        piece = self._rest[: len(buffer)]
        self._rest = self._rest[len(piece) :]
        buffer[: len(piece)] = piece
        return len(piece)


class MemoryBackend(Backend):
    """Containers in this process's memory."""

    name = "memory"
    capabilities = frozenset(
        {Capability.IMPORT, Capability.EXEC, Capability.PAUSE, Capability.TOP, Capability.DIFF, Capability.ARCHIVE,
         Capability.FILES, Capability.HEALTH, Capability.RESTART, Capability.CONNECT, Capability.LIFETIME, Capability.USERS}
    )

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._images: dict[str, ImageRecord] = {}
        self._roots: dict[str, Node] = {}
        self._tags: dict[str, str] = {}
        self._containers: dict[str, MemoryContainer] = {}
        self._events: list[Event] = []
        self._news = threading.Condition()

    # -- the machine ------------------------------------------------------------------------------------------------

    def info(self) -> dict[str, object]:
        """Return facts under the keys of Docker's `info`."""
        states = [container.state.status for container in [*self._containers.values()]]
        return {
            "ID": "memory", "Name": socket.gethostname(), "Driver": "memory", "ServerVersion": "memory", "OSType": "linux",
            "Containers": len(states), "ContainersRunning": sum(s.value == "running" for s in states),
            "ContainersPaused": sum(s.value == "paused" for s in states),
            "ContainersStopped": sum(s.value not in ("running", "paused") for s in states), "Images": len(self._images),
            "NCPU": os.cpu_count() or 1, "CgroupDriver": "none", "CgroupVersion": "",
        }

    def close(self) -> None:
        """Nothing is held that isn't the containers' own."""

    # -- things -----------------------------------------------------------------------------------------------------

    def list(self, kind: type[Object]) -> builtins.list[Object]:
        """Return all records, newest first."""
        with self._lock:
            records: builtins.list[Any] = [*self._images.values()]
            if kind is ContainerRecord:
                records = [container.record() for container in self._containers.values()]
        return records[::-1]

    def get(self, kind: type[Object], ref: str) -> Object:
        """Return one record."""
        with self._lock:
            record: Any = self._container(ref).record() if kind is ContainerRecord else self._image(ref)
        found: Object = record
        return found

    def _container(self, ref: str) -> MemoryContainer:
        ref = ref.removeprefix("/")
        with self._lock:
            found = self._containers.get(ref)
            if found is not None:
                return found
            for container in self._containers.values():
                if container.name == ref:
                    return container
            matches = [c for id, c in self._containers.items() if ref and id.startswith(ref)]
        if len(matches) > 1:
            raise AmbiguousName(f"container id prefix {ref!r} fits {len(matches)} containers; write more of it")
        if not matches:
            raise ContainerNotFound(f"No such container: {ref}")
        return matches[0]

    def _image(self, ref: str) -> ImageRecord:
        if ref == "host":
            raise Unsupported(f"the memory backend lacks {Capability.HOST_IMAGE.name}: {Capability.HOST_IMAGE.value}")
        if ref in self._images:
            return self._images[ref]
        digits = ref.removeprefix("sha256:")
        try:
            id = self._tags.get(normalise(ref))
            if id is not None:
                return self._images[id]
        except InvalidReference:
            if not digits or digits.strip("0123456789abcdef"):
                raise
        matches = [r for id, r in self._images.items() if digits and id.removeprefix("sha256:").startswith(digits)]
        if len(matches) > 1:
            raise AmbiguousName(f"image id prefix {ref!r} fits {len(matches)} images; write more of it")
        if not matches:
            raise ImageNotFound(f"No such image: {ref}; Image.list() names those there are")
        return matches[0]

    def create(self, spec: Creatable) -> str:
        """Make an image or a container."""
        if isinstance(spec, ImportSpec):
            return self._import(spec)
        return self._create(spec).id

    def _import(self, spec: ImportSpec) -> str:
        tag = normalise(spec.reference) if spec.reference is not None else None
        if isinstance(spec.source, (str, os.PathLike)) and os.path.isdir(spec.source):
            root = read_directory(os.fspath(spec.source))
            digest = "sha256:" + hashlib.sha256(Tree(root).to_tar("/")[1].read()).hexdigest()
        else:
            tree = Tree()
            with open_archive(spec.source) as archive:
                file = cast(BinaryIO, io.BufferedReader(cast(io.RawIOBase, _Reader(archive))))
                tree.add_tar("/", file)
                while file.read(1 << 16):
                    continue
                digest = archive.digest
            root = tree.root
        now = time.time()
        document = ImageDocument(config=spec.config, diff_ids=(digest,), created=now)
        id = "sha256:" + hashlib.sha256(encode_document(document)).hexdigest()
        size = root.total()
        layer = LayerRecord(diff_id=digest, digest=digest, size=size, created=now, comment=spec.message)
        with self._lock:
            self._images[id] = ImageRecord(id=id, created=now, size=size, config=spec.config, layers=(layer,))
            self._roots[id] = root
            if tag is not None:
                self._tag(id, tag)
        self._tell("image", "import", id, {"name": familiar(tag) if tag else id})
        return id

    def _tag(self, id: str, tag: str) -> None:
        before = self._tags.get(tag)
        if before == id:
            return
        if before is not None:
            self._untag(tag)
        self._tags[tag] = id
        self._images[id] = evolve(self._images[id], tags=(*self._images[id].tags, tag))

    def _untag(self, tag: str) -> None:
        id = self._tags.pop(tag)
        self._images[id] = evolve(self._images[id], tags=tuple(t for t in self._images[id].tags if t != tag))

    def _create(self, spec: ContainerSpec) -> MemoryContainer:
        self._refuse(spec)
        with self._lock:
            image = self._image(spec.image_id or spec.image)
            names = {container.name: container.id for container in self._containers.values()}
            if spec.name is not None and spec.name in names:
                raise NameInUse(f'the container name "/{spec.name}" is already in use by container {names[spec.name]}; '
                                "remove (or rename) that container to be able to reuse that name")
            name = spec.name or random_name(names.__contains__)
            id = secrets.token_hex(32)
            made = MemoryContainer(id, name, spec, image, self._roots[image.id], self._emit, self._remove_ended)
            self._containers[id] = made
        self._emit(made, "create", {})
        return made

    def _refuse(self, spec: ContainerSpec) -> None:
        wants = {
            Capability.TTY: spec.tty, Capability.HOST_NETWORK: spec.network == "host",
            Capability.BIND: any(mount.type == "bind" for mount in spec.volumes),
            Capability.PRIVILEGED: spec.privileged or spec.cap_add or spec.devices,
            Capability.LIMITS: spec.memory or spec.cpus or spec.pids_limit or spec.cpu_shares or spec.cpuset_cpus,
        }
        for capability, wanted in wants.items():
            if wanted:
                raise Unsupported(f"the memory backend lacks {capability.name}: {capability.value}")
        if spec.volumes:
            raise Unsupported("the memory backend lacks mounts: volumes")
        if spec.network not in ("default", "none", ""):
            raise Unsupported(f"the memory backend lacks networks: network={spec.network!r}")

    def update(self, kind: type[Object], ref: str, changes: Update) -> None:
        """Change a thing."""
        if kind is ImageRecord:
            self._update_image(ref, cast(ImageUpdate, changes))
            return
        changes = cast(ContainerUpdate, changes)
        container = self._container(ref)
        for option in ("memory", "memory_swap", "memory_reservation", "cpus", "cpu_shares", "cpu_period", "cpu_quota",
                       "cpuset_cpus", "cpuset_mems", "pids_limit", "blkio_weight"):
            if getattr(changes, option) is not None:
                raise Unsupported(f"the memory backend lacks {Capability.LIMITS.name}: the option {option}")
        if changes.name is not None:
            with self._lock:
                other = next((c for c in self._containers.values() if c.name == changes.name), None)
                if other is not None and other is not container:
                    raise NameInUse(f'the container name "/{changes.name}" is already in use by container {other.id}')
                before, container.name = container.name, changes.name
            self._emit(container, "rename", {"oldName": f"/{before}"})
        with container.lock:
            if changes.restart is not None:
                container.spec = evolve(container.spec, restart=changes.restart)
            if changes.lifetime is not None:
                container.spec = evolve(container.spec, lifetime=changes.lifetime)
        if changes.paused is not None:
            container.pause(changes.paused)

    def _update_image(self, ref: str, changes: ImageUpdate) -> None:
        with self._lock:
            id = self._image(ref).id
            for tag in changes.add_tags:
                self._tag(id, normalise(tag))
            for tag in changes.remove_tags:
                if self._tags.get(normalise(tag)) == id:
                    self._untag(normalise(tag))
        for tag in changes.add_tags:
            self._tell("image", "tag", id, {"name": familiar(tag)})
        for tag in changes.remove_tags:
            self._tell("image", "untag", id, {"name": familiar(tag)})

    def remove(self, kind: type[Object], ref: str, *, force: bool = False, volumes: bool = False) -> Removed:
        """Remove a thing."""
        if kind is ImageRecord:
            return self._remove_image(ref, force)
        container = self._container(ref)
        with container.lock:
            status = container.state.status
            if status.value in ("running", "paused", "restarting") and not force:
                raise InUse(f"cannot remove container \"/{container.name}\": container is {status.value}: stop the "
                            "container before removing or force remove")
        container.kill_now()
        self._remove_ended(container)
        return Removed(deleted=(container.id,))

    def _remove_ended(self, container: MemoryContainer) -> None:
        with self._lock:
            if self._containers.pop(container.id, None) is None:
                return
        self._emit(container, "destroy", {})
        with container.lock:
            container.removed = True
            container.close_stdin()
            container.lock.notify_all()
        with container.log_lock:
            container.log_lock.notify_all()

    def _remove_image(self, ref: str, force: bool) -> Removed:
        with self._lock:
            record = self._image(ref)
            by_tag = "" if record.id.removeprefix("sha256:").startswith(ref.removeprefix("sha256:")) else normalise(ref)
            if by_tag and len(record.tags) > 1:
                self._untag(by_tag)
                return Removed(untagged=(by_tag,))
            users = [c for c in self._containers.values() if c.image.id == record.id]
            if users and not force:
                raise InUse(f"unable to remove image {ref!r}: container {users[0].id[:12]} is using it; remove the "
                            "container, or use force")
            if any(c.state.status in RUNNING for c in users):
                raise InUse(f"unable to remove image {ref!r}: running container "
                            f"{next(c for c in users if c.state.status in RUNNING).id[:12]} is using it; stop it first")
            for tag in record.tags:
                self._tags.pop(tag, None)
            del self._images[record.id]
            del self._roots[record.id]
        self._tell("image", "delete", record.id, {})
        return Removed(deleted=(record.id,), untagged=record.tags, reclaimed=record.size)

    # -- a container's life -----------------------------------------------------------------------------------------

    def start(self, ref: str, stdio: Stdio = _NO_STDIO) -> None:
        """Start a container."""
        self._container(ref).begin(stdio)

    def run(self, spec: ContainerSpec, *, stdin: int = -1, timeout: float | None = None) -> RunResult:
        """Run a container's whole life."""
        container = self._create(evolve(spec, auto_remove=False))
        try:
            container.begin(Stdio(stdin=stdin))
            state = container.wait(timeout, "not-running")
            out, err = (b"".join(f.data for f in container.log if f.stream == stream) for stream in (1, 2))
            if state is None:
                raise TimedOut(f"container {container.name} was killed: it ran longer than {timeout} s", stdout=out, stderr=err)
            return RunResult(container_id=container.id, exit_code=state.exit_code, stdout=out, stderr=err)
        finally:
            container.kill_now()
            self._remove_ended(container)

    def signal(self, ref: str, number: int) -> None:
        """Send a signal."""
        self._container(ref).signal(number)

    def stop(self, ref: str, timeout: float | None = None, number: int | None = None) -> None:
        """Stop a container."""
        self._container(ref).stop(timeout, number)

    def wait(self, ref: str, timeout: float | None = None, condition: str = "not-running") -> ContainerState | None:
        """Wait for a container."""
        if condition not in ("not-running", "next-exit", "removed"):
            raise InvalidSpec(f"condition must be 'not-running', 'next-exit' or 'removed': got {condition!r}")
        return self._container(ref).wait(timeout, condition)

    def exec(self, ref: str, spec: ExecSpec, stdio: Stdio = _NO_STDIO) -> Process:
        """Run a command in a container."""
        if spec.tty or spec.privileged:
            capability = Capability.TTY if spec.tty else Capability.PRIVILEGED
            raise Unsupported(f"the memory backend lacks {capability.name}: {capability.value}")
        return self._container(ref).exec(spec, stdio)

    # -- output and events ------------------------------------------------------------------------------------------

    def attach(self, ref: str, *, stdin: bool = True, logs: bool = False) -> Attachment:
        """Attach to a container."""
        return _Attachment(self._container(ref), stdin, logs)

    def logs(self, ref: str, *, follow: bool = False, cursor: int = 0) -> Iterator[LogFrame]:
        """Yield a container's output."""
        return self._container(ref).frames(cursor, follow=follow)

    def _emit(self, container: MemoryContainer, action: str, more: dict[str, str]) -> None:
        labels = {**dict(container.image.config.labels), **dict(container.spec.labels)}
        self._tell("container", action, container.id, {**labels, "image": container.spec.image, "name": container.name, **more})

    def _tell(self, type: str, action: str, id: str, attributes: dict[str, str]) -> None:
        with self._news:
            self._events.append(Event(time=time.time_ns(), type=type, action=action, id=id,
                                      attributes=tuple(sorted(attributes.items()))))
            self._news.notify_all()

    def events(self, *, since: int | None = None, follow: bool = True) -> Iterator[Event | None]:
        """Yield events."""
        with self._news:
            at = len(self._events) if since is None else next(
                (i for i, event in enumerate(self._events) if event.time >= since), len(self._events))
        return self._follow(at, follow)

    def _follow(self, at: int, follow: bool) -> Iterator[Event | None]:
        while True:
            with self._news:
                if at == len(self._events) and follow:
                    self._news.wait(_TICK)
                batch = self._events[at:]
            at += len(batch)
            yield from batch
            if not follow:
                return
            if not batch:
                yield None

    # -- looking inside ---------------------------------------------------------------------------------------------

    def listening(self, ref: str, port: int, protocol: str = "tcp") -> bool:
        """Tell whether a process listens."""
        group = self._container(ref).group
        return group is not None and not group.ended and protocol == "tcp" and port in group.listeners

    def connect(self, ref: str, port: int) -> int:
        """Return a connected socket."""
        container = self._container(ref)
        if container.state.status not in RUNNING or container.group is None:
            raise InvalidState(f"container {container.id[:12]} is not running")
        with container.group.lock:
            take = container.group.listeners.get(port)
        if take is None:
            raise ConnectionRefusedError(111, os.strerror(111))
        ours, theirs = socket.socketpair()
        take(theirs.detach())
        return ours.detach()

    def stats(self, ref: str) -> Stats:
        """Threads have no accounts of their own."""
        raise Unsupported(f"the memory backend lacks {Capability.STATS.name}: {Capability.STATS.value}")

    def top(self, ref: str) -> builtins.list[ProcessRecord]:
        """Return a container's processes."""
        container = self._container(ref)
        if container.state.status not in RUNNING or container.group is None:
            raise InvalidState(f"container {container.id[:12]} is not running")
        with container.group.lock:
            return [ProcessRecord(uid="root" if p.uid == 0 else str(p.uid), pid=p.pid, ppid=p.parent.pid if p.parent else 0,
                                  cpu=0, start=p.started, tty="?", time=0.0, command=" ".join(p.argv))
                    for p in container.group.processes.values()]

    def diff(self, ref: str) -> builtins.list[Change]:
        """Return what changed."""
        container = self._container(ref)
        return container.tree.diff(container.lower)

    def read_archive(self, ref: str, path: str) -> tuple[FileStat, BinaryIO]:
        """Return a file's stat and tar."""
        try:
            return self._container(ref).tree.to_tar(path)
        except OSError as error:
            raise NotFound(f"Could not find the file {path} in container {ref}: {error.strerror}") from error

    def write_archive(self, ref: str, path: str, archive: BinaryIO) -> None:
        """Unpack a tar."""
        try:
            self._container(ref).tree.add_tar(path, archive)
        except OSError as error:
            raise NotFound(f"Could not find the directory {path} in container {ref}: {error.strerror}") from error

    def file(self, ref: str, op: FileOp) -> FileReply:
        """Do one call on a file."""
        return self._container(ref).tree.file(op)


class _Attachment:
    """A hold on a container's streams, by the contract's `Attachment`."""

    tty = False

    def __init__(self, container: MemoryContainer, stdin: bool, logs: bool) -> None:
        with container.lock:
            if container.ended:
                raise InvalidState(f"container {container.id[:12]} is not running: it can't be attached to")
            self.stdin = -1
            if stdin and container.spec.stdin_open:
                if container.state.status.value == "created":
                    container.open_stdin()
                if container.stdin_write >= 0:
                    self.stdin = os.dup(container.stdin_write)
            self._container = container
            self._first = 0 if logs else len(container.log)
        self._closed = False

    def frames(self) -> Iterator[LogFrame]:
        """Yield output until the container ends, or this is closed."""
        return self._container.frames(self._first, follow=True, closed=lambda: self._closed)

    def close_stdin(self) -> None:
        """Half-close."""
        if self.stdin >= 0:
            fd, self.stdin = self.stdin, -1
            os.close(fd)
            self._container.close_stdin()

    def close(self) -> None:
        """Detach."""
        self._closed = True
        if self.stdin >= 0:
            fd, self.stdin = self.stdin, -1
            os.close(fd)
            if self._container.spec.stdin_once:
                self._container.close_stdin()
        with self._container.log_lock:
            self._container.log_lock.notify_all()
