"""Engines: which one is meant, and what importing costs."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from apikit import fresh_python
from apikit import memory_box

from pycontainers import Capability
from pycontainers import Container
from pycontainers import Engine
from pycontainers import Image
from pycontainers import list_backends
from pycontainers.engine import default_engine
from pycontainers.errors import BackendUnavailable
from pycontainers.errors import Unsupported
from pycontainers.spec import ContainerSpec


def test_block_makes_the_default(tmp_path: Path) -> None:
    """`with Engine(...)` makes it the default in the block, and blocks nest."""
    outer, inner = Engine("memory"), Engine("memory")
    memory_box(outer, tmp_path / "root")

    with outer:
        assert default_engine() is outer
        with inner:
            assert default_engine() is inner
            assert Image.list() == []
        assert default_engine() is outer
        assert len(Image.list()) == 1
    with outer:
        assert len(Image.list()) == 1


def test_block_ends_with_an_error() -> None:
    """An error in the block restores the default too."""
    outer, inner = Engine("memory"), Engine("memory")
    with outer:
        with pytest.raises(ZeroDivisionError), inner:
            1 / 0  # noqa: B018
        assert default_engine() is outer


def test_new_thread_has_the_process_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new thread has the process's default, not the block's; a task made in the block has the block's."""
    monkeypatch.setattr("pycontainers.engine._process_engine", Engine("memory"))
    found: list[Engine] = []

    async def task() -> Engine:
        return default_engine()

    async def main() -> Engine:
        return await asyncio.create_task(task())

    with Engine("memory") as engine:
        thread = threading.Thread(target=lambda: found.append(default_engine()))
        thread.start()
        thread.join()
        assert asyncio.run(main()) is engine
    assert found[0] is not engine
    assert found[0] is default_engine()


DEFAULT = """
import json, threading
from pycontainers import Image
from pycontainers.engine import default_engine
found = []
threads = [threading.Thread(target=lambda: found.append(default_engine())) for _ in range(10)]
for t in threads: t.start()
for t in threads: t.join()
print(json.dumps([default_engine().name, len({id(e) for e in found}), len(Image.list())]))
"""


def test_environment_names_the_default() -> None:
    """Without a block `PYCONTAINERS_BACKEND` names the backend, opened once for all threads."""
    assert fresh_python(DEFAULT, PYCONTAINERS_BACKEND="memory") == ["memory", 1, 0]


FORK = """
import json, os
from pycontainers.engine import default_engine
parent = default_engine()
reader, writer = os.pipe()
if os.fork() == 0:
    os.write(writer, b"1" if default_engine() is not parent else b"0")
    os._exit(0)
os.wait()
print(json.dumps([os.read(reader, 1).decode(), default_engine() is parent]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_forked_child_has_its_own() -> None:
    """A forked child opens an engine of its own: its parent's threads are not there."""
    assert fresh_python(FORK, PYCONTAINERS_BACKEND="memory") == ["1", True]


def test_unknown_backend() -> None:
    """A backend that isn't installed is refused, with those that are."""
    with pytest.raises(BackendUnavailable, match=r"'nonesuch'.*memory.*native"):
        Engine("nonesuch")


def test_unknown_option() -> None:
    """A backend refuses an option that it doesn't have."""
    with pytest.raises(TypeError, match="colour"):
        Engine("memory", colour="red")


def test_backends_are_listed() -> None:
    """Every installed backend is listed, with the reason why it can't be used here."""
    found = {status.name: status for status in list_backends()}

    assert found["memory"].usable
    assert found["memory"].reason == ""
    assert found["native"].usable == (not found["native"].reason)
    assert list(found)[-1] == "memory"


def test_capabilities() -> None:
    """`require` names backend and capability; options that need one are refused before anything is made."""
    engine = Engine("memory")

    assert engine.supports(Capability.EXEC)
    engine.require(Capability.EXEC)
    with pytest.raises(Unsupported, match=r"memory.*TTY.*a song needs terminals"):
        engine.require(Capability.TTY, "a song")
    with pytest.raises(Unsupported, match=r"LIMITS.*the option memory"):
        engine.require_for(ContainerSpec(memory="1g"))
    with pytest.raises(Unsupported, match="HOST_NETWORK"):
        engine.require_for(ContainerSpec(network="host"))


def test_info_and_close() -> None:
    """`info` has Docker's keys; `close` can be called again, and containers live on."""
    engine = Engine("memory")

    assert engine.info()["Driver"] == "memory"
    assert repr(engine) == "<Engine 'memory'>"
    engine.close()
    engine.close()
    assert Container.list(engine=engine) == []


IMPORTS = "import pycontainers; pycontainers.Image; pycontainers.Container"


def test_import_loads_next_to_nothing() -> None:
    """Importing the package and touching `Image` and `Container` imports neither attrs, typing, pluggy nor a backend."""
    loaded = fresh_python(f"import json, sys; before = set(sys.modules); {IMPORTS}; "
                          "print(json.dumps(sorted(set(sys.modules) - before)))")

    assert isinstance(loaded, list)
    assert set(loaded) - {"__future__"} == {"pycontainers", "pycontainers.container", "pycontainers.image"}


def best(code: str, turns: int = 7) -> float:
    """Return the best time of several runs of a new interpreter, in seconds."""
    times = []
    for _ in range(turns):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-I", "-c", code], check=True)
        times.append(time.perf_counter() - began)
    return min(times)


def test_import_is_cheap() -> None:
    """Importing the package takes at most three times a bare interpreter's start."""
    assert best(IMPORTS) < 3 * best("pass")


def test_tests_see_the_installed_package() -> None:
    """What is tested is the package, not the folder beside the tests."""
    assert "pycontainers" in sys.modules
    assert Path(sys.modules["pycontainers"].__file__ or "").name == "__init__.py"
