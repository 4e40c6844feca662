"""An image's configuration as OCI and Docker write it in JSON, to and from `ImageConfig`."""

from __future__ import annotations

import json
from collections.abc import Iterable
from collections.abc import Mapping
from datetime import datetime
from datetime import timezone
from typing import Any

from attrs import field
from attrs import frozen

from pycontainers.errors import InvalidSpec
from pycontainers.spec import HealthCheck
from pycontainers.spec import ImageConfig
from pycontainers.spec import Strings

_NS = 1_000_000_000
_MACHINES = {
    "x86_64": ("amd64", ""),
    "AMD64": ("amd64", ""),
    "aarch64": ("arm64", "v8"),
    "arm64": ("arm64", "v8"),
    "armv7l": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
    "i686": ("386", ""),
    "i386": ("386", ""),
    "ppc64le": ("ppc64le", ""),
    "s390x": ("s390x", ""),
    "riscv64": ("riscv64", ""),
    "loongarch64": ("loong64", ""),
}
_HOST = "io.pycontainers.host"
#: HealthCheck's times, Docker's key for each; absent or 0 means the default.
_TIMES = {
    "interval": "Interval",
    "timeout": "Timeout",
    "start_period": "StartPeriod",
    "start_interval": "StartInterval",
}


@frozen(kw_only=True)
class History:
    """How one layer came about; `empty` when that step changed no file. `created` is in seconds since the epoch."""

    created: float = 0.0
    created_by: str = ""
    comment: str = ""
    author: str = ""
    empty: bool = False


@frozen(kw_only=True)
class ImageDocument:
    """All that an image's config blob says. `created` is in seconds since the epoch, 0.0 when it says nothing."""

    config: ImageConfig = field(factory=ImageConfig)
    diff_ids: Strings = ()
    history: tuple[History, ...] = ()
    created: float = 0.0
    #: Not empty for the machine's own root and what is built on it: a hash that names the machine.
    host: str = ""


def machine_platform() -> tuple[str, str]:
    """Return this machine's architecture and variant by Go's names (`amd64`, "")."""
    import platform

    machine = platform.machine()
    return _MACHINES.get(machine, (machine, ""))


def encode_document(document: ImageDocument) -> bytes:
    """Return the blob, always the same bytes for the same value; the image's id is its SHA-256."""
    config = document.config
    result: dict[str, Any] = {
        "architecture": config.architecture,
        "config": encode_config(config),
        "created": encode_time(document.created),
        "history": [_history(entry) for entry in document.history],
        "os": config.os,
        "rootfs": {"type": "layers", "diff_ids": list(document.diff_ids)},
    }
    for key, value in (("author", config.author), ("variant", config.variant), (_HOST, document.host)):
        if value:
            result[key] = value
    text = json.dumps(result, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise InvalidSpec(f"the image's config holds a lone surrogate: {text[error.start - 20:error.end]!r}") from error


def _history(entry: History) -> dict[str, Any]:
    result: dict[str, Any] = {"created": encode_time(entry.created)}
    for key in ("created_by", "comment", "author"):
        if getattr(entry, key):
            result[key] = getattr(entry, key)
    if entry.empty:
        result["empty_layer"] = True
    return result


def decode_document(blob: bytes) -> ImageDocument:
    """Return what a config blob says. Raises `InvalidSpec`, naming the key that is wrong."""
    try:
        data = json.loads(blob.decode("utf-8", "surrogateescape"))
    except (ValueError, RecursionError) as error:
        raise InvalidSpec(f"the image's config is no JSON: {error}") from error
    data = _expect(data, dict, "the image's config")
    rootfs = _expect(data.get("rootfs") or {}, dict, "rootfs")
    return ImageDocument(
        config=decode_config(
            _expect(data.get("config") or {}, dict, "config"),
            author=_text(data, "author"), architecture=_text(data, "architecture"), os=_text(data, "os") or "linux",
            variant=_text(data, "variant")),
        diff_ids=_texts(rootfs.get("diff_ids"), "rootfs.diff_ids") or (),
        history=tuple(_decode_history(entry) for entry in _expect(data.get("history") or [], list, "history")),
        created=decode_time(_text(data, "created")),
        host=_text(data, _HOST),
    )


def _decode_history(data: object) -> History:
    entry = _expect(data, dict, "history")
    return History(created=decode_time(_text(entry, "created")), created_by=_text(entry, "created_by"),
                   comment=_text(entry, "comment"), author=_text(entry, "author"), empty=bool(entry.get("empty_layer")))


def encode_config(config: ImageConfig) -> dict[str, Any]:
    """Return the `config` object with Docker's keys; what is not set is absent."""
    result: dict[str, Any] = {}
    lists = {"Cmd": config.command, "Entrypoint": config.entrypoint, "Shell": config.shell or None}
    result.update((key, list(value)) for key, value in lists.items() if value is not None)
    if config.environment:
        result["Env"] = [f"{name}={value}" for name, value in config.environment]
    if config.labels:
        result["Labels"] = dict(config.labels)
    texts = {"WorkingDir": config.workdir, "User": config.user, "StopSignal": config.stop_signal}
    result.update((key, value) for key, value in texts.items() if value)
    sets = {"ExposedPorts": config.exposed_ports, "Volumes": config.volumes}
    result.update((key, {item: {} for item in value}) for key, value in sets.items() if value)
    if config.healthcheck is not None:
        result["Healthcheck"] = encode_health(config.healthcheck)
    return result


def decode_config(data: Mapping[str, Any], *, author: str = "", architecture: str = "", os: str = "linux",
                  variant: str = "") -> ImageConfig:
    """Return what a `config` object with Docker's keys says. Raises `InvalidSpec`, naming the key that is wrong."""
    health = data.get("Healthcheck")
    return ImageConfig(
        command=_texts(data.get("Cmd"), "Cmd"),
        entrypoint=_texts(data.get("Entrypoint"), "Entrypoint"),
        environment=tuple((name, value) for name, _, value in (
            item.partition("=") for item in _texts(data.get("Env"), "Env") or ()) if name),
        labels=tuple((_a_text(name, "Labels"), _a_text(value, "Labels"))
                     for name, value in _mapping(data, "Labels").items() if name),
        workdir=_text(data, "WorkingDir"),
        user=_text(data, "User"),
        exposed_ports=tuple(_a_text(key, "ExposedPorts") for key in _mapping(data, "ExposedPorts")),
        volumes=tuple(_a_text(key, "Volumes") for key in _mapping(data, "Volumes")),
        stop_signal=_text(data, "StopSignal"),
        healthcheck=None if health is None else decode_health(_expect(health, dict, "Healthcheck")),
        shell=_texts(data.get("Shell"), "Shell") or (),
        author=author, architecture=architecture, os=os, variant=variant,
    )


def encode_health(health: HealthCheck) -> dict[str, Any]:
    """Return Docker's object for a health check, times in nanoseconds; defaults are absent."""
    default = HealthCheck(test=())
    result: dict[str, Any] = {"Test": list(health.test)}
    for name, key in _TIMES.items():
        value = getattr(health, name)
        if value != getattr(default, name):
            result[key] = round(value * _NS)
    if health.retries != default.retries:
        result["Retries"] = health.retries
    return result


def decode_health(data: Mapping[str, Any]) -> HealthCheck | None:
    """Return the health check that Docker's object means; None for an empty test, which is the parent image's."""
    test = _texts(data.get("Test"), "Healthcheck.Test")
    if not test:
        return None
    numbers: dict[str, Any] = {}
    for name, key in {**_TIMES, "retries": "Retries"}.items():
        value = data.get(key) or 0
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise InvalidSpec(f"the image's config: Healthcheck.{key} must be a number, not negative: got {value!r}")
        if value:
            numbers[name] = value if name == "retries" else value / _NS
    return HealthCheck(test=test, **numbers)


def encode_time(seconds: float) -> str:
    """Return a time since the epoch as RFC 3339 in UTC, to the microsecond."""
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="microseconds").replace("+00:00", "Z")


def decode_time(text: str) -> float:
    """Return the seconds since the epoch that RFC 3339 text means; 0.0 for none, and for Go's zero time.

    Raises `InvalidSpec`.
    """
    if not text or text.startswith("0001-01-01T00:00:00"):
        return 0.0
    # Python reads neither Z nor nanoseconds before 3.11.
    head, dot, tail = text.upper().replace("Z", "+00:00").partition(".")
    count = len(tail) - len(tail.lstrip("0123456789"))
    try:
        if dot:
            head += tail[count:]
        moment = datetime.fromisoformat(head)
        if moment.tzinfo is None:
            raise ValueError("no time zone")
        return moment.timestamp() + (float(f"0.{tail[:count] or 0}") if dot else 0.0)
    except (ValueError, OverflowError) as error:
        raise InvalidSpec(f"the image's config: {text[:60]!r} is no time (RFC 3339)") from error


def _expect(value: Any, kind: type[Any], key: str) -> Any:
    if not isinstance(value, kind):
        raise InvalidSpec(f"the image's config: {key} must be a JSON {_JSON[kind.__name__]}: got {str(value)[:60]!r}")
    return value


_JSON = {"dict": "object", "list": "array", "str": "string"}


def _a_text(value: Any, key: str) -> str:
    text: str = _expect(value, str, key)
    if "\0" in text:
        raise InvalidSpec(f"the image's config: {key} holds a NUL character")
    return text


def _text(data: Mapping[str, Any], key: str) -> str:
    value = data.get(key)
    return "" if value is None else _a_text(value, key)


def _texts(value: Any, key: str) -> Strings | None:
    if value is None:
        return None
    items: Iterable[Any] = _expect(value, list, key)
    return tuple(_a_text(item, key) for item in items)


def _mapping(data: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    mapping: Mapping[str, Any] = _expect(data.get(key) or {}, dict, key)
    return mapping
