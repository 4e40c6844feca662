"""File trees in memory: a directory's nodes never change, so that containers share what they didn't write."""

from __future__ import annotations

import errno
import io
import os
import stat
import tarfile
import tempfile
import threading
import time
from collections.abc import Iterator
from typing import BinaryIO

from attrs import evolve
from attrs import field
from attrs import frozen

from pycontainers.backend import Change
from pycontainers.backend import FileOp
from pycontainers.backend import FileReply
from pycontainers.backend import FileStat
from pycontainers.errors import CorruptArchive

_MAX_LINKS = 40
_CALLS = ("stat", "lstat", "list", "open", "mkdir", "unlink", "rmdir", "rename", "symlink", "chmod", "readlink")
Parts = tuple[str, ...]


class Content:
    """A regular file's bytes; once somebody opened it, they live in an anonymous file that all its users share."""

    def __init__(self, data: bytes = b"") -> None:
        self._data = data
        self._fd = -1
        self._lock = threading.Lock()

    def read(self) -> bytes:
        """Return all of it."""
        with self._lock:
            if self._fd < 0:
                return self._data
            return os.pread(self._fd, os.fstat(self._fd).st_size, 0)

    @property
    def size(self) -> int:
        """Its length in bytes."""
        return len(self._data) if self._fd < 0 else os.fstat(self._fd).st_size

    @property
    def mtime(self) -> float:
        """When it was last written through a descriptor; 0.0 if it never was opened."""
        return 0.0 if self._fd < 0 else os.fstat(self._fd).st_mtime

    def open(self, flags: int) -> int:
        """Return a new descriptor of it."""
        with self._lock:
            if self._fd < 0:
                with tempfile.TemporaryFile() as file:
                    file.write(self._data)
                    file.flush()
                    self._fd = os.dup(file.fileno())
                self._data = b""
            keep = flags & (os.O_ACCMODE | os.O_APPEND | os.O_TRUNC) | os.O_CLOEXEC
            try:
                return os.open(f"/proc/self/fd/{self._fd}", keep)
            except FileNotFoundError:  # No /proc on this platform: descriptors then share one position.
                if flags & os.O_TRUNC:
                    os.ftruncate(self._fd, 0)
                copy = os.dup(self._fd)
                os.lseek(copy, 0, os.SEEK_END if flags & os.O_APPEND else os.SEEK_SET)
                return copy

    def __del__(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)


@frozen(eq=False)
class Node:
    """A file of any kind; `mode` is a whole st_mode."""

    mode: int
    uid: int = 0
    gid: int = 0
    mtime: float = field(factory=time.time)
    content: Content | None = None
    children: dict[str, Node] = field(factory=dict)
    link: str = ""

    @property
    def is_dir(self) -> bool:
        """True for a directory."""
        return stat.S_ISDIR(self.mode)

    @property
    def is_link(self) -> bool:
        """True for a symbolic link."""
        return stat.S_ISLNK(self.mode)

    @property
    def size(self) -> int:
        """Bytes of a regular file's content, or of a link's text."""
        return self.content.size if self.content is not None else len(self.link)

    def stat(self, name: str) -> FileStat:
        """Return it as lstat(2) would."""
        written = self.content.mtime if self.content is not None else 0.0
        return FileStat(name=name, mode=self.mode, size=self.size, mtime=max(self.mtime, written), uid=self.uid,
                        gid=self.gid, link=self.link)

    def total(self) -> int:
        """Bytes of all content below."""
        return self.size + sum(child.total() for child in self.children.values())


def directory(children: dict[str, Node] | None = None, mode: int = 0o755) -> Node:
    """Return a new directory."""
    return Node(stat.S_IFDIR | mode, children=children or {})


def regular(data: bytes, mode: int = 0o644) -> Node:
    """Return a new regular file."""
    return Node(stat.S_IFREG | mode, content=Content(data))


def _error(number: int, path: str) -> OSError:
    return OSError(number, os.strerror(number), path)


class Tree:
    """A root directory that can be changed; thread-safe. Raises the `OSError`s of the kernel."""

    def __init__(self, root: Node | None = None) -> None:
        self.root = root or directory()
        self.lock = threading.RLock()

    # -- paths -------------------------------------------------------------------------------------------------------

    def resolve(self, path: str, *, follow: bool = True) -> tuple[Parts, Node | None]:
        """Return where a path leads below the root, and what is there; the last component alone may be missing."""
        todo = [part for part in path.split("/")[::-1] if part not in ("", ".")]
        trailing = path.endswith("/")
        done: list[tuple[str, Node]] = []
        links = 0
        while todo:
            part = todo.pop()
            if part == "..":
                if done:
                    done.pop()
                continue
            here = done[-1][1] if done else self.root
            if not here.is_dir:
                raise _error(errno.ENOTDIR, path)
            node = here.children.get(part)
            if node is None:
                if todo:
                    raise _error(errno.ENOENT, path)
                return (*(name for name, _ in done), part), None
            if node.is_link and (todo or follow or trailing):
                links += 1
                if links > _MAX_LINKS:
                    raise _error(errno.ELOOP, path)
                if node.link.startswith("/"):
                    done = []
                todo += [p for p in node.link.split("/")[::-1] if p not in ("", ".")]
                continue
            done.append((part, node))
        return tuple(name for name, _ in done), done[-1][1] if done else self.root

    def get(self, path: str, *, follow: bool = True) -> Node:
        """Return what is at a path."""
        _, node = self.resolve(path, follow=follow)
        if node is None:
            raise _error(errno.ENOENT, path)
        return node

    def put(self, parts: Parts, node: Node | None) -> None:
        """Place a node (None: remove what is there); directories on the way are copied, never changed."""
        with self.lock:
            self.root = self._put(self.root, parts, node)

    def _put(self, here: Node, parts: Parts, node: Node | None) -> Node:
        if not parts:
            return node or directory()
        children = dict(here.children)
        first, *rest = parts
        if rest:
            children[first] = self._put(here.children[first], tuple(rest), node)
            return evolve(here, children=children)
        if node is None:
            children.pop(first, None)
        else:
            children[first] = node
        return evolve(here, children=children, mtime=time.time() if children.keys() != here.children.keys() else here.mtime)

    # -- calls on files ----------------------------------------------------------------------------------------------

    def file(self, op: FileOp) -> FileReply:
        """Do one call of the contract."""
        with self.lock:
            if op.kind not in _CALLS:
                raise _error(errno.ENOSYS, op.path)
            reply: FileReply = getattr(self, f"_{op.kind}")(op)
            return reply

    def _stat(self, op: FileOp) -> FileReply:
        parts, node = self.resolve(op.path)
        if node is None:
            raise _error(errno.ENOENT, op.path)
        return FileReply(stat=node.stat(parts[-1] if parts else "/"))

    def _lstat(self, op: FileOp) -> FileReply:
        parts, node = self.resolve(op.path, follow=False)
        if node is None:
            raise _error(errno.ENOENT, op.path)
        return FileReply(stat=node.stat(parts[-1] if parts else "/"))

    def _list(self, op: FileOp) -> FileReply:
        node = self.get(op.path)
        if not node.is_dir:
            raise _error(errno.ENOTDIR, op.path)
        return FileReply(entries=tuple(child.stat(name) for name, child in node.children.items()))

    def _readlink(self, op: FileOp) -> FileReply:
        node = self.get(op.path, follow=False)
        if not node.is_link:
            raise _error(errno.EINVAL, op.path)
        return FileReply(text=node.link)

    def _open(self, op: FileOp) -> FileReply:
        return FileReply(fd=self.open(op.path, op.flags, op.mode))

    def open(self, path: str, flags: int, mode: int = 0o666) -> int:
        """Return a descriptor of the file's content, as open(2) does."""
        with self.lock:
            parts, node = self.resolve(path, follow=not (flags & os.O_EXCL and flags & os.O_CREAT))
            writing = flags & os.O_ACCMODE != os.O_RDONLY
            if node is None:
                if not flags & os.O_CREAT or path.endswith("/"):
                    raise _error(errno.ENOENT, path)
                node = regular(b"", mode & 0o7777 & ~0o022)
                self.put(parts, node)
            elif flags & os.O_CREAT and flags & os.O_EXCL:
                raise _error(errno.EEXIST, path)
            elif node.is_dir:
                raise _error(errno.EISDIR, path)
            elif node.content is None:
                raise _error(errno.ENXIO, path)
            elif writing:
                node = evolve(node, content=Content(b"" if flags & os.O_TRUNC else node.content.read()), mtime=time.time())
                self.put(parts, node)
            content = node.content
        return content.open(flags)  # type: ignore[union-attr]

    def _mkdir(self, op: FileOp) -> FileReply:
        parts, node = self.resolve(op.path, follow=False)
        if node is not None:
            raise _error(errno.EEXIST, op.path)
        self.put(parts, directory(mode=op.mode & 0o7777 & ~0o022))
        return FileReply()

    def _unlink(self, op: FileOp) -> FileReply:
        parts, node = self.resolve(op.path, follow=False)
        if node is None:
            raise _error(errno.ENOENT, op.path)
        if node.is_dir:
            raise _error(errno.EISDIR, op.path)
        self.put(parts, None)
        return FileReply()

    def _rmdir(self, op: FileOp) -> FileReply:
        parts, node = self.resolve(op.path, follow=False)
        if node is None:
            raise _error(errno.ENOENT, op.path)
        if not node.is_dir:
            raise _error(errno.ENOTDIR, op.path)
        if node.children:
            raise _error(errno.ENOTEMPTY, op.path)
        if not parts:
            raise _error(errno.EBUSY, op.path)
        self.put(parts, None)
        return FileReply()

    def _rename(self, op: FileOp) -> FileReply:
        old, node = self.resolve(op.path, follow=False)
        new, there = self.resolve(op.target, follow=False)
        if node is None:
            raise _error(errno.ENOENT, op.path)
        if old == new:
            return FileReply()
        if new[: len(old)] == old:
            raise _error(errno.EINVAL, op.path)
        if there is not None and there.is_dir and not node.is_dir:
            raise _error(errno.EISDIR, op.target)
        if there is not None and not there.is_dir and node.is_dir:
            raise _error(errno.ENOTDIR, op.target)
        if there is not None and there.children:
            raise _error(errno.ENOTEMPTY, op.target)
        self.put(old, None)
        self.put(new, node)
        return FileReply()

    def _symlink(self, op: FileOp) -> FileReply:
        parts, node = self.resolve(op.path, follow=False)
        if node is not None:
            raise _error(errno.EEXIST, op.path)
        self.put(parts, Node(stat.S_IFLNK | 0o777, link=op.target))
        return FileReply()

    def _chmod(self, op: FileOp) -> FileReply:
        parts, node = self.resolve(op.path)
        if node is None:
            raise _error(errno.ENOENT, op.path)
        self.put(parts, evolve(node, mode=stat.S_IFMT(node.mode) | op.mode & 0o7777))
        return FileReply()

    # -- archives ----------------------------------------------------------------------------------------------------

    def add_tar(self, path: str, archive: BinaryIO) -> None:
        """Unpack a tar below a directory, all of it or nothing. Raises `CorruptArchive`."""
        scratch = Tree(self.get(path))
        if not scratch.root.is_dir:
            raise _error(errno.ENOTDIR, path)
        try:
            with tarfile.open(fileobj=archive, mode="r|*") as tar:
                for member in tar:
                    scratch._add(tar, member)
            if archive.read(1) and not any(archive.read(1 << 16)):
                pass
        except (tarfile.TarError, EOFError, OSError) as error:
            raise CorruptArchive(f"the archive can't be unpacked: {error}") from error
        with self.lock:
            parts, _ = self.resolve(path)
            self.put(parts, scratch.root)

    def _add(self, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        names = [part for part in member.name.split("/") if part not in ("", ".")]
        if ".." in names:
            raise CorruptArchive(f"the archive names {member.name!r}, which leads out of it")
        for depth in range(1, len(names)):
            parts, node = self.resolve("/".join(names[:depth]))
            if node is None:
                self.put(parts, directory())
        if not names:
            if member.isdir():
                self.root = evolve(self.root, mode=stat.S_IFDIR | member.mode & 0o7777, mtime=member.mtime)
            return
        folder, _ = self.resolve("/".join(names[:-1]))
        parts = (*folder, names[-1])
        mode = member.mode & 0o7777
        there = self.resolve("/".join(names), follow=False)[1]
        if member.isdir():
            children = there.children if there is not None and there.is_dir else {}
            node = Node(stat.S_IFDIR | mode, children=children)
        elif member.issym():
            node = Node(stat.S_IFLNK | 0o777, link=member.linkname)
        elif member.islnk():
            node = self.get(member.linkname, follow=False)
        elif member.isreg():
            file = tar.extractfile(member)
            node = Node(stat.S_IFREG | mode, content=Content(file.read() if file is not None else b""))
        else:
            kind = stat.S_IFIFO if member.isfifo() else stat.S_IFCHR if member.ischr() else stat.S_IFBLK
            node = Node(kind | mode)
        if not member.islnk():
            node = evolve(node, uid=member.uid, gid=member.gid, mtime=float(member.mtime))
        self.put(parts, node)

    def to_tar(self, path: str) -> tuple[FileStat, BinaryIO]:
        """Return a file's stat and a tar of it, whose names begin with the file's own (of the root: with nothing)."""
        parts, node = self.resolve(path, follow=path.endswith("/"))
        if node is None:
            raise _error(errno.ENOENT, path)
        name = parts[-1] if parts else ""
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for where, one in walk(node, name):
                tar.addfile(*_member(where or ".", one))
        file.seek(0)
        return node.stat(name or "/"), file

    def diff(self, lower: Node) -> list[Change]:
        """Return what changed against another root, sorted by path."""
        return sorted(_changes(lower, self.root, ""), key=lambda change: change.path)


def _member(name: str, node: Node) -> tuple[tarfile.TarInfo, BinaryIO | None]:
    info = tarfile.TarInfo(name)
    info.mode = node.mode & 0o7777
    info.uid, info.gid, info.mtime = node.uid, node.gid, int(node.mtime)
    if node.is_dir:
        info.type = tarfile.DIRTYPE
    elif node.is_link:
        info.type, info.linkname = tarfile.SYMTYPE, node.link
    elif node.content is None:
        info.type = tarfile.FIFOTYPE if stat.S_ISFIFO(node.mode) else tarfile.CHRTYPE
    else:
        data = node.content.read()
        info.size = len(data)
        return info, io.BytesIO(data)
    return info, None


def walk(node: Node, name: str) -> Iterator[tuple[str, Node]]:
    """Yield a node and all below it with their names, parents first."""
    yield name, node
    for child, one in sorted(node.children.items()):
        yield from walk(one, f"{name}/{child}" if name else child)


def _changes(lower: Node, upper: Node, path: str) -> Iterator[Change]:
    for name in lower.children.keys() - upper.children.keys():
        yield Change(kind="D", path=f"{path}/{name}")
    for name, node in upper.children.items():
        where = f"{path}/{name}"
        old = lower.children.get(name)
        if old is node:
            continue
        if old is None:
            yield from (Change(kind="A", path=p) for p, _ in walk(node, where))
        else:
            yield Change(kind="C", path=where)
            if old.is_dir and node.is_dir:
                yield from _changes(old, node, where)
            elif node.is_dir:
                yield from (Change(kind="A", path=p) for p, _ in walk(node, where) if p != where)


def read_directory(path: str) -> Node:
    """Return the tree of a directory of this machine."""
    tree = Tree()
    read_fd, write_fd = os.pipe()

    def write() -> None:
        with os.fdopen(write_fd, "wb") as file, tarfile.open(fileobj=file, mode="w|") as tar:
            tar.add(path, ".")

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    with os.fdopen(read_fd, "rb") as file:
        tree.add_tar("/", file)
    thread.join()
    return tree.root
