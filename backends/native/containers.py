"""The containers of one store: made, found, started, run, stopped, changed, removed."""

from __future__ import annotations

import builtins
import errno
import json
import os
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from hashlib import sha256
from typing import NoReturn

from attrs import evolve
from attrs import frozen

from pycontainers._native._lib import lib as C
from pycontainers.backend import ContainerRecord
from pycontainers.backend import Removed
from pycontainers.backend import RunResult
from pycontainers.backend import Stdio
from pycontainers.backends.native import cgroups
from pycontainers.backends.native import control
from pycontainers.backends.native import hostimage
from pycontainers.backends.native import planning
from pycontainers.backends.native.eventlog import EventLog
from pycontainers.backends.native.failures import start_error
from pycontainers.backends.native.images import Images
from pycontainers.backends.native.launcher import Answer
from pycontainers.backends.native.launcher import Connection
from pycontainers.backends.native.launcher import Gone
from pycontainers.backends.native.launcher import Launcher
from pycontainers.backends.native.launcher import Lost
from pycontainers.backends.native.logs import KeptLogs
from pycontainers.backends.native.logs import collect
from pycontainers.backends.native.record import Record
from pycontainers.backends.native.record import boot_id
from pycontainers.backends.native.record import decode_spec
from pycontainers.backends.native.record import encode_spec
from pycontainers.backends.native.record import heal_record
from pycontainers.backends.native.record import parse_record
from pycontainers.backends.native.record import read_json
from pycontainers.backends.native.record import read_record
from pycontainers.backends.native.record import state_of
from pycontainers.backends.native.record import write_json
from pycontainers.backends.native.store import Store
from pycontainers.backends.native.store import new_id
from pycontainers.backends.native.store import store_error
from pycontainers.errors import ContainerNotFound
from pycontainers.errors import InUse
from pycontainers.errors import InvalidSpec
from pycontainers.errors import InvalidState
from pycontainers.errors import NameInUse
from pycontainers.errors import StartFailed
from pycontainers.errors import StoreError
from pycontainers.errors import StoreFull
from pycontainers.errors import TimedOut
from pycontainers.errors import Unsupported
from pycontainers.naming import random_name
from pycontainers.oci.config import decode_config
from pycontainers.oci.config import encode_config
from pycontainers.spec import ContainerSpec
from pycontainers.spec import ContainerUpdate
from pycontainers.spec import ImageConfig
from pycontainers.spec import parse_signal

_KEPT_CONFIGS = 1024
#: Seconds to wait for whoever has a container's files in hand.
_LOCK_PATIENCE = 10.0


@frozen(kw_only=True)
class Config:
    """A container's config.json."""

    id: str
    spec: ContainerSpec
    image_id: str
    image_config: ImageConfig
    created: float


class Containers:
    """The containers of one store, for this process. Thread-safe."""

    def __init__(self, store: Store, images: Images, launcher: Launcher, events: EventLog) -> None:
        """Name the parts that it works with, and tell the store how to sweep."""
        self.store = store
        self.images = images
        self.launcher = launcher
        self.events = events
        #: cgroups of several stores stand side by side: ours begin so.
        self.tag = sha256(os.fsencode(store.root)).hexdigest()[:8]
        self.kept = KeptLogs()
        #: By id, with the file's inode and time: a change replaces the file.
        self._configs: dict[str, tuple[tuple[int, int], Config]] = {}
        store.sweepers.append(self._sweep)

    # -- finding --------------------------------------------------------------------------------------------------------

    def find(self, ref: str) -> str:
        """Return the id of a container. Raises `ContainerNotFound`, `AmbiguousName`."""
        id, _ = self.store.find_container(ref)
        if not os.path.isdir(self.path(id)):
            self._forget(id)
            raise ContainerNotFound(f"No such container: {ref}")
        return id

    def directory(self, id: str) -> str:
        """Return a container's directory, relative to the store."""
        return self.store.container_dir(id)

    def path(self, id: str) -> str:
        """Return a container's directory."""
        return self.store.path(self.store.container_dir(id))

    def config(self, id: str) -> Config:
        """Return what a container was made as. Raises `ContainerNotFound`."""
        path = f"{self.path(id)}/config.json"
        try:
            status = os.stat(path)
        except FileNotFoundError:
            self._configs.pop(id, None)
            raise ContainerNotFound(f"No such container: {id}") from None
        stamp = status.st_ino, status.st_mtime_ns
        known = self._configs.get(id)
        if known is not None and known[0] == stamp:
            return known[1]
        config = self._read_config(id, path)
        if len(self._configs) >= _KEPT_CONFIGS:
            self._configs.clear()
        self._configs[id] = stamp, config
        return config

    def _read_config(self, id: str, path: str) -> Config:
        try:
            data = read_json(path)
        except FileNotFoundError:
            raise ContainerNotFound(f"No such container: {id}") from None
        except ValueError as error:
            raise StoreError(f"reading {path}: it is damaged ({error}); remove the container") from error
        image_config = data.get("image_config")
        return Config(id=id, spec=decode_spec(data["spec"]), image_id=str(data["image_id"]),  # type: ignore[arg-type]
                      image_config=decode_config(image_config) if image_config else ImageConfig(),  # type: ignore[arg-type]
                      created=float(data["created"]))  # type: ignore[arg-type]

    def record(self, id: str) -> tuple[Record, bool]:
        """Return a container's record, and whether its supervisor lives; one that was killed is tidied up after.

        Raises `ContainerNotFound`.
        """
        try:
            record, living = read_record(self.path(id))
            if record.live and not living:
                self.heal(id)
                record, living = read_record(self.path(id))
            return record, living
        except FileNotFoundError:
            raise ContainerNotFound(f"No such container: {id}") from None

    def get(self, ref: str) -> ContainerRecord:
        """Return one container."""
        id = self.find(ref)
        _, name = self.store.find_container(id)
        config = self.config(id)
        record, living = self.record(id)
        pid = self._pid(id) if living and record.live else 0
        return self._value(config, name, record, living, pid)

    def list(self) -> list[ContainerRecord]:
        """Return all containers, newest first."""
        result = []
        for row in self.store.containers():
            try:
                config = self.config(row.id)
                record, living = self.record(row.id)
            except ContainerNotFound:
                # Its supervisor removed it, and knows no database.
                self._forget(row.id)
                continue
            result.append(self._value(config, row.name, record, living, 0))
        result.sort(key=lambda item: item.created, reverse=True)
        return result

    def _value(self, config: Config, name: str, record: Record, living: bool, pid: int) -> ContainerRecord:
        return ContainerRecord(id=config.id, name=name, spec=config.spec, image_id=config.image_id, created=config.created,
                               state=state_of(record, living, pid, self.path(config.id)), image_config=config.image_config)

    def _pid(self, id: str) -> int:
        try:
            fd = self.pidfd(id)
        except InvalidState:
            return 0
        try:
            return control.pid_of(fd)
        finally:
            os.close(fd)

    def pidfd(self, id: str) -> int:
        """Return a pidfd of a running container's first process; the caller closes it. Raises `InvalidState`."""
        answer = self.ask(id, C.PYC_REQ_PIDFD)
        fd = answer.take_fd()
        if fd < 0:
            raise self.not_running(id)
        return fd

    def ask(self, id: str, kind: int, **rest: int) -> Answer:
        """Ask a container's supervisor. Raises `InvalidState` if there is none, or it says that nothing runs."""
        try:
            answer = control.ask(self.launcher.root_fd, self.directory(id), kind, **rest)
        except Gone:
            raise self.not_running(id) from None
        if answer.kind == C.PYC_REPLY_FAILED and answer.error == errno.ESRCH:
            raise self.not_running(id)
        return answer

    def not_running(self, id: str) -> Exception:
        """Return the error for a call that needs a running container."""
        if not os.path.isdir(self.path(id)):
            return ContainerNotFound(f"No such container: {id}")
        return InvalidState(f"container {id[:12]} is not running")

    # -- making ---------------------------------------------------------------------------------------------------------

    def create(self, spec: ContainerSpec) -> str:
        """Make a container; returns its id."""
        with self.store.mutating():
            return self._create(spec, self.images.resolve(spec.image_id or spec.image))[0].id

    def _create(self, spec: ContainerSpec, image_id: str) -> tuple[Config, str, planning.Planned]:
        """Make a container's directory and row: directory first, so that a row without one is always stale."""
        document = self.images.document(image_id)
        id = new_id()
        name = spec.name or random_name(self._taken)
        config = Config(id=id, spec=spec, image_id=image_id, image_config=document.config, created=time.time())
        context = self.context(config, name)
        planned = planning.plan_container(spec, context)
        directory = self.store.container_dir(id)
        self.store.make_dir(directory)
        try:
            if context.host is not None:
                for overlay in context.host.overlays:
                    os.makedirs(self.store.path(f"{directory}/upper/{overlay.target}"), overlay.mode)
            self._write(config, planned)
            while True:
                try:
                    self.store.insert_container(id, name, image_id, lifetime=spec.lifetime, created=config.created)
                    break
                except NameInUse:
                    if spec.name:
                        raise
                    name = random_name(self._taken)
        except BaseException as error:
            trashed = self.store.trash(directory)
            if trashed:
                with suppress(StoreError):
                    self.store.trees.remove(trashed)
            if isinstance(error, OSError) and not isinstance(error, StoreError):
                raise store_error(error, self.store.path(directory), "making the container") from error
            raise
        self.events.write("create", id, image=spec.image, name=name, **dict((*document.config.labels, *spec.labels)))
        return config, name, planned

    def _taken(self, name: str) -> bool:
        return bool(self.store.read("SELECT 1 FROM containers WHERE name=?", (name,)))

    def _write(self, config: Config, planned: planning.Planned) -> None:
        path = self.path(config.id)
        with open(f"{path}/config.json", "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(json.dumps({
                "spec": encode_spec(config.spec), "image_id": config.image_id, "created": config.created,
                "image_config": encode_config(config.image_config)}, separators=(",", ":")))
        with open(f"{path}/plan", "wb") as plan:
            plan.write(planned.data)

    def context(self, config: Config, name: str) -> planning.Context:
        """Return what a container's plan depends on beside its spec."""
        ids = self.launcher.ids
        document = self.images.document(config.image_id)
        return planning.Context(
            id=config.id, name=name, directory=self.directory(config.id), cgroup=f"{self.tag}-{config.id}",
            lowers=tuple(self.images.lowers(config.image_id)), config=config.image_config, rootless=self.launcher.rootless,
            single_id=ids is not None and ids.single, cache=self.store.path("run"), image=config.spec.image,
            labels=tuple(dict((*config.image_config.labels, *config.spec.labels)).items()),
            host=hostimage.host_layers(self.store, rootless=self.launcher.rootless) if document.host else None)

    # -- starting -------------------------------------------------------------------------------------------------------

    def start(self, ref: str, stdio: Stdio) -> None:
        """Start a created or ended container."""
        id = self.find(ref)
        _, name = self.store.find_container(id)
        record, living = self.record(id)
        if living and record.live:
            if record.status == C.PYC_STATUS_PAUSED:
                raise InvalidState(f"cannot start a paused container, try unpause instead: {name}")
            return
        config = self.config(id)
        deadline = time.monotonic() + _LOCK_PATIENCE
        while True:
            with self.store.mutating():
                if record.live and not living:
                    self.heal(id)
                planned = self._replan(config, name)
                answer, connection = self._launch(config, planned, 0, stdio.stdin, None)
            connection.close()
            assert answer is not None
            if answer.kind != C.PYC_REPLY_FAILED or answer.step != C.PYC_STEP_LOCK:
                break
            # Someone has it in hand: another start, or a job on its files, which is short.
            record, living = self.record(id)
            if living and record.live:
                return
            if time.monotonic() > deadline:
                raise InvalidState(f"starting {name}: its files are in use by another process")
            time.sleep(0.001)
        if answer.kind == C.PYC_REPLY_FAILED:
            if config.spec.auto_remove:
                self._discard(id)
            raise start_error(answer, name)
        if config.spec.auto_remove:
            self.kept.keep(id, answer.take_fd())
        answer.close()

    def _replan(self, config: Config, name: str) -> planning.Planned:
        """Write a container's plan as it is now."""
        planned = planning.plan_container(config.spec, self.context(config, name))
        self._write_plan(config.id, planned)
        return planned

    def _write_plan(self, id: str, planned: planning.Planned) -> None:
        temporary = f"{self.path(id)}/plan.new"
        try:
            with open(temporary, "wb") as file:
                file.write(planned.data)
            os.rename(temporary, f"{self.path(id)}/plan")
        except OSError as error:
            with suppress(OSError):
                os.unlink(temporary)
            raise store_error(error, temporary, "writing") from error

    def _launch(self, config: Config, planned: planning.Planned, flags: int, stdin: int, timeout: float | None
                ) -> tuple[Answer | None, Connection]:
        """Have a container started; a launcher whose tree is stale, or a shared cgroup that went away, is made anew once."""
        sequence = self._sequence(config.id)
        for attempt in range(3):
            fds: list[int] = []
            own: list[int] = []
            try:
                if config.spec.lifetime == "process":
                    own.append(os.pidfd_open(os.getpid()))
                    fds.append(own[-1])
                    flags |= C.PYC_REQ_HAS_OWNER
                if stdin >= 0:
                    fds.append(stdin)
                    flags |= C.PYC_REQ_HAS_STDIN
                for source in planned.sources:
                    own.append(self._source(source))
                    fds.append(own[-1])
                first = os.fsencode(self.directory(config.id)) + b"\0"
                kinds = planned.flags | (C.PYC_PLAN_NEW_NETWORK if planned.new_network else 0)
                answer, connection = self.launcher.ask(
                    C.PYC_REQ_START, flags, full=planned.full, a=kinds, payload=first + boot_id().encode() + b"\0",
                    text=len(first), fds=fds, timeout=timeout)
            except Lost:
                # Killed before the supervisor's first word, the start never began.
                if attempt < 2 and self._sequence(config.id) == sequence:
                    continue
                raise self._supervisor_killed(config.id) from None
            finally:
                for fd in own:
                    os.close(fd)
            if answer is not None and answer.kind == C.PYC_REPLY_FAILED and attempt < 2:
                if answer.step == C.PYC_STEP_ATTACH and answer.error == errno.ESTALE:
                    connection.close()
                    self.launcher.replace()
                    self._remake(config, planned)
                    continue
                if answer.step == C.PYC_STEP_CGROUP and answer.error == errno.ENOENT:
                    connection.close()
                    cgroups.renew()
                    self._remake(config, planned)
                    continue
            return answer, connection
        raise AssertionError

    def _sequence(self, id: str) -> int:
        try:
            return read_record(self.path(id))[0].sequence
        except FileNotFoundError:
            return -1

    def _supervisor_killed(self, id: str) -> StartFailed:
        with suppress(FileNotFoundError):
            if not read_record(self.path(id))[1]:
                self.remove_cgroups([f"{self.tag}-{id}"])
        return StartFailed(f"running {id[:12]}: its supervisor was killed, and the container with it")

    def _remake(self, config: Config, planned: planning.Planned) -> None:
        """Put a container back that its failed start removed (`auto_remove`)."""
        if not os.path.isdir(self.path(config.id)):
            self.store.make_dir(self.directory(config.id))
            self._write(config, planned)

    def _source(self, source: planning.Source) -> int:
        """Open something of the host's for a start: as root a clone of its mounts, else the place itself."""
        path = source.path
        if source.create and not os.path.exists(path):
            try:
                os.makedirs(path, exist_ok=True)
            except OSError as error:
                raise InvalidSpec(f"volumes: making the missing bind source {path!r}: {error.strerror}") from error
        if self.launcher.rootless:
            fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
        else:
            fd = C.pyc_open_tree(-100, os.fsencode(path), int(source.recursive))
        if fd < 0:
            raise InvalidSpec(f"volumes: the bind source {path!r} can't be used: {os.strerror(-fd)}")
        return int(fd)

    # -- a whole life in one call ---------------------------------------------------------------------------------------

    def run(self, spec: ContainerSpec, *, stdin: int, timeout: float | None) -> RunResult:
        """Create, start, wait, collect, remove."""
        if not spec.auto_remove or spec.lifetime != "process" or spec.restart.name != "no":
            spec = evolve(spec, auto_remove=True, lifetime="process", restart="no")
        deadline = None if timeout is None else time.monotonic() + timeout
        with self.store.mutating():
            config, name, planned = self._create(spec, self.images.resolve(spec.image_id or spec.image))
        # No lock from here on: its life may be long, and no sweeper touches what a living process has created.
        connection: Connection | None = None
        try:
            answer, connection = self._launch(config, planned, C.PYC_REQ_REPLY_AT_EXIT, stdin, None if deadline is None
                                              else max(0.0, deadline - time.monotonic()))
            if answer is None:
                self._expire(config, connection, timeout)
            return self._ended(config, name, answer)
        finally:
            if connection is not None:
                # The supervisor kills a container whose run nobody waits for any more.
                connection.close()
            self._discard(config.id)

    def _discard(self, id: str) -> None:
        """Have nothing stay of a container that `run` made: as a rule its supervisor has left no more than the row."""
        deadline = time.monotonic() + _LOCK_PATIENCE
        while os.path.isdir(self.path(id)) and time.monotonic() < deadline:
            with suppress(FileNotFoundError):
                if read_record(self.path(id))[1]:
                    time.sleep(0.001)
                    continue
                with self.store.mutating():
                    trashed = self.store.trash(self.directory(id))
                    self.remove_cgroups([f"{self.tag}-{id}"])
                    if trashed:
                        self.store.trees.remove(trashed)
        self._forget(id)

    def _expire(self, config: Config, connection: Connection, timeout: float | None) -> NoReturn:
        answer = self._destroy(connection)
        out, err = b"", b""
        if answer is not None:
            log = answer.take_fd()
            if log >= 0:
                out, err = collect(log)
                os.close(log)
        text = f"running {config.spec.image}: it did not end within {timeout} s, and was killed"
        raise TimedOut(text, stdout=out, stderr=err)

    def _destroy(self, connection: Connection) -> Answer | None:
        """Have the container at the other end of a connection killed and removed; returns the last word."""
        try:
            connection.send(C.PYC_REQ_DESTROY)
            return connection.receive()
        except Gone:
            return None

    def _ended(self, config: Config, name: str, answer: Answer) -> RunResult:
        if answer.kind == C.PYC_REPLY_FAILED:
            raise start_error(answer, name)
        log = answer.take_fd()
        try:
            out, err = collect(log) if answer.a else (b"", b"")
        finally:
            if log >= 0:
                os.close(log)
        answer.close()
        lost = parse_record(answer.record).log_lost
        if lost:
            raise StoreFull(f"running {config.spec.image}: {lost} bytes of its output were lost, since the file system of the "
                            f"store {self.store.root} was full (it ended with {answer.exit_code}); free some room there")
        return RunResult(container_id=config.id, exit_code=answer.exit_code, stdout=out, stderr=err,
                         oom_killed=bool(answer.flags & C.PYC_RECORD_OOM))

    # -- states ---------------------------------------------------------------------------------------------------------

    def signal(self, ref: str, number: int) -> None:
        """Send a signal to the first process."""
        id = self.find(ref)
        try:
            answer = self.ask(id, C.PYC_REQ_SIGNAL, a=number)
        except InvalidState:
            raise InvalidState(f"cannot kill container: {ref}: container {id} is not running") from None
        if answer.kind == C.PYC_REPLY_FAILED:
            raise InvalidSpec(f"sending signal {number} to {ref}: {os.strerror(answer.error)}")

    def stop(self, ref: str, timeout: float | None, number: int | None) -> None:
        """Stop signal, then SIGKILL; returns when it ended."""
        id = self.find(ref)
        config = self.config(id)
        spec = config.spec
        if number is None:
            number = parse_signal(spec.stop_signal or config.image_config.stop_signal or "SIGTERM")
        seconds = timeout if timeout is not None else spec.stop_timeout if spec.stop_timeout is not None else 10.0
        nanoseconds = int(seconds * 1e9) if seconds >= 0 else -1
        watch = control.Watch(self.launcher.root_fd, self.directory(id))
        try:
            watch.next()
            self.ask(id, C.PYC_REQ_STOP, a=number, b=nanoseconds)
            while True:
                record = watch.next()
                if record is None or not record.live:
                    break
        except (Gone, InvalidState, ContainerNotFound):
            pass
        finally:
            watch.close()
        self.settle(id)

    def settle(self, id: str) -> None:
        """Wait until an ended container's supervisor is gone (or its directory is): the next call finds it at rest."""
        deadline = time.monotonic() + 10
        pause = 0.0002
        while time.monotonic() < deadline:
            try:
                record, living = read_record(self.path(id))
            except FileNotFoundError:
                self._forget(id)
                return
            if not living:
                if record.live:
                    self.heal(id)
                return
            time.sleep(pause)
            pause = min(pause * 2, 0.01)

    # -- changing and removing ------------------------------------------------------------------------------------------

    def update(self, ref: str, changes: ContainerUpdate) -> None:
        """Change a container."""
        id = self.find(ref)
        if changes.name is not None:
            with self.store.mutating():
                self.store.rename_container(id, changes.name)
            self.events.write("rename", id, name=changes.name)
        if changes.paused is not None:
            self._pause(id, ref, changes.paused)
        if changes.lifetime is not None:
            self._outlive(id, changes.lifetime)
        fields = {name: value for name in ("memory", "memory_swap", "memory_reservation", "cpus", "cpu_shares", "cpu_period",
                                           "cpu_quota", "cpuset_cpus", "cpuset_mems", "pids_limit", "blkio_weight", "restart")
                  if (value := getattr(changes, name)) is not None}
        if fields:
            self._change(id, fields)

    def _outlive(self, id: str, lifetime: str) -> None:
        """Tie a container that does not run to its creator, or free it: its file first, since the row is what is swept by."""
        with self.store.mutating():
            record, living = self.record(id)
            if living and record.live:
                raise InvalidState(f"container {id[:12]} is running: its lifetime can be changed before its start only")
            config = self.config(id)
            if config.spec.lifetime != lifetime:
                self._write_config(evolve(config, spec=evolve(config.spec, lifetime=lifetime)))
            self.store.write("UPDATE containers SET lifetime=?, creator=? WHERE id=?", (lifetime, self.store.creator(), id))

    def _write_config(self, config: Config) -> None:
        path = f"{self.path(config.id)}/config.json"
        try:
            write_json(path, {
                "spec": encode_spec(config.spec), "image_id": config.image_id, "created": config.created,
                "image_config": encode_config(config.image_config)})
        except OSError as error:
            with suppress(OSError):
                os.unlink(f"{path}.new")
            raise store_error(error, path, "writing") from error

    def _pause(self, id: str, ref: str, on: bool) -> None:
        answer = self.ask(id, C.PYC_REQ_PAUSE if on else C.PYC_REQ_UNPAUSE)
        if answer.kind == C.PYC_REPLY_FAILED:
            if answer.error == errno.EOPNOTSUPP:
                raise Unsupported("backend native lacks pause and unpause here: no cgroup with a freezer is this user's; "
                                  "see `pycontainers doctor`")
            if answer.error == errno.EALREADY:
                raise InvalidState(f"Container {id} is already paused")
            if answer.error == errno.EINVAL:
                raise InvalidState(f"Container {id} is not paused")
            raise StoreError(f"pausing {ref}: {os.strerror(answer.error)}")

    def _change(self, id: str, fields: dict[str, object]) -> None:
        with self.store.mutating():
            _, name = self.store.find_container(id)
            config = self.config(id)
            changed = evolve(config, spec=evolve(config.spec, **fields))  # type: ignore[arg-type]
            planned = planning.plan_container(changed.spec, self.context(changed, name))
            record, living = self.record(id)
            if living and record.live:
                self._limit(id, changed.spec, fields)
            self._write_config(changed)
            self._write_plan(id, planned)
            if living and record.live:
                with suppress(InvalidState):
                    self.ask(id, C.PYC_REQ_RELOAD)
        self.events.write("update", id, name=name)

    def _limit(self, id: str, spec: ContainerSpec, fields: dict[str, object]) -> None:
        """Set a running container's limits; raising them may need the other order than lowering them (memory, memsw)."""
        writes = list(planning.limit_writes(spec))
        layout = cgroups.layout()
        failed: list[tuple[str, str, str]] = []
        for round_ in range(2):
            failed, pending = [], writes if round_ == 0 else [(c, f, v, False) for c, f, v in failed]
            for controller, file, value, optional in pending:
                slot = layout.slot(controller)
                if slot < 0:
                    raise Unsupported(f"backend native lacks limits of {controller} here; see `pycontainers doctor`")
                hierarchy = layout.hierarchies[slot]
                name, text = planning.unified_file(file, value, spec.memory) if hierarchy.unified else (file, value)
                directory = f"{hierarchy.path}/{self.tag}-{id}"
                try:
                    if not os.path.isdir(directory):
                        self._join_late(id, directory)
                    with open(f"{directory}/{name}", "w") as target:
                        target.write(text)
                except OSError as error:
                    if not optional or error.errno not in (errno.ENOENT, errno.EACCES):
                        failed.append((controller, file, value))
                        reason = error
            writes = [(c, f, v, False) for c, f, v in failed]
            if not failed:
                return
        raise InvalidSpec(f"updating {id[:12]}: {failed[0][1]} = {failed[0][2]}: {reason.strerror}")

    def _join_late(self, id: str, directory: str) -> None:
        """Give a running container a v1 cgroup that its start did not need, and move its processes there."""
        os.mkdir(directory)
        if os.path.exists(f"{directory}/cpuset.cpus"):
            cgroups.inherit(os.path.dirname(directory), directory)
        moved: set[str] = set()
        while True:
            fresh = set(map(str, self.processes(id))) - moved
            if not fresh:
                return
            for pid in fresh:
                with suppress(ProcessLookupError), open(f"{directory}/cgroup.procs", "w") as file:
                    file.write(pid)
            moved |= fresh

    def processes(self, id: str) -> builtins.list[int]:
        """Return the pids of a running container's processes, as this process counts."""
        layout = cgroups.layout()
        pids: set[int] = set()
        slot = layout.unified if layout.unified >= 0 else layout.slot("pids")
        if slot >= 0:
            for folder, _, _ in os.walk(f"{layout.hierarchies[slot].path}/{self.tag}-{id}"):
                with suppress(OSError), open(f"{folder}/cgroup.procs") as file:
                    pids.update(int(line) for line in file)
            return sorted(pid for pid in pids if pid)
        fd = self.pidfd(id)
        try:
            first = control.pid_of(fd)
        finally:
            os.close(fd)
        namespace = _pid_namespace(first)
        return sorted(int(name) for name in os.listdir("/proc") if name.isdigit() and namespace
                      and _pid_namespace(int(name)) == namespace)

    def remove(self, ref: str, *, force: bool) -> Removed:
        """Remove a container, wholly."""
        id = self.find(ref)
        with self.store.mutating():
            _, name = self.store.find_container(id)
            record, living = self.record(id)
            if living and record.live:
                if not force:
                    state = _STATE_WORDS.get(record.status, "running")
                    raise InUse(f"cannot remove container {name!r}: container is {state}: stop the container before removing "
                                "or force remove")
                self._kill(id)
            self.settle(id)
            trashed = self.store.trash(self.directory(id))
            if trashed:
                # First: on a full disk the database can't be written before there is room.
                self.store.trees.remove(trashed)
                self.events.write("destroy", id, name=name)
            self._forget(id)
            self.remove_cgroups([f"{self.tag}-{id}"])
        return Removed(deleted=(id,))

    def _forget(self, id: str) -> None:
        """Take the row of a container away whose directory is gone; on a full disk it stays for a while, and means nothing."""
        with suppress(StoreFull):
            self.store.delete_container(id)

    def _kill(self, id: str) -> None:
        try:
            answer = control.ask(self.launcher.root_fd, self.directory(id), C.PYC_REQ_DESTROY)
            answer.close()
        except Gone:
            pass

    # -- sweeping -------------------------------------------------------------------------------------------------------

    def heal(self, id: str) -> None:
        """Write the last word for a supervisor that was killed, and do what it would have done in the end. Idempotent."""
        with suppress(FileNotFoundError):
            if not heal_record(self.path(id)):
                return
            self.remove_cgroups([f"{self.tag}-{id}"])
            if self.config(id).spec.pid == "host":
                _kill_inside(id)
            self.events.write("die", id, exitCode="137")
            if self.config(id).spec.auto_remove:
                with self.store.mutating():
                    trashed = self.store.trash(self.directory(id))
                    self._forget(id)
                    if trashed:
                        self.events.write("destroy", id)
                        self.store.trees.remove(trashed)

    def remove_cgroups(self, names: Sequence[str]) -> None:
        """Remove cgroups of ours in which nothing lives any more; whatever does is killed first."""
        layout = cgroups.layout()
        freezer = layout.slot("freezer")
        for name in names:
            if freezer >= 0:
                cgroups.thaw(f"{layout.hierarchies[freezer].path}/{name}")
            for hierarchy in layout.hierarchies:
                cgroups.remove(f"{hierarchy.path}/{name}")

    def _sweep(self, gone: Sequence[str]) -> None:
        self.events.shorten()
        for id in gone:
            self._kill(id)
        # Looked for first: a cgroup of a supervisor that begins meanwhile is not among them.
        there: set[str] = set()
        for hierarchy in cgroups.layout().hierarchies:
            with suppress(OSError):
                there.update(name for name in os.listdir(hierarchy.path) if name.startswith(f"{self.tag}-"))
        live = set()
        for row in self.store.containers():
            try:
                record, living = read_record(self.path(row.id))
            except FileNotFoundError:
                continue
            if living:
                live.add(f"{self.tag}-{row.id}")
            elif record.live:
                self.heal(row.id)
        # A supervisor that has told its last word may still be tidying: it is not in the way.
        self.remove_cgroups(sorted(there - live))


_STATE_WORDS = {C.PYC_STATUS_PAUSED: "paused", C.PYC_STATUS_RESTARTING: "restarting"}


def _kill_inside(id: str) -> None:
    """Kill the processes whose root is a container's: for one in the host's pid namespace, where there are no cgroups."""
    while True:
        found = False
        for name in os.listdir("/proc"):
            if not name.isdigit():
                continue
            try:
                with open(f"/proc/{name}/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
                    root = next((line for line in file if line.split(" ", 5)[4] == "/"), "")
                if f"/{id}/upper" in root:
                    os.kill(int(name), signal.SIGKILL)
                    found = True
            except OSError:
                continue
        if not found:
            return
        time.sleep(0.001)


def _pid_namespace(pid: int) -> int:
    try:
        return os.stat(f"/proc/{pid}/ns/pid").st_ino
    except OSError:
        return 0
