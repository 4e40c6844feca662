"""`pycontainers COMMAND`: finds the command, imports its module alone, runs it, and says what went wrong."""

from __future__ import annotations

import os
import sys

from pycontainers.cli.flags import PROGRAM
from pycontainers.cli.flags import Command
from pycontainers.cli.flags import Failure
from pycontainers.cli.flags import Flag
from pycontainers.cli.flags import Help
from pycontainers.cli.flags import UsageError
from pycontainers.cli.flags import flag_help
from pycontainers.cli.flags import parse_flags
from pycontainers.cli.output import reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pycontainers.cli.flags import Options

#: Path: module and name of the `Command` in it, and its description. Aliases stand in `_ALIASES`.
COMMANDS = {
    "container attach": ("attach:ATTACH", "Attach local standard input, output, and error streams to a running container"),
    "container cp": ("files:CP", "Copy files/folders between a container and the local filesystem"),
    "container create": ("run:CREATE", "Create a new container"),
    "container diff": ("look:DIFF", "Inspect changes to files or directories on a container's filesystem"),
    "container exec": ("attach:EXEC", "Execute a command in a running container"),
    "container export": ("files:EXPORT", "Export a container's filesystem as a tar archive"),
    "container inspect": ("look:INSPECT_CONTAINER", "Display detailed information on one or more containers"),
    "container kill": ("lifecycle:KILL", "Kill one or more running containers"),
    "container logs": ("logs:LOGS", "Fetch the logs of a container"),
    "container ls": ("ps:PS", "List containers"),
    "container pause": ("lifecycle:PAUSE", "Pause all processes within one or more containers"),
    "container port": ("look:PORT", "List port mappings or a specific mapping for the container"),
    "container prune": ("prune:PRUNE_CONTAINERS", "Remove all stopped containers"),
    "container rename": ("lifecycle:RENAME", "Rename a container"),
    "container restart": ("lifecycle:RESTART", "Restart one or more containers"),
    "container rm": ("lifecycle:RM", "Remove one or more containers"),
    "container run": ("run:RUN", "Create and run a new container from an image"),
    "container start": ("attach:START", "Start one or more stopped containers"),
    "container stats": ("stats:STATS", "Display a live stream of container(s) resource usage statistics"),
    "container stop": ("lifecycle:STOP", "Stop one or more running containers"),
    "container top": ("look:TOP", "Display the running processes of a container"),
    "container unpause": ("lifecycle:UNPAUSE", "Unpause all processes within one or more containers"),
    "container update": ("lifecycle:UPDATE", "Update configuration of one or more containers"),
    "container wait": ("lifecycle:WAIT", "Block until one or more containers stop, then print their exit codes"),
    "image history": ("images:HISTORY", "Show the history of an image"),
    "image import": ("images:IMPORT", "Import the contents from a tarball to create a filesystem image"),
    "image inspect": ("look:INSPECT_IMAGE", "Display detailed information on one or more images"),
    "image ls": ("images:IMAGES", "List images"),
    "image prune": ("prune:PRUNE_IMAGES", "Remove unused images"),
    "image rm": ("images:RMI", "Remove one or more images"),
    "image tag": ("images:TAG", "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE"),
    "system df": ("system:DF", "Show disk usage"),
    "system events": ("events:EVENTS", "Get real time events from the engine"),
    "system info": ("system:INFO", "Display system-wide information"),
    "system prune": ("prune:PRUNE_ALL", "Remove unused data"),
    "inspect": ("look:INSPECT", "Return low-level information on containers and images"),
    "version": ("system:VERSION", "Show the version information"),
    "backends": ("system:BACKENDS", "List the backends, and why one can't be used here"),
    "demo": ("demo:DEMO", "Show in under a minute what pycontainers is"),
    "doctor": ("system:DOCTOR", "Tell what this machine can do, what is missing, and what mends it"),
}

GROUPS = {"container": "Manage containers", "image": "Manage images", "system": "Manage pycontainers"}

#: Other names of a path, besides a container command's own verb.
_ALIASES = {
    "container ls": ("container list", "container ps", "ps"),
    "container rm": ("container remove", "rm"),
    "image ls": ("image list", "images"),
    "image rm": ("image remove", "rmi"),
    "image history": ("history",),
    "image import": ("import",),
    "image tag": ("tag",),
    "system events": ("events",),
    "system info": ("info",),
}
#: Container commands without a verb of their own.
_NOUN_ONLY = ("container inspect", "container prune", "container ls", "container rm")

GLOBAL_FLAGS = (
    Flag("backend", "", "string", "Backend to use (default: PYCONTAINERS_BACKEND, or the first usable one)"),
    Flag("debug", "D", "bool", "Show the traceback of an error"),
    Flag("root", "", "string", "Folder of the store (default: PYCONTAINERS_ROOT, or the user's own)"),
    Flag("version", "v", "bool", "Print version information and quit"),
)

_COMMON = ("run", "exec", "ps", "images", "version", "info")


def aliases(path: str) -> tuple[str, ...]:
    """Return every way to call the command, its own path first."""
    noun, _, verb = path.partition(" ")
    own = (verb,) if noun == "container" and path not in _NOUN_ONLY else ()
    return (path, *_ALIASES.get(path, own))


def find(argv: Sequence[str]) -> tuple[str, list[str]]:
    """Return the path that the command line begins with, and the rest. Raises `UsageError`."""
    first = argv[0]
    for count in (2, 1):
        words = " ".join(argv[:count])
        for path in (words, f"container {words}"):
            if path in COMMANDS and words in aliases(path):
                return path, list(argv[count:])
        for path, names in _ALIASES.items():
            if words in names:
                return path, list(argv[count:])
    shown = " ".join(argv[:2]) if first in GROUPS else first
    usage = f"\n\nUsage:  {PROGRAM} {first}" if first in GROUPS else ""
    see = f"{PROGRAM} {first}" if first in GROUPS else PROGRAM
    raise Failure(f"{PROGRAM}: unknown command: {PROGRAM} {shown}{usage}\n\nRun '{see} --help' for more information")


def load(path: str, called: str | None = None) -> Command:
    """Import and return the command of that path, as `called` names it."""
    from importlib import import_module

    target, summary = COMMANDS[path]
    module, _, name = target.partition(":")
    command: Command = getattr(import_module(f"pycontainers.cli.{module}"), name)
    command.path, command.summary, command.aliases = called or path, summary, aliases(path)
    return command


def general_help() -> str:
    """Return the text of `pycontainers --help`."""
    verbs = {}
    for path, (_, summary) in COMMANDS.items():
        for name in aliases(path):
            if " " not in name:
                verbs[name] = summary
    rest = sorted(set(verbs) - set(_COMMON))
    lines = [f"Usage:  {PROGRAM} [OPTIONS] COMMAND", "", "The container engine that you import", "", "Common Commands:",
             *(f"  {n:<11} {verbs[n]}" for n in _COMMON), "", "Management Commands:",
             *(f"  {n:<11} {text}" for n, text in GROUPS.items()), "", "Commands:",
             *(f"  {n:<11} {verbs[n]}" for n in rest), "", "Global Options:", flag_help(GLOBAL_FLAGS), "",
             f"Run '{PROGRAM} COMMAND --help' for more information on a command.", ""]
    return "\n".join(lines)


def group_help(group: str) -> str:
    """Return the text of `pycontainers container --help` and such."""
    verbs = sorted((p.split(" ")[1], s) for p, (_, s) in COMMANDS.items() if p.startswith(f"{group} "))
    lines = [f"Usage:  {PROGRAM} {group} COMMAND", "", GROUPS[group], "", "Commands:",
             *(f"  {n:<11} {text}" for n, text in verbs), "",
             f"Run '{PROGRAM} {group} COMMAND --help' for more information on a command.", ""]
    return "\n".join(lines)


def _version() -> str:
    from pycontainers.cli.output import version

    return f"{PROGRAM} version {version()}"


def run(argv: Sequence[str]) -> int:
    """Carry out a command line and return its exit code. Raises what went wrong."""
    try:
        values, words, _ = parse_flags(GLOBAL_FLAGS, argv, None, interspersed=False)
    except Help:
        print(general_help())
        return 0
    except UsageError as error:
        raise Failure(f"{error}\n\nUsage:  {PROGRAM} [OPTIONS] COMMAND\n\n"
                      f"Run '{PROGRAM} --help' for more information", 125) from None
    if values["version"]:
        print(_version())
        return 0
    if not words or words == ["help"]:
        print(general_help())
        return 0
    if words[0] == "help":
        words = [*words[1:], "--help"]
    if words[0] in GROUPS and (len(words) == 1 or words[1] in ("--help", "-h")):
        print(group_help(words[0]))
        return 0
    path, rest = find(words)
    command = load(path, " ".join(words[:len(words) - len(rest)]))
    try:
        options = command.parse(rest)
    except Help:
        print(command.help())
        return 0
    if command.quick is not None and not _engine_is_open() and command.quick(options, values["backend"], values["root"]):
        return 0
    engine = _engine(values["backend"], values["root"])
    if engine is None:
        return _call(command, options)
    with engine:
        return _call(command, options)


def _call(command: Command, options: Options) -> int:
    from pycontainers.errors import ContainersError

    if not command.daemon_prefix:
        return command.run(options) or 0
    try:
        return command.run(options) or 0
    except BrokenPipeError:
        raise
    except (ContainersError, OSError) as error:
        raise Failure(f"{PROGRAM}: {reason(error)}", getattr(error, "exit_code", 125)) from error


def _engine_is_open() -> bool:
    """Tell whether this process has used or entered an engine: then that is the one that is meant."""
    return "pycontainers.engine" in sys.modules


def _engine(backend: str | None, root: str | None):  # type: ignore[no-untyped-def]
    if backend is None and root is None:
        return None
    from pycontainers.engine import Engine

    backend = backend or os.environ.get("PYCONTAINERS_BACKEND") or None
    return Engine(backend, **({"root": os.path.abspath(root)} if root else {}))


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line (the process's own by default) and return its exit code."""
    argv = list(sys.argv[1:] if argv is None else argv)
    debug = any(word in ("--debug", "-D") for word in argv[:8])
    try:
        code = run(argv)
        sys.stdout.flush()
        return code
    except UsageError as error:
        command = error.command
        path = f"{PROGRAM} {command.path}" if command else PROGRAM
        usage = f"\n\nUsage:  {command.usages[0]}" if command else ""
        return _say(f"{error}{usage}\n\n{error.see} '{path} --help' for more information", error.code)
    except Failure as error:
        if debug and error.__cause__ is not None:
            raise
        return _say(str(error), error.code)
    except BrokenPipeError:
        # The interpreter flushes stdout again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        from pycontainers.errors import ContainersError

        if debug:
            raise
        if isinstance(error, ContainersError):
            return _say(f"Error: {reason(error)}", getattr(error, "exit_code", 1))
        if isinstance(error, OSError):
            return _say(f"{PROGRAM}: {reason(error)}", 1)
        return _say(f"{PROGRAM}: {type(error).__name__}: {error} (a defect; --debug shows where)", 1)


def _say(message: str, code: int) -> int:
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if message:
        from pycontainers.cli.output import visible

        print(visible(message), file=sys.stderr)
    return code
