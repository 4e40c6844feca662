"""Files inside a container: a path that works like pathlib's, and copies in and out as `docker cp` makes them."""

from __future__ import annotations

import io
import os
import posixpath
import stat as _stat
import tarfile
import tempfile
import threading
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from pathlib import PurePosixPath
from typing import IO
from typing import Any
from typing import BinaryIO
from typing import cast

from pycontainers.backend import Backend
from pycontainers.backend import Capability
from pycontainers.backend import FileOp
from pycontainers.backend import FileReply
from pycontainers.backend import FileStat
from pycontainers.engine import Engine
from pycontainers.errors import CorruptArchive
from pycontainers.errors import InvalidSpec
from pycontainers.errors import InvalidType
from pycontainers.errors import NotFound
from pycontainers.process import save

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal
    from typing import overload

_CHUNK = 1 << 18


class ContainerPath:
    """A path inside a container, as `pathlib.Path` is one on this machine; resolved below the container's root.

    It raises the `OSError`s that the kernel gives. It is no path of this machine: `os.fspath()` and `open()` refuse it.
    """

    __slots__ = ("_backend", "_path", "_ref")

    def __init__(self, backend: Backend, ref: str, path: str | PurePosixPath) -> None:
        self._backend = backend
        self._ref = ref
        self._path = PurePosixPath("/", path)

    # -- the path itself ---------------------------------------------------------------------------------------------

    def __str__(self) -> str:
        return str(self._path)

    def __repr__(self) -> str:
        return f"ContainerPath({str(self._path)!r} in {self._ref[:12]})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ContainerPath):
            return NotImplemented
        return (self._ref, self._path, self._backend) == (other._ref, other._path, other._backend)

    def __hash__(self) -> int:
        return hash((self._ref, self._path))

    def __lt__(self, other: ContainerPath) -> bool:
        return self._path < other._path

    def __truediv__(self, part: str | PurePosixPath) -> ContainerPath:
        return self._with(self._path / part)

    def _with(self, path: PurePosixPath | str) -> ContainerPath:
        return ContainerPath(self._backend, self._ref, path)

    def joinpath(self, *parts: str) -> ContainerPath:
        """Return the path with these parts added."""
        return self._with(self._path.joinpath(*parts))

    @property
    def parent(self) -> ContainerPath:
        """The directory that holds it."""
        return self._with(self._path.parent)

    @property
    def parents(self) -> tuple[ContainerPath, ...]:
        """All directories above it, nearest first."""
        return tuple(self._with(path) for path in self._path.parents)

    @property
    def parts(self) -> tuple[str, ...]:
        """Its components, `/` first."""
        return self._path.parts

    @property
    def name(self) -> str:
        """Its last component."""
        return self._path.name

    @property
    def stem(self) -> str:
        """Its last component without the suffix."""
        return self._path.stem

    @property
    def suffix(self) -> str:
        """Its last component's suffix, with the dot."""
        return self._path.suffix

    def with_name(self, name: str) -> ContainerPath:
        """Return the path with another last component."""
        return self._with(self._path.with_name(name))

    def with_suffix(self, suffix: str) -> ContainerPath:
        """Return the path with another suffix."""
        return self._with(self._path.with_suffix(suffix))

    def relative_to(self, other: ContainerPath | str) -> PurePosixPath:
        """Return the way from `other` to it. Raises `ValueError` if it isn't below."""
        return self._path.relative_to(str(other))

    # -- what is there -----------------------------------------------------------------------------------------------

    def _do(self, kind: str, *, flags: int = 0, mode: int = 0o666, target: str = "") -> FileReply:
        return self._backend.file(self._ref, FileOp(kind=kind, path=str(self._path), flags=flags, mode=mode, target=target))

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        """Return its stat, of what a symbolic link leads to unless told otherwise."""
        return _stat_result(cast(FileStat, self._do("stat" if follow_symlinks else "lstat").stat))

    def lstat(self) -> os.stat_result:
        """Return its stat, of a symbolic link itself."""
        return self.stat(follow_symlinks=False)

    def _mode(self, *, follow_symlinks: bool = True) -> int:
        try:
            return self.stat(follow_symlinks=follow_symlinks).st_mode
        except (FileNotFoundError, NotADirectoryError):
            return 0
        except OSError as error:
            import errno

            if error.errno == errno.ELOOP:
                return 0
            raise

    def exists(self) -> bool:
        """Tell whether it leads to something."""
        return self._mode() != 0

    def is_dir(self) -> bool:
        """Tell whether it leads to a directory."""
        return _stat.S_ISDIR(self._mode())

    def is_file(self) -> bool:
        """Tell whether it leads to a regular file."""
        return _stat.S_ISREG(self._mode())

    def is_symlink(self) -> bool:
        """Tell whether it is a symbolic link."""
        return _stat.S_ISLNK(self._mode(follow_symlinks=False))

    def readlink(self) -> PurePosixPath:
        """Return the text of a symbolic link."""
        return PurePosixPath(self._do("readlink").text)

    def iterdir(self) -> Iterator[ContainerPath]:
        """Yield what the directory holds, in no order."""
        for entry in self._do("list").entries:
            yield self / entry.name

    def glob(self, pattern: str) -> Iterator[ContainerPath]:
        """Yield what fits the pattern below it: `*.txt`, `*/bin`, `**/*.so`."""
        parts = PurePosixPath(pattern).parts
        if not parts or parts[0] == "/":
            raise ValueError(f"unacceptable pattern: {pattern!r}")
        seen: set[ContainerPath] = set()
        for found in self._glob(parts):
            if found not in seen:
                seen.add(found)
                yield found

    def rglob(self, pattern: str) -> Iterator[ContainerPath]:
        """Yield what fits the pattern at any depth below it."""
        return self.glob(f"**/{pattern}")

    def _glob(self, parts: tuple[str, ...]) -> Iterator[ContainerPath]:
        if not parts:
            yield self
            return
        first, rest = parts[0], parts[1:]
        try:
            entries = self._do("list").entries
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            return
        if first == "**":
            yield from self._glob(rest)
            for entry in entries:
                if _stat.S_ISDIR(entry.mode):
                    yield from (self / entry.name)._glob(parts)
            return
        for entry in entries:
            if fnmatchcase(entry.name, first):
                yield from (self / entry.name)._glob(rest)

    # -- content -----------------------------------------------------------------------------------------------------

    if TYPE_CHECKING:

        @overload
        def open(
            self, mode: Literal["r", "w", "a", "x", "r+", "w+", "a+", "rt", "wt", "at", "xt"] = "r",
            encoding: str | None = None, errors: str | None = None, newline: str | None = None,
        ) -> IO[str]: ...

        @overload
        def open(
            self, mode: Literal["rb", "wb", "ab", "xb", "r+b", "w+b", "rb+", "wb+"], encoding: None = None,
            errors: None = None, newline: None = None,
        ) -> IO[bytes]: ...

        @overload
        def open(
            self, mode: str, encoding: str | None = None, errors: str | None = None, newline: str | None = None
        ) -> IO[Any]: ...

    def open(
        self, mode: str = "r", encoding: str | None = None, errors: str | None = None, newline: str | None = None
    ) -> IO[Any]:
        """Open the file as the builtin `open` does; text is UTF-8 unless told otherwise."""
        kind = mode.replace("b", "").replace("t", "")
        flags = {"r": os.O_RDONLY, "w": os.O_WRONLY | os.O_CREAT | os.O_TRUNC, "a": os.O_WRONLY | os.O_CREAT | os.O_APPEND,
                 "x": os.O_WRONLY | os.O_CREAT | os.O_EXCL}.get(kind.replace("+", ""))
        if flags is None:
            raise ValueError(f"invalid mode: {mode!r}")
        if "+" in kind:
            flags = flags & ~os.O_WRONLY | os.O_RDWR
        fd = self._do("open", flags=flags | os.O_CLOEXEC).fd
        try:
            return os.fdopen(fd, mode.replace("x", "w"), encoding=None if "b" in mode else encoding or "utf-8",
                             errors=errors, newline=newline)
        except BaseException:
            try:
                os.close(fd)
            except OSError:
                pass
            raise

    def read_text(self, encoding: str | None = None, errors: str | None = None) -> str:
        """Return the file's text."""
        with self.open("r", encoding, errors) as file:
            return file.read()

    def read_bytes(self) -> bytes:
        """Return the file's content."""
        with self.open("rb") as file:
            return file.read()

    def write_text(self, data: str, encoding: str | None = None, errors: str | None = None) -> int:
        """Make the text the file's whole content; return its length."""
        if not isinstance(data, str):
            raise TypeError(f"data must be str, not {type(data).__name__}")
        with self.open("w", encoding, errors) as file:
            return file.write(data)

    def write_bytes(self, data: bytes) -> int:
        """Make the bytes the file's whole content; return their number."""
        with self.open("wb") as file:
            return file.write(data)

    # -- changes -----------------------------------------------------------------------------------------------------

    def mkdir(self, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        """Make the directory."""
        try:
            self._do("mkdir", mode=mode)
        except FileNotFoundError:
            if not parents or self._path == self._path.parent:
                raise
            self.parent.mkdir(parents=True, exist_ok=True)
            self.mkdir(mode, exist_ok=exist_ok)
        except FileExistsError:
            if not exist_ok or not self.is_dir():
                raise

    def touch(self, mode: int = 0o666, exist_ok: bool = True) -> None:
        """Make the file if it isn't there."""
        os.close(self._do("open", flags=os.O_WRONLY | os.O_CREAT | (0 if exist_ok else os.O_EXCL), mode=mode).fd)

    def unlink(self, missing_ok: bool = False) -> None:
        """Remove the file or symbolic link."""
        try:
            self._do("unlink")
        except FileNotFoundError:
            if not missing_ok:
                raise

    def rmdir(self) -> None:
        """Remove the empty directory."""
        self._do("rmdir")

    def rename(self, target: ContainerPath | str) -> ContainerPath:
        """Rename it, replacing a file that is there, and return the new path."""
        new = target if isinstance(target, ContainerPath) else self._with(target)
        self._do("rename", target=str(new))
        return new

    def symlink_to(self, target: str) -> None:
        """Make it a symbolic link of that text."""
        self._do("symlink", target=str(target))

    def chmod(self, mode: int) -> None:
        """Set its permissions."""
        self._do("chmod", mode=mode)


def _stat_result(stat: FileStat) -> os.stat_result:
    return os.stat_result((stat.mode, 0, 0, 1, stat.uid, stat.gid, stat.size, stat.mtime, stat.mtime, stat.mtime))


# -- docker cp -----------------------------------------------------------------------------------------------------------


def _stat_of(backend: Backend, ref: str, path: str) -> FileStat | None:
    try:
        found, stream = backend.read_archive(ref, path)
    except NotFound:
        return None
    stream.close()
    return found


def copy_to(
    engine: Engine, ref: str, source: str | os.PathLike[str] | bytes, path: str, *, archive: bool = False
) -> None:
    """Copy a file, a directory or bytes into a container; see `Container.copy_to`. `archive` keeps owners' numbers."""
    engine.require(Capability.ARCHIVE)
    if not isinstance(path, str) or not path:
        raise InvalidType(f"path takes a path in the container: got {path!r}")
    if isinstance(source, (bytes, bytearray)):
        place, content = None, bytes(source)
    elif isinstance(source, (str, os.PathLike)):
        place, content = os.fspath(source), b""
    else:
        raise InvalidType(f"source takes a path, or bytes: got {source!r}")
    path = _clean(path)
    backend = engine.backend
    if place is not None:
        mode = (os.stat if place.endswith(("/", "/.")) else os.lstat)(place).st_mode
        is_dir = _stat.S_ISDIR(mode)
        inner = is_dir and (place.endswith("/.") or place == ".")
        base = os.path.basename(os.path.abspath(place))
    else:
        is_dir = inner = False
        base = ""
    there = _stat_of(backend, ref, path)
    if there is not None and _stat.S_ISDIR(there.mode):
        if place is None:
            raise InvalidSpec(f"cannot overwrite the directory {path!r} with a file's content")
        folder, name = path, "." if inner else base
    elif there is not None and is_dir:
        raise InvalidSpec(f"cannot copy a directory over the file {path!r} in the container")
    elif path.endswith("/") and not is_dir:
        raise NotFound(f"no such directory in the container: {path}")
    else:
        path = path.rstrip("/")
        folder, name = posixpath.dirname(path), posixpath.basename(path)
    _send(backend, ref, folder, lambda tar: _pack(tar, place, content, name, archive))


def _pack(tar: tarfile.TarFile, place: str | None, content: bytes, name: str, archive: bool) -> None:
    def owned(info: tarfile.TarInfo) -> tarfile.TarInfo:
        if not archive:
            info.uid = info.gid = 0
        info.uname = info.gname = ""
        return info

    if place is not None:
        tar.add(place.rstrip("/") or "/", name, filter=owned)
        return
    info = tarfile.TarInfo(name)
    info.size = len(content)
    info.mode = 0o644
    import time

    info.mtime = int(time.time())
    tar.addfile(info, io.BytesIO(content))


def _send(backend: Backend, ref: str, folder: str, pack: Any) -> None:
    """Have a thread write the tar into a pipe while the backend unpacks it: no copy is held anywhere."""
    reader, writer = os.pipe()
    failure: list[BaseException] = []

    def write() -> None:
        try:
            with os.fdopen(writer, "wb", _CHUNK) as file, tarfile.open(fileobj=file, mode="w|") as tar:
                pack(tar)
        except BrokenPipeError:
            pass
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=write, daemon=True, name="pycontainers-copy")
    thread.start()
    try:
        with os.fdopen(reader, "rb") as file:
            backend.write_archive(ref, folder, file)
    except CorruptArchive:
        thread.join()
        if failure:  # The source couldn't be read: that is why the tar ended too early.
            raise failure[0] from None
        raise
    thread.join()
    if failure:
        raise failure[0]


def _clean(path: str) -> str:
    """Return a path in a container as Docker takes it: by its letters, with what ends it (`/`, `/.`) kept."""
    end = next((end for end in ("/.", "/") if path.endswith(end)), "")
    clean = posixpath.normpath("/" + path).replace("//", "/")
    return clean + end if clean != "/" else "/" + end.removeprefix("/")


def copy_from(
    engine: Engine, ref: str, path: str, target: str | os.PathLike[str] | None, *, archive: bool = False
) -> Path | bytes:
    """Copy a file or directory out of a container; see `Container.copy_from`. `archive` keeps owners' numbers, which
    takes privileges."""
    engine.require(Capability.ARCHIVE)
    if not isinstance(path, str) or not path:
        raise InvalidType(f"path takes a path in the container: got {path!r}")
    inner = path.endswith("/.")
    path = _clean(path)
    found, stream = engine.backend.read_archive(ref, path)
    with stream:
        is_dir = _stat.S_ISDIR(found.mode)
        if target is None:
            if is_dir:
                raise InvalidSpec(f"{path!r} is a directory; name a target to copy it to")
            return _content(stream, path)
        place = Path(target)
        if place.is_dir():
            name = posixpath.basename(posixpath.normpath(path)) or "root"
            place = place if inner and is_dir else place / name
        elif is_dir and place.exists():
            raise NotADirectoryError(f"cannot copy a directory over the file {str(place)!r}")
        elif not is_dir and str(target).endswith("/"):
            raise FileNotFoundError(f"no such directory: {str(target)!r}")
        if place.is_dir() and not is_dir:
            raise IsADirectoryError(f"cannot overwrite the directory {str(place)!r} with a file")
        unpack(stream, place, owners=archive, root=path in ("/", "/."))
        return place


def _content(stream: BinaryIO, path: str) -> bytes:
    try:
        with tarfile.open(fileobj=stream, mode="r|") as tar:
            for member in tar:
                file = tar.extractfile(member) if member.isreg() else None
                if file is None:
                    raise InvalidSpec(f"{path!r} is no regular file")
                return file.read()
    except tarfile.TarError as error:
        raise CorruptArchive(f"the copy of {path!r} is no readable tar: {error}") from error
    raise CorruptArchive(f"the copy of {path!r} is empty")


def unpack(stream: BinaryIO, place: Path, *, owners: bool = False, root: bool = False) -> None:
    """Unpack a tar whose entries share one first component, which becomes `place`; with `root` they have none.

    Nothing is written outside `place`: an entry goes only into a directory that stands there, never through a symbolic
    link. Owners are the caller's (the tar's with `owners`), set-user-ID bits are dropped, and devices are left out.
    Raises `CorruptArchive`, and `PermissionError` for an owner that can't be set.
    """
    modes: list[tuple[Path, int, float]] = []
    first: str | None = "" if root else None
    if root:
        place.mkdir(exist_ok=True)
    try:
        with tarfile.open(fileobj=stream, mode="r|") as tar:
            for member in tar:
                parts = [part for part in member.name.split("/") if part not in ("", ".")]
                if ".." in parts:
                    raise CorruptArchive(f"the tar names {member.name!r}, which leads out of the copy")
                if first is None:
                    first = parts[0] if parts else ""
                if first and parts[:1] != [first]:
                    raise CorruptArchive(f"the tar names {member.name!r}, which is not below {first!r}")
                _put(tar, member, place, parts[1:] if first else parts, first, modes)
                if owners and not (member.ischr() or member.isblk()):
                    os.lchown(_inside(place, parts[1:] if first else parts), member.uid, member.gid)
    except (tarfile.TarError, EOFError) as error:
        raise CorruptArchive(f"the copy is no readable tar: {error}") from error
    for path, mode, mtime in reversed(modes):
        path.chmod(mode)
        os.utime(path, (mtime, mtime))


def _inside(place: Path, parts: list[str]) -> Path:
    """The path below `place`, through real directories alone."""
    path = place
    for part in parts:
        if not _stat.S_ISDIR(path.lstat().st_mode):
            raise CorruptArchive(f"the tar leads through {str(path)!r}, which is no directory")
        path = path / part
    return path


def _put(
    tar: tarfile.TarFile, member: tarfile.TarInfo, place: Path, parts: list[str], first: str,
    modes: list[tuple[Path, int, float]],
) -> None:
    path = _inside(place, parts)
    mode = member.mode & 0o777
    there = path.lstat().st_mode if os.path.lexists(path) else 0
    if member.isdir():
        if not _stat.S_ISDIR(there):
            if there:
                path.unlink()
            path.mkdir(0o700)
        modes.append((path, mode, member.mtime))
        return
    if _stat.S_ISDIR(there):
        raise IsADirectoryError(f"cannot overwrite the directory {str(path)!r} with a file")
    if member.isreg():
        file = cast("IO[bytes]", tar.extractfile(member))
        descriptor, scratch = tempfile.mkstemp(dir=path.parent, prefix=".pycontainers-")
        try:
            with os.fdopen(descriptor, "wb") as target:
                save(cast(BinaryIO, file), target)
                os.fchmod(target.fileno(), mode)
            os.utime(scratch, (member.mtime, member.mtime))
            os.replace(scratch, path)
        except BaseException:
            os.unlink(scratch)
            raise
    elif member.issym():
        if there:
            path.unlink()
        path.symlink_to(member.linkname)
    elif member.islnk():
        names = [part for part in member.linkname.split("/") if part not in ("", ".")]
        if ".." in names or (first and names[:1] != [first]):
            raise CorruptArchive(f"the tar links {member.name!r} to {member.linkname!r}, outside of the copy")
        source = _inside(place, names[1:] if first else names)
        if there:
            path.unlink()
        os.link(source, path, follow_symlinks=False)
    elif member.isfifo():
        if there:
            path.unlink()
        os.mkfifo(path, mode)


def export(engine: Engine, ref: str, target: str | os.PathLike[str] | BinaryIO) -> None:
    """Write a tar of a container's file system; see `Container.export`."""
    engine.require(Capability.ARCHIVE)
    _, stream = engine.backend.read_archive(ref, "/")
    with stream:
        if isinstance(target, (str, os.PathLike)):
            with open(target, "wb") as file:
                save(stream, file)
        else:
            save(stream, target)
