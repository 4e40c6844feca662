"""Row 4: copies and paths while the container swaps what they name for links to the host, and programs that it plants
(CVE-2018-15664, CVE-2019-10152, CVE-2019-14271, CVE-2026-41567, CVE-2026-42306)."""

from __future__ import annotations

import io
import lzma
import os
import stat
import subprocess
import tarfile
import time
from collections.abc import Callable
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from securitykit import Canary
from securitykit import require_root

from pycontainers import Container
from pycontainers import Engine
from pycontainers import Image
from pycontainers.errors import ContainersError

require_root()

SECONDS, SOAK = 4.0, 120.0
#: What the container's own file says where the canary says "the host's".
INNER = "the container's\n"


class Flipper:
    """A container whose /x is a directory at one moment, and a link at the next: to the canary's place, or to /."""

    def __init__(self, box: type[Container], canary: Canary) -> None:
        self.canary = canary
        swap = "probe flip /x /link /y/z /y/link /f /g"
        self.container = box("sh", "-c", f"mkdir -p /x /y/z && cp /inner /x/secret && cp /inner /y/z/secret && cp /inner /f && "
                             f"ln -s {canary.folder} /link && ln -s / /y/link && ln -s {canary.secret} /g && exec {swap}")
        self.read: set[str] = set()
        self.worked = 0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Let it swap; it must have done so thousands of times."""
        self.container.start()
        try:
            yield
        finally:
            self.container.kill("TERM")
            self.container.wait(10)
            flips = int(str(self.container.logs()).rpartition("flips ")[2].split()[0])
            self.container.remove(force=True)
        assert flips > 1000

    def attempt(self, call: Callable[[], object]) -> None:
        """Do something that may meet either state; what it reads is kept."""
        try:
            answer = call()
        except (ContainersError, OSError):
            return
        self.worked += 1
        if isinstance(answer, bytes):
            answer = answer.decode()
        if isinstance(answer, str):
            self.read.add(answer)


def everything(flipper: Flipper, target: Path, number: int) -> list[Callable[[], object]]:
    """Return one call of each kind on swapped paths; paths below the canary's own name as well."""
    c, folder = flipper.container, flipper.canary.folder
    source = target / "source"

    def out(path: str) -> str:
        # A link is copied as the link that it is, as `docker cp` does: whoever reads it must not follow.
        place = target / f"out{number}-{path.count('/')}-{len(path)}"
        c.copy_from(path, place)
        for found in (place, place / "secret"):
            if found.is_symlink():
                return ""
            if found.is_file():
                return found.read_text()
        return ""

    return [
        lambda: c.copy_from("/x/secret"), lambda: c.copy_from("/f"), lambda: c.copy_from("/y/z" + str(flipper.canary.secret)),
        lambda: out("/x"), lambda: out("/x/."), lambda: out("/x/secret"),
        lambda: c.copy_to(b"evil", "/x/evil"), lambda: c.copy_to(b"evil", "/x/secret2"), lambda: c.copy_to(source, "/x/"),
        lambda: c.copy_to(b"evil", f"/y/z{folder}/evil"), lambda: c.copy_to(source, f"/y/z{folder}"),
        lambda: c.path("/x/secret").read_text(), lambda: c.path("/f").read_text(),
        lambda: c.path("/x/evil2").write_text("evil"), lambda: c.path("/x/dir").mkdir(), lambda: c.path("/x/dir").rmdir(),
        lambda: c.path("/x/evil").unlink(), lambda: c.path("/x/evil2").rename("/x/evil3"), lambda: c.path("/x/l").symlink_to("/"),
        lambda: c.path("/x/secret2").chmod(0o777), lambda: c.path(f"/y/z{folder}/evil").write_text("evil"),
        lambda: c.path(f"/y/z{folder}/secret").unlink(), lambda: c.path(f"/y/z{folder}/dir").mkdir(),
        lambda: ",".join(sorted(p.name for p in c.path("/x").iterdir() if p.name == "canary")),
    ]


def race(box: type[Container], canary: Canary, target: Path, seconds: float) -> None:
    target.mkdir()
    (target / "source").mkdir()
    (target / "source/evil").write_text("evil")
    flipper = Flipper(box, canary)
    with flipper.running():
        deadline = time.monotonic() + seconds
        number = 0
        while time.monotonic() < deadline or number < 5:
            for call in everything(flipper, target, number):
                flipper.attempt(call)
            canary.check()
            number += 1
    canary.check()
    assert flipper.worked > number * 3
    assert INNER in flipper.read
    assert flipper.read <= {INNER, "evil", ""}


@pytest.fixture(scope="module")
def inner(engine: Engine, rootfs: Path) -> type[Container]:
    """The image, with the file that a copy may read."""
    (rootfs / "inner").write_text(INNER)
    return Image.import_rootfs(rootfs, "inner", engine=engine)


def test_copies_while_the_container_swaps_paths(inner: type[Container], canary: Canary, tmp_path: Path) -> None:
    race(inner, canary, tmp_path / "target", SECONDS)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_copies_for_minutes_while_the_container_swaps_paths(inner: type[Container], canary: Canary, tmp_path: Path) -> None:
    race(inner, canary, tmp_path / "target", SOAK)


def test_a_copy_that_walked_the_hosts_paths_would_show(probe: Path, canary: Canary, tmp_path: Path) -> None:
    """So that the tests above can fail: the same swaps, and who resolves the name as the host does meets the canary."""
    (tmp_path / "x").mkdir()
    (tmp_path / "x/secret").write_text(INNER)
    (tmp_path / "link").symlink_to(canary.folder)
    read: set[str] = set()
    with subprocess.Popen([probe, "flip", tmp_path / "x", tmp_path / "link"], stdout=subprocess.DEVNULL) as flips:
        deadline = time.monotonic() + 20
        while len(read) < 2 and time.monotonic() < deadline:
            read.add((tmp_path / "x/secret").read_text())
        flips.terminate()
    assert read == {INNER, "the host's\n"}


def test_ended_containers_are_read_below_their_root(inner: type[Container], canary: Canary, tmp_path: Path) -> None:
    """What a container leaves behind when it ends: links to the host in all places."""
    container = inner("sh", "-c", f"ln -s {canary.folder} /x; ln -s {canary.secret} /f; ln -s / /r; mkdir /d; ln -s / /d/up")
    container.start()
    container.wait(10)
    for call in (lambda: container.copy_from("/x/secret"), lambda: container.path("/x/secret").read_text(),
                 lambda: container.path("/f").read_text(), lambda: container.copy_to(b"evil", "/x/evil"),
                 lambda: container.path(f"/r{canary.secret}").read_text(), lambda: container.path("/x/evil").write_text("evil")):
        with pytest.raises((ContainersError, OSError)):
            call()
    place = container.copy_from("/d", tmp_path / "d")
    assert os.readlink(place / "up") == "/"
    # `..` above the root is the root, and names nothing above the target.
    (tmp_path / "deep/target").mkdir(parents=True)
    container.copy_from("/d/..", tmp_path / "deep/target")
    assert os.listdir(tmp_path / "deep") == ["target"]
    container.remove()
    canary.check()


def test_programs_and_libraries_of_the_image_are_never_run_for_a_copy(engine: Engine, rootfs: Path, tmp_path: Path) -> None:
    planted = tmp_path / "planted"
    subprocess.run(["cp", "-a", str(rootfs), str(planted)], check=True)
    names = ["xz", "unxz", "gzip", "gunzip", "unpigz", "pigz", "zstd", "unzstd", "bzip2", "tar", "getent", "id", "ldconfig"]
    script = "#!/bin/sh\necho ran >> /ran\n"
    places = [planted / folder / name for folder in ("bin", "usr/bin", "usr/local/bin", "sbin") for name in names]
    places += [planted / folder / name for folder in ("lib", "lib/x86_64-linux-gnu", "usr/lib") for name in
               ("libnss_files.so.2", "libnss_evil.so.2", "libc.so.6", "libz.so.1", "liblzma.so.5", "evil.so")]
    for place in places:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.unlink(missing_ok=True)
        place.write_text(script)
        place.chmod(0o755)
    (planted / "etc/nsswitch.conf").write_text("passwd: evil files\ngroup: evil files\nhosts: evil\n")
    (planted / "etc/ld.so.preload").write_text("/lib/evil.so\n")
    (planted / "etc/ld.so.conf").write_text("/lib\n")
    evil = Image.import_rootfs(planted, "planted", engine=engine)
    packed = tmp_path / "archive.tar.xz"
    with io.BytesIO() as plain:
        with tarfile.open(fileobj=plain, mode="w") as tar:
            tar.addfile(tarfile.TarInfo("file"))
        packed.write_bytes(lzma.compress(plain.getvalue()))
    with evil("sleep", "60") as container:
        container.copy_to(packed, "/archive.tar.xz")
        container.copy_to(rootfs / "etc", "/copied")
        container.copy_from("/archive.tar.xz")
        container.copy_from("/etc", tmp_path / "etc")
        container.exec("true", user="user:extra")
        container.top()
        container.diff()
        container.stats()
        with open(tmp_path / "all.tar", "wb") as file:
            container.export(file)
        assert not container.path("/ran").exists()
        # So that this can fail: one that is run does leave its mark.
        container.exec("xz")
        assert container.path("/ran").read_text() == "ran\n"


def test_no_device_is_opened_for_a_path(box: type[Container], tmp_path: Path) -> None:
    """A node that the container made would lead to any device of the machine: whoever copies is not in its cgroup."""
    with box("sleep", "60") as container:
        container.exec("sh", "-c", "mknod /disk b 7 0; mknod /zero c 1 5; mkfifo /fifo; ln -s /zero /link")
        for name in ("/disk", "/zero", "/link"):
            assert not stat.S_ISREG(container.path(name).stat().st_mode)
            place = container.path(name)
            for call in (partial(place.read_bytes), partial(place.write_text, "evil"), partial(place.open, "rb"),
                         partial(place.chmod, 0o777)):
                with pytest.raises(OSError, match="No such device"):
                    call()
        assert container.path("/fifo").exists()
        # Copied as what they are: the reader of the tar leaves devices out.
        container.exec("mkdir", "/d")
        container.exec("mknod", "/d/zero", "c", "1", "5")
        place = container.copy_from("/d", tmp_path / "d")
        assert os.listdir(place) == []
        # So that this can fail: the node works for who may use it.
        assert container.exec("head", "-c", "3", "/zero").stdout == "\0\0\0"
