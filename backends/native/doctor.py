"""Finds out what this machine has of what the native backend needs, what a lack costs, and what mends it.

Works where the backend itself can't be used: whatever needs the C part is left out where that is missing.
"""

from __future__ import annotations

import errno
import os
import platform
import pwd
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from contextlib import suppress

from pycontainers.backend import Check
from pycontainers.backends.native import cgroups
from pycontainers.backends.native.accounts import ranges
from pycontainers.backends.native.accounts import subordinate
from pycontainers.backends.native.listing import default_root
from pycontainers.errors import BackendUnavailable

_PATIENCE = 20.0
#: Less than this in the store's file system is told: an image's layers are some hundred MB.
_ROOM = 1 << 30
#: The first with mount_setattr(2).
_KERNEL = (5, 12)
#: Subordinate ids that useradd(8) gives.
_COUNT = 65536
#: What each controller is for.
_CONTROLLERS = {"memory": "memory limits, and their use in `stats`", "pids": "limits on the number of processes",
                "cpu": "CPU limits", "cpuset": "pinning to CPUs", "freezer": "pause and unpause"}
_DELEGATE = (
    "sudo mkdir -p /etc/systemd/system/user@.service.d && printf '[Service]\\nDelegate=cpu cpuset io memory pids\\n' | "
    "sudo tee /etc/systemd/system/user@.service.d/delegate.conf && sudo systemctl daemon-reload, and log in anew")
_NAMESPACES = ("namespace.mount", "namespace.pid", "namespace.net", "namespace.ipc", "namespace.uts", "namespace.cgroup")
_ENGINES = {"docker": "/var/run/docker.sock", "podman": "", "nerdctl": "", "containerd": "/run/containerd/containerd.sock"}


def checks(root: str | None, c_part: str | None) -> tuple[Check, ...]:
    """Return all checks; `c_part` is why the backend says that it can't be used, None if it can."""
    root = root or default_root()
    tried = _tried(root)
    result = [_c_part(c_part, tried), _kernel(tried)]
    if os.geteuid():
        result += [_user_namespaces(tried), _subordinate_ids(), _id_programs()]
    result += [_namespaces(tried), _proc(tried), _overlay(tried, root), _seccomp(tried)]
    return (*result, *_cgroups(), _store(root), _engines())


# -- what was tried ---------------------------------------------------------------------------------------------------


def _tried(root: str) -> dict[str, int]:
    """Return what the helper program found: a name, and 0 or the error number; empty if it can't be run."""
    try:
        from pycontainers.backends.native.launcher import helper_program
        program = helper_program()
    except (ImportError, BackendUnavailable):
        return {}
    try:
        with _scratch(root) as directory:
            done = subprocess.run(
                ["pycontainers-doctor", directory], executable=f"/proc/self/fd/{program}", pass_fds=[program], env={},
                stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=_PATIENCE)
    except (OSError, subprocess.TimeoutExpired):
        return {}
    finally:
        os.close(program)
    return {name: int(number) for name, _, number in (line.partition(" ") for line in done.stdout.splitlines())}


@contextmanager
def _scratch(root: str) -> Iterator[str]:
    """Give a directory in the store's file system to mount an overlay of: in the store, or as near to it as can be."""
    directory = tempfile.mkdtemp(prefix=".pycontainers-doctor-", dir=_nearest(root))
    try:
        for name in ("lower", "upper", "work", "mnt"):
            os.mkdir(f"{directory}/{name}")
        with open(f"{directory}/lower/below", "w"):
            pass
        yield directory
    finally:
        # The kernel makes one there that nobody may look into.
        with suppress(OSError):
            os.chmod(f"{directory}/work/work", 0o700)
        shutil.rmtree(directory, ignore_errors=True)


def _nearest(path: str) -> str:
    """Return the directory, or the nearest one above it that there is; the one for temporary files if neither is ours."""
    if os.path.isdir(f"{path}/tmp"):
        path = f"{path}/tmp"
    while not os.path.isdir(path):
        path = os.path.dirname(os.path.abspath(path))
    return path if os.access(path, os.W_OK) else tempfile.gettempdir()


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""


def _said(number: int) -> str:
    return os.strerror(number).lower()


def _untried(name: str, *, needed: bool = True) -> Check:
    return Check(name=name, ok=False, found="not tried: the helper program does not run", needed=needed,
                 cost="nobody knows", remedy="mend what stands above, and ask again")


# -- the checks -------------------------------------------------------------------------------------------------------


def _c_part(reason: str | None, tried: dict[str, int]) -> Check:
    name = "C part"
    if tried:
        return Check(name=name, ok=True, found="the helper program runs", needed=True)
    forbidden = _read("/proc/sys/vm/memfd_noexec")
    if forbidden == "2":
        return Check(name=name, ok=False, found="programs in memory are forbidden (vm.memfd_noexec = 2)", needed=True,
                     cost="no containers", remedy="sysctl -w vm.memfd_noexec=1")
    return Check(
        name=name, ok=False, found=reason or "the helper program does not run", needed=True, cost="no containers",
        remedy="apt-get install gcc libc6-dev python3-dev && pip install --force-reinstall --no-cache-dir pycontainers")


def _kernel(tried: dict[str, int]) -> Check:
    release = platform.release()
    recent = _version(release) >= _KERNEL
    missing = [name.partition(".")[2] for name, number in tried.items() if name.startswith("call.") and number]
    if recent and not missing:
        return Check(name="kernel", ok=True, found=release, needed=True)
    found = f"{release} without {', '.join(missing)}" if missing else release
    remedy = ("in Docker, run with `--security-opt seccomp=unconfined`: a system call filter forbids these" if recent else
              f"boot a kernel from {'.'.join(map(str, _KERNEL))} on")
    return Check(name="kernel", ok=False, found=found, needed=True, cost="no containers", remedy=remedy)


def _version(release: str) -> tuple[int, int]:
    major, _, rest = release.partition(".")
    minor = rest.partition(".")[0].partition("-")[0]
    return (int(major), int(minor)) if major.isdigit() and minor.isdigit() else (0, 0)


def _user_namespaces(tried: dict[str, int]) -> Check:
    name, cost = "user namespaces", "no containers but as root"
    maximum = _read("/proc/sys/user/max_user_namespaces")
    if maximum == "0":
        return Check(name=name, ok=False, found="none allowed (user.max_user_namespaces = 0)", needed=True, cost=cost,
                     remedy="sysctl -w user.max_user_namespaces=15000")
    if _read("/proc/sys/kernel/unprivileged_userns_clone") == "0":
        return Check(name=name, ok=False, found="for root alone (kernel.unprivileged_userns_clone = 0)", needed=True, cost=cost,
                     remedy="sysctl -w kernel.unprivileged_userns_clone=1")
    if not tried:
        return _untried(name)
    failed = [step for step in ("namespace.user", "id-map", "namespace.mount", "tmpfs") if tried.get(step, errno.ECHILD)]
    if failed and _read("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == "1":
        return Check(name=name, ok=False, found="without rights (kernel.apparmor_restrict_unprivileged_userns = 1)",
                     needed=True, cost=cost, remedy="sysctl -w kernel.apparmor_restrict_unprivileged_userns=0")
    if failed:
        found = f"{failed[0]}: {_said(tried.get(failed[0], errno.ECHILD))}"
        return Check(name=name, ok=False, found=found, needed=True, cost=cost,
                     remedy="in Docker, run with `--security-opt seccomp=unconfined`; else see user_namespaces(7)")
    return Check(name=name, ok=True, found=f"at most {maximum}" if maximum else "yes", needed=True)


def _subordinate_ids() -> Check:
    uid = os.geteuid()
    try:
        user = pwd.getpwuid(uid).pw_name
    except KeyError:
        user = str(uid)
    uids, gids = (subordinate(f"/etc/sub{kind}", user, uid) for kind in ("uid", "gid"))
    if uids and gids:
        return Check(name="subordinate ids", ok=True,
                     found=f"{uids[1]} users from {uids[0]}, {gids[1]} groups from {gids[0]} (/etc/subuid, /etc/subgid)")
    taken = [first + count for kind in ("uid", "gid") for _, first, count in ranges(f"/etc/sub{kind}")]
    first = max([100000, *taken])
    span = f"{first}-{first + _COUNT - 1}"
    return Check(name="subordinate ids", ok=False,
                 found=f"no line for {user} in /etc/sub{'uid' if not uids else 'gid'}",
                 cost="one id in a container: no users but root, and files of others become root's",
                 remedy=f"sudo usermod --add-subuids {span} --add-subgids {span} {user}")


def _id_programs() -> Check:
    name, cost = "newuidmap", "subordinate ids can't be used: one id in a container"
    for program in ("newuidmap", "newgidmap"):
        path = shutil.which(program)
        if path is None:
            return Check(name=name, ok=False, found=f"{program} is missing", cost=cost, remedy="sudo apt-get install uidmap")
        status = os.stat(path)
        if not status.st_mode & stat.S_ISUID and "security.capability" not in _attributes(path):
            return Check(name=name, ok=False, found=f"{path} is neither set-user-ID nor has capabilities", cost=cost,
                         remedy="sudo apt-get install --reinstall uidmap")
    if "NoNewPrivs:\t1" in _read("/proc/self/status"):
        return Check(name=name, ok=False, found="useless: this process may gain no privileges (no_new_privs)", cost=cost,
                     remedy="start it without no_new_privs: in Docker without `--security-opt no-new-privileges`")
    return Check(name=name, ok=True, found=shutil.which(name) or "")


def _attributes(path: str) -> list[str]:
    try:
        return os.listxattr(path)
    except OSError:
        return []


def _namespaces(tried: dict[str, int]) -> Check:
    if not tried:
        return _untried("namespaces")
    missing = [f"{step.partition('.')[2]} ({_said(tried.get(step, errno.ECHILD))})" for step in _NAMESPACES
               if tried.get(step, errno.ECHILD)]
    if missing:
        return Check(name="namespaces", ok=False, found=f"without {', '.join(missing)}", needed=True, cost="no containers",
                     remedy="see namespaces(7), and /proc/sys/user/max_*_namespaces")
    return Check(name="namespaces", ok=True, found=" ".join(step.partition(".")[2] for step in _NAMESPACES), needed=True)


def _proc(tried: dict[str, int]) -> Check:
    if "proc" not in tried:
        return _untried("proc and sysfs")
    failed = [step for step in ("proc", "sysfs") if tried[step]]
    if failed:
        return Check(
            name="proc and sysfs", ok=False, found=f"{' and '.join(failed)} can't be mounted: {_said(tried[failed[0]])}",
            needed=True, cost="no containers",
            remedy="in Docker, run with `--security-opt systempaths=unconfined`, in Podman with `--security-opt unmask=ALL`: "
            "something is mounted over parts of /proc or /sys")
    return Check(name="proc and sysfs", ok=True, found="can be mounted anew", needed=True)


def _overlay(tried: dict[str, int], root: str) -> Check:
    if "overlay" not in tried:
        return _untried("overlay")
    kind = _file_system(_nearest(root))
    failed = [step for step in ("overlay", "overlay.write", "overlay.remove") if tried.get(step)]
    if failed:
        return Check(name="overlay", ok=False, found=f"on {kind}, {failed[0]}: {_said(tried[failed[0]])}", needed=True,
                     cost="no containers",
                     remedy="modprobe overlay, and put the store on ext4, xfs or btrfs: `Engine(root=...)`, PYCONTAINERS_ROOT")
    how = "" if tried.get("overlay.lowers") == 0 else ", lower directories in one text of 4 KiB"
    return Check(name="overlay", ok=True, found=f"works on {kind}{how}", needed=True)


def _seccomp(tried: dict[str, int]) -> Check:
    if not tried:
        return _untried("seccomp")
    if tried.get("seccomp"):
        return Check(name="seccomp", ok=False, found=_said(tried["seccomp"]), needed=True,
                     cost="no containers but unconfined ones", remedy="boot a kernel with CONFIG_SECCOMP_FILTER")
    return Check(name="seccomp", ok=True, found="filters", needed=True)


def _cgroups() -> list[Check]:
    version, controllers = cgroups.found()
    if not version:
        if os.geteuid() == 0:
            remedy = "mount -o remount,rw /sys/fs/cgroup, or mount -t cgroup2 none /sys/fs/cgroup"
        elif os.path.exists("/sys/fs/cgroup/cgroup.controllers"):
            remedy = "log in through systemd (ssh, a console, machinectl shell): it gives each session a cgroup"
        else:
            remedy = "boot with systemd.unified_cgroup_hierarchy=1: version 1 can't be delegated to users"
        return [Check(name="cgroups", ok=False, found="none is this user's", remedy=remedy,
                      cost="no pause, no limits; `stats` adds up what each process tells")]
    found = {"1": "version 1", "2": "version 2", "hybrid": "version 1, and 2 beside it"}[version]
    missing = [name for name in _CONTROLLERS if name not in controllers]
    result = [Check(name="cgroups", ok=True, found=found)]
    if missing:
        remedy = _DELEGATE if os.geteuid() else "boot with cgroup_enable=memory, and without cgroup_disable=; see cgroups(7)"
        result.append(Check(name="cgroup controllers", ok=False, found=f"without {', '.join(missing)}",
                            cost="no " + "; no ".join(_CONTROLLERS[name] for name in missing), remedy=remedy))
    else:
        result.append(Check(name="cgroup controllers", ok=True, found=" ".join(_CONTROLLERS)))
    return result


def _store(root: str) -> Check:
    there = root
    while not os.path.isdir(there):
        there = os.path.dirname(os.path.abspath(there))
    kind = _file_system(there)
    status = os.statvfs(there)
    free = status.f_bavail * status.f_frsize
    found = f"{root} on {kind}, {free / (1 << 30):.1f} GiB free"
    if not os.access(there, os.W_OK | os.X_OK):
        return Check(name="store", ok=False, found=f"{there} can't be written to", needed=True, cost="no containers",
                     remedy="name a store of your own: `Engine(root=...)`, PYCONTAINERS_ROOT")
    if free < _ROOM:
        return Check(name="store", ok=False, found=found, cost="images may not fit", remedy="pycontainers system prune")
    if status.f_files and status.f_favail < 10_000:
        return Check(name="store", ok=False, found=f"{found}, {status.f_favail} inodes", cost="images may not fit",
                     remedy="pycontainers system prune")
    return Check(name="store", ok=True, found=found, needed=True)


def _file_system(path: str) -> str:
    """Return the type of the file system that a path lies on."""
    device = os.stat(path).st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    kind, longest = "an unknown file system", -1
    for line in _read("/proc/self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        fields = before.split(" ")
        point = fields[4].replace("\\040", " ")
        below = os.path.realpath(path) == point or os.path.realpath(path).startswith(point.rstrip("/") + "/")
        if (fields[2] == number or below) and len(point) > longest and below:
            kind, longest = after.split(" ")[0], len(point)
    return kind


def _engines() -> Check:
    found = [name + (" (running)" if socket and os.path.exists(socket) else "") for name, socket in _ENGINES.items()
             if shutil.which(name) or (socket and os.path.exists(socket))]
    return Check(name="other engines", ok=True, found=", ".join(found) or "none")
