"""Docker's JSON: compared with what Docker Engine 20.10 wrote for the same containers and images (tests/data)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from pycontainers import dockerapi
from pycontainers.backend import ContainerRecord
from pycontainers.backend import ContainerState
from pycontainers.backend import Event
from pycontainers.backend import Health
from pycontainers.backend import HealthResult
from pycontainers.backend import ImageRecord
from pycontainers.backend import LayerRecord
from pycontainers.backend import Status
from pycontainers.errors import InvalidSpec
from pycontainers.spec import ContainerSpec
from pycontainers.spec import HealthCheck
from pycontainers.spec import ImageConfig
from pycontainers.spec import Mount

DATA = Path(__file__).parent / "data"

#: What depends on the machine or the engine rather than on what was asked for.
MACHINE = {"ResolvConfPath", "HostnamePath", "HostsPath", "LogPath", "GraphDriver", "NetworkSettings", "Runtime",
           "CgroupnsMode", "State", "AttachStdout", "AttachStderr", "Propagation"}


def docker(name: str) -> dict[str, Any]:
    """Return the object that Docker wrote."""
    return json.loads((DATA / f"{name}.json").read_text())[0]  # type: ignore[no-any-return]


def plain(value: Any) -> Any:
    """Return the value without what depends on the machine."""
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items() if k not in MACHINE}
    return [plain(v) for v in value] if isinstance(value, list) else value


def record(body: dict[str, Any]) -> ContainerRecord:
    """Return the record of the container that Docker describes."""
    spec = dockerapi.parse_container({**body["Config"], "HostConfig": body["HostConfig"]}, body["Name"])
    spec = evolve(spec, hostname=None if spec.hostname == body["Id"][:12] else spec.hostname)
    return ContainerRecord(id=body["Id"], name=body["Name"][1:], spec=spec, image_id=body["Image"],
                           created=1795542126.715597747, state=ContainerState())


@pytest.mark.parametrize("name", ["docker_container", "docker_container_healthy"])
def test_container_is_written_as_docker_writes_it(name: str) -> None:
    """Docker's inspect, read as a spec and written again, is Docker's inspect."""
    expected = docker(name)

    written = json.loads(json.dumps(dockerapi.container_json(record(expected))))

    assert plain({**expected, "Created": ""}) == plain({**written, "Created": ""})
    assert list(expected) == list(written)
    assert list(expected["HostConfig"]) == list(written["HostConfig"])
    assert list(expected["Config"]) == list(written["Config"])
    assert sorted(expected["NetworkSettings"]) == sorted(written["NetworkSettings"])


def test_state_has_dockers_keys_and_health() -> None:
    """State and health are Docker's, times in RFC 3339 with nanoseconds."""
    expected = docker("docker_container_healthy")["State"]
    health = Health(status="healthy", log=(HealthResult(start=1795542176.88, end=1795542176.9, exit_code=0, output=""),))
    state = ContainerState(status=Status.RUNNING, pid=9013, started_at=1795542175.5, health=health)

    written: Any = dockerapi.container_json(evolve(record(docker("docker_container")), state=state))["State"]

    assert list(expected) == list(written)
    assert list(expected["Health"]) == list(written["Health"])
    assert list(expected["Health"]["Log"][0]) == list(written["Health"]["Log"][0])
    assert ("2026-11-24T17:42:55.5Z", "0001-01-01T00:00:00Z") == (written["StartedAt"], written["FinishedAt"])
    assert (True, False, "running") == (written["Running"], written["Paused"], written["Status"])


def test_image_is_written_as_docker_writes_it() -> None:
    """An image's config, layers and references are Docker's."""
    expected = docker("docker_image")
    check = HealthCheck(test=("CMD-SHELL", "true"), interval=3)
    config = ImageConfig(command=("sh",), entrypoint=("a", "b"), environment={"P": "q"}, labels={"c": "d", "a": "b"},
                         workdir="/x", user="root", exposed_ports=("80/tcp",), volumes=("/data",), healthcheck=check,
                         architecture="amd64")
    layer = LayerRecord(diff_id=expected["RootFS"]["Layers"][0], comment=expected["Comment"])
    image = ImageRecord(id=expected["Id"], tags=("docker.io/library/full:1",), size=expected["Size"], config=config,
                        layers=(layer, LayerRecord(diff_id="", empty=True, comment=expected["Comment"])))

    written = json.loads(json.dumps(dockerapi.image_json(image)))

    gone = {"Container", "ContainerConfig", "VirtualSize"}  # no longer in Docker's API since 1.45
    assert [k for k in expected if k not in gone] == list(written)
    for key in ("Id", "RepoTags", "RepoDigests", "Comment", "Config", "Architecture", "Os", "Size", "RootFS"):
        assert expected[key] == written[key]
    assert list(expected["Config"]) == list(written["Config"])


def test_every_option_survives() -> None:
    """A spec written as Docker's JSON and read again is the same spec."""
    spec = ContainerSpec(
        image="debian", command=("a", "b"), entrypoint=("c",), name="name", hostname="h", domainname="d", user="1:2",
        group_add=("5",), workdir="/w", environment={"A": "b"}, labels={"l": "m"}, tty=True, stdin_open=True,
        stdin_once=True, init=True, auto_remove=True, healthcheck=HealthCheck(test=("CMD", "x"), retries=7, timeout=2),
        stop_signal="INT", stop_timeout=3, network="host", publish_all=True, extra_hosts={"a": "1.2.3.4"},
        volumes=(Mount.parse("/a:/b:ro"), Mount.parse("vol:/c"), Mount(type="bind", source="/x", target="/y"),
                 Mount(type="tmpfs", target="/t", size=1024, mode=0o700),
                 dockerapi.parse_tmpfs("/u", "noexec,size=4m"), Mount.parse("/anonymous")),
        ports={80: 8080, 81: None, "53/udp": ("127.0.0.1", 53)}, dns=("1.1.1.1",), dns_search=("s",), dns_options=("o",),
        memory="64m", memory_swap="128m", memory_reservation="32m", cpus=1.5, cpu_shares=2, cpu_period=3, cpu_quota=4,
        cpuset_cpus="0", cpuset_mems="0", pids_limit=5, blkio_weight=10, oom_kill_disable=True, oom_score_adj=6,
        shm_size="1m", ulimits={"nofile": (1, 2)}, cap_add=("CAP_NET_ADMIN",), cap_drop=("ALL",), privileged=True,
        security_opt=("no-new-privileges",), read_only=True, devices=("/dev/null:/dev/n:r",),
        device_cgroup_rules=("c 1:3 r",), sysctls={"a.b": "1"}, pid="host", ipc="host", uts="host", cgroupns="host")
    written: Any = dockerapi.container_json(
        ContainerRecord(id="a" * 64, name="name", spec=spec, image_id="", created=0, state=ContainerState()))

    read = dockerapi.parse_container({**written["Config"], "HostConfig": written["HostConfig"]}, written["Name"])

    assert {m.target: m for m in read.volumes} == {m.target: m for m in spec.volumes}
    ports = {(p.container_port, p.protocol): p for p in read.ports}
    assert ports == {(p.container_port, p.protocol): p for p in spec.ports}
    assert evolve(spec, volumes=(), ports=()) == evolve(read, volumes=(), ports=())


@pytest.mark.parametrize("body", [{"HostConfig": {"Binds": ["a:b:c:d"]}}, {"ExposedPorts": {"http": {}}},
                                  {"HostConfig": {"PortBindings": {"80/tcp": [{"HostPort": "x"}]}}},
                                  {"HostConfig": {"Tmpfs": {"/t": "mode=9"}}}])
def test_nonsense_is_refused(body: dict[str, Any]) -> None:
    """What can't be read is an InvalidSpec, never half a container."""
    with pytest.raises(InvalidSpec):
        dockerapi.parse_container(body)


def test_event_is_written_as_docker_writes_it() -> None:
    """A container's event has the old and the new keys of Docker's stream."""
    event = Event(time=1795542193977137268, type="container", action="die", id="b90",
                  attributes=(("name", "hc"), ("image", "busybox:1"), ("exitCode", "137")))

    assert ('{"status": "die", "id": "b90", "from": "busybox:1", "Type": "container", "Action": "die", "Actor": {"ID": '
            '"b90", "Attributes": {"exitCode": "137", "image": "busybox:1", "name": "hc"}}, "scope": "local", "time": '
            '1795542193, "timeNano": 1795542193977137268}') == json.dumps(dockerapi.event_json(event))
