"""The values a user describes things with: what a container shall be, and what an image says of itself.

Every field of `ContainerSpec` is one option. The keywords of `Debian(...)`, the command line's flags and Docker's JSON
are derived from its fields or tested against them.
"""

from __future__ import annotations

import posixpath
import re
import signal as _signal
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from os import PathLike
from os import fspath
from typing import Any

from attrs import evolve as evolve
from attrs import field
from attrs import frozen

from pycontainers.errors import InvalidSpec
from pycontainers.errors import InvalidType

Strings = tuple[str, ...]
Pairs = tuple[tuple[str, str], ...]

_SIZE = re.compile(r"^(\d+(?:\.\d+)?)\s*([kmgtp]?)i?b?$", re.IGNORECASE)
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)")
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")


def parse_size(value: int | str, option: str = "size") -> int:
    """Return a size in bytes from an int or from Docker's notation (`512m`, `1.5g`, `64kb`); powers of 1024."""
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise InvalidType(f"{option} takes bytes as an int, or a text like '512m': got {value!r}")
    if isinstance(value, int):
        return value
    if value.strip() == "-1":
        return -1
    match = _SIZE.match(value.strip())
    if not match:
        raise InvalidSpec(f"{option} is not a size: {value!r}; write bytes, or a number with k, m, g or t")
    return int(float(match[1]) * 1024 ** " kmgtp".index(match[2].lower() or " "))


def parse_duration(value: float | str, option: str = "duration") -> float:
    """Return seconds from a number or from Go's notation (`1m30s`, `500ms`), as Docker writes durations."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, str):
        raise InvalidType(f"{option} takes seconds, or a text like '1m30s': got {value!r}")
    text = value.strip()
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    parts = _DURATION.findall(text)
    if not parts or "".join(n + u for n, u in parts) != text:
        raise InvalidSpec(f"{option} is not a duration: {value!r}; write seconds, or a text like '1m30s'")
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)


def parse_signal(value: int | str, option: str = "signal") -> int:
    """Return a signal's number from its number or name (`9`, `KILL`, `SIGKILL`, `SIGRTMIN+3`)."""
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise InvalidType(f"{option} takes a signal's number or name: got {value!r}")
    text = str(value).strip().upper()
    if text.isdigit() and 0 < int(text) <= 64:
        return int(text)
    name = text if text.startswith("SIG") else "SIG" + text
    offset = re.fullmatch(r"(SIGRTMIN|SIGRTMAX)([+-]\d+)", name)
    if offset:
        return int(getattr(_signal, offset[1])) + int(offset[2])
    number = getattr(_signal, name, None)
    if not isinstance(number, _signal.Signals):
        raise InvalidSpec(f"{option} is not a signal: {value!r}")
    return int(number)


def is_root(user: str | None) -> bool:
    """Tell whether a user in Docker's notation (`NAME|ID[:GROUP|ID]`) is root with root's group, or left to the image."""
    name, _, group = (user or "").partition(":")
    return name in ("", "0", "root") and group in ("", "0", "root")


def _strings(option: str) -> Callable[[Any], Any]:
    def convert(value: Iterable[str] | str | None) -> Strings | None:
        if value is None or value == ():
            return value
        if isinstance(value, str):
            return (value,)
        if isinstance(value, (bytes, Mapping)) or not isinstance(value, Iterable):
            raise InvalidType(f"{option} takes a sequence of texts: got {value!r}")
        items = tuple(value)
        for item in items:
            if not isinstance(item, (str, PathLike)):
                raise InvalidType(f"{option} takes texts: got {item!r}")
        items = tuple(fspath(item) for item in items)
        for item in items:
            if "\0" in item:
                raise InvalidSpec(f"{option} holds a NUL character: {item!r}")
        return items

    return convert


def _pairs(option: str) -> Callable[[Any], Any]:
    def convert(value: Mapping[str, object] | Iterable[object] | None) -> Pairs:
        if value is None or value == ():
            return ()
        if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
            raise InvalidType(f"{option} takes a mapping, or a sequence of 'NAME=value': got {value!r}")
        items = list(value.items()) if isinstance(value, Mapping) else [
            tuple(v.split("=", 1)) if isinstance(v, str) and "=" in v else (v, "") if isinstance(v, str) else v for v in value]
        result: dict[str, str] = {}
        for item in items:
            if not isinstance(item, tuple) or len(item) != 2 or not isinstance(item[0], str):
                raise InvalidType(f"{option} takes a mapping, or a sequence of 'NAME=value': got {item!r}")
            name, text = item
            if not isinstance(text, (str, int, float, PathLike)):
                raise InvalidType(f"{option}[{name!r}] must be a text or a number: got {text!r}")
            text = text if isinstance(text, str) else str(text)
            if not name or "\0" in name + text:
                raise InvalidSpec(f"{option} holds an empty name or a NUL character: {name!r}")
            if option == "environment" and "=" in name:
                raise InvalidSpec(f"environment: a variable's name can't hold '=': {name!r}")
            result[name] = text
        return tuple(result.items())

    return convert


def _size(option: str) -> Callable[[Any], Any]:
    return lambda value: None if value is None else parse_size(value, option)


def _flag(instance: Any, attribute: Any, value: Any) -> None:
    if not isinstance(value, bool):
        raise InvalidType(f"{attribute.name} takes True or False: got {value!r}")


def _text(instance: Any, attribute: Any, value: Any) -> None:
    if value is not None and not isinstance(value, str):
        raise InvalidType(f"{attribute.name} takes a text: got {value!r}")
    if isinstance(value, str) and "\0" in value:
        raise InvalidSpec(f"{attribute.name} holds a NUL character: {value!r}")


def _host_name(instance: Any, attribute: Any, value: Any) -> None:
    _text(instance, attribute, value)
    if value and (len(value.encode(errors="surrogateescape")) > 64 or any(c in value for c in "\r\n\t")):
        raise InvalidSpec(f"{attribute.name} must be one line of at most 64 bytes, as the kernel takes it: got {value!r}")


def _integer(instance: Any, attribute: Any, value: Any) -> None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
        raise InvalidType(f"{attribute.name} takes an int: got {value!r}")


def _name(instance: Any, attribute: Any, value: Any) -> None:
    _text(instance, attribute, value)
    if isinstance(value, str) and not _NAME.fullmatch(value):
        raise InvalidSpec(f"Invalid container name ({value}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")


@frozen(kw_only=True)
class HealthCheck:
    """How a container's health is asked; times in seconds. Docker's HEALTHCHECK."""

    #: `("CMD", program, ...)`, `("CMD-SHELL", line)`, or `("NONE",)` to switch off the image's.
    test: Strings = field(converter=_strings("healthcheck.test"))  # type: ignore[misc]
    interval: float = field(default=30.0, converter=parse_duration)
    timeout: float = field(default=30.0, converter=parse_duration)
    start_period: float = field(default=0.0, converter=parse_duration)
    start_interval: float = field(default=5.0, converter=parse_duration)
    retries: int = field(default=3, validator=_integer)


@frozen
class RestartPolicy:
    """When a container that ended is started again: `no`, `always`, `unless-stopped`, `on-failure` (at most `retries`)."""

    name: str = "no"
    retries: int = 0

    @classmethod
    def parse(cls, value: RestartPolicy | str | None) -> RestartPolicy:
        """Return the policy that Docker's notation means (`on-failure:5`)."""
        if isinstance(value, RestartPolicy):
            return value
        if value is not None and not isinstance(value, str):
            raise InvalidType(f"restart takes a text like 'on-failure:5': got {value!r}")
        name, _, count = (value or "no").partition(":")
        if name not in ("no", "always", "unless-stopped", "on-failure"):
            raise InvalidSpec(f"restart is not a policy: {value!r}; choose no, always, unless-stopped or on-failure[:N]")
        if count and (name != "on-failure" or not count.isdigit()):
            raise InvalidSpec(f"restart: only on-failure takes a count, as a number: {value!r}")
        return cls(name, int(count or 0))

    def __str__(self) -> str:
        """Docker's notation."""
        return f"{self.name}:{self.retries}" if self.retries else self.name


@frozen(kw_only=True)
class Mount:
    """One mount of a container. `source` is an absolute host path (bind), a volume's name, or empty (tmpfs, anonymous)."""

    type: str  # bind, volume or tmpfs
    source: str = ""
    target: str
    read_only: bool = False
    #: Create a missing bind source as a directory, as Docker's -v does; `--mount` refuses instead.
    create: bool = False
    propagation: str = ""
    #: tmpfs only: bytes, octal mode, and further options as mount(8) writes them.
    size: int | None = None
    mode: int | None = None
    options: Strings = ()

    @classmethod
    def parse(cls, text: str) -> Mount:
        """Return the mount of Docker's `-v` notation: `[SOURCE:]TARGET[:OPTIONS]`."""
        parts = text.split(":")
        if len(parts) > 3 or not all(parts):
            raise InvalidSpec(f"invalid volume specification: {text!r}; write [SOURCE:]TARGET[:OPTIONS]")
        options = parts.pop().split(",") if len(parts) == 3 else []
        if len(parts) == 1:
            source, target = "", parts[0]
        else:
            source, target = parts
        known = {"ro", "rw", "z", "Z", "nocopy", "private", "rprivate", "shared", "rshared", "slave", "rslave"}
        for option in options:
            if option not in known:
                raise InvalidSpec(f"invalid mode in volume specification {text!r}: {option!r}")
        spread = [o for o in options if o.strip("r") in ("private", "shared", "slave")]
        return cls(type="bind" if source.startswith(("/", ".", "~")) else "volume", source=source, target=target,
                   read_only="ro" in options, create=True, propagation=spread[0] if spread else "")

    def __attrs_post_init__(self) -> None:
        """Refuse targets that can't be mounted on."""
        if self.type not in ("bind", "volume", "tmpfs"):
            raise InvalidSpec(f"mount type must be bind, volume or tmpfs: got {self.type!r}")
        if not isinstance(self.target, str) or not self.target.startswith("/") or "\0" in self.target + self.source:
            raise InvalidSpec(f"invalid mount target {self.target!r}: it must be an absolute path in the container")
        if self.target.rstrip("/") == "":
            raise InvalidSpec("invalid mount target '/': the root itself can't be mounted on")


def parse_mounts(value: Mapping[object, object] | Iterable[object] | None) -> tuple[Mount, ...]:
    """Return mounts from `{source: target}`, `{source: (target, "ro")}`, `-v` texts, or `Mount`s."""
    if value is None or value == ():
        return ()
    if isinstance(value, (str, bytes)):
        raise InvalidType(f"volumes takes a mapping or a sequence: got {value!r}")
    if not isinstance(value, Mapping):
        return tuple(v if isinstance(v, Mount) else Mount.parse(fspath(v)) for v in value)  # type: ignore[call-overload]
    result = []
    for source, target in value.items():
        where, *options = target if isinstance(target, (tuple, list)) else [target]
        name = fspath(source) if isinstance(source, (str, PathLike)) else str(source)
        if not isinstance(where, (str, PathLike)):
            raise InvalidType(f"volumes[{name!r}] must be a path in the container: got {where!r}")
        result.append(Mount.parse(":".join([name, fspath(where), *([",".join(map(str, options))] if options else [])])))
    return tuple(result)


@frozen(kw_only=True)
class Port:
    """One port of a container: published on the host (`host_port` 0 picks one) or only exposed (`host_port` None)."""

    container_port: int
    protocol: str = "tcp"
    host_port: int | None = None
    host_ip: str = ""


@frozen(kw_only=True)
class Ulimit:
    """One resource limit of setrlimit(2), by Docker's name (`nofile`); -1 is unlimited."""

    name: str
    soft: int
    hard: int


@frozen(kw_only=True)
class Device:
    """A device of the host given to a container; `permissions` are the device cgroup's letters r, w, m."""

    host_path: str
    container_path: str
    permissions: str = "rwm"


def _devices(value: Iterable[object] | None) -> tuple[Device, ...]:
    if value == ():
        return ()
    result = []
    for item in (value,) if isinstance(value, str) else value or ():
        if isinstance(item, Device):
            result.append(item)
            continue
        if not isinstance(item, str):
            raise InvalidType(f"devices takes texts like '/dev/fuse': got {item!r}")
        parts = item.split(":")
        if len(parts) == 2 and not parts[1].startswith("/"):
            parts.insert(1, parts[0])
        host, container, permissions = (parts + [parts[0], "rwm"][len(parts) - 1:])[:3]
        if not host.startswith("/") or not container.startswith("/") or not permissions or set(permissions) - set("rwm"):
            raise InvalidSpec(f"devices: {item!r} is not HOST[:CONTAINER[:PERMISSIONS]]")
        result.append(Device(host_path=host, container_path=container, permissions=permissions))
    return tuple(result)


def _ulimits(value: Mapping[str, object] | Iterable[object] | None) -> tuple[Ulimit, ...]:
    if value == ():
        return ()
    result = []
    items = [f"{k}={':'.join(map(str, v)) if isinstance(v, (tuple, list)) else v}" for k, v in value.items()] \
        if isinstance(value, Mapping) else value or ()
    for item in items:
        if isinstance(item, Ulimit):
            result.append(item)
            continue
        match = re.fullmatch(r"([a-z]+)=(-1|\d+|unlimited)(?::(-1|\d+|unlimited))?", str(item))
        if not match:
            raise InvalidSpec(f"ulimits: {item!r} is not NAME=SOFT[:HARD]")
        soft, hard = (-1 if v == "unlimited" else int(v) for v in (match[2], match[3] or match[2]))
        if hard != -1 and (soft == -1 or soft > hard):
            raise InvalidSpec(f"ulimits: soft limit must be less than or equal to hard limit: {item!r}")
        result.append(Ulimit(name=match[1], soft=soft, hard=hard))
    return tuple(result)


def _ports(value: Mapping[object, object] | Iterable[object] | None) -> tuple[Port, ...]:
    if value is None or value == ():
        return ()
    result = []
    pairs = value.items() if isinstance(value, Mapping) else [(v, ...) for v in value]
    for key, host in pairs:
        if isinstance(key, Port):
            result.append(key)
            continue
        number, _, protocol = str(key).partition("/")
        if not number.isdigit() or not 0 < int(number) < 65536 or protocol not in ("", "tcp", "udp", "sctp"):
            raise InvalidSpec(f"ports: {key!r} is not a container port; write 80 or '53/udp'")
        address, bound = host if isinstance(host, (tuple, list)) else ("", host)
        bound = None if bound is ... else 0 if bound is None else bound
        if bound is not None and (isinstance(bound, bool) or not isinstance(bound, int) or not 0 <= bound < 65536):
            raise InvalidSpec(f"ports[{key!r}]: {host!r} is not a host port; write a number, None for any, or (address, port)")
        result.append(Port(container_port=int(number), protocol=protocol or "tcp", host_port=bound, host_ip=address))
    return tuple(result)


def _restart(value: RestartPolicy | str | None) -> RestartPolicy:
    return RestartPolicy.parse(value)


def _restart_change(value: RestartPolicy | str | None) -> RestartPolicy | None:
    return None if value is None else RestartPolicy.parse(value)


def _health(value: HealthCheck | str | Iterable[str] | None) -> HealthCheck | None:
    if value is None or isinstance(value, HealthCheck):
        return value
    return HealthCheck(test=("CMD-SHELL", value) if isinstance(value, str) else ("CMD", *value))


def _check_limits(spec: ContainerSpec | ContainerUpdate) -> None:
    """Refuse limits that no kernel takes."""
    for option in ("memory", "memory_swap", "memory_reservation", "cpu_shares", "cpu_period", "cpu_quota"):
        value = getattr(spec, option)
        if value is not None and value < (0 if option in ("cpu_shares", "cpu_period") else -1):
            unlimited = "; -1 is unlimited" if "cpu_" not in option else ""
            raise InvalidSpec(f"{option} can't be negative: got {value}{unlimited}")
    if spec.memory is not None and 0 < spec.memory < 6 * 1024**2:
        raise InvalidSpec(f"Minimum memory limit allowed is 6MB: got {spec.memory} bytes")
    if spec.memory and 0 < (spec.memory_swap or 0) < spec.memory:
        raise InvalidSpec(f"memory_swap: minimum memoryswap limit should be larger than memory limit, as it counts both: got "
                          f"{spec.memory_swap} bytes with a memory limit of {spec.memory}")
    if spec.blkio_weight and not 10 <= spec.blkio_weight <= 1000:
        raise InvalidSpec(f"blkio_weight: range of blkio weight is from 10 to 1000: got {spec.blkio_weight}")


def _addresses(option: str) -> Callable[[Any], Any]:
    strings = _strings(option)

    def convert(value: Iterable[str] | str | None) -> Strings | None:
        result: Strings | None = strings(value)
        if result:
            from ipaddress import ip_address

            for item in result:
                try:
                    ip_address(item)
                except ValueError:
                    raise InvalidSpec(f"{option}: IP address is not correctly formatted: {item!r}") from None
        return result

    return convert


@frozen(kw_only=True)
class ContainerSpec:
    """Everything that can be asked of a container; None means: what the image says, else Docker's default."""

    image: str = field(default="", validator=_text)
    #: Which image `image` names, where that is known: this one is taken, whatever the reference means by now.
    image_id: str = field(default="", validator=_text)
    #: Replaces the image's CMD; arguments of the entrypoint.
    command: Strings | None = field(default=None, converter=_strings("command"))  # type: ignore[misc]
    #: Replaces the image's ENTRYPOINT and drops its CMD; `()` removes it.
    entrypoint: Strings | None = field(default=None, converter=_strings("entrypoint"))  # type: ignore[misc]
    name: str | None = field(default=None, validator=_name)
    hostname: str | None = field(default=None, validator=_host_name)
    domainname: str | None = field(default=None, validator=_host_name)
    #: `USER[:GROUP]`, names resolved in the container's own /etc/passwd and /etc/group.
    user: str | None = field(default=None, validator=_text)
    group_add: Strings = field(default=(), converter=_strings("group_add"))  # type: ignore[misc]
    workdir: str | None = field(default=None, validator=_text)
    environment: Pairs = field(default=(), converter=_pairs("environment"))  # type: ignore[misc]
    labels: Pairs = field(default=(), converter=_pairs("labels"))  # type: ignore[misc]
    tty: bool = field(default=False, validator=_flag)
    #: Keep stdin open for attachers (`-i`).
    stdin_open: bool = field(default=False, validator=_flag)
    #: Close stdin when the first attached client leaves, as `docker run -i` asks.
    stdin_once: bool = field(default=False, validator=_flag)
    #: Run a tiny init as process 1, which forwards signals and reaps orphans.
    init: bool = field(default=False, validator=_flag)
    auto_remove: bool = field(default=False, validator=_flag)
    #: `detached` outlives its creator; `process` dies with it.
    lifetime: str = field(default="detached", validator=_text)
    restart: RestartPolicy = field(default=RestartPolicy(), converter=_restart)
    healthcheck: HealthCheck | None = field(default=None, converter=_health)
    stop_signal: str | None = field(default=None)
    #: Seconds between the stop signal and SIGKILL; Docker's 10 when None.
    stop_timeout: float | None = field(default=None)
    #: `{source: target}`, `-v` texts, or `Mount` values.
    volumes: tuple[Mount, ...] = field(default=(), converter=parse_mounts)
    network: str = field(default="default", validator=_text)
    #: `{80: None}` picks a host port, `{80: 8080}` takes that one, `{"53/udp": ("127.0.0.1", 53)}`.
    ports: tuple[Port, ...] = field(default=(), converter=_ports)
    publish_all: bool = field(default=False, validator=_flag)
    extra_hosts: Pairs = field(default=(), converter=_pairs("extra_hosts"))  # type: ignore[misc]
    dns: Strings = field(default=(), converter=_addresses("dns"))  # type: ignore[misc]
    dns_search: Strings = field(default=(), converter=_strings("dns_search"))  # type: ignore[misc]
    dns_options: Strings = field(default=(), converter=_strings("dns_options"))  # type: ignore[misc]
    memory: int | None = field(default=None, converter=_size("memory"))  # type: ignore[misc]
    memory_swap: int | None = field(default=None, converter=_size("memory_swap"))  # type: ignore[misc]
    memory_reservation: int | None = field(default=None, converter=_size("memory_reservation"))  # type: ignore[misc]
    #: How many CPUs' worth of time: 1.5 is one and a half.
    cpus: float | None = field(default=None)
    cpu_shares: int | None = field(default=None, validator=_integer)
    cpu_period: int | None = field(default=None, validator=_integer)
    cpu_quota: int | None = field(default=None, validator=_integer)
    cpuset_cpus: str | None = field(default=None, validator=_text)
    cpuset_mems: str | None = field(default=None, validator=_text)
    pids_limit: int | None = field(default=None, validator=_integer)
    blkio_weight: int | None = field(default=None, validator=_integer)
    oom_kill_disable: bool = field(default=False, validator=_flag)
    oom_score_adj: int | None = field(default=None, validator=_integer)
    shm_size: int | None = field(default=None, converter=_size("shm_size"))  # type: ignore[misc]
    ulimits: tuple[Ulimit, ...] = field(default=(), converter=_ulimits)
    cap_add: Strings = field(default=(), converter=_strings("cap_add"))  # type: ignore[misc]
    cap_drop: Strings = field(default=(), converter=_strings("cap_drop"))  # type: ignore[misc]
    privileged: bool = field(default=False, validator=_flag)
    #: Docker's texts: `no-new-privileges`, `seccomp=unconfined`, `seccomp=FILE`, `systempaths=unconfined`.
    security_opt: Strings = field(default=(), converter=_strings("security_opt"))  # type: ignore[misc]
    read_only: bool = field(default=False, validator=_flag)
    devices: tuple[Device, ...] = field(default=(), converter=_devices)
    device_cgroup_rules: Strings = field(default=(), converter=_strings("device_cgroup_rules"))  # type: ignore[misc]
    sysctls: Pairs = field(default=(), converter=_pairs("sysctls"))  # type: ignore[misc]
    #: "" is a namespace of its own, `host` the caller's.
    pid: str = field(default="", validator=_text)
    ipc: str = field(default="", validator=_text)
    uts: str = field(default="", validator=_text)
    cgroupns: str = field(default="", validator=_text)

    def __attrs_post_init__(self) -> None:
        """Refuse what contradicts itself."""
        if self.lifetime not in ("detached", "process"):
            raise InvalidSpec(f"lifetime must be 'detached' or 'process': got {self.lifetime!r}")
        if self.stop_signal is not None:
            parse_signal(self.stop_signal, "stop_signal")
        for option in ("cpus", "stop_timeout"):
            value = getattr(self, option)
            if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
                raise InvalidType(f"{option} takes a number: got {value!r}")
            if value is not None and value < 0 and option == "cpus":
                raise InvalidSpec(f"{option} can't be negative: got {value!r}")
        _check_limits(self)
        if self.workdir and not self.workdir.startswith("/"):
            raise InvalidSpec(f"the working directory {self.workdir!r} is invalid, it needs to be an absolute path")
        targets = [posixpath.normpath(mount.target) for mount in self.volumes]
        for target in targets:
            if targets.count(target) > 1:
                raise InvalidSpec(f"volumes: Duplicate mount point: {target}")
        for name, address in self.extra_hosts:
            if not name.isprintable() or " " in name or not address.isprintable() or " " in address:
                raise InvalidSpec(f"extra_hosts: bad format for add-host: {f'{name}:{address}'!r}")
        for option in ("dns_search", "dns_options"):
            for text in getattr(self, option):
                if not text.isprintable() or " " in text:
                    raise InvalidSpec(f"{option} takes words: got {text!r}")
        if self.oom_score_adj is not None and not -1000 <= self.oom_score_adj <= 1000:
            raise InvalidSpec(f"oom_score_adj: invalid value {self.oom_score_adj}, range for oom score adj is [-1000, 1000]")
        if self.shm_size is not None and self.shm_size < 0:
            raise InvalidSpec(f"shm_size can't be negative: got {self.shm_size}")
        if self.auto_remove and self.restart.name != "no":
            raise InvalidSpec("Conflicting options: a restart policy and auto_remove (--rm)")


@frozen(kw_only=True)
class ExecSpec:
    """What an exec runs inside a running container; None means: as the container."""

    command: Strings = field(converter=_strings("command"))  # type: ignore[misc]
    user: str | None = field(default=None, validator=_text)
    workdir: str | None = field(default=None, validator=_text)
    environment: Pairs = field(default=(), converter=_pairs("environment"))  # type: ignore[misc]
    tty: bool = field(default=False, validator=_flag)
    privileged: bool = field(default=False, validator=_flag)
    #: Kill the exec and all its descendants when the caller goes away.
    kill_on_close: bool = field(default=False, validator=_flag)

    def __attrs_post_init__(self) -> None:
        """Refuse what makes no sense."""
        if self.workdir and not self.workdir.startswith("/"):
            raise InvalidSpec(f"the working directory {self.workdir!r} is invalid, it needs to be an absolute path")


@frozen(kw_only=True)
class ContainerUpdate:
    """Changes to a container; None leaves a thing as it is."""

    name: str | None = field(default=None, validator=_name)
    paused: bool | None = None
    #: `detached` or `process`, of a container that isn't running: a plain `start()` makes what was created outlive its creator.
    lifetime: str | None = field(default=None, validator=_text)
    restart: RestartPolicy | None = field(default=None, converter=_restart_change)
    memory: int | None = field(default=None, converter=_size("memory"))  # type: ignore[misc]
    memory_swap: int | None = field(default=None, converter=_size("memory_swap"))  # type: ignore[misc]
    memory_reservation: int | None = field(default=None, converter=_size("memory_reservation"))  # type: ignore[misc]
    cpus: float | None = None
    cpu_shares: int | None = field(default=None, validator=_integer)
    cpu_period: int | None = field(default=None, validator=_integer)
    cpu_quota: int | None = field(default=None, validator=_integer)
    cpuset_cpus: str | None = field(default=None, validator=_text)
    cpuset_mems: str | None = field(default=None, validator=_text)
    pids_limit: int | None = field(default=None, validator=_integer)
    blkio_weight: int | None = field(default=None, validator=_integer)

    def __attrs_post_init__(self) -> None:
        """Refuse what contradicts itself."""
        _check_limits(self)


@frozen(kw_only=True)
class ImageUpdate:
    """Changes to an image's references: canonical texts to add and to take away."""

    add_tags: Strings = ()
    remove_tags: Strings = ()


@frozen(kw_only=True)
class ImageConfig:
    """What an image says of the containers made from it (OCI image-spec, `config.md`)."""

    command: Strings | None = field(default=None, converter=_strings("command"))  # type: ignore[misc]
    entrypoint: Strings | None = field(default=None, converter=_strings("entrypoint"))  # type: ignore[misc]
    environment: Pairs = field(default=(), converter=_pairs("environment"))  # type: ignore[misc]
    labels: Pairs = field(default=(), converter=_pairs("labels"))  # type: ignore[misc]
    workdir: str = ""
    user: str = ""
    exposed_ports: Strings = ()  # "80/tcp"
    volumes: Strings = ()
    stop_signal: str = ""
    healthcheck: HealthCheck | None = None
    shell: Strings = ()
    author: str = ""
    architecture: str = ""
    os: str = "linux"
    variant: str = ""


@frozen(kw_only=True)
class ImportSpec:
    """A root file system that becomes an image of one layer: a directory, or a tar (plain, gzip, xz, zstd)."""

    #: A directory, a tar's path, a URL, or a readable binary file object.
    source: object
    reference: str | None = None
    message: str = ""
    config: ImageConfig = ImageConfig()
