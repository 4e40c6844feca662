"""The store on disk: its layout, its locks, its database, and the sweeping of what a killed process left half done.

Everything below one root directory belongs to one user and may be used by any number of threads and processes at once:

    version                       the layout's number
    lock                          flock: shared by whoever changes something, exclusive for the sweeper
    db.sqlite3  db.lock           names, tags and layer references; and the turnstile of its writers
    containers/<2 hex>/<id>/      one container
    layers/<2 hex>/<diff id>/     one unpacked layer, never changed afterwards
    images/<id>.json              one image's config, whose SHA-256 is the image's id
    host/<name>/                  small layers for the machine's own root as an image
    tmp/  trash/  run/            half made, half removed, sockets

A change is made inside `Store.mutating()`. It may be killed at any moment: every step leaves either a row without its
directory or a directory without its row, and the sweeper removes both. A container is made directory first, then row;
so a row whose directory is missing is always stale.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import sqlite3
import threading
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from contextlib import contextmanager
from contextlib import suppress
from time import time
from types import TracebackType
from typing import Any
from typing import NamedTuple
from typing import Protocol

from pycontainers.backends.native.locks import locked
from pycontainers.errors import AmbiguousName
from pycontainers.errors import ContainerNotFound
from pycontainers.errors import ImageNotFound
from pycontainers.errors import NameInUse
from pycontainers.errors import StoreError
from pycontainers.errors import StoreFull
from pycontainers.errors import StoreVersion

#: The layout's number; a store with a higher one was written by a newer release.
VERSION = 1

_DIRECTORIES = ("containers", "layers", "images", "host", "tmp", "trash", "run", "mnt", "binds", "base")
_FILES = ("version", "lock", "events")
#: Those whose 256 subdirectories ext4 shall spread over its block groups: it is slow where inodes were just deleted.
_SPREAD = ("containers", "layers")
_FS_IOC_GETFLAGS = 0x80086601
_FS_IOC_SETFLAGS = 0x40086602
_FS_TOPDIR_FL = 0x00020000
#: Bytes of `lock`, each of which is 1 while a change is under way; one left behind tells of a killed process.
_MARKS = 512
_UNMARKED = bytes(_MARKS)
_BUSY_TIMEOUT = 30.0
_HEX = re.compile(r"[0-9a-f]{1,64}")

# Ids are the primary keys themselves: a lookup by prefix is a range of the table's own tree.
_SCHEMA = """
CREATE TABLE images (
    id TEXT PRIMARY KEY, created REAL NOT NULL, parent TEXT NOT NULL, size INTEGER NOT NULL,
    removed INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE TABLE tags (
    reference TEXT PRIMARY KEY, image_id TEXT NOT NULL REFERENCES images(id) ON DELETE CASCADE
) WITHOUT ROWID;
CREATE INDEX tags_by_image ON tags(image_id);
CREATE TABLE image_layers (
    image_id TEXT NOT NULL REFERENCES images(id) ON DELETE CASCADE, position INTEGER NOT NULL, diff_id TEXT NOT NULL,
    PRIMARY KEY (image_id, position)
) WITHOUT ROWID;
CREATE INDEX image_layers_by_layer ON image_layers(diff_id);
CREATE TABLE containers (
    id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, image_id TEXT REFERENCES images(id),
    lifetime TEXT NOT NULL, creator TEXT NOT NULL, created REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX containers_by_image ON containers(image_id);
"""


class UnpackResult(NamedTuple):
    """What unpacking wrote: bytes of file content, and entries."""

    size: int
    entries: int


class TreeWorker(Protocol):
    """Work on trees of files that may belong to other users; paths are relative to the store's root."""

    def unpack(self, tar_fd: int, target: str, *, whiteouts: bool) -> UnpackResult:
        """Unpack an uncompressed tar, read from a pipe or file to its end, below the empty directory `target`.

        With `whiteouts`, OCI's `.wh.` entries become overlayfs's. Raises `CorruptArchive`, `StoreFull`, `StoreError`.
        On an error `target` holds anything; the caller removes it.
        """
        ...

    def remove(self, path: str) -> None:
        """Remove a file or tree, never crossing a mount. Idempotent, also while another process removes it."""

    def usage(self, path: str) -> int:
        """Return the bytes that the tree's files take on disk, hard links once."""
        ...

    def sync(self) -> None:
        """Write the store's file system to disk, as syncfs(2) does."""
        ...


class ContainerRow(NamedTuple):
    """What the database knows of a container. `creator` is of `Store.creator()`."""

    id: str
    name: str
    image_id: str
    lifetime: str
    creator: str
    created: float


#: Called by the sweeper with the ids of containers that are about to be removed; ends whatever still runs in them.
Sweeper = Callable[[Sequence[str]], None]


def new_id() -> str:
    """Return a new random id: 64 hexadecimal digits, not all of the first twelve decimal (as Docker has it)."""
    while True:
        result = os.urandom(32).hex()
        if not result[:12].isdigit():
            return result


def store_error(error: OSError, path: str, doing: str) -> StoreError:
    """Return the error that tells of a failed call on the store: what was done, where, why, and what mends it."""
    reason = f"{doing} {path}: {error.strerror or error}"
    result: StoreError
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        result = StoreFull(f"{reason}; free some room there (`pycontainers system prune`), or use another root")
    elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        result = StoreError(f"{reason}; the store must be yours and writable, or use another root")
    else:
        result = StoreError(reason)
    result.errno = error.errno
    return result


class _Connection:
    """One thread's connection, and its own way through the turnstile of writers."""

    __slots__ = ("__weakref__", "gate", "pid", "raw")

    def __init__(self, path: str, gate: str) -> None:
        self.pid = os.getpid()
        # SQLite polls with growing naps when two write at once; a flock of each connection's own makes them queue.
        self.gate = os.open(gate, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self.raw = sqlite3.connect(path, timeout=_BUSY_TIMEOUT, isolation_level=None, check_same_thread=False)
        except BaseException:
            os.close(self.gate)
            raise
        _connections[id(self)] = self.gate, self.raw

    def __del__(self) -> None:
        gate, raw = _connections.pop(id(self), (-1, None))
        if raw is not None:
            os.close(gate)
            raw.close()


class _Hold:
    """An entry of `mutating`: a shared lock on a file description of its own, and its mark."""

    __slots__ = ("_store", "fd", "slot")

    def __init__(self, store: Store) -> None:
        self._store = store
        self.fd = -1
        self.slot = -1

    def __enter__(self) -> None:
        store = self._store
        if store._sweeping():
            return
        if store._swept != os.getpid():
            store.sweep()
        try:
            self.fd = os.open(store._lock, os.O_RDWR | os.O_CLOEXEC)
            _holds.add(self)
            marks = os.pread(self.fd, _MARKS, 0)
            if marks != _UNMARKED:
                store.sweep(again=False)
            fcntl.flock(self.fd, fcntl.LOCK_SH)
            # Two may take the same byte; that only hides a mark until the next process sweeps.
            self.slot = max(marks.find(b"\0", os.getpid() % (_MARKS // 2)), 0)
            os.pwrite(self.fd, b"\1", self.slot)
        except BaseException as error:
            self._leave()
            if isinstance(error, OSError):
                raise store_error(error, store._lock, "locking") from error
            raise

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._leave()

    def _leave(self) -> None:
        _holds.discard(self)
        if self.fd >= 0:
            if self.slot >= 0:
                with suppress(OSError):
                    os.pwrite(self.fd, b"\0", self.slot)
            os.close(self.fd)
            self.fd = -1


# What a forked child must give up: its copies of descriptors would keep the parent's locks after the parent's death,
# and SQLite forbids using, even closing, a connection that was carried over a fork.
_connections: dict[int, tuple[int, sqlite3.Connection]] = {}
_holds: set[_Hold] = set()
_carried: list[sqlite3.Connection] = []


def _forked() -> None:
    for gate, raw in _connections.values():
        os.close(gate)
        _carried.append(raw)
    _connections.clear()
    for hold in _holds:
        os.close(hold.fd)
        hold.fd = -1
    _holds.clear()


os.register_at_fork(after_in_child=_forked)


class Store:
    """One store. Opened at its first use; thread-safe, usable after a fork. Nothing needs closing."""

    def __init__(self, root: str | os.PathLike[str], trees: TreeWorker) -> None:
        """Name the root, an absolute path, and who works on its trees. Touches nothing."""
        self.root = os.path.abspath(root)
        self.trees = trees
        #: Called in turn by `sweep`, under the exclusive lock.
        self.sweepers: list[Sweeper] = []
        self._lock = f"{self.root}/lock"
        self._local = threading.local()
        self._opened = False
        self._swept = 0
        self._creator = (0, "")

    def path(self, relative: str) -> str:
        """Return a path of the store as an absolute one."""
        return f"{self.root}/{relative}"

    # -- opening ------------------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Make the store if it is new, and check its version. Idempotent; every other method does it too.

        Raises `StoreVersion`, `StoreFull`, `StoreError`.
        """
        if self._opened:
            return
        try:
            self._check()
        except OSError as error:
            if isinstance(error, StoreError):
                raise
            raise store_error(error, str(error.filename or self.root), "opening the store:") from error
        self._opened = True

    def _check(self) -> None:
        os.makedirs(self.root, 0o700, exist_ok=True)
        status = os.stat(self.root)
        if status.st_uid != os.geteuid():
            raise StoreError(f"opening the store {self.root}: it belongs to user {status.st_uid}; "
                             "use a root of your own")
        try:
            with open(self.path("version"), encoding="ascii", errors="replace") as file:
                text = file.read().strip()
        except FileNotFoundError:
            text = ""
        if not text:
            foreign = sorted(name for name in set(os.listdir(self.root)) - {*_DIRECTORIES, *_FILES}
                             if not name.startswith("db."))
            if foreign:
                raise StoreError(f"opening the store {self.root}: the directory holds other things ({foreign[0]!r}) "
                                 "and no store; name an empty or a new one")
            os.chmod(self.root, 0o700)
            self._make()
        elif not text.isdigit():
            raise StoreError(f"opening the store {self.root}: its version file holds {text[:40]!r}; "
                             f"it should hold {VERSION}")
        elif int(text) > VERSION:
            raise _newer(self.root, text)

    def _make(self) -> None:
        for name in _DIRECTORIES:
            os.makedirs(self.path(name), 0o700, exist_ok=True)
        for name in _SPREAD:
            _spread(self.path(name))
        self._make_base()
        fd = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if os.fstat(fd).st_size < _MARKS:
                os.pwrite(fd, _UNMARKED, 0)
        finally:
            os.close(fd)
        # Last, and short enough to be written in one piece: who finds it finds all of the above.
        with open(self.path("version"), "w", encoding="ascii") as file:
            file.write(f"{VERSION}\n")

    def _make_base(self) -> None:
        """Fill the layer below all others: where a container's own mounts go if its image has no such places."""
        for name in ("dev", "proc", "sys", "etc"):
            os.makedirs(self.path(f"base/{name}"), 0o755, exist_ok=True)
        for name in ("hosts", "hostname", "resolv.conf"):
            os.close(os.open(self.path(f"base/etc/{name}"), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644))
        with suppress(FileExistsError):
            os.symlink("/proc/mounts", self.path("base/etc/mtab"))
        os.chmod(self.path("base"), 0o755)

    def _connection(self) -> _Connection:
        connection: _Connection | None = getattr(self._local, "connection", None)
        if connection is not None and connection.pid == os.getpid():
            return connection
        self.open()
        path = self.path("db.sqlite3")
        try:
            connection = _Connection(path, self.path("db.lock"))
            raw = connection.raw
            raw.execute("PRAGMA synchronous=NORMAL")
            raw.execute("PRAGMA foreign_keys=ON")
            # A checkpoint syncs: rather 16 MiB of log than one such pause every 200 containers.
            raw.execute("PRAGMA wal_autocheckpoint=4096")
            found = raw.execute("PRAGMA user_version").fetchone()[0]
            if found == 0:
                self._create(connection)
            elif found > VERSION:
                raise _newer(path, found)
        except sqlite3.Error as error:
            raise self._failure(error) from error
        except OSError as error:
            if isinstance(error, StoreError):
                raise
            raise store_error(error, path, "opening") from error
        self._local.connection = connection
        return connection

    def _create(self, connection: _Connection) -> None:
        raw = connection.raw
        try:
            fcntl.flock(connection.gate, fcntl.LOCK_EX)
            raw.execute("PRAGMA journal_mode=WAL").fetchone()
            raw.execute("BEGIN IMMEDIATE")
            try:
                if raw.execute("PRAGMA user_version").fetchone()[0] == 0:
                    for statement in _SCHEMA.split(";")[:-1]:
                        raw.execute(statement)
                    raw.execute(f"PRAGMA user_version={VERSION}")
                raw.execute("COMMIT")
            finally:
                if raw.in_transaction:
                    raw.execute("ROLLBACK")
        finally:
            fcntl.flock(connection.gate, fcntl.LOCK_UN)

    def _failure(self, error: sqlite3.Error) -> StoreError:
        path = self.path("db.sqlite3")
        # Python 3.10 gives no code; SQLite's own texts for these are constant.
        code = getattr(error, "sqlite_errorcode", None)
        number = code & 0xFF if isinstance(code, int) else _SQLITE_TEXTS.get(str(error), 1)
        if number == _SQLITE_FULL or (number in (_SQLITE_IOERR, _SQLITE_CANTOPEN) and _full(self.root)):
            return store_error(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), path, "writing")
        if number == _SQLITE_READONLY:
            return store_error(OSError(errno.EROFS, str(error)), path, "writing")
        if number in (_SQLITE_CORRUPT, _SQLITE_NOTADB):
            return StoreError(f"reading {path}: {error}; the database is damaged: restore it from a backup, or "
                              f"stop all containers of this store, remove {self.root} and begin anew")
        if number in (_SQLITE_BUSY, _SQLITE_LOCKED):
            return StoreError(f"writing {path}: {error} by another process for {_BUSY_TIMEOUT:.0f} s; see who holds it "
                              "with `fuser`, and try again")
        return StoreError(f"using {path}: {error}")

    # -- the database -------------------------------------------------------------------------------------------------

    def read(self, sql: str, arguments: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Return a query's rows."""
        connection = self._connection()
        try:
            return connection.raw.execute(sql, arguments).fetchall()
        except sqlite3.Error as error:
            raise self._failure(error) from error

    def write(self, sql: str, arguments: Sequence[Any] = ()) -> int:
        """Carry out one statement as a transaction of its own; returns how many rows it changed.

        Raises `sqlite3.IntegrityError` where a constraint fails, `StoreFull` and `StoreError` else.
        """
        connection = self._connection()
        try:
            fcntl.flock(connection.gate, fcntl.LOCK_EX)
            return connection.raw.execute(sql, arguments).rowcount
        except sqlite3.IntegrityError:
            raise
        except sqlite3.Error as error:
            raise self._failure(error) from error
        finally:
            fcntl.flock(connection.gate, fcntl.LOCK_UN)

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Give a connection inside a write transaction, committed at the end, undone on any error.

        Don't nest it; enter `mutating` before it, never inside. Raises as `write`.
        """
        connection = self._connection()
        raw = connection.raw
        try:
            fcntl.flock(connection.gate, fcntl.LOCK_EX)
            raw.execute("BEGIN IMMEDIATE")
            yield raw
            raw.execute("COMMIT")
        except sqlite3.IntegrityError:
            raise
        except sqlite3.Error as error:
            raise self._failure(error) from error
        finally:
            try:
                if raw.in_transaction:
                    with suppress(sqlite3.Error):
                        raw.execute("ROLLBACK")
            finally:
                fcntl.flock(connection.gate, fcntl.LOCK_UN)

    # -- changing and sweeping ----------------------------------------------------------------------------------------

    def mutating(self) -> _Hold:
        """Return a context in which the store may be changed; no sweeper runs meanwhile. May be nested.

        Raises `StoreError` on entering.
        """
        return _Hold(self)

    def settle(self) -> None:
        """Sweep if this process has not yet, or if another one died inside a `mutating` block; a few us otherwise.

        Raises `StoreError`.
        """
        self.sweep(again=False)

    def sweep(self, *, again: bool = True) -> bool:
        """Remove what was left half done, by whomever. False when someone is changing the store: nothing was done then.

        With `again=False` as `settle` says. Idempotent. Raises `StoreError`.
        """
        if self._sweeping():
            return True
        self.open()
        again = again or self._swept != os.getpid()
        try:
            fd = os.open(self._lock, os.O_RDWR | os.O_CLOEXEC)
            try:
                if not again and os.pread(fd, _MARKS, 0) == _UNMARKED:
                    return True
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # Now nobody is inside: a mark that is still there is a dead one's.
                if not again and os.pread(fd, _MARKS, 0) == _UNMARKED:
                    return True
                self._local.sweeping = True
                self._sweep()
                os.pwrite(fd, _UNMARKED, 0)
            finally:
                self._local.sweeping = False
                os.close(fd)
            self._swept = os.getpid()
            # Nobody refers to what is there, so this needs no lock; and it may take a while.
            for name in os.listdir(self.path("trash")):
                self.trees.remove(f"trash/{name}")
        except BlockingIOError:
            return False
        except OSError as error:
            if isinstance(error, StoreError):
                raise
            raise store_error(error, str(error.filename or self.root), "sweeping the store:") from error
        return True

    def _sweeping(self) -> bool:
        return getattr(self._local, "sweeping", False)

    def _sweep(self) -> None:
        rows = {row.id: row for row in self.containers()}
        found = set(self._entries("containers"))
        gone = [id for id in found if id not in rows or self._abandoned(rows[id])]
        for sweeper in self.sweepers:
            sweeper(gone)
        for id in gone:
            self.trash(self.container_dir(id))
        stale = [id for id in rows if id not in found or id in gone]
        if stale:
            with self.transaction() as db:
                db.executemany("DELETE FROM containers WHERE id=?", [(id,) for id in stale])
        for name in os.listdir(self.path("tmp")):
            self.trash(f"tmp/{name}")
        self.collect()

    def _abandoned(self, row: ContainerRow) -> bool:
        if row.lifetime != "process" or self.alive(row.creator):
            return False
        # Its supervisor holds the lock of its state, and removes it in the end.
        try:
            fd = os.open(self.path(f"{self.container_dir(row.id)}/state"), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return True
        try:
            return not locked(fd)
        finally:
            os.close(fd)

    def collect(self) -> list[str]:
        """Remove removed images that no container uses any more, images whose files are lost, and layers of no image.

        Returns where in the trash the layers are now. Whoever enters an image does it in a transaction, and looks there
        whether its layers are in place. Idempotent.
        """
        with self.transaction() as db:
            layers = set(self._entries("layers"))
            files = set(os.listdir(self.path("images")))
            db.execute("DELETE FROM images WHERE removed AND id NOT IN "
                       "(SELECT image_id FROM containers WHERE image_id IS NOT NULL)")
            for id, in db.execute("SELECT id FROM images").fetchall():
                wanted = db.execute("SELECT diff_id FROM image_layers WHERE image_id=?", (id,)).fetchall()
                if f"{_digits(id)}.json" not in files or any(_digits(diff_id) not in layers for diff_id, in wanted):
                    db.execute("UPDATE containers SET image_id=NULL WHERE image_id=?", (id,))
                    db.execute("DELETE FROM images WHERE id=?", (id,))
            files -= {f"{_digits(id)}.json" for id, in db.execute("SELECT id FROM images")}
            layers -= {_digits(diff_id) for diff_id, in db.execute("SELECT diff_id FROM image_layers")}
            for name in files:
                with suppress(FileNotFoundError):
                    os.unlink(self.path(f"images/{name}"))
            return [self.trash(self.layer_dir(name)) for name in layers]

    def _entries(self, kind: str) -> Iterable[str]:
        base = self.path(kind)
        for bucket in os.listdir(base):
            with suppress(NotADirectoryError, FileNotFoundError):
                yield from os.listdir(f"{base}/{bucket}")

    def trash(self, relative: str) -> str:
        """Move a file or tree into the trash, atomically; returns its new path, or "" if it was gone. Idempotent."""
        target = f"trash/{new_id()[:32]}"
        try:
            os.rename(self.path(relative), self.path(target))
        except FileNotFoundError:
            return ""
        except OSError as error:
            raise store_error(error, self.path(relative), "removing") from error
        return target

    def make_tmp(self) -> str:
        """Make an empty directory for something half made; returns its path. The sweeper removes it if nobody does."""
        self.open()
        relative = f"tmp/{new_id()[:32]}"
        try:
            os.mkdir(self.path(relative), 0o700)
        except OSError as error:
            raise store_error(error, self.path(relative), "making") from error
        return relative

    # -- creators -----------------------------------------------------------------------------------------------------

    def creator(self) -> str:
        """Return a text that names this process, now and for ever: boot, process namespace, pid and start time."""
        pid = os.getpid()
        if self._creator[0] != pid:
            self._creator = pid, f"{_boot()}:{_namespace()}:{pid}:{_start_time(pid)}"
        return self._creator[1]

    def alive(self, creator: str) -> bool:
        """Tell whether that process still lives. One of another process namespace counts as alive until a reboot."""
        boot, namespace, pid, start = creator.split(":")
        return boot == _boot() and (namespace != _namespace() or start == _start_time(int(pid)))

    # -- containers ---------------------------------------------------------------------------------------------------

    def container_dir(self, id: str) -> str:
        """Return a container's directory, relative to the root."""
        return f"containers/{id[:2]}/{id}"

    def layer_dir(self, diff_id: str) -> str:
        """Return a layer's directory, relative to the root; `diff_id` with or without its `sha256:`."""
        digits = _digits(diff_id)
        return f"layers/{digits[:2]}/{digits}"

    def make_dir(self, relative: str) -> None:
        """Make a container's directory, and its bucket when it is the first there. Raises `StoreFull`, `StoreError`."""
        path = self.path(relative)
        try:
            try:
                os.mkdir(path, 0o700)
            except FileNotFoundError:
                self.open()
                os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
                os.mkdir(path, 0o700)
        except OSError as error:
            if isinstance(error, StoreError):
                raise
            raise store_error(error, path, "making") from error

    def insert_container(self, id: str, name: str, image_id: str | None = None, *, lifetime: str = "detached",
                         created: float | None = None) -> None:
        """Enter a container whose directory is there already, with this process as its creator. Atomic.

        Raises `NameInUse`, `ImageNotFound`, `StoreFull`. A name whose owner's directory is gone is free.
        """
        row = (id, name, image_id, lifetime, self.creator(), time() if created is None else created)
        while True:
            try:
                self.write("INSERT INTO containers VALUES (?, ?, ?, ?, ?, ?)", row)
                return
            except sqlite3.IntegrityError as error:
                if not self._free(name):
                    self._taken(name)
                    if image_id and not self.read("SELECT 1 FROM images WHERE id=?", (image_id,)):
                        raise ImageNotFound(f"No such image: {image_id}") from None
                    if self.read("SELECT 1 FROM containers WHERE id=?", (id,)):
                        raise StoreError(f"entering container {id}: it is there already") from error

    def _free(self, name: str) -> bool:
        """Remove the row that holds the name if its directory is gone; tell whether it did."""
        for id, in self.read("SELECT id FROM containers WHERE name=?", (name,)):
            if not os.path.isdir(self.path(self.container_dir(id))):
                return self.write("DELETE FROM containers WHERE id=?", (id,)) > 0
        return False

    def _taken(self, name: str) -> None:
        for id, in self.read("SELECT id FROM containers WHERE name=?", (name,)):
            raise NameInUse(f'Conflict. The container name "/{name}" is already in use by container "{id}". You have '
                            "to remove (or rename) that container to be able to reuse that name.")

    def delete_container(self, id: str) -> bool:
        """Take a container's row away; False if there was none. Idempotent, atomic."""
        return self.write("DELETE FROM containers WHERE id=?", (id,)) > 0

    def rename_container(self, id: str, name: str) -> None:
        """Give a container another name. Atomic; its own name is no error. Raises `NameInUse`, `ContainerNotFound`."""
        while True:
            try:
                if not self.write("UPDATE containers SET name=? WHERE id=?", (name, id)):
                    raise ContainerNotFound(f"No such container: {id}")
                return
            except sqlite3.IntegrityError:
                if not self._free(name):
                    self._taken(name)

    def find_container(self, ref: str) -> tuple[str, str]:
        """Return id and name of the container with that id, name, or unambiguous prefix of an id, in this order.

        Raises `ContainerNotFound`, `AmbiguousName`.
        """
        ref = ref.removeprefix("/")
        if _HEX.fullmatch(ref):
            rows = self.read("SELECT 0 AS rank, id, name FROM containers WHERE id=?1 UNION ALL "
                             "SELECT 1, id, name FROM containers WHERE name=?1 UNION ALL "
                             "SELECT * FROM (SELECT 2, id, name FROM containers WHERE id>?1 AND id<?1||'g' LIMIT 2) "
                             "ORDER BY rank", (ref,))
        else:
            # No name holds what is no text.
            rows = self.read("SELECT 1, id, name FROM containers WHERE name=?", (ref,)) if ref.isascii() else []
        if not rows:
            raise ContainerNotFound(f"No such container: {ref}")
        rank, id, name = rows[0]
        if rank == 2 and len(rows) > 1:
            raise AmbiguousName(f"multiple containers found with provided prefix: {ref}; give more of its digits")
        return id, name

    def containers(self, image_id: str | None = None) -> list[ContainerRow]:
        """Return the rows of all containers, or of one image's, newest first."""
        where = "" if image_id is None else "WHERE image_id=? "
        return [ContainerRow(*row) for row in self.read(
            "SELECT id, name, ifnull(image_id, ''), lifetime, creator, created FROM containers "
            f"{where}ORDER BY created DESC, id", () if image_id is None else (image_id,))]


_SQLITE_BUSY, _SQLITE_LOCKED, _SQLITE_READONLY, _SQLITE_IOERR, _SQLITE_CORRUPT = 5, 6, 8, 10, 11
_SQLITE_FULL, _SQLITE_CANTOPEN, _SQLITE_NOTADB = 13, 14, 26
_SQLITE_TEXTS = {
    "database is locked": _SQLITE_BUSY,
    "database table is locked": _SQLITE_LOCKED,
    "attempt to write a readonly database": _SQLITE_READONLY,
    "disk I/O error": _SQLITE_IOERR,
    "database disk image is malformed": _SQLITE_CORRUPT,
    "database or disk is full": _SQLITE_FULL,
    "unable to open database file": _SQLITE_CANTOPEN,
    "file is not a database": _SQLITE_NOTADB,
}


def _digits(digest: str) -> str:
    return digest.removeprefix("sha256:")


def _newer(path: str, version: object) -> StoreVersion:
    return StoreVersion(f"opening the store {path}: it has version {version}, written by a newer pycontainers; this "
                        f"one knows {VERSION}: upgrade with `pip install -U pycontainers`, or use another root")


def _full(path: str) -> bool:
    status = os.statvfs(path)
    return status.f_bavail == 0 or (status.f_files > 0 and status.f_favail == 0)


def _spread(path: str) -> None:
    """Set the directory flag TOPDIR, where the file system knows it."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        flags = bytearray(8)
        fcntl.ioctl(fd, _FS_IOC_GETFLAGS, flags)
        value = int.from_bytes(flags, "little") | _FS_TOPDIR_FL
        fcntl.ioctl(fd, _FS_IOC_SETFLAGS, value.to_bytes(8, "little"))
    except OSError as error:
        if error.errno not in (errno.ENOTTY, errno.EOPNOTSUPP, errno.EINVAL, errno.EPERM):
            raise
    finally:
        os.close(fd)


_boot_id = ""


def _boot() -> str:
    global _boot_id
    if not _boot_id:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            _boot_id = file.read().strip()
    return _boot_id


def _namespace() -> str:
    return os.readlink("/proc/self/ns/pid")[5:-1]


def _start_time(pid: int) -> str:
    """Return field 22 of /proc/<pid>/stat, clock ticks since boot; "" if there is no such process or it is a zombie."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return "" if fields[0] in (b"Z", b"X") else fields[19].decode()
