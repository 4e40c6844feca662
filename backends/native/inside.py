"""Looks inside containers: statistics, processes, changes, files, sockets."""

from __future__ import annotations

import errno
import io
import os
import pwd
import socket
import stat
import struct
import threading
import time
from collections.abc import Callable
from collections.abc import Sequence
from contextlib import suppress
from typing import BinaryIO
from typing import TypeVar

from pycontainers._native._lib import lib as C
from pycontainers.backend import Change
from pycontainers.backend import FileOp
from pycontainers.backend import FileReply
from pycontainers.backend import FileStat
from pycontainers.backend import ProcessRecord
from pycontainers.backend import Stats
from pycontainers.backends.native import cgroups
from pycontainers.backends.native import control
from pycontainers.backends.native.containers import Containers
from pycontainers.backends.native.launcher import UNPACK_LIMITS
from pycontainers.backends.native.launcher import Answer
from pycontainers.backends.native.launcher import Connection
from pycontainers.backends.native.launcher import Gone
from pycontainers.backends.native.launcher import JobFailed
from pycontainers.backends.native.launcher import Trees
from pycontainers.errors import CorruptArchive
from pycontainers.errors import InvalidSpec
from pycontainers.errors import NotFound
from pycontainers.errors import StoreError
from pycontainers.errors import StoreFull

_TICKS = os.sysconf("SC_CLK_TCK")
_DIFF_USERXATTR = 1
_PACK_FOLLOW, _PACK_ONE_MOUNT = 1, 2
_UNPACK_KEEP_DIR_LINKS, _UNPACK_SAME_KIND, _UNPACK_NEED_END = 16, 32, 512
_TCP_LISTEN = 10
_Done = TypeVar("_Done")


class Inside:
    """What a running or ended container holds. Thread-safe."""

    def __init__(self, containers: Containers, trees: Trees) -> None:
        """Name the containers and who works on their trees."""
        self._containers = containers
        self._trees = trees
        self._samples: dict[str, tuple[float, float]] = {}
        self._lock = threading.Lock()

    # -- use of resources -----------------------------------------------------------------------------------------------

    def stats(self, ref: str) -> Stats:
        """Return the use of resources now; CPU since this process's last sample, else since the start."""
        containers = self._containers
        id = containers.find(ref)
        record, living = containers.record(id)
        if not living or not record.live:
            raise containers.not_running(id)
        name = f"{containers.tag}-{id}"
        pids = containers.processes(id)
        now = time.time()
        cpu_time = self._cpu_time(name, pids)
        with self._lock:
            before, used = self._samples.get(id, (record.started / 1e9, 0.0))
            self._samples[id] = (now, cpu_time)
            if len(self._samples) > 4096:
                self._samples.pop(next(iter(self._samples)))
        read, written = _block_io(pids)
        received, sent = _net_io(pids)
        return Stats(
            time=now, cpu_time=cpu_time, cpu=max(0.0, cpu_time - used) / max(now - before, 1e-3),
            memory=_memory(name, pids), memory_limit=_memory_limit(name), pids=len(pids),
            block_read=read, block_written=written, net_received=received, net_sent=sent)

    def _cpu_time(self, name: str, pids: Sequence[int]) -> float:
        path = cgroups.path_of(name, "cpuacct")
        with suppress(OSError, ValueError):
            if path:
                return int(_read(f"{path}/cpuacct.usage")) / 1e9
            path = cgroups.path_of(name, "cpu") or cgroups.path_of(name, "memory")
            if path:
                return int(_fields(f"{path}/cpu.stat")["usage_usec"]) / 1e6
        return sum(_stat(pid).time for pid in pids)

    def top(self, ref: str) -> list[ProcessRecord]:
        """Return the container's processes."""
        containers = self._containers
        id = containers.find(ref)
        record, living = containers.record(id)
        if not living or not record.live:
            raise containers.not_running(id)
        boot = _boot_time()
        result = []
        for pid in containers.processes(id):
            found = _stat(pid)
            if found.ppid < 0:
                continue
            with suppress(OSError):
                uid = os.stat(f"/proc/{pid}").st_uid
                age = max(time.time() - boot - found.start, 1e-3)
                result.append(ProcessRecord(
                    uid=_user(uid), pid=pid, ppid=found.ppid, cpu=int(found.time * 100 / age), start=boot + found.start,
                    tty=_tty(found.tty), time=found.time, command=_command(pid, found.name)))
        return result

    # -- changes and archives -------------------------------------------------------------------------------------------

    def diff(self, ref: str) -> list[Change]:
        """Return what changed against the image."""
        containers = self._containers
        id = containers.find(ref)
        config = containers.config(id)
        upper = f"{containers.directory(id)}/upper"
        if not os.path.isdir(containers.store.path(upper)):
            return []
        host = containers.context(config, id).host
        lowers = [*containers.images.lowers(config.image_id), *(host.overlays[0].lowers if host else ("base",))]
        places = [("", upper, lowers)] + [(f"/{o.target}", f"{upper}/{o.target}", list(o.lowers))
                                          for o in (host.overlays[1:] if host else ())]
        changes: dict[str, str] = {}
        for place, above, below in places:
            for kind, path in self._changes(ref, above, below):
                if not any(path.startswith(f"{inner}/") for inner, *_ in places if inner and not place):
                    changes[place + path if path != "/" else place] = kind
        changes.pop("", None)
        return [Change(kind=kind, path=path) for path, kind in sorted(changes.items())]

    def _changes(self, ref: str, upper: str, lowers: Sequence[str]) -> list[tuple[str, str]]:
        flags = _DIFF_USERXATTR if self._containers.launcher.rootless else 0
        fds = [os.memfd_create("pycontainers-diff", os.MFD_CLOEXEC)]
        texts = []
        try:
            for lower in lowers:
                if lower.startswith("/"):
                    texts.append(f"@{len(fds) - 1}")
                    fds.append(os.open(lower, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
                else:
                    texts.append(lower)
            try:
                self._trees.ask(C.PYC_REQ_DIFF, a=flags, texts=texts, second=upper, fds=fds)
            except JobFailed as error:
                raise error.translated(f"listing the changes of {ref}") from error
            parts = os.pread(fds[0], os.fstat(fds[0]).st_size, 0).split(b"\0")
        finally:
            for fd in fds:
                os.close(fd)
        return [(kind.decode(), os.fsdecode(path)) for kind, path in zip(parts[0::2], parts[1::2], strict=False)]

    def _root(self, id: str) -> tuple[int, str, list[int]]:
        """Return how a job finds a container's root: mode, second text, descriptors (the caller closes them)."""
        directory = self._containers.directory(id)
        try:
            answer = control.ask(self._containers.launcher.root_fd, directory, C.PYC_REQ_ROOT)
            fd = answer.take_fd()
            if fd >= 0:
                return C.PYC_ROOT_GIVEN, "", [fd]
        except Gone:
            pass
        return C.PYC_ROOT_ENDED, directory, []

    def _on_root(self, id: str, job: Callable[[int, str, list[int]], _Done]) -> _Done:
        """Do a job on a container's root; when someone else has an ended one in hand, look again who, and where it is."""
        deadline = time.monotonic() + 10
        while True:
            root, second, fds = self._root(id)
            try:
                return job(root, second, fds)
            except JobFailed as error:
                if error.answer.step != C.PYC_STEP_LOCK or time.monotonic() > deadline:
                    raise
            finally:
                for fd in fds:
                    os.close(fd)
            time.sleep(0.001)

    def file(self, ref: str, op: FileOp) -> FileReply:
        """Do one call on a file."""
        id = self._containers.find(ref)
        path = op.path if op.path.startswith("/") else "/" + op.path
        if op.kind in ("stat", "lstat"):
            fd = self._file(id, C.PYC_FILE_OPEN, path, flags=os.O_PATH | (os.O_NOFOLLOW if op.kind == "lstat" else 0)).take_fd()
            try:
                return FileReply(stat=self._stat_of(id, path, os.fstat(fd)))
            finally:
                os.close(fd)
        if op.kind == "list":
            return self._list(id, path)
        if op.kind == "open":
            answer = self._file(id, C.PYC_FILE_OPEN, path, flags=op.flags, mode=op.mode)
            fd = answer.take_fd()
            # It was opened so that a fifo could not stall the opener; the caller reads it as usual.
            os.set_blocking(fd, True)
            return FileReply(fd=fd)
        kinds = {"mkdir": C.PYC_FILE_MKDIR, "unlink": C.PYC_FILE_UNLINK, "rmdir": C.PYC_FILE_RMDIR,
                 "rename": C.PYC_FILE_RENAME, "symlink": C.PYC_FILE_SYMLINK, "readlink": C.PYC_FILE_READLINK,
                 "chmod": C.PYC_FILE_CHMOD}
        if op.kind not in kinds:
            raise InvalidSpec(f"file: unknown kind {op.kind!r}")
        answer = self._file(id, kinds[op.kind], path, target=op.target, mode=op.mode)
        return FileReply(text=answer.text)

    def _file(self, id: str, kind: int, path: str, *, target: str = "", flags: int = 0, mode: int = 0) -> Answer:
        try:
            return self._on_root(id, lambda root, second, fds: self._trees.ask(
                C.PYC_REQ_FILE, a=kind, b=mode << 32 | flags, c=root, texts=[path, target], second=second, fds=fds))
        except JobFailed as error:
            number = error.answer.error
            raise OSError(number, os.strerror(number), path) from None

    def _stat_of(self, id: str, path: str, status: os.stat_result) -> FileStat:
        link = ""
        if stat.S_ISLNK(status.st_mode):
            link = self._file(id, C.PYC_FILE_READLINK, path).text
        return self._stat_value(path, status, link)

    def _stat_value(self, path: str, status: os.stat_result, link: str = "") -> FileStat:
        ids = self._containers.launcher.ids
        uid = ids.inside(status.st_uid) if ids else status.st_uid
        gid = ids.inside_group(status.st_gid) if ids else status.st_gid
        return FileStat(name=os.path.basename(path.rstrip("/")) or "/", mode=status.st_mode, size=status.st_size,
                        mtime=status.st_mtime, uid=uid, gid=gid, link=link)

    def _list(self, id: str, path: str) -> FileReply:
        fd = self._file(id, C.PYC_FILE_OPEN, path, flags=os.O_RDONLY | os.O_DIRECTORY).take_fd()
        entries = []
        try:
            for name in sorted(os.listdir(fd)):
                with suppress(FileNotFoundError):
                    status = os.stat(name, dir_fd=fd, follow_symlinks=False)
                    link = os.readlink(name, dir_fd=fd) if stat.S_ISLNK(status.st_mode) else ""
                    entries.append(self._stat_value(name, status, link))
        finally:
            os.close(fd)
        return FileReply(entries=tuple(entries))

    def read_archive(self, ref: str, path: str) -> tuple[FileStat, BinaryIO]:
        """Return a file's stat and a tar stream of it."""
        id = self._containers.find(ref)
        inner = path if path.startswith("/") else "/" + path
        try:
            fd = self._file(id, C.PYC_FILE_OPEN, inner, flags=os.O_PATH | os.O_NOFOLLOW).take_fd()
            try:
                status = self._stat_of(id, inner, os.fstat(fd))
            finally:
                os.close(fd)
        except FileNotFoundError:
            raise NotFound(f"Could not find the file {path} in container {ref}") from None
        except NotADirectoryError:
            raise NotFound(f"Could not find the file {path} in container {ref}: a part of it is no directory") from None
        whole = os.path.normpath(inner) == "/"
        name = "" if whole else "." if inner.rstrip("/").endswith("/.") else status.name
        root, second, fds = self._root(id)
        reader, writer = os.pipe2(os.O_CLOEXEC)
        payload_flags = (_PACK_ONE_MOUNT if whole else 0) | (_PACK_FOLLOW if inner.endswith(("/", "/.")) else 0)
        try:
            connection = self._trees.begin(C.PYC_REQ_PACK, a=payload_flags, b=root, texts=[inner, name], second=second,
                                           fds=[writer, *fds])
        except BaseException:
            os.close(reader)
            raise
        finally:
            os.close(writer)
            for fd in fds:
                os.close(fd)
        return status, io.BufferedReader(_ArchiveStream(reader, connection, f"{ref}:{path}"), 1 << 16)

    def write_archive(self, ref: str, path: str, archive: BinaryIO) -> None:
        """Unpack a tar below a directory of the container's."""
        id = self._containers.find(ref)
        inner = path if path.startswith("/") else "/" + path
        root, second, fds = self._root(id)
        reader, writer = os.pipe2(os.O_CLOEXEC)
        failure: list[BaseException] = []

        def feed() -> None:
            try:
                with open(writer, "wb", buffering=0) as pipe:
                    while data := archive.read(1 << 18):
                        view = memoryview(data)
                        while view:
                            view = view[pipe.write(view):]
            except BrokenPipeError:
                pass
            except BaseException as error:
                failure.append(error)

        feeder = threading.Thread(target=feed, daemon=True)
        feeder.start()
        flags = _UNPACK_KEEP_DIR_LINKS | _UNPACK_SAME_KIND | _UNPACK_NEED_END
        ids = self._containers.launcher.ids
        if ids is not None:
            flags |= 64 | (1 if ids.single else 0)
        try:
            self._trees.ask(C.PYC_REQ_UNPACK, a=flags, b=root, texts=[UNPACK_LIMITS, inner], second=second, fds=[reader, *fds])
        except JobFailed as error:
            answer = error.answer
            where = f"{ref}:{path}"
            if answer.step == C.PYC_STEP_FILE and answer.error in (errno.ENOENT, errno.ENOTDIR):
                raise NotFound(f"Could not find the directory {path} in container {ref}") from None
            if answer.error == errno.ENOSPC:
                raise StoreFull(f"copying to {where}: {os.strerror(answer.error)}; free some room") from None
            if answer.error in (errno.EISDIR, errno.ENOTDIR):
                raise InvalidSpec(f"copying to {where}: {answer.text!r}: cannot overwrite a directory with a non-directory, "
                                  "nor the other way round") from None
            raise error.translated(f"copying to {where}") from None
        finally:
            os.close(reader)
            feeder.join()
            for fd in fds:
                os.close(fd)
        if failure:
            raise CorruptArchive(f"copying to {ref}:{path}: reading the archive failed: {failure[0]}") from failure[0]

    # -- sockets --------------------------------------------------------------------------------------------------------

    def _socket(self, id: str, family: int, kind: int, protocol: int) -> socket.socket:
        answer = self._containers.ask(id, C.PYC_REQ_SOCKET, a=family, b=kind | socket.SOCK_CLOEXEC, c=protocol)
        fd = answer.take_fd()
        if fd < 0:
            raise StoreError(f"making a socket in container {id[:12]}: {os.strerror(answer.error)}")
        return socket.socket(fileno=fd)

    def connect(self, ref: str, port: int) -> int:
        """Return a socket connected to a port inside the container's network."""
        id = self._containers.find(ref)
        made = self._socket(id, socket.AF_INET, socket.SOCK_STREAM, 0)
        try:
            made.connect(("127.0.0.1", port))
        except OSError:
            made.close()
            other = self._socket(id, socket.AF_INET6, socket.SOCK_STREAM, 0)
            try:
                other.connect(("::1", port))
            except OSError:
                other.close()
                raise ConnectionRefusedError(errno.ECONNREFUSED, f"nothing listens on port {port} in container {ref}") from None
            return other.detach()
        return made.detach()

    def listening(self, ref: str, port: int, protocol: str) -> bool:
        """Tell whether a process of the container listens on a port (sock_diag(7))."""
        id = self._containers.find(ref)
        number = {"tcp": socket.IPPROTO_TCP, "udp": socket.IPPROTO_UDP}.get(protocol)
        if number is None:
            raise InvalidSpec(f"port: protocol must be tcp or udp: got {protocol!r}")
        with self._socket(id, socket.AF_NETLINK, socket.SOCK_RAW, 4) as diag:
            inodes = {inode for family in (socket.AF_INET, socket.AF_INET6) for inode in _diag(diag, family, number, port)}
        if not inodes:
            return False
        if self._containers.config(id).spec.network != "host":
            return True
        return bool(inodes & self._socket_inodes(id))

    def _socket_inodes(self, id: str) -> set[int]:
        """With the host's network, only sockets that the container's own processes hold count."""
        found: set[int] = set()
        for pid in self._containers.processes(id):
            with suppress(OSError):
                for name in os.listdir(f"/proc/{pid}/fd"):
                    with suppress(OSError):
                        text = os.readlink(f"/proc/{pid}/fd/{name}")
                        if text.startswith("socket:["):
                            found.add(int(text[8:-1]))
        return found


class _ArchiveStream(io.RawIOBase):
    """A tar as a job writes it; its failure is raised at the end, not taken for one."""

    def __init__(self, fd: int, connection: Connection, what: str) -> None:
        self._fd = fd
        self._connection = connection
        self._what = what

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        n = os.readv(self._fd, [buffer])  # type: ignore[list-item]
        if n == 0 and self._connection.fileno() >= 0:
            try:
                answer = self._connection.receive()
            except Gone:
                raise StoreError(f"reading {self._what}: the reader was killed") from None
            finally:
                self._connection.close()
            if answer is not None and answer.kind == C.PYC_REPLY_FAILED:
                raise JobFailed(answer).translated(f"reading {self._what}")
        return n

    def close(self) -> None:
        if not self.closed:
            os.close(self._fd)
            self._connection.close()
        super().close()


# -- /proc and cgroup files ----------------------------------------------------------------------------------------------


class _Process:
    __slots__ = ("name", "ppid", "start", "time", "tty")

    def __init__(self, name: str = "", ppid: int = -1, tty: int = 0, time: float = 0.0, start: float = 0.0) -> None:
        self.name, self.ppid, self.tty, self.time, self.start = name, ppid, tty, time, start


def _read(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


def _fields(path: str) -> dict[str, str]:
    return dict(line.split(None, 1) for line in _read(path).splitlines() if " " in line)


def _stat(pid: int) -> _Process:
    """Parse /proc/PID/stat (proc(5)); a process that has gone has ppid -1."""
    try:
        text = _read(f"/proc/{pid}/stat")
    except OSError:
        return _Process()
    head, _, tail = text.rpartition(")")
    fields = tail.split()
    return _Process(head.partition("(")[2], int(fields[1]), int(fields[4]), (int(fields[11]) + int(fields[12])) / _TICKS,
                    int(fields[19]) / _TICKS)


def _boot_time() -> float:
    for line in _read("/proc/stat").splitlines():
        if line.startswith("btime "):
            return float(line[6:])
    return 0.0


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _tty(number: int) -> str:
    if not number:
        return "?"
    major, minor = os.major(number), os.minor(number)
    return f"pts/{minor + 256 * (major - 136)}" if 136 <= major < 144 else f"{major}:{minor}"


def _command(pid: int, name: str) -> str:
    with suppress(OSError):
        text = _read(f"/proc/{pid}/cmdline").rstrip("\0").replace("\0", " ")
        if text:
            return text
    return f"[{name}]"


def _block_io(pids: Sequence[int]) -> tuple[int, int]:
    read = written = 0
    for pid in pids:
        with suppress(OSError, KeyError, ValueError):
            fields = _fields(f"/proc/{pid}/io")
            read += int(fields["read_bytes:"])
            written += int(fields["write_bytes:"])
    return read, written


def _net_io(pids: Sequence[int]) -> tuple[int, int]:
    received = sent = 0
    for pid in pids[:1]:
        with suppress(OSError, ValueError):
            for line in _read(f"/proc/{pid}/net/dev").splitlines()[2:]:
                name, _, numbers = line.partition(":")
                if name.strip() != "lo":
                    values = numbers.split()
                    received += int(values[0])
                    sent += int(values[8])
    return received, sent


def _memory(name: str, pids: Sequence[int]) -> int:
    """Memory in use without inactive page cache, as `docker stats` counts."""
    path = cgroups.path_of(name, "memory")
    if path:
        with suppress(OSError, KeyError, ValueError):
            fields = _fields(f"{path}/memory.stat")
            if os.path.exists(f"{path}/memory.usage_in_bytes"):
                return max(0, int(_read(f"{path}/memory.usage_in_bytes")) - int(fields["total_inactive_file"]))
            return max(0, int(_read(f"{path}/memory.current")) - int(fields["inactive_file"]))
    total = 0
    for pid in pids:
        with suppress(OSError, IndexError, ValueError):
            total += int(_read(f"/proc/{pid}/statm").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return total


def _memory_limit(name: str) -> int:
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    path = cgroups.path_of(name, "memory")
    if path:
        for file in ("memory.limit_in_bytes", "memory.max"):
            with suppress(OSError, ValueError):
                return min(whole, int(_read(f"{path}/{file}")))
    return whole


def _diag(sock: socket.socket, family: int, protocol: int, port: int) -> list[int]:
    """Return the inodes of sockets that listen on a port (struct inet_diag_req_v2 of linux/inet_diag.h)."""
    states = 1 << _TCP_LISTEN if protocol == socket.IPPROTO_TCP else 1 << 7
    body = struct.pack("=BBBxI48s", family, protocol, 0, states, bytes(48))
    sock.send(struct.pack("=IHHII", 16 + len(body), 20, 0x301, 1, 0) + body)
    found: list[int] = []
    while True:
        data = sock.recv(1 << 16)
        at = 0
        while at + 16 <= len(data):
            length, kind = struct.unpack_from("=IH", data, at)
            if kind in (2, 3) or length < 16:
                return found
            # struct inet_diag_msg: 4 bytes, then the socket's id, which begins with the source port; the inode is last.
            if struct.unpack_from(">H", data, at + 20)[0] == port:
                found.append(struct.unpack_from("=I", data, at + 16 + 68)[0])
            at += (length + 3) & ~3
