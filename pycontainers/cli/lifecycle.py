"""stop, kill, restart, pause, unpause, wait, rename, rm, update."""

from __future__ import annotations

from pycontainers.cli.each import each
from pycontainers.cli.flags import Command
from pycontainers.cli.flags import Failure
from pycontainers.cli.flags import Flag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pycontainers.cli.flags import Options
    from pycontainers.container import Container


def _each(options: Options, act: Callable[[Container], object]) -> None:
    from pycontainers.container import Container

    def one(ref: str) -> str:
        said = act(Container.get(ref))
        return said if isinstance(said, str) else ref

    each(options.args, one)


def _stop(options: Options) -> None:
    _each(options, lambda c: c.stop(_timeout(options.timeout), options.signal))


def _timeout(seconds: int | None) -> float | None:
    """-1 is Docker's "wait for ever"."""
    return None if seconds is None else float("inf") if seconds < 0 else float(seconds)


def _kill(options: Options) -> None:
    _each(options, lambda c: c.kill(options.signal or "KILL"))


def _restart(options: Options) -> None:
    def act(container: Container) -> None:
        if options.signal:
            container.stop(_timeout(options.timeout), options.signal)
            container.start()
        else:
            container.restart(_timeout(options.timeout))

    _each(options, act)


def _rename(options: Options) -> None:
    from pycontainers.container import Container

    old, new = options.args
    container = Container.get(old)
    if container.name == new.removeprefix("/"):
        raise Failure("Error: Renaming a container with the same name as its current name")
    container.rename(new.removeprefix("/"))


def _rm(options: Options) -> None:
    from pycontainers.container import Container
    from pycontainers.errors import ContainerNotFound

    def one(ref: str) -> str | None:
        try:
            Container.get(ref.removeprefix("/")).remove(force=options.force, volumes=options.volumes)
        except ContainerNotFound:
            if not options.force:
                raise
        return ref

    if options.link:
        raise Failure("Error: --link is not supported: containers find each other by name on a network")
    each(_joined(options.args), one)


def _joined(words: list[str]) -> list[str]:
    """Read `vibrant swanson` as `vibrant_swanson` where neither is a container and that is: a lost underscore."""
    from pycontainers.container import Container
    from pycontainers.errors import ContainersError

    def named(word: str) -> str:
        try:
            return Container.get(word).name
        except ContainersError:
            return ""

    if len(words) != 2 or any(map(named, words)):
        return words
    whole = "_".join(words)
    return [whole] if named(whole) == whole else words


#: Flag: field of `ContainerUpdate`.
UPDATES = {
    "blkio-weight": "blkio_weight",
    "cpu-period": "cpu_period",
    "cpu-quota": "cpu_quota",
    "cpu-shares": "cpu_shares",
    "cpus": "cpus",
    "cpuset-cpus": "cpuset_cpus",
    "cpuset-mems": "cpuset_mems",
    "memory": "memory",
    "memory-reservation": "memory_reservation",
    "memory-swap": "memory_swap",
    "pids-limit": "pids_limit",
    "restart": "restart",
}


def _update(options: Options) -> None:
    changes: dict[str, Any] = {f: getattr(options, f) for flag, f in UPDATES.items() if flag in options.given}
    if not changes:
        raise Failure("you must provide one or more flags when using this command")
    _each(options, lambda c: c.update(**changes))


_SIGNAL = Flag("signal", "s", "string", "Signal to send to the container")
_TIMEOUT = Flag("timeout", "t", "int", "Seconds to wait before killing the container")
_TIME = Flag("time", "", "int", "")
_MANY = "CONTAINER [CONTAINER...]"


def _command(run: Callable[[Options], None], *flags: Flag) -> Command:
    return Command(run, _MANY, flags, least=1, most=None)


def _with_time(run: Callable[[Options], None]) -> Callable[[Options], None]:
    """Let `--time`, the flag's former name, do too."""

    def with_time(options: Options) -> None:
        if options.timeout is None:
            options.timeout = options.time
        run(options)

    return with_time


STOP = _command(_with_time(_stop), _SIGNAL, _TIMEOUT, _TIME)
KILL = _command(_kill, _SIGNAL)
RESTART = _command(_with_time(_restart), _SIGNAL, _TIMEOUT, _TIME)
PAUSE = _command(lambda options: _each(options, lambda c: c.pause()))
UNPAUSE = _command(lambda options: _each(options, lambda c: c.unpause()))
WAIT = _command(lambda options: _each(options, lambda c: str(c.wait())))
RENAME = Command(_rename, "CONTAINER NEW_NAME", least=2, most=2)
RM = _command(
    _rm,
    Flag("force", "f", "bool", "Force the removal of a running container (uses SIGKILL)"),
    Flag("link", "l", "bool", "Remove the specified link"),
    Flag("volumes", "v", "bool", "Remove anonymous volumes associated with the container"),
)
UPDATE = _command(
    _update,
    Flag("blkio-weight", "", "uint16", "Block IO (relative weight), between 10 and 1000, or 0 to disable (default 0)"),
    Flag("cpu-period", "", "int", "Limit CPU CFS (Completely Fair Scheduler) period"),
    Flag("cpu-quota", "", "int", "Limit CPU CFS (Completely Fair Scheduler) quota"),
    Flag("cpu-shares", "c", "int", "CPU shares (relative weight)"),
    Flag("cpus", "", "decimal", "Number of CPUs"),
    Flag("cpuset-cpus", "", "string", "CPUs in which to allow execution (0-3, 0,1)"),
    Flag("cpuset-mems", "", "string", "MEMs in which to allow execution (0-3, 0,1)"),
    Flag("memory", "m", "bytes", "Memory limit"),
    Flag("memory-reservation", "", "bytes", "Memory soft limit"),
    Flag("memory-swap", "", "bytes", "Swap limit equal to memory plus swap: -1 to enable unlimited swap"),
    Flag("pids-limit", "", "int", "Tune container pids limit (set -1 for unlimited)"),
    Flag("restart", "", "string", "Restart policy to apply when a container exits"),
)
