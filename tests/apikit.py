"""What the tests of the API stand on: an image in memory, and a Python that looks at what it imports."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from pycontainers import Container
from pycontainers import Engine
from pycontainers import Image

APPLETS = ("sh", "echo", "cat", "sleep", "true", "false", "touch", "id", "env", "pwd", "test")


def memory_rootfs(folder: Path) -> Path:
    """Fill a directory with a root file system whose programs are the memory backend's own."""
    (folder / "bin").mkdir(parents=True)
    (folder / "tmp").mkdir()
    (folder / "bin/busybox").write_text("#!memory\n")
    (folder / "bin/busybox").chmod(0o755)
    for applet in APPLETS:
        (folder / "bin" / applet).symlink_to("busybox")
    return folder


def memory_box(engine: Engine, folder: Path, reference: str = "box") -> type[Container]:
    """Return an image of such a root file system."""
    return Image.import_rootfs(memory_rootfs(folder), reference, engine=engine)


def fresh_python(code: str, **environment: str) -> object:
    """Run code in a new interpreter and return what it printed, read as JSON."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False,
                          env={**os.environ, **environment}, cwd="/")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
