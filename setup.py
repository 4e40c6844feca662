"""Builds the C parts of the native backend, where there are Linux and a compiler: elsewhere the wheel is pure.

The cffi extension is described in `_native/build.py`; the helper program is made here from every other `_native/*.c`,
with no libc, so that a container's supervisor costs a few pages of memory.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

from setuptools import Command
from setuptools import setup
from setuptools.command.build import build

NATIVE = Path("_native")
LAUNCHER = "pycontainers-launcher"
#: Sources of the extension; all other C files in `_native` are the helper program's.
EXTENSION = {"extension.c"}
CFLAGS = """
    -std=gnu11 -O2 -g0 -Wall -Wextra -ffreestanding -fno-stack-protector -fno-asynchronous-unwind-tables -fno-pic
    -ffunction-sections -fdata-sections
""".split()
#: No landing pads for a jump protection that needs a libc; no calls into libgcc for atomics.
MACHINE_CFLAGS = {"x86_64": ["-fcf-protection=none"], "aarch64": ["-mno-outline-atomics"]}
LDFLAGS = "-static -no-pie -nostdlib -Wl,--gc-sections -Wl,-z,noseparate-code -Wl,-z,noexecstack -Wl,--build-id=none -s".split()


def compiler() -> list[str]:
    """Return the C compiler's command line, as the extension's own build finds it."""
    return shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")


def launcher_command(target: str) -> list[str]:
    """Return the command that compiles the helper program for the compiler's machine, all sources at once."""
    sources = [str(p) for p in sorted(NATIVE.glob("*.c")) if p.name not in EXTENSION]
    machine = subprocess.run([*compiler(), "-dumpmachine"], capture_output=True, text=True, check=True).stdout
    extra = shlex.split(os.environ.get("PYCONTAINERS_LAUNCHER_CFLAGS", ""))
    return [*compiler(), *CFLAGS, *MACHINE_CFLAGS[machine.partition("-")[0]], *extra, *sources, *LDFLAGS, "-o", target]


def why_pure() -> str:
    """Return why the C parts can't be built on this machine; empty if they can."""
    if sys.platform != "linux":
        return f"the native backend needs Linux, and this is {sys.platform}"
    machine = os.uname().machine
    if machine not in ("x86_64", "aarch64"):
        return f"the native backend knows x86_64 and aarch64, and this is {machine}"
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch, "try.c")
        source.write_text("#include <Python.h>\n#include <linux/types.h>\nint main (void) { return 0; }\n")
        include = sysconfig.get_path("include")
        command = [*compiler(), f"-I{include}", "-c", str(source), "-o", str(source.with_suffix(".o"))]
        try:
            tried = subprocess.run(command, capture_output=True, text=True)
        except OSError as error:
            return f"no C compiler: {error}"
    return "" if tried.returncode == 0 else f"the C compiler can't build for Python: {tried.stderr.strip()}"


class build_launcher(Command):
    """Compile the helper program into the package."""

    description = "compile the native backend's helper program"
    user_options = [("build-lib=", "d", "directory to build into")]

    def initialize_options(self) -> None:
        """Begin with nothing set."""
        self.build_lib: str | None = None
        self.editable_mode = False

    def finalize_options(self) -> None:
        """Build where the package is built."""
        self.set_undefined_options("build_py", ("build_lib", "build_lib"))

    def run(self) -> None:
        """Compile it, executable."""
        target = Path(self._target())
        target.parent.mkdir(parents=True, exist_ok=True)
        command = launcher_command(str(target))
        print(shlex.join(command))
        subprocess.run(command, check=True)
        target.chmod(0o755)

    def _target(self) -> str:
        folder = str(NATIVE) if self.editable_mode else os.path.join(self.build_lib or "", "pycontainers", "_native")
        return os.path.join(folder, LAUNCHER)

    def get_source_files(self) -> list[str]:
        """Return what the sdist must hold."""
        return [str(p) for p in sorted(NATIVE.iterdir()) if p.suffix in (".c", ".h", ".py", ".pyi")]

    def get_outputs(self) -> list[str]:
        """Return what the build makes."""
        return [self._target()]

    def get_output_mapping(self) -> dict[str, str]:
        """Return the outputs that stand for a source file: none."""
        return {}


reason = why_pure()
if reason:
    print(f"building without the native backend: {reason}", file=sys.stderr)
    setup()
else:
    build.sub_commands = [*build.sub_commands, ("build_launcher", None)]
    setup(cffi_modules=["_native/build.py:ffi"], cmdclass={"build_launcher": build_launcher})
