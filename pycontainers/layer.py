"""A layer, as an image shows it."""

from __future__ import annotations

from attrs import frozen

from pycontainers.backend import ImageRecord
from pycontainers.spec import Strings


@frozen(kw_only=True)
class Layer:
    """One layer of an image. `size` is of its unpacked content in bytes, `created` seconds since the epoch."""

    digest: str
    diff_id: str
    size: int
    created: float
    created_by: str
    comment: str = ""
    #: Ids of the other images that this layer is a part of: their bytes are stored once.
    shared_with: Strings = ()


def layers_of(record: ImageRecord, others: list[ImageRecord]) -> tuple[Layer, ...]:
    """Return the image's layers, lowest first; `others` are all images there are."""
    users: dict[str, list[str]] = {}
    for other in others:
        if other.id != record.id:
            for layer in other.layers:
                if not layer.empty:
                    users.setdefault(layer.diff_id, []).append(other.id)
    return tuple(
        Layer(digest=layer.digest, diff_id=layer.diff_id, size=layer.size, created=layer.created,
              created_by=layer.created_by, comment=layer.comment, shared_with=tuple(users.get(layer.diff_id, ())))
        for layer in record.layers if not layer.empty
    )
