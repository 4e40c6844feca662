"""A store of a test's own, with the launcher that works on its trees; and other processes that use the same store."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pycontainers.backends.native.launcher import Launcher
from pycontainers.backends.native.launcher import Trees
from pycontainers.backends.native.store import Store

#: What a process started by `python` has at hand.
PRELUDE = """
import os, signal, sys, time
from storekit import left_over
from storekit import open_store
from pycontainers.backends.native.store import new_id
store = open_store(sys.argv[1])

def create(name=None, **options):
    id = new_id()
    with store.mutating():
        store.make_dir(store.container_dir(id))
        store.insert_container(id, name or id[:12], **options)
    return id

def remove(id):
    with store.mutating():
        store.delete_container(id)
        store.trash(store.container_dir(id))
"""


def open_store(root: str | Path) -> Store:
    """Return a store whose launcher, once it is needed, ends by itself."""
    trees = Trees()
    store = Store(root, trees)
    trees.bind(Launcher(store), store)
    return store


@contextmanager
def own_store(root: str | Path) -> Iterator[Store]:
    """Give a store, and let its launcher go in the end."""
    store = open_store(root)
    try:
        yield store
    finally:
        if os.path.isdir(f"{store.root}/run"):
            Launcher(store).retire()


def python(root: str | Path, code: str) -> subprocess.Popen[str]:
    """Start another process that runs code on the same store, after `PRELUDE`."""
    path = os.pathsep.join(filter(None, [str(Path(__file__).parent), os.environ.get("PYTHONPATH")]))
    # In the checkout the folder of the package's name would hide the package.
    return subprocess.Popen([sys.executable, "-c", PRELUDE + code, str(root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                            text=True, cwd="/", env={**os.environ, "PYTHONPATH": path})


def in_small_file_system(tmp_path: Path, code: str) -> str:
    """Run code on a store in a tmpfs of 1 MiB, in a mount namespace of its own; return what it printed."""
    here = tmp_path / "small"
    here.mkdir()
    process = python(here / "store", f"""
import ctypes, os
outside = os.geteuid(), os.getegid()
libc = ctypes.CDLL(None, use_errno=True)
if libc.unshare(0x20000 | (0x10000000 if outside[0] else 0)):
    raise OSError(ctypes.get_errno(), "unshare")
if outside[0]:
    open("/proc/self/setgroups", "w").write("deny")
    open("/proc/self/uid_map", "w").write(f"0 {{outside[0]}} 1")
    open("/proc/self/gid_map", "w").write(f"0 {{outside[1]}} 1")
if libc.mount(b"none", b"/", None, 0x44000, None) or libc.mount(b"tmpfs", {os.fsencode(here)!r}, b"tmpfs", 0, b"size=1m"):
    raise OSError(ctypes.get_errno(), "mount")
def fill():
    with open({str(here / 'filler')!r}, "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass
{code}
""")
    output = process.communicate()[0]
    assert process.returncode == 0
    return output


def left_over(store: Store) -> dict[str, set[str]]:
    """Return what is where it should not be: half-made and half-removed things, rows and directories without each other."""
    rows = {row.id for row in store.containers()}
    found = {name for bucket in os.listdir(store.path("containers")) for name in os.listdir(store.path(f"containers/{bucket}"))}
    used = {digest.removeprefix("sha256:") for digest, in store.read("SELECT diff_id FROM image_layers")}
    layers = {name for bucket in os.listdir(store.path("layers")) for name in os.listdir(store.path(f"layers/{bucket}"))}
    images = {id.removeprefix("sha256:") + ".json" for id, in store.read("SELECT id FROM images")}
    result = {
        "tmp": set(os.listdir(store.path("tmp"))),
        "trash": set(os.listdir(store.path("trash"))),
        "containers": rows ^ found,
        "layers": used ^ layers,
        "images": images ^ set(os.listdir(store.path("images"))),
        "marks": {"lock"} if Path(store.path("lock")).read_bytes().strip(b"\0") else set(),
    }
    return {kind: names for kind, names in result.items() if names}
