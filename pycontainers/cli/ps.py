"""`pycontainers ps`."""

from __future__ import annotations

import sys

from pycontainers.cli.flags import Command
from pycontainers.cli.flags import Flag
from pycontainers.cli.output import FORMAT_HELP
from pycontainers.cli.output import ago
from pycontainers.cli.output import clock
from pycontainers.cli.output import ellipsis
from pycontainers.cli.output import filters
from pycontainers.cli.output import human_duration
from pycontainers.cli.output import human_size
from pycontainers.cli.output import list_lines
from pycontainers.cli.output import quoted
from pycontainers.cli.output import short_id
from pycontainers.effective import command_line
from pycontainers.effective import exposed_ports
from pycontainers.effective import labels
from pycontainers.effective import network_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pycontainers.backend import ContainerRecord
    from pycontainers.backend import ContainerState
    from pycontainers.cli.flags import Options
    from pycontainers.cli.output import Columns


def status_text(state: ContainerState) -> str:
    """Return Docker's STATUS: `Up 5 minutes (healthy)`, `Exited (0) 2 minutes ago`."""
    import time

    now = time.time()
    status = state.status.value
    up = f"Up {human_duration(now - state.started_at)}"
    if status == "paused":
        return f"{up} (Paused)"
    if status == "restarting":
        return f"Restarting ({state.exit_code}) {human_duration(now - state.finished_at)} ago"
    if status == "running":
        if state.health is None or state.health.status in ("", "none"):
            return up
        return f"{up} ({'health: ' if state.health.status == 'starting' else ''}{state.health.status})"
    if status == "removing":
        return "Removal In Progress"
    if status == "dead":
        return "Dead"
    if not state.started_at and not state.finished_at:
        return "Created"
    return f"Exited ({state.exit_code}) {human_duration(now - state.finished_at)} ago"


def command_text(record: ContainerRecord) -> str:
    """Return program and arguments as Docker joins them: an argument with a blank in single quotes."""
    path, *args = command_line(record.spec, record.image_config) or ("",)
    return " ".join([path, *(f"'{a}'" if " " in a else a for a in args)])


def _ports(record: ContainerRecord) -> str:
    if record.state.status.value not in ("running", "paused") or network_name(record.spec) in ("none", "host"):
        return ""
    bound = {f"{p.container_port}/{p.protocol}": f"{p.host_ip or '0.0.0.0'}:{p.host_port}->"
             for p in record.spec.ports if p.host_port}
    return ", ".join(bound.get(port, "") + port for port in exposed_ports(record.spec, record.image_config))


def _label(record: ContainerRecord, name: str) -> str:
    return _labels(record).get(name, "")


def _labels(record: ContainerRecord) -> dict[str, str]:
    return labels(record.spec, record.image_config)


def _network(record: ContainerRecord) -> str:
    return network_name(record.spec)


def columns(trunc: bool = True, images: dict[str, tuple[str, int]] | None = None) -> Columns:
    """Return the columns of `ps`; `images` maps an image's id to its reference and size, where they are known."""
    known = images or {}

    def image(record: ContainerRecord) -> str:
        name = record.spec.image or record.image_id
        if name.startswith("sha256:"):
            name = known.get(record.image_id, ("", 0))[0] or (short_id(name) if trunc else name)
        return name

    def size(record: ContainerRecord) -> str:
        virtual = (record.size_rw or 0) + known.get(record.image_id, ("", 0))[1]
        return human_size(record.size_rw or 0) + (f" (virtual {human_size(virtual)})" if record.size_rw is not None else "")

    def command(record: ContainerRecord) -> str:
        text = command_text(record)
        return quoted(ellipsis(text, 20) if trunc else text)

    def mounts(record: ContainerRecord) -> str:
        names = [m.source or m.target for m in record.spec.volumes if m.type != "tmpfs"]
        return ",".join(ellipsis(n, 15) if trunc else n for n in names)

    return {
        "ID": ("CONTAINER ID", lambda r: short_id(r.id) if trunc else r.id),
        "Image": ("IMAGE", image),
        "Command": ("COMMAND", command),
        "CreatedAt": ("CREATED AT", lambda r: clock(r.created)),
        "RunningFor": ("CREATED", lambda r: ago(r.created)),
        "Ports": ("PORTS", _ports),
        "State": ("STATE", lambda r: r.state.status.value),
        "Status": ("STATUS", lambda r: status_text(r.state)),
        "Size": ("SIZE", size),
        "Names": ("NAMES", lambda r: r.name),
        "Labels": ("LABELS", lambda r: ",".join(f"{k}={v}" for k, v in sorted(_labels(r).items()))),
        "Label": ("", _label),
        "Mounts": ("MOUNTS", mounts),
        "LocalVolumes": ("LOCAL VOLUMES", lambda r: str(sum(m.type == "volume" for m in r.spec.volumes))),
        "Networks": ("NETWORKS", _network),
        "Platform": ("PLATFORM", lambda r: None),
    }


DEFAULT = ("ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names")


def named_images(records: Sequence[ContainerRecord], always: bool = False) -> dict[str, tuple[str, int]]:
    """Return reference and size of every image, asked for only if a container says its image by id (or `always`)."""
    if not always and not any(r.spec.image.startswith("sha256:") for r in records):
        return {}
    from pycontainers.backend import ImageRecord
    from pycontainers.dockerapi import familiar
    from pycontainers.engine import default_engine

    images = default_engine().backend.list(ImageRecord)
    return {i.id: (familiar(i.tags[0]).removesuffix(":latest") if i.tags else "", i.size) for i in images}


def _quick(options: Options, backend: str | None, root: str | None) -> bool:
    """Show what the native backend's own quick listing tells, if it is meant and nothing else is asked for.

    Opening an engine takes longer than the rest of `ps`; what the listing leaves out, the engine does.
    """
    import os

    from pycontainers import plugins

    found = plugins.entry_points()
    backend = backend or os.environ.get("PYCONTAINERS_BACKEND") or None
    foreign = backend is None and not all(value.startswith("pycontainers.") for value in found.values())
    if backend not in (None, "native") or foreign or options.filter or _sized(options) or "native" not in found:
        return False
    listing = getattr(plugins.load(found["native"]), "pycontainers_listing", None)
    records = listing and listing(root or os.environ.get("PYCONTAINERS_ROOT") or None)
    if records is None or any(r.spec.image.startswith("sha256:") for r in records):
        return False
    if not (options.all or options.latest or options.last > 0):
        records = [r for r in records if r.state.status.value in ("running", "paused", "restarting")]
    _show(options, records)
    return True


def _sized(options: Options) -> bool:
    return options.size or (options.format is not None and ".Size" in options.format)


def _run(options: Options) -> None:
    from pycontainers.backend import ContainerRecord
    from pycontainers.engine import default_engine
    from pycontainers.filters import select_containers

    backend = default_engine().backend
    everything = options.all or options.latest or options.last > 0
    _show(options, select_containers(backend, backend.list(ContainerRecord), filters(options.filter), all=everything))


def _show(options: Options, records: list[ContainerRecord]) -> None:
    last = 1 if options.latest else options.last
    if last > 0:
        records = records[:last]
    format = options.format
    sized = _sized(options)
    if sized:
        from pycontainers.engine import default_engine
        from pycontainers.usage import measured

        backend = default_engine().backend
        records = [measured(backend, r) for r in records]
    if options.quiet:
        ids = (r.id if options.no_trunc else short_id(r.id) for r in records)
        text = "".join(f"{id}\n" for id in ids)
    else:
        shown = columns(not options.no_trunc, named_images(records, sized))
        text = list_lines(records, shown, DEFAULT + ("Size",) * options.size, format=format, kind="ContainerContext")
    sys.stdout.write(text)


PS = Command(
    _run,
    quick=_quick,
    flags=(
        Flag("all", "a", "bool", "Show all containers (default shows just running)"),
        Flag("filter", "f", "filter", "Filter output based on conditions provided"),
        Flag("format", "", "string", FORMAT_HELP),
        Flag("last", "n", "int", "Show n last created containers (includes all states)", -1),
        Flag("latest", "l", "bool", "Show the latest created container (includes all states)"),
        Flag("no-trunc", "", "bool", "Don't truncate output"),
        Flag("quiet", "q", "bool", "Only display container IDs"),
        Flag("size", "s", "bool", "Display total file sizes"),
    ),
)
