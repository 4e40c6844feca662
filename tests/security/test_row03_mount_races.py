"""Row 3: a neighbour on a shared volume that swaps mount points, devices and working directories for links to the host
while containers start (CVE-2021-30465, CVE-2024-45310, CVE-2025-31133, CVE-2025-52565, CVE-2025-52881, CVE-2026-55686)."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from securitykit import Canary
from securitykit import require_root

from pycontainers import Container
from pycontainers import Engine
from pycontainers import Image
from pycontainers.errors import ContainersError

require_root()

#: Starts in every run, and in `tox -e soak`.
STARTS, SOAK = 120, 10_000

#: Tries all that masks and read-only paths forbid, writes where the mounts should be, and says what worked.
VICTIM = """
for p in /proc/timer_list /proc/interrupts /proc/keys /proc/kcore; do
    test -e $p && test $(head -c 1 $p | wc -c) != 0 && echo "read $p"
done
for p in /proc/sysrq-trigger /proc/sys/kernel/core_pattern /proc/sys/kernel/hostname /proc/irq/default_smp_affinity; do
    echo evil 2>/dev/null > $p && echo "wrote $p"
done
for p in /data/mount /data/small /data/work /dev/null /dev/console /data/etc/hosts; do
    echo evil 2>/dev/null > $p/evil; echo evil 2>/dev/null > $p
done
echo done
"""


class Race:
    """A volume, the neighbour that swaps its names, and the options of a container that mounts onto them."""

    def __init__(self, box: type[Container], folder: Path, canary: Canary) -> None:
        self.volume = folder / "volume"
        self.inner = folder / "inner"
        self.canary = canary
        self.inner.mkdir()
        self.swapped: list[str] = []
        for name, target in (("mount", canary.folder), ("small", canary.folder), ("work", canary.folder),
                             ("dev/pts", canary.folder), ("dev/shm", canary.folder), ("etc", canary.folder)):
            self._swap(name, str(target), directory=True)
        for name in ("dev/null", "dev/console", "dev/timer", "conf/hosts", "conf/resolv.conf"):
            self._swap(name, str(canary.secret), directory=False)
        self.neighbour = box("probe", "flip", *self.swapped, volumes={str(self.volume): "/data"})

    def _swap(self, name: str, target: str, *, directory: bool) -> None:
        path = self.volume / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if directory:
            path.mkdir()
        else:
            path.touch()
        (path.parent / (path.name + ".link")).symlink_to(target)
        self.swapped += [f"/data/{name}", f"/data/{name}.link"]

    @contextmanager
    def running(self, least: int = 1000) -> Iterator[None]:
        """Let the neighbour swap; it must have done so often."""
        self.neighbour.start()
        try:
            yield
        finally:
            self.neighbour.kill("TERM")
            self.neighbour.wait(10)
            text = self.neighbour.logs()
            flips = int(str(text).rpartition("flips ")[2].split()[0])
            self.neighbour.remove(force=True)
        assert flips >= least

    def options(self) -> list[dict[str, object]]:
        """Return what a start of each kind asks for."""
        from pycontainers import Mount
        shared = str(self.volume)
        bind = Mount(type="bind", source=shared, target="/data")
        return [
            {"volumes": (bind, Mount(type="bind", source=str(self.inner), target="/data/mount")), "workdir": "/data/work/a/b"},
            {"volumes": (bind, Mount(type="tmpfs", target="/data/small")), "workdir": "/data/work"},
            {"volumes": (bind, Mount(type="bind", source=f"{shared}/dev", target="/dev")), "tty": True},
            {"volumes": (bind, Mount(type="bind", source=f"{shared}/conf", target="/etc"))},
        ]


def start_many(box: type[Container], race: Race, count: int) -> int:
    """Start victims; each may be refused with an error of ours, and none may get anywhere. Returns how many ran."""
    ran = 0
    kinds = race.options()
    for number in range(count):
        try:
            told = box.run("sh", "-c", VICTIM, check=False, **kinds[number % len(kinds)]).stdout  # type: ignore[arg-type]
        except ContainersError:
            continue
        assert told.rstrip().endswith("done"), told
        assert "read " not in told and "wrote " not in told, (kinds[number % len(kinds)], told)
        ran += 1
        race.canary.check()
    race.canary.check()
    return ran


def test_starts_beside_a_neighbour_that_swaps_paths(box: type[Container], tmp_path: Path, canary: Canary) -> None:
    """No mount of a start lands outside, while a neighbour swaps directories for links below it."""
    race = Race(box, tmp_path, canary)
    with race.running():
        assert start_many(box, race, STARTS) > STARTS // 10


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_ten_thousand_starts_beside_a_neighbour_that_swaps_paths(box: type[Container], tmp_path: Path, canary: Canary) -> None:
    """The same ten thousand times."""
    race = Race(box, tmp_path, canary)
    with race.running():
        assert start_many(box, race, SOAK) > SOAK // 10


def test_a_start_that_walked_the_hosts_paths_would_show(box: type[Container], tmp_path: Path, canary: Canary) -> None:
    """So that the tests above can fail: who opens the swapped names as the host sees them meets the canary."""
    race = Race(box, tmp_path, canary)
    with race.running(1):
        deadline = time.monotonic() + 20
        met = 0
        while not met and time.monotonic() < deadline:
            try:
                (race.volume / "mount/evil").write_text("evil")
                met += (canary.folder / "evil").exists()
            except OSError:
                pass
    assert met
    with pytest.raises(AssertionError):
        canary.check()


def test_a_mask_that_failed_would_show(box: type[Container]) -> None:
    """So that the victim's silence means something: without masks it speaks."""
    told = box.run("sh", "-c", VICTIM.replace("core_pattern", "ngroups_max"), security_opt=("systempaths=unconfined",)).stdout
    assert "read /proc/timer_list" in told or "read /proc/interrupts" in told
    assert "wrote /proc/sys/kernel/hostname" in told


@pytest.mark.parametrize("name", ["proc", "sys", "dev", "proc/sys", "sys/firmware"])
def test_a_link_of_the_image_leads_no_kernel_file_system_elsewhere(
    engine: Engine, rootfs: Path, tmp_path: Path, name: str
) -> None:
    """An image whose /proc, /sys or /dev is a link gets no container, or one whose masks hold."""
    copy = tmp_path / "image"
    subprocess.run(["cp", "-a", str(rootfs), str(copy)], check=True)
    link = copy / name
    link.parent.mkdir(exist_ok=True)
    (copy / "elsewhere").mkdir()
    link.symlink_to("/elsewhere")
    evil = Image.import_rootfs(copy, "links", engine=engine)
    try:
        told = evil.run("sh", "-c", VICTIM + "ls -A /elsewhere", check=False).stdout
    except ContainersError as error:
        assert f"/{name.split('/')[0]}" in str(error)
    else:
        assert told == "done\n"


def test_mounts_below_a_bind_stay_on_their_side(box: type[Container], tmp_path: Path) -> None:
    """A container's mount onto a shared directory is not made on the host, nor the host's later ones in the container."""
    shared, inner = tmp_path / "shared", tmp_path / "inner"
    shared.mkdir()
    inner.mkdir()
    (inner / "file").touch()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(shared)], check=True)
    try:
        subprocess.run(["mount", "--make-shared", str(shared)], check=True)
        (shared / "below").mkdir()
        (shared / "later").mkdir()
        with box("sleep", "60", volumes={str(shared): "/data", str(inner): "/data/below"}) as container:
            assert container.exec("ls", "/data/below").stdout == "file\n"
            assert not os.path.ismount(shared / "below")
            subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(shared / "later")], check=True)
            (shared / "later/secret").touch()
            assert container.exec("ls", "/data/later").stdout == ""
        # The other way round where it is asked for: so the first assertions could have failed.
        subprocess.run(["umount", str(shared / "later")], check=True)
        with box("sleep", "60", volumes=[f"{shared}:/data:rshared"]) as container:
            subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(shared / "later")], check=True)
            (shared / "later/secret").touch()
            assert container.exec("ls", "/data/later").stdout == "secret\n"
    finally:
        subprocess.run(["umount", "-R", "-l", str(shared)], check=True)
