"""Docker Engine's JSON and our values: `docker inspect`'s format from records, and specs from `POST /containers/create`."""

from __future__ import annotations

import time
from collections.abc import Iterable
from collections.abc import Mapping
from typing import TYPE_CHECKING
from typing import Any

from pycontainers.effective import command_line
from pycontainers.effective import environment
from pycontainers.effective import exposed_ports
from pycontainers.effective import labels
from pycontainers.effective import network_name
from pycontainers.errors import InvalidSpec
from pycontainers.spec import ContainerSpec
from pycontainers.spec import Device
from pycontainers.spec import HealthCheck
from pycontainers.spec import Mount
from pycontainers.spec import Port
from pycontainers.spec import RestartPolicy
from pycontainers.spec import Ulimit
from pycontainers.templates import OpenMap

if TYPE_CHECKING:
    from pycontainers.backend import ContainerRecord
    from pycontainers.backend import Event
    from pycontainers.backend import Health
    from pycontainers.backend import ImageRecord

MASKED_PATHS = ("/proc/asound", "/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
                "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware")
READONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")


# -- small pieces ------------------------------------------------------------------------------------------------------


def timestamp(seconds: float) -> str:
    """Return RFC 3339 with nanoseconds and no trailing zeros, as Go prints a time in UTC; 0.0 is Go's year 1."""
    if not seconds:
        return "0001-01-01T00:00:00Z"
    return nanostamp(round(seconds * 1e9))


def nanostamp(nanoseconds: int) -> str:
    """Return the same for nanoseconds since the epoch."""
    whole, rest = divmod(nanoseconds, 10**9)
    fraction = f".{rest:09d}".rstrip("0") if rest else ""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)) + fraction + "Z"


def _nanoseconds(seconds: float) -> int:
    return round(seconds * 1e9)


def _assignments(pairs: Iterable[tuple[str, str]]) -> list[str]:
    return [f"{name}={value}" for name, value in pairs]


def _split(items: Iterable[str] | None) -> dict[str, str]:
    return {name: value for name, _, value in (item.partition("=") for item in items or ())}


def _labels(pairs: Iterable[tuple[str, str]]) -> OpenMap:
    return OpenMap(sorted(pairs))


def _listed(values: Iterable[str] | None) -> list[str] | None:
    return list(values) if values else None


def _capabilities(values: Iterable[str]) -> list[str] | None:
    names = [v.upper() for v in values]
    return [n if n == "ALL" or n.startswith("CAP_") else f"CAP_{n}" for n in names] or None


def _default(value: float, default: float) -> int | None:
    return None if value == default else _nanoseconds(value)


def healthcheck_json(check: HealthCheck | None) -> dict[str, object] | None:
    """Return Docker's HealthConfig; values left at Docker's defaults are absent, as Docker leaves them."""
    if check is None:
        return None
    values = {"Test": list(check.test), "Interval": _default(check.interval, 30), "Timeout": _default(check.timeout, 30),
              "StartPeriod": _default(check.start_period, 0), "StartInterval": _default(check.start_interval, 5),
              "Retries": None if check.retries == 3 else check.retries}
    return {name: value for name, value in values.items() if value is not None}


def _health_json(health: Health) -> dict[str, object]:
    return {
        "Status": health.status,
        "FailingStreak": health.failing_streak,
        "Log": [{"Start": timestamp(r.start), "End": timestamp(r.end), "ExitCode": r.exit_code, "Output": r.output}
                for r in health.log],
    }


# -- what a container is -----------------------------------------------------------------------------------------------


def _config_json(record: ContainerRecord) -> dict[str, object]:
    spec, image = record.spec, record.image_config
    ports = exposed_ports(spec, image)
    anonymous = [m.target for m in spec.volumes if m.type == "volume" and not m.source]
    volumes = sorted({*image.volumes, *anonymous})
    command = spec.command
    if command is None and spec.entrypoint is None:
        command = image.command
    entrypoint = spec.entrypoint if spec.entrypoint is not None else image.entrypoint
    variables = environment(spec, image)
    result: dict[str, object] = {
        "Hostname": spec.hostname if spec.hostname is not None else record.id[:12],
        "Domainname": spec.domainname or "",
        "User": image.user if spec.user is None else spec.user,
        "AttachStdin": spec.stdin_open and spec.stdin_once,
        "AttachStdout": True,
        "AttachStderr": True,
    }
    if ports:
        result["ExposedPorts"] = OpenMap((p, {}) for p in ports)
    result.update({
        "Tty": spec.tty,
        "OpenStdin": spec.stdin_open,
        "StdinOnce": spec.stdin_once,
        "Env": _assignments(variables.items()) or None,
        "Cmd": _listed(command),
    })
    check = spec.healthcheck if spec.healthcheck is not None else image.healthcheck
    if check is not None:
        result["Healthcheck"] = healthcheck_json(check)
    result.update({
        "Image": spec.image,
        "Volumes": OpenMap((v, {}) for v in volumes) if volumes else None,
        "WorkingDir": spec.workdir or image.workdir,
        "Entrypoint": _listed(entrypoint),
        "OnBuild": None,
        "Labels": _labels(labels(spec, image).items()),
    })
    signal = spec.stop_signal or image.stop_signal
    if signal:
        result["StopSignal"] = signal
    if spec.stop_timeout is not None:
        result["StopTimeout"] = int(spec.stop_timeout)
    return result


def bind_text(mount: Mount) -> str:
    """Return Docker's `-v` notation of a mount."""
    options = [*(["ro"] if mount.read_only else []), *([mount.propagation] if mount.propagation else [])]
    return ":".join([*([mount.source] if mount.source else []), mount.target, *([",".join(options)] if options else [])])


def _short_size(size: int) -> str:
    power = 0
    while size and size % 1024 == 0 and power < 3:
        size, power = size // 1024, power + 1
    return f"{size}{'bkmg'[power] if power else ''}"


def _is_tmpfs_flag(mount: Mount) -> bool:
    return mount.type == "tmpfs" and (mount.create or bool(mount.options))


def _tmpfs_options(mount: Mount) -> str:
    options = [*(["ro"] if mount.read_only else []), *mount.options]
    if mount.size is not None:
        options.append(f"size={_short_size(mount.size)}")
    if mount.mode is not None:
        options.append(f"mode={mount.mode:o}")
    return ",".join(options)


def _mount_json(mount: Mount) -> dict[str, object]:
    result: dict[str, object] = {"Type": mount.type}
    if mount.source:
        result["Source"] = mount.source
    result["Target"] = mount.target
    if mount.read_only:
        result["ReadOnly"] = True
    if mount.propagation:
        result["BindOptions"] = {"Propagation": mount.propagation}
    options = {"SizeBytes": mount.size, "Mode": mount.mode}
    if mount.type == "tmpfs" and any(v is not None for v in options.values()):
        result["TmpfsOptions"] = {k: v for k, v in options.items() if v is not None}
    return result


def _mounts_json(spec: ContainerSpec) -> list[dict[str, object]]:
    result = []
    for mount in sorted(spec.volumes, key=lambda m: m.target):
        if _is_tmpfs_flag(mount):
            continue
        entry: dict[str, object] = {"Type": mount.type}
        if mount.type == "volume":
            entry["Name"] = mount.source
        entry["Source"] = mount.source if mount.type == "bind" else ""
        entry["Destination"] = mount.target
        if mount.type == "volume":
            entry["Driver"] = "local"
        entry["Mode"] = ("ro" if mount.read_only else "") if mount.create else ""
        entry["RW"] = not mount.read_only
        entry["Propagation"] = (mount.propagation or "rprivate") if mount.type == "bind" else ""
        result.append(entry)
    return result


def _bindings(ports: Iterable[Port]) -> OpenMap:
    result = OpenMap()
    for port in sorted(ports, key=lambda p: (p.container_port, p.protocol)):
        if port.host_port is not None:
            result.setdefault(f"{port.container_port}/{port.protocol}", []).append(
                {"HostIp": port.host_ip, "HostPort": str(port.host_port or "")})
    return result


def _host_config_json(record: ContainerRecord) -> dict[str, object]:
    spec = record.spec
    binds = [bind_text(m) for m in spec.volumes if m.type != "tmpfs" and m.create and m.source]
    mounts = [_mount_json(m) for m in spec.volumes if not m.create and not _is_tmpfs_flag(m)]
    tmpfs = OpenMap((m.target, _tmpfs_options(m)) for m in spec.volumes if _is_tmpfs_flag(m))
    result: dict[str, object] = {
        "Binds": binds or None,
        "ContainerIDFile": "",
        "LogConfig": {"Type": "json-file", "Config": OpenMap()},
        "NetworkMode": network_name(spec),
        "PortBindings": _bindings(spec.ports),
        "RestartPolicy": {"Name": spec.restart.name, "MaximumRetryCount": spec.restart.retries},
        "AutoRemove": spec.auto_remove,
        "VolumeDriver": "",
        "VolumesFrom": None,
        "CapAdd": _capabilities(spec.cap_add),
        "CapDrop": _capabilities(spec.cap_drop),
        "CgroupnsMode": spec.cgroupns or "private",
        "Dns": list(spec.dns),
        "DnsOptions": list(spec.dns_options),
        "DnsSearch": list(spec.dns_search),
        "ExtraHosts": [f"{host}:{address}" for host, address in spec.extra_hosts] or None,
        "GroupAdd": _listed(spec.group_add),
        "IpcMode": spec.ipc or "private",
        "Cgroup": "",
        "Links": None,
        "OomScoreAdj": spec.oom_score_adj or 0,
        "PidMode": spec.pid,
        "Privileged": spec.privileged,
        "PublishAllPorts": spec.publish_all,
        "ReadonlyRootfs": spec.read_only,
        "SecurityOpt": _listed(spec.security_opt),
    }
    if tmpfs:
        result["Tmpfs"] = tmpfs
    if mounts:
        result["Mounts"] = mounts
    result.update({
        "UTSMode": spec.uts,
        "UsernsMode": "",
        "ShmSize": 64 * 1024**2 if spec.shm_size is None else spec.shm_size,
    })
    if spec.sysctls:
        result["Sysctls"] = OpenMap(sorted(spec.sysctls))
    if spec.init:
        result["Init"] = True
    unmasked = spec.privileged or "systempaths=unconfined" in spec.security_opt
    result.update({
        "Runtime": "pycontainers",
        "ConsoleSize": [0, 0],
        "Isolation": "",
        "CpuShares": spec.cpu_shares or 0,
        "Memory": spec.memory or 0,
        "NanoCpus": _nanoseconds(spec.cpus or 0),
        "CgroupParent": "",
        "BlkioWeight": spec.blkio_weight or 0,
        "BlkioWeightDevice": [],
        "BlkioDeviceReadBps": [],
        "BlkioDeviceWriteBps": [],
        "BlkioDeviceReadIOps": [],
        "BlkioDeviceWriteIOps": [],
        "CpuPeriod": spec.cpu_period or 0,
        "CpuQuota": spec.cpu_quota or 0,
        "CpuRealtimePeriod": 0,
        "CpuRealtimeRuntime": 0,
        "CpusetCpus": spec.cpuset_cpus or "",
        "CpusetMems": spec.cpuset_mems or "",
        "Devices": [{"PathOnHost": d.host_path, "PathInContainer": d.container_path, "CgroupPermissions": d.permissions}
                    for d in spec.devices],
        "DeviceCgroupRules": _listed(spec.device_cgroup_rules),
        "DeviceRequests": None,
        "KernelMemory": 0,
        "KernelMemoryTCP": 0,
        "MemoryReservation": spec.memory_reservation or 0,
        "MemorySwap": spec.memory_swap if spec.memory_swap is not None else 2 * (spec.memory or 0),
        "MemorySwappiness": None,
        "OomKillDisable": spec.oom_kill_disable,
        "PidsLimit": spec.pids_limit,
        "Ulimits": [{"Name": u.name, "Hard": u.hard, "Soft": u.soft} for u in spec.ulimits],
        "CpuCount": 0,
        "CpuPercent": 0,
        "IOMaximumIOps": 0,
        "IOMaximumBandwidth": 0,
        "MaskedPaths": None if unmasked else list(MASKED_PATHS),
        "ReadonlyPaths": None if unmasked else list(READONLY_PATHS),
    })
    return result


def _endpoint() -> dict[str, object]:
    return {"IPAMConfig": None, "Links": None, "Aliases": None, "NetworkID": "", "EndpointID": "", "Gateway": "",
            "IPAddress": "", "IPPrefixLen": 0, "IPv6Gateway": "", "GlobalIPv6Address": "", "GlobalIPv6PrefixLen": 0,
            "MacAddress": "", "DriverOpts": None}


def _network_settings(record: ContainerRecord) -> dict[str, object]:
    return {
        "Bridge": "",
        "SandboxID": "",
        "HairpinMode": False,
        "LinkLocalIPv6Address": "",
        "LinkLocalIPv6PrefixLen": 0,
        "Ports": OpenMap(),
        "SandboxKey": f"/proc/{record.state.pid}/ns/net" if record.state.pid else "",
        "SecondaryIPAddresses": None,
        "SecondaryIPv6Addresses": None,
        "EndpointID": "",
        "Gateway": "",
        "GlobalIPv6Address": "",
        "GlobalIPv6PrefixLen": 0,
        "IPAddress": "",
        "IPPrefixLen": 0,
        "IPv6Gateway": "",
        "MacAddress": "",
        "Networks": OpenMap({network_name(record.spec): _endpoint()}),
    }


def _state_json(record: ContainerRecord) -> dict[str, object]:
    state = record.state
    status = state.status.value
    result: dict[str, object] = {
        "Status": status,
        "Running": status in ("running", "paused", "restarting"),
        "Paused": status == "paused",
        "Restarting": status == "restarting",
        "OOMKilled": state.oom_killed,
        "Dead": status == "dead",
        "Pid": state.pid,
        "ExitCode": state.exit_code,
        "Error": state.error,
        "StartedAt": timestamp(state.started_at),
        "FinishedAt": timestamp(state.finished_at),
    }
    if state.health is not None:
        result["Health"] = _health_json(state.health)
    return result


def container_json(record: ContainerRecord, *, root_size: int | None = None) -> dict[str, object]:
    """Return `docker inspect`'s object for a container.

    `root_size` is the image's size in bytes; with it, and where the record has the write layer's size, Docker's
    `SizeRw` and `SizeRootFs` are there too.
    """
    path, *args = command_line(record.spec, record.image_config) or ("",)
    result: dict[str, object] = {
        "Id": record.id,
        "Created": timestamp(record.created),
        "Path": path,
        "Args": args,
        "State": _state_json(record),
        "Image": record.image_id,
        "ResolvConfPath": "",
        "HostnamePath": "",
        "HostsPath": "",
        "LogPath": "",
        "Name": f"/{record.name}",
        "RestartCount": record.state.restart_count,
        "Driver": "overlay2",
        "Platform": "linux",
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "ExecIDs": None,
        "HostConfig": _host_config_json(record),
        "GraphDriver": {"Data": None, "Name": "overlay2"},
    }
    if root_size is not None and record.size_rw is not None:
        result.update({"SizeRw": record.size_rw, "SizeRootFs": record.size_rw + root_size})
    result.update({
        "Mounts": _mounts_json(record.spec),
        "Config": _config_json(record),
        "NetworkSettings": _network_settings(record),
    })
    return result


# -- what an image is --------------------------------------------------------------------------------------------------


def familiar(reference: str) -> str:
    """Return a canonical reference as a user writes it: without `docker.io/library/` (`docker.io/`)."""
    for prefix in ("docker.io/library/", "docker.io/"):
        if reference.startswith(prefix):
            return reference[len(prefix):]
    return reference


def image_json(record: ImageRecord) -> dict[str, object]:
    """Return `docker image inspect`'s object for an image."""
    image = record.config
    config: dict[str, object] = {"Hostname": "", "Domainname": "", "User": image.user, "AttachStdin": False,
                                 "AttachStdout": False, "AttachStderr": False}
    if image.exposed_ports:
        config["ExposedPorts"] = OpenMap((p, {}) for p in exposed_ports(ContainerSpec(), image))
    config.update({
        "Tty": False,
        "OpenStdin": False,
        "StdinOnce": False,
        "Env": _assignments(image.environment) or None,
        "Cmd": _listed(image.command),
    })
    if image.healthcheck is not None:
        config["Healthcheck"] = healthcheck_json(image.healthcheck)
    config.update({
        "Image": "",
        "Volumes": OpenMap((v, {}) for v in sorted(image.volumes)) if image.volumes else None,
        "WorkingDir": image.workdir,
        "Entrypoint": _listed(image.entrypoint),
        "OnBuild": None,
        "Labels": _labels(image.labels) if image.labels else None,
    })
    if image.stop_signal:
        config["StopSignal"] = image.stop_signal
    if image.shell:
        config["Shell"] = list(image.shell)
    result: dict[str, object] = {
        "Id": record.id,
        "RepoTags": [familiar(t) for t in record.tags],
        "RepoDigests": [familiar(d) for d in record.digests],
        "Parent": record.parent,
        "Comment": record.layers[-1].comment if record.layers else "",
        "Created": timestamp(record.created),
        "DockerVersion": "",
        "Author": image.author,
        "Config": config,
        "Architecture": image.architecture,
    }
    if image.variant:
        result["Variant"] = image.variant
    result.update({
        "Os": image.os,
        "Size": record.size,
        "GraphDriver": {"Data": None, "Name": "overlay2"},
        "RootFS": {"Type": "layers", "Layers": [layer.diff_id for layer in record.layers if not layer.empty]},
        "Metadata": {"LastTagTime": "0001-01-01T00:00:00Z"},
    })
    return result


def event_json(event: Event) -> dict[str, object]:
    """Return one object of `GET /events`."""
    attributes = dict(event.attributes)
    result: dict[str, object] = {}
    if event.type in ("container", "image"):
        result.update({"status": event.action, "id": event.id})
        if event.type == "container":
            result["from"] = attributes.get("image", "")
    result.update({
        "Type": event.type,
        "Action": event.action,
        "Actor": {"ID": event.id, "Attributes": OpenMap(sorted(attributes.items()))},
        "scope": "local",
        "time": event.time // 10**9,
        "timeNano": event.time,
    })
    return result


# -- from Docker's JSON ------------------------------------------------------------------------------------------------


def _seconds(value: object, default: float) -> float:
    return float(value) / 1e9 if isinstance(value, (int, float)) and value else default


def parse_healthcheck(body: Mapping[str, Any] | None) -> HealthCheck | None:
    """Return the health check that Docker's HealthConfig asks for; None for an empty one (as the image says)."""
    if not body or not body.get("Test"):
        return None
    return HealthCheck(test=tuple(body["Test"]), interval=_seconds(body.get("Interval"), 30),
                       timeout=_seconds(body.get("Timeout"), 30), start_period=_seconds(body.get("StartPeriod"), 0),
                       start_interval=_seconds(body.get("StartInterval"), 5), retries=body.get("Retries") or 3)


def _parse_ports(exposed: Mapping[str, Any], bindings: Mapping[str, Any]) -> list[Port]:
    result = []
    for name in dict.fromkeys([*bindings, *exposed]):
        number, _, protocol = name.partition("/")
        if not number.isdigit():
            raise InvalidSpec(f"invalid port specification: {name!r}")
        known: dict[str, Any] = {"container_port": int(number), "protocol": protocol or "tcp"}
        for bound in bindings.get(name) or ():
            host = bound.get("HostPort") or "0"
            if not str(host).isdigit():
                raise InvalidSpec(f"invalid port specification: {host!r}")
            result.append(Port(host_port=int(host), host_ip=bound.get("HostIp") or "", **known))
        if not bindings.get(name):
            result.append(Port(**known))
    return result


def _parse_mount(body: Mapping[str, Any]) -> Mount:
    tmpfs = body.get("TmpfsOptions") or {}
    return Mount(type=body.get("Type", "volume"), source=body.get("Source", ""), target=body.get("Target", ""),
                 read_only=bool(body.get("ReadOnly")), propagation=(body.get("BindOptions") or {}).get("Propagation", ""),
                 create=bool((body.get("BindOptions") or {}).get("CreateMountpoint")),
                 size=tmpfs.get("SizeBytes"), mode=tmpfs.get("Mode"))


def parse_tmpfs(target: str, options: str) -> Mount:
    """Return the mount of Docker's `--tmpfs TARGET[:OPTIONS]`. Raises `InvalidSpec`."""
    from pycontainers.spec import parse_size

    size, mode, rest, read_only = None, None, [], False
    for option in filter(None, options.split(",")):
        name, _, value = option.partition("=")
        if name == "size" and not value.endswith("%"):
            size = parse_size(value, "tmpfs size")
        elif name == "mode":
            try:
                mode = int(value, 8)
            except ValueError:
                raise InvalidSpec(f"invalid tmpfs option {option!r}: the mode is an octal number") from None
        elif name in ("ro", "rw"):
            read_only = name == "ro"
        else:
            rest.append(option)
    return Mount(type="tmpfs", target=target, size=size, mode=mode, options=tuple(rest), read_only=read_only, create=True)


def parse_container(body: Mapping[str, Any], name: str | None = None) -> ContainerSpec:
    """Return the spec that the body of `POST /containers/create` (or an inspect's Config and HostConfig) asks for.

    Raises `InvalidSpec`.
    """
    host: Mapping[str, Any] = body.get("HostConfig") or {}
    restart = host.get("RestartPolicy") or {}
    mounts = [Mount.parse(text) for text in host.get("Binds") or ()]
    mounts += [_parse_mount(m) for m in host.get("Mounts") or ()]
    mounts += [parse_tmpfs(target, options) for target, options in (host.get("Tmpfs") or {}).items()]
    mounts += [Mount(type="volume", target=target, create=True) for target in body.get("Volumes") or ()
               if target not in [m.target for m in mounts]]
    network = host.get("NetworkMode") or "default"
    cgroupns, ipc = host.get("CgroupnsMode") or "", host.get("IpcMode") or ""
    swap = host.get("MemorySwap") or None
    return ContainerSpec(
        image=body.get("Image") or "",
        command=body.get("Cmd") or None,
        entrypoint=body.get("Entrypoint"),
        name=name.lstrip("/") if name else None,
        hostname=body.get("Hostname") or None,
        domainname=body.get("Domainname") or None,
        user=body.get("User") or None,
        group_add=host.get("GroupAdd") or (),
        workdir=body.get("WorkingDir") or None,
        environment=_split(body.get("Env")),
        labels=body.get("Labels") or {},
        tty=bool(body.get("Tty")),
        stdin_open=bool(body.get("OpenStdin")),
        stdin_once=bool(body.get("StdinOnce")),
        init=bool(host.get("Init")),
        auto_remove=bool(host.get("AutoRemove")),
        restart=RestartPolicy(restart.get("Name") or "no", restart.get("MaximumRetryCount") or 0),
        healthcheck=parse_healthcheck(body.get("Healthcheck")),
        stop_signal=body.get("StopSignal") or None,
        stop_timeout=body.get("StopTimeout"),
        volumes=tuple(mounts),
        network="default" if network == "bridge" else network,
        ports=_parse_ports(body.get("ExposedPorts") or {}, host.get("PortBindings") or {}),
        publish_all=bool(host.get("PublishAllPorts")),
        extra_hosts=[tuple(item.split(":", 1)) for item in host.get("ExtraHosts") or ()],
        dns=host.get("Dns") or (),
        dns_search=host.get("DnsSearch") or (),
        dns_options=host.get("DnsOptions") or (),
        memory=host.get("Memory") or None,
        memory_swap=swap,
        memory_reservation=host.get("MemoryReservation") or None,
        cpus=host["NanoCpus"] / 1e9 if host.get("NanoCpus") else None,
        cpu_shares=host.get("CpuShares") or None,
        cpu_period=host.get("CpuPeriod") or None,
        cpu_quota=host.get("CpuQuota") or None,
        cpuset_cpus=host.get("CpusetCpus") or None,
        cpuset_mems=host.get("CpusetMems") or None,
        pids_limit=host.get("PidsLimit"),
        blkio_weight=host.get("BlkioWeight") or None,
        oom_kill_disable=bool(host.get("OomKillDisable")),
        oom_score_adj=host.get("OomScoreAdj") or None,
        shm_size=host.get("ShmSize") or None,
        ulimits=tuple(Ulimit(name=u["Name"], soft=u["Soft"], hard=u["Hard"]) for u in host.get("Ulimits") or ()),
        cap_add=host.get("CapAdd") or (),
        cap_drop=host.get("CapDrop") or (),
        privileged=bool(host.get("Privileged")),
        security_opt=host.get("SecurityOpt") or (),
        read_only=bool(host.get("ReadonlyRootfs")),
        devices=tuple(Device(host_path=d["PathOnHost"], container_path=d.get("PathInContainer") or d["PathOnHost"],
                             permissions=d.get("CgroupPermissions") or "rwm") for d in host.get("Devices") or ()),
        device_cgroup_rules=host.get("DeviceCgroupRules") or (),
        sysctls=host.get("Sysctls") or {},
        pid=host.get("PidMode") or "",
        ipc="" if ipc == "private" else ipc,
        uts=host.get("UTSMode") or "",
        cgroupns="" if cgroupns == "private" else cgroupns,
    )
