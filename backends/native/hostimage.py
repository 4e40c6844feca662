"""The machine's own root file system as an image of no bytes, and how overlays compose it.

What works was tried on Linux 6.18, as root and by an ordinary user in `unshare -Urm`:

- As root an overlay with `lowerdir=/` mounts, but no second lower layer that lies in the store can go with it: overlayfs
  refuses layers that contain each other (ELOOP). In a user namespace `/` is no lower at all (EINVAL): its submounts are
  locked, and the kernel won't clone a mount without its locked children.
- So the root is an overlay over a small base directory in the store: symbolic links (`bin` -> `usr/bin`) and empty
  directories as the machine has them. Each top-level directory with something in it is an overlay of its own, mounted at
  its place, at about 0.15 ms each: `/etc`, `/usr`, `/var`, seldom more. This is the same for root and others.
- What nobody but its owner may read there is hidden by a mask layer over that directory: empty files and opaque
  directories, which the container may replace. Over the directory that contains the store no such layer can go; what is
  to be hidden there is covered by mounts.
- In a user namespace a directory with something mounted below it is no lower either. A recursive bind mount, made
  read-only, works; so system directories are shown that way, and others are empty.
- Upper directories may lie inside each other (`upper`, `upper/usr`) as long as the inner overlay is created first; the
  other way round the kernel warns of an upper directory in use. The inner one shows as the directory's own owner and mode.
- A lower directory must be on a mount of the mounting process's own mount namespace.
- Files of owners that the user namespace doesn't know are nobody's: they can be read as the caller could, removed and
  replaced in the top-level directories alone, and not changed.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import stat
import time
from contextlib import suppress
from functools import cache
from typing import Any

from attrs import field
from attrs import frozen

from pycontainers.backends.native.store import Store
from pycontainers.backends.native.store import store_error
from pycontainers.errors import StoreError
from pycontainers.oci.config import History
from pycontainers.oci.config import ImageDocument
from pycontainers.oci.config import machine_platform
from pycontainers.spec import ImageConfig
from pycontainers.spec import Strings

#: The reference that always means this image.
NAME = "host"

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#: Top-level directories that are empty in the image: people's own things, and what is not of the root file system.
_EMPTY = frozenset(["home", "root", "run", "tmp", "mnt", "media", "boot", "proc", "sys", "dev", "lost+found", "snap"])
#: What must be there, as a read-only bind if there is no other way.
_SYSTEM = frozenset(["bin", "etc", "gnu", "lib", "lib32", "lib64", "libx32", "nix", "opt", "sbin", "srv", "usr", "var"])
#: How deep to look for what only its owner may read; everywhere in /etc.
_DEPTH = {"etc": 64, "var": 3, "usr": 0}
_DEFAULT_DEPTH = 1
#: Secret whatever their modes say: password hashes, private keys, other engines' stores, mail.
_SECRET = (
    "/etc/*shadow", "/etc/*shadow-", "/etc/*shadow.*", "/etc/security/opasswd", "/etc/ssh/ssh_host_*_key",
    "/etc/ssl/private", "/etc/pki/*/private", "/etc/pki/private", "/etc/letsencrypt", "/etc/wireguard", "/etc/krb5.keytab",
    "/etc/ipsec.d/private", "/etc/ipsec.secrets", "/etc/ppp/*-secrets", "/etc/NetworkManager/system-connections",
    "/var/backups/*shadow*", "/var/lib/sss", "/var/lib/samba/private", "/var/lib/docker", "/var/lib/containerd",
    "/var/lib/containers", "/var/lib/kubelet", "/var/lib/pycontainers", "/var/mail", "/var/spool/mail", "/var/spool/cron",
)


@frozen(kw_only=True)
class HostOverlay:
    """One overlay mount: its place in the container's root ("" is the root itself), and its lowers, topmost first.

    A lower that is not absolute is relative to the store. `mode` is for the upper directory, which shows as the place's.
    """

    target: str
    lowers: Strings
    mode: int = 0o755


@frozen(kw_only=True)
class HostLayers:
    """How to compose the image: the overlays, the root's first; then read-only recursive binds; then masks.

    Create the root's overlay last, so that upper directories may lie inside its own. Binds and masks are absolute paths,
    on the host and in the container alike. A masked directory is to be empty, a masked file to have no content.
    """

    overlays: tuple[HostOverlay, ...]
    binds: Strings = ()
    masked: Strings = ()


@cache
def document() -> ImageDocument:
    """Return the image's config: always the same on one machine, and on no other."""
    architecture, variant = machine_platform()
    shell = "/bin/bash" if os.access("/bin/bash", os.X_OK) else "/bin/sh"
    return ImageDocument(
        config=ImageConfig(command=(shell,), environment=(("PATH", _PATH),), architecture=architecture, variant=variant),
        history=(History(comment="the machine's own root file system", empty=True),),
        host=hashlib.sha256(f"pycontainers {_machine()}".encode()).hexdigest())


def _machine() -> str:
    for path in ("/etc/machine-id", "/var/lib/dbus/machine-id"):
        with suppress(OSError), open(path, encoding="ascii", errors="replace") as file:
            text = file.read().strip()
            if text:
                return text
    return os.uname().nodename


def host_layers(store: Store, *, rootless: bool) -> HostLayers:
    """Return how to compose the host's root now; makes base and mask layers in the store where they are missing.

    Call it inside `store.mutating()`. Raises `StoreFull`, `StoreError`.
    """
    mounts = _mount_points()
    base: dict[str, _Node] = {"": _Node(kind="dir", mode=0o755)}
    overlays: list[HostOverlay] = []
    binds: list[str] = []
    masked: list[str] = []
    for name in sorted(os.listdir("/")):
        path = f"/{name}"
        with suppress(FileNotFoundError):
            status = os.lstat(path)
            if stat.S_ISLNK(status.st_mode):
                base[name] = _Node(kind="link", link=os.readlink(path))
            if not stat.S_ISDIR(status.st_mode):
                continue
            base[name] = _Node(kind="dir", mode=0o1777 if name == "tmp" else 0o700 if name == "root" else 0o755)
            if name in _EMPTY or not _entries(path):
                continue
            locked = rootless and any(_below(point, path) for point in mounts)
            if locked and name not in _SYSTEM:
                continue
            hidden = secrets(path, _DEPTH.get(name, _DEFAULT_DEPTH))
            if locked:
                binds.append(path)
                masked += hidden
            elif _below(store.root, path) or not hidden:
                overlays.append(HostOverlay(target=name, lowers=(path,)))
                masked += hidden
            else:
                mask = _layer(store, _mask_nodes(path, hidden), rootless)
                overlays.append(HostOverlay(target=name, lowers=(mask, path)))
    # As a directory above it may be masked already, it comes last and may be missing.
    if any(_below(store.root, f"/{overlay.target}") for overlay in overlays):
        masked.append(store.root)
    overlays.insert(0, HostOverlay(target="", lowers=(_layer(store, base, rootless),)))
    return HostLayers(overlays=tuple(overlays), binds=tuple(binds), masked=tuple(dict.fromkeys(masked)))


def _below(path: str, directory: str) -> bool:
    return path.startswith(f"{directory}/")


def _entries(path: str) -> bool:
    try:
        return bool(os.listdir(path))
    except PermissionError:
        return False


def _mount_points() -> list[str]:
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        return [line.split(" ")[4] for line in file]


# -- what is secret ---------------------------------------------------------------------------------------------------

# Directory -> the directories looked into with their change times, and what was found.
_known: dict[str, tuple[dict[str, int], list[str]]] = {}


def secrets(top: str, depth: int) -> list[str]:
    """Return files and directories to be hidden below a directory, none below another: what others may not read.

    Looks `depth` directories deep, anew whenever one of those that it looked into was changed.
    """
    known = _known.get(top)
    if known is not None:
        with suppress(OSError):
            if all(os.stat(path).st_ctime_ns == changed for path, changed in known[0].items()):
                return known[1]
    looked: dict[str, int] = {}
    found: list[str] = []
    todo = [(top, depth)]
    while todo:
        path, left = todo.pop()
        with suppress(PermissionError, FileNotFoundError, NotADirectoryError):
            looked[path] = os.stat(path).st_ctime_ns
            with os.scandir(path) as entries:
                found_here = list(entries)
            for entry in found_here:
                # What the caller can't read the container can't either, and what is empty tells nothing.
                with suppress(PermissionError, FileNotFoundError):
                    status = entry.stat(follow_symlinks=False)
                    if stat.S_ISDIR(status.st_mode):
                        if status.st_mode & 0o005 != 0o005 or _named(entry.path):
                            found += [entry.path] if os.listdir(entry.path) else []
                        elif left:
                            todo.append((entry.path, left - 1))
                    elif (stat.S_ISREG(status.st_mode) and status.st_size
                          and (not status.st_mode & 0o004 or _named(entry.path)) and os.access(entry.path, os.R_OK)):
                        found.append(entry.path)
    # A change within the clock's granularity would not show.
    if max(looked.values(), default=0) < time.time_ns() - 10**8:
        _known[top] = looked, sorted(found)
    return sorted(found)


@cache
def _pattern() -> re.Pattern[str]:
    return re.compile("|".join(re.escape(pattern).replace(r"\*", "[^/]*") for pattern in _SECRET))


def _named(path: str) -> bool:
    return _pattern().fullmatch(path) is not None


# -- small layers in the store ----------------------------------------------------------------------------------------

@frozen(kw_only=True)
class _Node:
    """One thing of a base or mask layer; an opaque directory hides the one below it."""

    kind: str  # dir, file or link
    mode: int = 0o755
    owner: tuple[int, int] = (0, 0)
    link: str = ""
    opaque: bool = field(default=False)


def _mask_nodes(top: str, hidden: list[str]) -> dict[str, _Node]:
    """Return empty stand-ins for the secrets, and the directories that lead to them as the host has them."""
    result: dict[str, _Node] = {}
    for secret in hidden:
        parts = secret.removeprefix(top).lstrip("/").split("/")
        for count in range(len(parts) + 1):
            relative = "/".join(parts[:count])
            if relative not in result:
                status = os.lstat(f"{top}/{relative}")
                kind = "dir" if stat.S_ISDIR(status.st_mode) else "file"
                result[relative] = _Node(
                    kind=kind, mode=stat.S_IMODE(status.st_mode), owner=(status.st_uid, status.st_gid),
                    opaque=count == len(parts) and kind == "dir")
    return result


def _layer(store: Store, nodes: dict[str, _Node], rootless: bool) -> str:
    """Make a layer of these, named by its content, unless it is there; returns its path in the store. Atomic."""
    content: list[Any] = [[path, node.kind, node.mode, node.owner, node.link, node.opaque]
                          for path, node in sorted(nodes.items())]
    name = hashlib.sha256(json.dumps([rootless, content]).encode()).hexdigest()
    result = f"host/{name[:32]}"
    try:
        if os.path.isdir(store.path(result)):
            return result
        with suppress(FileExistsError):
            os.mkdir(store.path("host"), 0o700)
        tmp = store.make_tmp()
        try:
            _fill(store.path(f"{tmp}/fs"), nodes, rootless)
            os.rename(store.path(f"{tmp}/fs"), store.path(result))
        except OSError as error:
            # Another process was first, and its layer is the same.
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
        finally:
            store.trees.remove(tmp)
    except OSError as error:
        if isinstance(error, StoreError):
            raise
        raise store_error(error, store.path(result), "making") from error
    return result


def _fill(root: str, nodes: dict[str, _Node], rootless: bool) -> None:
    for relative, node in sorted(nodes.items()):
        path = f"{root}/{relative}"
        if node.kind == "link":
            os.symlink(node.link, path)
        elif node.kind == "file":
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        else:
            os.mkdir(path, 0o700)
    # A directory's own mode may forbid its owner to write in it.
    for relative, node in sorted(nodes.items(), reverse=True):
        path = f"{root}/{relative}"
        if node.kind == "link":
            continue
        if node.opaque:
            os.setxattr(path, "user.overlay.opaque" if rootless else "trusted.overlay.opaque", b"y")
        if not rootless:
            os.chown(path, *node.owner)
        os.chmod(path, node.mode)
