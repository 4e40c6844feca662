"""Finds what an engine of ours has left on the machine: processes, namespaces, mounts, links, cgroups, temporary files."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

#: The helper program ends by itself when it has had nothing to do for a while.
PATIENCE = 20.0


def processes() -> set[str]:
    """Return our processes (launchers, supervisors, and what they are called before exec), without zombies."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            name = (folder / "comm").read_text().strip()
            state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
            if name.startswith("pycontainers-") and state != "Z":
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
                found.add(f"process {folder.name} {name} ({command})")
    return found


def mounts() -> set[str]:
    """Return mounts of ours that the caller's own namespace has."""
    with suppress(OSError):
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
        return {f"mount {line.split()[4]}" for line in lines if "pycontainers" in line or "/pyc" in line.split()[4]}
    return set()


def namespaces() -> set[str]:
    """Return process and user namespaces that are not this process's own, with who is in them: what ran in containers.

    Those of services that the machine's own manager started are no business of ours.
    """
    found = set()
    for kind in ("pid", "user"):
        own = os.readlink(f"/proc/self/ns/{kind}")
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                name = os.readlink(folder / "ns" / kind)
                if name != own and ".service" not in (folder / "cgroup").read_text():
                    found.add(f"namespace {name} of {(folder / 'comm').read_text().strip()}")
    return found


def links() -> set[str]:
    """Return network links of ours."""
    with suppress(OSError):
        return {f"link {name}" for name in os.listdir("/sys/class/net") if name.startswith("pyc")}
    return set()


def cgroups() -> set[str]:
    """Return cgroups of containers: everything below a cgroup named `pycontainers*`, which itself may stay."""
    found = set()
    for top in ("/sys/fs/cgroup", *(str(p) for p in Path("/sys/fs/cgroup").glob("*") if p.is_dir())):
        for folder, names, _ in os.walk(top):
            if re.match(r"pycontainers", os.path.basename(folder)):
                found |= {f"cgroup {folder}/{name}" for name in names}
                names.clear()
            elif folder.count("/") > 8:
                names.clear()
    return found


def temporary() -> set[str]:
    """Return temporary files of ours outside any store."""
    return {f"file {path}" for top in ("/tmp", "/run", "/dev/shm") for path in Path(top).glob("pycontainers-*")}


def everything() -> set[str]:
    """Return all of the above, as texts that name the thing."""
    return processes() | namespaces() | mounts() | links() | cgroups() | temporary()


@pytest.fixture(scope="session", autouse=True)
def nothing_left() -> Iterator[None]:
    """Fail the session that leaves anything of ours behind, where the machine is the run's own."""
    before = everything()
    yield
    if not os.environ.get("PYCONTAINERS_REQUIRE"):
        return
    deadline = time.monotonic() + PATIENCE
    while (left := everything() - before) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not left, "left behind:\n" + "\n".join(sorted(left))
