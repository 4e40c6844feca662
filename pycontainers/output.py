"""What is made of a container's log frames: lines, text, times, and what stays readable after it is gone."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from datetime import datetime
from datetime import timedelta
from datetime import timezone

from pycontainers.backend import STDERR
from pycontainers.backend import STDOUT
from pycontainers.backend import Attachment
from pycontainers.backend import Backend
from pycontainers.backend import ContainerState
from pycontainers.backend import LogFrame
from pycontainers.backend import Status
from pycontainers.errors import InvalidSpec
from pycontainers.errors import InvalidType

_STREAMS = {None: 0, "stdout": STDOUT, "stderr": STDERR}


def decode(data: bytes) -> str:
    """Return the text of UTF-8; a byte that is none becomes U+FFFD."""
    return data.decode("utf-8", "replace")


def moment(value: datetime | timedelta | float | None) -> int | None:
    """Return nanoseconds since the epoch of a datetime, of seconds since the epoch, or of so long ago."""
    if value is None:
        return None
    if isinstance(value, timedelta):
        return time.time_ns() - int(value.total_seconds() * 1e9)
    if isinstance(value, datetime):
        return int(value.timestamp() * 1e6) * 1000
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InvalidType(f"since and until take a datetime, seconds or a timedelta: got {value!r}")
    return int(value * 1e9)


def stamp(nanoseconds: int) -> str:
    """Return the time as Docker writes it in logs: RFC 3339 in UTC, nine digits."""
    seconds, rest = divmod(nanoseconds, 10**9)
    return f"{datetime.fromtimestamp(seconds, timezone.utc):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"


def lines(
    frames: Iterator[LogFrame],
    *,
    stream: str | None = None,
    since: int | None = None,
    until: int | None = None,
    tail: int | None = None,
    timestamps: bool = False,
) -> Iterator[tuple[int, bytes]]:
    """Yield `(stream, line)`, a stream's lines whole and unmixed, each with its newline; a last one may lack it.

    A line's time is that of its first byte. `since` and `until` are nanoseconds since the epoch. With `tail` only the
    last lines of what the frames hold now are yielded, then what follows.
    """
    if stream not in _STREAMS:
        raise InvalidSpec(f"stream takes 'stdout', 'stderr' or None: got {stream!r}")
    if tail is not None and (isinstance(tail, bool) or not isinstance(tail, int)):
        raise InvalidType(f"tail takes a number of lines: got {tail!r}")
    only = _STREAMS[stream]
    found = (
        (line[0], (stamp(line[1]).encode() + b" " if timestamps else b"") + line[2])
        for line in _split(frames, until)
        if (not only or line[0] == only) and (since is None or line[1] >= since) and (until is None or line[1] <= until)
    )
    if tail is None or tail < 0:
        return found
    return iter(deque(found, maxlen=tail))


def _split(frames: Iterator[LogFrame], until: int | None) -> Iterator[tuple[int, int, bytes]]:
    begun: dict[int, tuple[int, bytearray]] = {}
    try:
        for frame in frames:
            if until is not None and frame.time > until and frame.stream not in begun:
                break
            first = 0
            while first < len(frame.data):
                end = frame.data.find(b"\n", first) + 1
                piece = frame.data[first : end or None]
                when, line = begun.pop(frame.stream, (frame.time, bytearray()))
                line += piece
                if end:
                    yield frame.stream, when, bytes(line)
                else:
                    begun[frame.stream] = (when, line)
                first = end or len(frame.data)
    finally:
        close = getattr(frames, "close", None)
        if close is not None:
            close()
    for number, (when, line) in sorted(begun.items(), key=lambda item: item[1][0]):
        yield number, when, bytes(line)


class Keeper:
    """All output of a container that may be removed by itself, from its first byte on; thread-safe."""

    def __init__(self, attachment: Attachment) -> None:
        self._source = attachment.frames()
        self._attachment = attachment
        self._kept: list[LogFrame] = []
        self._ended = False
        self._lock = threading.Lock()

    def frames(self, cursor: int = 0) -> Iterator[LogFrame]:
        """Yield the output from the start, then what follows, until the container ends."""
        index = 0
        while True:
            if index == len(self._kept):
                with self._lock:
                    if index == len(self._kept):
                        if self._ended:
                            return
                        frame = next(self._source, None)
                        if frame is None:
                            self._ended = True
                            self._attachment.close()
                            return
                        self._kept.append(frame)
            frame = self._kept[index]
            index += 1
            if not cursor or frame.cursor > cursor:
                yield frame


def last_state(backend: Backend, id: str, since: int) -> ContainerState | None:
    """Return how a container that is gone ended, as the events since then tell; None if they don't."""
    found = None
    oom = False
    started = 0.0
    for event in backend.events(since=since, follow=False):
        if event is None or event.id != id or event.type != "container":
            continue
        if event.action == "oom":
            oom = True
        elif event.action == "start":
            started = event.time / 1e9
        elif event.action == "die":
            code = int(dict(event.attributes).get("exitCode", "0"))
            found = ContainerState(status=Status.EXITED, exit_code=code, oom_killed=oom, started_at=started,
                                   finished_at=event.time / 1e9)
    return found
