"""Waits for a container's end or removal, woken by its supervisor and by events."""

from __future__ import annotations

import time

from attrs import evolve

from pycontainers._native._lib import lib as C
from pycontainers.backend import ContainerState
from pycontainers.backends.native import control
from pycontainers.backends.native.containers import Containers
from pycontainers.backends.native.launcher import Gone
from pycontainers.backends.native.record import Record
from pycontainers.backends.native.record import read_record
from pycontainers.backends.native.record import state_of
from pycontainers.errors import InvalidSpec


def wait(containers: Containers, ref: str, timeout: float | None, condition: str) -> ContainerState | None:
    """Return the state once it is as asked; None when time is up."""
    if condition not in ("not-running", "next-exit", "removed"):
        raise InvalidSpec(f"wait: condition must be not-running, next-exit or removed: got {condition!r}")
    id = containers.find(ref)
    deadline = None if timeout is None else time.monotonic() + timeout
    if condition == "removed":
        return _wait_removed(containers, id, deadline)
    first: int | None = None
    watch: control.Watch | None = None
    last = Record()
    try:
        while True:
            try:
                if watch is None:
                    watch = control.Watch(containers.launcher.root_fd, containers.directory(id))
                left = None if deadline is None else max(0.0, deadline - time.monotonic())
                record = watch.next(left)
                if record is None:
                    return None
                last = record
            except Gone:
                watch.close() if watch else None
                watch = None
                try:
                    record, living = read_record(containers.path(id))
                except FileNotFoundError:
                    return _last_state(containers, id, last)
                if living and record.live:
                    time.sleep(0.001)
                    continue
                if condition == "next-exit" and first is None:
                    if not _wait_start(containers, id, record, deadline):
                        return None
                    first = record.exits
                    continue
                return state_of(record, False, 0, containers.path(id))
            if first is None:
                first = record.exits
            if condition == "next-exit" and record.exits > first:
                return state_of(record, True, 0, containers.path(id))
            if not record.live:
                containers.settle(id)
                return state_of(record, True, 0, containers.path(id))
    finally:
        if watch is not None:
            watch.close()


def _wait_start(containers: Containers, id: str, before: Record, deadline: float | None) -> bool:
    """Wait for a start of a container at rest; False when time is up."""
    for _ in containers.events.read(since=None, follow=True):
        try:
            record, living = read_record(containers.path(id))
        except FileNotFoundError:
            return True
        if (living and record.live) or record.started != before.started or record.exits != before.exits:
            return True
        if deadline is not None and time.monotonic() >= deadline:
            return False
    return False


def _wait_removed(containers: Containers, id: str, deadline: float | None) -> ContainerState | None:
    record = Record()
    for _ in containers.events.read(since=None, follow=True):
        try:
            record, _living = read_record(containers.path(id))
        except FileNotFoundError:
            return _last_state(containers, id, record)
        if deadline is not None and time.monotonic() >= deadline:
            return None
    return None


def _last_state(containers: Containers, id: str, record: Record) -> ContainerState:
    """Return how a container ended that is gone: by its last record if that tells, else by its last event."""
    if record.live or not record.exits:
        code = containers.events.last_exit(id)
        record = evolve(record, exit_code=record.exit_code if code is None else code)
    return state_of(evolve(record, status=C.PYC_STATUS_EXITED), False, 0, containers.path(id))
