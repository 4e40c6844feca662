"""Fixtures of the security tests: one engine and one image for a module's containers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from securitykit import Canary
from securitykit import build_probe
from securitykit import hostile_rootfs

from pycontainers import Container
from pycontainers import Engine
from pycontainers import Image


@pytest.fixture(scope="session")
def probe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The attacker's program."""
    return build_probe(tmp_path_factory.mktemp("probe"))


@pytest.fixture(scope="module")
def store_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the module's store lies."""
    return tmp_path_factory.mktemp("store") / "store"


@pytest.fixture(scope="module")
def engine(store_root: Path) -> Iterator[Engine]:
    """A store of the module's own."""
    engine = Engine("native", root=store_root)
    yield engine
    for container in Container.list(all=True, engine=engine):
        container.remove(force=True)
    engine.close()


@pytest.fixture(scope="module")
def rootfs(tmp_path_factory: pytest.TempPathFactory, probe: Path) -> Path:
    """The image's files."""
    return hostile_rootfs(tmp_path_factory.mktemp("rootfs") / "root", probe)


@pytest.fixture(scope="module")
def box(engine: Engine, rootfs: Path) -> type[Container]:
    """An image to attack from."""
    return Image.import_rootfs(rootfs, "box", engine=engine)


@pytest.fixture
def canary(tmp_path: Path) -> Canary:
    """Something of the host's, checked by the test in the end."""
    return Canary(tmp_path / "canary")
