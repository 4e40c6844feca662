"""run and create."""

from __future__ import annotations

import os
import sys
from typing import Any

from pycontainers.cli.flags import PROGRAM
from pycontainers.cli.flags import Command
from pycontainers.cli.flags import Failure
from pycontainers.cli.flags import Flag
from pycontainers.cli.flags import Options
from pycontainers.cli.options import ALL_FLAGS
from pycontainers.cli.options import container_spec
from pycontainers.container import Container
from pycontainers.errors import ContainersError
from pycontainers.errors import ImageNotFound


def _image(backend: Any, reference: str, code: int) -> Any:
    """Return the image's record; say that it isn't here, as Docker does before it pulls."""
    from pycontainers.backend import ImageRecord
    from pycontainers.filters import normalise_or
    from pycontainers.oci.names import familiar

    try:
        return backend.get(ImageRecord, reference)
    except ImageNotFound as error:
        name = familiar(normalise_or(reference))
        print(f"Unable to find image '{name}' locally", file=sys.stderr)
        raise Failure(f"{PROGRAM}: No such image: {name}. Images can't be pulled yet: make one of a root file system with "
                      f"'{PROGRAM} import FILE {reference}', or use this machine's own: 'host'", code) from error


def _made(options: Options, *, detach: bool, code: int = 125) -> tuple[Any, Container]:
    """Create the container, write its `--cidfile`, and return its spec and itself."""
    from pycontainers.engine import default_engine

    path = options.cidfile
    if path and os.path.exists(path):
        raise Failure(f"{PROGRAM}: container ID file found, make sure the other container isn't running or delete {path}",
                      code)
    engine = default_engine()
    spec = container_spec(options, _image(engine.backend, options.args[0], code).config, detach=detach)
    engine.require_for(spec)
    id = engine.backend.create(spec)
    if path:
        with open(path, "w", encoding="ascii") as file:
            file.write(id)
    return spec, Container.get(id, engine=engine)


def _create(options: Options) -> None:
    print(_made(options, detach=False, code=1)[1].id)


def _run(options: Options) -> int | None:
    from pycontainers.cli.attach import Session
    from pycontainers.cli.attach import need_terminal

    if options.detach and options.attach:
        raise Failure("conflicting options: cannot specify both --attach and --detach", 125)
    streams = [name.lower() for name in options.attach]
    wanted = tuple(name in streams for name in ("stdin", "stdout", "stderr")) if streams else (False, True, True)
    stdin = options.interactive and not options.detach and (wanted[0] or not streams)
    need_terminal(options.tty, stdin)
    spec, container = _made(options, detach=options.detach)
    try:
        if options.detach:
            container.start()
            print(container.id)
            return None
        session = Session(container, tty=spec.tty, wanted=(stdin, wanted[1], wanted[2]), keys=options.detach_keys,
                          sig_proxy=options.sig_proxy, removed=spec.auto_remove)
        return session.start()
    except ContainersError:
        if spec.auto_remove:
            _discard(container)
        raise


def _discard(container: Container) -> None:
    """Remove what could not be started, not what runs."""
    try:
        container.remove(volumes=True)
    except ContainersError:
        pass


_USAGE = "IMAGE [COMMAND] [ARG...]"
CREATE = Command(_create, _USAGE, ALL_FLAGS, least=1, most=None, interspersed=False)
RUN = Command(
    _run, _USAGE,
    (
        *ALL_FLAGS,
        Flag("detach", "d", "bool", "Run container in background and print container ID"),
        Flag("detach-keys", "", "string", "Override the key sequence for detaching a container"),
        Flag("sig-proxy", "", "bool", "Proxy received signals to the process", True),
    ),
    least=1, most=None, interspersed=False, daemon_prefix=True,
)
