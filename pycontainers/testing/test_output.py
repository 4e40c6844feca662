"""What a container writes: its log, and attaching to its streams."""

from __future__ import annotations

import datetime
import re
import threading
import time

import pytest

from pycontainers import Container
from pycontainers.backend import STDERR
from pycontainers.backend import STDOUT
from pycontainers.errors import InvalidSpec
from pycontainers.errors import InvalidState
from pycontainers.errors import InvalidType


def ended(box: type[Container], script: str) -> Container:
    """Return a container that ran a script to its end."""
    container = box("sh", "-c", script)
    container.start()
    container.wait(60)
    return container


def test_log_has_every_byte(box: type[Container]) -> None:
    """The log begins with the first byte and keeps a last line without a newline."""
    container = ended(box, "echo first; echo err >&2; printf last")

    assert sorted(container.logs().splitlines()) == ["err", "first", "last"]
    assert container.logs(stream="stdout") == "first\nlast"
    assert container.logs(stream="stderr") == "err\n"
    assert container.logs(stream="stdout", text=False) == b"first\nlast"


def test_log_of_a_megabyte(box: type[Container]) -> None:
    """A long log is whole, and in order."""
    container = ended(box, "seq 1 150000")

    assert container.logs() == "".join(f"{n}\n" for n in range(1, 150001))


def test_log_of_a_created_container(box: type[Container]) -> None:
    """Before its start a container has written nothing."""
    assert box("true").logs() == ""


def test_tail(box: type[Container]) -> None:
    """`tail` gives the last lines alone."""
    container = ended(box, "seq 1 10; printf end")

    assert container.logs(tail=3) == "9\n10\nend"
    assert container.logs(tail=0) == ""
    assert container.logs(tail=100).startswith("1\n2\n")


def test_timestamps_since_until(box: type[Container]) -> None:
    """Each line has its time; `since` and `until` pick by it."""
    container = ended(box, "echo one; sleep 0.5; echo two")
    one, two = container.logs(timestamps=True).splitlines()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z one", one)
    middle = [datetime.datetime.fromisoformat(line[:26] + "+00:00").timestamp() for line in (one, two)]
    between = sum(middle) / 2

    assert middle[1] - middle[0] > 0.3
    assert container.logs(since=between) == "two\n"
    assert container.logs(until=between) == "one\n"
    assert container.logs(since=datetime.datetime.fromtimestamp(between, datetime.timezone.utc)) == "two\n"
    assert container.logs(since=datetime.timedelta(hours=1)) == "one\ntwo\n"


def test_follow_ends_with_the_container(box: type[Container]) -> None:
    """`follow` gives lines as they come, from the first, and ends when the container ends."""
    container = box("sh", "-c", "for n in 1 2 3; do echo $n; sleep 0.1; done; printf end")
    container.start()
    times = []
    lines = []
    for line in container.logs(follow=True):
        lines.append(line)
        times.append(time.monotonic())

    assert lines == ["1\n", "2\n", "3\n", "end"]
    assert times[2] - times[0] > 0.1
    assert list(container.logs(follow=True)) == lines


def test_follow_can_be_closed(running: Container) -> None:
    """An iterator that is closed stops to follow."""
    running.exec("true")
    lines = running.logs(follow=True)

    lines.close()  # type: ignore[attr-defined]

    assert next(lines, None) is None


def test_follow_before_the_start(box: type[Container]) -> None:
    """Following can begin before the container does."""
    container = box("sh", "-c", "echo hello")
    lines: list[str] = []
    thread = threading.Thread(target=lambda: lines.extend(container.logs(follow=True)))
    thread.start()
    time.sleep(0.1)

    container.start()
    thread.join(20)

    assert lines == ["hello\n"]


def test_frames_have_streams_times_and_cursors(box: type[Container]) -> None:
    """`frames` gives pieces with their stream and time; a cursor resumes after its frame."""
    container = ended(box, "echo out; sleep 0.1; echo err >&2; sleep 0.1; echo more")
    frames = list(container.frames())

    assert b"".join(f.data for f in frames if f.stream == STDOUT) == b"out\nmore\n"
    assert b"".join(f.data for f in frames if f.stream == STDERR) == b"err\n"
    assert [f.time for f in frames] == sorted(f.time for f in frames)
    assert abs(frames[0].time / 1e9 - time.time()) < 120
    rest = list(container.frames(cursor=frames[0].cursor))
    assert b"".join(f.data for f in rest) == b"".join(f.data for f in frames[1:])


def test_bad_arguments(box: type[Container]) -> None:
    """What makes no sense is refused."""
    container = box("true")

    with pytest.raises(InvalidSpec):
        container.logs(stream="both")  # type: ignore[call-overload]
    with pytest.raises(InvalidType):
        container.logs(tail="few")  # type: ignore[call-overload]
    with pytest.raises(InvalidType):
        container.logs(since="yesterday")  # type: ignore[call-overload]


def test_attach_gets_everything(box: type[Container]) -> None:
    """Attached before its start, one sees every byte, and the end."""
    container = box("sh", "-c", "echo out; echo err >&2; printf end")
    with container.attach() as attached:
        container.start()
        frames = list(attached)

    assert b"".join(f.data for f in frames if f.stream == STDOUT) == b"out\nend"
    assert b"".join(f.data for f in frames if f.stream == STDERR) == b"err\n"
    with pytest.raises(InvalidState):
        container.wait(20)
        container.attach()


def test_attach_from_the_first_byte(box: type[Container]) -> None:
    """Attaching late with `logs` loses nothing; without, it begins now."""
    container = box("sh", "-c", "echo early; read line; echo late", stdin_open=True)
    container.start()
    container.wait_for(lambda c: "early" in c.logs(), 20)

    with container.attach(logs=True) as everything, container.attach() as now:
        now.write("go\n")
        assert everything.read() == b"early\nlate\n"
        assert now.read() == b"late\n"


def test_attached_stdin(box: type[Container]) -> None:
    """What is written to an attached stdin is read inside; closing it is end of file."""
    container = box("cat", stdin_open=True)
    with container.attach() as attached:
        container.start()
        attached.write("one\n")
        attached.write(b"two\n")
        attached.close_stdin()
        assert attached.read() == b"one\ntwo\n"

    assert container.wait(20) == 0


def test_attach_without_stdin(running: Container) -> None:
    """A container without an open stdin has nothing to write to."""
    with running.attach() as attached, pytest.raises(InvalidSpec, match="stdin_open"):
        attached.write("x")


def test_detaching_harms_nothing(box: type[Container]) -> None:
    """Closing an attachment wakes its reader, and the container goes on."""
    container = box("sleep", "300", init=True)
    container.start()
    attached = container.attach()
    reader = threading.Thread(target=lambda: list(attached))
    reader.start()
    time.sleep(0.1)

    attached.close()
    attached.close()
    reader.join(10)

    assert not reader.is_alive()
    assert container.status == "running"


def test_stdin_once(box: type[Container]) -> None:
    """With `stdin_once` the container's stdin ends when the attached client leaves."""
    container = box("cat", stdin_open=True, stdin_once=True)
    with container.attach() as attached:
        container.start()
        attached.write("word\n")

    assert container.wait(20) == 0
    assert container.logs() == "word\n"
