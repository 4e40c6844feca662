"""Archives are read in any compression, in bounded memory, and every damage is told."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import random
import resource
import sys
import zlib
from collections.abc import Callable

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from pycontainers.errors import ContainersError
from pycontainers.errors import CorruptArchive
from pycontainers.errors import LimitExceeded
from pycontainers.errors import Unsupported
from pycontainers.oci import compression
from pycontainers.oci.compression import CHUNK
from pycontainers.oci.compression import ArchiveReader
from pycontainers.oci.compression import Limits
from pycontainers.oci.compression import open_archive

Compress = Callable[[bytes], bytes]


def zstd_stream(data: bytes) -> bytes:
    """A frame that does not tell its size, with a checksum."""
    compressor = zstandard.ZstdCompressor(write_checksum=True).compressobj()
    return compressor.compress(data) + compressor.flush()


KINDS: dict[str, tuple[str, Compress]] = {
    "plain": ("", bytes),
    "gzip": ("gzip", gzip.compress),
    "xz": ("xz", lzma.compress),
    "bzip2": ("bzip2", bz2.compress),
    "zstd": ("zstd", zstandard.ZstdCompressor(write_checksum=True).compress),
    "zstd-stream": ("zstd", zstd_stream),
}
COMPRESSED = [kind for kind in KINDS if kind != "plain"]


class Drip(io.RawIOBase):
    """A file object that gives little at a time, as a pipe may."""

    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)

    def read(self, size: int = -1, /) -> bytes:
        """Give a few bytes."""
        return self._data.read(min(size, random.choice([1, 7, 500, 20000])))


def everything(source: object, **limits: int) -> bytes:
    """Return all that a reader gives."""
    with open_archive(source, limits=Limits(**limits)) as reader:
        return b"".join(reader)


@pytest.mark.parametrize("kind", KINDS)
def test_the_compression_is_found_out(kind: str) -> None:
    """By the first bytes; the digest is of what comes out, and chunks are bounded."""
    name, compress = KINDS[kind]
    data = random.Random(kind).randbytes(3 * CHUNK // 2) + bytes(5 * CHUNK)
    with open_archive(io.BytesIO(compress(data))) as reader:
        chunks = list(reader)
    assert reader.compression == name
    assert b"".join(chunks) == data
    assert max(map(len, chunks)) <= CHUNK
    assert (reader.size, reader.compressed_size) == (len(data), len(compress(data)))
    assert reader.digest == "sha256:" + hashlib.sha256(data).hexdigest()


@given(st.sampled_from(COMPRESSED), st.lists(st.binary(max_size=300), max_size=4), st.integers(0, 3), st.data())
def test_streams_may_follow_each_other(kind: str, parts: list[bytes], zeros: int, data: st.DataObject) -> None:
    """As gzip and xz read them; cut anywhere inside one, they are refused."""
    name, compress = KINDS[kind]
    whole = b"".join(compress(part) for part in parts)
    assert everything(Drip(whole + bytes(zeros if name in ("gzip", "bzip2") else 4 * zeros if name == "xz" else 0))
                      if parts else io.BytesIO(whole)) == b"".join(parts)
    ends = {sum(len(compress(part)) for part in parts[:i]) for i in range(len(parts) + 1)}
    cut = data.draw(st.integers(0, len(whole)))
    if len(whole) >= 6 and cut >= 6 and cut not in ends:
        with pytest.raises(CorruptArchive):
            everything(io.BytesIO(whole[:cut]))


@pytest.mark.parametrize("kind", COMPRESSED)
def test_damage_is_told(kind: str) -> None:
    """Flipped bytes, and something else after the end."""
    compress = KINDS[kind][1]
    whole = compress(random.Random(1).randbytes(5000))
    for damaged in (whole + b"garbage", whole[:60] + bytes(600) + whole[660:], whole[:8] + b"\xff" * 8 + whole[16:]):
        with pytest.raises(CorruptArchive, match=r"reading the archive: its .* data are damaged|too early"):
            everything(io.BytesIO(damaged))


def test_a_skippable_frame_is_skipped() -> None:
    """zstd's frames of somebody's own are no data, at the start too."""
    own = b"\x5a\x2a\x4d\x18\x03\0\0\0abc"
    assert everything(io.BytesIO(own + zstandard.compress(b"data") + own)) == b"data"
    with pytest.raises(CorruptArchive):
        everything(io.BytesIO(zstandard.compress(b"data") + own[:-1]))


def test_zlib_does_where_isal_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slower, and the same bytes."""
    monkeypatch.setattr(compression, "_zlib", zlib)
    data = bytes(3 * CHUNK) + random.Random(2).randbytes(CHUNK)
    assert everything(Drip(gzip.compress(data) * 2)) == data * 2


def test_zstd_without_its_package_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the package to install."""
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(Unsupported, match="pip install zstandard"):
        everything(io.BytesIO(zstandard.compress(b"data")))


@pytest.mark.parametrize("kind", COMPRESSED)
def test_a_bomb_stays_small(kind: str) -> None:
    """Many MiB of zeros are refused at the limit, with little memory used."""
    compress = KINDS[kind][1]
    bomb = compress(bytes(80 * CHUNK))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(LimitExceeded, match=r"expand to more than 250 times as much and 16777216 bytes"):
        everything(io.BytesIO(bomb), free=16 * CHUNK)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024
    with pytest.raises(LimitExceeded, match="more than the 1000 bytes allowed"):
        everything(io.BytesIO(bomb), total=1000)
    with ArchiveReader(io.BytesIO(bomb), "x", limits=Limits(free=80 * CHUNK)) as reader:
        assert sum(map(len, reader)) == 80 * CHUNK


def test_a_window_of_gigabytes_is_refused() -> None:
    """What a header asks for is bounded too."""
    header = b"\x28\xb5\x2f\xfd\x00" + bytes([20 << 3]) + b"\x01\x00\x00"
    with pytest.raises(CorruptArchive, match="memory"):
        everything(io.BytesIO(header))
    with pytest.raises(CorruptArchive, match=r"[Mm]emory"):
        everything(io.BytesIO(lzma.compress(bytes(1000), preset=9)), memory=1024**2)


def test_a_source_that_fails_is_told() -> None:
    """A read error has the archive's name; a closed file too."""
    closed = io.BytesIO(b"x")
    closed.close()
    with pytest.raises(ContainersError, match="reading the archive: I/O operation on closed file"):
        everything(closed)
