"""The peers that benchmarks measure against, each set up on one fresh file system, and taken down again."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from collections.abc import Iterator
from pathlib import Path

BUSYBOX = "/bin/busybox"
APPLETS = "sh true echo cat sleep ls readlink head".split()


def run(*command: str, **options: object) -> subprocess.CompletedProcess[bytes]:
    """Run a command that must succeed."""
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, **options)  # type: ignore[call-overload]


@contextlib.contextmanager
def fresh_filesystem(size: str = "6G") -> Iterator[Path]:
    """Give a new ext4 on a loop device: inodes deleted by an earlier measurement must not slow a later one."""
    folder = Path(tempfile.mkdtemp(prefix="pyc-bench-", dir=os.environ.get("TMPDIR", "/tmp")))
    image = folder / "disk"
    mount = folder / "m"
    mount.mkdir()
    run("truncate", "-s", size, str(image))
    run("mkfs.ext4", "-q", "-E", "lazy_itable_init=1", str(image))
    run("mount", "-o", "loop", str(image), str(mount))
    try:
        yield mount
    finally:
        subprocess.run(["umount", "-l", str(mount)], check=False)
        shutil.rmtree(folder, ignore_errors=True)


def busybox_root(folder: Path) -> Path:
    """Make a root file system of busybox alone."""
    root = folder / "busybox"
    for name in ("bin", "etc", "tmp", "proc", "sys", "dev", "root"):
        (root / name).mkdir(parents=True, exist_ok=True)
    shutil.copy2(BUSYBOX, root / "bin" / "busybox")
    for name in APPLETS:
        (root / "bin" / name).symlink_to("busybox")
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\n")
    return root


class Docker:
    """A Docker Engine of the benchmark's own: its socket, its data, no network."""

    def __init__(self, folder: Path, root: Path) -> None:
        self.folder = folder / "docker"
        self.folder.mkdir()
        self.socket = f"unix://{self.folder}/sock"
        self.daemon = subprocess.Popen(
            ["/usr/sbin/dockerd", "--data-root", str(self.folder / "data"), "--exec-root", str(self.folder / "exec"),
             "--pidfile", str(self.folder / "pid"), "-H", self.socket, "--bridge=none", "--iptables=false",
             "--storage-driver=overlay2"], stdout=open(self.folder / "log", "wb"), stderr=subprocess.STDOUT)  # noqa: SIM115
        deadline = time.monotonic() + 60
        while subprocess.run([*self.command("version")], capture_output=True).returncode:
            if time.monotonic() > deadline or self.daemon.poll() is not None:
                raise RuntimeError((self.folder / "log").read_text()[-2000:])
            time.sleep(0.1)
        tar = subprocess.Popen(["tar", "-C", str(root), "-c", "."], stdout=subprocess.PIPE)
        run(*self.command("import", "-", "bb:1"), stdin=tar.stdout)
        tar.wait()

    def command(self, *arguments: str) -> list[str]:
        """Return Docker's command line."""
        return ["docker", "-H", self.socket, *arguments]

    def close(self) -> None:
        """Remove its containers and stop it."""
        ids = subprocess.run(self.command("ps", "-aq"), capture_output=True, text=True).stdout.split()
        if ids:
            subprocess.run(self.command("rm", "-f", *ids), capture_output=True)
        self.daemon.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.daemon.wait(20)
        self.daemon.kill()
        self.daemon.wait()
        subprocess.run(f"umount -l {self.folder}/exec/netns/* {self.folder}/data/overlay2/*/merged 2>/dev/null", shell=True)


class Podman:
    """Podman with a store of the benchmark's own."""

    def __init__(self, folder: Path, root: Path) -> None:
        self.folder = folder / "podman"
        self.folder.mkdir()
        tar = subprocess.Popen(["tar", "-C", str(root), "-c", "."], stdout=subprocess.PIPE)
        run(*self.command("import", "-", "bb:1"), stdin=tar.stdout, stderr=subprocess.DEVNULL)
        tar.wait()

    def command(self, *arguments: str) -> list[str]:
        """Return podman's command line."""
        return ["podman", "--root", str(self.folder / "root"), "--runroot", str(self.folder / "run"), "--runtime", "runc",
                "--cgroup-manager", "cgroupfs", "--events-backend", "file", "--tmpdir", str(self.folder / "tmp"), *arguments]

    def run_command(self, *arguments: str) -> list[str]:
        """Return podman's command line that runs a container with the limits of ours."""
        return self.command("run", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=100:100", *arguments)

    def close(self) -> None:
        """Remove its containers and mounts."""
        subprocess.run(self.command("rm", "-f", "-a"), capture_output=True)
        subprocess.run(["umount", "-l", str(self.folder / "root/overlay")], capture_output=True)


def runc_bundle(folder: Path, root: Path, *args: str) -> Path:
    """Make a bundle whose configuration is what Docker asks of runc, but for the network."""
    bundle = folder / f"bundle-{Path(args[0]).name}"
    bundle.mkdir()
    run("runc", "spec", "-b", str(bundle))
    config = json.loads((bundle / "config.json").read_text())
    config["process"]["terminal"] = False
    config["process"]["args"] = list(args)
    config["process"]["rlimits"] = []
    config["root"] = {"path": str(root), "readonly": True}
    (bundle / "config.json").write_text(json.dumps(config))
    return bundle


def timed(action: Callable[[], object]) -> float:
    """Return how many milliseconds an action took."""
    begin = time.perf_counter()
    action()
    return (time.perf_counter() - begin) * 1e3


def interleave(actions: dict[str, Callable[[], object]], rounds: int, gap: float) -> dict[str, list[float]]:
    """Time the actions in turn; `gap` seconds of rest before each. Slow peers take part in every tenth round."""
    times: dict[str, list[float]] = {name: [] for name in actions}
    for number in range(rounds):
        for name, action in actions.items():
            if name in ("docker", "podman") and number % 5:
                continue
            if gap:
                time.sleep(gap)
            times[name].append(timed(action))
    return times


def quiet(command: list[str]) -> Callable[[], object]:
    """Return an action that runs a command, its output thrown away."""
    return lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def table(times: dict[str, list[float]], ours: str = "pycontainers") -> dict[str, float]:
    """Print medians and ratios; returns each peer's median over ours."""
    middle = statistics.median(times[ours])
    ratios = {}
    for name, values in times.items():
        values.sort()
        p50 = statistics.median(values)
        ratios[name] = p50 / middle
        print(f"  {name:14} n={len(values):<4} p10 {values[len(values) // 10]:8.2f}  p50 {p50:8.2f}  "
              f"p90 {values[len(values) * 9 // 10]:8.2f} ms   x{p50 / middle:6.2f}")
    sys.stdout.flush()
    return ratios
