"""What Docker's client prints: tables, `--format`, sizes and times."""

from __future__ import annotations

import os
import sys
import time

from pycontainers.cli.flags import Failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterable
    from collections.abc import Mapping
    from collections.abc import Sequence
    from typing import Any

    Columns = Mapping[str, tuple[str, Callable[..., object]]]

#: Docker's tabwriter: a cell is at least so wide, and so many spaces stand after it.
_LEAST = 10
_PADDING = 3


def version() -> str:
    """Return the installed version of this package."""
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    try:
        return installed("pycontainers")
    except PackageNotFoundError:
        return "unknown"


# -- sizes and times ---------------------------------------------------------------------------------------------------


def _significant(value: float, digits: int) -> str:
    text = f"{value:.{digits}g}"
    return str(int(float(text))) if "e" in text else text


def human_size(size: float, digits: int = 3) -> str:
    """Return a size with a decimal unit: `1.98MB`."""
    power = 0
    while size >= 1000 and power < 8:
        size, power = size / 1000, power + 1
    return _significant(size, digits) + ("B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB")[power]


def binary_size(size: float) -> str:
    """Return a size with a binary unit: `23.54GiB`."""
    power = 0
    while size >= 1024 and power < 8:
        size, power = size / 1024, power + 1
    return _significant(size, 4) + ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB")[power]


def human_duration(seconds: float) -> str:
    """Return a duration as Docker tells it: `About a minute`, `3 weeks`."""
    if seconds < 1:
        return "Less than a second"
    if seconds < 60:
        return "1 second" if int(seconds) == 1 else f"{int(seconds)} seconds"
    minutes, hours = int(seconds / 60), int(seconds / 3600 + 0.5)
    if minutes < 60:
        return "About a minute" if minutes == 1 else f"{minutes} minutes"
    if hours < 48:
        return "About an hour" if hours == 1 else f"{hours} hours"
    for limit, length, unit in ((24 * 14, 24, "days"), (24 * 60, 24 * 7, "weeks"), (24 * 730, 24 * 30, "months")):
        if hours < limit:
            return f"{hours // length} {unit}"
    return f"{int(seconds / 3600) // 24 // 365} years"


def ago(moment: float) -> str:
    """Return how long ago a time (seconds since the epoch) was."""
    return f"{human_duration(time.time() - moment)} ago" if moment else "N/A"


def clock(moment: float) -> str:
    """Return a time as Go prints it: `2026-11-24 17:42:08 +0000 UTC`."""
    return time.strftime("%Y-%m-%d %H:%M:%S %z %Z", time.localtime(moment))


# -- texts -------------------------------------------------------------------------------------------------------------


def ellipsis(text: str, width: int) -> str:
    """Return at most `width` characters, the last one `…` if some were left out."""
    return text if len(text) <= width else text[:width - 1] + "…"


#: Characters that a terminal obeys instead of showing; tabs and ends of lines are text.
_CONTROL = {code: f"\\x{code:02x}" for code in (*range(9), *range(11, 32), *range(127, 160))}


def visible(text: str) -> str:
    """Return a text that no terminal obeys: what images and containers say of themselves may be hostile."""
    return text.translate(_CONTROL)


def quoted(text: str) -> str:
    """Return the text in double quotes, as Go's `%q`."""
    for plain, escaped in (("\\", "\\\\"), ('"', '\\"'), ("\n", "\\n"), ("\t", "\\t"), ("\r", "\\r"), ("\x1b", "\\x1b")):
        text = text.replace(plain, escaped)
    return f'"{text}"'


def short_id(id: str) -> str:
    """Return an id's first 12 digits."""
    return id.removeprefix("sha256:")[:12]


# -- tables ------------------------------------------------------------------------------------------------------------


def table(rows: Iterable[Sequence[str]]) -> str:
    """Return rows of cells as lines of aligned columns; the last column isn't padded."""
    rows = [[visible(str(cell)) for cell in row] for row in rows]
    widths: list[int] = []
    for row in rows:
        for i, cell in enumerate(row[:-1]):
            if i == len(widths):
                widths.append(_LEAST)
            widths[i] = max(widths[i], len(cell) + _PADDING)
    return "".join("".join(c.ljust(widths[i]) for i, c in enumerate(row[:-1])) + row[-1] + "\n" for row in rows)


def _unescaped(text: str) -> str:
    return text.replace("\\t", "\t").replace("\\n", "\n")


def failed(prefix: str, error: Exception) -> Failure:
    """Return the failure that a bad template means."""
    return Failure(f"{prefix}: {error}")


def list_lines(
    subjects: Iterable[object], columns: Columns, default: Sequence[str], *, format: str | None = None, kind: str = "Context"
) -> str:
    """Return the text of a listing.

    `columns` maps each field to its title and to the function that computes it; `default` names those of the usual
    table. `format` is Docker's: `table`, `table TEMPLATE`, `json`, or a template.
    """
    format = (format or "table").strip()
    if format == "table":
        rows = [[columns[name][0] for name in default]]
        rows += [[str(columns[name][1](s)) for name in default] for s in subjects]
        return table(rows)
    from pycontainers.templates import Fields
    from pycontainers.templates import Template
    from pycontainers.templates import TemplateError

    headed = format.startswith("table")
    source = "{{json .}}" if format == "json" else _unescaped(format.removeprefix("table").strip() if headed else format)
    functions: dict[str, Any] = {name: function for name, (_, function) in columns.items()}
    try:
        template = Template(source)
        lines = [template.render(Fields(s, functions, kind)) for s in subjects]
        if not headed:
            return "".join(f"{line}\n" for line in lines)
        titles = {name: _title(title, function) for name, (title, function) in columns.items()}
        lines.insert(0, template.render(Fields(None, titles, kind), header=True))
    except TemplateError as error:
        raise failed("failed to parse template" if error.parsing else "failed to execute template", error) from None
    return table(list(line.split("\t")) for text in lines for line in text.split("\n"))


def _title(title: str, function: Callable[..., object]) -> Callable[..., object]:
    if function.__code__.co_argcount > 1:
        return lambda _, name: str(name).rpartition(".")[2].replace("-", " ").replace("_", " ")
    return lambda _: title


def format_object(value: object, format: str, *, indent: int | None = None) -> str:
    """Return `--format`'s text for one object (inspect, info, version): `json` or a template."""
    from pycontainers.templates import Template
    from pycontainers.templates import TemplateError
    from pycontainers.templates import encode

    if format == "json":
        return encode(value, indent=indent)
    try:
        return Template(format).render(value)
    except TemplateError as error:
        raise failed("template parsing error", error) from None


def reason(error: Exception) -> str:
    """Return what an error says; of the system's own errors, which file and what, without the number."""
    from pycontainers.errors import ContainersError

    if isinstance(error, OSError) and not isinstance(error, ContainersError) and error.filename is not None:
        return f"{os.fsdecode(error.filename)}: {error.strerror}"
    return str(getattr(error, "strerror", None) or error)


# -- asking ------------------------------------------------------------------------------------------------------------


def confirm(warning: str) -> bool:
    """Ask y/N on stdin, as Docker's prune commands do."""
    print(warning)
    print("Are you sure you want to continue? [y/N] ", end="", flush=True)
    answer = sys.stdin.readline()
    return answer.strip().lower() in ("y", "yes")


def filters(values: Sequence[str]) -> dict[str, object]:
    """Return `NAME=VALUE` texts as a mapping of each name to its values."""
    result: dict[str, list[str]] = {}
    for value in values:
        name, _, text = value.partition("=")
        result.setdefault(name, []).append(text)
    return {**result}


FORMAT_HELP = (
    "Format output using a custom template:\n'table':            Print output in table format with column headers "
    "(default)\n'table TEMPLATE':   Print output in table format using the given Go template\n'json':             Print "
    "in JSON format\n'TEMPLATE':         Print output using the given Go template"
)
OBJECT_FORMAT_HELP = (
    "Format output using a custom template:\n'json':             Print in JSON format\n'TEMPLATE':         Print output "
    "using the given Go template"
)
