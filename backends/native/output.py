"""What containers write: logs, and attaching to their streams."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator

from pycontainers.backend import LogFrame
from pycontainers.backends.native import control
from pycontainers.backends.native.containers import Containers
from pycontainers.backends.native.launcher import Gone
from pycontainers.backends.native.logs import follow_frames
from pycontainers.backends.native.logs import read_frames
from pycontainers.backends.native.record import Record
from pycontainers.backends.native.record import read_record
from pycontainers.backends.native.store import store_error
from pycontainers.errors import ContainerNotFound
from pycontainers.errors import InvalidState


class Output:
    """The output of one store's containers. Thread-safe."""

    def __init__(self, containers: Containers) -> None:
        """Name the containers."""
        self._containers = containers

    def attach(self, ref: str, *, stdin: bool, logs: bool) -> control.Attached:
        """Attach to a container that runs, or was never started."""
        id, log = self._open(ref)
        try:
            self._check_attachable(id)
        except BaseException:
            os.close(log)
            raise
        start = 0 if logs else os.fstat(log).st_size
        follower = Follower(self._containers, id)
        self._keep(id, log)
        return control.Attached(
            self._containers.launcher.root_fd, self._containers.directory(id), log, follower.more, follower.close,
            gap=lambda cursor: self._gap(id, cursor), stdin=stdin, start=start)

    def _check_attachable(self, id: str) -> None:
        """Raise `InvalidState` for a container that has ended: one that runs, or was never started, can be attached to."""
        try:
            record, living = self._containers.record(id)
        except ContainerNotFound:
            return
        if (record.started or record.exits) and not (living and record.live):
            raise InvalidState(f"container {id[:12]} is not running: start it, or read its logs")

    def _keep(self, id: str, log: int) -> None:
        try:
            if self._containers.config(id).spec.auto_remove:
                self._containers.kept.keep(id, os.dup(log))
        except ContainerNotFound:
            return

    def _open(self, ref: str) -> tuple[str, int]:
        """Return a container's id and a descriptor of its log, which the caller closes; an auto-removed one's too."""
        try:
            id = self._containers.find(ref)
        except ContainerNotFound:
            kept = self._containers.kept.find(ref)
            if kept is None:
                raise
            return kept
        try:
            # Made now if it is not there yet, so that its reader has it before the first byte.
            return id, os.open(f"{self._containers.path(id)}/log", os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            raise ContainerNotFound(f"No such container: {ref}") from None
        except OSError as error:
            raise store_error(error, f"{self._containers.path(id)}/log", "opening") from error

    def logs(self, ref: str, *, follow: bool, cursor: int) -> Iterator[LogFrame]:
        """Yield output after `cursor`."""
        id, fd = self._open(ref)
        return self._frames(id, fd, follow, cursor)

    def _frames(self, id: str, fd: int, follow: bool, cursor: int) -> Iterator[LogFrame]:
        follower = Follower(self._containers, id)
        try:
            if not follow:
                yield from read_frames(fd, cursor)
                yield from self._gap(id, cursor)
                return
            yield from follow_frames(fd, cursor, follower.more)
            yield from self._gap(id, cursor)
        finally:
            follower.close()
            os.close(fd)

    def _gap(self, id: str, cursor: int) -> Iterator[LogFrame]:
        """Yield the mark of what a full disk has cost at the output's end, if it has."""
        record = self._last_record(id)
        if record.log_lost:
            text = f"\n[{record.log_lost} bytes of output were lost: the store's file system was full]\n"
            yield LogFrame(stream=2, time=record.finished, data=text.encode(), cursor=max(cursor, record.log_end))

    def _last_record(self, id: str) -> Record:
        try:
            return read_record(self._containers.path(id))[0]
        except FileNotFoundError:
            return Record()


class Follower:
    """Waits for more of a container's output, from before its start until its end."""

    def __init__(self, containers: Containers, id: str) -> None:
        """Name the container."""
        self._containers = containers
        self._id = id
        self._watch = control.Watch(containers.launcher.root_fd, containers.directory(id))
        self._closed = threading.Event()

    def more(self, cursor: int) -> bool:
        """Block until there is output after `cursor`; False once there can be none, or after `close`."""
        while not self._closed.is_set():
            try:
                record = self._watch.next(None, cursor)
                return record is None or record.live
            except Gone:
                self._watch.close()
            try:
                record, living = read_record(self._containers.path(self._id))
            except FileNotFoundError:
                return False
            if living and record.live:
                time.sleep(0.001)
            elif record.started or record.exits or not self._started():
                return False
            self._watch = control.Watch(self._containers.launcher.root_fd, self._containers.directory(self._id))
        return False

    def _started(self) -> bool:
        """Wait for the first start; False once there can be none."""
        for event in self._containers.events.read(since=None, follow=True):
            if self._closed.is_set():
                return False
            try:
                record, _ = read_record(self._containers.path(self._id))
            except FileNotFoundError:
                return False
            if record.started or record.exits:
                return True
            del event
        return False

    def close(self) -> None:
        """Have a thread inside `more` return. Idempotent."""
        self._closed.set()
        self._watch.close()
