"""Reads a container's log: frames as the supervisor wrote them, and those that are still to come."""

from __future__ import annotations

import os
import struct
import threading
from collections import OrderedDict
from collections.abc import Callable
from collections.abc import Iterator

from pycontainers.backend import LogFrame

_HEAD = struct.Struct("=QII")
_CHUNK = 1 << 20


def read_frames(fd: int, cursor: int) -> Iterator[LogFrame]:
    """Yield the whole frames from `cursor` on; one cut short at the end (its writer was killed) is not there yet."""
    while True:
        data = os.pread(fd, _CHUNK, cursor)
        at = 0
        while len(data) - at >= _HEAD.size:
            time, length, stream = _HEAD.unpack_from(data, at)
            end = at + _HEAD.size + length
            if end > len(data):
                break
            yield LogFrame(stream=stream, time=time, data=data[at + _HEAD.size:end], cursor=cursor + end)
            at = end
        if at == 0:
            return
        cursor += at


def follow_frames(fd: int, cursor: int, wait: Callable[[int], bool]) -> Iterator[LogFrame]:
    """Yield frames until the container ends: `wait(cursor)` blocks for more, and is False once there can be none."""
    going = True
    while True:
        for frame in read_frames(fd, cursor):
            cursor = frame.cursor
            yield frame
        if not going:
            return
        going = wait(cursor)


def collect(fd: int) -> tuple[bytes, bytes]:
    """Return all that was written to stdout and to stderr."""
    parts: tuple[list[bytes], list[bytes]] = ([], [])
    for frame in read_frames(fd, 0):
        parts[frame.stream == 2].append(frame.data)
    return b"".join(parts[0]), b"".join(parts[1])


class KeptLogs:
    """Logs of auto-removed containers that this process started or attached to, readable after they are gone. Thread-safe."""

    _MOST = 256

    def __init__(self) -> None:
        """Begin with none."""
        self._fds: OrderedDict[str, int] = OrderedDict()
        self._lock = threading.Lock()

    def keep(self, id: str, fd: int) -> None:
        """Take over a log's descriptor; the oldest goes when there are many."""
        if fd < 0:
            return
        with self._lock:
            dropped = [self._fds.pop(id, -1)]
            self._fds[id] = fd
            if len(self._fds) > self._MOST:
                dropped.append(self._fds.popitem(last=False)[1])
        for old in dropped:
            if old >= 0:
                os.close(old)

    def find(self, ref: str) -> tuple[str, int] | None:
        """Return the id, and a descriptor that the caller closes; None if there is no such log."""
        with self._lock:
            for id, fd in self._fds.items():
                if len(ref) >= 12 and id.startswith(ref):
                    return id, os.dup(fd)
        return None

    def close(self) -> None:
        """Give them all up. Idempotent."""
        with self._lock:
            while self._fds:
                os.close(self._fds.popitem()[1])
