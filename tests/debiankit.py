"""A Debian root file system made by debootstrap, once for all runs on a machine."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from pycontainers.engine import list_backends

SUITE = "bookworm"


def require_debian() -> None:
    """Skip the test where no Debian can be made or run; fail where everything is demanded."""
    reason = next((b.reason for b in list_backends() if b.name == "native"), "the native backend isn't installed")
    if not reason and not shutil.which("debootstrap"):
        reason = "there is no debootstrap"
    if not reason and os.geteuid():
        reason = "debootstrap needs root"
    if reason:
        assert not os.environ.get("PYCONTAINERS_REQUIRE"), reason
        pytest.skip(reason)


def make_debian(root: Path) -> None:
    """Make a small Debian with ps, whose apt and resolver are set as this machine's are."""
    done = subprocess.run(["debootstrap", "--variant=minbase", "--include=procps", SUITE, str(root)], capture_output=True,
                          text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    if os.path.isdir("/etc/apt/apt.conf.d"):
        shutil.copytree("/etc/apt/apt.conf.d", root / "etc/apt/apt.conf.d", dirs_exist_ok=True)
    shutil.copyfile("/etc/resolv.conf", root / "etc/resolv.conf")


@pytest.fixture(scope="session")
def debian_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root file system's directory: kept beside pytest's own, so that each run on a machine but the first has it."""
    require_debian()
    folder = tmp_path_factory.getbasetemp().parent
    root = folder / f"debian-{SUITE}"
    with open(folder / "debian.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not root.exists():
            scratch = folder / f"debian-{SUITE}.part"
            if scratch.exists():
                shutil.rmtree(scratch)
            make_debian(scratch)
            scratch.rename(root)
    return root
