"""A directory as a tar stream, always the same for the same tree: sorted, PAX, numeric owners, times to the nanosecond."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import tarfile
from collections.abc import Iterator
from decimal import Decimal
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
#: What fits into ustar's fields: bytes of a name, owners, sizes and times.
_NAME = 100
_MOST_ID = 0o7777777
_MOST_SIZE = 0o77777777777


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
        self._links: dict[tuple[int, int], bytes] = {}
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
        name = os.fsencode(f"./{relative}" if relative else ".")
        link = os.fsencode(os.readlink(path)) if stat.S_ISLNK(status.st_mode) else b""
        kind = _TYPES[stat.S_IFMT(status.st_mode)]
        if kind != tarfile.DIRTYPE and status.st_nlink > 1:
            first = self._links.setdefault((status.st_dev, status.st_ino), name)
            if first != name:
                kind, link = tarfile.LNKTYPE, first
        records = {} if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE) else _xattrs(path)
        uid = 0 if status.st_uid == self._own[0] else status.st_uid
        gid = 0 if status.st_gid == self._own[1] else status.st_gid
        if kind != tarfile.REGTYPE:
            yield _header(name, link, kind, status, uid, gid, 0, records)
            return
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb", buffering=0) as file:
            yield _header(name, link, kind, status, uid, gid, status.st_size, records)
            left = status.st_size
            while left:
                data = file.read(min(left, CHUNK))
                if not data:
                    raise InvalidSpec(f"reading {path}: it became shorter meanwhile; import a tree that nobody is changing")
                left -= len(data)
                yield data
            yield bytes(-status.st_size % _BLOCK)


_TYPES = {
    stat.S_IFREG: tarfile.REGTYPE,
    stat.S_IFDIR: tarfile.DIRTYPE,
    stat.S_IFLNK: tarfile.SYMTYPE,
    stat.S_IFCHR: tarfile.CHRTYPE,
    stat.S_IFBLK: tarfile.BLKTYPE,
    stat.S_IFIFO: tarfile.FIFOTYPE,
}


def _header(name: bytes, link: bytes, kind: bytes, status: os.stat_result, uid: int, gid: int, size: int,
            records: dict[bytes, bytes]) -> bytes:
    """Return an entry's header, and before it the PAX header for what ustar has no room for.

    Names stand there as they are, as GNU's and Go's tar write them: not every name is UTF-8.
    """
    seconds, nanoseconds = divmod(status.st_mtime_ns, 10**9)
    for key, text in ((b"path", name), (b"linkpath", link)):
        if len(text) > _NAME or not text.isascii():
            records[key] = text
    for key, number, most in ((b"uid", uid, _MOST_ID), (b"gid", gid, _MOST_ID), (b"size", size, _MOST_SIZE)):
        if number > most:
            records[key] = b"%d" % number
    if nanoseconds or not 0 <= seconds <= _MOST_SIZE:
        records[b"mtime"] = format(Decimal(status.st_mtime_ns).scaleb(-9), "f").encode()
    info = tarfile.TarInfo()
    info.name, info.linkname = (os.fsdecode(text[:_NAME]) for text in (name, link))
    info.type, info.mode, info.size = kind, stat.S_IMODE(status.st_mode), min(size, _MOST_SIZE)
    info.uid, info.gid, info.mtime = min(uid, _MOST_ID), min(gid, _MOST_ID), min(max(seconds, 0), _MOST_SIZE)
    if kind in (tarfile.CHRTYPE, tarfile.BLKTYPE):
        info.devmajor, info.devminor = os.major(status.st_rdev), os.minor(status.st_rdev)
    header = info.tobuf(tarfile.USTAR_FORMAT, "utf-8", "surrogateescape")
    if not records:
        return header
    data = b"".join(_record(key, value) for key, value in sorted(records.items()))
    extra = tarfile.TarInfo("././@PaxHeader")
    extra.type, extra.size = tarfile.XHDTYPE, len(data)
    return extra.tobuf(tarfile.USTAR_FORMAT) + data + bytes(-len(data) % _BLOCK) + header


def _record(key: bytes, value: bytes) -> bytes:
    """Return one record of a PAX header, which begins with its own length."""
    rest = b" %s=%s\n" % (key, value)
    length = len(rest) + len(str(len(rest)))
    length += len(str(length)) - len(str(len(rest)))
    return b"%d%s" % (length, rest)


def _xattrs(path: str) -> dict[bytes, bytes]:
    try:
        names = os.listxattr(path, follow_symlinks=False)
    except (OSError, AttributeError):
        return {}
    return {b"SCHILY.xattr." + os.fsencode(name): os.getxattr(path, name, follow_symlinks=False)
            for name in names if name.startswith(_XATTRS) and not name.startswith(_OVERLAY)}


def _mounts_below(root: str) -> set[str]:
    """Return the mount points below a directory, itself not among them."""
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            points = [line.split(" ")[4] for line in file]
    except FileNotFoundError:
        return set()
    plain = (re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), point) for point in points)
    return {point for point in plain if point.startswith(root.rstrip("/") + "/")}
