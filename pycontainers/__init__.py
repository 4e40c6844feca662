"""The container engine you import: an image is a class, a container is its instance.

General layout, lowest first: `errors` and `spec` are values; `oci` and `dockerapi` read and write the formats of
others; `backend` is the contract of what runs containers; `plugins` and `engine` open a backend; `waiting`, `process`,
`filesystem` and `output` are what an open container offers; `image` and `container` are the API; `cli` is a thin user
of it. A name is imported when it is first used, so that `import pycontainers` costs next to nothing.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pycontainers.backend import Capability as Capability
    from pycontainers.backend import Change as Change
    from pycontainers.backend import Check as Check
    from pycontainers.backend import ContainerState as ContainerState
    from pycontainers.backend import Event as Event
    from pycontainers.backend import Health as Health
    from pycontainers.backend import LogFrame as LogFrame
    from pycontainers.backend import Removed as Removed
    from pycontainers.backend import Stats as Stats
    from pycontainers.container import Container as Container
    from pycontainers.container import Image as Image
    from pycontainers.container import run as run
    from pycontainers.engine import BackendStatus as BackendStatus
    from pycontainers.engine import Engine as Engine
    from pycontainers.engine import list_backends as list_backends
    from pycontainers.errors import AmbiguousName as AmbiguousName
    from pycontainers.errors import BackendUnavailable as BackendUnavailable
    from pycontainers.errors import CommandNotExecutable as CommandNotExecutable
    from pycontainers.errors import CommandNotFound as CommandNotFound
    from pycontainers.errors import ContainerNotFound as ContainerNotFound
    from pycontainers.errors import ContainersError as ContainersError
    from pycontainers.errors import CorruptArchive as CorruptArchive
    from pycontainers.errors import ImageNotFound as ImageNotFound
    from pycontainers.errors import InUse as InUse
    from pycontainers.errors import InvalidReference as InvalidReference
    from pycontainers.errors import InvalidSpec as InvalidSpec
    from pycontainers.errors import InvalidState as InvalidState
    from pycontainers.errors import InvalidType as InvalidType
    from pycontainers.errors import LimitExceeded as LimitExceeded
    from pycontainers.errors import NameInUse as NameInUse
    from pycontainers.errors import NetworkNotFound as NetworkNotFound
    from pycontainers.errors import NotFound as NotFound
    from pycontainers.errors import ProcessFailed as ProcessFailed
    from pycontainers.errors import StartFailed as StartFailed
    from pycontainers.errors import StoreError as StoreError
    from pycontainers.errors import StoreFull as StoreFull
    from pycontainers.errors import StoreVersion as StoreVersion
    from pycontainers.errors import TimedOut as TimedOut
    from pycontainers.errors import Unsupported as Unsupported
    from pycontainers.errors import VolumeNotFound as VolumeNotFound
    from pycontainers.errors import WaitFailed as WaitFailed
    from pycontainers.filesystem import ContainerPath as ContainerPath
    from pycontainers.layer import Layer as Layer
    from pycontainers.options import ContainerOptions as ContainerOptions
    from pycontainers.plugins import hookimpl as hookimpl
    from pycontainers.process import DEVNULL as DEVNULL
    from pycontainers.process import PIPE as PIPE
    from pycontainers.process import STDOUT as STDOUT
    from pycontainers.process import Attached as Attached
    from pycontainers.process import CompletedProcess as CompletedProcess
    from pycontainers.process import Popen as Popen
    from pycontainers.spec import ContainerSpec as ContainerSpec
    from pycontainers.spec import HealthCheck as HealthCheck
    from pycontainers.spec import ImageConfig as ImageConfig
    from pycontainers.spec import Mount as Mount
    from pycontainers.spec import RestartPolicy as RestartPolicy
    from pycontainers.waiting import Condition as Condition
    from pycontainers.waiting import exited as exited
    from pycontainers.waiting import healthy as healthy
    from pycontainers.waiting import http as http
    from pycontainers.waiting import log as log
    from pycontainers.waiting import port as port

#: Where each public name lives.
_WHERE = {
    name: module
    for module, names in {
        "backend": "Capability Change Check ContainerState Event Health LogFrame Removed Stats",
        "container": "Container Image run",
        "engine": "BackendStatus Engine list_backends",
        "errors": "AmbiguousName BackendUnavailable CommandNotExecutable CommandNotFound ContainerNotFound ContainersError "
        "CorruptArchive ImageNotFound InUse InvalidReference InvalidSpec InvalidState InvalidType LimitExceeded "
        "NameInUse NetworkNotFound NotFound ProcessFailed StartFailed StoreError StoreFull StoreVersion TimedOut "
        "Unsupported VolumeNotFound WaitFailed",
        "filesystem": "ContainerPath",
        "layer": "Layer",
        "options": "ContainerOptions",
        "plugins": "hookimpl",
        "process": "Attached CompletedProcess DEVNULL PIPE Popen STDOUT",
        "spec": "ContainerSpec HealthCheck ImageConfig Mount RestartPolicy",
        "waiting": "Condition exited healthy http log port",
    }.items()
    for name in names.split()
}

__all__ = [
    "DEVNULL", "PIPE", "STDOUT", "AmbiguousName", "Attached", "BackendStatus", "BackendUnavailable", "Capability",
    "Change", "Check", "CommandNotExecutable", "CommandNotFound", "CompletedProcess", "Condition", "Container",
    "ContainerNotFound", "ContainerOptions", "ContainerPath", "ContainerSpec", "ContainerState", "ContainersError",
    "CorruptArchive", "Engine", "Event", "Health", "HealthCheck", "Image", "ImageConfig", "ImageNotFound", "InUse",
    "InvalidReference", "InvalidSpec", "InvalidState", "InvalidType", "Layer", "LimitExceeded", "LogFrame", "Mount",
    "NameInUse", "NetworkNotFound", "NotFound", "Popen", "ProcessFailed", "Removed", "RestartPolicy", "StartFailed",
    "Stats", "StoreError", "StoreFull", "StoreVersion", "TimedOut", "Unsupported", "VolumeNotFound", "WaitFailed",
    "exited", "healthy", "hookimpl", "http", "list_backends", "log", "port", "run",
]


def __getattr__(name: str) -> object:
    """Import a public name's module when the name is first used."""
    module = _WHERE.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(__import__(f"{__name__}.{module}", fromlist=(name,)), name)  # importlib alone would cost 1 ms.
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, imported or not."""
    return [*__all__, *(name for name in globals() if name.startswith("__"))]
