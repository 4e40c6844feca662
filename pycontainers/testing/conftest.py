"""What the kit's tests stand on: an engine in a store of its own, and an image of busybox."""

from __future__ import annotations

import inspect
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from pycontainers import Container
from pycontainers import Engine
from pycontainers import Image
from pycontainers import plugins
from pycontainers.backend import Capability
from pycontainers.errors import NotFound

#: The applets that the kit's tests run.
_APPLETS = (
    "[ ash cat chmod cp date echo env false grep head hostname id kill ln ls mkdir mv nc printf pwd readlink rm rmdir seq sh "
    "sleep test touch true wc whoami yes"
).split()
_PASSWD = "root:x:0:0:root:/root:/bin/sh\nalice:x:1000:1000:Alice:/home/alice:/bin/sh\n"
_GROUP = "root:x:0:\nalice:x:1000:\nstaff:x:50:alice\n"
_UNSUPPORTED = "unsupported: "


def pytest_configure(config: pytest.Config) -> None:
    """Declare the kit's marker."""
    config.addinivalue_line("markers", "needs(*capabilities): what the backend must claim for the test to make sense")


def pytest_report_teststatus(report: pytest.TestReport) -> tuple[str, str, str] | None:
    """Count what is unsupported apart from what is skipped."""
    if report.skipped and isinstance(report.longrepr, tuple) and _UNSUPPORTED in report.longrepr[2]:
        return "unsupported", "u", "UNSUPPORTED"
    return None


def busybox(engine: Engine) -> bytes:
    """Return the program of the kit's image: busybox, or what the memory backend has for it."""
    if engine.name == "memory":
        return b"#!memory\n"
    for place in ("/bin/busybox", "/usr/bin/busybox", shutil.which("busybox") or ""):
        if os.path.exists(place):
            return Path(place).read_bytes()
    raise pytest.UsageError("the kit's image needs a static busybox: install the package busybox-static")


@pytest.fixture(scope="session")
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """An engine of the backend under test, in a store of its own if the backend has a `root`."""
    name = request.config.getoption("--pycontainers-backend") or "memory"
    options = {}
    if "root" in inspect.signature(plugins.find_backend(name).open).parameters:
        options["root"] = tmp_path_factory.mktemp("store")
    engine = Engine(name, **options)
    yield engine
    engine.close()


@pytest.fixture(autouse=True)
def _claimed(request: pytest.FixtureRequest, store: Engine) -> None:
    """Report a test as unsupported if the backend doesn't claim what it needs."""
    wanted = [capability for marker in request.node.iter_markers("needs") for capability in marker.args]
    missing = [capability.name for capability in wanted if not store.supports(capability)]
    if missing:
        pytest.skip(f"{_UNSUPPORTED}the {store.name} backend lacks {', '.join(missing)}")


@pytest.fixture(scope="session")
def rootfs(store: Engine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory that holds a small root file system: busybox, its applets, users and a few files."""
    root = tmp_path_factory.mktemp("rootfs")
    root.chmod(0o755)
    for folder in ("bin", "etc", "home/alice", "root", "srv/data/deep"):
        (root / folder).mkdir(parents=True)
    (root / "tmp").mkdir()
    (root / "tmp").chmod(0o1777)
    program = root / "bin/busybox"
    program.write_bytes(busybox(store))
    program.chmod(0o755)
    for applet in _APPLETS:
        (root / "bin" / applet).symlink_to("busybox")
    (root / "etc/passwd").write_text(_PASSWD)
    (root / "etc/group").write_text(_GROUP)
    (root / "etc/motd").write_text("welcome\n")
    (root / "srv/data/one.txt").write_text("one\n")
    (root / "srv/data/deep/two.txt").write_text("two\n")
    (root / "srv/link").symlink_to("data/one.txt")
    (root / "srv/not-a-program").write_text("just text\n")
    script = root / "srv/script"
    script.write_text("#!/bin/sh\necho script $1\n")
    script.chmod(0o755)
    return root


@pytest.fixture(scope="session")
def _image(store: Engine, rootfs: Path) -> type[Container]:
    return Image.import_rootfs(rootfs, "kit/busybox:1", engine=store)


@pytest.fixture
def engine(store: Engine, _image: type[Container]) -> Iterator[Engine]:
    """The engine, as the default one; what a test made and left is removed after it."""
    with store:
        yield store
        for container in Container.list(all=True):
            try:
                container.remove(force=True, volumes=True)
            except NotFound:
                continue
        for image in Image.list():
            if image.id == _image.id:
                extra = [tag for tag in image.tags if tag != "kit/busybox:1"]
                image.untag(*extra)
                image.tag("kit/busybox:1")
            else:
                image.remove(force=True)


@pytest.fixture
def box(engine: Engine, _image: type[Container]) -> type[Container]:
    """An image of busybox without a command."""
    return _image


@pytest.fixture
def running(box: type[Container]) -> Iterator[Container]:
    """A container that sleeps, and ends at once when it is told to."""
    container = box("sleep", "300", init=True, stop_timeout=5)
    container.start()
    yield container


@pytest.fixture
def supports(store: Engine) -> set[Capability]:
    """What the backend claims."""
    return set(store.backend.capabilities)
