"""events."""

from __future__ import annotations

import time
from typing import Any

from pycontainers.cli.flags import Command
from pycontainers.cli.flags import Failure
from pycontainers.cli.flags import Flag
from pycontainers.cli.flags import Options
from pycontainers.cli.output import OBJECT_FORMAT_HELP
from pycontainers.cli.output import filters
from pycontainers.cli.output import format_object


def _line(event: Any) -> str:
    """Docker's line: time, type, action, id, and the attributes in brackets."""
    seconds, rest = divmod(event.time, 10**9)
    zone = time.strftime("%z", time.localtime(seconds))
    zone = "Z" if zone == "+0000" else f"{zone[:3]}:{zone[3:]}"
    clock = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(seconds))
    attributes = ", ".join(f"{k}={v}" for k, v in sorted(event.attributes))
    return f"{clock}.{rest:09d}{zone} {event.type} {event.action} {event.id}" + (f" ({attributes})" if attributes else "")


def _fields(event: Any) -> dict[str, object]:
    """The names that a template sees: those of Docker's events.Message."""
    from pycontainers.dockerapi import event_json

    body = event_json(event)
    return {"Status": body.get("status", ""), "ID": body.get("id", ""), "From": body.get("from", ""), "Type": body["Type"],
            "Action": body["Action"], "Actor": body["Actor"], "Scope": body["scope"], "Time": body["time"],
            "TimeNano": body["timeNano"]}


def _run(options: Options) -> None:
    from pycontainers.dockerapi import event_json
    from pycontainers.engine import default_engine
    from pycontainers.errors import InvalidSpec
    from pycontainers.moments import parse_moment
    from pycontainers.templates import encode

    try:
        since = parse_moment(options.since, "since") if options.since else None
        until = parse_moment(options.until, "until") if options.until else None
    except InvalidSpec as error:
        raise Failure(str(error)) from None
    follow = until is None or until > time.time()
    for event in default_engine().events(since=since, until=until, follow=follow, filters=filters(options.filter)):
        if not options.format:
            text = _line(event)
        elif options.format == "json":
            text = encode(event_json(event))
        else:
            text = format_object(_fields(event), options.format)
        print(text, flush=True)


EVENTS = Command(
    _run, "",
    (
        Flag("filter", "f", "filter", "Filter output based on conditions provided"),
        Flag("format", "", "string", OBJECT_FORMAT_HELP),
        Flag("since", "", "string", "Show all events created since timestamp"),
        Flag("until", "", "string", "Stream events until this timestamp"),
    ),
)
