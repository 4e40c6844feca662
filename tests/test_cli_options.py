"""The flags of run and create: every option of a container can be asked for, and means what it means to Docker."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from attrs import fields

from pycontainers.cli import lifecycle
from pycontainers.cli import options as cli_options
from pycontainers.cli.run import CREATE
from pycontainers.cli.run import RUN
from pycontainers.errors import InvalidSpec
from pycontainers.errors import Unsupported
from pycontainers.spec import ContainerSpec
from pycontainers.spec import ContainerUpdate
from pycontainers.spec import Device
from pycontainers.spec import HealthCheck
from pycontainers.spec import ImageConfig
from pycontainers.spec import Mount
from pycontainers.spec import Port
from pycontainers.spec import RestartPolicy
from pycontainers.spec import Ulimit


def spec(*argv: str, image: ImageConfig | None = None, detach: bool = False) -> ContainerSpec:
    """Return the spec that `run` makes of a command line."""
    CREATE.path = "create"
    options = CREATE.parse([*argv, "debian", "true"])
    made: ContainerSpec = cli_options.container_spec(options, image or ImageConfig(), detach=detach)
    return made


def test_every_option_has_a_flag() -> None:
    """A field of `ContainerSpec` is set by a flag, computed from flags, or an argument; there is no other kind."""
    known = {*cli_options.PLAIN, *cli_options.COMPUTED, *cli_options.ARGUMENTS}
    flags = {f.name for f in cli_options.FLAGS}

    assert {f.name for f in fields(ContainerSpec)} == known
    assert {*cli_options.PLAIN.values(), *(f for fs in cli_options.COMPUTED.values() for f in fs)} <= flags
    assert not flags & cli_options.UNSUPPORTED.keys()


def test_every_change_has_a_flag() -> None:
    """`update` reaches every field of `ContainerUpdate` but those with a command of their own."""
    own = {"name": "rename", "paused": "pause, unpause", "lifetime": "the API's with block and start()"}

    assert {f.name for f in fields(ContainerUpdate)} - own.keys() == {*lifecycle.UPDATES.values()}
    assert {f.name for f in lifecycle.UPDATE.flags} == {*lifecycle.UPDATES}


#: Flags as Docker's client lists them (`docker run --help`, 28.2).
DOCKER = set("""add-host annotation attach blkio-weight blkio-weight-device cap-add cap-drop cgroup-parent cgroupns cidfile
cpu-period cpu-quota cpu-rt-period cpu-rt-runtime cpu-shares cpus cpuset-cpus cpuset-mems detach detach-keys device
device-cgroup-rule device-read-bps device-read-iops device-write-bps device-write-iops disable-content-trust dns dns-option
dns-search domainname entrypoint env env-file expose gpus group-add health-cmd health-interval health-retries
health-start-interval health-start-period health-timeout hostname init interactive ip ip6 ipc isolation kernel-memory label
label-file link link-local-ip log-driver log-opt mac-address memory memory-reservation memory-swap memory-swappiness mount
name network network-alias no-healthcheck oom-kill-disable oom-score-adj pid pids-limit platform privileged publish
publish-all pull quiet read-only restart rm runtime security-opt shm-size sig-proxy stop-signal stop-timeout storage-opt
sysctl tmpfs tty ulimit use-api-socket user userns uts volume volume-driver volumes-from workdir""".split())


def test_every_flag_of_docker_is_known() -> None:
    """Whatever `docker run` takes is taken or refused by name; none is an unknown flag."""
    own = {f.name for f in RUN.flags}

    assert DOCKER <= own
    assert {"lifetime", "net", "dns-opt"} == own - DOCKER


@pytest.mark.parametrize("name", sorted(cli_options.UNSUPPORTED))
def test_what_is_not_supported_is_refused(name: str) -> None:
    """A flag without an option of ours is refused, never ignored."""
    kind = cli_options.UNSUPPORTED[name]
    value = {"bool": "true", "int": "1", "bytes": "1m"}.get(kind, "x")

    with pytest.raises(Unsupported, match=f"--{name} is not supported"):
        spec(f"--{name}={value}")


@pytest.mark.parametrize(("argv", "field", "expected"), [
    ([], "command", ("true",)),
    ([], "image", "debian"),
    ([], "lifetime", "detached"),
    ([], "network", "default"),
    (["--name", "web"], "name", "web"),
    (["-h", "host"], "hostname", "host"),
    (["--domainname", "d"], "domainname", "d"),
    (["-u", "1:2"], "user", "1:2"),
    (["--group-add", "5", "--group-add", "x"], "group_add", ("5", "x")),
    (["-w", "/w"], "workdir", "/w"),
    (["-e", "A=b=c", "-e", "E="], "environment", (("A", "b=c"), ("E", ""))),
    (["-l", "a=b", "--label", "c"], "labels", (("a", "b"), ("c", ""))),
    (["-t"], "tty", True),
    (["-i"], "stdin_open", True),
    (["-i"], "stdin_once", True),
    (["--init"], "init", True),
    (["--rm"], "auto_remove", True),
    (["--lifetime=process"], "lifetime", "process"),
    (["--restart", "on-failure:3"], "restart", RestartPolicy("on-failure", 3)),
    (["--entrypoint", "x"], "entrypoint", ("x",)),
    (["--entrypoint", ""], "entrypoint", ()),
    (["--health-cmd", "true", "--health-interval", "1s", "--health-retries", "2"], "healthcheck",
     HealthCheck(test=("CMD-SHELL", "true"), interval=1, retries=2)),
    (["--no-healthcheck"], "healthcheck", HealthCheck(test=("NONE",))),
    (["--stop-signal", "INT"], "stop_signal", "INT"),
    (["--stop-timeout", "3"], "stop_timeout", 3),
    (["-v", "/a:/b:ro"], "volumes", (Mount.parse("/a:/b:ro"),)),
    (["-v", "./a:/b"], "volumes", (Mount.parse(f"{os.getcwd()}/a:/b"),)),
    (["-v", "logs:/b"], "volumes", (Mount.parse("logs:/b"),)),
    (["--mount", "type=bind,source=/a,target=/b,readonly"], "volumes",
     (Mount(type="bind", source="/a", target="/b", read_only=True),)),
    (["--mount", "type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=1777"], "volumes",
     (Mount(type="tmpfs", target="/t", size=1024**2, mode=0o1777),)),
    (["--tmpfs", "/t:size=64k,mode=700,noexec"], "volumes",
     (Mount(type="tmpfs", target="/t", size=65536, mode=0o700, options=("noexec",), create=True),)),
    (["--network", "host"], "network", "host"),
    (["--net=none"], "network", "none"),
    (["-p", "8080:80"], "ports", (Port(container_port=80, host_port=8080, host_ip="0.0.0.0"),)),
    (["-p", "80"], "ports", (Port(container_port=80, host_port=0, host_ip="0.0.0.0"),)),
    (["-p", "127.0.0.1:5353:53/udp"], "ports",
     (Port(container_port=53, protocol="udp", host_port=5353, host_ip="127.0.0.1"),)),
    (["-p", "127.0.0.1::53"], "ports", (Port(container_port=53, host_port=0, host_ip="127.0.0.1"),)),
    (["-p", "[::1]:8080:80"], "ports", (Port(container_port=80, host_port=8080, host_ip="::1"),)),
    (["-p", "8000-8001:80-81"], "ports", (Port(container_port=80, host_port=8000, host_ip="0.0.0.0"),
                                         Port(container_port=81, host_port=8001, host_ip="0.0.0.0"))),
    (["--expose", "90-91"], "ports", (Port(container_port=90), Port(container_port=91))),
    (["-P"], "publish_all", True),
    (["--add-host", "a:1.2.3.4", "--add-host", "b=::1"], "extra_hosts", (("a", "1.2.3.4"), ("b", "::1"))),
    (["--dns", "1.1.1.1"], "dns", ("1.1.1.1",)),
    (["--dns-option", "a", "--dns-opt", "b"], "dns_options", ("a", "b")),
    (["-m", "64m"], "memory", 64 * 1024**2),
    (["--memory-swap", "-1"], "memory_swap", -1),
    (["--cpus", "1.5"], "cpus", 1.5),
    (["-c", "512"], "cpu_shares", 512),
    (["--pids-limit", "-1"], "pids_limit", -1),
    (["--ulimit", "nofile=1:2"], "ulimits", (Ulimit(name="nofile", soft=1, hard=2),)),
    (["--cap-add", "NET_ADMIN", "--cap-drop", "ALL"], "cap_drop", ("ALL",)),
    (["--privileged"], "privileged", True),
    (["--security-opt", "no-new-privileges"], "security_opt", ("no-new-privileges",)),
    (["--read-only"], "read_only", True),
    (["--device", "/dev/null:/dev/n:r"], "devices",
     (Device(host_path="/dev/null", container_path="/dev/n", permissions="r"),)),
    (["--sysctl", "a.b=1"], "sysctls", (("a.b", "1"),)),
    (["--pid", "host"], "pid", "host"),
])
def test_flags_mean_options(argv: list[str], field: str, expected: Any) -> None:
    """A flag sets its option."""
    assert expected == getattr(spec(*argv), field)


def test_detached_containers_keep_their_stdin() -> None:
    """`run -d -i` leaves stdin open for later attachers."""
    assert (True, False) == (spec("-i", detach=True).stdin_open, spec("-i", detach=True).stdin_once)


def test_health_flags_change_the_images_check() -> None:
    """`--health-*` without a command changes the image's own check, and does nothing without one."""
    image = ImageConfig(healthcheck=HealthCheck(test=("CMD", "x"), interval=9))

    assert HealthCheck(test=("CMD", "x"), interval=9, retries=7) == spec("--health-retries", "7", image=image).healthcheck
    assert spec("--health-retries", "7").healthcheck is None


def test_environment_comes_from_files_and_from_the_caller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`-e` wins over `--env-file`; a name alone is taken from the caller, and left out if it isn't set there."""
    monkeypatch.setenv("CALLER", "here")
    monkeypatch.delenv("NOWHERE", raising=False)
    file = tmp_path / "env"
    file.write_text("# comment\n\nA=file\nB=two words\nCALLER\nNOWHERE\n")
    labels = tmp_path / "labels"
    labels.write_text("l=m\n# x\nn\n")

    made = spec("--env-file", str(file), "-e", "A=flag", "-e", "NOWHERE", "--label-file", str(labels))

    assert {"A": "flag", "B": "two words", "CALLER": "here"} == dict(made.environment)
    assert {"l": "m", "n": ""} == dict(made.labels)
    file.write_text("bad name=1\n")
    with pytest.raises(InvalidSpec, match="contains whitespaces"):
        spec("--env-file", str(file))


@pytest.mark.parametrize(("argv", "message"), [
    (["--rm", "--restart", "always"], "cannot specify both --restart and --rm"),
    (["-p", "x"], "invalid port specification: 'x'"),
    (["-p", "80-82:1-2"], "invalid ranges"),
    (["-p", "80:80/icmp"], "invalid proto: icmp"),
    (["--expose", "80:80"], "invalid port format for --expose"),
    (["--add-host", "a"], 'bad format for add-host: "a"'),
    (["--mount", "type=bind,target=/b"], "needs a source"),
    (["--mount", "type=bind,source=/a"], "target is required"),
    (["--mount", "type=bind,source=/a,target=/b,tmpfs-size=1m"], "cannot mix"),
    (["--mount", "foo"], "must be a key=value pair"),
    (["--mount", "foo=bar"], "unexpected key 'foo'"),
    (["--mount", "type=tmpfs,target=/t,tmpfs-mode=9"], "invalid value for tmpfs-mode"),
    (["--no-healthcheck", "--health-cmd", "x"], "conflicts with --health"),
    (["--pull", "often"], "invalid pull option"),
    (["-v", "a:b:c:d"], "invalid volume specification"),
    (["-w", "rel"], "needs to be an absolute path"),
    (["-m", "1m"], "Minimum memory limit allowed is 6MB"),
    (["--name", "-"], "Invalid container name"),
    (["-e", "=x"], "invalid environment variable"),
])
def test_nonsense_is_refused(argv: list[str], message: str) -> None:
    """A value that makes no sense is refused, and named."""
    with pytest.raises(InvalidSpec, match=message):
        spec(*argv)
