"""How much room containers and images take."""

from __future__ import annotations

import stat

from attrs import evolve
from attrs import frozen

from pycontainers.backend import Backend
from pycontainers.backend import ContainerRecord
from pycontainers.backend import FileOp
from pycontainers.backend import ImageRecord


def write_layer_size(backend: Backend, ref: str) -> int:
    """Return the bytes of the files that a container added or changed. Raises `NotFound`, `Unsupported`."""
    total = 0
    for change in backend.diff(ref):
        if change.kind == "D":
            continue
        try:
            found = backend.file(ref, FileOp(kind="lstat", path=change.path)).stat
        except OSError:
            continue
        if found is not None and stat.S_ISREG(found.mode):
            total += found.size
    return total


def measured(backend: Backend, record: ContainerRecord) -> ContainerRecord:
    """Return the record with the size of its write layer; unchanged if it went away meanwhile."""
    from pycontainers.errors import NotFound
    from pycontainers.errors import Unsupported

    if record.size_rw is not None:
        return record
    try:
        return evolve(record, size_rw=write_layer_size(backend, record.id))
    except (NotFound, Unsupported):
        return record


@frozen(kw_only=True)
class ImageUsage:
    """One image's room: what it shares with other images, what it has alone, and how many containers use it."""

    record: ImageRecord
    shared: int
    unique: int
    containers: int


@frozen(kw_only=True)
class Usage:
    """What `system df` tells: images, containers with their write layers' sizes, and bytes of all layers together."""

    images: tuple[ImageUsage, ...]
    containers: tuple[ContainerRecord, ...]
    layers: int

    @property
    def reclaimable_layers(self) -> int:
        """Bytes of layers that only unused images have."""
        used = {layer.diff_id for i in self.images if i.containers for layer in i.record.layers if not layer.empty}
        unused = {layer.diff_id: layer.size for i in self.images for layer in i.record.layers
                  if not layer.empty and layer.diff_id not in used}
        return sum(unused.values())


def usage(backend: Backend) -> Usage:
    """Return the room that everything takes; layers that images share count once."""
    containers = [measured(backend, record) for record in backend.list(ContainerRecord)]
    images = backend.list(ImageRecord)
    sizes: dict[str, int] = {}
    users: dict[str, int] = {}
    for image in images:
        for diff_id, size in {layer.diff_id: layer.size for layer in image.layers if not layer.empty}.items():
            sizes[diff_id] = size
            users[diff_id] = users.get(diff_id, 0) + 1
    result = []
    for image in images:
        own = {layer.diff_id: layer.size for layer in image.layers if not layer.empty}
        shared = sum(size for diff_id, size in own.items() if users[diff_id] > 1)
        count = sum(c.image_id == image.id for c in containers)
        result.append(ImageUsage(record=image, shared=shared, unique=sum(own.values()) - shared, containers=count))
    return Usage(images=tuple(result), containers=tuple(containers), layers=sum(sizes.values()))
