"""The store's event log: lines that supervisors and Python append, and readers follow."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Iterator

from pycontainers._native._lib import lib as C
from pycontainers.backend import Event
from pycontainers.backends.native.store import Store

#: What is kept at least of a log that has grown to twice as much.
_KEEP = 1 << 20
_SILENCE = 0.1


class EventLog:
    """Appends whole lines, which are atomic; reads them back as events. Thread-safe."""

    def __init__(self, store: Store) -> None:
        """Name the store."""
        self._store = store

    def write(self, action: str, id: str, kind: str = "container", **attributes: str) -> None:
        """Append an event. Never fails: a full disk loses it."""
        fields = "".join(f"\t{key}={_clean(value)}" for key, value in attributes.items())
        line = f"{time.time_ns()}\t{kind}\t{action}\t{id}{fields}\n"
        try:
            fd = os.open(self._store.path("events"), os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            return
        try:
            os.write(fd, line.encode("utf-8", "surrogateescape"))
        except OSError:
            pass
        finally:
            os.close(fd)

    def read(self, *, since: int | None, follow: bool) -> Iterator[Event | None]:
        """Yield events after `since` (ns; None: from now); with `follow` for ever, None after each silence."""
        self._store.open()
        path = self._store.path("events")
        fd = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        watch = C.pyc_watch_file(os.fsencode(path)) if follow else -1
        try:
            at = os.fstat(fd).st_size if since is None else 0
            rest = b""
            while True:
                data = os.pread(fd, 1 << 16, at)
                at += len(data)
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    event = _parse(line)
                    if event is not None and (since is None or event.time > since):
                        yield event
                if data:
                    continue
                if not follow:
                    return
                if not self._changed(watch):
                    yield None
                if os.stat(path).st_ino != os.fstat(fd).st_ino:
                    # It was shortened: the new one begins with what this one ends with.
                    since = max(since or 0, time.time_ns() - 1)
                    os.close(fd)
                    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                    os.close(watch)
                    watch = C.pyc_watch_file(os.fsencode(path))
                    at = 0
        finally:
            os.close(fd)
            if watch >= 0:
                os.close(watch)

    def last_exit(self, id: str) -> int | None:
        """Return the exit code of a container's last `die` event; None if the log tells none (any more)."""
        code = None
        for event in self.read(since=0, follow=False):
            if event is not None and event.id == id and event.action == "die":
                code = int(dict(event.attributes).get("exitCode", "0"))
        return code

    def _changed(self, watch: int) -> bool:
        if watch < 0:
            time.sleep(_SILENCE)
            return False
        ready, _, _ = select.select([watch], [], [], _SILENCE)
        if ready:
            os.read(watch, 4096)
        return bool(ready)

    def shorten(self) -> None:
        """Keep the newer part of a log that has grown large; called by the sweeper, while nobody changes the store."""
        path = self._store.path("events")
        try:
            if os.stat(path).st_size < 2 * _KEEP:
                return
            with open(path, "rb") as file:
                file.seek(-_KEEP, os.SEEK_END)
                file.readline()
                tail = file.read()
            with open(f"{path}.new", "wb") as file:
                file.write(tail)
            os.rename(f"{path}.new", path)
        except OSError:
            return


def _clean(text: str) -> str:
    return text.replace("\t", " ").replace("\n", " ")


def _parse(line: bytes) -> Event | None:
    parts = line.decode("utf-8", "surrogateescape").split("\t")
    if len(parts) < 4 or not parts[0].isdigit():
        return None
    pairs = (part.partition("=") for part in parts[4:])
    return Event(time=int(parts[0]), type=parts[1], action=parts[2], id=parts[3],
                 attributes=tuple((name, value) for name, _, value in pairs))
