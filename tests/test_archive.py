"""Tar archives and trees in C: judged by GNU tar and tarfile, fed with what attackers send, raced by what they run."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import random
import resource
import shlex
import shutil
import stat
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import time
from collections.abc import Callable
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from typing import Literal
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the native backend is Linux's")

NATIVE = Path(__file__).resolve().parent.parent / "_native"
DRIVER = Path(__file__).resolve().parent / "native" / "archive_driver.c"
SOURCES = "memory.c paths.c tar.c tree.c unpack.c pack.c walk.c diff.c".split()
CFLAGS = "-std=gnu11 -Wall -Wextra -Werror -ffreestanding -fno-stack-protector -fno-pic".split()
LDFLAGS = "-static -no-pie -nostdlib -Wl,-z,noexecstack".split()
TRAPS = "-O1 -fsanitize=undefined -fsanitize-undefined-trap-on-error".split()
ROOT = sys.platform == "linux" and os.geteuid() == 0

# The flags of archive.h.
NO_OWNER, ONE_OWNER, WHITEOUTS, USERXATTR, KEEP_DIR_LINKS, SAME_KIND = 1, 2, 4, 8, 16, 32
EMPTY_DEVICES, SKIP_DEVICES, ROOT_ENTRY, NEED_END = 64, 128, 256, 512
PACK_FOLLOW, PACK_ONE_MOUNT, PACK_WHITEOUTS, PACK_USERXATTR, PACK_SPARSE, PACK_NANOSECONDS, PACK_ONE_OWNER = (
    1,
    2,
    4,
    8,
    16,
    32,
    64,
)
#: Whoever isn't root can give nothing away.
OURS = 0 if ROOT else NO_OWNER


class Result(NamedTuple):
    """What a run of the driver gave."""

    code: int
    output: bytes
    counts: list[int]
    step: str
    error: int
    path: str


class Driver:
    """The driver program, compiled once."""

    def __init__(self, program: Path) -> None:
        self.program = program

    @contextmanager
    def start(
        self, command: str, root: Path, lowers: tuple[Path, ...] = (), **options: Any
    ) -> Iterator[subprocess.Popen[bytes]]:
        """Start a command on a root directory, which is the program's descriptor 3; lower layers follow it."""
        held = [os.open(p, os.O_RDONLY | os.O_DIRECTORY) for p in (root, *lowers)]
        words = [f"{key}={value}" for key, value in options.items() if value is not None]
        words.append(f"lowers={len(lowers)}")
        line = 'exec "$0" "$@" ' + " ".join(f"{3 + i}</proc/self/fd/{fd}" for i, fd in enumerate(held))
        pipe = subprocess.PIPE
        try:
            with subprocess.Popen(
                ["sh", "-c", line, str(self.program), command, *words],
                stdin=pipe,
                stdout=pipe,
                stderr=pipe,
                pass_fds=held,
            ) as child:
                yield child
        finally:
            for fd in held:
                os.close(fd)

    def __call__(
        self, command: str, root: Path, archive: bytes = b"", lowers: tuple[Path, ...] = (), **options: Any
    ) -> Result:
        """Run a command to its end, which is never a signal."""
        with self.start(command, root, lowers, **options) as child:
            output, said = child.communicate(archive)
        assert child.returncode in (0, 1), (child.returncode, said)
        return result_of(child.returncode, output, said)


def result_of(code: int, output: bytes, said: bytes) -> Result:
    """Take the driver's line apart."""
    head, _, tail = said.rstrip(b"\n").rpartition(b":") if said.count(b":") == 1 else said.rstrip(b"\n").partition(b":")
    words = head.decode().split(" ")
    counts = []
    while words and words[0].isdigit():
        counts.append(int(words.pop(0)))
    number, _, path = tail.partition(b" ")
    return Result(code, output, counts, " ".join(words), int(number), os.fsdecode(path))


def compiled(folder: Path, flags: list[str]) -> Driver:
    """Compile the driver without a libc, as the helper program is."""
    program = folder / "archive-driver"
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    sources = [str(NATIVE / name) for name in SOURCES]
    command = [*compiler, *CFLAGS, *flags, f"-I{NATIVE}", *sources, str(DRIVER), *LDFLAGS, "-o", str(program)]
    subprocess.run(command, check=True)
    return Driver(program)


@pytest.fixture(scope="session")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Driver:
    """The driver with traps for undefined behaviour."""
    return compiled(tmp_path_factory.mktemp("driver"), TRAPS)


@pytest.fixture(scope="session")
def fast(tmp_path_factory: pytest.TempPathFactory) -> Driver:
    """The driver as it is shipped."""
    return compiled(tmp_path_factory.mktemp("fast"), ["-O2"])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An empty root directory."""
    path = tmp_path / "root"
    path.mkdir()
    return path


# -- trees -------------------------------------------------------------------------------------------------------------


def names_below(top: Path) -> Iterator[bytes]:
    """Yield all paths below a directory, relative to it."""
    base = os.fsencode(top)
    for folder, directories, files in os.walk(base):
        for name in sorted(directories + files):
            yield os.path.relpath(os.path.join(folder, name), base)


def snapshot(top: Path, nanoseconds: bool = True) -> dict[bytes, tuple[object, ...]]:
    """Return all that is to be known of the entries of a tree, and which of them are one file."""
    found: dict[bytes, tuple[object, ...]] = {}
    first: dict[tuple[int, int], bytes] = {}
    base = os.fsencode(top)
    for name in sorted(names_below(top)):
        path = os.path.join(base, name)
        st = os.lstat(path)
        content: object = None
        xattrs: list[tuple[str, bytes]] = []
        if stat.S_ISREG(st.st_mode):
            content = hashlib.sha256(Path(os.fsdecode(path)).read_bytes()).hexdigest()
        if stat.S_ISLNK(st.st_mode):
            content = os.readlink(path)
        else:
            xattrs = [(x, os.getxattr(path, x)) for x in sorted(os.listxattr(path))]
        same = None if stat.S_ISDIR(st.st_mode) else first.setdefault((st.st_dev, st.st_ino), name)
        mtime = st.st_mtime_ns if nanoseconds else st.st_mtime_ns // 10**9
        found[name] = (st.st_mode, st.st_uid, st.st_gid, st.st_rdev, mtime, content, xattrs, same)
    return found


def unpacked(driver: Driver, archive: bytes, root: Path, flags: int = OURS, **options: Any) -> Result:
    """Unpack and demand success."""
    result = driver("unpack", root, archive, flags=flags, **options)
    assert result.code == 0, result
    return result


def packed(driver: Driver, root: Path, path: str = ".", **options: Any) -> bytes:
    """Pack and demand success."""
    result = driver("pack", root, path=path, **options)
    assert result.code == 0, result
    return result.output


def gnu_tar(*words: str, archive: bytes = b"") -> bytes:
    """Run GNU tar."""
    return subprocess.run(["tar", *words], input=archive, capture_output=True, check=True).stdout


class Entry(tarfile.TarInfo):
    """A tar entry, made in one line."""

    def __init__(
        self, name: str, kind: bytes = tarfile.REGTYPE, link: str = "", data: bytes = b"", **more: Any
    ) -> None:
        super().__init__(name)
        self.type = kind
        self.linkname = link
        self.data = data
        self.size = len(data)
        self.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
        self.uid, self.gid = os.geteuid(), os.getegid()
        for key, value in more.items():
            setattr(self, key, value)


def directory(name: str, **more: Any) -> Entry:
    """Return an entry of a directory."""
    return Entry(name, tarfile.DIRTYPE, **more)


def symlink(name: str, target: str) -> Entry:
    """Return an entry of a symbolic link."""
    return Entry(name, tarfile.SYMTYPE, target)


def hard_link(name: str, target: str) -> Entry:
    """Return an entry of a hard link."""
    return Entry(name, tarfile.LNKTYPE, target)


def archive_of(*entries: Entry, form: Literal[0, 1, 2] = tarfile.PAX_FORMAT, end: bool = True) -> bytes:
    """Return a tar archive of the entries, names as they are."""
    parts = []
    for entry in entries:
        parts.append(entry.tobuf(form, "utf-8", "surrogateescape"))
        parts.append(entry.data + bytes(-len(entry.data) % 512))
    return b"".join(parts) + (bytes(1024) if end else b"")


# -- round trips -------------------------------------------------------------------------------------------------------

NAMES = st.one_of(
    st.binary(min_size=1, max_size=12),
    st.binary(min_size=90, max_size=255),
    st.sampled_from(
        [b"a", b"b", b".wh.a", b"\xff\xfe", b"a=b\n", "\u00e4\U0001f600".encode(), b" ", b"...", b"c" * 100]
    ),
).filter(lambda name: b"/" not in name and b"\0" not in name and name not in (b".", b".."))
KINDS = st.sampled_from(["file", "file", "directory", "directory", "symlink", "fifo", "link", "sparse"])
STEPS = st.tuples(
    NAMES, KINDS, st.binary(max_size=1200), st.integers(0, 0o7777), st.integers(-(2**31), 2**34), st.data()
)
TREES = st.lists(STEPS, max_size=24)


def grow(top: Path, steps: list[Any]) -> None:
    """Make a tree as drawn."""
    folders = [os.fsencode(top)]
    files: list[bytes] = []
    late: list[tuple[bytes, int, int]] = []
    for name, kind, data, mode, seconds, draw in steps:
        path = os.path.join(draw.draw(st.sampled_from(folders)), name)
        if os.path.lexists(path) or len(path) > 3000:
            continue
        ns = seconds * 10**9 + draw.draw(st.integers(0, 10**9 - 1))
        if kind == "directory":
            os.mkdir(path)
            folders.append(path)
        elif kind == "symlink":
            os.symlink(data.replace(b"\0", b"/") or b"x", path)
            os.utime(path, ns=(ns, ns), follow_symlinks=False)
            continue
        elif kind == "fifo":
            os.mkfifo(path)
        elif kind == "link" and files:
            os.link(draw.draw(st.sampled_from(files)), path)
            continue
        else:
            Path(os.fsdecode(path)).write_bytes(data)
            if kind == "sparse":
                with open(path, "r+b") as file:
                    file.seek(draw.draw(st.integers(0, 200000)))
                    file.write(data)
                    file.truncate(draw.draw(st.integers(0, 300000)))
            if data:
                os.setxattr(path, "user.note", data)
            files.append(path)
        late.append((path, mode if ROOT else mode | 0o700, ns))
    for path, mode, ns in reversed(late):
        os.chmod(path, mode)
        os.utime(path, ns=(ns, ns))


@contextmanager
def folders(*names: str) -> Iterator[list[Path]]:
    """Make temporary directories for one example."""
    with tempfile.TemporaryDirectory() as base:
        paths = [Path(base, name) for name in names]
        for path in paths:
            path.mkdir()
        yield paths
        subprocess.run(["chmod", "-R", "u+rwx", base], check=True)


@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=TREES, sparse=st.booleans(), by_hand=st.booleans())
def test_a_tree_survives_packing_and_unpacking(driver: Driver, steps: list[Any], sparse: bool, by_hand: bool) -> None:
    """Whatever a tree holds, packing and unpacking gives the same tree, and packing that gives the same bytes."""
    with folders("a", "b") as (a, b):
        grow(a, steps)
        flags = PACK_NANOSECONDS | (PACK_SPARSE if sparse else 0)
        archive = packed(driver, a, flags=flags)

        unpacked(driver, archive, b, no_openat2=errno.ENOSYS if by_hand else None)

        assert snapshot(b) == snapshot(a)
        assert packed(driver, b, flags=PACK_NANOSECONDS) == packed(driver, a, flags=PACK_NANOSECONDS)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=TREES, sparse=st.booleans())
def test_others_read_what_is_packed(driver: Driver, steps: list[Any], sparse: bool) -> None:
    """GNU tar makes the same tree of a packed one; tarfile finds the same names, in order."""
    with folders("a", "b") as (a, b):
        grow(a, steps)
        archive = packed(driver, a, flags=PACK_NANOSECONDS | (PACK_SPARSE if sparse else 0))

        gnu_tar("-C", str(b), "--xattrs", "--xattrs-include=*", "-xpf", "-", archive=archive)
        with tarfile.open(fileobj=io.BytesIO(archive), encoding="utf-8", errors="surrogateescape") as tar:
            names = [os.fsencode(name) for name in tar.getnames()]

        assert snapshot(b) == snapshot(a)
        assert sorted(names) == sorted(names_below(a))
        assert names == sorted(names, key=lambda name: name.split(b"/"))


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    steps=TREES,
    form=st.sampled_from(["--format=gnu", "--format=oldgnu", "--format=posix"]),
    sparse=st.sampled_from(["", "--sparse-version=0.0", "--sparse-version=0.1", "--sparse-version=1.0"]),
)
def test_what_gnu_tar_packs_is_unpacked(driver: Driver, steps: list[Any], form: str, sparse: str) -> None:
    """All formats of GNU tar give the tree that was packed."""
    with folders("a", "b") as (a, b):
        grow(a, steps)
        posix = form == "--format=posix"
        words = ["--xattrs", "--xattrs-include=*"] if posix else []
        words += ["-S", sparse] if sparse and posix else ["-S"] if sparse else []
        archive = gnu_tar("-C", str(a), form, *words, "-cf", "-", ".")

        unpacked(driver, archive, b)

        ours, theirs = snapshot(b, nanoseconds=posix), snapshot(a, nanoseconds=posix)
        if not posix:
            ours, theirs = ({k: (*v[:6], *v[7:]) for k, v in tree.items()} for tree in (ours, theirs))
        assert ours == theirs


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_what_tarfile_packs_is_unpacked(driver: Driver, root: Path, form: Literal[0, 1, 2]) -> None:
    """Long names, links and targets come through in each format that can hold them."""
    longest = 256 if form == tarfile.USTAR_FORMAT else 1200
    folder = ("d" * 60 + "/") * (longest // 61 - 1)
    target = "t" * (100 if form == tarfile.USTAR_FORMAT else 700)
    entries = [Entry(folder + "file", data=b"x" * 513), symlink("s", target), hard_link("h", "f"), Entry("f")]
    entries = [entries[0], entries[1], entries[3], entries[2]]

    unpacked(driver, archive_of(*entries, form=form), root)

    assert (root / folder / "file").read_bytes() == b"x" * 513
    assert os.readlink(root / "s") == target
    assert (root / "h").samefile(root / "f")


def test_numbers_of_every_form(driver: Driver, root: Path) -> None:
    """Large ids, times before 1970 and beyond octal, and fractions of both signs are kept."""
    ids: dict[str, Any] = dict(uid=2**32 - 2, gid=2**31) if ROOT else {}
    form: Literal[1] = tarfile.GNU_FORMAT
    gnu = archive_of(Entry("a", mtime=-5, **ids), Entry("b", mtime=2**33 + 1), form=form, end=False)
    pax = archive_of(
        Entry("c", pax_headers={"mtime": "-1.25", "comment": "x"}), Entry("d", pax_headers={"mtime": "3.1234567891"})
    )

    unpacked(driver, gnu + pax, root)

    times = {name: (root / name).stat().st_mtime_ns for name in "abcd"}
    assert times == {"a": -5 * 10**9, "b": (2**33 + 1) * 10**9, "c": -1_250_000_000, "d": 3_123_456_789}
    if ROOT:
        assert (root / "a").stat().st_uid == 2**32 - 2
        assert (root / "a").stat().st_gid == 2**31


def test_capabilities_of_files(driver: Driver, root: Path) -> None:
    """A file's capabilities survive the change of its owner, and packing."""
    value = b"\1\0\0\2" + b"\x20\0\0\0" + bytes(12)
    entry = Entry("ping", data=b"x", mode=0o755, pax_headers={})
    record = b" SCHILY.xattr.security.capability=" + value + b"\n"
    record = b"%d" % (len(record) + 2) + record
    head = Entry("x", b"x", data=record)
    archive = archive_of(head, entry, form=tarfile.USTAR_FORMAT)

    result = unpacked(driver, archive, root, flags=OURS if ROOT else OURS | NO_OWNER)

    if ROOT:
        assert os.getxattr(root / "ping", "security.capability") == value
        assert record in packed(driver, root)
    else:
        assert result.counts[2] == 1


def test_modes_and_owners(driver: Driver, root: Path) -> None:
    """Setuid bits survive the change of owner; one owner may be set for all, or none."""
    other = 1234 if ROOT else os.geteuid()
    entries = [Entry("su", mode=0o6755, uid=other, gid=other), directory("d", mode=0o3711, uid=other, gid=other)]

    unpacked(driver, archive_of(*entries), root)

    assert stat.S_IMODE((root / "su").stat().st_mode) == 0o6755
    assert stat.S_IMODE((root / "d").stat().st_mode) == 0o3711
    assert (root / "su").stat().st_uid == (root / "d").stat().st_gid == other

    mine = os.geteuid()
    unpacked(driver, archive_of(*entries), root, flags=NO_OWNER)
    assert (root / "su").stat().st_uid == mine
    unpacked(driver, archive_of(*entries), root, flags=ONE_OWNER, uid=other, gid=os.getegid())
    assert (root / "su").stat().st_uid == other


def test_devices(driver: Driver, root: Path) -> None:
    """Devices are made by root, or become empty files, or are left out; fifos are always made."""
    null = Entry("null", tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666)
    disk = Entry("disk", tarfile.BLKTYPE, devmajor=259, devminor=70000, mode=0o4660)
    fifo = Entry("fifo", tarfile.FIFOTYPE, mode=0o1620)
    archive = archive_of(null, disk, fifo)

    result = unpacked(driver, archive, root, flags=OURS | EMPTY_DEVICES)

    assert result.counts[3] == 2
    assert (root / "null").stat().st_size == 0
    assert stat.S_ISREG((root / "disk").stat().st_mode)
    assert stat.S_IMODE((root / "fifo").stat().st_mode) == 0o1620
    shutil.rmtree(root)
    root.mkdir()
    assert unpacked(driver, archive, root, flags=OURS | SKIP_DEVICES).counts[3] == 2
    assert os.listdir(root) == ["fifo"]
    result = driver("unpack", root, archive, flags=OURS)
    if ROOT:
        assert (root / "null").stat().st_rdev == os.makedev(1, 3)
        assert (root / "disk").stat().st_rdev == os.makedev(259, 70000)
        assert stat.S_IMODE((root / "disk").stat().st_mode) == 0o4660
    else:
        assert (result.step, result.error) == ("mknod", errno.EPERM)


def test_times_of_directories_need_no_memory(driver: Driver, root: Path) -> None:
    """Thousands of long directory names go through a file without a name; the last one said of a directory holds."""
    long = "n" * 200
    entries = [directory(f"{long}/{i:05}{long}", mtime=i) for i in range(1400)]
    entries += [Entry(f"{long}/00007{long}/late"), directory(f"{long}/00009{long}", mtime=77), directory(long, mtime=5)]

    unpacked(driver, archive_of(*entries), root)

    assert all((root / long / f"{i:05}{long}").stat().st_mtime == i for i in range(1400) if i != 9)
    assert (root / long / f"00009{long}").stat().st_mtime == 77
    assert (root / long).stat().st_mtime == 5
    assert os.listdir(root) == [long]


def test_the_rest_of_the_stream_is_read(driver: Driver, root: Path) -> None:
    """What follows the end goes nowhere, and its writer sees no broken pipe."""
    archive = archive_of(Entry("a")) + os.urandom(3 << 20)

    with driver.start("unpack", root) as child:
        assert child.stdin is not None
        child.stdin.write(archive)
        child.communicate()

    assert child.returncode == 0
    assert os.listdir(root) == ["a"]


def test_a_stream_in_small_pieces(driver: Driver, root: Path) -> None:
    """It doesn't matter how the stream is cut."""
    archive = archive_of(Entry("a", data=b"abc" * 700), directory("d" * 150), Entry("b", data=b"x" * 1024))

    with driver.start("unpack", root, flags=OURS) as child:
        assert child.stdin is not None
        for i in range(0, len(archive), 701):
            child.stdin.write(archive[i : i + 701])
            child.stdin.flush()
        child.communicate()

    assert child.returncode == 0
    assert (root / "a").read_bytes() == b"abc" * 700


def test_the_entry_of_the_root(driver: Driver, root: Path) -> None:
    """The root's own mode and time are set only where that is asked for."""
    archive = archive_of(directory("./", mode=0o711, mtime=5), Entry("./a"))
    root.chmod(0o750)

    unpacked(driver, archive, root)
    assert stat.S_IMODE(root.stat().st_mode) == 0o750

    unpacked(driver, archive, root, flags=OURS | ROOT_ENTRY)
    assert stat.S_IMODE(root.stat().st_mode) == 0o711
    assert root.stat().st_mtime == 5


def test_the_host_is_spoken_to_by_no_attribute(driver: Driver, root: Path) -> None:
    """Of an archive's attributes only harmless ones are set: no label, no integrity check, no overlayfs."""
    headers = {
        "SCHILY.xattr.user.fine": "yes",
        "SCHILY.xattr.user.overlay.redirect": "/etc",
        "SCHILY.xattr.trusted.overlay.opaque": "y",
        "SCHILY.xattr.security.selinux": "unconfined",
        "SCHILY.xattr.security.ima": "x",
        "SCHILY.xattr.nonsense": "x",
    }

    result = unpacked(driver, archive_of(Entry("a", pax_headers=headers)), root)

    assert os.listxattr(root / "a") == ["user.fine"]
    assert result.counts[2] == 5


# -- what is there already ---------------------------------------------------------------------------------------------


def test_copying_over_what_exists(driver: Driver, root: Path) -> None:
    """Files, links and whole directories are replaced, never written through; directories are merged."""
    (root / "file").write_text("old")
    os.link(root / "file", root / "other")
    (root / "kept").write_text("kept")
    (root / "link").symlink_to("kept")
    (root / "tree" / "deep").mkdir(parents=True)
    (root / "tree" / "deep" / "x").touch()
    (root / "merged").mkdir()
    (root / "merged" / "stays").touch()
    (root / "flat").touch()
    entries = [
        Entry("file", data=b"new"),
        Entry("link", data=b"new"),
        Entry("tree", data=b"new"),
        directory("merged"),
        Entry("merged/added"),
        directory("flat"),
        Entry("flat/below"),
        symlink("kept", "file"),
        hard_link("merged/stays", "file"),
    ]

    unpacked(driver, archive_of(*entries), root)

    assert (root / "file").read_text() == "new"
    assert (root / "other").read_text() == "old"
    assert not (root / "link").is_symlink()
    assert (root / "tree").read_text() == "new"
    assert sorted(os.listdir(root / "merged")) == ["added", "stays"]
    assert (root / "merged" / "stays").samefile(root / "file")
    assert (root / "flat" / "below").exists()
    assert os.readlink(root / "kept") == "file"


def test_a_link_to_itself(driver: Driver, root: Path) -> None:
    """A hard link of a file to its own name changes nothing."""
    unpacked(driver, archive_of(Entry("a", data=b"x"), hard_link("a", "a"), hard_link("./a", "/a")), root)

    assert (root / "a").read_bytes() == b"x"


@pytest.mark.parametrize(
    ("first", "then", "error"), [("d", Entry("d"), errno.EISDIR), ("f", directory("f"), errno.ENOTDIR)]
)
def test_kinds_may_be_kept(driver: Driver, root: Path, first: str, then: Entry, error: int) -> None:
    """As Docker's noOverwriteDirNonDir: a file takes no directory's place, nor the reverse."""
    (root / "d").mkdir()
    (root / "f").touch()

    result = driver("unpack", root, archive_of(then), flags=OURS | SAME_KIND)

    assert (result.code, result.step, result.error, result.path.rstrip("/")) == (1, "create", error, first)


@pytest.mark.parametrize("target", ["real", "/real", "../../real", "up/../real"])
def test_links_to_directories(driver: Driver, root: Path, target: str) -> None:
    """On the way a symlink is followed inside the root; at the end it is replaced, or kept if that is asked for."""
    (root / "real").mkdir()
    (root / "up").mkdir()
    for name in ("way", "end", "kept"):
        (root / name).symlink_to(target)

    for refused in (None, errno.ENOSYS, errno.EPERM):
        unpacked(driver, archive_of(Entry("way/file", data=b"x"), directory("end")), root, no_openat2=refused)
        unpacked(
            driver, archive_of(directory("kept"), Entry("kept/k")), root, OURS | KEEP_DIR_LINKS, no_openat2=refused
        )
        assert sorted(os.listdir(root / "real")) == ["file", "k"]
        assert not (root / "end").is_symlink()
        assert (root / "kept").is_symlink()
        shutil.rmtree(root / "real")
        (root / "real").mkdir()


def test_missing_directories_are_made(driver: Driver, root: Path) -> None:
    """Also those that a dangling symlink points to, as with /var/run."""
    (root / "var").mkdir()
    (root / "var" / "run").symlink_to("/run/./x/../y")

    for refused in (None, errno.ENOSYS):
        unpacked(driver, archive_of(Entry("a/b/c"), Entry("var/run/lock/file")), root, no_openat2=refused)
        assert (root / "a/b/c").exists()
        assert (root / "run/y/lock/file").exists()
        shutil.rmtree(root / "run")
        shutil.rmtree(root / "a")


def test_a_base_below_the_root(driver: Driver, root: Path) -> None:
    """Names start in a directory of the root; links on the way are still the whole root's, and `..` stays below."""
    (root / "run").mkdir()
    (root / "var" / "lib").mkdir(parents=True)
    (root / "var" / "run").symlink_to("/run")
    (root / "link").symlink_to("/var")

    for refused in (None, errno.ENOSYS):
        entries = [Entry("run/file"), directory("./", mode=0o711), Entry("/lib/x"), hard_link("lib/y", "/lib/x")]
        unpacked(driver, archive_of(*entries), root, OURS | ROOT_ENTRY, base="/link/", no_openat2=refused)
        assert sorted(os.listdir(root / "run")) == ["file"]
        assert (root / "var" / "lib" / "y").samefile(root / "var" / "lib" / "x")
        assert stat.S_IMODE((root / "var").stat().st_mode) == 0o711
        assert stat.S_IMODE(root.stat().st_mode) == 0o755
        assert driver("unpack", root, archive_of(Entry("../x")), base="var").step == "path leads out"
        assert driver("unpack", root, archive_of(hard_link("x", "../run/file")), base="var").step == "path leads out"
        missing = driver("unpack", root, archive_of(Entry("x")), base="var/none", no_openat2=refused)
        assert (missing.step, missing.error, missing.path) == ("path", errno.ENOENT, "var/none")
        (root / "run" / "file").unlink()


def mounted(script: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a script where it may mount."""
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-ec", script, *words]
    return subprocess.run(command, capture_output=True, text=True, check=True)


def test_a_mounted_file_is_written_in_place(driver: Driver, root: Path, tmp_path: Path) -> None:
    """As /etc/hosts of a container: it can't be replaced, and its other name has the new content, too."""
    (root / "hosts").touch()
    (tmp_path / "outer").write_text("old and long")
    (tmp_path / "a.tar").write_bytes(archive_of(Entry("hosts", data=b"new")))

    mounted(f'cd {tmp_path}; mount --bind outer root/hosts; "$0" unpack flags=1 3<root <a.tar', str(driver.program))

    assert (tmp_path / "outer").read_text() == "new"
    assert (root / "hosts").read_text() == ""


def test_mounts_of_another_namespace_stay(driver: Driver, root: Path, tmp_path: Path) -> None:
    """Seen through a container's root its mounts are not ours, and the kernel would unmount what we unlink."""
    (root / "tree" / "volume").mkdir(parents=True)
    (root / "hosts").touch()
    (tmp_path / "outer").write_text("old")
    script = f"mount --rbind {root} {root}; cd {root}; mount --bind {tmp_path} tree/volume; mount --bind ../outer hosts"
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-ec", f"{script}; echo; exec cat"]

    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        inside = Path(f"/proc/{child.pid}/root{root}")
        removed = driver("remove", inside, name="tree")
        unpacked(driver, archive_of(Entry("hosts", data=b"new"), directory("tree/volume", mode=0)), inside)
        replaced = driver("unpack", inside, archive_of(Entry("tree")), flags=OURS)
        mounts = Path(f"/proc/{child.pid}/mounts").read_text()
        child.communicate()

    assert removed.error == replaced.error == errno.EBUSY
    assert f"{root}/tree/volume" in mounts
    assert f"{root}/hosts" in mounts
    assert (tmp_path / "outer").read_text() == "new"
    assert stat.S_IMODE(tmp_path.stat().st_mode) != 0


def test_mounts_are_packed_empty(driver: Driver, root: Path, tmp_path: Path) -> None:
    """An export holds mount points, but not what is mounted there."""
    (root / "volume").mkdir()
    (root / "hosts").touch()
    (tmp_path / "outer").mkdir()
    (tmp_path / "outer" / "file").write_text("content")
    script = f'cd {tmp_path}; mount --bind outer root/volume; mount --bind outer/file root/hosts; "$0" pack path=.'

    mounted(f"{script} flags={PACK_ONE_MOUNT} 3<root >a.tar", str(driver.program))
    mounted(f"{script} 3<root >b.tar", str(driver.program))

    with tarfile.open(tmp_path / "a.tar") as tar:
        assert [(m.name, m.size) for m in tar] == [("hosts", 0), ("volume", 0)]
    with tarfile.open(tmp_path / "b.tar") as tar:
        assert [(m.name, m.size) for m in tar] == [("hosts", 7), ("volume", 0), ("volume/file", 7)]


# -- hostile archives --------------------------------------------------------------------------------------------------

FAR = "../" * 12
PART = "p" * 250
LONG = "".join(f"{chr(97 + i)}/" for i in range(16))
CORPUS: dict[str, tuple[Callable[[Path], list[Entry]], str]] = {
    "dots": (lambda out: [Entry("../evil")], "path leads out"),
    "dots in the middle": (lambda out: [Entry("a/../../evil")], "path leads out"),
    "dots as a directory": (lambda out: [directory("..", mode=0o777)], "path leads out"),
    "dots after a link": (lambda out: [symlink("l", "/a/b"), Entry("l/../../../evil")], "path leads out"),
    "absolute": (lambda out: [Entry(f"{out}/evil"), Entry(f"//{out}/evil")], ""),
    "link to the parent": (lambda out: [symlink("l", f"{FAR}{out}"), Entry("l/evil"), Entry("l/canary/file")], ""),
    "absolute link": (lambda out: [symlink("l", str(out)), Entry("l/evil"), Entry("l/canary/file", data=b"!")], ""),
    "link at the end": (lambda out: [symlink("l", f"{out}/canary/file"), Entry("l", data=b"!")], ""),
    "link at the end, a directory": (lambda out: [symlink("l", f"{out}/canary"), directory("l", mode=0o777)], ""),
    "chain": (lambda out: [symlink("a", "."), symlink("a/b", ".."), symlink("b/c", ".."), Entry("b/c/evil")], ""),
    "own parent": (lambda out: [directory("d"), symlink("d/l", "../.."), Entry("d/l/evil"), Entry("d/l/../evil")], ""),
    "swapped": (lambda out: [directory("d"), Entry("d/x"), symlink("d", str(out)), Entry("d/evil")], ""),
    "swapped by a hard link": (
        lambda out: [symlink("l", str(out)), directory("d"), Entry("d/x"), hard_link("d", "l"), Entry("d/evil")],
        "",
    ),
    "loop": (lambda out: [symlink("a", "b"), symlink("b", "a"), Entry("a/evil")], "path"),
    "hard link out": (lambda out: [hard_link("h", f"{FAR}{out}/canary/file")], "path leads out"),
    "absolute hard link": (lambda out: [hard_link("h", f"{out}/canary/file")], "path"),
    "hard link by a link": (lambda out: [symlink("l", str(out)), hard_link("h", "l/canary/file")], "path"),
    "hard link of a link": (
        lambda out: [symlink("l", f"{out}/canary/file"), hard_link("h", "l"), Entry("h", data=b"!")],
        "",
    ),
    "hard link of the root": (lambda out: [hard_link("h", "/")], "archive format"),
    "hard link of nothing": (lambda out: [hard_link("h", "")], "archive format"),
    "magic link": (lambda out: [symlink("l", f"/proc/self/fd/3/../{out}"), Entry("l/evil")], ""),
    "realpath overflow": (
        lambda out: [
            *(e for i in range(16) for e in long_step(i)),
            symlink(LONG + "l", "l" * 254),
            symlink(LONG + "l" * 254, "../" * 16),
            symlink("escape", LONG + "l" + "/../../.." + str(out)),
            Entry("escape/evil"),
            Entry("escape/canary/file", data=b"!"),
        ],
        "*",
    ),
    "whiteout": (lambda out: [symlink("l", f"{out}/canary"), Entry("l/.wh.file"), Entry("l/.wh..wh..opq")], ""),
    "whiteout of the parent": (lambda out: [Entry("d/.wh..")], "archive format"),
    "whiteout of dots": (lambda out: [Entry("d/.wh...")], "archive format"),
    "whiteout of nothing": (lambda out: [Entry(".wh.")], "archive format"),
    "empty link": (lambda out: [symlink("l", "")], "archive format"),
    "file for the root": (lambda out: [Entry("."), Entry("/")], "archive format"),
    "link for the root": (lambda out: [symlink("./", str(out))], "archive format"),
    "directories through a file": (lambda out: [Entry("f"), Entry("f/evil")], "path"),
    "long component": (lambda out: [Entry("x" * 256)], "limit"),
    "long path": (lambda out: [Entry("x/" * 2048 + "x")], "limit"),
    "setuid": (lambda out: [Entry("su", mode=0o6777), symlink("l", f"{out}/canary/file"), Entry("l", mode=0o6777)], ""),
    "device": (lambda out: [Entry("sda", tarfile.BLKTYPE, devmajor=8, mode=0o666), Entry("sda", data=b"!")], ""),
    "unknown kind": (lambda out: [Entry("x", b"Z")], "archive format"),
    "owner of no one": (lambda out: [Entry("x", uid=2**32 - 1)], "archive format"),
}


def long_step(i: int) -> list[Entry]:
    """Return a directory with a long name and a short link to it, as in CVE-2025-4517."""
    here = "".join(f"{chr(97 + k)}/" for k in range(i))
    return [directory(here + PART), symlink(here + chr(97 + i), PART)]


@pytest.fixture
def outside(tmp_path: Path, root: Path) -> Path:
    """A directory beside the root with something to lose."""
    canary = tmp_path / "canary"
    canary.mkdir()
    (canary / "file").write_text("secret")
    (canary / "file").chmod(0o640)
    return tmp_path


def around(outside: Path) -> dict[bytes, tuple[object, ...]]:
    """Return the state of everything beside the root."""
    return {
        path: entry for child in outside.iterdir() if child.name != "root" for path, entry in snapshot(child).items()
    }


@pytest.mark.parametrize("refused", [None, errno.ENOSYS, errno.EPERM])
@pytest.mark.parametrize("flags", [WHITEOUTS | USERXATTR, KEEP_DIR_LINKS])
@pytest.mark.parametrize("name", CORPUS)
def test_nothing_outside_the_root(
    driver: Driver, root: Path, outside: Path, name: str, flags: int, refused: int | None
) -> None:
    """Whatever an archive says, nothing outside the root is created, changed or removed."""
    make, step = CORPUS[name]
    archive = archive_of(*make(outside))
    before = around(outside)

    result = driver("unpack", root, archive, flags=OURS | EMPTY_DEVICES | flags, no_openat2=refused)

    assert around(outside) == before
    assert (outside / "canary" / "file").stat().st_nlink == 1
    if step != "*" and not (name.startswith("whiteout") and flags == KEEP_DIR_LINKS):
        assert (result.code, result.step) == ((1, step) if step else (0, "nothing")), result
    if step != "*":
        assert b"secret" not in driver("pack", root, path=".").output


@contextmanager
def flipping(path: Path, target: Path) -> Iterator[None]:
    """Let a process turn a directory into a symlink to `target` and back, all the time."""
    script = (
        "import os, sys\n"
        "at, to = sys.argv[1:]\n"
        "os.symlink(to, at + '.link')\n"
        "os.makedirs(at + '.dir', exist_ok=True)\n"
        "os.rename(at + '.dir', at)\n"
        "print(flush=True)\n"
        "while True:\n"
        "    try:\n"
        "        os.rename(at, at + '.dir')\n"
        "        os.rename(at + '.link', at)\n"
        "        os.rename(at, at + '.link')\n"
        "        os.rename(at + '.dir', at)\n"
        "    except OSError:\n"
        "        for do in (lambda: os.mkdir(at), lambda: os.symlink(to, at + '.link')):\n"
        "            try: do()\n"
        "            except OSError: pass\n"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(path), str(target)], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        try:
            yield
        finally:
            child.kill()


@pytest.mark.parametrize("refused", [None, errno.ENOSYS])
def test_a_root_that_changes_meanwhile(driver: Driver, root: Path, outside: Path, refused: int | None) -> None:
    """A container that swaps directories for links to the host wins nothing, in either direction."""
    before = around(outside)
    into = archive_of(*(e for i in range(60) for e in (Entry(f"x/{i}", data=b"!"), Entry("x/file", data=b"!"))))

    with flipping(root / "x", outside / "canary"):
        end = time.monotonic() + 4
        while time.monotonic() < end:
            driver("unpack", root, into, flags=OURS, no_openat2=refused)
            driver("unpack", root, archive_of(directory("x", mode=0o777)), flags=OURS, no_openat2=refused)
            for path in (".", "x", "x/file"):
                assert b"secret" not in driver("pack", root, path=path, no_openat2=refused).output
            driver("remove", root, name="x", no_openat2=refused)

    assert around(outside) == before


# -- limits and damage -------------------------------------------------------------------------------------------------


def test_limits(driver: Driver, root: Path) -> None:
    """Each limit holds where it is set, and not one byte before."""
    many = archive_of(*(Entry(f"f{i}", data=b"x" * 100) for i in range(10)))
    xattr = archive_of(Entry("x", pax_headers={"SCHILY.xattr.user.a": "v" * 100, "SCHILY.xattr.user.b": "v" * 100}))
    deep = archive_of(Entry("d/" * 20 + "x"))
    cases: list[tuple[bytes, str, int, int, int]] = [
        (many, "max_entries", 10, 9, errno.E2BIG),
        (many, "max_bytes", 1000, 999, errno.EFBIG),
        (many, "max_size", 100, 99, errno.EFBIG),
        (xattr, "max_xattr", 200, 199, errno.E2BIG),
        (deep, "max_path", 41, 40, errno.ENAMETOOLONG),
    ]

    for archive, key, enough, few, error in cases:
        unpacked(driver, archive, root, OURS, **{key: enough})
        result = driver("unpack", root, archive, (), flags=OURS, **{key: few})
        assert (result.code, result.step, result.error) == (1, "limit", error), key


def test_holes_count_as_declared(driver: Driver, root: Path, tmp_path: Path) -> None:
    """A huge sparse file costs nothing on disk, and its declared size can be bounded."""
    source = tmp_path / "source"
    source.mkdir()
    with open(source / "huge", "wb") as file:
        file.truncate(1 << 40)
    archive = gnu_tar("-C", str(source), "--format=posix", "-S", "-cf", "-", "huge")

    assert unpacked(driver, archive, root, max_bytes=1).counts[:2] == [1, 0]

    assert (root / "huge").stat().st_size == 1 << 40
    assert driver("unpack", root, archive, flags=OURS, max_size=1 << 39).step == "limit"


@pytest.mark.parametrize("header", ["path", "SCHILY.xattr.user.x", "comment"])
def test_a_bomb_of_headers(driver: Driver, root: Path, header: str) -> None:
    """An endless extended header is refused before it is read."""
    head = Entry("x")
    head.type, head.size = b"x", 1 << 40

    result = driver("unpack", root, head.tobuf(tarfile.GNU_FORMAT) + f"99 {header}=x".encode(), flags=OURS)

    assert (result.code, result.step) == (1, "limit")


def peak_memory(pid: int) -> int:
    """Return how many KiB of memory a process had at most."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1])


@pytest.mark.slow
def test_memory_is_bounded(fast: Driver, root: Path) -> None:
    """A hundred thousand entries and long headers take no more memory than a few."""
    archive = archive_of(*(directory(f"{'d' * 100}/{i}") for i in range(20000)))

    with fast.start("unpack", root, flags=OURS) as child:
        assert child.stdin is not None
        child.stdin.write(archive)
        peak = peak_memory(child.pid)
        child.communicate()

    assert child.returncode == 0
    assert peak < 20 * 1024


def sample(folder: Path) -> bytes:
    """Return an archive with everything in it."""
    folder.mkdir()
    (folder / ("long" * 30)).mkdir()
    (folder / ("long" * 30) / ("name" * 30)).write_bytes(os.urandom(700))
    (folder / "link").symlink_to("t" * 120)
    os.link(folder / ("long" * 30) / ("name" * 30), folder / "hard")
    with open(folder / "sparse", "wb") as file:
        for i in range(8):
            file.seek(i * 65536)
            file.write(b"data")
    os.setxattr(folder / "sparse", "user.x", b"value")
    parts = []
    for words in (
        ["--format=posix", "-S", "--sparse-version=1.0", "--xattrs"],
        ["--format=posix", "-S", "--sparse-version=0.1"],
        ["--format=posix", "-S", "--sparse-version=0.0"],
        ["--format=gnu", "-S"],
    ):
        part = gnu_tar("-C", str(folder), *words, "-b", "1", "-cf", "-", "hard", "link", "long" * 30, "sparse")
        parts.append(part[:-1024])
    return b"".join(parts) + bytes(1024)


def test_every_truncation_is_noticed(driver: Driver, root: Path, tmp_path: Path) -> None:
    """An archive cut off anywhere fails as corrupt, if its end is demanded; cut inside an entry it always does."""
    archive = sample(tmp_path / "sample")
    unpacked(driver, archive, root, OURS | NEED_END)

    for end in range(0, len(archive) - 1023, 512):
        result = driver("unpack", root, archive[:end], flags=OURS | NEED_END)
        assert (result.code, result.step) == (1, "archive format"), end
    for end in range(511, len(archive) - 1024, 1536):
        result = driver("unpack", root, archive[:end], flags=OURS)
        assert (result.code, result.step) == (1, "archive format"), end


def resealed(archive: bytearray, at: int) -> None:
    """Make a header's checksum right again, so that what was changed is believed."""
    block = at - at % 512
    header = archive[block : block + 512]
    header[148:156] = b" " * 8
    archive[block + 148 : block + 156] = b"%06o\0 " % sum(header)


@pytest.mark.slow
def test_damaged_archives_do_no_harm(driver: Driver, root: Path, outside: Path) -> None:
    """Random changes never crash the unpacker nor lead it out of the root."""
    chance = random.Random(5)
    archive = sample(outside / "sample")
    before = around(outside)
    words = [
        b"../",
        b"/",
        b"\0",
        b"\xff",
        b"99999999999",
        b"\n",
        b"=",
        b"..",
        b"-1",
        bytes(12),
        b"SCHILY.xattr.",
        b"\x80",
    ]
    places = [i for i in range(0, len(archive), 512) if archive[i + 257 : i + 262] == b"ustar"]

    for _ in range(1500):
        damaged = bytearray(archive)
        for _ in range(chance.randint(1, 6)):
            if chance.random() < 0.7:
                block = chance.choice(places)
                field = chance.choice([0, 100, 108, 116, 124, 136, 156, 157, 257, 345, 386, 398, 482, 483])
                at = block + field + chance.randint(0, 11)
            else:
                block = at = chance.randrange(len(archive))
            new = chance.choice([*words, bytes([chance.randrange(256)])])
            damaged[at : at + len(new)] = new
            if chance.random() < 0.8 and block in places:
                resealed(damaged, block)
        driver("unpack", root, bytes(damaged[: len(archive)]), flags=OURS | EMPTY_DEVICES, max_size=1 << 30)

    assert around(outside) == before


# -- whiteouts and overlays --------------------------------------------------------------------------------------------


def test_whiteouts(driver: Driver, root: Path) -> None:
    """OCI's whiteouts become overlayfs's, in whatever order they come, and go back to what they were."""
    entries = [
        Entry("a/.wh.gone"),
        Entry("b/.wh..wh..opq"),
        Entry("b/new"),
        directory("c"),
        Entry("c/kept"),
        Entry(".wh.c"),
        Entry(".wh.d"),
        directory("d"),
        Entry("d/kept"),
        Entry(".wh..wh.aufs"),
        Entry(".wh.e"),
        Entry("e", data=b"x"),
    ]

    unpacked(driver, archive_of(*entries), root, OURS | WHITEOUTS | USERXATTR)

    gone = (root / "a" / "gone").lstat()
    assert stat.S_ISCHR(gone.st_mode)
    assert gone.st_rdev == 0
    for name in "bcd":
        assert os.getxattr(root / name, "user.overlay.opaque") == b"y"
    assert sorted(names_below(root)) == [b"a", b"a/gone", b"b", b"b/new", b"c", b"c/kept", b"d", b"d/kept", b"e"]
    archive = packed(driver, root, flags=PACK_WHITEOUTS | PACK_USERXATTR)
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        assert "a/.wh.gone b b/.wh..wh..opq b/new c c/.wh..wh..opq".split() == tar.getnames()[1:7]


def test_whiteouts_without_mknod(driver: Driver, root: Path, tmp_path: Path) -> None:
    """Where no device can be made a whiteout is an attribute, which hides as well and packs as well."""
    entries = [directory("d"), Entry("d/.wh.gone"), Entry("d/.wh.gone"), Entry("d/kept")]
    (tmp_path / "lower" / "d").mkdir(parents=True)
    (tmp_path / "lower" / "d" / "gone").touch()
    (tmp_path / "lower" / "d" / "stays").touch()

    unpacked(driver, archive_of(*entries), root, OURS | WHITEOUTS | USERXATTR, no_mknod=errno.EPERM)

    assert (root / "d" / "gone").stat().st_size == 0
    assert os.getxattr(root / "d" / "gone", "user.overlay.whiteout") == b"y"
    with tarfile.open(fileobj=io.BytesIO(packed(driver, root, flags=PACK_WHITEOUTS | PACK_USERXATTR))) as tar:
        assert tar.getnames() == ["d", "d/.wh.gone", "d/kept"]
    assert differences(driver, root, (tmp_path / "lower",)) == ["C /d", "D /d/gone", "A /d/kept"]
    if tuple(int(n) for n in os.uname().release.split(".")[:2]) >= (6, 7):
        lowers = f"{root}:{tmp_path}/lower"
        seen = mounted(f"mount -t overlay -o userxattr,lowerdir={lowers} none /mnt; ls /mnt/d").stdout
        assert seen.split() == ["kept", "stays"]


def test_whiteouts_taken_literally(driver: Driver, root: Path) -> None:
    """Copied into a container, such names are names as others."""
    unpacked(driver, archive_of(Entry(".wh.x"), Entry("d/.wh..wh..opq")), root)

    assert sorted(names_below(root)) == [b".wh.x", b"d", b"d/.wh..wh..opq"]


OVERLAY = "mount -t overlay -o userxattr,lowerdir={lowers},upperdir={upper},workdir={work} none {merged}"


def changed(tmp_path: Path, layers: list[str], commands: str) -> tuple[Path, tuple[Path, ...]]:
    """Run commands in an overlay over layers that other commands made, the topmost first; return upper and lowers."""
    lowers = tuple(tmp_path / f"lower{i}" for i in range(len(layers)))
    merged, upper, work = (tmp_path / name for name in ("merged", "upper", "work"))
    for path in (*lowers, merged, upper, work):
        path.mkdir()
    script = ["umask 022"]
    for i in reversed(range(len(layers))):
        if i == len(layers) - 1:
            script.append(f"cd {lowers[i]}; {layers[i]}")
        else:
            below = ":".join(str(p) for p in lowers[i + 1 :])
            script.append(OVERLAY.format(lowers=below, upper=lowers[i], work=work, merged=merged))
            script.append(f"cd {merged}; {layers[i]}; cd /; umount {merged}")
            script.append(f"rm -rf {work}; mkdir {work}")
    below = ":".join(str(p) for p in lowers)
    script.append(OVERLAY.format(lowers=below, upper=upper, work=work, merged=merged))
    script.append(f"cd {merged}; {commands}")
    mounted("\n".join(script))
    return upper, lowers


def differences(driver: Driver, upper: Path, lowers: tuple[Path, ...]) -> list[str]:
    """Return the records of a diff as `docker diff` prints them, sorted."""
    result = driver("diff", upper, lowers=lowers, flags=1)
    assert result.code == 0, result
    fields = os.fsdecode(result.output).split("\0")
    records = [f"{kind} {path}" for kind, path in zip(fields[::2], fields[1::2], strict=False)]
    seen = set()
    for record in records:
        parent = record[2:].rpartition("/")[0]
        assert not parent or parent in seen or record[0] == "D", record
        seen.add(record[2:])
    return sorted(records, key=lambda record: record[2:])


BASE = "mkdir -p etc usr/lib/a/b keep; echo 1 >etc/passwd; echo 2 >etc/group; touch usr/lib/a/b/x usr/lib/y keep/z; ln -s y l"


@pytest.mark.parametrize(
    ("layers", "commands", "expected"),
    [
        ([BASE], ":", ""),
        ([BASE], "touch new", "A /new"),
        ([BASE], "mkdir -p n/m; touch n/m/o", "A /n;A /n/m;A /n/m/o"),
        ([BASE], "echo more >>etc/passwd", "C /etc;C /etc/passwd"),
        ([BASE], "rm etc/passwd", "C /etc;D /etc/passwd"),
        ([BASE], "rm -r usr/lib/a", "C /usr;C /usr/lib;D /usr/lib/a"),
        ([BASE], "chmod 700 usr/lib", "C /usr;C /usr/lib"),
        ([BASE], "touch -h l; rm l; ln -s etc l", "C /l"),
        ([BASE], "rm -r keep; touch keep", "C /keep"),
        ([BASE], "rm etc/group; mkdir etc/group; touch etc/group/x", "C /etc;C /etc/group;A /etc/group/x"),
        ([BASE], "rm -r usr; mkdir -p usr/lib; touch usr/lib/y", "C /usr;C /usr/lib;D /usr/lib/a;C /usr/lib/y"),
        ([BASE], "touch t; rm t", ""),
        ([BASE], "mv keep/z keep/w", "C /keep;A /keep/w;D /keep/z"),
        (["rm etc/passwd; rm -r usr/lib/a; mkdir usr/lib/a; touch usr/lib/a/q", BASE],
         "touch etc/passwd; mkdir usr/lib/a/b; rm usr/lib/a/q",
         "C /etc;A /etc/passwd;C /usr;C /usr/lib;C /usr/lib/a;A /usr/lib/a/b;D /usr/lib/a/q"),
        (["touch usr/top", BASE], "rm -r usr; mkdir usr", "C /usr;D /usr/lib;D /usr/top"),
    ],
)  # fmt: skip
def test_differences(driver: Driver, tmp_path: Path, layers: list[str], commands: str, expected: str) -> None:
    """What overlayfs recorded reads as docker diff prints it."""
    upper, lowers = changed(tmp_path, layers, commands)

    assert differences(driver, upper, lowers) == sorted(filter(None, expected.split(";")), key=lambda r: r[2:])


# -- packing -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "name", "flags", "expected"),
    [
        ("d", "", 0, ["f", "s"]),
        ("d", "x", 0, ["x", "x/f", "x/s"]),
        ("/d/", "x/y/", 0, ["x/y", "x/y/f", "x/y/s"]),
        ("d/f", "", 0, ["f"]),
        ("d/f", "g", 0, ["g"]),
        ("link", "", 0, ["link"]),
        ("link", "", PACK_FOLLOW, ["f", "s"]),
        ("link/", "", 0, ["f", "s"]),
        ("link/f", "", 0, ["f"]),
        ("../../out/f", "", 0, ["f"]),
        (".", "r", 0, ["r", "r/d", "r/d/f", "r/d/s", "r/link", "r/out"]),
    ],
)
@pytest.mark.parametrize("refused", [None, errno.ENOSYS])
def test_what_is_packed(
    driver: Driver, root: Path, path: str, name: str, flags: int, expected: list[str], refused: int | None
) -> None:
    """A path is resolved inside the root, and the archive calls it as it's told."""
    (root / "d").mkdir()
    (root / "d" / "f").write_text("x")
    (root / "d" / "s").symlink_to("f")
    (root / "link").symlink_to("/d")
    (root / "out").symlink_to("../../../d")

    archive = packed(driver, root, path, name=name, flags=flags, no_openat2=refused)

    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        assert tar.getnames() == expected


def test_what_can_not_be_packed(driver: Driver, root: Path) -> None:
    """What isn't there is an error with its path; a socket is left out."""
    result = driver("pack", root, path="a/b")
    assert (result.code, result.step, result.error, result.path) == (1, "path", errno.ENOENT, "a/b")
    (root / "a").symlink_to("a")
    assert driver("pack", root, path="a/b").error == errno.ELOOP
    code = "import socket, sys; socket.socket(socket.AF_UNIX).bind(sys.argv[1])"
    subprocess.run([sys.executable, "-c", code, "a.sock"], cwd=root, check=True)
    with tarfile.open(fileobj=io.BytesIO(packed(driver, root))) as tar:
        assert tar.getnames() == ["a"]


def test_one_owner_for_all(driver: Driver, root: Path) -> None:
    """An archive can be packed as if all belonged to one owner."""
    (root / "f").touch()

    archive = packed(driver, root, flags=PACK_ONE_OWNER, uid=2**31, gid=7)

    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        assert (tar.getmember("f").uid, tar.getmember("f").gid) == (2**31, 7)


@pytest.mark.slow
def test_a_directory_of_many_names(fast: Driver, root: Path) -> None:
    """Names that don't fit into memory are packed in order all the same, in several passes."""
    names = [f"{i * 7919 % 40000:05}{'n' * 200}" for i in range(40000)]
    for name in names:
        os.close(os.open(root / name, os.O_CREAT | os.O_WRONLY))
    (root / "deep").mkdir()
    (root / "deep" / "est").touch()

    with fast.start("pack", root, path=".") as child:
        assert child.stdout is not None
        with tarfile.open(fileobj=child.stdout, mode="r|") as tar:
            found = [tar.next().name for _ in range(len(names) - 100)]  # type: ignore[union-attr]
            peak = peak_memory(child.pid)
            found += tar.getnames()[len(names) - 100 :]
        child.wait()

    assert child.returncode == 0
    assert found == [*sorted(names), "deep", "deep/est"]
    assert peak < 40 * 1024
    assert fast("usage", root).counts[2] == 40003
    assert fast("remove", root.parent, name="root").code == 0


def test_a_deep_tree(driver: Driver, root: Path) -> None:
    """A path as long as the kernel takes is packed and comes back; a longer one is an error."""
    deep = "d/" * 1900
    unpacked(driver, archive_of(Entry(deep + "file", data=b"x")), root)

    archive = packed(driver, root)

    with folders("b") as (other,):
        unpacked(driver, archive, other)
        again = packed(driver, other)
        assert driver("remove", other, name="d").code == 0
    assert again == archive
    make_deep(root, 2500)
    result = driver("pack", root, path=".")
    assert (result.step, result.error) == ("list", errno.ENAMETOOLONG)
    assert driver("remove", root, name="d").code == 0


def make_deep(at: Path, depth: int) -> None:
    """Make directories in each other, deeper than any path."""
    code = "import os, sys\nos.chdir(sys.argv[1])\nfor i in range(int(sys.argv[2])):\n"
    code += "    os.path.exists('d') or os.mkdir('d')\n    open('f', 'w').close()\n    os.chdir('d')\n"
    subprocess.run([sys.executable, "-c", code, str(at), str(depth)], check=True)


# -- removing and adding up --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [47, 48, 49, 50, pytest.param(16500, marks=pytest.mark.slow)])
def test_removing_a_deep_tree(fast: Driver, root: Path, depth: int) -> None:
    """No depth is too much, with few descriptors."""
    make_deep(root, depth)

    result = fast("remove", root, name="d")

    assert result.code == 0, result
    assert os.listdir(root) == ["f"]


def test_removing(driver: Driver, root: Path, outside: Path) -> None:
    """A tree goes with all kinds of entries; links are not followed; what is gone is no failure."""
    before = around(outside)
    tree = root / "t"
    for name in ("a/b", "a/c", "d", "a/locked"):
        (tree / name).mkdir(parents=True)
    for i in range(3000):
        (tree / "d" / str(i)).touch()
    (tree / "a" / "b" / "l").symlink_to(outside / "canary")
    (tree / "a" / "locked" / "f").touch()
    os.mkfifo(tree / "fifo")
    (tree / "a" / "locked").chmod(0)

    assert driver("remove", root, name="t").code == 0
    assert driver("remove", root, name="t").code == 0
    (root / "l").symlink_to(outside / "canary")
    assert driver("remove", root, name="l").code == 0

    assert os.listdir(root) == []
    assert around(outside) == before


def test_removing_crosses_no_mount(driver: Driver, root: Path, outside: Path) -> None:
    """A mount point below stays, with all that is in it."""
    (root / "t" / "m").mkdir(parents=True)
    script = f'mount --bind {outside}/canary {root}/t/m; "$0" remove name=t 3<{root} || echo $?; ls {root}/t/m'

    done = mounted(script, str(driver.program))

    assert done.stdout == "1\nfile\n"
    assert result_of(1, b"", done.stderr.encode()).error == errno.EBUSY
    assert (outside / "canary" / "file").read_text() == "secret"


def test_usage(driver: Driver, root: Path) -> None:
    """Sizes are those of du; a file with several names counts once."""
    (root / "d").mkdir()
    (root / "d" / "f").write_bytes(b"x" * 100000)
    os.link(root / "d" / "f", root / "g")
    with open(root / "hole", "wb") as file:
        file.truncate(1 << 30)

    disk, size, inodes = driver("usage", root).counts

    assert disk == int(subprocess.run(["du", "-s", "-B1", root], capture_output=True, check=True).stdout.split()[0])
    assert size == 100000 + (1 << 30)
    assert inodes == 4


# -- speed -------------------------------------------------------------------------------------------------------------


def test_as_cheap_as_gnu_tar(fast: Driver, tmp_path: Path) -> None:
    """Unpacking in memory costs no more processor time than GNU tar needs; the ratio is printed."""
    source = tmp_path / "source"
    for i in range(20):
        (source / f"d{i}").mkdir(parents=True)
        for k in range(50):
            (source / f"d{i}" / f"f{k}").write_bytes(b"x" * (k * 400))
    archive = gnu_tar("-C", str(source), "-cf", "-", ".")
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else tmp_path

    def cost(run: Callable[[Path], object]) -> float:
        with tempfile.TemporaryDirectory(dir=memory) as to:
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            run(Path(to))
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    ours, theirs = [], []
    for _ in range(7):
        ours.append(cost(lambda to: fast("unpack", to, archive, flags=OURS)))
        theirs.append(cost(lambda to: gnu_tar("-C", str(to), "-xpf", "-", archive=archive)))
    print(f"unpack: {min(ours):.3f} s, GNU tar {min(theirs):.3f} s, ratio {min(ours) / min(theirs):.2f}")
    assert min(ours) < 1.5 * min(theirs)
