# pyright: strict
"""A user's program as strict type checkers see it; it is checked, not run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pycontainers import Container
from pycontainers import ContainerNotFound
from pycontainers import ContainersError
from pycontainers import Engine
from pycontainers import HealthCheck
from pycontainers import Image
from pycontainers import exited
from pycontainers import healthy
from pycontainers import log
from pycontainers import port
from pycontainers import run

if TYPE_CHECKING:
    from typing_extensions import assert_type


class Web(Container, image="debian:12"):
    """A class of the user's own: its methods are the instances' methods."""

    def url(self) -> str:
        """Return where it listens."""
        return f"http://localhost/{self.name}"


def images() -> None:
    """An image is a class: what is of the image is on the class."""
    Debian = Image.get("debian:12")
    assert_type(Debian, type[Container])
    assert_type(Debian.id, str)
    assert_type(Debian.tags, tuple[str, ...])
    assert_type(Debian.size, int)
    assert_type(Image.host(), type[Container])
    assert_type(Image.import_rootfs("/srv/root", "debian:12"), type[Container])
    for image in Image.list():
        assert_type(image, type[Container])
    Debian.tag("debian:stable")
    Debian.remove(force=True)


def containers() -> None:
    """A container is an instance: what is of the container is on the instance."""
    web = Web("nginx", "-g", "daemon off;", name="web", environment={"A": "1"}, memory="512m", cpus=1.5)
    assert_type(web, Web)
    assert_type(web.id, str)
    assert_type(web.status, str)
    assert_type(web.exit_code, "int | None")
    assert_type(web.url(), str)
    assert_type(web.exec("true").returncode, int)
    assert_type(web.exec("true").stdout, str)
    assert_type(web.exec("true", text=False).stdout, bytes)
    assert_type(web.wait(timeout=1.0), int)
    with web as running:
        assert_type(running, Web)
        assert_type(running.wait_for(log("ready"), timeout=10), Web)
        running.wait_for(port(80)).wait_for(healthy()).wait_for(exited()).wait_for(lambda c: c.status == "exited")
    assert_type(Web.get("web"), Web)
    assert_type(Web.list(all=True), list[Web])
    web.remove(force=True)


def running() -> None:
    """`run` answers as `subprocess.run` does."""
    assert_type(run("debian:12", "echo", "Salut").stdout, str)
    assert_type(run("debian:12", "cat", input=b"x", text=False).stdout, bytes)
    run(Web, "true", check=True, timeout=1.0, healthcheck=HealthCheck(test=("CMD", "true")))


def fixture() -> Iterator[Web]:
    """What a test suite yields."""
    with Engine("native", root="/srv/store"), Web() as web:
        yield web


def errors() -> str:
    """One tree, whose errors also are the builtin that a user expects."""
    try:
        return Container.get("web").id
    except ContainerNotFound as error:
        assert_type(error, ContainerNotFound)
        lookup: LookupError = error
        return str(lookup)
    except ContainersError:
        raise
