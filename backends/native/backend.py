"""The native backend: containers in this machine's kernel, without a daemon."""

from __future__ import annotations

import builtins
import os
import platform
from collections.abc import Iterator
from typing import Any
from typing import BinaryIO

from pycontainers._native._lib import lib as C
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
from pycontainers.backend import LogFrame
from pycontainers.backend import Object
from pycontainers.backend import Process
from pycontainers.backend import ProcessRecord
from pycontainers.backend import Removed
from pycontainers.backend import RunResult
from pycontainers.backend import Stats
from pycontainers.backend import Stdio
from pycontainers.backend import Update
from pycontainers.backends.native import cgroups
from pycontainers.backends.native import planning
from pycontainers.backends.native.containers import Containers
from pycontainers.backends.native.control import Exec
from pycontainers.backends.native.eventlog import EventLog
from pycontainers.backends.native.failures import start_error
from pycontainers.backends.native.images import Images
from pycontainers.backends.native.inside import Inside
from pycontainers.backends.native.launcher import Gone
from pycontainers.backends.native.launcher import Launcher
from pycontainers.backends.native.launcher import Trees
from pycontainers.backends.native.launcher import call
from pycontainers.backends.native.listing import default_root
from pycontainers.backends.native.output import Output
from pycontainers.backends.native.store import Store
from pycontainers.backends.native.waits import wait
from pycontainers.spec import ContainerSpec
from pycontainers.spec import ContainerUpdate
from pycontainers.spec import ExecSpec
from pycontainers.spec import ImageUpdate
from pycontainers.spec import ImportSpec


class NativeBackend(Backend):
    """This machine's kernel as a backend. Thread-safe; nothing is read or started before it is used."""

    name = "native"
    capabilities = frozenset(Capability)

    def __init__(self, root: str | os.PathLike[str] | None) -> None:
        """Name the store's root."""
        trees = Trees()
        self._store = Store(os.fspath(root) if root is not None else default_root(), trees)
        self._launcher = Launcher(self._store)
        trees.bind(self._launcher, self._store)
        self._images = Images(self._store)
        self._events = EventLog(self._store)
        self._containers = Containers(self._store, self._images, self._launcher, self._events)
        self._output = Output(self._containers)
        self._inside = Inside(self._containers, trees)
        if self._launcher.rootless and not cgroups.layout().hierarchies:
            self.capabilities = self.capabilities - {Capability.PAUSE, Capability.LIMITS}
            remedy = "no cgroup is delegated to this user; see `pycontainers doctor`"
            self.remedies = {Capability.PAUSE: remedy, Capability.LIMITS: remedy}
        if self._launcher.single_id:
            self.capabilities = self.capabilities - {Capability.USERS}
            self.remedies = {**self.remedies, Capability.USERS: planning.RANGES_REMEDY}

    # -- the machine ----------------------------------------------------------------------------------------------------

    def info(self) -> dict[str, object]:
        """Return facts of backend and machine."""
        states = [record.state.status.value for record in self._containers.list()]
        layout = cgroups.layout()
        return {
            "Containers": len(states), "ContainersRunning": states.count("running"), "ContainersPaused": states.count("paused"),
            "ContainersStopped": len(states) - states.count("running") - states.count("paused"),
            "Images": len(self._images.list()), "Driver": "overlay", "DockerRootDir": self._store.root,
            "CgroupVersion": layout.version or "none", "CgroupDriver": "cgroupfs" if layout.version else "none",
            "KernelVersion": platform.release(), "OperatingSystem": _os_name(), "OSType": "linux",
            "Architecture": platform.machine(), "NCPU": os.cpu_count() or 1,
            "MemTotal": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), "Name": platform.node(),
            "SecurityOptions": ["name=seccomp,profile=builtin", *(["name=rootless"] if self._launcher.rootless else [])],
            "Rootless": self._launcher.rootless,
        }

    def close(self) -> None:
        """Let idle launchers go, and give up kept logs."""
        self._containers.kept.close()
        if os.path.isdir(self._store.path("run")):
            self._launcher.retire()

    # -- things ---------------------------------------------------------------------------------------------------------

    def list(self, kind: type[Object]) -> builtins.list[Object]:
        """Return all containers or images, newest first."""
        self._store.settle()
        found: builtins.list[Object] = self._part(kind).list()
        return found

    def _part(self, kind: type[Object]) -> Any:
        return self._containers if kind is ContainerRecord else self._images

    def get(self, kind: type[Object], ref: str) -> Object:
        """Return one container or image."""
        self._store.settle()
        found: Object = self._part(kind).get(ref)
        return found

    def create(self, spec: Creatable) -> str:
        """Make a container, or an image from a root file system."""
        if isinstance(spec, ImportSpec):
            id = self._images.import_rootfs(spec)
            self._events.write("import", id, kind="image", name=spec.reference or id)
            return id
        return self._containers.create(spec)

    def update(self, kind: type[Object], ref: str, changes: Update) -> None:
        """Change a container or an image's references."""
        if isinstance(changes, ContainerUpdate):
            self._containers.update(ref, changes)
        else:
            assert isinstance(changes, ImageUpdate)
            self._images.update(ref, changes)
            for tag in changes.add_tags:
                self._events.write("tag", self._images.resolve(ref), kind="image", name=tag)

    def remove(self, kind: type[Object], ref: str, *, force: bool = False, volumes: bool = False) -> Removed:
        """Remove a container or an image."""
        if kind is ContainerRecord:
            return self._containers.remove(ref, force=force)
        living = ("running", "paused", "restarting")
        running = [record.id for record in self._containers.list() if record.state.status.value in living]
        removed = self._images.remove(ref, force=force, running=running)
        for tag in removed.untagged:
            self._events.write("untag", tag, kind="image", name=tag)
        for id in removed.deleted:
            self._events.write("delete", id, kind="image")
        return removed

    # -- a container's life -----------------------------------------------------------------------------------------------

    def start(self, ref: str, stdio: Stdio = Stdio()) -> None:
        """Start a container."""
        self._containers.start(ref, stdio)

    def run(self, spec: ContainerSpec, *, stdin: int = -1, timeout: float | None = None) -> RunResult:
        """Run one container's whole life."""
        return self._containers.run(spec, stdin=stdin, timeout=timeout)

    def signal(self, ref: str, number: int) -> None:
        """Send a signal to the first process."""
        self._containers.signal(ref, number)

    def stop(self, ref: str, timeout: float | None = None, number: int | None = None) -> None:
        """Stop a container."""
        self._containers.stop(ref, timeout, number)

    def wait(self, ref: str, timeout: float | None = None, condition: str = "not-running") -> ContainerState | None:
        """Wait for a container's end or removal."""
        return wait(self._containers, ref, timeout, condition)

    def exec(self, ref: str, spec: ExecSpec, stdio: Stdio = Stdio()) -> Process:
        """Run a command in a running container."""
        containers = self._containers
        id = containers.find(ref)
        config = containers.config(id)
        plan = planning.plan_exec(spec, config.spec, containers.context(config, id[:12]))
        flags = C.PYC_REQ_KILL_ON_CLOSE if spec.kill_on_close else 0
        fds = []
        if not spec.tty:
            for fd, flag in ((stdio.stdin, C.PYC_REQ_HAS_STDIN), (stdio.stdout, C.PYC_REQ_HAS_STDOUT),
                             (stdio.stderr, C.PYC_REQ_HAS_STDERR)):
                if fd >= 0:
                    fds.append(fd)
                    flags |= flag
        try:
            answer, connection = call(self._launcher.root_fd, f"{containers.directory(id)}/ctl.sock", C.PYC_REQ_EXEC, flags,
                                      payload=plan, fds=fds)
        except Gone:
            raise containers.not_running(id) from None
        assert answer is not None
        if answer.kind != C.PYC_REPLY_STARTED:
            connection.close()
            raise start_error(answer, containers.store.find_container(id)[1], "exec in")
        pidfd = answer.take_fd()
        return Exec(connection, pidfd, answer.take_fd())

    # -- output and events --------------------------------------------------------------------------------------------------

    def attach(self, ref: str, *, stdin: bool = True, logs: bool = False) -> Attachment:
        """Attach to a container's streams."""
        return self._output.attach(ref, stdin=stdin, logs=logs)

    def logs(self, ref: str, *, follow: bool = False, cursor: int = 0) -> Iterator[LogFrame]:
        """Yield a container's output."""
        return self._output.logs(ref, follow=follow, cursor=cursor)

    def events(self, *, since: int | None = None, follow: bool = True) -> Iterator[Event | None]:
        """Yield events."""
        return self._events.read(since=since, follow=follow)

    # -- looking inside -------------------------------------------------------------------------------------------------------

    def listening(self, ref: str, port: int, protocol: str = "tcp") -> bool:
        """Tell whether the container listens on a port."""
        return self._inside.listening(ref, port, protocol)

    def connect(self, ref: str, port: int) -> int:
        """Return a socket connected inside the container's network."""
        return self._inside.connect(ref, port)

    def stats(self, ref: str) -> Stats:
        """Return the use of resources now."""
        return self._inside.stats(ref)

    def top(self, ref: str) -> builtins.list[ProcessRecord]:
        """Return the container's processes."""
        return self._inside.top(ref)

    def diff(self, ref: str) -> builtins.list[Change]:
        """Return what changed against the image."""
        return self._inside.diff(ref)

    def read_archive(self, ref: str, path: str) -> tuple[FileStat, BinaryIO]:
        """Return a file's stat and a tar stream of it."""
        return self._inside.read_archive(ref, path)

    def write_archive(self, ref: str, path: str, archive: BinaryIO) -> None:
        """Unpack a tar inside the container."""
        self._inside.write_archive(ref, path, archive)

    def file(self, ref: str, op: FileOp) -> FileReply:
        """Do one call on a file."""
        return self._inside.file(ref, op)


def _os_name() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    except OSError:
        return "Linux"
