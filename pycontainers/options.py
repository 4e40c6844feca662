"""The types of the keywords of `Debian(...)` and `run(...)`; a test holds them equal to the fields of `ContainerSpec`."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import TypedDict
from typing import Union

from pycontainers.spec import Device
from pycontainers.spec import HealthCheck
from pycontainers.spec import Mount
from pycontainers.spec import Port
from pycontainers.spec import RestartPolicy
from pycontainers.spec import Ulimit

Text = Union[str, PathLike[str]]
Texts = Union[str, Iterable[str]]
Pairs = Union[Mapping[str, Union[str, int, float, PathLike[str]]], Iterable[str]]
#: A host address, a host port, both; None picks a port.
HostPort = Union[int, None, tuple[str, Union[int, None]]]
Volumes = Union[
    Mapping[str, Union[Text, tuple[Text, str]]], Mapping[Path, Union[Text, tuple[Text, str]]],
    Mapping[Text, Union[Text, tuple[Text, str]]], Iterable[Union[str, Mount]],
]


class ContainerOptions(TypedDict, total=False):
    """See `ContainerSpec` for what each one means."""

    entrypoint: Texts | None
    name: str | None
    hostname: str | None
    domainname: str | None
    user: str | None
    group_add: Texts
    workdir: str | None
    environment: Pairs
    labels: Pairs
    tty: bool
    stdin_open: bool
    stdin_once: bool
    init: bool
    auto_remove: bool
    lifetime: str
    restart: RestartPolicy | str | None
    healthcheck: HealthCheck | Texts | None
    stop_signal: str | None
    stop_timeout: float | None
    volumes: Volumes
    network: str
    ports: Mapping[int, HostPort] | Mapping[str, HostPort] | Mapping[int | str, HostPort] | Iterable[int | str | Port]
    publish_all: bool
    extra_hosts: Pairs
    dns: Texts
    dns_search: Texts
    dns_options: Texts
    memory: int | str | None
    memory_swap: int | str | None
    memory_reservation: int | str | None
    cpus: float | None
    cpu_shares: int | None
    cpu_period: int | None
    cpu_quota: int | None
    cpuset_cpus: str | None
    cpuset_mems: str | None
    pids_limit: int | None
    blkio_weight: int | None
    oom_kill_disable: bool
    oom_score_adj: int | None
    shm_size: int | str | None
    ulimits: Mapping[str, int | tuple[int, int]] | Iterable[str | Ulimit]
    cap_add: Texts
    cap_drop: Texts
    privileged: bool
    security_opt: Texts
    read_only: bool
    devices: str | Iterable[str | Device]
    device_cgroup_rules: Texts
    sysctls: Pairs
    pid: str
    ipc: str
    uts: str
    cgroupns: str


class UpdateOptions(TypedDict, total=False):
    """See `ContainerUpdate` for what each one means."""

    restart: RestartPolicy | str | None
    memory: int | str | None
    memory_swap: int | str | None
    memory_reservation: int | str | None
    cpus: float | None
    cpu_shares: int | None
    cpu_period: int | None
    cpu_quota: int | None
    cpuset_cpus: str | None
    cpuset_mems: str | None
    pids_limit: int | None
    blkio_weight: int | None
