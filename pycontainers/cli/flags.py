"""Flags, arguments and help texts by Docker's rules: `-it`, `-p80`, `--rm=false`, the last of a repeated flag wins.

click knows neither `--flag=false` nor Docker's help and errors, and its import takes longer than `pycontainers ps` may.
"""

from __future__ import annotations

import os
import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Container
    from collections.abc import Sequence
    from typing import Any

PROGRAM = "pycontainers"

_TRUE = ("1", "t", "T", "true", "TRUE", "True")
_FALSE = ("0", "f", "F", "false", "FALSE", "False")


class UsageError(Exception):
    """Raised for a command line that can't be understood; `code` is Docker's: 125 for flags, 1 for arguments."""

    def __init__(self, message: str, command: Command | None = None, code: int = 125, see: str = "Run") -> None:
        """Keep the message and what to point the user at."""
        super().__init__(message)
        self.command = command
        self.code = code
        self.see = see


class Failure(Exception):
    """Raised by a command to end it: a message for stderr (none if empty) and an exit code."""

    def __init__(self, message: str = "", code: int = 1) -> None:
        """Keep the message and the exit code."""
        super().__init__(message)
        self.code = code


class Options:
    """What the flags said, as attributes (`--no-trunc` is `no_trunc`), and the arguments in `args`."""

    def __init__(self, values: dict[str, Any], args: list[str], given: set[str]) -> None:
        """Hold values by attribute name; `given` names the flags that were on the command line."""
        self.__dict__.update(values)
        self.args = args
        self.given = given

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...
        def __setattr__(self, name: str, value: Any) -> None: ...


class Flag:
    """One flag. `kind` is the type shown in the help; `bool` takes no value, `list`, `map`, `filter` and such repeat."""

    __slots__ = ("default", "help", "kind", "name", "short")

    def __init__(self, name: str, short: str, kind: str, help: str, default: Any = None) -> None:
        """Describe a flag; an empty help hides it."""
        self.name = name
        self.short = short
        self.kind = kind
        self.help = help
        self.default = default

    @property
    def key(self) -> str:
        """The attribute of `Options`."""
        return self.name.replace("-", "_")

    @property
    def repeats(self) -> bool:
        """True if every use adds a value."""
        return self.kind in ("list", "map", "filter", "mount", "ulimit", "strings")

    def initial(self) -> Any:
        """Return the value of a flag that wasn't given."""
        if self.repeats:
            return []
        if self.kind == "bool":
            return bool(self.default)
        return self.default

    def label(self) -> str:
        """Return how errors name the flag: `"-m, --memory"`."""
        return f'"-{self.short}, --{self.name}"' if self.short else f'"--{self.name}"'

    def convert(self, text: str) -> Any:
        """Return the value that the text means. Raises `ValueError` with Docker's reason."""
        if self.kind == "bool":
            if text in _TRUE + _FALSE:
                return text in _TRUE
            raise ValueError(f'strconv.ParseBool: parsing "{text}": invalid syntax')
        converter = _CONVERTERS.get(self.kind)
        return converter(text) if converter else text


def _integer(text: str) -> int:
    if not re.fullmatch(r"[+-]?\d+", text):
        raise ValueError(f'strconv.ParseInt: parsing "{text}": invalid syntax')
    return int(text)


def _unsigned(text: str) -> int:
    if not re.fullmatch(r"\d+", text):
        raise ValueError(f'strconv.ParseUint: parsing "{text}": invalid syntax')
    if int(text) > 65535:
        raise ValueError(f'strconv.ParseUint: parsing "{text}": value out of range')
    return int(text)


def _decimal(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"failed to parse {text} as a rational number") from None


def _bytes(text: str) -> int:
    from pycontainers.errors import InvalidSpec
    from pycontainers.spec import parse_size

    try:
        return parse_size(text)
    except InvalidSpec:
        raise ValueError(f"invalid size: '{text}'") from None


def _duration(text: str) -> float:
    from pycontainers.errors import InvalidSpec
    from pycontainers.spec import parse_duration

    try:
        if text.isdigit() and text != "0":
            raise InvalidSpec(text)
        return parse_duration(text)
    except InvalidSpec:
        missing = "missing unit in duration" if text.isdigit() else "invalid duration"
        raise ValueError(f'time: {missing} "{text}"') from None


def _filter(text: str) -> str:
    if "=" not in text:
        raise ValueError("bad format of filter (expected name=value)")
    name, _, value = text.partition("=")
    return f"{name.strip().lower()}={value.strip()}"


_CONVERTERS: dict[str, Callable[[str], Any]] = {
    "int": _integer,
    "uint16": _unsigned,
    "decimal": _decimal,
    "bytes": _bytes,
    "duration": _duration,
    "filter": _filter,
}


class Command:
    """A command: its flags, how many arguments it takes, and the function that carries it out.

    `arguments` is the usage's tail (`CONTAINER [CONTAINER...]`). With `interspersed` false, flags end at the first
    argument (run, exec): what follows belongs to the command in the container.
    """

    def __init__(
        self,
        run: Callable[[Options], int | None],
        arguments: str = "",
        flags: Sequence[Flag] = (),
        *,
        least: int = 0,
        most: int | None = 0,
        interspersed: bool = True,
        daemon_prefix: bool = False,
        extra_usage: Sequence[str] = (),
        quick: Callable[[Options, str | None, str | None], bool] | None = None,
    ) -> None:
        """Describe a command.

        `daemon_prefix` makes errors begin with the program's name, as `docker run` does. `quick` is tried before an
        engine is opened, with the names of backend and store that were given; it returns True if it did everything.
        """
        self.run = run
        self.quick = quick
        self.arguments = arguments
        self.flags = tuple(flags)
        self.least = least
        self.most = most
        self.interspersed = interspersed
        self.daemon_prefix = daemon_prefix
        self.extra_usage = tuple(extra_usage)
        #: Set by the table of commands: `container ls`, the one-line description, and all paths.
        self.path = ""
        self.summary = ""
        self.aliases: tuple[str, ...] = ()

    @property
    def usages(self) -> list[str]:
        """Usage lines without the word `Usage:`."""
        options = "[OPTIONS] " if self.flags else ""
        return [f"{PROGRAM} {self.path} {options}{a}".rstrip() for a in (self.arguments, *self.extra_usage)]

    def parse(self, argv: Sequence[str]) -> Options:
        """Return what the command line means. Raises `UsageError`, and `Help` when it was asked for."""
        values, args, given = parse_flags(self.flags, argv, self, self.interspersed)
        self.check(args)
        return Options(values, args, given)

    def check(self, args: Sequence[str]) -> None:
        """Refuse too few or too many arguments."""
        name = f"{PROGRAM} {self.path}"
        if self.most == 0 and args:
            raise UsageError(f"{PROGRAM}: '{name}' accepts no arguments", self, 1)
        if len(args) < self.least or (self.most is not None and len(args) > self.most):
            bound = self.least if len(args) < self.least else self.most
            much = "" if self.least == self.most else "at least " if len(args) < self.least else "at most "
            plural = "" if bound == 1 else "s"
            raise UsageError(f"{PROGRAM}: '{name}' requires {much}{bound} argument{plural}", self, 1, "See")

    def help(self) -> str:
        """Return the text of `--help`."""
        usages = self.usages
        lines = [f"Usage:  {usages[0]}", *(f"        {u}" for u in usages[1:]), "", self.summary, ""]
        if len(self.aliases) > 1:
            lines += ["Aliases:", "  " + ", ".join(f"{PROGRAM} {a}" for a in self.aliases), ""]
        if any(f.help for f in self.flags):
            lines += ["Options:", flag_help(self.flags), ""]
        return "\n".join(lines)


class Help(Exception):
    """Raised when `--help` was asked for."""


def parse_flags(
    flags: Sequence[Flag], argv: Sequence[str], command: Command | None, interspersed: bool
) -> tuple[dict[str, Any], list[str], set[str]]:
    """Return the flags' values, the arguments, and which flags were given. Raises `UsageError` and `Help`."""
    long = {f.name: f for f in flags}
    short = {f.short: f for f in flags if f.short}
    values = {f.key: f.initial() for f in flags}
    given: set[str] = set()
    args: list[str] = []
    rest = list(argv)

    def put(flag: Flag, text: str) -> None:
        try:
            value = flag.convert(text)
        except ValueError as error:
            raise UsageError(f'invalid argument "{text}" for {flag.label()} flag: {error}', command) from None
        given.add(flag.name)
        if flag.repeats:
            values[flag.key].append(value)
        else:
            values[flag.key] = value

    while rest:
        word = rest.pop(0)
        word = read_as_meant(word, rest[0] if rest else "", long)
        if word == "--":
            args += rest
            break
        if word.startswith("--"):
            name, equals, text = word[2:].partition("=")
            flag = long.get(name)
            if flag is None:
                if name == "help":
                    raise Help
                raise UsageError(f"unknown flag: --{name}", command)
            if not equals and flag.kind == "bool":
                text = "true"
            elif not equals:
                if not rest:
                    raise UsageError(f"flag needs an argument: --{name}", command)
                text = rest.pop(0)
            put(flag, text)
        elif word.startswith("-") and len(word) > 1:
            letters = word[1:]
            while letters:
                letter, letters = letters[0], letters[1:]
                flag = short.get(letter)
                if flag is None:
                    if letter == "h":
                        raise Help
                    raise UsageError(f"unknown shorthand flag: '{letter}' in {word}", command)
                if flag.kind == "bool" and not letters.startswith("="):
                    put(flag, "true")
                    continue
                if not letters and not rest:
                    raise UsageError(f"flag needs an argument: '{letter}' in {word}", command)
                text = letters.removeprefix("=") if letters else rest.pop(0)
                letters = ""
                put(flag, text)
        else:
            args.append(word)
            if not interspersed:
                args += rest
                break
    return values, args, given


def flag_help(flags: Sequence[Flag]) -> str:
    """Return the flags' help, one a line, sorted and wrapped as Docker's."""
    rows = []
    for flag in sorted(flags, key=lambda f: f.name):
        if flag.help:
            left = f"  -{flag.short}, --{flag.name}" if flag.short else f"      --{flag.name}"
            rows.append((left if flag.kind == "bool" else f"{left} {flag.kind}", _described(flag)))
    indent = max(len(left) for left, _ in rows) + 3
    width = int(os.environ["COLUMNS"]) if os.environ.get("COLUMNS", "").isdigit() else 80
    return "\n".join(left.ljust(indent) + _wrap(indent, width - 1, text) for left, text in rows)


def _described(flag: Flag) -> str:
    if flag.default in (None, False, "", ()):
        return flag.help
    value = f'"{flag.default}"' if isinstance(flag.default, str) else str(flag.default).lower()
    return f"{flag.help} (default {value})"


def _wrap(indent: int, width: int, text: str) -> str:
    room = width - indent - 5
    lines = []
    while True:
        cut = text.find("\n")
        if not 0 <= cut <= room:
            cut = -1 if len(text) <= room + 5 else max(text.rfind(" ", 0, room), text.rfind("\n", 0, room))
        if cut <= 0:
            lines.append(text)
            break
        lines.append(text[:cut])
        text = text[cut + 1:]
    return ("\n" + " " * indent).join(lines)


def read_as_meant(word: str, following: str, long: Container[str]) -> str:
    """Return an option that a word processor gave an en or em dash (`–a`, `—it`, `—name`) with the dashes meant.

    A port mapping after `–P` can only be meant for `-p`.
    """
    match = re.match("[–—−]+", word)
    if not match or len(word) == match.end():
        return word
    rest = word[match.end():]
    if rest == "P" and re.fullmatch(r"(\S+:)?\d*:\d+(/\w+)?", following):
        return "-p"
    name = rest.partition("=")[0]
    return ("--" if len(name) > 1 and name in long else "-") + rest
