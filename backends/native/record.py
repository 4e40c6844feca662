"""A container's files: its config as Python wrote it, and its live state as its supervisor wrote it."""

from __future__ import annotations

import errno
import json
import os
import struct
from functools import lru_cache

import attrs
from attrs import frozen

from pycontainers._native._lib import lib as C
from pycontainers.backend import ContainerState
from pycontainers.backend import Health
from pycontainers.backend import HealthResult
from pycontainers.backend import Status
from pycontainers.backends.native.locks import locked
from pycontainers.backends.native.locks import take_lock
from pycontainers.spec import ContainerSpec
from pycontainers.spec import Device
from pycontainers.spec import HealthCheck
from pycontainers.spec import Mount
from pycontainers.spec import Port
from pycontainers.spec import RestartPolicy
from pycontainers.spec import Ulimit

_RECORD = struct.Struct("=IIQiIIIIIiI5Q40s200s")
_HEALTH = struct.Struct("=QQiI4096s")
_LISTS = {"volumes": Mount, "ports": Port, "devices": Device, "ulimits": Ulimit}
_VALUES = {"restart": RestartPolicy, "healthcheck": HealthCheck}
_TUPLES = ("environment", "labels", "extra_hosts", "sysctls")


@frozen(kw_only=True)
class Record:
    """The fixed-format record, parsed; times in ns since the epoch."""

    status: int = 0
    sequence: int = 0
    exit_code: int = 0
    flags: int = 0
    health: int = 0
    failing_streak: int = 0
    restart_count: int = 0
    exits: int = 0
    error: int = 0
    error_step: int = 0
    started: int = 0
    finished: int = 0
    log_end: int = 0
    log_lost: int = 0
    health_count: int = 0
    boot_id: str = ""
    text: str = ""

    @property
    def live(self) -> bool:
        """True while the supervisor that wrote it should be there."""
        return self.status in (C.PYC_STATUS_RUNNING, C.PYC_STATUS_PAUSED, C.PYC_STATUS_RESTARTING)


def parse_record(data: bytes) -> Record:
    """Return a record's values; those of a container never started if there is none."""
    if len(data) < _RECORD.size:
        return Record()
    (magic, status, sequence, exit_code, flags, health, streak, restarts, exits, error, step, started, finished, log_end,
     log_lost, health_count, boot, text) = _RECORD.unpack_from(data)
    if magic != C.PYC_RECORD_MAGIC:
        return Record()
    return Record(
        status=status, sequence=sequence, exit_code=exit_code, flags=flags, health=health, failing_streak=streak,
        restart_count=restarts, exits=exits, error=error, error_step=step, started=started, finished=finished,
        log_end=log_end, log_lost=log_lost, health_count=health_count, boot_id=boot.partition(b"\0")[0].decode(),
        text=text.partition(b"\0")[0].decode("utf-8", "surrogateescape"))


@lru_cache(maxsize=1)
def boot_id() -> str:
    """Return the id of this boot of the machine."""
    with open("/proc/sys/kernel/random/boot_id") as file:
        return file.read().strip()


def read_record(directory: str) -> tuple[Record, bool]:
    """Return the record in a container's directory, and whether its supervisor lives. Raises FileNotFoundError."""
    try:
        fd = os.open(f"{directory}/state", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        os.stat(directory)
        return Record(), False
    try:
        record = parse_record(os.read(fd, _RECORD.size))
        if locked(fd):
            return record, True
        # Free now: its supervisor may have ended after the first reading, with a last word.
        return parse_record(os.pread(fd, _RECORD.size, 0)), False
    finally:
        os.close(fd)


def heal_record(directory: str) -> bool:
    """Write the last word of a supervisor that was killed, under its lock: its container ended with it. Idempotent.

    Tells whether it did: False if another process has, or nothing was to be told.
    """
    fd = os.open(f"{directory}/state", os.O_RDWR | os.O_CLOEXEC)
    try:
        take_lock(fd)
        data = bytearray(os.pread(fd, _RECORD.size, 0))
        record = parse_record(bytes(data))
        if record.live:
            fields = list(_RECORD.unpack(data))
            fields[1], fields[2], fields[3] = C.PYC_STATUS_EXITED, record.sequence + 1, 137
            fields[8] = record.exits + 1
            fields[12] = max(os.stat(f"{directory}/state").st_mtime_ns, record.started)
            fields[17] = b"reboot" if record.boot_id != boot_id() else b"supervisor"
            os.pwrite(fd, _RECORD.pack(*fields), 0)
            return True
        return False
    except OSError as error:
        if error.errno not in (errno.EAGAIN, errno.EACCES):
            raise
        return False
    finally:
        os.close(fd)


def state_of(record: Record, living: bool, pid: int, directory: str) -> ContainerState:
    """Return a record as the API's value."""
    status = _STATUS.get(record.status, Status.EXITED)
    reason = ""
    exit_code = record.exit_code
    if record.live and not living:
        status, exit_code = Status.EXITED, 137
        reason = "reboot" if record.boot_id != boot_id() else "supervisor"
    elif record.status == C.PYC_STATUS_EXITED and not record.error and record.text in ("reboot", "supervisor"):
        reason = record.text
    return ContainerState(
        status=status, pid=pid, exit_code=exit_code, oom_killed=bool(record.flags & C.PYC_RECORD_OOM),
        error=_error(record), reason=reason, started_at=record.started / 1e9, finished_at=record.finished / 1e9,
        restart_count=record.restart_count, health=_health(record, directory))


_STATUS = {C.PYC_STATUS_CREATED: Status.CREATED, C.PYC_STATUS_RUNNING: Status.RUNNING, C.PYC_STATUS_PAUSED: Status.PAUSED,
           C.PYC_STATUS_RESTARTING: Status.RESTARTING, C.PYC_STATUS_EXITED: Status.EXITED,
           C.PYC_STATUS_REMOVED: Status.REMOVING}
_HEALTH_NAMES = {C.PYC_HEALTH_STARTING: "starting", C.PYC_HEALTH_HEALTHY: "healthy", C.PYC_HEALTH_UNHEALTHY: "unhealthy"}


def _error(record: Record) -> str:
    if not record.error:
        return ""
    return f"{record.text}: {os.strerror(record.error)}"


def _health(record: Record, directory: str) -> Health | None:
    name = _HEALTH_NAMES.get(record.health)
    if name is None:
        return None
    results = []
    try:
        with open(f"{directory}/health", "rb") as file:
            data = file.read()
    except OSError:
        data = b""
    first = max(0, record.health_count - 5)
    for number in range(first, record.health_count):
        at = number % 5 * _HEALTH.size
        if at + _HEALTH.size <= len(data):
            start, end, code, length, output = _HEALTH.unpack_from(data, at)
            results.append(HealthResult(start=start / 1e9, end=end / 1e9, exit_code=code,
                                        output=output[:length].decode(errors="replace")))
    return Health(status=name, failing_streak=record.failing_streak, log=tuple(results))


# -- config.json -------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def _defaults() -> ContainerSpec:
    return ContainerSpec()


def encode_spec(spec: ContainerSpec) -> dict[str, object]:
    """Return a spec's fields that differ from the default, as JSON has them."""
    result: dict[str, object] = {}
    default = _defaults()
    for name in _fields():
        value = getattr(spec, name)
        if value is not getattr(default, name) and value != getattr(default, name):
            if name in _LISTS:
                value = [attrs.asdict(item) for item in value]
            elif name in _VALUES:
                value = attrs.asdict(value)
            result[name] = value
    return result


@lru_cache(maxsize=1)
def _fields() -> tuple[str, ...]:
    return tuple(item.name for item in attrs.fields(ContainerSpec))


def decode_spec(data: dict[str, object]) -> ContainerSpec:
    """Return the spec that `encode_spec` wrote; fields of a newer release are passed over."""
    known = set(_fields())
    arguments: dict[str, object] = {}
    for name, value in data.items():
        if name not in known:
            continue
        if name in _LISTS:
            value = tuple(_LISTS[name](**_tuples(item)) for item in value)  # type: ignore[attr-defined]
        elif name in _VALUES:
            value = _VALUES[name](**_tuples(value)) if value else None
        elif name in _TUPLES:
            value = tuple(tuple(pair) for pair in value)  # type: ignore[attr-defined]
        arguments[name] = value
    return ContainerSpec(**arguments)  # type: ignore[arg-type]


def _tuples(data: object) -> dict[str, object]:
    assert isinstance(data, dict)
    return {key: tuple(value) if isinstance(value, list) else value for key, value in data.items()}


def write_json(path: str, value: object) -> None:
    """Write a value as JSON, whole or not at all."""
    temporary = f"{path}.new"
    with open(temporary, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(json.dumps(value, separators=(",", ":")))
    os.rename(temporary, path)


def read_json(path: str) -> dict[str, object]:
    """Return what `write_json` wrote."""
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        value = json.load(file)
    assert isinstance(value, dict)
    return value
