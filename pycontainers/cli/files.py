"""cp and export."""

from __future__ import annotations

import os
import sys
from typing import Any

from pycontainers.cli.flags import Command
from pycontainers.cli.flags import Failure
from pycontainers.cli.flags import Flag
from pycontainers.cli.flags import Options


def split_place(text: str) -> tuple[str, str]:
    """Return container and path of `CONTAINER:PATH`; no container for a path of this machine."""
    container, colon, path = text.partition(":")
    if os.path.isabs(text) or not colon or container.startswith("."):
        return "", text
    return container, path


def _cp(options: Options) -> None:
    from pycontainers.container import Container

    (source_ref, source), (target_ref, target) = map(split_place, options.args)
    if source_ref and target_ref:
        raise Failure("copying between containers is not supported")
    if not source_ref and not target_ref:
        raise Failure("must specify at least one container source")
    if not (source if source_ref else target):
        raise Failure(f"'{options.args[0 if source_ref else 1]}' must name a path in the container")
    container = Container.get(source_ref or target_ref)
    if source_ref:
        said = _out(container, source, target, options)
    else:
        said = _in(container, source, target, options)
    if said and not options.quiet and sys.stderr.isatty():
        print(said, file=sys.stderr)


def _in(container: Any, source: str, target: str, options: Options) -> str:
    from pycontainers.filesystem import copy_to

    if source == "-":
        container.engine.backend.write_archive(container.id, target, sys.stdin.buffer)
        return ""
    if not os.path.lexists(source):
        raise Failure(f"lstat {source}: no such file or directory")
    if options.follow_link and os.path.islink(source.rstrip("/")):
        source = os.path.realpath(source)
    copy_to(container.engine, container.id, source, target, archive=options.archive)
    return f"Successfully copied {source} to {container.name}:{target}"


def _out(container: Any, source: str, target: str, options: Options) -> str:
    from pycontainers.errors import ContainerNotFound
    from pycontainers.errors import NotFound
    from pycontainers.filesystem import copy_from

    try:
        if options.follow_link:
            source = _followed(container, source)
        if target == "-":
            with container.engine.backend.read_archive(container.id, source)[1] as stream:
                _save(stream)
            return ""
        parent = os.path.dirname(target.rstrip("/")) or "."
        if not os.path.isdir(parent):
            raise Failure(f'invalid output path: directory "{parent}" does not exist')
        copy_from(container.engine, container.id, source, target, archive=options.archive)
    except ContainerNotFound:
        raise
    except NotFound as error:
        raise Failure(f"Error: Could not find the file {source} in container {container.name}") from error
    return f"Successfully copied {container.name}:{source} to {target}"


def _followed(container: Any, source: str) -> str:
    path = container.path(source)
    for _ in range(40):
        if not path.is_symlink():
            break
        path = path.parent / path.readlink()
    return str(path)


def _save(stream: Any) -> None:
    from pycontainers.process import save

    if sys.stdout.isatty():
        raise Failure("refusing to write a tar to a terminal; name a file, or use a pipe")
    sys.stdout.flush()
    save(stream, sys.stdout.buffer)
    sys.stdout.buffer.flush()


def _export(options: Options) -> None:
    from pycontainers.container import Container

    container = Container.get(options.args[0])
    if options.output:
        scratch = f"{options.output}.{os.getpid()}.part"
        try:
            container.export(scratch)
            os.replace(scratch, options.output)
        finally:
            if os.path.exists(scratch):
                os.unlink(scratch)
        return
    if sys.stdout.isatty():
        raise Failure("cowardly refusing to save to a terminal. Use the -o flag or redirect")
    sys.stdout.flush()
    container.export(sys.stdout.buffer)
    sys.stdout.buffer.flush()


CP = Command(
    _cp, "CONTAINER:SRC_PATH DEST_PATH|-",
    (
        Flag("archive", "a", "bool", "Archive mode (copy all uid/gid information)"),
        Flag("follow-link", "L", "bool", "Always follow symbol link in SRC_PATH"),
        Flag("quiet", "q", "bool", "Suppress progress output during copy. Progress output is automatically suppressed if no "
             "terminal is attached"),
    ),
    least=2, most=2, extra_usage=("SRC_PATH|- CONTAINER:DEST_PATH",),
)
EXPORT = Command(_export, "CONTAINER", (Flag("output", "o", "string", "Write to a file, instead of STDOUT"),), least=1, most=1)
