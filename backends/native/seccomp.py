"""Compiles seccomp profiles, Docker's own by default, into the kernel's classic BPF.

A filter is a binary tree over ranges of system call numbers, for the machine's own architecture and its 32-bit one; it
only compares, so that the kernel can cache which calls are always allowed. x32 is refused.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Iterable
from errno import ENOSYS
from errno import EPERM
from functools import lru_cache
from typing import NamedTuple

from pycontainers.errors import InvalidSpec
from pycontainers.errors import Unsupported

KILL_PROCESS = 0x80000000
KILL_THREAD = 0x00000000
TRAP = 0x00030000
ERRNO = 0x00050000
TRACE = 0x7FF00000
LOG = 0x7FFC0000
ALLOW = 0x7FFF0000

_ACTIONS = {
    "SCMP_ACT_ALLOW": ALLOW,
    "SCMP_ACT_ERRNO": ERRNO,
    "SCMP_ACT_KILL": KILL_THREAD,
    "SCMP_ACT_KILL_PROCESS": KILL_PROCESS,
    "SCMP_ACT_KILL_THREAD": KILL_THREAD,
    "SCMP_ACT_LOG": LOG,
    "SCMP_ACT_TRACE": TRACE,
    "SCMP_ACT_TRAP": TRAP,
}
_OPERATORS = {"EQ", "NE", "LT", "LE", "GT", "GE", "MASKED_EQ"}

#: A program's architecture by its AUDIT_ARCH_* (linux/audit.h) and its name in profiles.
_AUDIT = {"x86_64": 0xC000003E, "i386": 0x40000003, "aarch64": 0xC00000B7, "arm": 0x40000028}
_ARCHITECTURES = {
    "SCMP_ARCH_X86_64": "x86_64",
    "SCMP_ARCH_X86": "i386",
    "SCMP_ARCH_AARCH64": "aarch64",
    "SCMP_ARCH_ARM": "arm",
}
#: What each machine runs, its own first; and its name in a profile's `arches`, which is Go's.
_RUNS = {"x86_64": ("x86_64", "i386"), "aarch64": ("aarch64", "arm")}
_GO_NAMES = {"x86_64": "amd64", "aarch64": "arm64"}

#: x32's calls are x86_64's with this bit; 32-bit ARM has private calls from 0xf0000 on.
_X32 = 0x40000000
_ARM_PRIVATE = 0xF0000

#: i386 reaches these calls through socketcall(2) and ipc(2) too, under these numbers.
_MULTIPLEXED = {
    "socketcall": """
        1 socket bind connect listen accept getsockname getpeername socketpair send recv sendto recvfrom shutdown
        setsockopt getsockopt sendmsg recvmsg accept4 recvmmsg sendmmsg
    """,
    "ipc": "1 semop semget semctl semtimedop 11 msgsnd msgrcv msgget msgctl 21 shmat shmdt shmget shmctl",
}

#: BPF_MAXINSNS
_LONGEST = 4096


class Condition(NamedTuple):
    """A comparison of one argument, as 64 unsigned bits; `MASKED_EQ` compares `argument & value` with `other`."""

    position: int
    operator: str
    value: int
    other: int = 0


class Rule(NamedTuple):
    """What happens to some calls, by name; with conditions, only where all of them hold."""

    names: Iterable[str]
    action: int
    conditions: tuple[Condition, ...] = ()
    #: Holds also where another rule names the same call without conditions; in profiles, that one wins.
    always: bool = False
    #: False for a rule that only says that the profile knows these calls.
    applies: bool = True


class Verdict(NamedTuple):
    """What happens to one call: the first case whose conditions hold, else `action`."""

    action: int
    cases: tuple[tuple[tuple[Condition, ...], int], ...] = ()


# -- entry points -----------------------------------------------------------------------------------------------------


def compile_default(capabilities: frozenset[str], *, machine: str = "", cache: str = "") -> bytes:
    """Return Docker's default filter for a container with these capabilities, as an array of `struct sock_filter`.

    `capabilities` are the bounding set's, as `CAP_CHOWN`. `machine` is `uname -m`'s, this one's if empty. `cache` is a
    directory of the caller's own in which the result is kept. Raises `Unsupported` for a machine that isn't known.
    """
    return _cached("", capabilities, machine or os.uname().machine, cache)


def compile_profile(text: str, capabilities: frozenset[str], *, machine: str = "", cache: str = "") -> bytes:
    """Return the filter of a profile in Docker's JSON, as `compile_default`; empty if the profile asks for none.

    Raises `InvalidSpec` naming what is wrong in the profile, `Unsupported` for what the native backend can't do.
    """
    if not text.strip():
        raise InvalidSpec("the seccomp profile is empty")
    return _cached(text, capabilities, machine or os.uname().machine, cache)


def _cached(text: str, capabilities: frozenset[str], machine: str, cache: str) -> bytes:
    if not cache:
        return _compile(text, capabilities, machine)
    return _from_disk(text, capabilities, machine, cache)


@lru_cache(maxsize=64)
def _from_disk(text: str, capabilities: frozenset[str], machine: str, cache: str) -> bytes:
    """Read the filter from the cache, or put it there; a file that isn't whole, or of another version, is no hit."""
    here = os.path.dirname(__file__)
    versions = [os.stat(os.path.join(here, name)) for name in ("seccomp.py", "seccomp_default.py", "syscalls.py")]
    known = [text, sorted(capabilities), machine, os.uname().release, here, *((v.st_mtime_ns, v.st_size) for v in versions)]
    path = os.path.join(cache, hashlib.sha256(repr(known).encode()).hexdigest() + ".bpf")
    try:
        with open(path, "rb") as file:
            content = file.read()
        program = content[32:]
        if content[:32] == hashlib.sha256(program).digest():
            return program
    except OSError:
        pass
    program = _compile(text, capabilities, machine)
    partial = f"{path}.{os.getpid()}"
    try:
        with open(partial, "wb") as file:
            file.write(hashlib.sha256(program).digest() + program)
        os.rename(partial, path)
    except OSError:
        pass  # a cache that can't be written costs a millisecond next time
    return program


@lru_cache(maxsize=64)
def _compile(text: str, capabilities: frozenset[str], machine: str) -> bytes:
    if machine not in _RUNS:
        raise Unsupported(f"native backend: seccomp on {machine}; it knows {' and '.join(_RUNS)}")
    if text:
        profile = _parse(text)
        default, rules, architectures = _profile_rules(profile, capabilities, machine)
        if default is None:
            return b""
    else:
        default, rules, architectures = ERRNO | EPERM, _default_rules(capabilities, machine), _RUNS[machine]
    program = _program(rules, default, [a for a in _RUNS[machine] if a in architectures])
    if len(program) > _LONGEST * 8:
        raise InvalidSpec(f"the seccomp profile is too long: {len(program) // 8} instructions, the kernel takes {_LONGEST}")
    return program


# -- profiles to rules ------------------------------------------------------------------------------------------------


def _default_rules(capabilities: frozenset[str], machine: str) -> list[Rule]:
    from pycontainers.backends.native import seccomp_default as default

    allowed = [default.ALLOWED, default.BY_MACHINE[machine]]
    allowed += [names for capability, names in default.BY_CAPABILITY.items() if capability in capabilities]
    if _kernel() >= (4, 8):
        allowed.append(default.SINCE_4_8)
    alg, vsock = default.REFUSED_FAMILIES
    rules = [
        Rule(" ".join(allowed).split(), ALLOW),
        # The kernel reads 32 bits of an ioctl's request: the upper ones must not hide it.
        Rule(["ioctl"], ERRNO | EPERM, (Condition(1, "MASKED_EQ", 0xFFFFFFFF, default.TIOCSTI),), always=True),
        Rule(["socket"], ALLOW, (Condition(0, "LT", alg),)),
        Rule(["socket"], ALLOW, (Condition(0, "EQ", alg + 1),)),
        Rule(["socket"], ALLOW, (Condition(0, "GT", vsock),)),
        *(Rule(["personality"], ALLOW, (Condition(0, "EQ", value),)) for value in default.PERSONALITIES),
    ]
    if "CAP_SYS_ADMIN" not in capabilities:
        rules.append(Rule(["clone"], ALLOW, (Condition(0, "MASKED_EQ", default.CLONE_NAMESPACES),)))
        # Its flags are in memory, where a filter can't look: libc must fall back to clone.
        rules.append(Rule(["clone3"], ERRNO | ENOSYS))
    return rules


def _profile_rules(
    profile: dict[str, object], capabilities: frozenset[str], machine: str
) -> tuple[int | None, list[Rule], tuple[str, ...]]:
    """Return a profile's default action, the rules that apply here, and the architectures that it speaks of."""
    where = "the seccomp profile"
    entries = _list(profile, "syscalls", where)
    if not profile.get("defaultAction") and not entries:
        return None, [], ()
    for key in ("flags", "listenerPath"):
        if profile.get(key):
            raise Unsupported(f"native backend: {key} in a seccomp profile ({profile[key]!r})")
    default = _action(profile, "defaultAction", "defaultErrnoRet", where)
    rules: list[Rule] = []
    for number, entry in enumerate(entries):
        here = f"{where}, syscalls[{number}]"
        if not isinstance(entry, dict):
            raise InvalidSpec(f"{here} is no object: {entry!r}")
        names = [_text(name, here) for name in _list(entry, "names", here)]
        if entry.get("name"):
            if names:
                raise InvalidSpec(f"{here} has both name and names")
            names = [_text(entry["name"], here)]
        action = _action(entry, "action", "errnoRet", here)
        conditions = [_condition(c, here) for c in _list(entry, "args", here)]
        if action == default or not _applies(entry, capabilities, _GO_NAMES[machine], here):
            rules.append(Rule(names, default, applies=False))
            continue
        # Two conditions on one argument are alternatives, since the kernel's interface can't say "and" of them.
        if len({c.position for c in conditions}) < len(conditions):
            rules.extend(Rule(names, action, (c,)) for c in conditions)
        else:
            rules.append(Rule(names, action, tuple(conditions)))
    return default, rules, _architectures(profile, machine, where)


def _architectures(profile: dict[str, object], machine: str, where: str) -> tuple[str, ...]:
    names = [_text(name, where) for name in _list(profile, "architectures", where)]
    groups = _list(profile, "archMap", where)
    if names and groups:
        raise InvalidSpec(f"{where} has both architectures and archMap")
    for group in groups:
        if not isinstance(group, dict):
            raise InvalidSpec(f"{where}, archMap: {group!r} is no object")
        if _ARCHITECTURES.get(_text(group.get("architecture"), where)) == machine:
            names = [_text(name, where) for name in _list(group, "subArchitectures", where)]
    return (machine, *(_ARCHITECTURES[name] for name in names if name in _ARCHITECTURES))


def _applies(entry: dict[str, object], capabilities: frozenset[str], machine: str, where: str) -> bool:
    """Tell whether a rule's `includes` and `excludes` fit: capabilities, machine, and the kernel's version."""
    filters: list[tuple[set[str], set[str], tuple[int, int] | None]] = []
    for key in ("includes", "excludes"):
        filter = entry.get(key) or {}
        if not isinstance(filter, dict):
            raise InvalidSpec(f"{where}, {key}: {filter!r} is no object")
        arches = {_text(a, where) for a in _list(filter, "arches", where)}
        caps = {_text(c, where) for c in _list(filter, "caps", where)}
        kernel = filter.get("minKernel")
        filters.append((arches, caps, None if kernel is None else _version(_text(kernel, where), where)))
    (arches, caps, kernel), (no_arches, no_caps, no_kernel) = filters
    return (
        (not arches or machine in arches)
        and caps <= capabilities
        and (kernel is None or _kernel() >= kernel)
        and machine not in no_arches
        and not no_caps & capabilities
        and (no_kernel is None or _kernel() < no_kernel)
    )


def _parse(text: str) -> dict[str, object]:
    import json

    try:
        profile = json.loads(text)
    except ValueError as error:
        raise InvalidSpec(f"the seccomp profile is no JSON: {error}") from error
    if not isinstance(profile, dict):
        raise InvalidSpec("the seccomp profile is no JSON object")
    return profile


def _list(value: dict[str, object], key: str, where: str) -> list[object]:
    items = value.get(key)
    if items is None:
        return []
    if not isinstance(items, list):
        raise InvalidSpec(f"{where}: {key} is no list: {items!r}")
    return items


def _text(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise InvalidSpec(f"{where}: {value!r} should be a text")
    return value


def _number(value: object, top: int, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= top:
        raise InvalidSpec(f"{where}: {value!r} should be a number from 0 to {top}")
    return value


def _action(value: dict[str, object], key: str, data: str, where: str) -> int:
    name = value.get(key)
    if name == "SCMP_ACT_NOTIFY":
        raise Unsupported("native backend: SCMP_ACT_NOTIFY in a seccomp profile")
    if not isinstance(name, str) or name not in _ACTIONS:
        raise InvalidSpec(f"{where}: {key} is {name!r}; choose one of {', '.join(_ACTIONS)}")
    action = _ACTIONS[name]
    number = value.get(data)
    if action in (ERRNO, TRACE):
        return action | (EPERM if number is None else _number(number, 0xFFFF, where))
    if number:
        raise InvalidSpec(f"{where}: {data} has no meaning with {name}")
    return action


def _condition(value: object, where: str) -> Condition:
    if not isinstance(value, dict):
        raise InvalidSpec(f"{where}: {value!r} in args is no object")
    operator = _text(value.get("op"), where).removeprefix("SCMP_CMP_")
    if operator not in _OPERATORS:
        raise InvalidSpec(f"{where}: {value.get('op')!r} is no comparison")
    top = 2**64 - 1
    return Condition(
        _number(value.get("index"), 5, where),
        operator,
        _number(value.get("value", 0), top, where),
        _number(value.get("valueTwo", 0), top, where),
    )


def _version(text: str, where: str) -> tuple[int, int]:
    major, _, minor = text.partition(".")
    minor = minor.partition(".")[0]
    if not (major.isdecimal() and minor.isdecimal()):
        raise InvalidSpec(f"{where}: minKernel {text!r} is no version like '4.8'")
    return int(major), int(minor)


@lru_cache(maxsize=1)
def _kernel() -> tuple[int, int]:
    major, minor = os.uname().release.split(".")[:2]
    return int(major), int("".join(c for c in minor if c.isdecimal()) or 0)


# -- rules to ranges --------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def _multiplexers() -> dict[str, tuple[str, int]]:
    result = {}
    for entry, names in _MULTIPLEXED.items():
        number = 0
        for word in names.split():
            if word.isdecimal():
                number = int(word)
            else:
                result[word] = (entry, number)
                number += 1
    return result


def _verdicts(rules: list[Rule], default: int, arch: str) -> dict[int, Verdict]:
    """Return number -> verdict for the calls that the rules name; a name that this architecture lacks is no error."""
    from pycontainers.backends.native.syscalls import numbers

    known = numbers(arch)
    actions: dict[int, int] = {}
    cases: dict[int, list[tuple[tuple[Condition, ...], int]]] = {}
    always: dict[int, list[tuple[tuple[Condition, ...], int]]] = {}

    def add(rule: Rule, number: int, conditions: tuple[Condition, ...]) -> None:
        if conditions:
            (always if rule.always else cases).setdefault(number, []).append((conditions, rule.action))
        else:
            actions.setdefault(number, rule.action)

    through = _multiplexers() if arch == "i386" else {}
    for rule in rules:
        for name in rule.names if rule.applies else ():
            if name in known:
                add(rule, known[name], rule.conditions)
            if name in through:
                # The first argument says which call is meant, so that a condition on it can't be asked (as libseccomp).
                entry, number = through[name]
                others = tuple(c for c in rule.conditions if c.position)
                add(rule, known[entry], (Condition(0, "EQ", number), *others))
    result = {}
    for number in {*actions, *cases, *always}:
        # As in libseccomp, a rule without conditions makes those with conditions void.
        own = [] if number in actions else cases.get(number, [])
        result[number] = Verdict(actions.get(number, default), (*always.get(number, []), *own))
    return result


def _ranges(rules: list[Rule], default: int, arch: str) -> list[tuple[int, Verdict]]:
    """Return (first number, verdict) of each range, ascending from 0; the last one has no end."""
    from pycontainers.backends.native.syscalls import numbers

    known = numbers(arch)
    verdicts = _verdicts(rules, default, arch)
    # What is newer than the profile doesn't exist, as in runc: a libc then falls back, which EPERM would keep it from.
    unknown = Verdict(default if default in (ALLOW, LOG) else ERRNO | ENOSYS)
    newest = max((known[n] for rule in rules for n in rule.names if known.get(n, _ARM_PRIVATE) < _ARM_PRIVATE), default=-1)
    points = {}
    for number in {0, newest + 1, *verdicts, *(n + 1 for n in verdicts)}:
        points[number] = verdicts.get(number) or (unknown if number > newest else Verdict(default))
    if arch == "x86_64":
        points[_X32] = Verdict(ERRNO | ENOSYS)
    result: list[tuple[int, Verdict]] = []
    for number, verdict in sorted(points.items()):
        if not result or result[-1][1] != verdict:
            result.append((number, verdict))
    return result


# -- ranges to instructions -------------------------------------------------------------------------------------------

# linux/bpf_common.h
_LOAD, _AND, _JUMP, _RETURN = 0x20, 0x54, 0x05, 0x06
_EQ, _GT, _GE = 0x15, 0x25, 0x35
# Offsets in struct seccomp_data: int nr; __u32 arch; __u64 instruction_pointer; __u64 args[6].
_NUMBER, _ARCH, _ARGUMENTS = 0, 4, 16


class _Code:
    """A program written from its end, since jumps only go forward: a label counts instructions from the end."""

    def __init__(self) -> None:
        self._lines: list[tuple[int, int, int, int]] = []
        self._returns: dict[int, int] = {}

    def bytes(self) -> bytes:
        """Return the program in the kernel's format."""
        return b"".join(struct.pack("=HBBI", *line) for line in reversed(self._lines))

    def emit(self, code: int, k: int, yes: int = 0, no: int = 0) -> int:
        """Put an instruction before all others; return its label."""
        self._lines.append((code, yes, no, k))
        return len(self._lines) - 1

    def end(self, action: int) -> int:
        """Return the label of an end with this action."""
        if action not in self._returns:
            self._returns[action] = self.emit(_RETURN, action)
        return self._returns[action]

    def near(self, label: int) -> int:
        """Return a label that a conditional jump, which has 8 bits, reaches from here and a little before."""
        if len(self._lines) - label < 250:
            return label
        code, _, _, k = self._lines[label]
        if code == _RETURN:
            self._returns[k] = self.emit(_RETURN, k)
            return self._returns[k]
        return self.emit(_JUMP, len(self._lines) - label - 1)

    def branch(self, test: int, k: int, yes: int, no: int) -> int:
        """Compare what was loaded, and go on at one of two labels."""
        yes, no = self.near(yes), self.near(no)
        here = len(self._lines)
        return self.emit(test, k, here - yes - 1, here - no - 1)

    def load(self, offset: int, then: int, mask: int = 0xFFFFFFFF) -> int:
        """Load a word of the call, and go on at a label."""
        if then != len(self._lines) - 1:
            then = self.emit(_JUMP, len(self._lines) - then - 1)
        if mask != 0xFFFFFFFF:
            self.emit(_AND, mask)
        return self.emit(_LOAD, offset)

    def condition(self, condition: Condition, wide: bool, yes: int, no: int) -> int:
        """Test an argument; `wide` ones have 64 bits."""
        position, operator, value, mask = condition.position, condition.operator, condition.value, 2**64 - 1
        if operator == "MASKED_EQ":
            value, mask = condition.other, condition.value
        if operator in ("NE", "LT", "LE"):
            yes, no = no, yes
        low = _ARGUMENTS + 8 * position
        test = {"GT": _GT, "LE": _GT, "GE": _GE, "LT": _GE}.get(operator, _EQ)
        label = self.load(low, self.branch(test, value & 0xFFFFFFFF, yes, no), mask & 0xFFFFFFFF)
        if not wide:
            return label
        label = self.branch(_EQ, value >> 32, label, no)
        if test != _EQ:
            label = self.branch(_GT, value >> 32, yes, label)
        return self.load(low + 4, label, mask >> 32)

    def verdict(self, verdict: Verdict, wide: bool) -> int:
        """Judge one call by its arguments."""
        label = self.end(verdict.action)
        for conditions, action in reversed(verdict.cases):
            otherwise, label = label, self.end(action)
            for condition in reversed(conditions):
                label = self.condition(condition, wide, label, otherwise)
        return label

    def tree(self, ranges: list[tuple[int, Verdict]], wide: bool) -> int:
        """Find the range of the call's number, halving."""
        if len(ranges) == 1:
            return self.verdict(ranges[0][1], wide)
        middle = len(ranges) // 2
        upper = self.tree(ranges[middle:], wide)
        lower = self.tree(ranges[:middle], wide)
        return self.branch(_GE, ranges[middle][0], upper, lower)


def _program(rules: list[Rule], default: int, architectures: list[str]) -> bytes:
    """Return the instructions that carry out the rules, by architecture; a call of any other one kills."""
    code = _Code()
    label = code.end(KILL_PROCESS)
    trees = []
    for arch in reversed(architectures):
        wide = bool(_AUDIT[arch] & 0x80000000)
        trees.append((_AUDIT[arch], code.load(_NUMBER, code.tree(_ranges(rules, default, arch), wide))))
    for audit, tree in trees:
        label = code.branch(_EQ, audit, tree, label)
    code.load(_ARCH, label)
    return code.bytes()
