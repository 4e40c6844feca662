"""The one tree of errors that everything public raises.

    ContainersError
    ├── NotFound (LookupError)
    │   ├── ImageNotFound
    │   ├── ContainerNotFound
    │   ├── VolumeNotFound
    │   └── NetworkNotFound
    ├── AmbiguousName (LookupError)
    ├── NameInUse
    ├── InUse
    ├── InvalidSpec (ValueError)
    │   ├── InvalidReference
    │   └── InvalidType (TypeError)
    ├── InvalidState
    ├── StartFailed (OSError)
    │   ├── CommandNotFound (FileNotFoundError)
    │   └── CommandNotExecutable (PermissionError)
    ├── ProcessFailed (subprocess.CalledProcessError)
    ├── TimedOut (TimeoutError)
    ├── WaitFailed
    ├── CorruptArchive
    │   └── LimitExceeded
    ├── StoreError (OSError)
    │   ├── StoreFull
    │   └── StoreVersion
    ├── BackendUnavailable
    └── Unsupported
"""

from __future__ import annotations

import subprocess


class ContainersError(Exception):
    """Root of every error of this library; `str()` says what was being done, to what, why it failed and what to do."""


class NotFound(ContainersError, LookupError):
    """Raised when nothing bears the given name or id."""


class ImageNotFound(NotFound):
    """Raised when no image has that reference or id."""


class ContainerNotFound(NotFound):
    """Raised when no container has that name or id."""


class VolumeNotFound(NotFound):
    """Raised when no volume has that name."""


class NetworkNotFound(NotFound):
    """Raised when no network has that name or id."""


class AmbiguousName(ContainersError, LookupError):
    """Raised when an id prefix fits more than one thing."""


class NameInUse(ContainersError):
    """Raised when a name is already taken."""


class InUse(ContainersError):
    """Raised when a thing can't be removed or changed because another one uses it."""


class InvalidSpec(ContainersError, ValueError):
    """Raised when an option's value makes no sense; names the option."""


class InvalidReference(InvalidSpec):
    """Raised when an image reference can't be parsed."""


class InvalidType(InvalidSpec, TypeError):
    """Raised when an option's value has the wrong type; names the option."""


class InvalidState(ContainersError):
    """Raised when a container's state does not allow the call (start a paused one, exec in an ended one)."""


class StartFailed(ContainersError, OSError):
    """Raised when a container or an exec could not be started; `exit_code` is Docker's: 125, 126 or 127."""

    exit_code: int = 125


class CommandNotFound(StartFailed, FileNotFoundError):
    """Raised when the command is not in the container."""

    exit_code = 127


class CommandNotExecutable(StartFailed, PermissionError):
    """Raised when the command is there and can't be executed."""

    exit_code = 126


class ProcessFailed(ContainersError, subprocess.CalledProcessError):
    """Raised by `check=True` and `check_returncode()` for an exit code other than 0; holds `stdout` and `stderr`."""

    def __str__(self) -> str:
        """Say what ran, how it ended, and the tail of what it wrote to stderr."""
        said = self.stderr if isinstance(self.stderr, str) else (self.stderr or b"").decode(errors="replace")
        tail = "\n".join(said.splitlines()[-10:])
        return subprocess.CalledProcessError.__str__(self) + (f"\n{tail}" if tail else "")


class TimedOut(ContainersError, TimeoutError):
    """Raised when a deadline passed; holds what was captured until then in `stdout` and `stderr`."""

    def __init__(self, message: str, *, stdout: str | bytes | None = None, stderr: str | bytes | None = None) -> None:
        """Keep the message, and the output so far."""
        super().__init__(message)
        self.stdout = stdout
        self.stderr = stderr


class WaitFailed(ContainersError):
    """Raised when a container ended before a condition came true; holds `exit_code`, `oom_killed` and `log_tail`."""

    def __init__(self, message: str, *, exit_code: int, oom_killed: bool = False, log_tail: str = "") -> None:
        """Keep the message, how the container ended, and its last lines."""
        super().__init__(message)
        self.exit_code = exit_code
        self.oom_killed = oom_killed
        self.log_tail = log_tail


class CorruptArchive(ContainersError):
    """Raised when a tar or a compressed stream is truncated, malformed or hostile; nothing of it is kept."""


class LimitExceeded(CorruptArchive):
    """Raised when an archive is larger than the limits allow: expansion, entries, layers, declared size."""


class StoreError(ContainersError, OSError):
    """Raised when the store on disk can't be read or written."""


class StoreFull(StoreError):
    """Raised when the store's file system has no room left; what was begun is undone."""


class StoreVersion(StoreError):
    """Raised when the store was written by a newer version of this library."""


class BackendUnavailable(ContainersError):
    """Raised when a backend can't be used on this machine; says why and what would mend it."""


class Unsupported(ContainersError):
    """Raised when a backend lacks a capability; names both. Nothing was done."""
