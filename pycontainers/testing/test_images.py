"""Images: importing, finding, naming, removing."""

from __future__ import annotations

import gzip
import io
import lzma
import tarfile
from pathlib import Path
from typing import Any
from typing import BinaryIO
from typing import cast

import pytest

from pycontainers import Container
from pycontainers import Engine
from pycontainers import HealthCheck
from pycontainers import Image
from pycontainers import ImageConfig
from pycontainers.backend import Capability
from pycontainers.errors import CorruptArchive
from pycontainers.errors import ImageNotFound
from pycontainers.errors import InUse
from pycontainers.errors import InvalidReference
from pycontainers.errors import InvalidSpec
from pycontainers.errors import NotFound

pytestmark = pytest.mark.needs(Capability.IMPORT)


def tar_of(rootfs: Path) -> bytes:
    """Return a tar of a root file system."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        tar.add(rootfs, ".")
    return file.getvalue()


def test_directory_is_imported(engine: Engine, rootfs: Path) -> None:
    """A directory becomes an image of one layer, whose containers see its files."""
    made = Image.import_rootfs(rootfs, "imported:1", message="by hand")

    assert made.tags == ("imported:1",)
    assert made.size > 0
    assert len(made.layers) == 1
    assert made.layers[0].diff_id.startswith("sha256:")
    assert made.history()[0].comment == "by hand"
    assert made.run("cat", "/etc/motd").stdout == "welcome\n"


@pytest.mark.parametrize("kind", ["plain", "gzip", "xz"])
def test_tar_is_imported(engine: Engine, rootfs: Path, tmp_path: Path, kind: str) -> None:
    """A tar becomes an image, compressed or not, by its path."""
    data = tar_of(rootfs)
    path = tmp_path / "root.tar"
    path.write_bytes(gzip.compress(data) if kind == "gzip" else lzma.compress(data) if kind == "xz" else data)

    made = Image.import_rootfs(path)

    assert made.tags == ()
    assert made.run("cat", "/srv/data/deep/two.txt").stdout == "two\n"


def test_open_file_is_imported(engine: Engine, rootfs: Path) -> None:
    """A tar becomes an image from an open file that can't be sought, such as a pipe."""

    class Pipe(io.RawIOBase):
        def __init__(self, data: bytes) -> None:
            self.data = io.BytesIO(data)

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: Any) -> int:
            return self.data.readinto(buffer)

    made = Image.import_rootfs(cast(BinaryIO, Pipe(tar_of(rootfs))))

    assert made.run("cat", "/etc/motd").stdout == "welcome\n"


@pytest.mark.parametrize("part", [0.3, 0.6, 0.95])
def test_truncated_tar_is_refused(engine: Engine, rootfs: Path, part: float) -> None:
    """A tar that ends too early is refused, and nothing of it stays."""
    data = gzip.compress(tar_of(rootfs))
    before = {image.id for image in Image.list()}

    with pytest.raises(CorruptArchive):
        Image.import_rootfs(io.BytesIO(data[: int(len(data) * part)]), "broken:1")

    assert {image.id for image in Image.list()} == before
    with pytest.raises(ImageNotFound):
        Image.get("broken:1")


def test_garbage_is_refused(engine: Engine) -> None:
    """What is no tar is refused."""
    with pytest.raises(CorruptArchive):
        Image.import_rootfs(io.BytesIO(b"this is no tar" * 1000))


def test_missing_source_is_refused(engine: Engine, tmp_path: Path) -> None:
    """A path where nothing is can't be imported."""
    with pytest.raises(NotFound, match="nothing-here"):
        Image.import_rootfs(tmp_path / "nothing-here")


def test_layers_are_shared(engine: Engine, rootfs: Path) -> None:
    """The same root file system under two configs has one layer, and each image says so of the other."""
    one = Image.import_rootfs(rootfs, config=ImageConfig(command=("true",)))
    two = Image.import_rootfs(rootfs, config=ImageConfig(command=("false",)))

    assert one.id != two.id
    assert one.layers[0].diff_id == two.layers[0].diff_id
    assert two.id in one.layers[0].shared_with


@pytest.mark.needs(Capability.USERS)
def test_config_is_kept_and_used(engine: Engine, rootfs: Path) -> None:
    """What an image says of its containers is what they get, unless they say otherwise."""
    config = ImageConfig(command=("two",), entrypoint=("echo", "one"), environment={"A": "1", "B": "2"}, workdir="/srv",
                         user="alice", labels={"k": "v"}, exposed_ports=("80/tcp",), stop_signal="SIGQUIT",
                         healthcheck=HealthCheck(test=("CMD", "true"), interval=60.0))
    made = Image.import_rootfs(rootfs, "configured", config=config)

    assert made.config == Image.get("configured").config
    assert made.config.healthcheck == config.healthcheck
    assert (made.config.workdir, made.config.user, made.config.exposed_ports) == ("/srv", "alice", ("80/tcp",))
    assert made.run().stdout == "one two\n"
    assert made.run("three").stdout == "one three\n"
    assert made.run("-c", "echo $A $B; pwd; id -u", entrypoint="sh", environment={"B": "3"}).stdout == "1 3\n/srv\n1000\n"
    assert made().labels == {"k": "v"}


def test_image_is_found_by_every_name(box: type[Container]) -> None:
    """Reference, id, short id and unambiguous prefix all lead to the one class."""
    for ref in ("kit/busybox:1", "docker.io/kit/busybox:1", box.id, box.short_id, box.id.removeprefix("sha256:")[:20]):
        assert Image.get(ref) is box


def test_missing_image(engine: Engine) -> None:
    """A reference that nothing bears raises `ImageNotFound`, a LookupError, naming it."""
    with pytest.raises(ImageNotFound, match="no-such-image"):
        Image.get("no-such-image:7")
    with pytest.raises(LookupError):
        Image.get("no-such-image:7")


@pytest.mark.parametrize("bad", ["UPPER", "a b", "x:", ":tag", "a//b", ""])
def test_bad_reference(box: type[Container], bad: str) -> None:
    """What is no reference can't be a tag."""
    with pytest.raises(InvalidReference):
        box.tag(bad)


def test_tags_move(box: type[Container], rootfs: Path) -> None:
    """A tag belongs to one image at a time; without a version it is `latest`."""
    other = Image.import_rootfs(rootfs, "moving", config=ImageConfig(command=("true",)))
    assert Image.get("moving:latest") is other

    box.tag("moving", "second:2")

    assert Image.get("moving") is box
    assert other.tags == ()
    assert set(box.tags) == {"kit/busybox:1", "moving:latest", "second:2"}
    box.untag("moving")
    box.untag("moving")
    with pytest.raises(ImageNotFound):
        Image.get("moving")


def test_list_and_its_filters(box: type[Container], rootfs: Path) -> None:
    """`list` gives every image, newest first, as Docker's filters leave them."""
    labelled = Image.import_rootfs(rootfs, "other/tool:3", config=ImageConfig(labels={"kind": "tool"}))
    nameless = Image.import_rootfs(rootfs, config=ImageConfig(labels={"kind": "none"}))

    assert {image.id for image in Image.list()} == {box.id, labelled.id, nameless.id}
    assert Image.list(filters={"reference": "other/*"}) == [labelled]
    assert Image.list(filters={"label": "kind=tool"}) == [labelled]
    assert Image.list(filters={"dangling": True}) == [nameless]
    assert Image.list(filters={"before": "other/tool:3"}) == [box]
    assert Image.list(filters={"since": box.id}) == [nameless, labelled]
    with pytest.raises(InvalidSpec, match="colour"):
        Image.list(filters={"colour": "red"})


def test_used_image_stays(box: type[Container], rootfs: Path) -> None:
    """An image that a container uses isn't removed; once none does, it is."""
    made = Image.import_rootfs(rootfs, "used:1", config=ImageConfig(command=("true",)))
    container = made()

    with pytest.raises(InUse):
        made.remove()
    container.remove()
    removed = made.remove()

    assert made.id in removed.deleted
    with pytest.raises(ImageNotFound):
        Image.get("used:1")


def test_prune(box: type[Container], rootfs: Path) -> None:
    """`prune` removes what has no tag and no container, and nothing else."""
    nameless = Image.import_rootfs(rootfs, config=ImageConfig(command=("true",)))
    used = Image.import_rootfs(rootfs, config=ImageConfig(command=("false",)))
    used()
    nameless_id = nameless.id

    removed = Image.prune()

    assert nameless_id in removed.deleted
    assert {image.id for image in Image.list()} == {box.id, used.id}


def test_containers_of_an_image(box: type[Container]) -> None:
    """An image knows its containers."""
    first, second = box("true"), box("true")

    assert box.containers() == []
    assert set(box.containers(all=True)) == {first, second}


def test_inspect_is_dockers(box: type[Container]) -> None:
    """`inspect` gives Docker's JSON."""
    found = box.inspect()

    assert found["Id"] == box.id
    assert found["RepoTags"] == ["kit/busybox:1"]


@pytest.mark.needs(Capability.HOST_IMAGE)
def test_host_image(engine: Engine) -> None:
    """The machine's own root is an image: it can be run, and what is written stays above it."""
    host = Image.host()

    assert host.run("/bin/sh", "-c", "echo x > /etc/pycontainers-was-here; cat /etc/pycontainers-was-here").stdout == "x\n"
    assert not Path("/etc/pycontainers-was-here").exists()
    assert Image.host() is host
