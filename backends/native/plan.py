"""Builds a plan: the value that the C core carries out, as `_native/plan.h` lays it out."""

from __future__ import annotations

import builtins
import errno
import os
import struct
from collections.abc import Iterable

from attrs import evolve
from attrs import field
from attrs import frozen

from pycontainers._native._lib import ffi
from pycontainers._native._lib import lib as C
from pycontainers.errors import CommandNotExecutable

_OP = struct.Struct("=IIiIIIQQ")
_PROCESS = struct.Struct("=12I3Q")
_PLAN = struct.Struct("=12I5Q2I")
_HEAD_SIZE = _PLAN.size + 2 * _PROCESS.size

if ffi.sizeof("struct pyc_plan") != _HEAD_SIZE or ffi.sizeof("struct pyc_op") != _OP.size:
    raise ImportError("the extension was built from another plan.h: install pycontainers anew")

CAPABILITIES = (
    "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE "
    "NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN "
    "SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE "
    "MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE"
).split()


def capability_mask(names: Iterable[str]) -> int:
    """Return the bits of capabilities, by names without `CAP_`."""
    return sum(1 << CAPABILITIES.index(name) for name in set(names))


@frozen(kw_only=True)
class ProcessPlan:
    """What a process becomes; see `struct pyc_process`."""

    argv: tuple[str, ...]
    env: tuple[str, ...]
    user: str = ""
    groups: tuple[str, ...] = ()
    workdir: str = "/"
    path: str = ""
    flags: int = 0
    filter: bytes = field(default=b"", repr=False)
    rows: int = 0
    columns: int = 0
    capabilities: int = 0
    bounding: int = 0
    ambient: int = 0


class PlanBuilder:
    """Collects ops and texts, and lays them out. Not thread-safe; one plan each."""

    def __init__(self) -> None:
        """Begin an empty plan."""
        self._ops: list[tuple[int, int, int, int, int, int, int, int]] = []
        self._texts = bytearray()
        self._known: dict[object, int] = {}
        self._filters: list[tuple[bytes, int]] = []

    def text(self, text: str) -> int:
        """Enter a text; returns its place among the texts, 0 for an empty one."""
        if not text:
            return 0
        at = self._known.get(text)
        if at is None:
            at = self._known[text] = len(self._texts) + 1
            self._texts += text.encode("utf-8", "surrogateescape") + b"\0"
        return at

    def data(self, data: bytes) -> int:
        """Enter bytes, whose length the op must tell; returns their place."""
        at = len(self._texts) + 1
        self._texts += data + b"\0"
        return at

    def list(self, items: Iterable[str], prefix: str = "") -> int:
        """Enter a list of texts, each behind `prefix`; returns its place, 0 for an empty one."""
        joined = "\0".join([prefix + item for item in items])
        if not joined:
            return 0
        key = (joined,)
        at = self._known.get(key)
        if at is None:
            at = self._known[key] = len(self._texts) + 1
            self._texts += joined.encode("utf-8", "surrogateescape") + b"\0\0"
        return at

    def op(
        self, code: int, flags: int = 0, *, slot: int = -1, a: int = 0, b: int = 0, c: int = 0, x: int = 0, y: int = 0
    ) -> None:
        """Append an op; `a`, `b` and `c` are places of texts or lists."""
        self._ops.append((code, flags, slot, a, b, c, x, y))

    def build(self, head: PlanHead, process: ProcessPlan, health: ProcessPlan | None = None) -> bytes:
        """Return the finished plan."""
        ops_at = _HEAD_SIZE
        filter_at = ops_at + _OP.size * len(self._ops)
        filters = b"" if not process.filter else process.filter
        event = self.text(head.event)
        cgroup = self.text(head.cgroup)
        first = self._process(process)
        second = self._process(health) if health else None
        base = filter_at + len(filters) - 1

        def place(at: int) -> int:
            return at + base if at else 0

        def packed(fields: builtins.list[int], flags: ProcessPlan) -> bytes:
            places = [place(at) for at in fields[:6]]
            has = filter_at if flags.filter else 0
            return _PROCESS.pack(*places, flags.flags, has, len(flags.filter), flags.rows, flags.columns, fields[6],
                                 flags.capabilities, flags.bounding, flags.ambient)

        ops = b"".join([_OP.pack(code, flags, slot, place(a), place(b), place(c), x, y)
                        for code, flags, slot, a, b, c, x, y in self._ops])
        texts = bytes(self._texts) + b"\0\0"
        size = filter_at + len(filters) + len(texts)
        if size > C.PYC_PLAN_MAX:
            error = CommandNotExecutable(f'exec: "{next(iter(process.argv), "")}": {os.strerror(errno.E2BIG)}: pass less in '
                                         "arguments and environment")
            error.errno = errno.E2BIG
            raise error
        return b"".join((
            _PLAN.pack(C.PYC_PLAN_MAGIC, size, len(self._ops), ops_at, head.flags, head.clone_flags, head.stop_signal,
                       head.restart, head.restart_limit, place(event), place(cgroup), 0, head.stop_timeout,
                       head.health_interval, head.health_timeout, head.health_start_period, head.health_start_interval,
                       head.health_retries, int(health is not None)),
            packed(first, process),
            packed(second, health) if second and health else bytes(_PROCESS.size),
            ops, filters, texts))

    def _process(self, p: ProcessPlan) -> builtins.list[int]:
        own_home = any(item.startswith("HOME=") for item in p.env)
        return [self.list(p.argv, "-"), self.list(p.env), self.text(p.user), self.list(p.groups), self.text(p.workdir),
                self.text(p.path), int(own_home)]


@frozen(kw_only=True)
class PlanHead:
    """A plan's fixed part; see `struct pyc_plan`. Times in ns."""

    flags: int = 0
    clone_flags: int = 0
    stop_signal: int = 15
    restart: int = 0
    restart_limit: int = 0
    event: str = ""
    cgroup: str = ""
    stop_timeout: int = 10**10
    health_interval: int = 0
    health_timeout: int = 0
    health_start_period: int = 0
    health_start_interval: int = 0
    health_retries: int = 3


def exec_plan(builder: PlanBuilder, process: ProcessPlan, flags: int) -> bytes:
    """Return the plan of an exec: its process, and the joins of the container's cgroups."""
    return builder.build(PlanHead(flags=flags), process)


__all__ = ["CAPABILITIES", "C", "PlanBuilder", "PlanHead", "ProcessPlan", "capability_mask", "evolve", "exec_plan"]
