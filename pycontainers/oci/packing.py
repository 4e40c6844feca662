"""A directory as a tar stream, always the same for the same tree: sorted, PAX, numeric owners, times to the nanosecond."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import tarfile
from collections.abc import Iterator
from types import TracebackType

from pycontainers.errors import ContainersError
from pycontainers.errors import InvalidSpec
from pycontainers.oci.compression import CHUNK
from pycontainers.oci.compression import source_error

_BLOCK = 512
_RECORD = 20 * _BLOCK
#: Attributes that mean the same on another machine; overlayfs's own, labels and ACLs do not.
_XATTRS = ("security.capability", "user.")
_OVERLAY = "user.overlay."


class DirectoryReader:
    """The tar of all below a directory, in chunks; has the interface of `ArchiveReader`.

    What is mounted below, and sockets, are left out. Without root, what belongs to the caller becomes root's, as it is
    in a user namespace.
    """

    compression = ""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Name the directory; nothing is read yet."""
        self.name = os.fspath(path)
        self._root = os.path.realpath(self.name)
        self._hash = hashlib.sha256()
        self._written = 0
        self._links: dict[tuple[int, int], str] = {}
        self._own = (os.geteuid(), os.getegid()) if os.geteuid() else (-1, -1)

    def __enter__(self) -> DirectoryReader:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Do nothing: nothing stays open between chunks that the iterator's end does not close."""

    @property
    def size(self) -> int:
        """Bytes given so far."""
        return self._written

    @property
    def digest(self) -> str:
        """`sha256:` and the hash of the bytes given so far."""
        return f"sha256:{self._hash.hexdigest()}"

    def __iter__(self) -> Iterator[bytes]:
        """Yield chunks of about `CHUNK` bytes. Raises `NotFound`, `ContainersError` for what can't be read."""
        waiting: list[bytes] = []
        length = 0
        for piece in self._pieces():
            waiting.append(piece)
            length += len(piece)
            if length >= CHUNK:
                yield self._give(b"".join(waiting))
                waiting, length = [], 0
        waiting.append(bytes(-(self._written + length) % _RECORD))
        yield self._give(b"".join(waiting))

    def _give(self, chunk: bytes) -> bytes:
        self._written += len(chunk)
        self._hash.update(chunk)
        return chunk

    def _pieces(self) -> Iterator[bytes]:
        mounts = _mounts_below(self._root)
        todo = [""]
        while todo:
            relative = todo.pop()
            path = f"{self._root}/{relative}" if relative else self._root
            try:
                yield from self._entry(relative, path)
                if os.path.isdir(path) and not os.path.islink(path) and path not in mounts:
                    names = sorted(os.listdir(path), key=os.fsencode, reverse=True)
                    todo += [f"{relative}/{name}" if relative else name for name in names]
            except OSError as error:
                if isinstance(error, ContainersError):
                    raise
                raise source_error(error, path) from error
        yield bytes(2 * _BLOCK)

    def _entry(self, relative: str, path: str) -> Iterator[bytes]:
        status = os.lstat(path)
        if stat.S_ISSOCK(status.st_mode):
            return
        info = tarfile.TarInfo(f"./{relative}" if relative else ".")
        info.mode = stat.S_IMODE(status.st_mode)
        info.uid = 0 if status.st_uid == self._own[0] else status.st_uid
        info.gid = 0 if status.st_gid == self._own[1] else status.st_gid
        info.type = _TYPES[stat.S_IFMT(status.st_mode)]
        info.pax_headers = _pax(path, status)
        if info.type == tarfile.SYMTYPE:
            info.linkname = os.readlink(path)
        elif info.type in (tarfile.CHRTYPE, tarfile.BLKTYPE):
            info.devmajor, info.devminor = os.major(status.st_rdev), os.minor(status.st_rdev)
        if info.type != tarfile.DIRTYPE and status.st_nlink > 1:
            first = self._links.setdefault((status.st_dev, status.st_ino), info.name)
            if first != info.name:
                info.type, info.linkname = tarfile.LNKTYPE, first
        if info.type != tarfile.REGTYPE:
            yield info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
            return
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb", buffering=0) as file:
            info.size = status.st_size
            yield info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
            left = info.size
            while left:
                data = file.read(min(left, CHUNK))
                if not data:
                    raise InvalidSpec(f"reading {path}: it became shorter meanwhile; import a tree that nobody is changing")
                left -= len(data)
                yield data
            yield bytes(-info.size % _BLOCK)


_TYPES = {
    stat.S_IFREG: tarfile.REGTYPE,
    stat.S_IFDIR: tarfile.DIRTYPE,
    stat.S_IFLNK: tarfile.SYMTYPE,
    stat.S_IFCHR: tarfile.CHRTYPE,
    stat.S_IFBLK: tarfile.BLKTYPE,
    stat.S_IFIFO: tarfile.FIFOTYPE,
}


def _pax(path: str, status: os.stat_result) -> dict[str, str]:
    seconds, nanoseconds = divmod(status.st_mtime_ns, 10**9)
    result = {"mtime": f"{seconds}.{nanoseconds:09}".rstrip("0").rstrip(".")}
    if not stat.S_ISLNK(status.st_mode) and hasattr(os, "listxattr"):
        for name in sorted(_xattrs(path)):
            if name.startswith(_XATTRS) and not name.startswith(_OVERLAY):
                value = os.getxattr(path, name, follow_symlinks=False)
                result[f"SCHILY.xattr.{name}"] = value.decode("utf-8", "surrogateescape")
    return result


def _xattrs(path: str) -> list[str]:
    try:
        return os.listxattr(path, follow_symlinks=False)
    except OSError:
        return []


def _mounts_below(root: str) -> set[str]:
    """Return the mount points below a directory, itself not among them."""
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            points = [line.split(" ")[4] for line in file]
    except FileNotFoundError:
        return set()
    plain = (re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), point) for point in points)
    return {point for point in plain if point.startswith(root.rstrip("/") + "/")}
