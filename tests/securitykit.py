"""What the tests of SECURITY's rows stand on: an image to attack from, the attacker's program, and canaries of the host."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from pycontainers.engine import list_backends

HERE = Path(__file__).parent / "security"

#: Docker's fourteen (moby, oci/caps/defaults.go): chown dac_override fowner fsetid kill setgid setuid setpcap
#: net_bind_service net_raw sys_chroot mknod audit_write setfcap.
DEFAULT_CAPABILITIES = "00000000a80425fb"


def require_root() -> None:
    """Skip a module where the native backend can't be shown as root; never where all is required."""
    reason = next((b.reason for b in list_backends() if b.name == "native"), "it isn't installed")
    if not reason and os.geteuid() != 0:
        reason = "these tests attack containers of root's"
    if not reason and not shutil.which("busybox"):
        reason = "busybox isn't installed"
    if reason:
        assert not os.environ.get("PYCONTAINERS_REQUIRE"), reason
        pytest.skip(f"no native backend: {reason}", allow_module_level=True)


def build_probe(folder: Path) -> Path:
    """Compile the attacker's program, static, for any root."""
    target = folder / "probe"
    subprocess.run([os.environ.get("CC", "cc"), "-static", "-O1", "-w", "-o", str(target), str(HERE / "probe.c")], check=True)
    return target


def hostile_rootfs(folder: Path, probe: Path) -> Path:
    """Fill a directory with busybox, the probe, two users, and a marker in the root."""
    for name in ("bin", "tmp", "etc", "root", "work"):
        (folder / name).mkdir(parents=True)
    busybox = shutil.which("busybox")
    assert busybox
    shutil.copy(busybox, folder / "bin/busybox")
    shutil.copy(probe, folder / "bin/probe")
    for applet in subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout.split():
        if not (folder / "bin" / applet).exists():
            (folder / "bin" / applet).symlink_to("busybox")
    (folder / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/tmp:/bin/sh\n")
    (folder / "etc/group").write_text("root:x:0:\nuser:x:1000:\nextra:x:2000:user\n")
    (folder / "marker").write_text("the container's root\n")
    return folder


def digests(paths: list[str]) -> dict[str, str]:
    """Return the sha256 of files."""
    return {path: hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in paths}


class Canary:
    """A directory and a file of the host's that nothing may touch, and what tells whether something did."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self.secret = folder / "secret"
        self.secret.write_text("the host's\n")
        self.before = self.state()

    def state(self) -> object:
        """Return all that a change would change."""
        listed = sorted(os.listdir(self.folder))
        status = [os.lstat(self.folder / name) for name in listed] + [os.lstat(self.folder)]
        return (listed, [(s.st_ino, s.st_mode, s.st_uid, s.st_size, s.st_mtime_ns, s.st_ctime_ns) for s in status],
                self.secret.read_bytes(), os.path.ismount(self.folder), os.path.ismount(self.secret))

    def check(self) -> None:
        """Fail if it was touched."""
        assert self.state() == self.before
