"""The machine's cgroups as they are here: version 2, version 1, or both at once (hybrid)."""

from __future__ import annotations

import errno
import os
import re
import signal
import struct
import time
from contextlib import suppress
from functools import lru_cache

from attrs import frozen

from pycontainers.errors import InvalidSpec
from pycontainers.errors import StoreError

ROOT = "/sys/fs/cgroup"
#: All of ours lie below one cgroup of this name in each hierarchy.
PARENT = "pycontainers"
#: The devices cgroup below it that containers without devices of their own share, and what it allows: Docker's list, but
#: for the host's console (c 5:1), which a container has no use for: its own /dev/console is a terminal of its own.
DEFAULT = "default"
DEVICE_RULES = ("c *:* m", "b *:* m", "c 1:3 rwm", "c 1:5 rwm", "c 1:7 rwm", "c 1:8 rwm", "c 1:9 rwm", "c 5:0 rwm",
                 "c 5:2 rwm", "c 136:* rwm")
#: Controllers that every container gets a cgroup of: for limits, statistics and the reason of its end.
BASIC = ("memory", "pids", "cpuacct")


@frozen
class Hierarchy:
    """One mounted hierarchy: the directory of our parent cgroup, and its controllers (none: v2 without any)."""

    path: str
    controllers: tuple[str, ...]
    unified: bool


@frozen
class Layout:
    """The hierarchies that this process may use, in the order of the launcher's descriptors; empty: no cgroups."""

    hierarchies: tuple[Hierarchy, ...]
    #: What `docker info` calls it: "1", "2", or "" for none.
    version: str

    def slot(self, controller: str) -> int:
        """Return the index of the hierarchy with that controller, -1 for none."""
        for index, hierarchy in enumerate(self.hierarchies):
            # Version 2 calls it io.
            if (controller if controller != "blkio" or not hierarchy.unified else "io") in hierarchy.controllers:
                return index
        return -1

    @property
    def text(self) -> str:
        """The hierarchies as a text, equal where they are."""
        return ";".join(f"{h.unified}:{','.join(h.controllers)}" for h in self.hierarchies)

    @property
    def unified(self) -> int:
        """The index of the v2 hierarchy, -1 for none."""
        for index, hierarchy in enumerate(self.hierarchies):
            if hierarchy.unified:
                return index
        return -1


def _mounts() -> list[tuple[str, str, str]]:
    """Return (mount point, type, options) of cgroup file systems in this mount namespace."""
    result = []
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            before, _, after = line.partition(" - ")
            kind, _, options = after.split(" ", 2)
            if kind in ("cgroup", "cgroup2"):
                result.append((before.split(" ")[4].replace("\\040", " "), kind, options.strip()))
    return result


def _make(path: str) -> bool:
    """Make our parent cgroup and the launcher's below it; tell whether it can be used."""
    try:
        os.makedirs(f"{path}/launcher", exist_ok=True)
    except FileNotFoundError:
        if os.path.isdir(os.path.dirname(path)):
            raise
        return False
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            return False
        raise StoreError(error.errno, f"making the cgroup: {error.strerror}", path) from error
    return os.access(path, os.W_OK)


def _enable(path: str, root: str) -> tuple[str, ...]:
    """Hand the controllers of a v2 hierarchy down to our containers; returns which ones they have."""
    for directory in (root, path):
        try:
            with open(f"{directory}/cgroup.controllers") as file:
                there = file.read().split()
        except OSError:
            return ()
        for name in there:
            if name in ("memory", "pids", "cpu", "cpuset", "io"):
                try:
                    with open(f"{directory}/cgroup.subtree_control", "w") as file:
                        file.write(f"+{name}")
                except OSError:
                    continue
    try:
        with open(f"{path}/cgroup.subtree_control") as file:
            return tuple(file.read().split())
    except OSError:
        return ()


def _delegated(mount: str) -> str:
    """Return the v2 cgroup that an ordinary user may make children in: the one that its session manager delegated."""
    with open("/proc/self/cgroup") as file:
        for line in file:
            if line.startswith("0::"):
                own = line[3:].strip()
                break
        else:
            return ""
    path = os.path.normpath(mount + own)
    while path.startswith(mount) and path != mount:
        if os.access(path, os.W_OK) and os.access(f"{path}/cgroup.procs", os.W_OK) and path.endswith(".service"):
            return path
        path = os.path.dirname(path)
    return ""


@lru_cache(maxsize=1)
def layout() -> Layout:
    """Return what this process may use, making our parent cgroups where they are missing. Cached."""
    for _ in range(20):
        with suppress(FileNotFoundError):
            return _layout()
    return _layout()


def _layout() -> Layout:
    """Look, and make. Raises `FileNotFoundError` if a launcher on its way out removes them at the same time."""
    found = []
    version = ""
    for mount, kind, options in _mounts():
        if kind == "cgroup2":
            root = mount if os.geteuid() == 0 else _delegated(mount)
            path = f"{root}/{PARENT}"
            if root and _make(path):
                found.append(Hierarchy(path, _enable(path, root), True))
        elif os.geteuid() == 0:
            names = tuple(name for name in options.split(",") if name not in ("rw", "ro"))
            path = f"{mount}/{PARENT}"
            if "cpuset" in names:
                inherit(mount, path)
            if _make(path):
                if "cpuset" in names:
                    inherit(path, f"{path}/launcher")
                if "devices" in names:
                    _allow_devices(f"{path}/{DEFAULT}")
                found.append(Hierarchy(path, names, False))
    if any(h.unified and "memory" in h.controllers for h in found):
        version = "2"
    elif any(not h.unified for h in found):
        version = "1"
    # In one order whatever the mounts' is, and each once however often it is mounted.
    unique = {(h.unified, h.controllers): h for h in reversed(found)}
    return Layout(tuple(unique[key] for key in sorted(unique)), version)


def found() -> tuple[str, tuple[str, ...]]:
    """Return the version there is for this process ("1", "hybrid", "2", "" for none) and the controllers; makes nothing."""
    kinds: dict[str, set[str]] = {"1": set(), "2": set()}
    unified = False
    for mount, kind, options in _mounts():
        if kind == "cgroup2":
            root = mount if os.geteuid() == 0 else _delegated(mount)
            if root and os.access(root, os.W_OK):
                unified = True
                with suppress(OSError), open(f"{root}/cgroup.controllers") as file:
                    kinds["2"].update(file.read().split())
                # Not a controller, but there in every v2 cgroup.
                kinds["2"].add("freezer")
        elif os.geteuid() == 0 and os.access(mount, os.W_OK):
            kinds["1"].update(name for name in options.split(",") if name not in ("rw", "ro") and not name.startswith("name="))
    version = "hybrid" if kinds["1"] and unified else "1" if kinds["1"] else "2" if unified else ""
    return version, tuple(sorted(kinds["1"] | kinds["2"]))


def inherit(parent: str, child: str) -> None:
    """Give a v1 cpuset the CPUs and memory nodes of its parent: an empty one takes no process."""
    os.makedirs(child, exist_ok=True)
    for name in ("cpuset.cpus", "cpuset.mems"):
        with open(f"{child}/{name}") as file:
            if file.read().strip():
                continue
        with open(f"{parent}/{name}") as source, open(f"{child}/{name}", "w") as target:
            target.write(source.read())


def _allow_devices(path: str) -> None:
    """Make the cgroup of the default device rules; several processes may do so at once.

    One that another version of ours left behind is brought to this one's rules, in use or not.
    """
    try:
        os.mkdir(path)
        there = {"a *:* rwm"}
    except FileExistsError:
        with open(f"{path}/devices.list") as file:
            there = set(file.read().splitlines())
    wanted = set(DEVICE_RULES)
    for name, rules in (("devices.deny", sorted(there - wanted)), ("devices.allow", sorted(wanted - there))):
        for rule in rules:
            with open(f"{path}/{name}", "w") as file:
                file.write("a" if rule.startswith("a") else rule)


_DEVICE_RULE = re.compile(r"([abc])(?: (\*|\d+):(\*|\d+) ([rwm]+))?")


@lru_cache(maxsize=64)
def device_program(rules: tuple[str, ...]) -> bytes:
    """Return the eBPF program that allows what the rules allow, and nothing else: version 2's form of `devices.allow`.

    A program gets struct bpf_cgroup_dev_ctx: kind and access in one word, major and minor number (linux/bpf.h). Raises
    `InvalidSpec` for what is no rule.
    """
    code: list[tuple[int, int, int, int, int]] = [
        (0x61, 2, 1, 0, 0), (0xBF, 3, 2, 0, 0), (0x57, 3, 0, 0, 0xFFFF), (0x77, 2, 0, 0, 16),  # r2: access, r3: kind
        (0x61, 4, 1, 4, 0), (0x61, 5, 1, 8, 0)]  # r4: major, r5: minor
    for rule in rules:
        found = _DEVICE_RULE.fullmatch(rule)
        if found is None or (found[1] != "a" and found[4] is None):
            raise InvalidSpec(f"device_cgroup_rules: {rule!r} is no rule; write as in \"c 1:3 rwm\"")
        tests: list[list[tuple[int, int, int, int]]] = []
        if found[1] != "a":
            tests.append([(0x55, 3, 0, 1 if found[1] == "b" else 2)])
        refused = 7 & ~sum(bit for bit, letter in ((1, "m"), (2, "r"), (4, "w")) if letter in (found[4] or "rwm"))
        if refused:
            tests.append([(0xBF, 1, 2, 0), (0x57, 1, 0, refused), (0x55, 1, 0, 0)])
        numbers = ((4, found[2] or "*"), (5, found[3] or "*"))
        tests += [[(0x55, register, 0, int(text))] for register, text in numbers if text != "*"]
        steps = [step for test in tests for step in test]
        for at, (operation, target, source, value) in enumerate(steps):
            # A test that fails jumps to the next rule: over the rest of this one, and over its two last instructions.
            code.append((operation, target, source, len(steps) - at + 1 if operation == 0x55 else 0, value))
        code += [(0xB7, 0, 0, 0, 1), (0x95, 0, 0, 0, 0)]
    code += [(0xB7, 0, 0, 0, 0), (0x95, 0, 0, 0, 0)]
    return b"".join(struct.pack("=BBhi", operation, source << 4 | target, jump, value)
                    for operation, target, source, jump, value in code)


def path_of(name: str, controller: str) -> str:
    """Return the directory of a container's cgroup with that controller, "" for none."""
    here = layout()
    slot = here.slot(controller)
    return f"{here.hierarchies[slot].path}/{name}" if slot >= 0 else ""


def renew() -> Layout:
    """Make our parent cgroups again that another launcher's end may have taken away; returns the layout."""
    layout.cache_clear()
    return layout()


def thaw(path: str) -> None:
    """Let a container's frozen processes go on (v1's freezer keeps them from dying, too). Idempotent."""
    with suppress(OSError), open(f"{path}/freezer.state", "w") as file:
        file.write("THAWED")


def leave() -> None:
    """Remove our parent cgroups where nobody is in them, as a launcher does in the end. Idempotent."""
    for mount, kind, _ in _mounts():
        root = mount if kind == "cgroup" or os.geteuid() == 0 else _delegated(mount)
        try:
            os.rmdir(f"{root}/{PARENT}/launcher")
        except FileNotFoundError:
            pass
        except OSError:
            continue
        for path in (f"{root}/{PARENT}/{DEFAULT}", f"{root}/{PARENT}"):
            with suppress(OSError):
                os.rmdir(path)
    layout.cache_clear()


def remove(path: str) -> None:
    """Remove a cgroup of a container that has ended, with those of its execs; kills what is still in it. Idempotent."""
    for _ in range(200):
        try:
            children = [name for name in os.listdir(path) if os.path.isdir(f"{path}/{name}")]
        except FileNotFoundError:
            return
        for name in children:
            remove(f"{path}/{name}")
        try:
            os.rmdir(path)
            return
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno != errno.EBUSY:
                return
        _kill_all(path)
        time.sleep(0.005)


def _kill_all(path: str) -> None:
    try:
        with open(f"{path}/cgroup.kill", "w") as file:
            file.write("1")
        return
    except OSError:
        pass
    try:
        with open(f"{path}/cgroup.procs") as file:
            pids = [int(line) for line in file]
    except OSError:
        return
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
