"""How quick and how cheap containers are, against bubblewrap, runc, Podman and Docker in the same run.

    python tests/benchmarks/start.py [--quick] [lifecycle exec rate caller growth memory cli]

Run it as root on a quiet machine. Each section prints medians and ratios; the last lines hold each ratio against what it
must be and what it should be.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import peers

from pycontainers import Container
from pycontainers import Engine
from pycontainers import Image

SECTIONS = ("lifecycle", "exec", "rate", "caller", "growth", "memory", "cli")


class Bench:
    """One run: the engines, and the verdicts so far."""

    def __init__(self, folder: Path, quick: bool) -> None:
        self.folder = folder
        self.quick = quick
        self.root = peers.busybox_root(folder)
        self.engine = Engine("native", root=folder / "store")
        with self.engine:
            self.image = Image.import_rootfs(self.root, "bb:1")
        self.docker = peers.Docker(folder, self.root)
        self.podman = peers.Podman(folder, self.root)
        self.verdicts: list[tuple[str, float, float, float, bool]] = []

    def close(self) -> None:
        """Remove all containers."""
        for container in Container.list(all=True):
            container.remove(force=True)
        self.engine.close()
        self.docker.close()
        self.podman.close()

    def judge(self, what: str, value: float, must: float, goal: float, *, most: bool) -> None:
        """Note a figure; with `most` it may be at most that, else it has to be at least."""
        self.verdicts.append((what, value, must, goal, most))

    # -- sections -------------------------------------------------------------------------------------------------------

    def lifecycle(self) -> None:
        """A whole life: create, start, run `true`, collect, remove; back to back, and with rests of 20 ms."""
        self._check_isolation()
        bundle = peers.runc_bundle(self.folder, self.root, "/bin/true")
        bwrap = ["bwrap", "--unshare-all", "--bind", str(self.root), "/", "--proc", "/proc", "--dev", "/dev", "/bin/true"]
        actions = {
            "pycontainers": lambda: self.image.run("true"),
            "bwrap": peers.quiet(bwrap),
            "runc": peers.quiet(["runc", "run", "-b", str(bundle), "bench-life"]),
            "podman": peers.quiet(self.podman.run_command("--rm", "--network", "none", "bb:1", "/bin/true")),
            "docker": peers.quiet(self.docker.command("run", "--rm", "--network", "none", "bb:1", "/bin/true")),
        }
        for action in actions.values():
            action()
        for gap in (0.0, 0.02):
            print(f"\nlifecycle, {'rests of 20 ms' if gap else 'back to back'}")
            ratios = peers.table(peers.interleave(actions, 40 if self.quick else 120, gap))
            name = "with gaps" if gap else "tight"
            self.judge(f"run, {name}: ours over bwrap", 1 / ratios["bwrap"], 0.9, 0.6, most=True)
            for peer, must, goal in (("runc", 5, 8), ("podman", 30, 50), ("docker", 50, 85)):
                self.judge(f"run, {name}: {peer} over ours", ratios[peer], must, goal, most=False)
        self._check_nothing_left()

    def _check_isolation(self) -> None:
        """Containers that run at once share no namespace, with each other or with the caller (ended ones' numbers return)."""
        names = ("cgroup", "ipc", "mnt", "net", "pid", "uts")
        script = f"for n in {' '.join(names)}; do readlink /proc/self/ns/$n; done"
        seen = {os.readlink(f"/proc/self/ns/{name}") for name in names}
        running = [self.image("sh", "-c", f"{script}; sleep 100") for _ in range(3)]
        for container in running:
            container.start()
        for container in running:
            text = container.exec("sh", "-c", script).stdout.split()
            print("namespaces", *text)
            assert len(text) == len(names) and not seen & set(text), "a namespace is shared"
            seen |= set(text)
        for container in running:
            container.remove(force=True)
        print("namespaces of a run", *self.image.run("sh", "-c", script).stdout.split())

    def _check_nothing_left(self) -> None:
        """On return the id is gone; a second later the trash is empty."""
        assert not Container.list(all=True)
        deadline = time.monotonic() + 1
        trash = self.folder / "store/trash"
        while any(trash.iterdir()) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not any(trash.iterdir()), "the trash is not empty after a second"

    def exec(self) -> None:
        """`exec true` in a running container."""
        bundle = peers.runc_bundle(self.folder, self.root, "/bin/sleep", "1000")
        subprocess.Popen(["runc", "run", "-b", str(bundle), "bench-exec"], stdin=subprocess.DEVNULL,
                         stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        peers.run(*self.docker.command("run", "-d", "--name", "bench-exec", "--network", "none", "bb:1", "/bin/sleep", "1000"))
        container = self.image("sleep", "1000").start() or Container.list()[0]
        time.sleep(1)
        try:
            actions = {
                "pycontainers": lambda: container.exec("true"),
                "runc": peers.quiet(["runc", "exec", "bench-exec", "/bin/true"]),
                "docker": peers.quiet(self.docker.command("exec", "bench-exec", "/bin/true")),
            }
            for gap in (0.0, 0.02):
                print(f"\nexec, {'rests of 20 ms' if gap else 'back to back'}")
                ratios = peers.table(peers.interleave(actions, 40 if self.quick else 100, gap))
                name = "with gaps" if gap else "tight"
                self.judge(f"exec, {name}: docker over ours", ratios["docker"], 30, 45, most=False)
                self.judge(f"exec, {name}: runc over ours", ratios["runc"], 7, 11, most=False)
        finally:
            container.remove(force=True)
            subprocess.run(["runc", "kill", "bench-exec", "KILL"], capture_output=True)
            time.sleep(0.3)
            subprocess.run(["runc", "delete", "-f", "bench-exec"], capture_output=True)
            subprocess.run(self.docker.command("rm", "-f", "bench-exec"), capture_output=True)

    def rate(self) -> None:
        """Starts and ends per second, from 1 and from 4 Python threads."""
        print()
        for threads in (1, 4):
            ours = self._rate(lambda: self.image.run("true"), threads, 2.0 if self.quick else 5.0)
            docker = self._rate(peers.quiet(self.docker.command("run", "--rm", "--network", "none", "bb:1", "/bin/true")),
                                threads, 2.0 if self.quick else 5.0)
            print(f"rate, {threads} threads: ours {ours:.0f}/s, docker {docker:.1f}/s: {ours / docker:.0f} times")
            self.judge(f"rate, {threads} threads: ours over docker", ours / docker, 40, 60, most=False)

    @staticmethod
    def _rate(action: object, threads: int, seconds: float) -> float:
        counts = [0] * threads
        begin = time.perf_counter()
        end = begin + seconds

        def work(number: int) -> None:
            while time.perf_counter() < end:
                action()  # type: ignore[operator]
                counts[number] += 1

        workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return sum(counts) / (time.perf_counter() - begin)

    def caller(self) -> None:
        """The same from a caller of 4 GiB resident and 32 threads, and from a small one, in turn."""
        size = (1 if self.quick else 4) << 30
        program = (
            "import sys, time, threading, statistics\n"
            "from pycontainers import Engine, Image\n"
            "big = sys.argv[2] == 'big'\n"
            f"ballast = bytearray({size}) if big else None\n"
            "if big:\n"
            "    ballast[::4096] = b'x' * len(ballast[::4096])\n"
            "    stop = threading.Event()\n"
            "    [threading.Thread(target=stop.wait, daemon=True).start() for _ in range(32)]\n"
            "engine = Engine('native', root=sys.argv[1])\n"
            "with engine:\n"
            "    image = Image.get('bb:1')\n"
            "    image.run('true')\n"
            "    print('ready', flush=True)\n"
            "    for line in sys.stdin:\n"
            "        begin = time.perf_counter(); image.run('true')\n"
            "        print((time.perf_counter() - begin) * 1e3, flush=True)\n")
        callers = {kind: subprocess.Popen([sys.executable, "-c", program, str(self.folder / "store"), kind], text=True,
                                          stdin=subprocess.PIPE, stdout=subprocess.PIPE) for kind in ("small", "big")}
        for process in callers.values():
            assert process.stdout and process.stdout.readline() == "ready\n"
        times: dict[str, list[float]] = {"small": [], "big": []}
        for _ in range(40 if self.quick else 100):
            for kind, process in callers.items():
                assert process.stdin and process.stdout
                process.stdin.write("\n")
                process.stdin.flush()
                times[kind].append(float(process.stdout.readline()))
        for process in callers.values():
            process.communicate()
        print(f"\ncaller of {size >> 30} GiB and 32 threads")
        ratios = peers.table(times, "small")
        self.judge("a large caller over a small one", ratios["big"], 1.2, 1.05, most=True)

    def growth(self) -> None:
        """The start of the 500th running container against the first's."""
        count = 100 if self.quick else 500
        times = []
        started = []
        try:
            for number in range(count):
                container = self.image("sleep", "1000", name=f"grow{number}")
                times.append(peers.timed(container.start))
                started.append(container)
            first, last = statistics.median(times[:30]), statistics.median(times[-30:])
            print(f"\ngrowth: start of the first {first:.2f} ms, of number {count} {last:.2f} ms: {last / first:.2f} times")
            self.judge(f"start number {count} over the first", last / first, 1.5, 1.1, most=True)
        finally:
            for container in started:
                container.remove(force=True)

    def memory(self) -> None:
        """A supervisor's own memory, and the machine's memory per container against Podman's."""
        count = 40 if self.quick else 100
        before = _available()
        started = [self.image("sleep", "1000") for _ in range(count)]
        for container in started:
            container.start()
        time.sleep(1)
        ours = (before - _available()) / count
        supervisors = subprocess.run(["pgrep", "-f", "^pycontainers-supervisor"], capture_output=True, text=True).stdout.split()
        pss = statistics.median([_pss(pid) for pid in supervisors])
        for container in started:
            container.remove(force=True)
        time.sleep(2)
        before = _available()
        number = 10 if self.quick else 30
        command = self.podman.run_command("-d", "--network", "none", "bb:1", "/bin/sleep", "1000")
        ids = [peers.run(*command).stdout.decode().strip() for _ in range(number)]
        time.sleep(1)
        podman = (before - _available()) / number
        monitors = subprocess.run(["pgrep", "conmon"], capture_output=True, text=True).stdout.split()
        conmon = statistics.median([_pss(pid) for pid in monitors]) if monitors else float("nan")
        subprocess.run(self.podman.command("rm", "-f", "-t", "0", *ids), capture_output=True)
        print(f"\nmemory: supervisor {pss:.0f} KiB PSS (conmon {conmon:.0f}); "
              f"per container ours {ours:.0f} KiB, podman {podman:.0f} KiB")
        self.judge("supervisor PSS in KiB", pss, 128, 25, most=True)
        self.judge("machine memory per container, podman over ours", podman / ours, 1.2, 1.5, most=False)

    def cli(self) -> None:
        """`ps` of 100 containers, and the import, against a bare interpreter's start."""
        started = [self.image("sleep", "1000") for _ in range(100)]
        for container in started:
            container.start()
        environment = {**os.environ, "PYCONTAINERS_ROOT": str(self.folder / "store")}
        try:
            program = shutil.which("pycontainers", path=str(Path(sys.executable).parent)) or "pycontainers"

            def action(*command: str) -> object:
                return lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)

            touch = "import pycontainers; pycontainers.Image; pycontainers.Container"
            actions = {"bare": action(sys.executable, "-c", "pass"),
                       "import": action(sys.executable, "-c", touch),
                       "ps": action(program, "ps")}
            for each in actions.values():
                each()  # type: ignore[operator]
            print("\ncommand line, 100 containers")
            ratios = peers.table(peers.interleave(actions, 20 if self.quick else 50, 0.0), "bare")  # type: ignore[arg-type]
            self.judge("ps of 100 containers over a bare interpreter", ratios["ps"], 6, 4, most=True)
            self.judge("import over a bare interpreter", ratios["import"], 3, 2, most=True)
        finally:
            for container in started:
                container.remove(force=True)


def _available() -> float:
    text = Path("/proc/meminfo").read_text()
    match = re.search(r"MemAvailable:\s+(\d+)", text)
    assert match
    return float(match[1])


def _pss(pid: str) -> float:
    with contextlib.suppress(OSError):
        match = re.search(r"^Pss:\s+(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
        if match:
            return float(match[1])
    return 0.0


def main() -> int:
    """Run the sections that are named, or all."""
    quick = "--quick" in sys.argv
    sections = [name for name in sys.argv[1:] if name in SECTIONS] or list(SECTIONS)
    with peers.fresh_filesystem() as folder:
        bench = Bench(folder, quick)
        try:
            with bench.engine:
                for name in sections:
                    getattr(bench, name)()
        finally:
            with bench.engine:
                bench.close()
    print()
    missed = 0
    for what, value, must, goal, most in bench.verdicts:
        good = value <= must if most else value >= must
        best = value <= goal if most else value >= goal
        missed += not good
        print(f"{what:52} {value:8.2f}   must {'<=' if most else '>='} {must:<6g} goal {goal:<6g} "
              f"{'goal' if best else 'must' if good else 'MISSED'}")
    return missed


if __name__ == "__main__":
    sys.exit(main())
