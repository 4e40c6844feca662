"""logs."""

from __future__ import annotations

from pycontainers.cli import terminal
from pycontainers.cli.flags import Command
from pycontainers.cli.flags import Failure
from pycontainers.cli.flags import Flag
from pycontainers.cli.flags import Options


def _moment(text: str | None, option: str) -> int | None:
    from pycontainers.errors import InvalidSpec
    from pycontainers.moments import parse_moment

    try:
        return None if text is None else round(parse_moment(text, option) * 1e9)
    except InvalidSpec as error:
        raise Failure(str(error)) from None


def _run(options: Options) -> None:
    from pycontainers.container import Container
    from pycontainers.output import lines

    container = Container.get(options.args[0])
    since, until = _moment(options.since, "since"), _moment(options.until, "until")
    # Docker takes what is no number for "all".
    tail = int(options.tail) if options.tail.lstrip("-").isdigit() and int(options.tail) >= 0 else None
    # Docker shows the attributes of log drivers here; there are none.
    prefix = b" " if options.details else b""
    _, out, err = terminal.streams()
    found = container.frames()
    tty = container.config.tty
    last = 0
    if options.follow:
        # What is there now first: --tail counts its lines, and following goes on behind it.
        kept = list(found)
        last = kept[-1].cursor if kept else 0
        for stream, line in lines(iter(kept), since=since, until=until, tail=tail, timestamps=options.timestamps):
            terminal.write_all(out if stream == 1 or tty else err, prefix + line)
        tail = None
        found = container.frames(follow=True, cursor=last)
        if not options.timestamps and until is None:
            # Pieces of lines at once: a prompt has no newline.
            for frame in found:
                if since is None or frame.time >= since:
                    terminal.write_all(out if frame.stream == 1 or tty else err, prefix + frame.data)
            return
    for stream, line in lines(found, since=since, until=until, tail=tail, timestamps=options.timestamps):
        terminal.write_all(out if stream == 1 or tty else err, prefix + line)


LOGS = Command(
    _run, "CONTAINER",
    (
        Flag("details", "", "bool", "Show extra details provided to logs"),
        Flag("follow", "f", "bool", "Follow log output"),
        Flag("since", "", "string", 'Show logs since timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" for '
             '42 minutes)'),
        Flag("tail", "n", "string", "Number of lines to show from the end of the logs", "all"),
        Flag("timestamps", "t", "bool", "Show timestamps"),
        Flag("until", "", "string", 'Show logs before a timestamp (e.g. "2013-01-02T13:23:37Z") or relative (e.g. "42m" '
             'for 42 minutes)'),
    ),
    least=1, most=1,
)
