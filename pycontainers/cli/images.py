"""images, import, tag, rmi, history."""

from __future__ import annotations

import os
import sys
from typing import Any

from pycontainers.cli.each import each
from pycontainers.cli.flags import Command
from pycontainers.cli.flags import Failure
from pycontainers.cli.flags import Flag
from pycontainers.cli.flags import Options
from pycontainers.cli.output import FORMAT_HELP
from pycontainers.cli.output import ago
from pycontainers.cli.output import clock
from pycontainers.cli.output import ellipsis
from pycontainers.cli.output import filters
from pycontainers.cli.output import human_size
from pycontainers.cli.output import list_lines
from pycontainers.cli.output import short_id

_NONE = "<none>"


# -- images ------------------------------------------------------------------------------------------------------------


def image_columns(trunc: bool, usage: dict[str, Any] | None = None) -> Any:
    """Return the columns of `images`. A row is a record, a repository, a tag and a digest."""

    def used(text: Any) -> Any:
        return lambda row: text(usage[row[0].id]) if usage else "N/A"

    return {
        "Containers": ("CONTAINERS", used(lambda u: str(u.containers))),
        "CreatedAt": ("CREATED AT", lambda row: clock(row[0].created)),
        "CreatedSince": ("CREATED", lambda row: ago(row[0].created)),
        "Digest": ("DIGEST", lambda row: row[3]),
        "ID": ("IMAGE ID", lambda row: short_id(row[0].id) if trunc else row[0].id),
        "Repository": ("REPOSITORY", lambda row: row[1]),
        "SharedSize": ("SHARED SIZE", used(lambda u: human_size(u.shared, 4))),
        "Size": ("SIZE", lambda row: human_size(row[0].size)),
        "Tag": ("TAG", lambda row: row[2]),
        "UniqueSize": ("UNIQUE SIZE", used(lambda u: human_size(u.unique, 4))),
        "VirtualSize": ("SIZE", lambda row: human_size(row[0].size, 4)),
    }


def image_rows(records: list[Any], wanted: str = "") -> list[Any]:
    """Return one row for each reference of each image; `wanted` leaves those of one repository (and tag)."""
    from pycontainers.dockerapi import familiar

    rows = []
    for record in records:
        digests = {d.partition("@")[0]: d.partition("@")[2] for d in map(familiar, record.digests)}
        for name in map(familiar, record.tags):
            repository, _, tag = name.rpartition(":")
            rows.append((record, repository, tag, digests.get(repository, _NONE)))
        if not record.tags:
            repository = next(iter(digests), _NONE)
            rows.append((record, repository, _NONE, digests.get(repository, _NONE)))
    if wanted:
        from pycontainers.filters import matches_reference
        from pycontainers.filters import normalise_or

        short = familiar(wanted)
        rows = [r for r in rows if r[2] != _NONE and matches_reference(normalise_or(f"{r[1]}:{r[2]}"), short)]
    return rows


def _images(options: Options) -> None:
    from pycontainers.backend import ImageRecord
    from pycontainers.engine import default_engine
    from pycontainers.filters import select_images

    records = select_images(default_engine().backend.list(ImageRecord), filters(options.filter))
    rows = image_rows(records, options.args[0] if options.args else "")
    if options.quiet:
        ids = dict.fromkeys(row[0].id if options.no_trunc else short_id(row[0].id) for row in rows)
        sys.stdout.write("".join(f"{id}\n" for id in ids))
        return
    default = ("Repository", "Tag", *(("Digest",) if options.digests else ()), "ID", "CreatedSince", "Size")
    sys.stdout.write(list_lines(rows, image_columns(not options.no_trunc), default, format=options.format,
                                kind="imageContext"))


IMAGES = Command(
    _images, "[REPOSITORY[:TAG]]",
    (
        Flag("all", "a", "bool", "Show all images (default hides intermediate images)"),
        Flag("digests", "", "bool", "Show digests"),
        Flag("filter", "f", "filter", "Filter output based on conditions provided"),
        Flag("format", "", "string", FORMAT_HELP),
        Flag("no-trunc", "", "bool", "Don't truncate output"),
        Flag("quiet", "q", "bool", "Only show image IDs"),
    ),
    most=1,
)


# -- import ------------------------------------------------------------------------------------------------------------


def _words(text: str) -> list[str]:
    import shlex

    try:
        return shlex.split(text)
    except ValueError as error:
        raise Failure(f"Error: can't read {text!r}: {error}") from None


def _command(text: str) -> tuple[str, ...]:
    """Return the command of CMD and ENTRYPOINT: a JSON array, or a line for the shell."""
    import json

    if text.startswith("["):
        try:
            value = json.loads(text)
        except ValueError:
            value = None
        if isinstance(value, list) and all(isinstance(v, str) for v in value):
            return tuple(value)
    return ("/bin/sh", "-c", text)


def _list(text: str) -> tuple[str, ...]:
    import json

    if text.startswith("["):
        try:
            return tuple(map(str, json.loads(text)))
        except ValueError:
            raise Failure(f"Error: can't read {text!r}: it is no JSON array") from None
    return tuple(_words(text))


def _pairs(text: str) -> dict[str, str]:
    words = _words(text)
    if words and "=" not in words[0]:
        name, _, value = text.strip().partition(" ")
        return {name: value.strip()}
    return {n: v for n, _, v in (w.partition("=") for w in words)}


def parse_changes(changes: list[str]) -> Any:
    """Return the `ImageConfig` that `import --change` instructions make. Raises `Failure`."""
    from pycontainers.spec import HealthCheck
    from pycontainers.spec import ImageConfig
    from pycontainers.spec import parse_duration

    values: dict[str, Any] = {"environment": {}, "labels": {}, "exposed_ports": (), "volumes": ()}
    for change in changes:
        name, _, text = change.strip().partition(" ")
        text = text.strip()
        kind = name.upper()
        if kind in ("CMD", "ENTRYPOINT"):
            values["command" if kind == "CMD" else "entrypoint"] = _command(text)
        elif kind in ("ENV", "LABEL"):
            values["environment" if kind == "ENV" else "labels"].update(_pairs(text))
        elif kind == "EXPOSE":
            values["exposed_ports"] += tuple(p if "/" in p else f"{p}/tcp" for p in _words(text))
        elif kind == "VOLUME":
            values["volumes"] += _list(text)
        elif kind in ("USER", "WORKDIR", "STOPSIGNAL"):
            values[{"USER": "user", "WORKDIR": "workdir", "STOPSIGNAL": "stop_signal"}[kind]] = text
        elif kind == "HEALTHCHECK":
            given: dict[str, Any] = {}
            while text.startswith("--"):
                word, _, text = text[2:].partition(" ")
                option, _, value = word.partition("=")
                key = option.replace("-", "_")
                if key not in ("interval", "timeout", "start_period", "start_interval", "retries"):
                    raise Failure(f"Error: Unknown flag: {option}")
                given[key] = int(value) if key == "retries" else parse_duration(value, option)
                text = text.strip()
            if text.upper() == "NONE":
                values["healthcheck"] = HealthCheck(test=("NONE",))
            else:
                word, _, line = text.partition(" ")
                command = _command(line.strip())
                shell = command[:2] == ("/bin/sh", "-c")
                test = ("CMD-SHELL", command[2]) if shell else ("CMD", *command)
                values["healthcheck"] = HealthCheck(test=test, **given)
        else:
            raise Failure(f"Error: {name.lower()} is not a valid change command")
    return ImageConfig(**values)


def _import(options: Options) -> None:
    from pycontainers import Image

    source, *reference = options.args
    if source != "-" and "://" not in source and not os.path.exists(source):
        raise Failure(f"open {source}: no such file or directory")
    message = options.message or f"Imported from {source}"
    image = Image.import_rootfs(sys.stdin.buffer if source == "-" else source, reference[0] if reference else None,
                                message=message, config=parse_changes(options.change))
    print(image.id)


IMPORT = Command(
    _import, "file|URL|- [REPOSITORY[:TAG]]",
    (
        Flag("change", "c", "list", "Apply Dockerfile instruction to the created image"),
        Flag("message", "m", "string", "Set commit message for imported image"),
    ),
    least=1, most=2,
)


# -- tag, rmi ----------------------------------------------------------------------------------------------------------


def _tag(options: Options) -> None:
    from pycontainers import Image

    source, target = options.args
    Image.get(source).tag(target)


def _rmi(options: Options) -> None:
    from pycontainers.backend import ImageRecord
    from pycontainers.dockerapi import familiar
    from pycontainers.engine import default_engine

    backend = default_engine().backend

    def one(ref: str) -> str | None:
        removed = backend.remove(ImageRecord, ref, force=options.force)
        lines = [*(f"Untagged: {familiar(t)}" for t in removed.untagged), *(f"Deleted: {d}" for d in removed.deleted)]
        return "\n".join(lines) or None

    each(options.args, one)


TAG = Command(_tag, "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]", least=2, most=2)
RMI = Command(
    _rmi, "IMAGE [IMAGE...]",
    (Flag("force", "f", "bool", "Force removal of the image"), Flag("no-prune", "", "bool", "Do not delete untagged parents")),
    least=1, most=None,
)


# -- history -----------------------------------------------------------------------------------------------------------


def _history_columns(human: bool, trunc: bool) -> Any:
    from pycontainers.dockerapi import timestamp

    def created_by(row: Any) -> str:
        text = row[1].created_by.replace("\t", " ")
        return ellipsis(text, 45) if trunc else text

    return {
        "Comment": ("COMMENT", lambda row: row[1].comment),
        "CreatedAt": ("CREATED AT", lambda row: timestamp(int(row[1].created))),
        "CreatedBy": ("CREATED BY", created_by),
        "CreatedSince": ("CREATED" if human else "CREATED AT",
                         lambda row: ago(row[1].created) if human else timestamp(int(row[1].created))),
        "ID": ("IMAGE", lambda row: row[0] if row[0] == "<missing>" or not trunc else short_id(row[0])),
        "Size": ("SIZE", lambda row: human_size(row[1].size) if human else str(row[1].size)),
    }


def _history(options: Options) -> None:
    from pycontainers import Image

    image = Image.get(options.args[0])
    rows = [(image.id if i == 0 else "<missing>", layer) for i, layer in enumerate(image.history())]
    columns = _history_columns(options.human, not options.no_trunc)
    if options.quiet:
        sys.stdout.write("".join(f"{columns['ID'][1](row)}\n" for row in rows))
        return
    sys.stdout.write(list_lines(rows, columns, ("ID", "CreatedSince", "CreatedBy", "Size", "Comment"),
                                format=options.format, kind="historyContext"))


HISTORY = Command(
    _history, "IMAGE",
    (
        Flag("format", "", "string", FORMAT_HELP),
        Flag("human", "H", "bool", "Print sizes and dates in human readable format", True),
        Flag("no-trunc", "", "bool", "Don't truncate output"),
        Flag("quiet", "q", "bool", "Only show image IDs"),
    ),
    least=1, most=1,
)
