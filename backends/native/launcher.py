"""Talks to the launcher and to supervisors, and starts the launcher when it is not there."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import socket
import stat
import struct
import subprocess
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from attrs import frozen

from pycontainers._native._lib import ffi
from pycontainers._native._lib import lib as C
from pycontainers.backends.native import cgroups
from pycontainers.backends.native.accounts import subordinate
from pycontainers.backends.native.store import Store
from pycontainers.backends.native.store import UnpackResult
from pycontainers.backends.native.store import store_error
from pycontainers.errors import BackendUnavailable
from pycontainers.errors import CorruptArchive
from pycontainers.errors import LimitExceeded
from pycontainers.errors import StoreError

PROGRAM = Path(C.__file__ if hasattr(C, "__file__") else __file__)
_REQUEST = struct.Struct("=4I3q2I")
_REPLY = struct.Struct("=IiIIiI2q200s")
_RECORD_SIZE = ffi.sizeof("struct pyc_record")
_CAPACITY = _REPLY.size + _RECORD_SIZE
_START_TIMEOUT = 20.0
#: Where vm.memfd_noexec is 1, memory is executable for those who ask.
_MFD_EXEC = 0x10

if ffi.sizeof("struct pyc_request") != _REQUEST.size or ffi.sizeof("struct pyc_reply") != _REPLY.size:
    raise ImportError("the extension was built from another plan.h: install pycontainers anew")

#: Docker's default capabilities: what a launcher keeps in its bounding set.
DEFAULT_CAPABILITIES = (
    "CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE SYS_CHROOT KILL "
    "AUDIT_WRITE"
).split()


class Answer:
    """One message of the C core: its head, the record that may follow, and descriptors that the taker closes."""

    __slots__ = ("a", "b", "error", "exit_code", "fds", "flags", "kind", "op", "record", "step", "text")

    kind: int
    error: int
    step: int
    op: int
    exit_code: int
    flags: int
    a: int
    b: int

    def __init__(self, data: bytes, fds: list[int]) -> None:
        """Parse a message."""
        (self.kind, self.error, self.step, self.op, self.exit_code, self.flags, self.a, self.b,
         text) = _REPLY.unpack_from(data)
        self.text = text.partition(b"\0")[0].decode("utf-8", "surrogateescape")
        self.record = data[_REPLY.size:] if len(data) >= _CAPACITY else b""
        self.fds = fds

    def take_fd(self) -> int:
        """Return the first descriptor, now the caller's; -1 if there is none."""
        return self.fds.pop(0) if self.fds else -1

    def close(self) -> None:
        """Close the descriptors that nobody took. Idempotent."""
        while self.fds:
            os.close(self.fds.pop())


class Gone(Exception):
    """Nobody listens at the socket, or whoever did has gone meanwhile."""


class Lost(Gone):
    """Whoever took the request ended without an answer: it may have been carried out, in part or whole."""


class Connection:
    """A connection to a supervisor or job. Owned by one thread at a time; `close` may come from any."""

    __slots__ = ("_closed", "_lock", "_pid", "_sock", "_users")

    def __init__(self, sock: int) -> None:
        """Take over the socket."""
        self._sock = sock
        self._lock = threading.Lock()
        self._users = 0
        self._closed = sock < 0
        self._pid = os.getpid()

    def fileno(self) -> int:
        """Return the descriptor, readable when an answer is there; -1 once it is closed."""
        return -1 if self._closed else self._sock

    def _use(self) -> int:
        with self._lock:
            if self._closed:
                raise Gone("closed")
            self._users += 1
            return self._sock

    def _used(self) -> None:
        with self._lock:
            self._users -= 1
            if self._closed and not self._users:
                os.close(self._sock)

    def send(self, kind: int, flags: int = 0, *, a: int = 0, b: int = 0, c: int = 0, payload: bytes = b"",
             fds: Sequence[int] = ()) -> None:
        """Send one request. Raises `Gone`."""
        sock = self._use()
        try:
            with prepared(kind, flags, a, b, c, payload, 0, 0, fds) as (message, numbers):
                error = C.pyc_send(sock, message, len(message), numbers, len(numbers))
        finally:
            self._used()
        if error:
            raise Gone(os.strerror(-error))

    def receive(self, timeout: float | None = None) -> Answer | None:
        """Return the next answer, None when `timeout` seconds passed. Raises `Gone` at the end, or when it is closed."""
        sock = self._use()
        try:
            return _receive(sock, timeout)
        finally:
            self._used()

    def ask(self, kind: int, flags: int = 0, **rest: object) -> Answer:
        """Send one request and return its answer. Raises `Gone`."""
        self.send(kind, flags, **rest)  # type: ignore[arg-type]
        answer = self.receive()
        assert answer is not None
        return answer

    def close(self) -> None:
        """Close the connection, and have a thread return that waits on it. Idempotent.

        The descriptor itself is closed by whoever uses it last: its number is no other's until then.
        """
        with self._lock:
            if self._closed:
                return
            self._closed = True
            if not self._users:
                os.close(self._sock)
            elif self._pid == os.getpid():
                with socket.socket(fileno=os.dup(self._sock)) as copy, suppress(OSError):
                    copy.shutdown(socket.SHUT_RDWR)


def _receive(sock: int, timeout: float | None) -> Answer | None:
    deadline = None if timeout is None else time.monotonic() + timeout
    while True:
        left = -1 if deadline is None else max(0, int((deadline - time.monotonic()) * 1000 + 0.999))
        reply = ffi.new("char[]", _CAPACITY)
        fds = ffi.new("int[4]")
        count = ffi.new("int *")
        n = C.pyc_receive(sock, reply, _CAPACITY, fds, count, left)
        if n == -errno.EINTR:
            continue
        if n == -errno.ETIMEDOUT:
            return None
        if n == 0:
            raise Lost("it ended")
        if n < 0:
            raise Gone(os.strerror(-n))
        return Answer(ffi.buffer(reply, n)[:], list(fds[0:count[0]]))


class prepared:
    """A request as bytes and descriptors; a payload too large for a message goes into a memfd for the while."""

    __slots__ = ("_arguments", "_memfd")

    def __init__(self, *arguments: object) -> None:
        """Take kind, flags, a, b, c, payload, text, text2 and descriptors."""
        self._arguments = arguments
        self._memfd = -1

    def __enter__(self) -> tuple[bytes, list[int]]:
        """Lay the request out."""
        kind, flags, a, b, c, payload, text, text2, fds = self._arguments
        numbers: list[int] = list(fds)  # type: ignore[call-overload]
        if len(payload) > C.PYC_MESSAGE_MAX - 1024:  # type: ignore[arg-type]
            self._memfd = os.memfd_create("pycontainers-plan", os.MFD_CLOEXEC)
            os.write(self._memfd, payload)  # type: ignore[arg-type]
            numbers.insert(0, self._memfd)
            flags |= C.PYC_REQ_PAYLOAD_IN_FD
            body = b""
        else:
            body = payload  # type: ignore[assignment]
        head = _REQUEST.pack(C.PYC_REQUEST_MAGIC, kind, flags, len(payload), a, b, c, text, text2)  # type: ignore[arg-type]
        return head + body, numbers

    def __exit__(self, *exc: object) -> None:
        """Let go of the memfd."""
        if self._memfd >= 0:
            os.close(self._memfd)


def call(root_fd: int, path: str, kind: int, flags: int = 0, *, a: int = 0, b: int = 0, c: int = 0, payload: bytes = b"",
         text: int = 0, text2: int = 0, fds: Sequence[int] = (), timeout: float | None = None
         ) -> tuple[Answer | None, Connection]:
    """Connect, ask, and return the answer with the connection; None as answer when `timeout` seconds passed.

    One call into C, the interpreter's lock released. Raises `Gone`, and `Lost` once the request was taken.
    """
    reply = ffi.new("char[]", _CAPACITY)
    reply_fds = ffi.new("int[4]")
    count = ffi.new("int *")
    sock = ffi.new("int *")
    wait = -1 if timeout is None else max(0, int(timeout * 1000 + 0.999))
    with prepared(kind, flags, a, b, c, payload, text, text2, fds) as (message, numbers):
        n = C.pyc_call(root_fd, os.fsencode(path), message, len(message), numbers, len(numbers), reply, _CAPACITY,
                       reply_fds, count, wait, sock)
    if n > 0:
        return Answer(ffi.buffer(reply, n)[:], list(reply_fds[0:count[0]])), Connection(sock[0])
    if n == -errno.ETIMEDOUT:
        return None, Connection(sock[0])
    if n == -errno.EINTR:
        connection = Connection(sock[0])
        try:
            return connection.receive(timeout), connection
        except BaseException:
            connection.close()
            raise
    if n == 0:
        os.close(sock[0])
        raise Lost("it ended")
    raise Gone(os.strerror(-n))


@frozen
class IdMap:
    """How a user namespace maps ids: (inside, outside, count) each; one line each for the single id."""

    uids: tuple[tuple[int, int, int], ...]
    gids: tuple[tuple[int, int, int], ...]

    @property
    def single(self) -> bool:
        """True when only the user's own id is mapped."""
        return len(self.uids) == 1

    def outside(self, uid: int) -> int:
        """Return what an id inside is outside."""
        return _translate(self.uids, uid, 0, 1)

    def inside(self, uid: int) -> int:
        """Return what an id outside is inside; 65534 if it is not mapped."""
        return _translate(self.uids, uid, 1, 0)

    def inside_group(self, gid: int) -> int:
        """Return what a group id outside is inside; 65534 if it is not mapped."""
        return _translate(self.gids, gid, 1, 0)


def _translate(lines: tuple[tuple[int, int, int], ...], value: int, source: int, target: int) -> int:
    for line in lines:
        if line[source] <= value < line[source] + line[2]:
            return line[target] + value - line[source]
    return 65534


def _subordinate(path: str, name: str, number: int) -> tuple[int, int] | None:
    """Return (first id, count) of the user's range in /etc/subuid or /etc/subgid (subuid(5))."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            for line in file:
                who, _, rest = line.strip().partition(":")
                first, _, count = rest.partition(":")
                if who in (name, str(number)) and first.isdigit() and count.isdigit() and int(count) >= 1:
                    return int(first), int(count)
    except OSError:
        pass
    return None


def user_map() -> IdMap:
    """Return the map for this user: with the ranges of /etc/subuid and /etc/subgid, else of the single id."""
    import pwd
    import shutil

    uid, gid = os.geteuid(), os.getegid()
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = ""
    uids = subordinate("/etc/subuid", name, uid)
    gids = subordinate("/etc/subgid", name, uid)
    if uids and gids and shutil.which("newuidmap") and shutil.which("newgidmap"):
        return IdMap(((0, uid, 1), (1, *uids)), ((0, gid, 1), (1, *gids)))
    return IdMap(((0, uid, 1),), ((0, gid, 1),))


def _write_map(pid: int, ids: IdMap) -> None:
    if ids.single:
        for name, text in (("setgroups", "deny"), ("uid_map", _lines(ids.uids)), ("gid_map", _lines(ids.gids))):
            with open(f"/proc/{pid}/{name}", "w") as file:
                file.write(text)
        return
    for program, lines in (("newuidmap", ids.uids), ("newgidmap", ids.gids)):
        done = subprocess.run([program, str(pid), *(str(n) for line in lines for n in line)], capture_output=True, text=True)
        if done.returncode:
            raise BackendUnavailable(f"mapping ids with {program}: {done.stderr.strip()}; see /etc/subuid, /etc/subgid, and "
                                     "`pycontainers doctor`")


def _lines(lines: tuple[tuple[int, int, int], ...]) -> str:
    return "".join(f"{a} {b} {c}\n" for a, b, c in lines)


def _within(kept: str, line: tuple[int, int, int]) -> bool:
    """Tell whether a line of a map gives the ids `FIRST-LAST` of outside the same numbers inside."""
    first, _, last = kept.partition("-")
    return line[1] == int(first) and int(last) < line[1] + line[2]


#: Requests that may be sent anew when nobody knows how far they got.
_REPEATABLE = (C.PYC_REQ_REMOVE, C.PYC_REQ_USAGE, C.PYC_REQ_SYNC)


class Launcher:
    """The launchers of one store for this process; each call finds or starts the right one. Thread-safe."""

    def __init__(self, store: Store) -> None:
        """Name the store. Starts nothing."""
        self._store = store
        self._root_fd = (0, -1)
        self._pid_names: tuple[int, str] = (0, "")
        self.rootless = os.geteuid() != 0
        self._ids: IdMap | None = None

    @property
    def ids(self) -> IdMap | None:
        """The id map of the user namespace, None for root."""
        if self.rootless and self._ids is None:
            self._ids = self._kept_map()
        return self._ids

    @property
    def single_id(self) -> bool:
        """True where only one id can be used: this user has no ranges, or the store was begun without."""
        if not self.rootless:
            return False
        kept = self._kept()
        return kept[0] == "single" if kept else user_map().single

    def _kept(self) -> list[str]:
        try:
            with open(self._store.path("run/ids"), encoding="ascii") as file:
                return file.read().split()
        except FileNotFoundError:
            return []

    def _kept_map(self) -> IdMap:
        """A store keeps the map that it was begun with: its files' owners are of that map, and a larger one will do."""
        ids = user_map()
        self._store.open()
        kept = self._kept()
        if not kept:
            lines = (*ids.uids[1:2], *ids.gids[1:2])
            kept = ["single"] if ids.single else ["ranges", *(f"{first}-{first + count - 1}" for _, first, count in lines)]
            temporary = self._store.path(f"run/ids.{os.getpid()}.{threading.get_ident()}")
            with open(temporary, "w", encoding="ascii") as file:
                file.write(" ".join(kept) + "\n")
            os.rename(temporary, self._store.path("run/ids"))
        if kept[0] == "single":
            return IdMap(ids.uids[:1], ids.gids[:1])
        if ids.single or not all(_within(text, line) for text, line in zip(kept[1:], (ids.uids[1], ids.gids[1]), strict=False)):
            raise BackendUnavailable(
                f"opening the store {self._store.root}: its files belong to ids that this user no longer has; give the ranges "
                f"back (`usermod --add-subuids {kept[1]} --add-subgids {kept[2]}`), or use a store of its own "
                "(`Engine(root=...)`); see `pycontainers doctor`")
        return ids

    @property
    def root_fd(self) -> int:
        """A descriptor of the store's root, one per process."""
        pid, fd = self._root_fd
        if pid != os.getpid():
            self._store.open()
            fd = os.open(self._store.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            self._root_fd = (os.getpid(), fd)
        return fd

    def _key(self, full: bool) -> str:
        """A launcher serves callers of the same namespaces and cgroups; with `full` it keeps all capabilities."""
        pid, names = self._pid_names
        if pid != os.getpid():
            found = []
            for name in ("pid", "ipc", "uts", "user", "cgroup", "time", *(("mnt",) if self.rootless else ())):
                try:
                    found.append(str(os.stat(f"/proc/self/ns/{name}").st_ino))
                except OSError:
                    found.append("")
            names = ":".join([*found, cgroups.layout().text])
            self._pid_names = (os.getpid(), names)
        net = os.stat("/proc/thread-self/ns/net").st_ino
        digest = sha256(f"{names}:{net}:{os.geteuid()}".encode()).hexdigest()[:12]
        return f"run/{digest}{'-full' if full else ''}.sock"

    def ask(self, kind: int, flags: int = 0, *, full: bool = False, a: int = 0, b: int = 0, c: int = 0,
            payload: bytes = b"", text: int = 0, text2: int = 0, fds: Sequence[int] = (), timeout: float | None = None
            ) -> tuple[Answer | None, Connection]:
        """Send a request to the launcher, starting it if need be; returns as `call`.

        Raises `Lost` if whoever took it was killed, and it is of a kind that must not be done twice.
        """
        path = self._key(full)
        for attempt in range(8):
            try:
                return call(self.root_fd, path, kind, flags, a=a, b=b, c=c, payload=payload, text=text, text2=text2,
                            fds=fds, timeout=timeout)
            except Gone as error:
                if isinstance(error, Lost) and kind not in _REPEATABLE:
                    raise
                if attempt == 7:
                    raise StoreError(f"starting the launcher of {self._store.root}: it ended before it answered "
                                     f"({error})") from error
                self._start(path, full)
        raise AssertionError

    def retire(self) -> None:
        """Ask this process's launchers to go once they are idle; tidies up for one that was killed. Idempotent."""
        found = False
        for full in (False, True):
            try:
                answer, connection = call(self.root_fd, self._key(full), C.PYC_REQ_RETIRE, timeout=2)
                connection.close()
                found = True
                if answer:
                    answer.close()
            except (Gone, OSError):
                continue
        if not found:
            cgroups.leave()

    def replace(self) -> None:
        """Let the launcher go whose tree is no longer the caller's: the next call starts another."""
        self.retire()

    def _start(self, path: str, full: bool) -> None:
        lock = os.open(self._store.path(path + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if self._answers(path):
                return
            for attempt in range(5):
                try:
                    self._spawn(path, full)
                    return
                except FileNotFoundError:
                    # The last launcher of another store, on its way out, took the parents of our cgroups along.
                    if attempt == 4:
                        raise
        finally:
            os.close(lock)

    def _answers(self, path: str) -> bool:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe:
            try:
                probe.connect(f"/proc/self/fd/{self.root_fd}/{path}")
            except OSError:
                return False
        return True

    def _spawn(self, path: str, full: bool) -> None:
        """Start a launcher. Raises `BackendUnavailable`, and `FileNotFoundError` if a cgroup went away meanwhile."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        fds = [os.open(self._store.root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC),
               os.open(self._store.path(path + ".lock"), os.O_RDWR | os.O_CLOEXEC),
               helper_program(), os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)]
        pid = 0
        try:
            hierarchies = cgroups.renew().hierarchies
            fds += [os.open(h.path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) for h in hierarchies]
            from pycontainers.backends.native.plan import capability_mask
            keep = (1 << 63) - 1 if full else capability_mask(DEFAULT_CAPABILITIES)
            try:
                pid = _execute(fds[2], theirs)
            except OSError as error:
                raise BackendUnavailable(f"starting the launcher of {self._store.root}: the helper program: {error.strerror}; "
                                         "install pycontainers anew") from error
            theirs.close()
            ours.settimeout(_START_TIMEOUT)
            with prepared(C.PYC_REQ_INIT, 0, int(self.rootless), keep, 0, os.fsencode(path), 0, 0, fds) as (message, numbers):
                socket.send_fds(ours, [message], numbers)
            self._await(ours, pid)
        except TimeoutError as error:
            raise BackendUnavailable(f"starting the launcher of {self._store.root}: it did not answer within "
                                     f"{_START_TIMEOUT:.0f} s") from error
        finally:
            ours.close()
            theirs.close()
            for fd in fds:
                os.close(fd)
            if pid:
                _reap(pid)

    def _await(self, ours: socket.socket, pid: int) -> None:
        while True:
            data = ours.recv(_CAPACITY)
            if not data:
                raise BackendUnavailable(f"starting the launcher of {self._store.root}: it ended at once; "
                                         "see `pycontainers doctor`")
            answer = Answer(data, [])
            if answer.kind == C.PYC_REPLY_DONE:
                return
            if answer.kind == C.PYC_REPLY_MAP_IDS:
                ids = self.ids
                assert ids is not None
                try:
                    _write_map(pid, ids)
                except BaseException:
                    os.kill(pid, signal.SIGKILL)
                    raise
                ours.send(_REQUEST.pack(C.PYC_REQUEST_MAGIC, C.PYC_REQ_INIT, 0, 0, 0, 0, 0, 0, 0))
                continue
            if answer.step == C.PYC_STEP_CGROUP_JOIN and answer.error in (errno.ENOENT, errno.ENODEV):
                raise FileNotFoundError(answer.error, os.strerror(answer.error), answer.text)
            raise BackendUnavailable(
                f"starting the launcher of {self._store.root}: {answer.text}: {os.strerror(answer.error)}; "
                "see `pycontainers doctor`")


def helper_program() -> int:
    """Return the helper program in a sealed memfd: no process that meets it can change it (CVE-2019-5736).

    Raises `BackendUnavailable`.
    """
    import pycontainers._native as package

    path = os.path.join(os.path.dirname(package.__file__ or ""), "pycontainers-launcher")
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        try:
            fd = os.memfd_create("pycontainers", flags | _MFD_EXEC)
        except OSError as error:
            # Kernels before 6.3 don't know the flag.
            if error.errno != errno.EINVAL:
                raise
            fd = os.memfd_create("pycontainers", flags)
    except OSError as error:
        raise BackendUnavailable(f"starting the launcher: making a program in memory: {error.strerror}; see `pycontainers "
                                 "doctor`") from error
    try:
        with open(path, "rb") as file:
            os.write(fd, file.read())
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE)
    except OSError as error:
        os.close(fd)
        raise BackendUnavailable(f"starting the launcher: {path}: {error.strerror}; install pycontainers anew, and see "
                                 "`pycontainers doctor`") from error
    return fd


def _execute(program: int, sock: socket.socket) -> int:
    """Start the program with the socket as its descriptor 3; the padding is room for supervisors' titles."""
    title = "x" * 100
    return os.posix_spawn(f"/proc/self/fd/{program}", ["pycontainers-launcher", title], {}, file_actions=[
        (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDWR, 0),
        (os.POSIX_SPAWN_DUP2, 0, 1), (os.POSIX_SPAWN_DUP2, 0, 2),
        (os.POSIX_SPAWN_DUP2, sock.fileno(), 3),
    ])


def _reap(pid: int) -> None:
    try:
        os.waitpid(pid, 0)
    except ChildProcessError:
        pass


class Trees:
    """Work on the store's trees, done in a child of the launcher: there the store's owner is root. Thread-safe."""

    def __init__(self) -> None:
        """Wait for `bind`: the store needs a worker before there is a launcher."""
        self._launcher: Launcher | None = None
        self._root = ""

    def bind(self, launcher: Launcher, store: Store) -> None:
        """Name the launcher to work through."""
        self._launcher = launcher
        self._root = store.root

    def ask(self, kind: int, *, a: int = 0, b: int = 0, c: int = 0, texts: Sequence[str] = (), second: str = "",
            fds: Sequence[int] = ()) -> Answer:
        """Do one job: `texts` are its first texts, `second` its other one. Raises `JobFailed`."""
        answer, connection = self._send(kind, a, b, c, texts, second, fds, None)
        connection.close()
        assert answer is not None
        if answer.kind == C.PYC_REPLY_FAILED:
            raise JobFailed(answer)
        return answer

    def begin(self, kind: int, *, a: int, b: int, texts: Sequence[str], second: str, fds: Sequence[int]) -> Connection:
        """Begin a job that writes into a descriptor; its answer comes over the connection at its end."""
        answer, connection = self._send(kind, a, b, 0, texts, second, fds, 0.0)
        if answer is not None:
            # What it wrote fits into the pipe: it has ended already.
            connection.close()
            if answer.kind == C.PYC_REPLY_FAILED:
                raise JobFailed(answer).translated("reading")
        return connection

    def _send(self, kind: int, a: int, b: int, c: int, texts: Sequence[str], second: str, fds: Sequence[int],
              timeout: float | None) -> tuple[Answer | None, Connection]:
        assert self._launcher is not None
        first = b"\0".join(os.fsencode(text) for text in texts) + b"\0\0"
        payload = first + os.fsencode(second) + b"\0"
        try:
            return self._launcher.ask(kind, a=a, b=b, c=c, payload=payload, text=0, text2=len(first), fds=fds, timeout=timeout)
        except Lost as error:
            raise StoreError(f"working in {self._root}: the process that did it was killed; try again") from error

    def unpack(self, tar_fd: int, target: str, *, whiteouts: bool) -> UnpackResult:
        """Unpack a tar below `target`; see `TreeWorker`."""
        assert self._launcher is not None
        flags = _UNPACK_ROOT_ENTRY | (_UNPACK_WHITEOUTS if whiteouts else 0)
        if self._launcher.rootless:
            flags |= _UNPACK_USERXATTR | _UNPACK_EMPTY_DEVICES
            ids = self._launcher.ids
            if ids is not None and ids.single:
                flags |= _UNPACK_NO_OWNER
        try:
            answer = self.ask(C.PYC_REQ_UNPACK, a=flags, texts=[UNPACK_LIMITS, ""], second=target, fds=[tar_fd])
        except JobFailed as error:
            raise error.translated(f"unpacking into {self._root}") from error
        return UnpackResult(size=answer.b, entries=answer.a)

    def remove(self, path: str) -> None:
        """Remove a tree. Idempotent."""
        if (self._launcher is not None and not self._launcher.rootless) or _own(f"{self._root}/{path}"):
            try:
                _remove_here(f"{self._root}/{path}")
                return
            except OSError:
                pass
        try:
            self.ask(C.PYC_REQ_REMOVE, texts=[path])
        except JobFailed as error:
            if error.answer.error != errno.ENOENT:
                raise store_error(OSError(error.answer.error, os.strerror(error.answer.error)),
                                  f"{self._root}/{path}", "removing") from error

    def usage(self, path: str) -> int:
        """Return the bytes that a tree takes."""
        try:
            return self.ask(C.PYC_REQ_USAGE, texts=[""], second=path).a
        except JobFailed as error:
            raise error.translated(f"measuring {self._root}/{path}") from error

    def sync(self) -> None:
        """Write the store's file system out (syncfs(2))."""
        try:
            self.ask(C.PYC_REQ_SYNC)
        except JobFailed as error:
            raise error.translated(f"syncing {self._root}") from error


def _own(path: str) -> bool:
    """Tell whether a path is a plain file of ours, or an empty directory, which needs no job to remove."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return True
    return not stat.S_ISDIR(status.st_mode)


def _remove_here(path: str) -> None:
    """Remove a file or an empty directory; raises OSError for a tree, which is a job's."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
    except (IsADirectoryError, PermissionError):
        os.rmdir(path)


_UNPACK_NO_OWNER = 1
_UNPACK_WHITEOUTS = 4
_UNPACK_USERXATTR = 8
_UNPACK_KEEP_DIR_LINKS = 16
_UNPACK_SAME_KIND = 32
_UNPACK_EMPTY_DEVICES = 64
_UNPACK_ROOT_ENTRY = 256
_UNPACK_NEED_END = 512
#: Entries, bytes of content (the reader limits their expansion), and the size of one file, holes included.
UNPACK_LIMITS = f"2000000 0 {64 << 30}"

_ARCHIVE_STEP_CORRUPT = 2
_ARCHIVE_STEP_LIMIT = 3
_ARCHIVE_STEP_ESCAPE = 4


class JobFailed(Exception):
    """A job's failure as the C core told it."""

    def __init__(self, answer: Answer) -> None:
        """Keep the answer."""
        super().__init__(answer.text)
        self.answer = answer

    def translated(self, doing: str) -> Exception:
        """Return the error of our tree that this is."""
        answer = self.answer
        if answer.step == C.PYC_STEP_ARCHIVE:
            if answer.op == _ARCHIVE_STEP_LIMIT:
                return LimitExceeded(f"{doing}: {answer.text!r} exceeds the limits of archives")
            if answer.op in (_ARCHIVE_STEP_CORRUPT, _ARCHIVE_STEP_ESCAPE):
                reason = f"the archive is truncated or malformed at {answer.text!r}; nothing of it was kept"
                return CorruptArchive(f"{doing}: {reason}")
        return store_error(OSError(answer.error, os.strerror(answer.error)), answer.text, doing)
