"""A quick listing of a store's containers, for `pycontainers ps`: neither attrs nor cffi, whose imports take longer than it.

It only reads, and leaves to the backend itself whatever isn't plain: a store of another version, or a container whose
supervisor died without a last word.
"""

from __future__ import annotations

import json
import os
import sqlite3
import struct

from pycontainers.backends.native.locks import locked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: As `record.py` has them; a test holds them equal.
RECORD = "=IIQiIIIIIiI5Q40s200s"
MAGIC = 0x32435950
VERSION = 1
STATUSES = ("created", "running", "paused", "restarting", "exited", "removing")
HEALTH = ("", "starting", "healthy", "unhealthy")
_LIVE = ("running", "paused", "restarting")
_record = struct.Struct(RECORD)


def default_root() -> str:
    """Return where this user's store is when none is named."""
    if os.geteuid() == 0:
        return "/var/lib/pycontainers"
    base = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    return os.path.join(base, "pycontainers")


class Values:
    """Attributes."""

    def __init__(self, **values: Any) -> None:
        """Set them."""
        self.__dict__.update(values)

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...


def list_containers(root: str) -> list[Any] | None:
    """Return what `ps` shows of every container, newest first, under the names of `ContainerRecord`'s attributes.

    None if the backend itself has to look.
    """
    try:
        with open(f"{root}/version", encoding="ascii") as file:
            if file.read().strip() != str(VERSION):
                return None
        rows = _rows(f"{root}/db.sqlite3")
        found = [_container(f"{root}/containers/{id[:2]}/{id}", id, name) for id, name, _ in rows]
    except FileNotFoundError:
        return [] if not os.path.lexists(root) or os.listdir(root) == [] else None
    except (OSError, ValueError, KeyError, TypeError, sqlite3.Error):
        return None
    for container, (_, _, lifetime) in zip(found, rows, strict=True):
        # One whose creator may be dead is the backend's to sweep.
        if container is None or (lifetime == "process" and container.state.status.value == "created"):
            return None
    return sorted(filter(None, found), key=lambda c: c.created, reverse=True)


def _rows(path: str) -> list[tuple[str, str, str]]:
    database = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        return database.execute("SELECT id, name, lifetime FROM containers ORDER BY created DESC, id").fetchall()
    finally:
        database.close()


def _container(directory: str, id: str, name: str) -> Values | None:
    state = _state(directory)
    if state is None:
        return None
    with open(f"{directory}/config.json", encoding="utf-8", errors="surrogateescape") as file:
        data = json.load(file)
    spec, image = data["spec"], data.get("image_config") or {}
    return Values(
        id=id, name=name, created=float(data["created"]), image_id=data["image_id"], state=state, size_rw=None,
        spec=Values(image=spec.get("image", ""), command=spec.get("command"), entrypoint=spec.get("entrypoint"),
                    labels=spec.get("labels", ()), network=spec.get("network", "default"),
                    volumes=[Values(**m) for m in spec.get("volumes", ())],
                    ports=[Values(**p) for p in spec.get("ports", ())]),
        image_config=Values(command=image.get("Cmd"), entrypoint=image.get("Entrypoint"),
                            labels=image.get("Labels") or {}, exposed_ports=[*(image.get("ExposedPorts") or ())]))


def _state(directory: str) -> Values | None:
    """Return the record's state; None if it says that the container lives and its supervisor, who holds its lock, doesn't."""
    data, held = b"", False
    try:
        fd = os.open(f"{directory}/state", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        fd = -1
    if fd >= 0:
        try:
            data = os.read(fd, _record.size)
            held = locked(fd)
        finally:
            os.close(fd)
    if len(data) < _record.size:
        return Values(status=Values(value="created"), exit_code=0, started_at=0.0, finished_at=0.0, health=None)
    fields = _record.unpack(data)
    status = STATUSES[fields[1]]
    if fields[0] != MAGIC or (status in _LIVE and not held):
        return None
    health = Values(status=HEALTH[fields[5]]) if fields[5] else None
    return Values(status=Values(value=status), exit_code=fields[3], started_at=fields[11] / 1e9,
                  finished_at=fields[12] / 1e9, health=health)
