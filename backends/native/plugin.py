"""The native backend's plugin: what it says of itself before it is opened."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from pycontainers.backend import Backend
    from pycontainers.backend import BackendInfo
    from pycontainers.backend import Check


def unavailable() -> str | None:
    """Return why the native backend can't be used here, None if it can."""
    if sys.platform != "linux":
        return f"it needs Linux, and this is {sys.platform}"
    try:
        from pycontainers._native import _lib
    except ImportError as error:
        return f"its C part is missing ({error}); install a C compiler and Python's headers, then pycontainers anew"
    if _lib.lib.pyc_abi() != 1:
        return "its C part is of another version; install pycontainers anew"
    if os.geteuid() and not _user_namespaces():
        return "user namespaces are off here; see `pycontainers doctor`"
    return None


def _user_namespaces() -> bool:
    try:
        with open("/proc/sys/user/max_user_namespaces") as file:
            return int(file.read()) > 0
    except (OSError, ValueError):
        return False


def open_backend(*, root: str | os.PathLike[str] | None = None) -> Backend:
    """Open the native backend on the store `root`, by default the user's own. Raises `InvalidType`, `InvalidSpec`."""
    from pycontainers.backends.native.backend import NativeBackend
    from pycontainers.errors import InvalidSpec
    from pycontainers.errors import InvalidType

    if root is not None and not isinstance(root, (str, os.PathLike)):
        raise InvalidType(f"root takes a path: got {root!r}")
    if root is not None and (not os.fspath(root) or "\0" in os.fspath(root)):
        raise InvalidSpec(f"root is no path: {root!r}")
    return NativeBackend(root)


def pycontainers_backend() -> BackendInfo:
    """Return the native backend's description."""
    from pycontainers.backend import BackendInfo

    return BackendInfo(name="native", open=open_backend, unavailable=unavailable, priority=10, doctor=doctor)


def doctor(root: str | None) -> Sequence[Check]:
    """Return what the native backend needs and finds here."""
    from pycontainers.backends.native.doctor import checks

    return checks(root, unavailable() if sys.platform == "linux" else None)


def pycontainers_listing(root: str | None) -> list[Any] | None:
    """Return what `pycontainers ps` shows, quickly; None if the backend itself has to look. `root` None is the user's own."""
    if sys.platform != "linux":
        return None
    from pycontainers.backends.native.listing import default_root
    from pycontainers.backends.native.listing import list_containers

    return list_containers(root or default_root())
