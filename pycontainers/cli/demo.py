"""demo: shows what pycontainers is; every line of Python that it prints is the line that it runs."""

from __future__ import annotations

import ast
import os
import platform
import sys
import textwrap
import time
from typing import Any

from pycontainers.backend import Capability
from pycontainers.cli.flags import PROGRAM
from pycontainers.cli.flags import Command
from pycontainers.cli.flags import Options
from pycontainers.errors import ContainersError

#: Text, Python, and the capability without which the step is left out.
STEPS: tuple[tuple[str, str, Capability | None], ...] = (
    (
        ("An image is a class. This one is your own machine's system, read-only and with your home and secrets left out: "
        "nothing is downloaded."),
        """
        from pycontainers import Image, log
        Host = Image.host()
        Host
        """,
        Capability.HOST_IMAGE,
    ),
    (
        "A container is its instance. run() starts one, waits, collects and removes, and answers as subprocess.run does.",
        """
        Host.run("sh", "-c", "echo Hello from $(cat /proc/sys/kernel/hostname), I am process $$.").stdout
        """,
        None,
    ),
    (
        "It has a world of its own. These are all the processes and all the networks that it sees:",
        """
        Host.run("sh", "-c", "echo /proc/[0-9]*").stdout
        Host.run("ls", "/sys/class/net").stdout
        """,
        None,
    ),
    (
        "A longer life: start it, work inside, see what changed. Its changes are kept above the image; your system has none.",
        """
        box = Host("sleep", "60", labels=DEMO)
        box.start()
        box.exec("sh", "-c", "echo Salut > /etc/pycontainers-demo; cat /etc/pycontainers-demo").stdout
        [f"{change.kind} {change.path}" for change in box.diff() if change.kind != "C"]
        os.path.exists("/etc/pycontainers-demo")
        """,
        Capability.DIFF,
    ),
    (
        "Freeze it, let it go on, and remove it.",
        """
        box.pause()
        box.status
        box.unpause()
        """,
        Capability.PAUSE,
    ),
    (
        "",
        """
        box.remove(force=True).deleted == (box.id,)
        """,
        None,
    ),
    (
        "No sleeping and hoping: a condition is woken by the log line itself, and fails at once if the container ends.",
        """
        web = Host("sh", "-c", "sleep 0.2; echo listening; exec sleep 60", init=True, labels=DEMO)
        web.start()
        web.wait_for(log("listening"), timeout=10)
        web.logs(timestamps=True)
        web.stop()
        web.status, web.exit_code
        """,
        None,
    ),
    (
        "Code that you don't trust: no network, no privileges, and a time limit that kills every descendant.",
        """
        Host.run("sh", "-c", "while :; do :; done", timeout=0.3)
        """,
        None,
    ),
    (
        "And a limit of memory, which is told as such.",
        """
        Host.run("tail", "/dev/zero", memory="32m").returncode
        """,
        Capability.LIMITS,
    ),
    (
        "And it is quick: one hundred containers, each with namespaces, root file system and log of its own.",
        """
        for _ in range(100): Host.run("true", check=True)
        """,
        None,
    ),
)


def _bold(text: str) -> str:
    return f"\x1b[1m{text}\x1b[0m" if sys.stdout.isatty() else text


def _dim(text: str) -> str:
    return f"\x1b[2m{text}\x1b[0m" if sys.stdout.isatty() else text


def _took(seconds: float) -> str:
    return f"{seconds * 1e3:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"


def _evaluate(line: str, names: dict[str, Any]) -> tuple[str, float]:
    """Run one line; return what the interactive interpreter would say of it, and how long it took."""
    tree = ast.parse(line)
    expression = isinstance(tree.body[0], ast.Expr)
    code = compile(line, "<demo>", "eval" if expression else "exec")
    begin = time.perf_counter()
    try:
        value = eval(code, names)
        took = time.perf_counter() - begin
    except ContainersError as error:
        return f"{type(error).__name__}: {error}", time.perf_counter() - begin
    return "" if not expression or value is None else repr(value), took


def _show(line: str, names: dict[str, Any]) -> float:
    print(f"   >>> {line}")
    said, took = _evaluate(line, names)
    if said:
        for part in textwrap.wrap(said, 110) or [""]:
            print(f"   {part}")
    if took >= 0.0005:
        print(_dim(f"   ({_took(took)})"))
    return took


def _run(options: Options) -> None:
    from pycontainers.engine import default_engine

    begin = time.perf_counter()
    engine = default_engine()
    engine.require(Capability.HOST_IMAGE, "the demo")
    mark = {"pycontainers.demo": str(os.getpid())}
    names: dict[str, Any] = {"os": os, "DEMO": mark}
    who = "root" if os.geteuid() == 0 else "an ordinary user"
    print(_bold("pycontainers: the container engine that you import"))
    print(f"No daemon and no Docker: this Python process, as {who} on {platform.system()} {platform.release()}, "
          f"does all of it (the {engine.name} backend).\n")
    number = 0
    try:
        with engine:
            for text, source, capability in STEPS:
                if capability is not None and not engine.supports(capability):
                    continue
                if text:
                    number += 1
                    print(_bold(textwrap.fill(f"{number}. {text}", 100, subsequent_indent="   ")))
                for line in textwrap.dedent(source).strip().splitlines():
                    took = _show(line, names)
                    if line.startswith("for _ in range(100)"):
                        print(f"   That is {took * 10:.1f} ms each: start, command, end and removal.")
                print()
    finally:
        _sweep(engine, mark)
    print(f"All of it took {_took(time.perf_counter() - begin)}, and nothing is left. Go on with:")
    print(f"   {PROGRAM} run -it --rm host sh        a shell in a container of your machine's system")
    print(f"   {PROGRAM} import rootfs.tar mine      an image of any root file system")
    print(f"   {PROGRAM} doctor                      what this machine can do, and what mends the rest")


def _sweep(engine: Any, mark: dict[str, str]) -> None:
    from pycontainers.container import Container
    from pycontainers.errors import NotFound

    for container in Container.list(all=True, filters={"label": mark}, engine=engine):
        try:
            container.remove(force=True, volumes=True)
        except NotFound:
            pass


DEMO = Command(_run)
