"""Finds plugins by their entry points and calls their hooks; imports nothing that wasn't asked for.

A plugin is a module named by an entry point of the group `pycontainers`. A function of it that bears a hook's name is
that hook's implementation; `hookimpl` marks one that needs pluggy's options. The hooks:

    pycontainers_backend() -> BackendInfo     the backend that the plugin brings
    pycontainers_event(event: Event) -> None  called for every event of an engine that this process opened
"""

from __future__ import annotations

import os
import sys
import threading
from functools import partial
from importlib import import_module

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    import pluggy

    from pycontainers.backend import BackendInfo
    from pycontainers.backend import Check
    from pycontainers.backend import Event

    hookspec: pluggy.HookspecMarker = pluggy.HookspecMarker("pycontainers")
    hookimpl: pluggy.HookimplMarker = pluggy.HookimplMarker("pycontainers")

GROUP = "pycontainers"
#: Backends of this priority and above are used only when they are named.
ONLY_BY_NAME = 1000

_lock = threading.RLock()
_manager: pluggy.PluginManager | None = None


def __getattr__(name: str) -> object:
    """Make pluggy's markers when they are first asked for: pluggy costs as much time as the interpreter's own start."""
    if name in ("hookspec", "hookimpl"):
        import pluggy

        marker = pluggy.HookspecMarker if name == "hookspec" else pluggy.HookimplMarker
        return globals().setdefault(name, marker("pycontainers"))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def entry_points() -> dict[str, str]:
    """Return the value of each entry point of our group by its name; the first on `sys.path` wins.

    Reads the installed distributions' `entry_points.txt`, which `importlib.metadata` would take 50 ms to import for.
    """
    found: dict[str, str] = {}
    for folder in sys.path:
        try:
            names = sorted(os.listdir(folder or "."))
        except OSError:
            continue
        for name in names:
            if name.endswith((".dist-info", ".egg-info")):
                try:
                    with open(os.path.join(folder, name, "entry_points.txt"), encoding="utf-8") as file:
                        text = file.read()
                except OSError:
                    continue
                for key, value in _section(text):
                    found.setdefault(key, value)
    return found


def _section(text: str) -> list[tuple[str, str]]:
    if f"[{GROUP}]" not in text:
        return []
    pairs = []
    ours = False
    for line in text.splitlines():
        line = line.strip()
        if line.startswith("["):
            ours = line == f"[{GROUP}]"
        elif ours and "=" in line and not line.startswith(("#", ";")):
            name, _, value = line.partition("=")
            pairs.append((name.strip(), value.partition("[")[0].strip()))
    return pairs


def load(value: str) -> object:
    """Import what an entry point's value (`module` or `module:attribute`) names."""
    module, _, attribute = value.partition(":")
    plugin: object = import_module(module)
    for part in attribute.split(".") if attribute else ():
        plugin = getattr(plugin, part)
    return plugin


def manager() -> pluggy.PluginManager:
    """Return the process's plugin manager, with every installed plugin registered; register your own objects with it.

    A plugin that can't be imported is left out, with a warning.
    """
    global _manager
    with _lock:
        if _manager is None:
            import pluggy

            from pycontainers import hooks

            class Manager(pluggy.PluginManager):
                def parse_hookimpl_opts(self, plugin: object, name: str) -> pluggy.HookimplOpts | None:
                    marked = super().parse_hookimpl_opts(plugin, name)
                    if marked is None and name.startswith("pycontainers_") and callable(getattr(plugin, name)):
                        return {"wrapper": False, "hookwrapper": False, "optionalhook": False, "tryfirst": False,
                                "trylast": False, "specname": None}
                    return marked

            made = Manager("pycontainers")
            made.add_hookspecs(hooks)
            for name, value in entry_points().items():
                try:
                    made.register(load(value), name)
                except Exception as error:
                    _warn(f"the plugin {name!r} ({value}) can't be loaded: {error!r}")
            _manager = made
        return _manager


def _warn(text: str) -> None:
    import warnings

    warnings.warn(text, RuntimeWarning, stacklevel=3)


def observers() -> Callable[[Event], None] | None:
    """Return what calls every observer of events; None if no plugin is one."""
    if _manager is None and all(value.startswith("pycontainers.") for value in entry_points().values()):
        return None
    hook = manager().hook.pycontainers_event
    if not hook.get_hookimpls():
        return None

    def call(event: Event) -> None:
        hook(event=event)

    return call


def _known() -> dict[str, Callable[[], BackendInfo]]:
    known: dict[str, Callable[[], BackendInfo]] = {}
    if _manager is not None:
        for implementation in _manager.hook.pycontainers_backend.get_hookimpls():
            known[implementation.plugin_name] = partial(_call, implementation.function)
    for name, value in entry_points().items():
        known.setdefault(name, partial(_ask, value))
    return known


def _call(function: Callable[..., object]) -> BackendInfo:
    info: BackendInfo = function()  # type: ignore[assignment]
    return info


def _ask(value: str) -> BackendInfo:
    info: BackendInfo = load(value).pycontainers_backend()  # type: ignore[attr-defined]
    return info


def _checked(name: str, ask: Callable[[], BackendInfo]) -> BackendInfo:
    from pycontainers.backend import CONTRACT_VERSION
    from pycontainers.errors import BackendUnavailable

    try:
        info = ask()
    except Exception as error:
        raise BackendUnavailable(f"the {name} backend can't be loaded: {error!r}") from error
    if info.contract != CONTRACT_VERSION:
        raise BackendUnavailable(
            f"the {name} backend was written for version {info.contract} of the contract, and this is version "
            f"{CONTRACT_VERSION}: install the release of it that fits this pycontainers"
        )
    return info


def find_backend(name: str) -> BackendInfo:
    """Return the backend of that name. Raises `BackendUnavailable` if there is none, or it can't be used here."""
    from pycontainers.errors import BackendUnavailable

    known = _known()
    if name not in known:
        raise BackendUnavailable(f"no backend is called {name!r}; there are: {', '.join(sorted(known)) or 'none'}")
    info = _checked(name, known[name])
    reason = info.unavailable()
    if reason:
        raise BackendUnavailable(f"the {name} backend can't be used here: {reason}")
    return info


def backend_checks(name: str, root: str | None) -> tuple[Check, ...]:
    """Return what the backend of that name, usable or not, finds of what it needs. Raises `BackendUnavailable`."""
    return tuple(_checked(name, _known()[name]).doctor(root))


def default_backend() -> BackendInfo:
    """Return the usable backend of the lowest priority number. Raises `BackendUnavailable` with every one's reason."""
    from pycontainers.errors import BackendUnavailable

    infos = []
    reasons = []
    for name, ask in _known().items():
        try:
            infos.append(_checked(name, ask))
        except BackendUnavailable as error:
            reasons.append(str(error))
    for info in sorted(infos, key=lambda info: info.priority):
        if info.priority >= ONLY_BY_NAME:
            continue
        reason = info.unavailable()
        if not reason:
            return info
        reasons.append(f"the {info.name} backend can't be used here: {reason}")
    raise BackendUnavailable("no backend can be used here: " + "; ".join(reasons or ["none is installed"]))


def backend_reasons() -> list[tuple[str, str]]:
    """Return each installed backend's name with the reason why it can't be used here (empty if it can), best first."""
    from pycontainers.errors import BackendUnavailable

    result = []
    for name, ask in _known().items():
        try:
            info = _checked(name, ask)
        except BackendUnavailable as error:
            result.append((sys.maxsize, name, str(error)))
        else:
            result.append((info.priority, name, info.unavailable() or ""))
    return [(name, reason) for _, name, reason in sorted(result)]
