"""Images of the native backend: importing, finding, tagging, removing, and the layers that containers stand on."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import signal
import sqlite3
import threading
from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from functools import lru_cache
from time import time
from types import TracebackType
from typing import TYPE_CHECKING
from typing import NamedTuple

from attrs import evolve
from attrs import frozen

from pycontainers.backend import ImageRecord
from pycontainers.backend import LayerRecord
from pycontainers.backend import Removed
from pycontainers.backends.native import hostimage
from pycontainers.backends.native.store import Store
from pycontainers.backends.native.store import UnpackResult
from pycontainers.backends.native.store import store_error
from pycontainers.errors import AmbiguousName
from pycontainers.errors import CorruptArchive
from pycontainers.errors import ImageNotFound
from pycontainers.errors import InUse
from pycontainers.errors import InvalidReference
from pycontainers.errors import StoreError
from pycontainers.oci.config import History
from pycontainers.oci.config import ImageDocument
from pycontainers.oci.config import decode_document
from pycontainers.oci.config import encode_document
from pycontainers.oci.config import machine_platform
from pycontainers.oci.names import familiar
from pycontainers.oci.names import parse_reference
from pycontainers.spec import ImageUpdate
from pycontainers.spec import ImportSpec
from pycontainers.spec import Strings

if TYPE_CHECKING:
    from pycontainers.oci.compression import ArchiveReader
    from pycontainers.oci.compression import Limits
    from pycontainers.oci.packing import DirectoryReader

Records = list[ImageRecord]

_ID = re.compile(r"(?:sha256:)?([0-9a-f]{1,64})")
_F_SETPIPE_SZ = 1031
_PIPE = 1024**2
#: Zeros at a tar's end.
_END = 1024


class LayerMeta(NamedTuple):
    """What `meta.json` says of an unpacked layer: bytes of content, entries, bytes of the uncompressed tar."""

    size: int
    entries: int
    tar_size: int


@frozen
class _Layer:
    """A layer unpacked in `tmp`, or one that is in place already."""

    diff_id: str
    tmp: str = ""


class Images:
    """The images of one store; thread-safe. A `ref` is a reference, an id, an unambiguous id prefix, or `host`."""

    def __init__(self, store: Store, *, limits: Limits | None = None) -> None:
        """Name the store; `limits` bound what an archive may expand to (None: the defaults)."""
        self._store = store
        self._limits = limits
        # Both are content-addressed, so they never change.
        self._document = lru_cache(maxsize=256)(self._read_document)
        self._meta = lru_cache(maxsize=4096)(self._read_meta)

    # -- finding ------------------------------------------------------------------------------------------------------

    def resolve(self, ref: str) -> str:
        """Return an image's id, `sha256:` and 64 digits. Raises `ImageNotFound`, `AmbiguousName`, `InvalidReference`."""
        return self._find(ref)[0]

    def _find(self, ref: str) -> tuple[str, str]:
        """Return an image's id, and the reference that found it, "" if its id did."""
        if ref == hostimage.NAME:
            return self.host(), _text(ref)
        match = _ID.fullmatch(ref)
        digits = match[1] if match else ""
        name = "" if ref.startswith("sha256:") or len(digits) == 64 else _text(ref)
        rows = self._store.read(
            "SELECT 0 AS rank, image_id FROM tags WHERE reference=?1 UNION ALL "
            "SELECT * FROM (SELECT 1, id FROM images WHERE ?2 AND id>='sha256:'||?3 AND id<'sha256:'||?3||'g' "
            "AND NOT removed LIMIT 2) ORDER BY rank", (name, bool(digits), digits))
        if not rows:
            raise ImageNotFound(f"No such image: {familiar(name) if name else ref}")
        rank, id = rows[0]
        if rank == 1 and len(rows) > 1:
            raise AmbiguousName(f"multiple images found with provided prefix: {ref}; give more of its digits")
        return id, "" if rank else name

    def get(self, ref: str) -> ImageRecord:
        """Return an image. Raises as `resolve`."""
        id = self.resolve(ref)
        for record in self._records("WHERE id=?", (id,)):
            return record
        raise ImageNotFound(f"No such image: {ref}")

    def list(self) -> Records:
        """Return all images, newest first; never raises because one went away meanwhile."""
        return self._records("WHERE NOT removed", ())

    def document(self, id: str) -> ImageDocument:
        """Return what an image's config says, a removed one's too while containers use it. Raises `ImageNotFound`."""
        return self._document(id)

    def lowers(self, id: str) -> Strings:
        """Return the directories of an image's layers relative to the store, topmost first, as overlayfs wants them.

        Below them lies the machine's own root when `document(id).host` is not empty.
        """
        return tuple(f"{self._store.layer_dir(diff_id)}/fs" for diff_id in reversed(self._document(id).diff_ids))

    def _records(self, where: str, arguments: tuple[object, ...]) -> Records:
        store = self._store
        rows = store.read(f"SELECT id, created, parent FROM images {where} ORDER BY created DESC, id", arguments)
        references: dict[str, list[str]] = {}
        for reference, id in store.read("SELECT reference, image_id FROM tags ORDER BY reference"):
            references.setdefault(id, []).append(reference)
        result = []
        for id, created, parent in rows:
            with suppress(ImageNotFound):
                result.append(self._record(id, created, parent, references.get(id, ())))
        return result

    def _record(self, id: str, created: float, parent: str, references: Iterable[str]) -> ImageRecord:
        document = self._document(id)
        layers = self._layers(document)
        return ImageRecord(
            id=id,
            tags=tuple(text for text in references if "@" not in text),
            digests=tuple(text for text in references if "@" in text),
            created=document.created or created,
            size=sum(layer.size for layer in layers),
            config=document.config,
            layers=layers,
            parent=parent,
        )

    def _layers(self, document: ImageDocument) -> tuple[LayerRecord, ...]:
        history: tuple[History, ...] = document.history
        # A config whose history does not fit its layers (it may lack one) tells nothing of each.
        if sum(not entry.empty for entry in history) != len(document.diff_ids):
            history = (History(created=document.created),) * len(document.diff_ids)
        left = iter(document.diff_ids)
        result = []
        for entry in history:
            diff_id = "" if entry.empty else next(left)
            result.append(LayerRecord(
                diff_id=diff_id, digest=diff_id, size=self._meta(diff_id).size if diff_id else 0, created=entry.created,
                created_by=entry.created_by, comment=entry.comment, empty=entry.empty))
        return tuple(result)

    def _read_document(self, id: str) -> ImageDocument:
        path = self._store.path(_config_file(id))
        try:
            with open(path, "rb") as file:
                return decode_document(file.read())
        except FileNotFoundError as error:
            raise ImageNotFound(f"No such image: {id}") from error
        except OSError as error:
            raise store_error(error, path, "reading") from error

    def _read_meta(self, diff_id: str) -> LayerMeta:
        path = self._store.path(f"{self._store.layer_dir(diff_id)}/meta.json")
        try:
            with open(path, "rb") as file:
                data = json.load(file)
            return LayerMeta(data["size"], data["entries"], data["tar_size"])
        except FileNotFoundError as error:
            raise ImageNotFound(f"No such layer: {diff_id}") from error
        except OSError as error:
            raise store_error(error, path, "reading") from error
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(f"reading {path}: it is damaged ({error}); remove the image and import it anew") from error

    # -- making -------------------------------------------------------------------------------------------------------

    def import_rootfs(self, spec: ImportSpec) -> str:
        """Make an image of one layer from a directory or a tar, and return its id. Atomic.

        A layer that is here already is kept. Raises `InvalidReference`, `NotFound`, `CorruptArchive`, `LimitExceeded`,
        `StoreFull`, `ContainersError`.
        """
        tag = _tag(spec.reference) if spec.reference else ""
        with self._store.mutating():
            tmp = self._store.make_tmp()
            try:
                reader = self._open(spec.source)
                comment = spec.message or f"Imported from {reader.name}"
                diff_id = self._unpack(reader, tmp)
                created = time()
                architecture, variant = machine_platform()
                config = spec.config
                if not config.architecture:
                    config = evolve(config, architecture=architecture, variant=variant)
                return self._enter([_Layer(diff_id, tmp)], tmp, tag, ImageDocument(
                    config=config, diff_ids=(diff_id,), created=created,
                    history=(History(created=created, comment=comment, author=config.author),)))
            finally:
                self._discard(tmp)

    def host(self) -> str:
        """Return the id of the machine's own root as an image; enters it into the store if need be. Idempotent."""
        document = hostimage.document()
        id = self._host_id()
        if not self._store.read("SELECT 1 FROM images WHERE id=? AND NOT removed", (id,)):
            with self._store.mutating():
                tmp = self._store.make_tmp()
                try:
                    self._enter([], tmp, _tag(hostimage.NAME), document)
                finally:
                    self._discard(tmp)
        return id

    @staticmethod
    @cache
    def _host_id() -> str:
        return _id(encode_document(hostimage.document()))

    def _open(self, source: object) -> ArchiveReader | DirectoryReader:
        # These bring HTTP and all decoders along, which starting a container must not wait for.
        from pycontainers.oci.compression import Limits
        from pycontainers.oci.compression import open_archive
        from pycontainers.oci.packing import DirectoryReader

        if isinstance(source, (str, os.PathLike)) and os.path.isdir(source):
            return DirectoryReader(source)
        return open_archive(source, limits=self._limits or Limits())

    def _unpack(self, reader: ArchiveReader | DirectoryReader, tmp: str) -> str:
        """Unpack an archive into `tmp`/fs with its `meta.json` beside; returns its diff id."""
        store = self._store
        try:
            os.mkdir(store.path(f"{tmp}/fs"), 0o755)
            with _Feeder(reader) as fd:
                result = store.trees.unpack(fd, f"{tmp}/fs", whiteouts=True)
            meta = {**UnpackResult._asdict(result), "tar_size": reader.size}
            with open(store.path(f"{tmp}/meta.json"), "w", encoding="ascii") as file:
                json.dump(meta, file)
        except OSError as error:
            if isinstance(error, StoreError):
                raise
            raise store_error(error, store.path(tmp), "unpacking into") from error
        return reader.digest

    def _enter(self, layers: Sequence[_Layer], tmp: str, tag: str, document: ImageDocument, parent: str = "") -> str:
        """Put layers and config into place and into the database, in one transaction; returns the image's id."""
        store = self._store
        blob = encode_document(document)
        id = _id(blob)
        try:
            with open(store.path(f"{tmp}/config"), "wb") as file:
                file.write(blob)
            # What is reported done outlives a power cut: all files first, then the names that lead to them.
            store.trees.sync()
            with store.transaction() as db:
                os.rename(store.path(f"{tmp}/config"), store.path(_config_file(id)))
                for layer in layers:
                    self._place(layer)
                size = sum(self._meta(diff_id).size for diff_id in document.diff_ids)
                db.execute("INSERT INTO images VALUES (?, ?, ?, ?, 0) ON CONFLICT(id) DO UPDATE SET removed=0",
                           (id, document.created or time(), parent, size))
                db.execute("DELETE FROM image_layers WHERE image_id=?", (id,))
                db.executemany("INSERT INTO image_layers VALUES (?, ?, ?)",
                               [(id, position, diff_id) for position, diff_id in enumerate(document.diff_ids)])
                if tag:
                    db.execute("INSERT OR REPLACE INTO tags VALUES (?, ?)", (tag, id))
        except OSError as error:
            if isinstance(error, StoreError):
                raise
            raise store_error(error, store.root, "entering the image into") from error
        return id

    def _place(self, layer: _Layer) -> None:
        target = self._store.path(self._store.layer_dir(layer.diff_id))
        if not os.path.isdir(target):
            os.makedirs(os.path.dirname(target), 0o700, exist_ok=True)
            os.rename(self._store.path(layer.tmp), target)

    def _discard(self, tmp: str) -> None:
        gone = self._store.trash(tmp)
        if gone:
            self._store.trees.remove(gone)

    # -- changing -----------------------------------------------------------------------------------------------------

    def update(self, ref: str, changes: ImageUpdate) -> None:
        """Give an image further references and take some away; one that another image bears moves. Idempotent, atomic.

        Raises `InvalidReference`, and as `resolve`.
        """
        add = [_tag(text) for text in changes.add_tags]
        remove = [_text(text) for text in changes.remove_tags]
        with self._store.mutating():
            id = self.resolve(ref)
            with self._store.transaction() as db:
                if not db.execute("SELECT 1 FROM images WHERE id=? AND NOT removed", (id,)).fetchone():
                    raise ImageNotFound(f"No such image: {ref}")
                db.executemany("DELETE FROM tags WHERE reference=? AND image_id=?", [(text, id) for text in remove])
                db.executemany("INSERT OR REPLACE INTO tags VALUES (?, ?)", [(text, id) for text in add])

    def remove(self, ref: str, *, force: bool = False, running: Collection[str] = ()) -> Removed:
        """Take a reference away, and with the last one the image, by Docker's rules; `running` are ids of containers.

        An image that ended containers use goes only with `force`, and its layers stay until they are gone. Atomic.
        Raises `InUse`, and as `resolve`.
        """
        with self._store.mutating():
            id, name = self._find(ref)
            with self._store.transaction() as db:
                removal = _Removal(db, id, frozenset(running), force)
                if name:
                    removal.untag(name)
                if not name or not removal.references:
                    removal.delete(quiet=bool(name))
            layers = [layer for gone in removal.deleted for layer in _chain(self._document(gone).diff_ids)]
            sizes = {diff_id: self._meta(diff_id).size for _, diff_id in layers}
            trash = self._store.collect() if removal.deleted else []
            freed = [(chain, diff_id) for chain, diff_id in layers
                     if not os.path.isdir(self._store.path(self._store.layer_dir(diff_id)))]
            for path in trash:
                self._store.trees.remove(path)
        return Removed(deleted=(*removal.deleted, *(chain for chain, _ in reversed(freed))),
                       untagged=tuple(removal.untagged), reclaimed=sum(sizes[diff_id] for _, diff_id in freed))


class _Removal:
    """What removing one image means in the database, inside a transaction: Docker's rules on what is in use."""

    def __init__(self, db: sqlite3.Connection, id: str, running: Collection[str], force: bool) -> None:
        self._db = db
        self._id = id
        self._running = running
        self._force = force
        self.untagged: list[str] = []
        self.deleted: list[str] = []
        self.references = [text for text, in db.execute("SELECT reference FROM tags WHERE image_id=?", (id,))]
        if not db.execute("SELECT 1 FROM images WHERE id=? AND NOT removed", (id,)).fetchone():
            raise ImageNotFound(f"No such image: {id}")

    def untag(self, reference: str) -> None:
        """Take one reference away, unless it is the last one and a container uses the image."""
        users = self._users(self._id)
        if users and not self._force and self._in_one_repository():
            raise InUse(f'conflict: unable to remove repository reference "{familiar(reference)}" (must force) - '
                        f"container {users[0][:12]} is using its referenced image {_short(self._id)}")
        self._take(reference)
        repository = parse_reference(reference).name
        rest = [text for text in self.references if parse_reference(text).name == repository]
        if all("@" in text for text in rest):
            for text in rest:
                self._take(text)

    def delete(self, *, quiet: bool) -> None:
        """Remove the image itself; `quiet` when a reference was taken away already and something still needs it."""
        users = self._users(self._id)
        running = [user for user in users if user in self._running]
        children = self._children(self._id)
        one = len(self.references) < 2 or self._in_one_repository()
        conflict = ""
        if children:
            conflict = "(cannot be forced) - image has dependent child images"
        elif running:
            conflict = f"(cannot be forced) - image is being used by running container {running[0][:12]}"
        elif users and not self._force:
            conflict = f"(must be forced) - image is being used by stopped container {users[0][:12]}"
        elif not one and not self._force:
            conflict = "(must be forced) - image is referenced in multiple repositories"
        if conflict and quiet:
            return
        if conflict:
            raise InUse(f"conflict: unable to delete {_short(self._id)} {conflict}")
        for reference in list(self.references):
            self._take(reference)
        id = self._id
        while id:
            # The row and its files stay as long as a container needs them.
            self._db.execute("UPDATE images SET removed=1 WHERE id=?", (id,))
            self.deleted.append(id)
            id = self._needless_parent(id)

    def _needless_parent(self, id: str) -> str:
        row = self._db.execute("SELECT id FROM images WHERE id=(SELECT parent FROM images WHERE id=?) AND NOT removed "
                               "AND id NOT IN (SELECT image_id FROM tags)", (id,)).fetchone()
        return "" if row is None or self._children(row[0]) or self._users(row[0]) else str(row[0])

    def _users(self, id: str) -> list[str]:
        return [user for user, in self._db.execute("SELECT id FROM containers WHERE image_id=? ORDER BY id", (id,))]

    def _children(self, id: str) -> bool:
        return self._db.execute("SELECT 1 FROM images WHERE parent=? AND NOT removed", (id,)).fetchone() is not None

    def _take(self, reference: str) -> None:
        self._db.execute("DELETE FROM tags WHERE reference=?", (reference,))
        self.references.remove(reference)
        self.untagged.append(reference)

    def _in_one_repository(self) -> bool:
        """Tell whether there is at most one tag, and every reference is of one repository."""
        repositories = {parse_reference(text).name for text in self.references}
        return len(repositories) == 1 and sum("@" not in text for text in self.references) < 2


class _Feeder:
    """A thread that reads an archive, which it closes in the end, and writes it into a pipe; gives the other end."""

    def __init__(self, reader: ArchiveReader | DirectoryReader) -> None:
        self._reader = reader
        self._error: BaseException | None = None
        self._stopping = False
        self._out, self._in = os.pipe()
        _pipes.update((self._out, self._in))
        with suppress(OSError):
            fcntl.fcntl(self._in, _F_SETPIPE_SZ, _PIPE)
        self._thread = threading.Thread(target=self._run, name="pycontainers-import", daemon=True)

    def __enter__(self) -> int:
        self._thread.start()
        return self._out

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._stopping = error is not None
        _close(self._out)
        # A source that says nothing must not hold up who gave up; the thread ends with the process at the latest.
        self._thread.join(1.0 if isinstance(error, (KeyboardInterrupt, SystemExit)) else None)
        # What it read was damaged or too large: that is the reason, and not the early end that the unpacker saw.
        if self._error is not None and (error is None or isinstance(error, Exception)):
            raise self._error from None

    def _run(self) -> None:
        # The application may have left SIGPIPE at its default, which ends the process.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGPIPE})
        try:
            self._feed()
        except BaseException as error:
            self._error = error
        finally:
            _close(self._in)
            self._reader.close()

    def _feed(self) -> None:
        wanted = True
        tail = b""
        for chunk in self._reader:
            tail = (tail + chunk[-_END:])[-_END:]
            rest = memoryview(chunk)
            while rest and wanted:
                try:
                    rest = rest[os.write(self._in, rest):]
                except BrokenPipeError:
                    # The unpacker is through; what follows the tar's end still counts for its hash.
                    wanted = False
            if self._stopping:
                return
        # Where a tar is cut between two entries, nothing else shows it.
        if tail != bytes(_END):
            raise CorruptArchive(f"reading {self._reader.name}: it does not end as a tar does: it is truncated, or none")


# A forked child's copies would keep the unpacker waiting for the archive's end.
_pipes: set[int] = set()


def _close(fd: int) -> None:
    _pipes.discard(fd)
    os.close(fd)


def _forked() -> None:
    for fd in _pipes:
        os.close(fd)
    _pipes.clear()


os.register_at_fork(after_in_child=_forked)


@lru_cache(maxsize=1024)
def _text(reference: str) -> str:
    """Return the canonical text under which a reference is kept; by digest the tag counts for nothing."""
    parsed = parse_reference(reference)
    return str(evolve(parsed, tag="") if parsed.digest else parsed.with_default_tag())


def _tag(reference: str) -> str:
    if "@" in reference:
        raise InvalidReference(f"{reference!r}: refusing to create a tag with a digest reference; name a tag instead")
    return _text(reference)


def _id(blob: bytes) -> str:
    return f"sha256:{hashlib.sha256(blob).hexdigest()}"


def _short(id: str) -> str:
    return id.removeprefix("sha256:")[:12]


def _config_file(id: str) -> str:
    return f"images/{id.removeprefix('sha256:')}.json"


def _chain(diff_ids: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield each layer's chain id (OCI image-spec, config.md), which names it with all below it, and its diff id."""
    chain = ""
    for diff_id in diff_ids:
        chain = _id(f"{chain} {diff_id}".encode()) if chain else diff_id
        yield chain, diff_id
