"""Who has a container in hand: a lock on its state file, held for life by its supervisor, for the while by jobs."""

from __future__ import annotations

import fcntl
import os
import struct

#: Locks of an open file description (fcntl(2)): unlike flock's they can be asked for without being taken.
_F_OFD_GETLK, _F_OFD_SETLK = 36, 37
_FLOCK = struct.Struct("=hh4xqqi4x")


def _flock(kind: int) -> bytes:
    return _FLOCK.pack(kind, os.SEEK_SET, 0, 0, 0)


def locked(fd: int) -> bool:
    """Tell whether someone holds the lock of a container's state: its supervisor, or a job on its files."""
    answer = fcntl.fcntl(fd, _F_OFD_GETLK, _flock(fcntl.F_WRLCK))
    return bool(_FLOCK.unpack(answer)[0] != fcntl.F_UNLCK)


def take_lock(fd: int) -> None:
    """Take the lock for as long as the description is open. Raises `OSError` (EAGAIN) if someone has it."""
    fcntl.fcntl(fd, _F_OFD_SETLK, _flock(fcntl.F_WRLCK))
