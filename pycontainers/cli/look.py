"""inspect, diff, top, port."""

from __future__ import annotations

import sys
import time
from typing import Any

from pycontainers.cli.flags import Command
from pycontainers.cli.flags import Failure
from pycontainers.cli.flags import Flag
from pycontainers.cli.flags import Options
from pycontainers.cli.output import OBJECT_FORMAT_HELP
from pycontainers.cli.output import format_object

# -- inspect -----------------------------------------------------------------------------------------------------------


def _container(ref: str, size: bool) -> dict[str, object]:
    from pycontainers.backend import ContainerRecord
    from pycontainers.backend import ImageRecord
    from pycontainers.dockerapi import container_json
    from pycontainers.engine import default_engine
    from pycontainers.errors import NotFound
    from pycontainers.usage import measured

    backend = default_engine().backend
    record = backend.get(ContainerRecord, ref)
    if not size:
        return container_json(record)
    try:
        root = backend.get(ImageRecord, record.image_id).size
    except NotFound:
        root = 0
    return container_json(measured(backend, record), root_size=root)


def _image(ref: str, size: bool) -> dict[str, object]:
    from pycontainers.backend import ImageRecord
    from pycontainers.dockerapi import image_json
    from pycontainers.engine import default_engine

    return image_json(default_engine().backend.get(ImageRecord, ref))


_KINDS = {"container": _container, "image": _image}


def _inspect(options: Options, kinds: tuple[str, ...]) -> None:
    from pycontainers.errors import AmbiguousName
    from pycontainers.errors import InvalidReference
    from pycontainers.errors import NotFound

    found: list[Any] = []
    errors = []
    for ref in options.args:
        for kind in kinds:
            try:
                found.append(_KINDS[kind](ref, options.size))
                break
            except (NotFound, InvalidReference):
                continue
            except AmbiguousName as error:
                errors.append(f"Error: {error}")
                break
        else:
            errors.append(f"Error: No such {kinds[0] if len(kinds) == 1 else 'object'}: {ref}")
    if not options.format or options.format == "json":
        from pycontainers.templates import encode

        print(encode(found, indent=None if options.format else 4))
    else:
        for value in found:
            print(format_object(value, options.format))
    if errors:
        raise Failure("\n".join(errors))


def _inspect_any(options: Options) -> None:
    if options.type and options.type not in _KINDS:
        known = ", ".join(f'"{kind}"' for kind in _KINDS)
        raise Failure(f'unknown type: "{options.type}": must be one of {known}')
    _inspect(options, (options.type,) if options.type else tuple(_KINDS))


def _inspect_container(options: Options) -> None:
    _inspect(options, ("container",))


def _inspect_image(options: Options) -> None:
    options.size = False
    _inspect(options, ("image",))


_FORMAT = Flag("format", "f", "string", OBJECT_FORMAT_HELP)
INSPECT = Command(
    _inspect_any, "NAME|ID [NAME|ID...]",
    (_FORMAT, Flag("size", "s", "bool", "Display total file sizes if the type is container"),
     Flag("type", "", "string", "Only inspect objects of the given type")),
    least=1, most=None,
)
INSPECT_CONTAINER = Command(
    _inspect_container, "CONTAINER [CONTAINER...]", (_FORMAT, Flag("size", "s", "bool", "Display total file sizes")),
    least=1, most=None,
)
INSPECT_IMAGE = Command(_inspect_image, "IMAGE [IMAGE...]", (_FORMAT,), least=1, most=None)


# -- diff --------------------------------------------------------------------------------------------------------------


def _diff(options: Options) -> None:
    from pycontainers.container import Container

    for change in Container.get(options.args[0]).diff():
        print(f"{change.kind} {change.path}")


DIFF = Command(_diff, "CONTAINER", least=1, most=1)


# -- top ---------------------------------------------------------------------------------------------------------------


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest:02d}"


def _start(moment: float) -> str:
    """`ps -ef`'s STIME: the hour within 24 hours, else the day."""
    return time.strftime("%H:%M" if time.time() - moment < 86400 else "%b%d", time.localtime(moment))


def _top(options: Options) -> None:
    from pycontainers.container import Container

    ref, *wanted = options.args
    processes = Container.get(ref).top()
    if wanted and wanted != ["-ef"]:
        rows = _ps(processes, wanted)
    else:
        rows = [["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]]
        rows += [[p.uid, str(p.pid), str(p.ppid), str(p.cpu), _start(p.start), p.tty, _duration(p.time), p.command]
                 for p in processes]
    # Docker's tabwriter here: cells of 20 at least, 3 blanks after.
    widths = [max([20, *(len(row[i]) + 3 for row in rows)]) for i in range(len(rows[0]) - 1)]
    sys.stdout.write("".join("".join(c.ljust(w) for c, w in zip(row, widths, strict=False)) + row[-1] + "\n" for row in rows))


def _ps(processes: Any, wanted: list[str]) -> list[list[str]]:
    """Ask this machine's ps(1) with the user's options and keep the lines of the container's processes."""
    import subprocess

    try:
        said = subprocess.run(["ps", *wanted], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise Failure("Error: ps options need the program ps on this machine (package procps)") from None
    if said.returncode:
        raise Failure(f"Error: ps: {said.stderr.strip()}")
    header, *lines = said.stdout.splitlines()
    titles = header.split()
    if "PID" not in titles:
        raise Failure("Error: Couldn't find PID field in ps output")
    place = titles.index("PID")
    pids = {str(p.pid) for p in processes}
    rows = [line.split(None, len(titles) - 1) for line in lines]
    return [titles, *(row for row in rows if len(row) > place and row[place] in pids)]


#: Flags after the container's name are ps(1)'s.
TOP = Command(_top, "CONTAINER [ps OPTIONS]", least=1, most=None, interspersed=False)


# -- port --------------------------------------------------------------------------------------------------------------


def _port(options: Options) -> None:
    from pycontainers.container import Container

    ref, *wanted = options.args
    container = Container.get(ref)
    ports = [(f"{p.container_port}/{p.protocol}", f"{p.host_ip or '0.0.0.0'}:{p.host_port}")
             for p in container.config.ports if p.host_port and container.status in ("running", "paused")]
    if not wanted:
        for inside, outside in sorted(ports):
            print(f"{inside} -> {outside}")
        return
    name = wanted[0] if "/" in wanted[0] else f"{wanted[0]}/tcp"
    found = [outside for inside, outside in ports if inside == name]
    if not found:
        raise Failure(f"Error: No public port '{wanted[0]}' published for {ref}")
    print("\n".join(found))


PORT = Command(_port, "CONTAINER [PRIVATE_PORT[/PROTO]]", least=1, most=2)
