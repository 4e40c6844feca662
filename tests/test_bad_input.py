"""What can't be done is refused by a typed error that names thing, cause and remedy, and leaves nothing behind."""

from __future__ import annotations

import ctypes
import io
import os
import re
import struct
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from clikit import COMMAND
from lifekit import Store
from lifekit import own_store
from lifekit import require_native
from storekit import in_small_file_system

from pycontainers import Container
from pycontainers import Engine
from pycontainers import Image
from pycontainers import errors
from pycontainers import run

require_native()

HUGE = "x" * 200_000
MANY = ("x" * 1000,) * 4000


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A store with busybox, clean after the module's tests."""
    with own_store(tmp_path_factory.mktemp("bad")) as store:
        (store.root.parent / "rootfs/bin/plain").write_text("no program\n")
        Image.import_rootfs(store.root.parent / "rootfs", "box", engine=store.engine)
        yield store


@pytest.fixture(autouse=True)
def nothing_left(store: Store) -> Iterator[None]:
    """Nothing is left of what was refused."""
    yield
    assert [] == Container.list(all=True, engine=store.engine)
    store.check_clean()


def cli(store: Store, *argv: str | bytes, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command line on the store."""
    variables = {**os.environ, "PYCONTAINERS_ROOT": str(store.root), "PYCONTAINERS_BACKEND": "native", **environment}
    return subprocess.run([*COMMAND, *argv], capture_output=True, text=True, errors="surrogateescape", check=False,
                          cwd="/", timeout=60, env=variables)


#: Options of a container; the error; what its text says.
OPTIONS: list[tuple[dict[str, Any], type[Exception], str]] = [
    # Mounts.
    ({"volumes": ["/tmp:rel"]}, errors.InvalidSpec, "invalid mount target 'rel': it must be an absolute path"),
    ({"volumes": ["/tmp:/"]}, errors.InvalidSpec, "invalid mount target '/': the root itself"),
    ({"volumes": ["/tmp:/a", "/etc:/a/"]}, errors.InvalidSpec, "volumes: Duplicate mount point: /a"),
    ({"volumes": ["/tmp:/a:nosuch"]}, errors.InvalidSpec, "'/tmp:/a:nosuch': 'nosuch'"),
    ({"volumes": ["/etc/passwd:/etc"]}, errors.StartFailed, "binding on '/etc': a file and a directory"),
    ({"volumes": ["/tmp:/" + "x" * 5000]}, errors.StartFailed, "File name too long"),
    ({"volumes": {"/tmp": 5}}, errors.InvalidType, re.escape("volumes['/tmp'] must be a path in the container: got 5")),
    ({"devices": ["/nonexistent"]}, errors.InvalidSpec, "devices: '/nonexistent' can't be used: No such file"),
    # Values of another type, and options that there are not.
    ({"tty": "yes"}, errors.InvalidType, "tty takes True or False: got 'yes'"),
    ({"user": 5}, errors.InvalidType, "user takes a text: got 5"),
    ({"labels": 5}, errors.InvalidType, "labels takes a mapping"),
    ({"environment": "A=b"}, errors.InvalidType, "environment takes a mapping"),
    ({"cpus": "many"}, errors.InvalidType, "cpus takes a number: got 'many'"),
    ({"memory": []}, errors.InvalidType, "memory takes bytes as an int"),
    ({"memry": "5m"}, errors.InvalidType, "no option 'memry'; is 'memory' meant"),
    ({"image": "other"}, errors.InvalidType, "image can't be an option"),
    # Users, capabilities, signals.
    ({"user": "nobody-here"}, errors.StartFailed, "unable to find user nobody-here.*/etc/passwd"),
    ({"user": "0:nogroup-here"}, errors.StartFailed, "unable to find user 0:nogroup-here"),
    ({"group_add": ["nogroup-here"]}, errors.StartFailed, "one of its groups.*/etc/group"),
    ({"user": "99999999999"}, errors.StartFailed, "unable to find user 99999999999"),
    ({"cap_add": ["NOSUCH"]}, errors.InvalidSpec, "cap_add: 'NOSUCH' is no capability"),
    ({"cap_drop": ["NOSUCH"]}, errors.InvalidSpec, "cap_drop: 'NOSUCH' is no capability"),
    ({"stop_signal": "NOSUCH"}, errors.InvalidSpec, "stop_signal is not a signal: 'NOSUCH'"),
    ({"security_opt": ["nosuch"]}, errors.InvalidSpec, "security_opt: unknown option 'nosuch'"),
    ({"security_opt": ["seccomp=/nonexistent"]}, errors.InvalidSpec, "seccomp profile '/nonexistent': No such file"),
    # Numbers.
    ({"memory": -5}, errors.InvalidSpec, "memory can't be negative: got -5"),
    ({"memory": "1k"}, errors.InvalidSpec, "Minimum memory limit allowed is 6MB"),
    ({"memory": "10m", "memory_swap": "5m"}, errors.InvalidSpec, "memory_swap: minimum memoryswap limit"),
    ({"cpus": -1}, errors.InvalidSpec, "cpus can't be negative"),
    ({"cpu_shares": -5}, errors.InvalidSpec, "cpu_shares can't be negative"),
    ({"blkio_weight": 5}, errors.InvalidSpec, "blkio_weight: range of blkio weight is from 10 to 1000"),
    ({"oom_score_adj": 5000}, errors.InvalidSpec, r"oom_score_adj: .*\[-1000, 1000\]"),
    ({"shm_size": -1}, errors.InvalidSpec, "shm_size can't be negative"),
    ({"ulimits": ["nofile=20:10"]}, errors.InvalidSpec, "ulimits: soft limit must be less than or equal to hard limit"),
    ({"ulimits": ["nosuch=1"]}, errors.InvalidSpec, "ulimits: unknown limit 'nosuch'"),
    ({"ulimits": ["nofile=many"]}, errors.InvalidSpec, "ulimits: 'nofile=many' is not NAME="),
    # Odd characters.
    ({"name": "a b"}, errors.InvalidSpec, r"Invalid container name \(a b\)"),
    ({"name": "ab\n"}, errors.InvalidSpec, "Invalid container name"),
    ({"name": "../ab"}, errors.InvalidSpec, "Invalid container name"),
    ({"name": "\udcff\udcff"}, errors.InvalidSpec, "Invalid container name"),
    ({"name": ""}, errors.InvalidSpec, "name"),
    ({"hostname": "a\n1.2.3.4 b"}, errors.InvalidSpec, "hostname must be one line"),
    ({"hostname": "x" * 65}, errors.InvalidSpec, "hostname must be one line of at most 64 bytes"),
    ({"extra_hosts": {"a\nb": "1.2.3.4"}}, errors.InvalidSpec, "extra_hosts: bad format"),
    ({"dns": ["nowhere"]}, errors.InvalidSpec, "dns: IP address is not correctly formatted: 'nowhere'"),
    ({"dns_search": ["a\nb"]}, errors.InvalidSpec, "dns_search takes words"),
    ({"environment": {"A": "\0"}}, errors.InvalidSpec, "environment holds .*a NUL character: 'A'"),
    ({"environment": {"A=B": "c"}}, errors.InvalidSpec, "environment: a variable's name can't hold '=': 'A=B'"),
    ({"workdir": "rel"}, errors.InvalidSpec, "working directory 'rel' is invalid, it needs to be an absolute path"),
    ({"workdir": "/bin/busybox"}, errors.StartFailed, "working directory '/bin/busybox': Not a directory"),
    ({"restart": "sometimes"}, errors.InvalidSpec, "restart is not a policy: 'sometimes'; choose"),
    ({"sysctls": {"kernel.panic": "1"}}, errors.InvalidSpec, "sysctls: 'kernel.panic'.*change the host"),
    ({"network": "nowhere"}, errors.Unsupported, "native lacks network 'nowhere'"),
    # Too much.
    ({"environment": {"A": HUGE}}, errors.CommandNotExecutable, "Argument list too long: pass less"),
    ({"environment": {f"A{i}": text for i, text in enumerate(MANY)}}, errors.CommandNotExecutable, "Argument list too long"),
]


@pytest.mark.parametrize(("options", "error", "says"), OPTIONS, ids=lambda v: ",".join(v) if isinstance(v, dict) else "")
def test_options(store: Store, options: dict[str, Any], error: type[Exception], says: str) -> None:
    """A value that makes no sense is refused by the option's name, whether the container is run or made and started."""
    with pytest.raises(error, match=f"(?s){says}") as caught:
        store.box.run("true", **options)
    assert isinstance(caught.value, errors.ContainersError)

    with pytest.raises(error, match=f"(?s){says}"):
        container = store.box("true", **options)
        try:
            container.start()
        finally:
            container.remove(force=True)


COMMANDS: list[tuple[tuple[Any, ...], type[Exception], int, str]] = [
    (("nosuch",), errors.CommandNotFound, 127, 'exec: "nosuch": executable file not found.*check its name'),
    (("/nosuch/dir",), errors.CommandNotFound, 127, 'exec: "/nosuch/dir": executable file not found'),
    (("",), errors.CommandNotFound, 127, 'exec: "": executable file not found'),
    (("/bin/plain",), errors.CommandNotExecutable, 126, 'exec: "/bin/plain": permission denied.*must be a program'),
    (("/etc",), errors.CommandNotExecutable, 126, 'exec: "/etc": permission denied'),
    (("true", HUGE), errors.CommandNotExecutable, 126, 'exec: "true": Argument list too long: pass less'),
    (("true", *MANY), errors.CommandNotExecutable, 126, "Argument list too long"),
    (("true", *MANY * 5), errors.CommandNotExecutable, 126, "Argument list too long"),
    (("a\0b",), errors.InvalidSpec, 125, "command holds a NUL character"),
    ((b"true",), errors.InvalidType, 125, "command takes texts: got b'true'"),
    ((), errors.InvalidSpec, 125, "no command specified: the image has none"),
]


@pytest.mark.parametrize(("command", "error", "code", "says"), COMMANDS, ids=lambda value: "")
def test_commands(store: Store, command: tuple[Any, ...], error: type[Exception], code: int, says: str) -> None:
    """A command that can't be executed: of a run, of an exec, and on the command line with Docker's exit codes."""
    with pytest.raises(error, match=f"(?s){says}") as caught:
        store.box.run(*command)
    assert code == getattr(caught.value, "exit_code", 125)
    with store.box("sleep", "60") as container:
        with pytest.raises(error, match=f"(?s){says}" if command else "exec needs a command"):
            container.exec(*command)
        assert "still here\n" == container.exec("echo", "still here").stdout
    if error is errors.InvalidType or sum(map(len, command)) > 100_000 or "\0" in "".join(command):
        return
    said = cli(store, "run", "--rm", "box", *command)
    assert (code, "") == (said.returncode, said.stdout)
    assert re.match(f"(?s)pycontainers: {says}", said.stderr)


def test_names(store: Store) -> None:
    """An image or a container that isn't there, and a name that is taken."""
    for call in (lambda: Image.get("nosuch:1", engine=store.engine), lambda: run("nosuch:1", "true", engine=store.engine)):
        with pytest.raises(errors.ImageNotFound, match="No such image: nosuch:1"):
            call()
    for name in ("", "nosuch", "a\0b", "../..", "%", "*", "\udcff"):
        with pytest.raises(errors.ContainerNotFound, match="No such container: "):
            Container.get(name, engine=store.engine)
    for reference in ("", "UPPER", "a b", "a:", "a@b", "\udcff", "a\0", "f" * 300):
        with pytest.raises((errors.InvalidReference, errors.ImageNotFound)):
            Image.get(reference, engine=store.engine)
    for get in (Container.get, Image.get):
        for odd in (None, b"box", 5):
            with pytest.raises(errors.InvalidType, match="takes a text"):
                get(odd, engine=store.engine)  # type: ignore[operator]
    first = store.box("true", name="taken")
    with pytest.raises(errors.NameInUse, match=f'"/taken" is already in use by container "?{first.id}.*remove \\(or rename\\)'):
        store.box("true", name="taken")
    other = store.box("true")
    with pytest.raises(errors.NameInUse):
        other.rename("taken")
    said = cli(store, "run", "--name", "taken", "box", "true")
    assert (125, "") == (said.returncode, said.stdout)
    assert "already in use" in said.stderr
    said = cli(store, "run", "nosuch:1")
    assert 125 == said.returncode
    assert said.stderr.startswith("Unable to find image 'nosuch:1' locally\npycontainers: No such image: nosuch:1")
    first.remove()
    other.remove()


def test_calls_on_a_container(store: Store) -> None:
    """Signals, times, paths and updates that make no sense; the container goes on."""
    with store.box("sleep", "60") as container:
        for signal in ("NOSUCH", 0, 65, -1, "", "SIG"):
            with pytest.raises(errors.InvalidSpec, match="signal is not a signal"):
                container.kill(signal)
        with pytest.raises(errors.InvalidType):
            container.stop("soon")  # type: ignore[arg-type]
        with pytest.raises(errors.StartFailed, match="unable to find user nobody-here"):
            container.exec("true", user="nobody-here")
        with pytest.raises(errors.InvalidSpec, match="working directory 'rel'"):
            container.exec("true", workdir="rel")
        with pytest.raises(errors.StartFailed, match="working directory '/nonexistent': No such file"):
            container.exec("true", workdir="/nonexistent")
        for flags, code in ((("-u", "nobody-here"), 126), (("-w", "/nonexistent"), 126), (("-w", "/bin/plain"), 126)):
            said = cli(store, "exec", *flags, container.name, "true")
            assert (code, "") == (said.returncode, said.stdout)
            assert re.match(f"Error: exec in {container.name}: .*{flags[1]}", said.stderr)
        for name in ("a b", "", "a\n"):
            with pytest.raises(errors.InvalidSpec, match="name"):
                container.rename(name)
        with pytest.raises(errors.NotFound, match="/nonexistent"):
            container.copy_from("/nonexistent", "/tmp")
        with pytest.raises(errors.NotFound, match="/nonexistent"):
            container.copy_to("/etc/passwd", "/nonexistent/x")
        for changes in ({"memory": -7}, {"memory": "many"}, {"memory": "1m"}, {"cpus": -1}, {"restart": "sometimes"}):
            with pytest.raises(errors.InvalidSpec):
                container.update(**changes)  # type: ignore[arg-type]
        with pytest.raises(errors.InUse):
            type(container).remove()
        assert "running" == container.status


def test_bytes_that_are_no_text(store: Store) -> None:
    """Arguments of any bytes but NUL arrive as they are, from the API and from the command line."""
    odd = os.fsdecode(b"\xff\xfe\x80")

    assert b"\xff\xfe\x80" == store.box.run("echo", "-n", odd, text=False).stdout
    assert odd == cli(store, "run", "--rm", "-e", os.fsencode(f"A={odd}"), "box", "sh", "-c", 'echo -n "$A"').stdout


# -- archives and stores ---------------------------------------------------------------------------------------------------


def packed_rootfs(store: Store, compression: str = "") -> bytes:
    """Return the kit's root file system as a tar."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=f"w:{compression}") as tar:  # type: ignore[call-overload]
        tar.add(store.root.parent / "rootfs", ".")
    return file.getvalue()


@pytest.mark.parametrize("compression", ["", "gz", "xz"])
def test_truncated_archives(store: Store, tmp_path: Path, compression: str) -> None:
    """An archive that ends too early, wherever that is, makes no image; nor does what is no archive."""
    whole = packed_rootfs(store, compression)
    path = tmp_path / "root.tar"
    before = cli(store, "images", "-q").stdout
    for length in (0, 1, 100, 600, len(whole) // 2, len(whole) * 9 // 10):
        path.write_bytes(whole[:length])
        with pytest.raises(errors.CorruptArchive, match=r"root\.tar"):
            Image.import_rootfs(path, "broken", engine=store.engine)
    said = cli(store, "import", str(path), "broken")
    assert (1, "") == (said.returncode, said.stdout)
    assert re.match("Error: .*(truncated|malformed|damaged)", said.stderr)
    for odd in ("/dev/zero", "/dev/null"):
        with pytest.raises(errors.InvalidSpec, match=f"{odd}: it is a device"):
            Image.import_rootfs(odd, "broken", engine=store.engine)
    with pytest.raises(errors.NotFound, match="reading /nonexistent: No such file"):
        Image.import_rootfs("/nonexistent", "broken", engine=store.engine)
    with pytest.raises(errors.InvalidReference, match="BAD"):
        Image.import_rootfs(store.root.parent / "rootfs", "BAD", engine=store.engine)
    with pytest.raises(errors.InvalidType, match="source takes"):
        Image.import_rootfs(5, "broken", engine=store.engine)  # type: ignore[arg-type]
    assert before == cli(store, "images", "-q").stdout


def test_a_full_disk(tmp_path: Path) -> None:
    """A store in a small file system: what doesn't fit is refused and undone, and once there is room all works."""
    said = in_small_file_system(tmp_path, """
import io, tarfile
from pycontainers import Container, Engine, Image
from pycontainers.errors import StoreFull
file = io.BytesIO()
with tarfile.open(fileobj=file, mode="w") as tar:
    info = tarfile.TarInfo("big")
    info.size = 2 << 20
    tar.addfile(info, io.BytesIO(bytes(info.size)))
engine = Engine("native", root=sys.argv[1])
try:
    Image.import_rootfs(io.BytesIO(file.getvalue()), "big", engine=engine)
except StoreFull as error:
    print(error)
Host = Image.host(engine=engine)
print(Host.run("echo", "before").stdout, end="")
fill()
failed = 0
for _ in range(3):
    try:
        print(Host("true").id)
    except StoreFull:
        failed += 1
print(failed)
os.unlink(os.path.join(os.path.dirname(sys.argv[1]), "filler"))
print(Host.run("echo", "after").stdout, end="")
# A moment after the end of a run nothing of it is in the trash.
deadline = time.monotonic() + 5
while left_over(store) and time.monotonic() < deadline:
    time.sleep(0.02)
print([c.name for c in Container.list(all=True, engine=engine)], [i.tags for i in Image.list(engine=engine)], left_over(store))
engine.close()
""")

    lines = said.splitlines()
    assert re.search("No space left on device", lines[0])
    assert ["before", "3", "after"] == lines[1:4]
    assert "[] [('host:latest',)] {}" == lines[4]


def test_stores_that_are_none(tmp_path: Path, store: Store) -> None:
    """A file, someone else's directory, a path that can't be, and a store of a newer release are left as they are."""
    file = tmp_path / "file"
    file.write_text("mine\n")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "mine").touch()
    newer = tmp_path / "newer"
    engine = Engine("native", root=newer)
    Image.list(engine=engine)
    engine.close()
    (newer / "version").write_text("999\n")
    before = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*"))
    cases: list[tuple[object, type[Exception], str]] = [
        (file, errors.StoreError, f"opening the store.*{file}"),
        (folder, errors.StoreError, f"opening the store {folder}: the directory holds other things .*name an empty or a"),
        (newer, errors.StoreVersion, "999"),
        ("/proc/nonexistent", errors.StoreError, "opening the store.*/proc/nonexistent"),
        ("/tmp/a\0b", errors.InvalidSpec, "root is no path"),
        ("", errors.InvalidSpec, "root is no path"),
        (5, errors.InvalidType, "root takes a path: got 5"),
    ]
    for root, error, says in cases:
        with pytest.raises(error, match=says):
            Image.list(engine=Engine("native", root=root))
        if isinstance(root, Path):
            for command in (("ps",), ("images",), ("run", "box")):
                said = cli(store, *command, PYCONTAINERS_ROOT=str(root))
                assert (1 if command[0] != "run" else 125, "") == (said.returncode, said.stdout)
                assert re.search(says, said.stderr)
                assert "Traceback" not in said.stderr

    assert before == sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*"))
    assert "mine\n" == file.read_text()
    with pytest.raises(errors.BackendUnavailable, match="no backend is called 'nosuch'; there are: "):
        Engine("nosuch")
    with pytest.raises(errors.InvalidType, match="no such option: nosuch"):
        Engine("native", nosuch=1)


# -- a kernel that refuses -------------------------------------------------------------------------------------------------

#: System calls that are as young as to have one number on every architecture.
CALLS = {"open_tree": 428, "move_mount": 429, "fsopen": 430, "pidfd_open": 434}


def refuse(*numbers: int) -> None:
    """Have this process's kernel refuse some system calls (ENOSYS), for ever and for its children."""
    code = [(0x20, 0, 0, 0)]
    for number in numbers:
        code += [(0x15, 0, 1, number), (0x06, 0, 0, 0x00050000 | 38)]
    code.append((0x06, 0, 0, 0x7FFF0000))
    program = b"".join(struct.pack("=HBBI", *step) for step in code)
    buffer = ctypes.create_string_buffer(program)
    filter = struct.pack("HxxxxxxP", len(code), ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, ctypes.c_char_p(filter), 0, 0):
        raise OSError(ctypes.get_errno(), "seccomp")


@pytest.mark.parametrize("call", ["fsopen", "move_mount", "open_tree", "pidfd_open"])
def test_a_kernel_that_lacks_a_call(store: Store, tmp_path: Path, call: str) -> None:
    """The command line says what the kernel refuses, and leaves the store as it was."""
    store.engine.close()
    try:
        said = subprocess.run([*COMMAND, "run", "--rm", "box", "true"], capture_output=True, text=True, check=False,
                              cwd="/", timeout=60, preexec_fn=lambda: refuse(CALLS[call]),
                              env={**os.environ, "PYCONTAINERS_ROOT": str(store.root), "PYCONTAINERS_BACKEND": "native"})
        assert (125, "") == (said.returncode, said.stdout)
        assert re.match("pycontainers: .*(Function not implemented|kernel)", said.stderr)
        assert "Traceback" not in said.stderr
    finally:
        store.engine = Engine("native", root=store.root)


def test_a_file_system_that_overlay_refuses(tmp_path: Path) -> None:
    """A store on an overlay, which can't be the upper layer of another, says so."""
    if os.geteuid():
        pytest.skip("mounting an overlay needs root")
    for name in ("lower", "upper", "work", "merged"):
        (tmp_path / name).mkdir()
    code = f"""
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
here = {str(tmp_path)!r}
options = f"lowerdir={{here}}/lower,upperdir={{here}}/upper,workdir={{here}}/work".encode()
target = os.fsencode(f"{{here}}/merged")
if (libc.unshare(0x20000) or libc.mount(b"none", b"/", None, 0x44000, None)
        or libc.mount(b"overlay", target, b"overlay", 0, options)):
    raise OSError(ctypes.get_errno(), "mount")
from pycontainers import Container, Engine, Image
from pycontainers.errors import ContainersError
engine = Engine("native", root=f"{{here}}/merged/store")
try:
    print(Image.host(engine=engine).run("echo", "it works").stdout)
except ContainersError as error:
    print(type(error).__name__, error)
print(len(Container.list(all=True, engine=engine)))
engine.close()
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="/", timeout=60)

    assert re.fullmatch("(?s)StartFailed .*mounting the layers.*pycontainers doctor.*\n0\n", said.stdout)
