"""The memory backend: a real fake, which keeps the contract's promises with no kernel, in this process's memory alone.

Its containers run a small set of built-in programs, in threads: a file of an image that begins with `#!memory` is all of
them, as busybox is. It is for tests of what uses containers, on any platform, and it is used only when it is named.
"""

from __future__ import annotations

from pycontainers.backend import Backend
from pycontainers.backend import BackendInfo


def _open(**options: object) -> Backend:
    from pycontainers.backends.memory.backend import MemoryBackend

    return MemoryBackend(**options)


def _unavailable() -> str | None:
    return None


def pycontainers_backend() -> BackendInfo:
    """Return the memory backend."""
    return BackendInfo(name="memory", open=_open, unavailable=_unavailable, priority=1000)
