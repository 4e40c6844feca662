"""The flags of `run` and `create`, and the `ContainerSpec` that they ask for."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from pycontainers.cli.flags import Flag
from pycontainers.cli.flags import Options
from pycontainers.cli.flags import UsageError
from pycontainers.errors import InvalidSpec
from pycontainers.errors import Unsupported

FLAGS = (
    Flag("add-host", "", "list", "Add a custom host-to-IP mapping (host:ip)"),
    Flag("attach", "a", "list", "Attach to STDIN, STDOUT or STDERR"),
    Flag("blkio-weight", "", "uint16", "Block IO (relative weight), between 10 and 1000, or 0 to disable (default 0)"),
    Flag("cap-add", "", "list", "Add Linux capabilities"),
    Flag("cap-drop", "", "list", "Drop Linux capabilities"),
    Flag("cgroupns", "", "string", "Cgroup namespace to use (host|private)"),
    Flag("cidfile", "", "string", "Write the container ID to the file"),
    Flag("cpu-period", "", "int", "Limit CPU CFS (Completely Fair Scheduler) period"),
    Flag("cpu-quota", "", "int", "Limit CPU CFS (Completely Fair Scheduler) quota"),
    Flag("cpu-shares", "c", "int", "CPU shares (relative weight)"),
    Flag("cpus", "", "decimal", "Number of CPUs"),
    Flag("cpuset-cpus", "", "string", "CPUs in which to allow execution (0-3, 0,1)"),
    Flag("cpuset-mems", "", "string", "MEMs in which to allow execution (0-3, 0,1)"),
    Flag("device", "", "list", "Add a host device to the container"),
    Flag("device-cgroup-rule", "", "list", "Add a rule to the cgroup allowed devices list"),
    Flag("disable-content-trust", "", "bool", "", True),
    Flag("dns", "", "list", "Set custom DNS servers"),
    Flag("dns-opt", "", "list", ""),
    Flag("dns-option", "", "list", "Set DNS options"),
    Flag("dns-search", "", "list", "Set custom DNS search domains"),
    Flag("domainname", "", "string", "Container NIS domain name"),
    Flag("entrypoint", "", "string", "Overwrite the default ENTRYPOINT of the image"),
    Flag("env", "e", "list", "Set environment variables"),
    Flag("env-file", "", "list", "Read in a file of environment variables"),
    Flag("expose", "", "list", "Expose a port or a range of ports"),
    Flag("group-add", "", "list", "Add additional groups to join"),
    Flag("health-cmd", "", "string", "Command to run to check health"),
    Flag("health-interval", "", "duration", "Time between running the check (ms|s|m|h) (default 0s)"),
    Flag("health-retries", "", "int", "Consecutive failures needed to report unhealthy"),
    Flag("health-start-interval", "", "duration",
         "Time between running the check during the start period (ms|s|m|h) (default 0s)"),
    Flag("health-start-period", "", "duration",
         "Start period for the container to initialize before starting health-retries countdown (ms|s|m|h) (default 0s)"),
    Flag("health-timeout", "", "duration", "Maximum time to allow one check to run (ms|s|m|h) (default 0s)"),
    Flag("hostname", "h", "string", "Container host name"),
    Flag("init", "", "bool", "Run an init inside the container that forwards signals and reaps processes"),
    Flag("interactive", "i", "bool", "Keep STDIN open even if not attached"),
    Flag("ipc", "", "string", "IPC mode to use"),
    Flag("label", "l", "list", "Set meta data on a container"),
    Flag("label-file", "", "list", "Read in a line delimited file of labels"),
    Flag("lifetime", "", "string", "'detached' outlives this command, 'process' dies with it", "detached"),
    Flag("log-driver", "", "string", "Logging driver for the container (json-file, the one there is)"),
    Flag("memory", "m", "bytes", "Memory limit"),
    Flag("memory-reservation", "", "bytes", "Memory soft limit"),
    Flag("memory-swap", "", "bytes", "Swap limit equal to memory plus swap: '-1' to enable unlimited swap"),
    Flag("mount", "", "mount", "Attach a filesystem mount to the container"),
    Flag("name", "", "string", "Assign a name to the container"),
    Flag("net", "", "string", ""),
    Flag("network", "", "network", "Connect a container to a network"),
    Flag("no-healthcheck", "", "bool", "Disable any container-specified HEALTHCHECK"),
    Flag("oom-kill-disable", "", "bool", "Disable OOM Killer"),
    Flag("oom-score-adj", "", "int", "Tune host's OOM preferences (-1000 to 1000)"),
    Flag("pid", "", "string", "PID namespace to use"),
    Flag("pids-limit", "", "int", "Tune container pids limit (set -1 for unlimited)"),
    Flag("privileged", "", "bool", "Give extended privileges to this container"),
    Flag("publish", "p", "list", "Publish a container's port(s) to the host"),
    Flag("publish-all", "P", "bool", "Publish all exposed ports to random ports"),
    Flag("pull", "", "string", 'Pull image before running ("always", "missing", "never")', "missing"),
    Flag("quiet", "q", "bool", "Suppress the pull output"),
    Flag("read-only", "", "bool", "Mount the container's root filesystem as read only"),
    Flag("restart", "", "string", "Restart policy to apply when a container exits", "no"),
    Flag("rm", "", "bool", "Automatically remove the container and its associated anonymous volumes when it exits"),
    Flag("security-opt", "", "list", "Security Options"),
    Flag("shm-size", "", "bytes", "Size of /dev/shm"),
    Flag("stop-signal", "", "string", "Signal to stop the container"),
    Flag("stop-timeout", "", "int", "Timeout (in seconds) to stop a container"),
    Flag("sysctl", "", "map", "Sysctl options (default map[])"),
    Flag("tmpfs", "", "list", "Mount a tmpfs directory"),
    Flag("tty", "t", "bool", "Allocate a pseudo-TTY"),
    Flag("ulimit", "", "ulimit", "Ulimit options (default [])"),
    Flag("user", "u", "string", "Username or UID (format: <name|uid>[:<group|gid>])"),
    Flag("uts", "", "string", "UTS namespace to use"),
    Flag("volume", "v", "list", "Bind mount a volume"),
    Flag("workdir", "w", "string", "Working directory inside the container"),
)

#: Docker's flags that have no option of ours: they are refused, never ignored. Name: value's kind.
UNSUPPORTED = {
    "annotation": "map", "blkio-weight-device": "list", "cgroup-parent": "string", "cpu-rt-period": "int",
    "cpu-rt-runtime": "int", "device-read-bps": "list", "device-read-iops": "list", "device-write-bps": "list",
    "device-write-iops": "list", "gpus": "list", "ip": "string", "ip6": "string", "isolation": "string",
    "kernel-memory": "bytes", "link": "list", "link-local-ip": "list", "log-opt": "list", "mac-address": "string",
    "memory-swappiness": "int", "network-alias": "list", "platform": "string", "runtime": "string",
    "storage-opt": "list", "use-api-socket": "bool", "userns": "string", "volume-driver": "string",
    "volumes-from": "list",
}
ALL_FLAGS = FLAGS + tuple(Flag(name, "", kind, "") for name, kind in UNSUPPORTED.items())

#: Field of `ContainerSpec`: the flag whose value it takes as it is.
PLAIN = {
    "name": "name", "hostname": "hostname", "domainname": "domainname", "user": "user", "group_add": "group-add",
    "workdir": "workdir", "tty": "tty", "stdin_open": "interactive", "init": "init", "auto_remove": "rm",
    "lifetime": "lifetime", "restart": "restart", "stop_signal": "stop-signal", "stop_timeout": "stop-timeout",
    "publish_all": "publish-all", "dns": "dns", "dns_search": "dns-search", "memory": "memory",
    "memory_swap": "memory-swap", "memory_reservation": "memory-reservation", "cpus": "cpus",
    "cpu_shares": "cpu-shares", "cpu_period": "cpu-period", "cpu_quota": "cpu-quota", "cpuset_cpus": "cpuset-cpus",
    "cpuset_mems": "cpuset-mems", "pids_limit": "pids-limit", "blkio_weight": "blkio-weight",
    "oom_kill_disable": "oom-kill-disable", "oom_score_adj": "oom-score-adj", "shm_size": "shm-size",
    "cap_add": "cap-add", "cap_drop": "cap-drop", "privileged": "privileged", "security_opt": "security-opt",
    "read_only": "read-only", "devices": "device", "device_cgroup_rules": "device-cgroup-rule", "pid": "pid",
    "ipc": "ipc", "uts": "uts", "cgroupns": "cgroupns", "ulimits": "ulimit", "sysctls": "sysctl",
}
#: Field: the flags that it is computed from.
COMPUTED = {
    "entrypoint": ("entrypoint",),
    "environment": ("env", "env-file"),
    "labels": ("label", "label-file"),
    "healthcheck": ("health-cmd", "health-interval", "health-retries", "health-start-interval", "health-start-period",
                    "health-timeout", "no-healthcheck"),
    "volumes": ("volume", "mount", "tmpfs"),
    "network": ("network", "net"),
    "ports": ("publish", "expose"),
    "extra_hosts": ("add-host",),
    "dns_options": ("dns-option", "dns-opt"),
    "stdin_once": ("interactive",),
}
#: Field: why no flag sets it.
ARGUMENTS = {"image": "the first argument", "image_id": "its image", "command": "the arguments after the image"}


def read_environment(values: Iterable[str], files: Iterable[str]) -> dict[str, str]:
    """Return variables of `--env-file`s and `-e`s; one without `=` is taken from this process, if it is set there.

    Raises `InvalidSpec`, or `OSError` for a file that can't be read.
    """
    lines = []
    for file in files:
        with open(file, encoding="utf-8-sig") as opened:
            for number, line in enumerate(opened.read().splitlines(), 1):
                text = line.lstrip()
                if not text or text.startswith("#"):
                    continue
                name = text.partition("=")[0]
                if not name or any(c.isspace() for c in name):
                    raise InvalidSpec(f"invalid env file ({file}), line {number}: variable '{name}' contains whitespaces")
                lines.append(text)
    result = {}
    for text in (*lines, *values):
        name, equals, value = text.partition("=")
        if not name:
            raise InvalidSpec(f"invalid environment variable: {text}")
        if equals:
            result[name] = value
        elif name in os.environ:
            result[name] = os.environ[name]
    return result


def _labels(options: Options) -> dict[str, str]:
    texts: list[str] = []
    for file in options.label_file:
        with open(file, encoding="utf-8-sig") as opened:
            texts += [t for t in (line.strip() for line in opened.read().splitlines()) if t and not t.startswith("#")]
    return {name: value for name, _, value in (text.partition("=") for text in (*texts, *options.label))}


def _health(options: Options, image: Any) -> Any:
    from attrs import evolve

    from pycontainers.spec import HealthCheck

    names = {"interval": options.health_interval, "timeout": options.health_timeout, "retries": options.health_retries,
             "start_period": options.health_start_period, "start_interval": options.health_start_interval}
    given = {name: value for name, value in names.items() if value}
    if options.no_healthcheck:
        if given or options.health_cmd:
            raise InvalidSpec("--no-healthcheck conflicts with --health-* options")
        return HealthCheck(test=("NONE",))
    for name, value in given.items():
        if value < 0:
            raise InvalidSpec(f"--health-{name.replace('_', '-')} cannot be negative")
    if options.health_cmd:
        return HealthCheck(test=("CMD-SHELL", options.health_cmd), **given)
    if given and image.healthcheck is not None:
        return evolve(image.healthcheck, **given)
    return None


def parse_mount(text: str) -> Any:
    """Return the mount of `--mount type=bind,source=...,target=...`. Raises `InvalidSpec`."""
    import csv

    from pycontainers.spec import Mount
    from pycontainers.spec import parse_size

    values: dict[str, Any] = {"type": "volume"}
    source_given = False
    for item in next(csv.reader([text]), []):
        name, equals, value = item.partition("=")
        name = name.strip().lower()
        if name in ("readonly", "ro"):
            if equals and value not in ("true", "1", "false", "0"):
                raise InvalidSpec(f"invalid value for {name}: {value}")
            values["read_only"] = value in ("", "true", "1")
        elif not equals:
            raise InvalidSpec(f"invalid field '{item}' must be a key=value pair")
        elif name == "type":
            values["type"] = value.lower()
        elif name in ("source", "src"):
            source_given, values["source"] = True, value
        elif name in ("target", "dst", "destination"):
            values["target"] = value
        elif name == "bind-propagation":
            values["propagation"] = value
        elif name == "tmpfs-size":
            values["size"] = parse_size(value, "tmpfs-size")
        elif name == "tmpfs-mode":
            try:
                values["mode"] = int(value, 8)
            except ValueError:
                raise InvalidSpec(f"invalid value for tmpfs-mode: {value}") from None
        elif name in ("consistency", "volume-nocopy"):
            continue
        else:
            raise InvalidSpec(f"unexpected key '{name}' in '{item}'")
    if "target" not in values:
        raise InvalidSpec("invalid argument for --mount: target is required")
    if values["type"] == "bind":
        if not source_given:
            raise InvalidSpec("invalid argument for --mount: a bind mount needs a source")
        values["source"] = os.path.abspath(values["source"])
    if values["type"] != "tmpfs" and ("size" in values or "mode" in values):
        raise InvalidSpec(f"cannot mix 'tmpfs-*' options with mount type '{values['type']}'")
    return Mount(**values)


def _volumes(options: Options) -> list[Any]:
    from pycontainers.dockerapi import parse_tmpfs
    from pycontainers.spec import Mount

    result = []
    for text in options.volume:
        # Docker's client makes `.` and `./x` absolute; the shell did it for `~`.
        source, colon, rest = text.partition(":")
        if colon and (source in (".", "..") or source.startswith(("./", "../"))):
            text = f"{os.path.abspath(source)}:{rest}"
        result.append(Mount.parse(text))
    result += [parse_mount(text) for text in options.mount]
    result += [parse_tmpfs(*text.partition(":")[::2]) for text in options.tmpfs]
    return result


def _range(text: str, whole: str) -> range:
    first, dash, last = text.partition("-")
    last = last if dash else first
    if not (first.isdigit() and last.isdigit() and 0 < int(first) <= int(last) < 65536):
        raise InvalidSpec(f"invalid port specification: {whole!r}")
    return range(int(first), int(last) + 1)


def parse_publish(text: str) -> list[Any]:
    """Return the ports of `-p [[IP:][HOST]:]CONTAINER[/PROTOCOL]`, ranges included; on all addresses unless one is said.

    Raises `InvalidSpec`.
    """
    from pycontainers.spec import Port

    body, _, protocol = text.partition("/")
    address, _, pair = body.rpartition(":") if body.count(":") <= 1 else ("", "", "")
    if body.count(":") > 1:
        host_side, _, inside = body.rpartition(":")
        ip, _, outside = host_side.rpartition(":")
    else:
        ip, outside, inside = "", address, pair or body
    if protocol not in ("", "tcp", "udp", "sctp"):
        raise InvalidSpec(f"invalid proto: {protocol}")
    inner = _range(inside, text)
    outer: list[int] = [0] * len(inner) if not outside else [*_range(outside, text)]
    if len(outer) != len(inner):
        raise InvalidSpec(f"invalid ranges specified for container and host Ports: {inside} and {outside}")
    return [Port(container_port=c, protocol=protocol or "tcp", host_port=h, host_ip=ip.strip("[]") or "0.0.0.0")
            for c, h in zip(inner, outer, strict=False)]


def _ports(options: Options) -> list[Any]:
    from pycontainers.spec import Port

    result = [port for text in options.publish for port in parse_publish(text)]
    for text in options.expose:
        if ":" in text:
            raise InvalidSpec(f"invalid port format for --expose: {text}")
        numbers, _, protocol = text.partition("/")
        for number in _range(numbers, text):
            port = Port(container_port=number, protocol=protocol or "tcp")
            if not any((p.container_port, p.protocol) == (number, port.protocol) for p in result):
                result.append(port)
    return result


def _hosts(options: Options) -> dict[str, str]:
    result = {}
    for text in options.add_host:
        name, sign, address = text.partition("=") if "=" in text.partition(":")[0] else text.partition(":")
        if not name or not sign or not address:
            raise InvalidSpec(f'bad format for add-host: "{text}"')
        result[name] = address.strip("[]")
    return result


def check(options: Options) -> None:
    """Refuse what isn't there yet, and what contradicts itself. Raises `Unsupported`, `InvalidSpec`."""
    for name in UNSUPPORTED:
        if name in options.given:
            raise Unsupported(f"--{name} is not supported")
    if options.log_driver not in (None, "json-file"):
        raise Unsupported(f"--log-driver={options.log_driver} is not supported: the log is kept as json-file keeps it")
    if options.pull not in ("always", "missing", "never", ""):
        raise InvalidSpec(f"invalid pull option: '{options.pull}': must be one of \"always\", \"missing\" or \"never\"")
    if options.rm and options.restart not in ("no", ""):
        raise InvalidSpec("conflicting options: cannot specify both --restart and --rm")
    for stream in options.attach:
        if stream.lower() not in ("stdin", "stdout", "stderr"):
            raise UsageError(f'invalid argument "{stream}" for "-a, --attach" flag: valid streams are STDIN, STDOUT and '
                             f'STDERR', None, 125)


def container_spec(options: Options, image: Any, *, detach: bool) -> Any:
    """Return the spec that the flags and arguments ask for; `image` is the image's `ImageConfig`.

    Raises `InvalidSpec`, `Unsupported`.
    """
    from pycontainers.spec import ContainerSpec

    check(options)
    values: dict[str, Any] = {field: getattr(options, flag.replace("-", "_")) for field, flag in PLAIN.items()}
    # What wasn't given is left to the spec's own default.
    values = {field: value for field, value in values.items() if value is not None}
    reference, *command = options.args
    values.update(
        image=reference,
        command=command or None,
        entrypoint=None if options.entrypoint is None else (options.entrypoint,) if options.entrypoint else (),
        environment=read_environment(options.env, options.env_file),
        labels=_labels(options),
        healthcheck=_health(options, image),
        volumes=_volumes(options),
        network=options.network or options.net or "default",
        ports=_ports(options),
        extra_hosts=_hosts(options),
        dns_options=[*options.dns_option, *options.dns_opt],
        stdin_once=options.interactive and not detach,
    )
    return ContainerSpec(**values)
