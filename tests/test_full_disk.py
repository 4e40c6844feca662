"""A full disk: errors that say so, nothing half made, and no output lost without a word."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from lifekit import make_rootfs
from lifekit import require_native

require_native()

#: Run in a mount namespace of its own, on a store in a small tmpfs.
PRELUDE = """
import ctypes, os, sys, time
from pathlib import Path
from pycontainers import Container, ContainersError, Engine, Image, StoreFull
here, rootfs = sys.argv[1:]
libc = ctypes.CDLL(None, use_errno=True)
if libc.unshare(0x20000) or libc.mount(b"none", b"/", None, 0x44000, None) or libc.mount(
        b"tmpfs", os.fsencode(here), b"tmpfs", 0, b"size=24m"):
    raise OSError(ctypes.get_errno(), "mount")
from lifekit import Store
store = Store(Path(here) / "store")
engine = store.engine
Box = Image.import_rootfs(rootfs, "box", engine=engine)

def fill(leave=0):
    # Rather one page at a time: what is left is less than that.
    with open(f"{here}/filler", "ab", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass
        file.truncate(max(0, file.tell() - leave))

def rest():
    # Nothing is left once the last supervisor has tidied up.
    deadline = time.monotonic() + 10
    while store.left():
        assert time.monotonic() < deadline, store.left()
        time.sleep(0.005)

def free():
    os.unlink(f"{here}/filler")

def refused(call):
    try:
        call()
    except StoreFull as error:
        assert "No space left" in str(error) or "full" in str(error), error
        assert "free some room" in str(error), error
        return True
    return False
"""


@pytest.fixture
def small(tmp_path: Path) -> tuple[Path, Path]:
    """A mount point, and a root file system."""
    (tmp_path / "small").mkdir()
    return tmp_path / "small", make_rootfs(tmp_path / "rootfs")


def in_small_store(small: tuple[Path, Path], code: str) -> None:
    """Run code on a store in a tmpfs of 24 MiB."""
    end = "\nfor c in Container.list(all=True, engine=engine):\n    c.remove(force=True)\nengine.close()\n"
    path = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
    done = subprocess.run([sys.executable, "-c", path + PRELUDE + code + end, *map(str, small)], capture_output=True, text=True,
                          check=False, cwd="/", timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_call_says_so(small: tuple[Path, Path]) -> None:
    """However little is left: each call works or raises StoreFull, and what failed left nothing; others go on."""
    in_small_store(small, """
running = Box("sleep", "600")
running.start()
failures = 0
for leave in (0, 1, 2, 3, 4, 6, 8, 16, 32):
    created, name = Box("true"), f"name{leave}"
    before = {c.id for c in Container.list(all=True, engine=engine)}
    images = {image.id for image in Image.list(engine=engine)}
    fill(leave * 4096)
    made = []
    failures += refused(lambda: made.append(Box("true").id))
    failures += refused(lambda: Box.run("true"))
    failures += refused(created.start)
    failures += refused(lambda: running.rename(name))
    failures += refused(lambda: running.update(memory="64m"))
    assert refused(lambda: Image.import_rootfs(rootfs, "other", engine=engine))
    refused(lambda: Box.tag(f"tag:{leave}"))
    assert running.exec("echo", "in").stdout == "in\\n"
    running.pause()
    running.unpause()
    assert {c.id for c in Container.list(all=True, engine=engine)} == before | set(made)
    assert {image.id for image in Image.list(engine=engine)} == images
    free()
    left = store.left()
    assert not set(left) & {"containers", "layers", "images", "tmp"}, left
    created.start()
    assert created.wait() == 0
    for container in Container.list(all=True, engine=engine):
        if container.id != running.id:
            container.remove(force=True)
assert failures > 10, failures
running.remove(force=True)
rest()
""")


def test_room_can_be_made_by_removing(small: tuple[Path, Path]) -> None:
    """The remedy that the error names works on a disk that is full to the last byte."""
    in_small_store(small, """
big = Box("sh", "-c", "dd if=/dev/zero of=/big bs=1M count=5 2>/dev/null")
big.start()
assert big.wait() == 0
other = Box("sleep", "600")
other.start()
fill()
other.stop(timeout=0)
assert other.exit_code == 137
assert refused(lambda: Box("true"))
big.remove()
assert Box.run("echo", "again").stdout == "again\\n"
other.remove()
free()
rest()
""")


def test_a_writer_waits_for_room(small: tuple[Path, Path]) -> None:
    """A container that writes more than there is room for is blocked, and goes on when there is: every byte is kept."""
    in_small_store(small, """
writer = Box("sh", "-c", "i=0; while [ $i -lt 200 ]; do i=$((i+1)); head -c 10000 /dev/zero | tr '\\\\0' x; done; echo END")
fill(128 * 1024)
writer.start()
log = Path(here) / "store/containers" / writer.id[:2] / writer.id / "log"
deadline = time.monotonic() + 20
while os.statvfs(here).f_bavail > 16:
    assert time.monotonic() < deadline
    time.sleep(0.01)
assert writer.status == "running"
assert writer.exec("echo", "in").stdout == "in\\n"
free()
assert writer.wait(timeout=60) == 0
assert writer.logs() == "x" * 2000000 + "END\\n"
""")


def test_a_gap_is_marked(small: tuple[Path, Path]) -> None:
    """What a container that has ended could not write is not passed over in silence: by logs, attach, and run()."""
    in_small_store(small, """
command = "sh", "-c", "head -c 50000 /dev/zero | tr '\\\\0' x; echo END"
writer = Box(*command)
fill(24 * 1024)
with writer.attach() as attached:
    writer.start()
    seen = attached.read().decode()
assert writer.wait(timeout=60) == 0
for text in (writer.logs(), "".join(writer.logs(follow=True)), seen):
    assert "bytes of output were lost: the store's file system was full" in text, text[-300:]
free()
fill(80 * 1024)
try:
    result = Box.run(*command)
except StoreFull as error:
    assert "output" in str(error) or "No space" in str(error)
else:
    assert result.stdout == "x" * 50000 + "END\\n"
free()
""")
