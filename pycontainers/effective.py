"""What a container is in effect: what its spec says, over what its image says."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pycontainers.spec import ContainerSpec
    from pycontainers.spec import ImageConfig


def command_line(spec: ContainerSpec, image: ImageConfig) -> tuple[str, ...]:
    """Return program and arguments: the entrypoint and the command, where the spec's replace the image's."""
    entrypoint = spec.entrypoint if spec.entrypoint is not None else image.entrypoint or ()
    command = spec.command
    if command is None:
        command = image.command if spec.entrypoint is None else ()
    return tuple(entrypoint) + tuple(command or ())


def environment(spec: ContainerSpec, image: ImageConfig) -> dict[str, str]:
    """Return the image's variables, overlaid by the spec's."""
    return {**dict(image.environment), **dict(spec.environment)}


def labels(spec: ContainerSpec, image: ImageConfig) -> dict[str, str]:
    """Return the image's labels, overlaid by the spec's."""
    return {**dict(image.labels), **dict(spec.labels)}


def exposed_ports(spec: ContainerSpec, image: ImageConfig) -> list[str]:
    """Return `80/tcp` texts: those the image exposes, and the spec's."""
    named = [*image.exposed_ports, *(f"{p.container_port}/{p.protocol}" for p in spec.ports)]
    full = dict.fromkeys(p if "/" in p else f"{p}/tcp" for p in named)
    return sorted(full, key=lambda p: (int(p.split("/")[0].split("-")[0]), p))


def network_name(spec: ContainerSpec) -> str:
    """Return the network's name as Docker shows it; the default network is `none` until there are others."""
    return "none" if spec.network in ("", "default") else spec.network
