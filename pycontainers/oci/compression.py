"""Archives from anywhere, in any compression: sniffed, streamed in bounded memory, hashed and limited on the way.

gzip goes through isal where it is installed (twice zlib's speed), zstd needs the `zstandard` package.
"""

from __future__ import annotations

import base64
import bz2
import errno
import hashlib
import http.client
import lzma
import os
import re
import stat
import urllib.error
import urllib.parse
import urllib.request
import zlib
from collections.abc import Callable
from collections.abc import Generator
from collections.abc import Iterator
from types import TracebackType
from typing import Any
from typing import BinaryIO
from typing import Protocol
from typing import cast

from attrs import frozen

from pycontainers.errors import ContainersError
from pycontainers.errors import CorruptArchive
from pycontainers.errors import InvalidSpec
from pycontainers.errors import InvalidType
from pycontainers.errors import LimitExceeded
from pycontainers.errors import NotFound
from pycontainers.errors import Unsupported

#: Bytes read, and bytes given on, at a time.
CHUNK = 1024**2
#: Seconds that a server may be silent.
URL_TIMEOUT = 30.0
_ZSTD_INPUT = 128 * 1024
_CREDENTIALS = re.compile(r"//[^/@]*@")

_zlib: Any
try:
    from isal import isal_zlib as _zlib
except ImportError:
    _zlib = zlib

_Chunks = Generator[bytes, None, None]
_DECODING: tuple[type[Exception], ...] = (zlib.error, _zlib.error, lzma.LZMAError, OSError, EOFError, MemoryError)
_SKIPPABLE = tuple(bytes((0x50 + i, 0x2A, 0x4D, 0x18)) for i in range(16))
_MAGICS: tuple[tuple[str, tuple[bytes, ...]], ...] = (
    ("gzip", (b"\x1f\x8b",)),
    ("xz", (b"\xfd7zXZ\0",)),
    ("zstd", (b"\x28\xb5\x2f\xfd", *_SKIPPABLE)),
    ("bzip2", (b"BZh",)),
)
_SNIFFED = 6


@frozen(kw_only=True)
class Limits:
    """How far a compressed stream may expand: freely up to `free` bytes, then at most `ratio` times its own size.

    `total` bounds the expanded size itself; None is unbounded. `memory` bounds what a decoder's window may take: a
    header may ask for gigabytes, `xz -9` needs 65 MiB and `zstd --long` 128.
    """

    ratio: float = 250.0
    free: int = 1024**3
    total: int | None = None
    memory: int = 128 * 1024**2


class ArchiveReader:
    """A stream's uncompressed bytes. Close it, or use it in a `with`; not thread-safe.

    What it read from a file object stays read: that object is the caller's, and is not closed.
    """

    def __init__(self, source: BinaryIO, name: str, *, limits: Limits, length: int | None = None,
                 owned: bool = True) -> None:
        """Sniff the stream's compression; `length` is how many bytes it must have, when that is known."""
        #: What the archive is called in messages.
        self.name = name
        self._source = source
        self._limits = limits
        self._length = length
        self._owned = owned
        self._hash = hashlib.sha256()
        self._read = 0
        self._written = 0
        self._head = b""
        while len(self._head) < _SNIFFED:
            data = self._fetch(CHUNK)
            if not data:
                break
            self._head += data
        #: `gzip`, `xz`, `zstd`, `bzip2`, or "" for none.
        self.compression = next((kind for kind, magics in _MAGICS if self._head.startswith(magics)), "")
        self._chunks = self._expand()

    def __enter__(self) -> ArchiveReader:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close what was opened here. Idempotent."""
        self._chunks.close()
        if self._owned:
            self._source.close()

    @property
    def compressed_size(self) -> int:
        """Bytes read so far."""
        return self._read

    @property
    def size(self) -> int:
        """Uncompressed bytes given so far."""
        return self._written

    @property
    def digest(self) -> str:
        """`sha256:` and the hash of the uncompressed bytes given so far; once all are, a layer's diff id."""
        return f"sha256:{self._hash.hexdigest()}"

    def __iter__(self) -> Iterator[bytes]:
        """Yield chunks of at most `CHUNK` bytes.

        Raises `CorruptArchive` for damaged or truncated data, `LimitExceeded`, `Unsupported` for zstd without its
        library, `ContainersError` when the source can't be read.
        """
        for chunk in self._chunks:
            self._written += len(chunk)
            self._check()
            self._hash.update(chunk)
            yield chunk

    def _check(self) -> None:
        limits = self._limits
        if limits.total is not None and self._written > limits.total:
            raise LimitExceeded(f"reading {self.name}: it holds more than the {limits.total} bytes allowed; raise the "
                                "limit if you trust it")
        if self.compression and self._written > max(limits.free, limits.ratio * self._read):
            raise LimitExceeded(f"reading {self.name}: {self._read} bytes of {self.compression} expand to more "
                                f"than {limits.ratio:g} times as much and {limits.free} bytes; raise the limit if you "
                                "trust it")

    def _fetch(self, size: int) -> bytes:
        try:
            data = self._source.read(size)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise ContainersError(f"reading {self.name}: {error}") from error
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise InvalidType(f"source must be a file opened in binary mode: read() of {self.name} gave "
                              f"{type(data).__name__}")
        self._read += len(data)
        if not data and self._length is not None and self._read < self._length:
            raise CorruptArchive(f"reading {self.name}: it ended after {self._read} of {self._length} bytes; try again")
        return bytes(data)

    def _input(self) -> Iterator[bytes]:
        """Yield the source's own bytes, those already sniffed first."""
        data, self._head = self._head, b""
        while data:
            yield data
            data = self._fetch(CHUNK)

    def _expand(self) -> _Chunks:
        if self.compression == "gzip":
            return self._inflate(_Gzip)
        if self.compression == "xz":
            return self._inflate(lambda: _Buffered(lzma.LZMADecompressor(lzma.FORMAT_XZ, self._limits.memory)))
        if self.compression == "bzip2":
            return self._inflate(lambda: _Buffered(bz2.BZ2Decompressor()))
        if self.compression == "zstd":
            return self._zstd()
        return self._plain()

    def _plain(self) -> _Chunks:
        for data in self._input():
            for start in range(0, len(data), CHUNK):
                yield data[start:start + CHUNK]

    def _inflate(self, make: Callable[[], _Decoder]) -> _Chunks:
        """Decode any number of streams one after the other, as gzip(1) and xz(1) do; zeros may follow."""
        inputs = self._input()
        rest = next(inputs, b"")
        while rest:
            decoder = make()
            while not decoder.eof:
                if not rest and decoder.hungry:
                    rest = next(inputs, b"")
                try:
                    chunk, left = decoder.decode(rest)
                except _DECODING as error:
                    raise self._corrupt(error) from error
                if chunk:
                    yield chunk
                elif not rest and not decoder.eof:
                    raise self._truncated()
                rest = left
            rest = decoder.unused.lstrip(b"\0")
            while len(rest) < _SNIFFED:
                more = next(inputs, b"")
                if not more:
                    break
                rest = (rest + more).lstrip(b"\0")
            if rest and not rest.startswith(self._magics):
                raise self._corrupt("something else follows them")

    def _zstd(self) -> _Chunks:
        try:
            import zstandard
        except ImportError as error:
            raise Unsupported(f"reading {self.name}: it is compressed with zstd, which takes a package that is not "
                              "here: pip install zstandard") from error
        frames = _Frames(self._input())
        decoder = zstandard.ZstdDecompressor(max_window_size=self._limits.memory)
        with decoder.stream_reader(cast(Any, frames), read_size=_ZSTD_INPUT, read_across_frames=True) as reader:
            while True:
                try:
                    chunk = reader.read(CHUNK)
                except (zstandard.ZstdError, MemoryError) as error:
                    raise self._corrupt(error) from error
                if not chunk:
                    break
                yield chunk
        if not frames.complete:
            raise self._truncated()

    @property
    def _magics(self) -> tuple[bytes, ...]:
        return dict(_MAGICS)[self.compression]

    def _corrupt(self, reason: object) -> CorruptArchive:
        return CorruptArchive(f"reading {self.name}: its {self.compression} data are damaged: {reason}")

    def _truncated(self) -> CorruptArchive:
        return CorruptArchive(f"reading {self.name}: its {self.compression} data end too early: it is truncated")


def open_archive(source: object, *, limits: Limits = Limits()) -> ArchiveReader:
    """Return a reader of the archive at a path or an `http(s)://` URL, or in a binary file object.

    Raises `NotFound`, `InvalidSpec`, `InvalidType`, `ContainersError` when it can't be opened or fetched.
    """
    if isinstance(source, bytes):
        source = os.fsdecode(source)
    if isinstance(source, str) and source.startswith(("http://", "https://")):
        return _open_url(source, limits)
    if isinstance(source, (str, os.PathLike)):
        path = os.fspath(cast("str | os.PathLike[str]", source))
        try:
            file = open(path, "rb", buffering=0)  # noqa: SIM115
        except OSError as error:
            raise source_error(error, path) from error
        if stat.S_ISCHR(os.fstat(file.fileno()).st_mode):
            file.close()
            # /dev/zero looks like an archive's end that never ends.
            raise InvalidSpec(f"reading {path}: it is a device, not an archive; name a file, or give an open one")
        return _reader(cast(BinaryIO, file), path, limits)
    if not callable(getattr(source, "read", None)):
        raise InvalidType(f"source takes a path, a URL, or a binary file object: got {source!r}")
    name = getattr(source, "name", None)
    return ArchiveReader(cast(BinaryIO, source), name if isinstance(name, str) else "the archive", limits=limits,
                         owned=False)


def source_error(error: OSError, path: str) -> ContainersError:
    """Return the error that tells why a path given as a source can't be read."""
    reason = f"reading {path}: {error.strerror or error}"
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return NotFound(reason)
    if error.errno in (errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG):
        return InvalidSpec(reason)
    return ContainersError(reason)


def _reader(source: BinaryIO, name: str, limits: Limits, length: int | None = None) -> ArchiveReader:
    try:
        return ArchiveReader(source, name, limits=limits, length=length)
    except BaseException:
        source.close()
        raise


def _open_url(url: str, limits: Limits) -> ArchiveReader:
    # A user's password is for that server alone: in no message, and not sent along when it redirects.
    name = _CREDENTIALS.sub("//", url)
    try:
        request = urllib.request.Request(name)
        if name != url:
            given = urllib.parse.unquote(url.partition("//")[2].partition("@")[0])
            request.add_unredirected_header("Authorization", "Basic " + base64.b64encode(given.encode()).decode())
        response = urllib.request.urlopen(request, timeout=URL_TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        kind = NotFound if error.code in (404, 410) else ContainersError
        raise kind(f"fetching {name}: the server answered {error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise ContainersError(f"fetching {name}: {reason}; check the address and the network") from error
    length = response.headers.get("Content-Length", "")
    return _reader(response, name, limits, int(length) if length.isdigit() else None)


class _Decoder(Protocol):
    """One compressed stream. `hungry`: it can't go on without input. `unused` is what followed its end."""

    @property
    def eof(self) -> bool: ...

    @property
    def hungry(self) -> bool: ...

    @property
    def unused(self) -> bytes: ...

    def decode(self, data: bytes) -> tuple[bytes, bytes]:
        """Return at most `CHUNK` bytes, and the input not taken."""
        ...


class _Gzip:
    """gzip by isal or zlib, which leave input that they did not take to the caller."""

    hungry = True

    def __init__(self) -> None:
        self._decoder = _zlib.decompressobj(31)

    @property
    def eof(self) -> bool:
        return bool(self._decoder.eof)

    @property
    def unused(self) -> bytes:
        return bytes(self._decoder.unused_data)

    def decode(self, data: bytes) -> tuple[bytes, bytes]:
        return self._decoder.decompress(data, CHUNK), self._decoder.unconsumed_tail


class _Buffered:
    """xz and bzip2, whose decoders keep the input themselves."""

    def __init__(self, decoder: lzma.LZMADecompressor | bz2.BZ2Decompressor) -> None:
        self._decoder = decoder

    @property
    def eof(self) -> bool:
        return self._decoder.eof

    @property
    def hungry(self) -> bool:
        return self._decoder.needs_input

    @property
    def unused(self) -> bytes:
        return self._decoder.unused_data

    def decode(self, data: bytes) -> tuple[bytes, bytes]:
        return self._decoder.decompress(data, CHUNK), b""


class _Frames:
    """zstd's input, followed frame by frame (RFC 8878, 3.1): its decoder takes a truncated one for a whole one."""

    def __init__(self, inputs: Iterator[bytes]) -> None:
        self._inputs = inputs
        self._rest = memoryview(b"")
        self._seen = memoryview(b"")
        self._at = 0
        self._walk = self._frames()
        next(self._walk)
        #: Whether all that was read is whole frames.
        self.complete = True

    def read(self, size: int) -> memoryview:
        if not self._rest:
            self._rest = memoryview(next(self._inputs, b""))
        result, self._rest = self._rest[:size], self._rest[size:]
        if result:
            self._walk.send(result)
        return result

    def _frames(self) -> Generator[None, memoryview, None]:
        while True:
            self.complete = self._at == len(self._seen)
            magic = yield from self._take(4)
            self.complete = False
            if magic[1:] == b"\x2a\x4d\x18":
                yield from self._skip(int.from_bytes((yield from self._take(4)), "little"))
                continue
            descriptor = (yield from self._take(1))[0]
            single = descriptor >> 5 & 1
            yield from self._skip((0, 1, 2, 4)[descriptor & 3] + (single, 2, 4, 8)[descriptor >> 6] + 1 - single)
            last = 0
            while not last:
                header = int.from_bytes((yield from self._take(3)), "little")
                last = header & 1
                yield from self._skip(1 if header >> 1 & 3 == 1 else header >> 3)
            yield from self._skip(4 * (descriptor >> 2 & 1))

    def _take(self, count: int) -> Generator[None, memoryview, bytes]:
        result = b""
        while True:
            part = self._seen[self._at:self._at + count - len(result)]
            self._at += len(part)
            result += part
            if len(result) == count:
                return result
            if result:
                self.complete = False
            self._seen = yield
            self._at = 0

    def _skip(self, count: int) -> Generator[None, memoryview, None]:
        while count > len(self._seen) - self._at:
            count -= len(self._seen) - self._at
            self._seen = yield
            self._at = 0
        self._at += count
