"""The specifications of the hooks that a plugin may implement."""

from __future__ import annotations

import pluggy

from pycontainers.backend import BackendInfo
from pycontainers.backend import Event

hookspec = pluggy.HookspecMarker("pycontainers")


@hookspec
def pycontainers_backend() -> BackendInfo:  # type: ignore[empty-body]
    """Return the backend that the plugin brings; it is found under its entry point's name."""


@hookspec
def pycontainers_event(event: Event) -> None:
    """Called for every event of an engine that this process opened, in a thread of the engine's own."""
