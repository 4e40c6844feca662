"""stats."""

from __future__ import annotations

import sys
import time
from typing import Any

from pycontainers.cli.flags import Command
from pycontainers.cli.flags import Flag
from pycontainers.cli.flags import Options
from pycontainers.cli.output import FORMAT_HELP
from pycontainers.cli.output import binary_size
from pycontainers.cli.output import ellipsis
from pycontainers.cli.output import human_size
from pycontainers.cli.output import list_lines
from pycontainers.cli.output import short_id
from pycontainers.errors import InvalidState
from pycontainers.errors import NotFound


def columns(trunc: bool) -> Any:
    """Return the columns of `stats`."""

    def percent(value: float) -> str:
        return f"{value * 100:.2f}%"

    # A row is the name as asked, the record, and the figures (None for one that doesn't run).
    def known(text: Any) -> Any:
        return lambda row: text(row[2]) if row[2] is not None else "--"

    return {
        "BlockIO": ("BLOCK I/O", known(lambda s: f"{human_size(s.block_read)} / {human_size(s.block_written)}")),
        "CPUPerc": ("CPU %", known(lambda s: percent(s.cpu))),
        "Container": ("CONTAINER", lambda row: row[0]),
        "ID": ("CONTAINER ID", lambda row: short_id(row[1].id) if trunc else row[1].id),
        "MemPerc": ("MEM %", known(lambda s: percent(s.memory / s.memory_limit if s.memory_limit else 0))),
        "MemUsage": ("MEM USAGE / LIMIT", lambda row: f"{binary_size(row[2].memory)} / {binary_size(row[2].memory_limit)}"
                     if row[2] is not None else "-- / --"),
        "Name": ("NAME", lambda row: ellipsis(row[1].name, 50) if trunc else row[1].name),
        "NetIO": ("NET I/O", known(lambda s: f"{human_size(s.net_received)} / {human_size(s.net_sent)}")),
        "PIDs": ("PIDS", known(lambda s: str(s.pids))),
    }


DEFAULT = ("ID", "Name", "CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs")


def _rows(options: Options, first: bool) -> list[Any]:
    from pycontainers.backend import ContainerRecord
    from pycontainers.engine import default_engine
    from pycontainers.filters import select_containers

    backend = default_engine().backend
    if options.args:
        records = []
        for ref in options.args:
            try:
                records.append((ref, backend.get(ContainerRecord, ref)))
            except NotFound:
                if first:
                    raise
    else:
        records = [(r.name, r) for r in select_containers(backend, backend.list(ContainerRecord), None, all=options.all)]
    rows: list[Any] = []
    for ref, record in records:
        try:
            rows.append((ref, record, backend.stats(record.id)))
        except (InvalidState, NotFound):
            rows.append((ref, record, None))
    return rows


def _run(options: Options) -> None:
    first = True
    while True:
        rows = _rows(options, first)
        text = list_lines(rows, columns(not options.no_trunc), DEFAULT, format=options.format, kind="StatsContext")
        if options.no_stream:
            sys.stdout.write(text)
            return
        # Home; each line's rest is cleared, then everything below.
        sys.stdout.write("\x1b[H" + text.replace("\n", "\x1b[K\n") + "\x1b[J")
        sys.stdout.flush()
        if options.args and all(row[2] is None for row in rows):
            return
        first = False
        time.sleep(1)


STATS = Command(
    _run, "[CONTAINER...]",
    (
        Flag("all", "a", "bool", "Show all containers (default shows just running)"),
        Flag("format", "", "string", FORMAT_HELP),
        Flag("no-stream", "", "bool", "Disable streaming stats and only pull the first result"),
        Flag("no-trunc", "", "bool", "Do not truncate output"),
    ),
    most=None,
)
