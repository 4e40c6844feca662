"""info, version, system df, doctor, backends."""

from __future__ import annotations

import os
import platform
import sys
from typing import Any

from pycontainers.cli import output
from pycontainers.cli.flags import Command
from pycontainers.cli.flags import Failure
from pycontainers.cli.flags import Flag
from pycontainers.cli.flags import Options
from pycontainers.cli.output import FORMAT_HELP
from pycontainers.cli.output import OBJECT_FORMAT_HELP
from pycontainers.cli.output import format_object
from pycontainers.cli.output import human_size
from pycontainers.cli.output import list_lines
from pycontainers.errors import BackendUnavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pycontainers.backend import Check
    from pycontainers.engine import BackendStatus

# -- info --------------------------------------------------------------------------------------------------------------

#: Docker's lines: title, key, and how far it is set in.
_INFO = (
    ("Containers", "Containers", 1), ("Running", "ContainersRunning", 2), ("Paused", "ContainersPaused", 2),
    ("Stopped", "ContainersStopped", 2), ("Images", "Images", 1), ("Server Version", "ServerVersion", 1),
    ("Storage Driver", "Driver", 1), ("Logging Driver", "LoggingDriver", 1), ("Cgroup Driver", "CgroupDriver", 1),
    ("Cgroup Version", "CgroupVersion", 1), ("Security Options", "SecurityOptions", 1),
    ("Kernel Version", "KernelVersion", 1), ("Operating System", "OperatingSystem", 1), ("OSType", "OSType", 1),
    ("Architecture", "Architecture", 1), ("CPUs", "NCPU", 1), ("Total Memory", "MemTotal", 1), ("Name", "Name", 1),
    ("ID", "ID", 1), ("Root Dir", "DockerRootDir", 1),
)


def _info_lines(info: dict[str, Any]) -> list[str]:
    lines = []
    for title, key, indent in _INFO:
        if key not in info:
            continue
        value = info[key]
        if key == "MemTotal":
            value = output.binary_size(value)
        if isinstance(value, (list, tuple)):
            lines.append(f" {title}:")
            lines += [f"  {str(item).removeprefix('name=')}" for item in value]
        else:
            lines.append(f"{' ' * indent}{title}: {value}")
    known = {key for _, key, _ in _INFO}
    simple = {k: v for k, v in info.items() if k not in known and isinstance(v, (str, int, bool, float))}
    lines += [f" {key}: {str(value).lower() if isinstance(value, bool) else value}" for key, value in simple.items()]
    return lines + [f" WARNING: {text}" for text in info.get("Warnings") or ()]


def _info(options: Options) -> None:
    from pycontainers.engine import default_engine

    engine = default_engine()
    info = {k: v for k, v in engine.info().items() if k != "Checks"}
    if options.format:
        client = {"Version": output.version(), "Backend": engine.name, "Python": platform.python_version()}
        print(format_object({**info, "ClientInfo": client}, options.format))
        return
    print("Client:", f" Version:    {output.version()}", f" Backend:    {engine.name}",
          f" Python:     {platform.python_version()}", "", "Server:", *_info_lines(info), sep="\n")


_FORMAT = Flag("format", "f", "string", OBJECT_FORMAT_HELP)
INFO = Command(_info, "", (_FORMAT,))


# -- version -----------------------------------------------------------------------------------------------------------


def _version(options: Options) -> None:
    from pycontainers.engine import default_engine

    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    client = {"Version": output.version(), "PythonVersion": platform.python_version(), "Os": sys.platform, "Arch": machine}
    server: dict[str, object] | None
    try:
        engine = default_engine()
        info = engine.info()
        server = {"Backend": engine.name, "Version": info.get("ServerVersion", output.version()),
                  "Os": info.get("OSType", "linux"), "Arch": info.get("Architecture", machine),
                  "KernelVersion": info.get("KernelVersion", platform.release())}
        reason = ""
    except BackendUnavailable as error:
        server, reason = None, str(error)
    if options.format:
        print(format_object({"Client": client, "Server": server}, options.format))
    else:
        print("Client: pycontainers", f" Version:           {client['Version']}",
              f" Python version:    {client['PythonVersion']}", f" OS/Arch:           {client['Os']}/{machine}", sep="\n")
        if server is not None:
            print("", f"Server: the {server['Backend']} backend, in this process", f" Version:           {server['Version']}",
                  f" OS/Arch:           {server['Os']}/{server['Arch']}", f" Kernel version:    {server['KernelVersion']}",
                  sep="\n")
    if server is None:
        raise Failure(f"Error: {reason}")


VERSION = Command(_version, "", (_FORMAT,))


# -- system df ---------------------------------------------------------------------------------------------------------


def _share(part: int, whole: int) -> str:
    return f"{human_size(part, 4)} ({part * 100 // whole}%)" if whole else human_size(part, 4)


def _df(options: Options) -> None:
    from pycontainers.cli.ps import columns as container_columns
    from pycontainers.cli.ps import named_images
    from pycontainers.engine import default_engine
    from pycontainers.usage import usage

    found = usage(default_engine().backend)
    if options.verbose:
        if options.format:
            raise Failure("--format and --verbose can't be used together")
        from pycontainers.cli.images import image_columns
        from pycontainers.cli.images import image_rows

        by_id = {i.record.id: i for i in found.images}
        print("Images space usage:\n")
        sys.stdout.write(list_lines(
            image_rows([i.record for i in found.images]), image_columns(True, by_id),
            ("Repository", "Tag", "ID", "CreatedSince", "Size", "SharedSize", "UniqueSize", "Containers")))
        print("\nContainers space usage:\n")
        columns = {**container_columns(True, named_images(found.containers)),
                   "Size": ("SIZE", lambda r: human_size(r.size_rw or 0))}
        sys.stdout.write(list_lines(found.containers, columns, ("ID", "Image", "Command", "LocalVolumes", "Size",
                                                                "RunningFor", "Status", "Names")))
        return
    running = [c for c in found.containers if c.state.status.value in ("running", "paused", "restarting")]
    sizes = sum(c.size_rw or 0 for c in found.containers)
    idle = sizes - sum(c.size_rw or 0 for c in running)
    rows = [
        ("Images", len(found.images), sum(1 for i in found.images if i.containers), found.layers, found.reclaimable_layers),
        ("Containers", len(found.containers), len(running), sizes, idle),
    ]
    table: Any = {
        "Type": ("TYPE", lambda r: r[0]), "TotalCount": ("TOTAL", lambda r: str(r[1])),
        "Active": ("ACTIVE", lambda r: str(r[2])), "Size": ("SIZE", lambda r: human_size(r[3], 4)),
        "Reclaimable": ("RECLAIMABLE", lambda r: _share(r[4], r[3])),
    }
    sys.stdout.write(list_lines(rows, table, tuple(table), format=options.format))


DF = Command(
    _df, "",
    (Flag("format", "", "string", FORMAT_HELP), Flag("verbose", "v", "bool", "Show detailed information on space usage")),
)


# -- backends, doctor --------------------------------------------------------------------------------------------------


def _backends(options: Options) -> None:
    from pycontainers.engine import list_backends

    columns: Any = {"Name": ("NAME", lambda b: b.name), "Usable": ("USABLE", lambda b: "yes" if b.usable else "no"),
                    "Reason": ("REASON", lambda b: b.reason)}
    sys.stdout.write(list_lines(list_backends(), columns, tuple(columns), format=options.format, kind="BackendContext"))


BACKENDS = Command(_backends, "", (Flag("format", "", "string", FORMAT_HELP),))


def _doctor(options: Options) -> int:
    from pycontainers.engine import default_engine
    from pycontainers.engine import list_backends

    root = os.environ.get("PYCONTAINERS_ROOT")
    statuses = list_backends()
    checks = [(status.name, check) for status in statuses for check in _checks(status, root)]
    try:
        engine = default_engine()
    except BackendUnavailable:
        engine = None
    if options.format:
        report = {
            "Backends": [{"Name": s.name, "Usable": s.usable, "Reason": s.reason} for s in statuses],
            "Checks": [{"Backend": name, "Name": c.name, "Ok": c.ok, "Found": c.found, "Needed": c.needed, "Cost": c.cost,
                        "Remedy": c.remedy} for name, c in checks],
        }
        print(format_object(report, options.format))
        return 0 if engine is not None else 1
    for status in statuses:
        mark = "in use" if engine is not None and engine.name == status.name else "usable" if status.usable else status.reason
        print(f"The {status.name} backend: {mark}")
        for _, check in (pair for pair in checks if pair[0] == status.name):
            print(f"  {'ok' if check.ok else 'missing' if check.needed else 'lacking':<9}{check.name:<20} {check.found}")
            if check.cost:
                print(f"  {'':<9}costs: {check.cost}")
            if check.remedy:
                print(f"  {'':<9}to mend it: {check.remedy}")
    return 0 if engine is not None else 1


def _checks(status: BackendStatus, root: str | None) -> tuple[Check, ...]:
    try:
        return status.checks(root)
    except BackendUnavailable:
        # It can't even be loaded, which is its reason already.
        return ()


DOCTOR = Command(_doctor, "", (Flag("format", "f", "string", OBJECT_FORMAT_HELP),))
