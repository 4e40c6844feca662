"""What the doctor says of this machine: what is there, what a lack costs, and the command that mends it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from accountkit import Account
from accountkit import give_ranges
from accountkit import own_account
from accountkit import own_interpreter
from accountkit import require_root
from accountkit import subordinate
from accountkit import take_ranges
from lifekit import require_native

from pycontainers import Check
from pycontainers import list_backends

require_native()

#: Goes on in a user namespace of the same ids, in which no further one can be made.
NO_NAMESPACES = (sys.executable, "-c", """
import ctypes, os, sys
ready, mapped = os.pipe(), os.pipe()
child = os.fork()
if child == 0:
    if ctypes.CDLL(None).unshare(0x10000000):
        os._exit(99)
    os.write(ready[1], b"x")
    os.read(mapped[0], 1)
    with open("/proc/sys/user/max_user_namespaces", "w") as file:
        file.write("0")
    os.execvp(sys.argv[1], sys.argv[1:])
os.read(ready[0], 1)
for name in ("uid_map", "gid_map"):
    with open(f"/proc/{child}/{name}", "w") as file:
        file.write("0 0 65536")
os.write(mapped[1], b"x")
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
""")
#: Has a part of /proc covered, as it is in a container of Docker's.
COVERED_PROC = ("unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /proc/bus && exec "$@"', "sh")


def of_native(root: Path) -> dict[str, Check]:
    """Return the native backend's checks by name."""
    status = next(status for status in list_backends() if status.name == "native")
    return {check.name: check for check in status.checks(root)}


@pytest.fixture(scope="module")
def account() -> Iterator[Account]:
    """A user with ranges of subordinate ids."""
    require_root()
    with own_interpreter() as interpreter, own_account(interpreter, ranges=True) as made:
        yield made


def told(account: Account, *wrapper: str, code: int = 0) -> dict[str, dict[str, object]]:
    """Return what `pycontainers doctor -f json` tells the user of the native backend, by name."""
    process = account.start("-m", "pycontainers", "doctor", "-f", "json", wrapper=wrapper or ("env",))
    out, _ = process.communicate(timeout=60)
    assert process.returncode == code, out
    return {check["Name"]: check for check in json.loads(out)["Checks"] if check["Backend"] == "native"}


def test_every_check_is_whole(tmp_path: Path) -> None:
    """All that is needed here is found; what is lacking says what that costs and what mends it; nothing stays of the look."""
    found = of_native(tmp_path / "not/yet/made")

    assert {"C part", "kernel", "namespaces", "proc and sysfs", "overlay", "seccomp", "cgroups", "store"} <= set(found)
    for check in found.values():
        assert check.found
        assert bool(check.cost) == bool(check.remedy) == (not check.ok), check
        assert check.ok or not check.needed, check
    assert os.uname().release == found["kernel"].found
    assert str(tmp_path / "not/yet/made") in found["store"].found
    assert not list(tmp_path.iterdir())


def test_the_program_tells(tmp_path: Path) -> None:
    """`pycontainers doctor` says the same to people, and to programs as JSON or by a template."""
    def doctor(*argv: str) -> str:
        environment = {**os.environ, "PYCONTAINERS_ROOT": str(tmp_path)}
        return subprocess.run([sys.executable, "-m", "pycontainers", "doctor", *argv], capture_output=True, text=True,
                              check=True, cwd="/", env=environment).stdout

    lines = doctor().splitlines()
    report = json.loads(doctor("-f", "json"))

    assert "The native backend: in use" in lines
    assert any(line.split() == ["ok", "kernel", os.uname().release] for line in lines)
    assert {"Backend", "Name", "Ok", "Found", "Needed", "Cost", "Remedy"} == set(report["Checks"][0])
    assert {check.name for check in of_native(tmp_path).values()} == {c["Name"] for c in report["Checks"]}
    assert "kernel true" in doctor("-f", "{{range .Checks}}{{.Name}} {{.Ok}};{{end}}").split(";")


def test_an_ordinary_user(account: Account) -> None:
    """A user is told of user namespaces, of subordinate ids and what gives them, and of cgroups."""
    first = subordinate("uid", account.name)[0][0]
    found = told(account)

    assert found["user namespaces"]["Ok"] is found["subordinate ids"]["Ok"] is found["newuidmap"]["Ok"] is True
    assert f"65536 users from {first}" in str(found["subordinate ids"]["Found"])
    if not found["cgroups"]["Ok"]:
        assert "pause" in str(found["cgroups"]["Cost"])

    take_ranges(account.name)
    lacking = told(account)["subordinate ids"]
    assert (lacking["Ok"], lacking["Needed"]) == (False, False)
    command = str(lacking["Remedy"]).removeprefix("sudo ").split()
    subprocess.run(command, check=True)
    assert told(account)["subordinate ids"]["Ok"]
    take_ranges(account.name)
    give_ranges(account.name, first)


def test_no_new_privileges(account: Account) -> None:
    """A process that may gain no privileges is told that newuidmap is of no use to it."""
    check = told(account, "setpriv", "--no-new-privs")["newuidmap"]

    assert not check["Ok"]
    assert "no_new_privs" in str(check["Found"])


def test_no_user_namespaces(account: Account) -> None:
    """Where user namespaces are off, the doctor works though the backend doesn't, and errors send there."""
    found = told(account, *NO_NAMESPACES, code=1)

    assert (found["user namespaces"]["Ok"], found["user namespaces"]["Needed"]) == (False, True)
    assert found["user namespaces"]["Remedy"] == "sysctl -w user.max_user_namespaces=15000"
    process = account.start("-m", "pycontainers", "run", "host", "true", wrapper=NO_NAMESPACES)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 125
    assert "pycontainers doctor" in out


def test_covered_proc(account: Account) -> None:
    """Where something lies over a part of /proc, as in other engines' containers, no new one can be mounted: both say so."""
    found = told(account, *COVERED_PROC)

    assert (found["proc and sysfs"]["Ok"], found["user namespaces"]["Ok"]) == (False, True)
    assert "--security-opt" in str(found["proc and sysfs"]["Remedy"])
    process = account.start("-m", "pycontainers", "run", "--rm", "host", "true", wrapper=COVERED_PROC)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 125
    assert "pycontainers doctor" in out


def test_a_small_store(account: Account) -> None:
    """A store's file system that is nearly full, or that can't be written to, is told."""
    script = """
mkdir -p "$HOME/small"
mount -t tmpfs -o size=8m,mode=777 none "$HOME/small"
PYCONTAINERS_ROOT="$HOME/small/store" exec "$@"
"""
    small = ("unshare", "--mount", "sh", "-ec", script, "sh")
    assert "on tmpfs, 0.0 GiB free" in str(told(account, *small)["store"]["Found"])
    assert not told(account, *small)["store"]["Ok"]
    closed = told(account, "env", "PYCONTAINERS_ROOT=/proc/store")["store"]
    assert (closed["Ok"], closed["Needed"]) == (False, True)


def test_without_the_c_part(tmp_path: Path) -> None:
    """Where there was no compiler, the doctor says what to install, and still looks at the rest."""
    code = """
import sys
sys.modules["pycontainers._native._lib"] = None
from pycontainers import list_backends
status = next(s for s in list_backends() if s.name == "native")
assert not status.usable
found = {c.name: c for c in status.checks(sys.argv[1])}
assert not found["C part"].ok and "gcc" in found["C part"].remedy, found["C part"]
assert found["kernel"].ok and found["store"].ok
assert not found["overlay"].ok and found["overlay"].remedy
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, cwd="/")
