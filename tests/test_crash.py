"""kill -9 at any moment, of the caller, the launcher or the supervisor: what was reported done is there, and nothing else.

Each case kills at moments spread evenly over the measured duration of a call. Here a few; `tox -e soak` takes 200 a case.
"""

from __future__ import annotations

import os
import select
import signal
import statistics
import time
from collections.abc import Callable
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from lifekit import SOAK
from lifekit import Store
from lifekit import own_store
from lifekit import payloads
from lifekit import require_native
from lifekit import wait_until

from pycontainers import Container
from pycontainers import ContainersError
from pycontainers import NotFound

require_native()

pytestmark = [pytest.mark.soak] if SOAK else []

MOMENTS = 200 if SOAK else 12


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A store for all tests of this module."""
    with own_store(tmp_path_factory.mktemp("crash")) as made:
        yield made


class Case:
    """A call that is struck: what it needs, what it does, and what must be true of it afterwards."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.container: Container | None = None

    def made(self, *command: str, **options: object) -> Container:
        """Return a new detached container."""
        environment = {"STORE": str(self.store.root)}
        return self.store.box(*command or ("sleep", "600"), lifetime="detached", environment=environment, **options)  # type: ignore[arg-type]

    def prepare(self) -> None:
        """Make what the call needs."""

    def call(self) -> str:
        """Make the call; returns what it reports."""
        raise NotImplementedError

    def check(self, reported: str | None, harmed: bool) -> None:
        """Check the state after a next use. `harmed`: it was the container's supervisor that died."""


class Create(Case):
    """A new container."""

    def call(self) -> str:
        """Create it."""
        return self.made().id

    def check(self, reported: str | None, harmed: bool) -> None:
        """It is there whole, or not at all."""
        found = {c.id for c in Container.list(all=True, engine=self.store.engine)}
        assert reported is None or found == {reported}
        for id in found:
            container = Container.get(id, engine=self.store.engine)
            container.start()
            assert container.status == "running"


class Start(Case):
    """The start of a container."""

    def prepare(self) -> None:
        """Create it."""
        self.container = self.made()

    def call(self) -> str:
        """Start it."""
        assert self.container
        self.container.start()
        return "started"

    def check(self, reported: str | None, harmed: bool) -> None:
        """It runs, or can be started."""
        assert self.container
        if reported and not harmed:
            assert self.container.status == "running"
        assert self.container.status in ("created", "running", "exited")
        self.container.start()
        assert self.container.exec("echo", "alive").stdout == "alive\n"


class Exec(Case):
    """A command in a running container."""

    def prepare(self) -> None:
        """Start it."""
        self.container = self.made()
        self.container.start()

    def call(self) -> str:
        """Run a command."""
        assert self.container
        result = self.container.exec("sh", "-c", "setsid sleep 0.001; echo $MARK", environment={"MARK": "done"})
        return f"{result.returncode} {result.stdout.strip()}"

    def check(self, reported: str | None, harmed: bool) -> None:
        """The container goes on, unless it was its supervisor; and takes further commands."""
        assert self.container
        assert reported in (None, "0 done") or (harmed and reported and reported.startswith("137 "))
        if harmed:
            self.container.start()
        assert self.container.status == "running"
        assert self.container.exec("echo", "alive").stdout == "alive\n"


class Stop(Case):
    """The stop of a container."""

    def prepare(self) -> None:
        """Start it."""
        self.container = self.made()
        self.container.start()

    def call(self) -> str:
        """Stop it."""
        assert self.container
        self.container.stop(timeout=0)
        return "stopped"

    def check(self, reported: str | None, harmed: bool) -> None:
        """It has ended, or runs and can be stopped."""
        assert self.container
        if reported:
            assert self.container.status == "exited"
        self.container.stop(timeout=0)
        assert self.container.exit_code == 137


class Remove(Case):
    """The removal of a running container."""

    def prepare(self) -> None:
        """Start it, and have it write something."""
        script = "mkdir -p /d/e/f; for i in 1 2 3 4 5 6 7 8 9; do echo > /d/e/f/$i; done; exec sleep 600"
        self.container = self.made("sh", "-c", script)
        self.container.start()

    def call(self) -> str:
        """Remove it."""
        assert self.container
        self.container.remove(force=True)
        return "removed"

    def check(self, reported: str | None, harmed: bool) -> None:
        """It is gone, or there to be removed."""
        assert self.container
        if reported:
            with pytest.raises(NotFound):
                Container.get(self.container.id, engine=self.store.engine)


class Run(Case):
    """A whole life in one call."""

    def call(self) -> str:
        """Run a command."""
        return self.store.box.run("sh", "-c", "echo done", environment={"STORE": str(self.store.root)}).stdout.strip()

    def check(self, reported: str | None, harmed: bool) -> None:
        """Its output is whole, and it is gone."""
        assert reported in (None, "done")
        assert not Container.list(all=True, engine=self.store.engine)


class Cold(Run):
    """The same, where the launcher must be started first."""

    def prepare(self) -> None:
        """End the launcher."""
        for pid in self.store.launchers():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


class Owned(Case):
    """A container that lives as long as the caller."""

    def call(self) -> str:
        """Enter it."""
        return self.store.box("sleep", "600", environment={"STORE": str(self.store.root)}).__enter__().id

    def check(self, reported: str | None, harmed: bool) -> None:
        """The caller is dead by now, whether it was struck or has ended: so is the container, soon."""
        wait_until(lambda: not payloads(str(self.store.root)), 1)
        wait_until(lambda: not Container.list(all=True, engine=self.store.engine), 1)


CASES = {"create": Create, "start": Start, "exec": Exec, "stop": Stop, "remove": Remove, "run": Run, "cold": Cold,
         "with": Owned}


def begin(case: Case) -> tuple[int, int]:
    """Make the call in a forked child; returns its pid and a pipe: `b` at its beginning, and its report at its end."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(writer, b"b")
            try:
                report = "=" + case.call()
            except ContainersError as error:
                report = f"!{error}"
            os.write(writer, report.encode())
        except BaseException as error:
            os.write(writer, f"?{error!r}".encode())
        finally:
            os._exit(0)
    os.close(writer)
    assert os.read(reader, 1) == b"b"
    return pid, reader


def end(pid: int, reader: int) -> str:
    """Return what the child reported, "" if it died before."""
    data = b""
    while part := os.read(reader, 4096):
        data += part
    os.close(reader)
    os.waitpid(pid, 0)
    return data.decode()


def supervisors_of(launcher: int) -> list[int]:
    """Return a launcher's children, the newest last; quickly."""
    with suppress(OSError):
        return [int(pid) for pid in Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()]
    return []


def victim_of(store: Store, whose: str, caller: int, launchers: list[int], supervisor: int) -> int:
    """Return whom to kill now, 0 if there is none (yet)."""
    if whose == "caller":
        return caller
    if whose == "launcher":
        return launchers[-1] if launchers else 0
    return supervisor or next((pid for launcher in launchers for pid in reversed(supervisors_of(launcher))), 0)


def strike(store: Store, case: Case, whose: str, moment: float) -> tuple[bool, str | None]:
    """Make the call and kill so many seconds later; returns whether that struck inside, and what was reported."""
    case.prepare()
    launchers = store.launchers()
    supervisor = store.supervisor(case.container.id) if case.container is not None else 0
    caller, reader = begin(case)
    began = time.perf_counter()
    struck = False
    while True:
        over = bool(select.select([reader], [], [], 0)[0])
        if over and whose != "caller":
            break
        if time.perf_counter() - began >= moment:
            victim = victim_of(store, whose, caller, launchers, supervisor)
            if victim:
                with suppress(ProcessLookupError):
                    os.kill(victim, signal.SIGKILL)
                    struck = not over
                break
    said = end(caller, reader)
    assert not said.startswith("?"), said
    return struck and (whose != "caller" or not said), said[1:] if said.startswith("=") else None


def next_use(store: Store) -> None:
    """Use the store as the next process does."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            Container.list(all=True, engine=store.engine)
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0


def clear(store: Store) -> None:
    """Remove all containers."""
    for container in Container.list(all=True, engine=store.engine):
        with suppress(NotFound):
            container.remove(force=True)


def duration(make: Callable[[], Case]) -> float:
    """Return the seconds that a call takes undisturbed."""
    times = []
    for _ in range(5):
        case = make()
        case.prepare()
        pid, reader = begin(case)
        began = time.perf_counter()
        said = end(pid, reader)
        times.append(time.perf_counter() - began)
        assert said.startswith("="), said
        clear(case.store)
    return statistics.median(times)


def sweep(store: Store, name: str, whose: str, record: Callable[[str, object], None]) -> None:
    """Strike one call at all moments."""
    whole = duration(lambda: CASES[name](store))
    inside = 0
    for number in range(MOMENTS):
        case = CASES[name](store)
        struck, reported = strike(store, case, whose, whole * number / MOMENTS)
        inside += struck
        next_use(store)
        where = f"{name} of {whose}, moment {number}, struck {struck}, reported {reported!r}"
        try:
            case.check(reported, whose == "supervisor")
        except ContainersError as error:
            raise AssertionError(where) from error
        except AssertionError as error:
            raise AssertionError(f"{where}: {error}") from error
        clear(store)
        with suppress(AssertionError):
            wait_until(lambda: not store.left(), 2)
        left = store.left()
        assert not left, f"{where}: {left}"
        assert not payloads(str(store.root))
    record(f"{name} {whose}", f"{inside} of {MOMENTS} struck inside {whole * 1000:.1f} ms")
    print(f"{name} of {whose}: {inside} of {MOMENTS} moments struck inside {whole * 1000:.1f} ms")
    assert inside >= MOMENTS // 4


PAIRS = [("caller", name) for name in CASES] + [("launcher", name) for name in ("start", "remove", "run", "with")] + [
    ("supervisor", name) for name in ("start", "exec", "stop", "remove", "run", "with")]


@pytest.mark.parametrize(("whose", "name"), PAIRS)
@pytest.mark.timeout(3600 if SOAK else 300)
def test_killed_at_any_moment(store: Store, whose: str, name: str, record_property: Callable[[str, object], None]) -> None:
    """Whoever is killed, whenever: the next use finds what was reported, and nothing half done."""
    sweep(store, name, whose, record_property)
