"""Plugins: backends and observers of events that other distributions bring."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from apikit import memory_box

from pycontainers import Engine
from pycontainers import plugins
from pycontainers.backend import Event
from pycontainers.errors import BackendUnavailable

Install = Callable[..., None]

BACKEND = """
from pycontainers.backend import BackendInfo
from pycontainers.backends.memory.backend import MemoryBackend

def pycontainers_backend():
    return BackendInfo(name={name!r}, open=MemoryBackend, unavailable=lambda: {reason!r}, priority={priority},
                       contract={contract})
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """A function that installs a distribution with one module and one entry point."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(plugins, "_manager", None)

    def make(name: str, source: str, value: str | None = None, kind: str = ".dist-info") -> None:
        module = f"plugin_{name}"
        (tmp_path / f"{module}.py").write_text(source)
        folder = tmp_path / f"{module}-1.0{kind}"
        folder.mkdir()
        ours = f"[pycontainers]\n# a comment\n{name} = {value or module}\n"
        (folder / "entry_points.txt").write_text(f"[console_scripts]\nx = y:z\n\n{ours}\n[other]\n{name} = wrong\n")
        (folder / "METADATA").write_text(f"Name: {module}\nVersion: 1.0\n")
        monkeypatch.delitem(sys.modules, module, raising=False)

    return make


def backend(name: str = "fake", reason: str | None = None, priority: int = 1, contract: int = 1) -> str:
    """Return the source of a plugin with a backend."""
    return BACKEND.format(name=name, reason=reason, priority=priority, contract=contract)


def test_in_tree_backends_are_plugins() -> None:
    """The backends that come along are found by their entry points, as all others are."""
    found = plugins.entry_points()

    assert found["memory"] == "pycontainers.backends.memory"
    assert found["native"] == "pycontainers.backends.native.plugin"


@pytest.mark.parametrize("kind", [".dist-info", ".egg-info"])
def test_foreign_backend(install: Install, kind: str) -> None:
    """An installed distribution brings a backend by its entry point's name."""
    install("fake", backend(), kind=kind)

    assert plugins.find_backend("fake").name == "fake"
    assert Engine("fake").backend.name == "memory"
    assert ("fake", "") in plugins.backend_reasons()


def test_attribute_as_plugin(install: Install) -> None:
    """An entry point may name an object of a module."""
    source = "class Outer:\n    class Inner:\n        @staticmethod\n        def pycontainers_backend():\n            "
    source += "from pycontainers.backends.memory import pycontainers_backend as real\n            return real()\n"
    install("nested", source, "plugin_nested:Outer.Inner [extra]")

    assert plugins.find_backend("nested").name == "memory"


def test_only_what_is_asked_for_is_imported(install: Install) -> None:
    """Finding one backend by name imports no other plugin."""
    install("loud", "raise AssertionError('imported')")

    assert plugins.find_backend("memory").name == "memory"
    assert "plugin_loud" not in sys.modules


def test_default_is_the_first_usable(install: Install) -> None:
    """The default is the usable backend of the lowest priority number; memory is never chosen by itself."""
    install("best", backend("best", reason="it rains", priority=1))
    install("second", backend("second", priority=2))

    assert plugins.default_backend().name == "second"


def test_no_backend_is_usable(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    """When none can be used, the error has everyone's reason."""
    install("wet", backend("wet", reason="it rains"))
    install("broken", "1 / 0")
    found = plugins.entry_points()
    monkeypatch.setattr(plugins, "entry_points", lambda: {k: v for k, v in found.items() if k != "native"})

    with pytest.raises(BackendUnavailable, match=r"(?s)broken.*ZeroDivisionError.*wet.*it rains"):
        plugins.default_backend()
    with pytest.raises(BackendUnavailable, match=r"wet.*it rains"):
        Engine("wet")
    assert dict(plugins.backend_reasons())["wet"] == "it rains"
    assert "ZeroDivisionError" in dict(plugins.backend_reasons())["broken"]


def test_other_contract(install: Install) -> None:
    """A backend for another version of the contract is refused, with what to do."""
    install("old", backend("old", contract=99))

    with pytest.raises(BackendUnavailable, match=r"99.*install"):
        Engine("old")


OBSERVER = """
from pycontainers import hookimpl
seen = []

@hookimpl(tryfirst=True)
def pycontainers_event(event):
    seen.append(event)
"""


def wait_for(test: Callable[[], bool]) -> None:
    """Wait a little for something that another thread does."""
    done = threading.Event()
    for _ in range(200):
        if test():
            return
        done.wait(0.02)
    assert test()


def test_observer_sees_events(install: Install, tmp_path: Path) -> None:
    """A plugin that observes events gets every one of an engine that this process opened, until it is closed."""
    install("observer", OBSERVER)

    engine = Engine("memory")
    memory_box(engine, tmp_path / "root")("true", engine=engine)
    seen: list[Event] = sys.modules["plugin_observer"].seen
    wait_for(lambda: len(seen) == 2)
    engine.close()

    assert [event.action for event in seen] == ["import", "create"]


def test_observer_object(install: Install, tmp_path: Path) -> None:
    """An object can be registered as an observer, and needs no mark; a failing one is warned of and harms nothing."""
    seen: list[Event] = []

    class Observer:
        def pycontainers_event(self, event: Event) -> None:
            seen.append(event)
            raise ZeroDivisionError

    plugins.manager().register(Observer())
    with pytest.warns(RuntimeWarning, match="ZeroDivisionError"):
        engine = Engine("memory")
        memory_box(engine, tmp_path / "root")("true", engine=engine)
        wait_for(lambda: len(seen) == 2)
        engine.close()


def test_registered_backend(install: Install) -> None:
    """A backend can be registered by a program itself."""

    class Plugin:
        def pycontainers_backend(self) -> object:
            from pycontainers.backends.memory import pycontainers_backend

            return pycontainers_backend()

    plugins.manager().register(Plugin(), "mine")

    assert Engine("mine").name == "memory"


def test_broken_plugin_is_warned_of(install: Install) -> None:
    """A plugin that can't be imported is left out with a warning, and the others work."""
    install("broken", "import no_such_module")

    with pytest.warns(RuntimeWarning, match="'broken'"):
        plugins.manager()
    assert plugins.find_backend("memory").name == "memory"


def test_unreadable_places_are_passed_over(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Places of the path that aren't there, or hold nothing of ours, are passed over."""
    (tmp_path / "empty-1.dist-info").mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path), str(tmp_path / "absent"), "", *sys.path])

    assert "memory" in plugins.entry_points()


def test_unknown_attribute() -> None:
    """The lazily made markers are all that the module adds."""
    with pytest.raises(AttributeError):
        _ = plugins.nonsense
