"""Waiting until a container is ready; its health; its events."""

from __future__ import annotations

import threading
import time

import pytest

from pycontainers import Container
from pycontainers import Engine
from pycontainers import HealthCheck
from pycontainers import exited
from pycontainers import healthy
from pycontainers import http
from pycontainers import log
from pycontainers import port
from pycontainers.backend import Capability
from pycontainers.errors import InvalidSpec
from pycontainers.errors import InvalidState
from pycontainers.errors import InvalidType
from pycontainers.errors import TimedOut
from pycontainers.errors import WaitFailed

SERVER = "sleep 0.2; nc -l -p 8080 -e sh -c 'printf \"HTTP/1.0 200 OK\\r\\n\\r\\nhello\"'"


def test_log_condition(box: type[Container]) -> None:
    """`log` is true the moment a line matches, whenever it was written."""
    container = box("sh", "-c", "echo begin; sleep 0.3; echo listening on 80 >&2; sleep 300", init=True)
    container.start()

    assert container.wait_for(log(r"listening on \d+"), 20) is container
    container.wait_for(log("begin"), 20)
    with pytest.raises(TimedOut):
        container.wait_for(log("listening", stream="stdout"), 0.2)


def test_log_condition_without_newline(box: type[Container]) -> None:
    """A prompt, which has no newline, is seen too."""
    with box("sh", "-c", "printf 'login: '; sleep 300", init=True) as container:
        container.wait_for(log("login: $"), 20)


def test_log_condition_before_the_start(box: type[Container]) -> None:
    """Waiting can begin before the container does."""
    container = box("sh", "-c", "echo ready; sleep 300", init=True)
    timer = threading.Timer(0.2, container.start)
    timer.start()

    container.wait_for(log("ready"), 20)
    timer.join()


def test_log_of_an_ended_container(box: type[Container]) -> None:
    """What an ended container wrote counts; what it didn't fails at once."""
    container = box("echo", "once")
    container.start()
    container.wait(20)

    container.wait_for(log("once"), 20)
    with pytest.raises(WaitFailed):
        container.wait_for(log("twice"), 20)


@pytest.mark.parametrize("condition", [log("never"), port(1), lambda c: False], ids=["log", "port", "function"])
def test_end_fails_at_once(box: type[Container], condition: object) -> None:
    """When the container ends first, the wait fails at once, with exit code and the end of the log."""
    container = box("sh", "-c", "echo why it failed >&2; sleep 0.2; exit 3")
    container.start()
    began = time.monotonic()

    with pytest.raises(WaitFailed, match="why it failed") as caught:
        container.wait_for(condition, 30)  # type: ignore[arg-type]

    assert time.monotonic() - began < 10
    assert caught.value.exit_code == 3
    assert caught.value.log_tail == "why it failed\n"


@pytest.mark.parametrize("condition", [log("never"), port(1), lambda c: False, exited()],
                         ids=["log", "port", "function", "exited"])
def test_deadline(running: Container, condition: object) -> None:
    """A deadline raises `TimedOut`, and the container goes on."""
    began = time.monotonic()

    with pytest.raises(TimedOut):
        running.wait_for(condition, 0.3)  # type: ignore[arg-type]

    assert 0.25 < time.monotonic() - began < 5
    assert running.status == "running"


def test_exited_condition(box: type[Container]) -> None:
    """`exited` waits for the end, and for the right exit code if one is named."""
    container = box("sh", "-c", "sleep 0.2; exit 3")
    container.start()

    container.wait_for(exited(), 20)
    container.wait_for(exited(3), 20)
    with pytest.raises(WaitFailed) as caught:
        container.wait_for(exited(0), 20)
    assert caught.value.exit_code == 3


def test_function_condition(box: type[Container]) -> None:
    """Any function of the container is a condition."""
    container = box("sh", "-c", "sleep 0.2; echo x > /tmp/ready; sleep 300", init=True)
    container.start()

    container.wait_for(lambda c: c.exec("test", "-e", "/tmp/ready").returncode == 0, 20)
    with pytest.raises(InvalidType):
        container.wait_for("ready")  # type: ignore[arg-type]
    with pytest.raises(ZeroDivisionError):
        container.wait_for(lambda c: 1 / 0, 20)


def test_bad_conditions() -> None:
    """A condition that makes no sense is refused when it is made."""
    with pytest.raises(InvalidSpec):
        log("(")
    with pytest.raises(InvalidSpec):
        port(0)
    with pytest.raises(InvalidType):
        port("80")  # type: ignore[arg-type]
    with pytest.raises(InvalidSpec):
        http("no-slash")


def test_port_condition(box: type[Container]) -> None:
    """`port` is true once somebody listens inside the container's own network."""
    with box("sh", "-c", "sleep 0.2; nc -l -p 8080", init=True) as container:
        began = time.monotonic()
        container.wait_for(port(8080), 20)
        assert time.monotonic() - began > 0.1
        with pytest.raises(TimedOut):
            container.wait_for(port(8081), 0.1)


@pytest.mark.needs(Capability.CONNECT)
def test_connect(box: type[Container]) -> None:
    """`connect` gives a socket inside the container's network, with no port published."""
    with box("sh", "-c", "echo hello | nc -l -p 9000", init=True) as container:
        with pytest.raises(ConnectionRefusedError):
            container.connect(9001)
        container.wait_for(port(9000), 20)
        with container.connect(9000) as connected:
            connected.settimeout(10)
            assert connected.recv(100) == b"hello\n"


@pytest.mark.needs(Capability.CONNECT)
def test_http_condition(box: type[Container]) -> None:
    """`http` is true once a GET is answered."""
    with box("sh", "-c", "sleep 0.2; while true; do printf 'HTTP/1.0 200 OK\\r\\n\\r\\nhi' | nc -l -p 8080; done",
             init=True) as container:
        container.wait_for(http("/", port=8080), 20)


# -- health --------------------------------------------------------------------------------------------------------------


@pytest.mark.needs(Capability.HEALTH)
def test_health(box: type[Container]) -> None:
    """A health check is run by itself: starting, then healthy, then unhealthy when it fails often enough."""
    check = HealthCheck(test=("CMD-SHELL", "echo checked; test -e /tmp/good"), interval=0.1, retries=2, timeout=5)
    container = box("sh", "-c", "sleep 300", init=True, healthcheck=check)
    assert container.health is None or container.health.status == "starting"
    container.start()
    assert container.health is not None
    assert container.health.status in ("starting", "unhealthy")

    container.exec("touch", "/tmp/good", check=True)
    container.wait_for(healthy(), 20)
    assert container.health.log[-1].exit_code == 0
    assert container.health.log[-1].output == "checked\n"
    assert container.health.failing_streak == 0

    container.exec("rm", "/tmp/good", check=True)
    container.wait_for(lambda c: c.health is not None and c.health.status == "unhealthy", 20)
    assert container.health.failing_streak >= 2
    assert Container.list(filters={"health": "unhealthy"}) == [container]


@pytest.mark.needs(Capability.HEALTH)
def test_health_check_that_hangs(box: type[Container]) -> None:
    """A check that takes too long has failed, and is killed."""
    check = HealthCheck(test=("CMD", "sleep", "283"), interval=0.05, timeout=0.2, retries=1)
    with box("sleep", "300", init=True, healthcheck=check) as container:
        container.wait_for(lambda c: c.health is not None and c.health.status == "unhealthy", 20)


def test_healthy_needs_a_check(running: Container) -> None:
    """Without a health check there is nothing to wait for."""
    with pytest.raises(InvalidState):
        running.wait_for(healthy(), 5)
    assert running.health is None


# -- events --------------------------------------------------------------------------------------------------------------


def test_events_tell_a_life(box: type[Container], engine: Engine) -> None:
    """What happens to a container is told, in order, by Docker's names."""
    before = time.time()
    container = box("sh", "-c", "exit 3", name="told", labels={"k": "v"})
    container.start()
    container.wait(20)
    container.remove()

    events = [e for e in engine.events(since=before - 0.001, follow=False) if e.id == container.id]
    assert [e.action for e in events] == ["create", "start", "die", "destroy"]
    assert dict(events[2].attributes)["exitCode"] == "3"
    assert dict(events[0].attributes)["name"] == "told"
    assert dict(events[0].attributes)["k"] == "v"
    assert all(e.type == "container" for e in events)
    assert [e.time for e in events] == sorted(e.time for e in events)


def test_events_are_followed(box: type[Container], engine: Engine) -> None:
    """Events are told as they happen, until `until`; filters narrow them."""
    threading.Timer(0.2, lambda: box("true", name="later", engine=engine)).start()

    events = list(engine.events(until=time.time() + 1.0, filters={"event": "create", "type": "container"}))

    assert [dict(e.attributes)["name"] for e in events] == ["later"]
    with pytest.raises(InvalidSpec, match="colour"):
        engine.events(filters={"colour": "red"})
