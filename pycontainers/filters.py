"""Docker's filters (`docker ps --filter status=exited`) over the records of any backend."""

from __future__ import annotations

import fnmatch
import re
import time
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from typing import TypeVar
from typing import Union

from pycontainers.backend import Backend
from pycontainers.backend import ContainerRecord
from pycontainers.backend import Event
from pycontainers.backend import ImageRecord
from pycontainers.backend import Removed
from pycontainers.backend import Status
from pycontainers.errors import InvalidSpec
from pycontainers.errors import NotFound
from pycontainers.oci.names import familiar
from pycontainers.oci.names import normalise
from pycontainers.spec import parse_duration

Record = TypeVar("Record", ContainerRecord, ImageRecord)
Labels = Union[Mapping[str, str], Iterable[tuple[str, str]]]

CONTAINER_FILTERS = frozenset(
    "id name label status ancestor exited before since health volume network publish expose is-task isolation".split()
)
IMAGE_FILTERS = frozenset("reference label dangling before since until".split())
PRUNE_FILTERS = frozenset(("label", "label!", "until", "dangling"))
EVENT_FILTERS = frozenset(
    "type event action id container image label volume network daemon scope plugin node secret service config".split()
)


def normal_filters(filters: Mapping[str, object] | None, known: frozenset[str]) -> dict[str, list[str]]:
    """Return each filter's values as texts. Raises `InvalidSpec` for a name that isn't `known`."""
    result: dict[str, list[str]] = {}
    for name, value in (filters or {}).items():
        if name not in known:
            raise InvalidSpec(f"invalid filter {name!r}; there are: {', '.join(sorted(known))}")
        if isinstance(value, bool):
            values = ["true" if value else "false"]
        elif isinstance(value, Mapping):
            values = [f"{k}={v}" for k, v in value.items()]
        elif isinstance(value, (str, int, float)) or not isinstance(value, Iterable):
            values = [str(value)]
        else:
            values = [str(item) for item in value]
        result.setdefault(name, []).extend(values)
    return result


def select_containers(
    backend: Backend, records: Iterable[ContainerRecord], filters: Mapping[str, object] | None = None, *, all: bool = False
) -> list[ContainerRecord]:
    """Return the records that Docker's filters leave, in their order; without `all`, only those that run.

    Values of one filter are alternatives (of `label`: all are needed), filters are all needed. A filter on the state
    (`status`, `exited`) looks at ended containers too, as `before` and `since` do. Raises `InvalidSpec`;
    `ContainerNotFound` for what `before` and `since` name.
    """
    wanted = normal_filters(filters, CONTAINER_FILTERS)
    records = list(records)
    if not all and not wanted.keys() & {"status", "exited", "before", "since"}:
        records = [r for r in records if r.state.status in (Status.RUNNING, Status.PAUSED, Status.RESTARTING)]
    for name, values in wanted.items():
        test = _container_test(backend, name, values)
        records = [r for r in records if test(r)]
    return records


def _container_test(backend: Backend, name: str, values: list[str]) -> Callable[[ContainerRecord], bool]:
    if name == "id":
        return lambda r: any(r.id.startswith(v) or _found(v, r.id) for v in values)
    if name == "name":
        return lambda r: any(_found(v.removeprefix("/") if not v.startswith("^/") else "^" + v[2:], r.name) for v in values)
    if name == "label":
        return lambda r: _has_labels({**dict(r.image_config.labels), **dict(r.spec.labels)}, values)
    if name == "status":
        known = {status.value for status in Status}
        for value in values:
            if value not in known:
                raise InvalidSpec(f"invalid filter 'status={value}'; there are: {', '.join(sorted(known))}")
        return lambda r: r.state.status.value in values
    if name == "exited":
        codes = [_number(name, v) for v in values]
        return lambda r: r.state.exit_code in codes and r.state.status in (Status.EXITED, Status.DEAD)
    if name == "health":
        for value in values:
            if value not in ("starting", "healthy", "unhealthy", "none"):
                raise InvalidSpec(f"invalid filter 'health={value}'; there are: healthy, none, starting, unhealthy")
        return lambda r: (r.state.health.status if r.state.health else "none") in values
    if name in ("before", "since"):
        others = [backend.get(ContainerRecord, v).created for v in values]
        if name == "before":
            return lambda r: any(r.created < other for other in others)
        return lambda r: any(r.created > other for other in others)
    if name == "ancestor":
        ids: set[str] = set()
        images = backend.list(ImageRecord)
        for value in values:
            try:
                ids |= descendants(backend.get(ImageRecord, value).id, images)
            except NotFound:
                ids.add(value)
        return lambda r: r.image_id in ids or r.spec.image in values
    if name == "volume":
        return lambda r: any(v in (m.source, m.target) for m in r.spec.volumes for v in values)
    if name == "network":
        return lambda r: r.spec.network in values or (r.spec.network == "default" and "none" in values)
    if name in ("publish", "expose"):
        ports = [_port(name, v) for v in values]
        if name == "publish":
            return lambda r: any((p.host_port, p.protocol) in ports for p in r.spec.ports if p.host_port is not None)
        return lambda r: any(
            (int(e.partition("/")[0]), e.partition("/")[2] or "tcp") in ports for e in r.image_config.exposed_ports
        ) or any((p.container_port, p.protocol) in ports for p in r.spec.ports)
    if name == "is-task":
        return lambda r: "true" not in [v.lower() for v in values]
    return lambda r: True  # isolation is a Windows matter


def descendants(image_id: str, images: Iterable[ImageRecord]) -> set[str]:
    """Return the ids of the image and of all images made from it."""
    children: dict[str, list[str]] = {}
    for record in images:
        if record.parent:
            children.setdefault(record.parent, []).append(record.id)
    found: set[str] = set()
    left = [image_id]
    while left:
        one = left.pop()
        if one not in found:
            found.add(one)
            left += children.get(one, ())
    return found


def select_images(records: Iterable[ImageRecord], filters: Mapping[str, object] | None = None) -> list[ImageRecord]:
    """Return the images that Docker's filters leave, in their order. Raises `InvalidSpec`, `ImageNotFound`."""
    wanted = normal_filters(filters, IMAGE_FILTERS)
    everything = records = list(records)
    for name, values in wanted.items():
        if name == "reference":
            records = [r for r in records if any(matches_reference(tag, v) for tag in r.tags for v in values)]
        elif name == "label":
            records = [r for r in records if _has_labels(r.config.labels, values)]
        elif name == "dangling":
            flags = [_boolean(name, v) for v in values]
            records = [r for r in records if (not r.tags) in flags]
        elif name == "until":
            latest = min(_moment(v) for v in values)
            records = [r for r in records if r.created < latest]
        else:
            bounds = [_image(everything, v).created for v in values]
            if name == "before":
                records = [r for r in records if any(r.created < b for b in bounds)]
            else:
                records = [r for r in records if any(r.created > b for b in bounds)]
    return records


def matches_reference(tag: str, pattern: str) -> bool:
    """Tell whether a canonical reference fits a pattern like `debian`, `*:12` or `user/*`."""
    short = familiar(tag)
    name = short.rpartition(":")[0] or short
    return any(fnmatch.fnmatchcase(text, pattern) for text in (short, name, tag, tag.rpartition(":")[0]))


def prunable(records: Iterable[Record], filters: Mapping[str, object] | None) -> list[Record]:
    """Return what the filters of `docker ... prune` leave: label, label!, until. Raises `InvalidSpec`."""
    wanted = normal_filters(filters, PRUNE_FILTERS)
    result = list(records)
    if "until" in wanted:
        latest = min(_moment(v) for v in wanted["until"])
        result = [r for r in result if r.created < latest]
    if "label" in wanted:
        result = [r for r in result if _has_labels(_labels(r), wanted["label"])]
    if "label!" in wanted:
        result = [r for r in result if not any(_has_labels(_labels(r), [v]) for v in wanted["label!"])]
    return result


def merge_removed(results: Iterable[Removed]) -> Removed:
    """Return what several removals did together."""
    deleted: list[str] = []
    untagged: list[str] = []
    reclaimed = 0
    for one in results:
        deleted += one.deleted
        untagged += one.untagged
        reclaimed += one.reclaimed
    return Removed(deleted=tuple(deleted), untagged=tuple(untagged), reclaimed=reclaimed)


def event_filter(filters: Mapping[str, object] | None) -> Callable[[Event], bool]:
    """Return the test that Docker's filters of events make. Raises `InvalidSpec`."""
    wanted = normal_filters(filters, EVENT_FILTERS)

    def test(event: Event) -> bool:
        attributes = dict(event.attributes)
        for name, values in wanted.items():
            if name == "type":
                good = event.type in values
            elif name in ("event", "action"):
                good = any(event.action == v or event.action.partition(":")[0] == v for v in values)
            elif name == "label":
                good = _has_labels(attributes, values)
            elif name == "image":
                image = event.id if event.type == "image" else ""
                names = [attributes.get("image", ""), attributes.get("name", "") if event.type == "image" else ""]
                good = any(v in names or normalise_or(v) in [normalise_or(n) for n in names if n] or
                           (image and image.removeprefix("sha256:").startswith(v)) for v in values)
            elif name == "id":
                good = any(event.id.startswith(v) for v in values)
            elif name in ("daemon", "scope"):
                good = True
            else:
                good = event.type == name and any(event.id.startswith(v) or attributes.get("name") == v for v in values)
            if not good:
                return False
        return True

    return test


def normalise_or(text: str) -> str:
    """Return the canonical reference, or the text itself if it is none."""
    try:
        return normalise(text)
    except InvalidSpec:
        return text


def _labels(record: ContainerRecord | ImageRecord) -> Labels:
    if isinstance(record, ImageRecord):
        return record.config.labels
    return {**dict(record.image_config.labels), **dict(record.spec.labels)}


def _has_labels(labels: Labels, values: list[str]) -> bool:
    have = dict(labels)
    for value in values:
        name, equals, text = value.partition("=")
        if name not in have or (equals and have[name] != text):
            return False
    return True


def _found(pattern: str, text: str) -> bool:
    try:
        return re.search(pattern, text) is not None
    except re.error:
        return pattern in text


def _number(name: str, value: str) -> int:
    if not re.fullmatch(r"-?\d+", value):
        raise InvalidSpec(f"invalid filter '{name}={value}': it takes a number")
    return int(value)


def _boolean(name: str, value: str) -> bool:
    if value.lower() not in ("true", "false", "1", "0", "t", "f"):
        raise InvalidSpec(f"invalid filter '{name}={value}': it takes true or false")
    return value.lower() in ("true", "1", "t")


def _port(name: str, value: str) -> tuple[int, str]:
    number, _, protocol = value.partition("/")
    return _number(name, number), protocol or "tcp"


def _image(records: list[ImageRecord], ref: str) -> ImageRecord:
    from pycontainers.errors import ImageNotFound

    tag = normalise_or(ref)
    digits = ref.removeprefix("sha256:")
    for record in records:
        if tag in record.tags or (len(digits) > 1 and record.id.removeprefix("sha256:").startswith(digits)):
            return record
    raise ImageNotFound(f"No such image: {ref}")


def _moment(value: str) -> float:
    """Seconds since the epoch that a time, or a duration before now, means."""
    if re.fullmatch(r"\d{9,}(\.\d+)?", value):
        return float(value)
    if re.match(r"\d{4}-", value):
        from datetime import datetime

        try:
            return datetime.fromisoformat(value.replace("Z", "+00:00")).timestamp()
        except ValueError as error:
            raise InvalidSpec(f"until is not a time: {value!r}") from error
    return time.time() - parse_duration(value, "until")
