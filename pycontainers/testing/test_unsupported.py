"""What a backend doesn't claim, it refuses: never less, silently."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pycontainers import Container
from pycontainers import Engine
from pycontainers import HealthCheck
from pycontainers import Image
from pycontainers.backend import Capability
from pycontainers.errors import Unsupported

USES: dict[Capability, Callable[[type[Container], Container, Path], object]] = {
    Capability.IMPORT: lambda box, running, path: Image.import_rootfs(path),
    Capability.HOST_IMAGE: lambda box, running, path: Image.host(),
    Capability.EXEC: lambda box, running, path: running.exec("true"),
    Capability.TTY: lambda box, running, path: box("true", tty=True),
    Capability.PAUSE: lambda box, running, path: running.pause(),
    Capability.LIMITS: lambda box, running, path: box("true", memory="64m"),
    Capability.USERS: lambda box, running, path: box("true", user="1000"),
    Capability.STATS: lambda box, running, path: running.stats(),
    Capability.TOP: lambda box, running, path: running.top(),
    Capability.DIFF: lambda box, running, path: running.diff(),
    Capability.ARCHIVE: lambda box, running, path: running.copy_from("/etc/motd"),
    Capability.FILES: lambda box, running, path: running.path("/etc").exists(),
    Capability.HEALTH: lambda box, running, path: box("true", healthcheck=HealthCheck(test=("CMD", "true"))),
    Capability.RESTART: lambda box, running, path: box("true", restart="always"),
    Capability.BIND: lambda box, running, path: box("true", volumes={path: "/mnt"}),
    Capability.HOST_NETWORK: lambda box, running, path: box("true", network="host"),
    Capability.CONNECT: lambda box, running, path: running.connect(80),
    Capability.PRIVILEGED: lambda box, running, path: box("true", privileged=True),
    Capability.LIFETIME: lambda box, running, path: box("true", lifetime="process"),
}


@pytest.mark.parametrize("capability", list(Capability), ids=lambda c: c.name)
def test_capability(
    box: type[Container], running: Container, tmp_path: Path, engine: Engine, capability: Capability
) -> None:
    """A capability that isn't claimed raises `Unsupported`, naming backend and capability, and nothing is made."""
    before = Container.list(all=True)
    if engine.supports(capability):
        engine.require(capability)
        return

    with pytest.raises(Unsupported, match=f"{engine.name}.*{capability.name}"):
        USES[capability](box, running, tmp_path)

    assert Container.list(all=True) == before
