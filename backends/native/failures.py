"""Turns what the C core tells of a failure into the error that names the thing, the cause and the remedy."""

from __future__ import annotations

import errno
import os

from pycontainers._native._lib import lib as C
from pycontainers.backends.native.launcher import Answer
from pycontainers.errors import CommandNotExecutable
from pycontainers.errors import CommandNotFound
from pycontainers.errors import ContainersError
from pycontainers.errors import InvalidSpec
from pycontainers.errors import InvalidState
from pycontainers.errors import StartFailed
from pycontainers.errors import StoreFull
from pycontainers.errors import Unsupported

_DOING = {
    C.PYC_STEP_PLAN: "reading the plan", C.PYC_STEP_FILES: "opening the files of", C.PYC_STEP_CGROUP: "making the cgroup",
    C.PYC_STEP_CGROUP_WRITE: "setting the limit", C.PYC_STEP_CGROUP_JOIN: "joining the cgroup",
    C.PYC_STEP_ATTACH: "binding", C.PYC_STEP_OVERLAY: "mounting the layers", C.PYC_STEP_NETWORK: "setting up the network",
    C.PYC_STEP_TERMINAL: "opening a terminal", C.PYC_STEP_CLONE: "cloning the process", C.PYC_STEP_ROOT: "mounting the root",
    C.PYC_STEP_MOUNT: "mounting on", C.PYC_STEP_BIND: "binding on", C.PYC_STEP_DEVICES: "making the device",
    C.PYC_STEP_FILE: "making the file", C.PYC_STEP_MASK: "masking", C.PYC_STEP_SYSCTL: "setting the sysctl",
    C.PYC_STEP_HOSTNAME: "setting the host name", C.PYC_STEP_PIVOT: "changing the root", C.PYC_STEP_NAMESPACE: "entering",
    C.PYC_STEP_LIMIT: "setting the limit", C.PYC_STEP_USER: "becoming the user",
    C.PYC_STEP_CAPABILITIES: "dropping capabilities", C.PYC_STEP_SECCOMP: "installing the system call filter",
    C.PYC_STEP_WORKDIR: "entering the working directory", C.PYC_STEP_STDIO: "opening the standard streams",
    C.PYC_STEP_EXEC: "executing",
}
_REMEDY = {
    C.PYC_STEP_LIMIT: "a hard limit can't be raised above that of the caller",
    C.PYC_STEP_SYSCTL: "only sysctls of the container's own namespaces can be set",
    C.PYC_STEP_OVERLAY: "see `pycontainers doctor`",
    C.PYC_STEP_CGROUP_WRITE: "check the value, and see `pycontainers doctor`",
}

#: What a kernel answers that lacks something, or may not do it here.
_REFUSALS = (errno.EPERM, errno.ENOSYS, errno.ENODEV, errno.EUSERS)


def start_error(answer: Answer, name: str, doing: str = "starting") -> ContainersError:
    """Return the error for a start or an exec of container `name` that failed; `doing` is how the text begins."""
    number, text = answer.error, answer.text
    reason = os.strerror(number)
    result: ContainersError
    if answer.step == C.PYC_STEP_EXEC and number in (errno.ENOENT, errno.ENOTDIR):
        result = CommandNotFound(f'exec: "{text}": executable file not found in the container {name}; '
                                 "check its name and the container's PATH")
    elif answer.step == C.PYC_STEP_EXEC and number == errno.E2BIG:
        result = CommandNotExecutable(f'exec: "{text}": {reason}: pass less in arguments and environment')
    elif answer.step == C.PYC_STEP_EXEC:
        result = CommandNotExecutable(f'exec: "{text}": {reason.lower()} in the container {name}; it must be a program for '
                                      "this machine, or a script that names its interpreter, with the mode to execute it")
    elif answer.step == C.PYC_STEP_USER and number == errno.ESRCH:
        result = StartFailed(f"{doing} {name}: unable to find user {text or 'root'}, or one of its groups: "
                             "no matching entry in the image's /etc/passwd or /etc/group")
    elif answer.step == C.PYC_STEP_USER and number == errno.EINVAL:
        result = Unsupported(f"backend native lacks the user {text!r} here: its ids lie outside of the ranges of this account; "
                             "give it larger ones with `usermod --add-subuids` and `--add-subgids`; see `pycontainers doctor`")
    elif answer.step == C.PYC_STEP_STATE and number in (errno.ESRCH, errno.EBUSY):
        if number == errno.EBUSY:
            return InvalidState(f"container {name} is paused, unpause the container before exec")
        return InvalidState(f"container {name} is not running")
    elif answer.step == C.PYC_STEP_BIND and number in (errno.ENOTDIR, errno.EISDIR, errno.EINVAL):
        result = StartFailed(f"{doing} {name}: binding on {text!r}: a file and a directory can't be bound on each other")
    elif answer.step == C.PYC_STEP_CGROUP_WRITE and number == errno.ENOENT:
        return Unsupported(f"backend native lacks the limit {text!r} here: this kernel's cgroups have no such file; "
                           "start without it, or see `pycontainers doctor`")
    elif answer.step == C.PYC_STEP_PLAN:
        return InvalidSpec(f"{doing} {name}: the plan is damaged or too large ({reason})")
    elif number in (errno.ENOSPC, errno.EDQUOT):
        step = _DOING.get(answer.step, "preparing")
        return _numbered(StoreFull(f"{doing} {name}: {step} {text!r}: {reason}; free some room"), number)
    else:
        remedy = _REMEDY.get(answer.step) or ("see `pycontainers doctor`" if number in _REFUSALS else None)
        result = StartFailed(f"{doing} {name}: {_DOING.get(answer.step, 'preparing')} {text!r}: {reason}"
                             + (f"; {remedy}" if remedy else ""))
    return _numbered(result, number)


def _numbered(error: ContainersError, number: int) -> ContainersError:
    error.errno = number  # type: ignore[attr-defined]
    return error
