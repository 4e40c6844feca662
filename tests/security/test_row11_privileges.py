"""Row 11: what a container may do by default, and that whoever enters it may do the same (CVE-2022-24769, CVE-2022-27649,
CVE-2022-0492, CVE-2023-25809): capabilities, system calls, cgroups, devices, users, streams, sockets."""

from __future__ import annotations

import errno
import json
import os
import pty
import re
import socket
import stat
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest
from securitykit import DEFAULT_CAPABILITIES
from securitykit import Canary
from securitykit import require_root

from pycontainers import Container
from pycontainers import Engine
from pycontainers import Image
from pycontainers._native._lib import lib
from pycontainers.backends.native import cgroups
from pycontainers.errors import InvalidSpec
from pycontainers.errors import StartFailed

require_root()

STATUS = "grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status"
NOTHING = "0" * 16


def status(text: str) -> dict[str, str]:
    """Parse lines of /proc/PID/status."""
    return dict(re.findall(r"^(\w+):\s*(\S+)$", text, re.M))


def both(box: type[Container], *command: str, **options: object) -> tuple[str, str]:
    """Return what a command says as the container's own, and entered."""
    first = box.run(*command, check=False, **options).stdout  # type: ignore[call-overload]
    with box("sleep", "60", **options) as container:
        return first, container.exec(*command).stdout


# -- capabilities and system calls ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"init": True}, {"user": "0:0"}, {"network": "host"}, {"tty": True}])
def test_the_default_capabilities_and_filter(box: type[Container], options: dict[str, object]) -> None:
    wanted = {"CapInh": NOTHING, "CapPrm": DEFAULT_CAPABILITIES, "CapEff": DEFAULT_CAPABILITIES,
              "CapBnd": DEFAULT_CAPABILITIES, "CapAmb": NOTHING, "NoNewPrivs": "0", "Seccomp": "2"}
    for told in both(box, "sh", "-c", STATUS, **options):
        assert status(told.replace("\r", "")) == wanted


def test_another_user_has_no_capabilities(box: type[Container]) -> None:
    for told in both(box, "sh", "-c", STATUS, user="user"):
        found = status(told)
        assert (found["CapInh"], found["CapPrm"], found["CapEff"], found["CapAmb"]) == (NOTHING,) * 4
        assert found["CapBnd"] == DEFAULT_CAPABILITIES


def test_what_is_added_and_dropped_holds_for_whoever_enters(box: type[Container]) -> None:
    options = {"cap_drop": ["ALL"], "cap_add": ["NET_BIND_SERVICE"], "security_opt": ("no-new-privileges",)}
    for told in both(box, "sh", "-c", STATUS, **options):
        found = status(told)
        assert found["CapPrm"] == found["CapBnd"] == f"{1 << 10:016x}"
        assert (found["CapInh"], found["CapAmb"], found["NoNewPrivs"], found["Seccomp"]) == (NOTHING, NOTHING, "1", "2")


def test_a_callers_own_rights_do_not_get_in(box: type[Container], rootfs: Path, tmp_path: Path) -> None:
    """Inheritable and ambient capabilities, groups and no_new_privs of who starts the container are not the container's."""
    code = f"""
import ctypes, os
libc = ctypes.CDLL(None)
os.setgroups([0, 4444, 5555])
header, data = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
libc.capget(header, data)
data[2], data[5] = data[1], data[4]
assert libc.capset(header, data) == 0
assert libc.prctl(47, 2, 12, 0, 0) == 0
assert "CapAmb:\\t0000000000001000" in open("/proc/self/status").read()
from pycontainers import Engine, Image
engine = Engine("native", root={str(tmp_path / "store")!r})
box = Image.import_rootfs({str(rootfs)!r}, "box", engine=engine)
print(box.run("sh", "-c", {STATUS + "; id -G"!r}).stdout)
engine.close()
"""
    told = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True, cwd="/").stdout
    found = status(told)
    assert (found["CapInh"], found["CapAmb"], found["CapBnd"]) == (NOTHING, NOTHING, DEFAULT_CAPABILITIES)
    assert told.split()[-1] == "0"


def calls(told: str) -> dict[str, str]:
    """Parse what `probe calls` says."""
    return dict(line.split() for line in told.splitlines())


def test_system_calls_that_lead_out_are_refused_in_run_and_exec_alike(box: type[Container]) -> None:
    ran, entered = (calls(told) for told in both(box, "probe", "calls"))
    assert ran.pop("clone3") == entered.pop("clone3") == "ENOSYS"
    assert len(ran) > 20
    assert set(ran.values()) == {"EPERM"}, ran
    assert entered == ran
    # A terminal of one's own, and a user without privileges.
    told = box.run("probe", "calls", tty=True, user="user").stdout.replace("\r", "")
    assert set(calls(told).values()) == {"EPERM", "ENOSYS"}
    with box("sleep", "60", tty=True) as container:
        assert calls(container.exec("probe", "calls").stdout)["tiocsti"] == "EPERM"


def test_the_same_calls_are_allowed_where_that_is_asked_for(box: type[Container]) -> None:
    """So that the test above can fail: privileged, most of them work, in run and exec alike."""
    for told in both(box, "probe", "calls", privileged=True):
        found = calls(told)
        assert found["unshare-user"] == found["mount"] == found["keyctl"] == found["clone3"] == "allowed"
    # And with one capability, those that it opens.
    for told in both(box, "probe", "calls", cap_add=["SYS_ADMIN"]):
        assert calls(told)["unshare-mount"] == calls(told)["mount"] == "allowed"


def test_the_callers_session_keyring_is_not_the_containers(rootfs: Path, tmp_path: Path) -> None:
    """Where the filter is off the keyring can be asked for: what it holds is not the caller's."""
    code = f"""
import ctypes
libc = ctypes.CDLL(None)
assert libc.syscall(250, 1, b"pycontainers-test", 0, 0, 0) > 0
key = libc.syscall(248, b"user", b"pycontainers-secret", b"secret", 6, -3)
assert key > 0 and libc.syscall(250, 10, -3, b"user", b"pycontainers-secret", 0) == key
from pycontainers import Engine, Image
engine = Engine("native", root={str(tmp_path / "store")!r})
box = Image.import_rootfs({str(rootfs)!r}, "box", engine=engine)
print(box.run("probe", "key", "pycontainers-secret", privileged=True).stdout)
engine.close()
import subprocess
print(subprocess.run([{str(rootfs / "bin/probe")!r}, "key", "pycontainers-secret"], capture_output=True, text=True).stdout)
"""
    told = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True, cwd="/").stdout
    # So that this can fail: a child of the caller's finds it.
    assert told.split() == ["key", "ENOKEY", "key", "allowed"]


# -- cgroups, kernel files, devices --------------------------------------------------------------------------------------


def test_cgroups_can_not_be_written(box: type[Container]) -> None:
    script = ("grep -E ' - cgroup2? ' /proc/self/mountinfo; find /sys/fs/cgroup -name release_agent -o -name cgroup.procs -o "
              "-name devices.allow; mkdir /tmp/c; mount -t cgroup -o devices none /tmp/c && echo mounted; "
              "for f in $(find /sys -name release_agent -o -name notify_on_release) /sys/kernel/uevent_helper "
              "/sys/fs/cgroup/cgroup.procs; do echo x 2>/dev/null > $f && echo wrote $f; done; mkdir /sys/fs/cgroup/x && echo made")
    for told in both(box, "sh", "-c", script + " 2>/dev/null"):
        assert all(" ro," in line for line in told.splitlines() if " - cgroup" in line)
        assert not re.search(r"mounted|wrote|made|release_agent", told), told


def test_kernel_files_are_masked_and_read_only(box: type[Container]) -> None:
    script = """
    for p in /proc/kcore /proc/keys /proc/timer_list /proc/interrupts; do
        test -e $p && test $(head -c 1 $p | wc -c) != 0 && echo "read $p"; done
    for p in /sys/firmware /proc/acpi /proc/scsi /sys/devices/virtual/powercap; do
        test -d $p && test -n "$(ls $p)" && echo "listed $p"; done
    for p in /proc/sys/kernel/core_pattern /proc/sys/kernel/modprobe /proc/sys/vm/drop_caches /proc/sysrq-trigger \
             /proc/irq/default_smp_affinity /sys/kernel/mm/transparent_hugepage/enabled; do
        (echo x > $p) 2>/dev/null && echo "wrote $p"; done
    umount /proc/timer_list 2>/dev/null && echo unmasked
    mount -o remount,rw /proc/sys 2>/dev/null && echo writable
    echo done"""
    for told in both(box, "sh", "-c", script):
        assert told == "done\n"


#: Of all machines' devices: a loop device is a disk that this machine's root may open.
DEVICES = ("mknod /t/disk b 7 0; mknod /t/fuse c 10 229; mknod /t/mem c 1 1; mknod /t/console c 5 1; mknod /t/kmsg c 1 11; mknod /t/zero c 1 5; "
           "for d in disk fuse mem console kmsg zero; do timeout 1 sh -c \": < /t/$d\" 2>&1 | grep -q 'not permitted' "
           "|| echo opened $d; done")


def test_device_nodes_that_a_container_makes_open_nothing_of_the_hosts(box: type[Container]) -> None:
    for place in ("/t", "/dev/t"):
        for told in both(box, "sh", "-c", f"mkdir /t; {DEVICES}".replace("/t", place)):
            assert told == "opened zero\n"


def test_devices_that_were_asked_for_open_and_no_others(box: type[Container]) -> None:
    told = both(box, "sh", "-c", f"test -c /dev/full && echo own; mkdir /t; {DEVICES}", device_cgroup_rules=["c 10:229 rw"],
                devices=["/dev/full"])
    assert told == ("own\nopened fuse\nopened zero\n",) * 2


def in_machine(without: str, rootfs: Path, store: Path, body: str) -> dict[str, str]:
    """Run code in a mount namespace that lacks some of the machine's cgroup hierarchies; returns what it stores in `found`."""
    code = f"""
import json, warnings
warnings.simplefilter("ignore")
from pycontainers import Engine, Image
engine = Engine("native", root={str(store)!r})
box = Image.import_rootfs({str(rootfs)!r}, "box", engine=engine)
found = {{}}
{body}
engine.close()
print(json.dumps(found))
"""
    done = subprocess.run(["unshare", "-m", "sh", "-c", f'{without}; exec "$0" -c "$1"', sys.executable, code], cwd="/",
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


ENTER = f"""
found["run"] = box.run("sh", "-c", "mkdir /t; " + {DEVICES!r}).stdout
with box("sleep", "60") as container:
    found["exec"] = container.exec("sh", "-c", "mkdir /t; " + {DEVICES!r}).stdout
found["privileged"] = box.run("sh", "-c", "mkdir /t; " + {DEVICES!r}, privileged=True).stdout
"""


@pytest.mark.skipif(not (cgroups.layout().unified >= 0 and os.path.isdir("/sys/fs/cgroup/devices")),
                    reason="shown where both versions are: elsewhere the tests above show what there is")
def test_version_2_judges_devices_by_a_program(rootfs: Path, tmp_path: Path) -> None:
    body = ENTER + """
with box("sleep", "60", device_cgroup_rules=["c 10:229 r"]) as container:
    found["asked for"] = container.exec("sh", "-c", "mkdir /t; " + """ + repr(DEVICES) + """).stdout
    for i in range(3):
        container.restart(timeout=0)
    found["restarted"] = container.exec("sh", "-c", "rm -r /t; mkdir /t; " + """ + repr(DEVICES) + """).stdout
found["rule"] = box.run("sh", "-c", "mkdir /t; " + """ + repr(DEVICES) + """, device_cgroup_rules=["c *:229 rw"]).stdout
found["of another kind"] = box.run("sh", "-c", "mkdir /t; " + """ + repr(DEVICES) + """, device_cgroup_rules=["b 10:229 r", "c 10:229 wm", "c 10:228 r", "c 11:229 r"]).stdout
"""
    found = in_machine("umount /sys/fs/cgroup/devices", rootfs, tmp_path / "store", body)
    assert found["run"] == found["exec"] == found["of another kind"] == "opened zero\n"
    assert found["asked for"] == found["restarted"] == found["rule"] == "opened fuse\nopened zero\n"
    assert "opened disk" in found["privileged"] and "opened kmsg" in found["privileged"]


def test_without_any_cgroup_no_node_opens(rootfs: Path, tmp_path: Path) -> None:
    image = tmp_path / "image"
    subprocess.run(["cp", "-a", str(rootfs), str(image)], check=True)
    subprocess.run(["mknod", str(image / "node"), "c", "1", "5"], check=True)
    script = ("mknod /x c 1 5 2>/dev/null && echo made; mknod /dev/x c 1 5 2>/dev/null && echo made; "
              "(head -c 1 /node >/dev/null) 2>/dev/null && echo opened; head -c 1 /dev/zero | wc -c")
    body = f"""
found["run"] = box.run("sh", "-c", {script!r}).stdout
with box("sleep", "60") as container:
    found["exec"] = container.exec("sh", "-c", {script!r}).stdout
try:
    box("true", cap_add=["MKNOD"])
except Exception as error:
    found["error"] = type(error).__name__
"""
    assert in_machine("umount -R /sys/fs/cgroup", image, tmp_path / "store", body) == {
        "run": "1\n", "exec": "1\n", "error": "Unsupported"}
    # So that this can fail: with cgroups both are allowed, for a device that every container has.
    found = in_machine("true", image, tmp_path / "other", body.replace('found["error"]', 'found["run"]'))
    assert found["run"] == found["exec"] == "made\nmade\nopened\n1\n"


WATCHERS = ("for p in $(grep -ls pycontainers-su /proc/[0-9]*/comm | cut -d/ -f3); do "
            "grep -E '^(CapPrm|CapBnd|Seccomp:)' /proc/$p/status; ls -l /proc/$p/fd | grep -o -e '-> .*'; done")


@pytest.mark.skipif(cgroups.layout().unified < 0, reason="shown where both versions are: elsewhere all other tests show it")
def test_what_watches_an_exec_without_version_2_has_no_more_than_the_container(rootfs: Path, tmp_path: Path) -> None:
    """There a process among the container's own waits for the command: worth nothing to whoever may trace it."""
    body = f"""
for name, caps in (("plain", []), ("tracing", ["SYS_PTRACE"])):
    with box("sleep", "60", cap_add=caps) as container:
        found[name] = container.exec("sh", "-c", "sleep 0.2; " + {WATCHERS!r}).stdout
"""
    found = in_machine("umount /sys/fs/cgroup/unified", rootfs, tmp_path / "store", body)
    for name, bits in (("plain", DEFAULT_CAPABILITIES), ("tracing", f"{int(DEFAULT_CAPABILITIES, 16) | 1 << 19:016x}")):
        told = status(found[name])
        assert told["CapPrm"] == told["CapBnd"] == bits, found
        assert set(re.findall(r"-> (.*)", found[name])) <= {"/proc"}
    assert status(found["tracing"])["Seccomp"] == "2"


@pytest.mark.parametrize("rule", ["c 1:3", "x 1:3 rwm", "c 1:3 rwx", "b 1:3 rwm; a", "c -1:3 r", ""])
def test_a_rule_for_devices_that_is_none_is_refused(box: type[Container], rule: str) -> None:
    with pytest.raises(InvalidSpec, match="device_cgroup_rules"):
        box("true", device_cgroup_rules=[rule])


@pytest.mark.parametrize("name", ["kernel.core_pattern", "kernel/core_pattern", "vm.drop_caches", "kernel.modprobe", "fs.file-max",
                                  "net/../kernel/core_pattern", "net....kernel.core_pattern", "kernel.hostname", "../sysrq-trigger"])
def test_a_sysctl_of_the_whole_machine_is_refused(box: type[Container], name: str) -> None:
    with pytest.raises(InvalidSpec, match="sysctl"):
        box("true", sysctls={name: "1"})


def test_sysctls_of_the_containers_own_namespaces_are_its_own(box: type[Container]) -> None:
    before = Path("/proc/sys/net/ipv4/ip_forward").read_text(), Path("/proc/sys/kernel/msgmax").read_text()
    told = box.run("cat", "/proc/sys/net/ipv4/ip_forward", "/proc/sys/kernel/msgmax",
                   sysctls={"net.ipv4.ip_forward": "1", "kernel.msgmax": "4096"}).stdout
    assert told == "1\n4096\n"
    assert before == (Path("/proc/sys/net/ipv4/ip_forward").read_text(), Path("/proc/sys/kernel/msgmax").read_text())
    for name, host in (("net.ipv4.ip_forward", {"network": "host"}), ("kernel.msgmax", {"ipc": "host"})):
        with pytest.raises(InvalidSpec, match="host"):
            box("true", sysctls={name: "1"}, **host)  # type: ignore[arg-type]


# -- users and groups ----------------------------------------------------------------------------------------------------


def test_groups_are_the_images_and_never_the_hosts(box: type[Container]) -> None:
    for user, wanted in (("user", "1000 2000"), ("1000", "1000 2000"), ("user:extra", "2000"), ("1234", "0"), ("1234:extra", "2000"),
                         ("user:77", "77"), ("0", "0"), ("root", "0")):
        for told in both(box, "id", "-G", user=user):
            assert told.strip() == wanted, user
    for user in ("daemon", "www-data", "user:disk", "user:shadow"):
        with pytest.raises(StartFailed, match="unable to find user"):
            box.run("true", user=user)


@pytest.mark.parametrize("plant", [
    "mkfifo {}", "ln -s /dev/zero {}", "ln -s /dev/full {}", "ln -s /dev/tty {}", "mkdir {}", "ln -s {} {}", "mknod {} c 1 5",
    "ln -s /proc/self/mem {}", "ln -s /proc/kmsg {}", "truncate -s 8G {}", "ln -s /proc/self/fd/0 {}",
    "yes x:x:1:1:x:x:x | head -c 20000000 > {}", "tr '\\0' x < /dev/zero | head -c 2000000 > {}",
    "printf 'user:x:4294967295:0::/:\\nuser:x:-1:0::/:\\nuser:x:99999999999999999999:0::/:\\n::::::\\n:\\n' > {}"])
def test_user_lists_are_read_as_hostile_input(box: type[Container], plant: str) -> None:
    """No list of the image's stalls who starts or enters, is read without end, or gives a user by accident."""
    with box("sleep", "60") as container:
        for name in ("/etc/passwd", "/etc/group"):
            container.exec("sh", "-c", f"rm -rf {name}; {plant.format(name, name)}", timeout=20)
        begin = time.monotonic()
        assert container.exec("echo", "here", user="4321:4321", timeout=20).stdout == "here\n"
        with pytest.raises(StartFailed, match="unable to find user"):
            container.exec("true", user="user", timeout=20)
        assert time.monotonic() - begin < 10
        assert container.exec("echo", "still here", timeout=20).stdout == "still here\n"


def test_links_of_user_lists_lead_to_the_images_own_files(engine: Engine, rootfs: Path, tmp_path: Path, canary: Canary) -> None:
    (tmp_path / "passwd").write_text("hostuser:x:0:0::/:\n")
    image = tmp_path / "image"
    subprocess.run(["cp", "-a", str(rootfs), str(image)], check=True)
    (image / "etc/passwd").unlink()
    (image / "etc/passwd").symlink_to(tmp_path / "passwd")
    evil = Image.import_rootfs(image, "lists", engine=engine)
    with pytest.raises(StartFailed, match="unable to find user"):
        evil.run("true", user="hostuser")


# -- streams -------------------------------------------------------------------------------------------------------------


def test_the_callers_terminal_stays_the_callers(box: type[Container]) -> None:
    """A container of another user's gets the caller's terminal as its input, not as its own: nor can it type into it."""
    master, slave = pty.openpty()
    before = os.fstat(slave)
    try:
        script = "id -u; chown 1000 /proc/self/fd/0 2>/dev/null; probe calls | grep tiocsti"
        with box("sleep", "60") as container:
            process = container.popen("sh", "-c", script, user="user", stdin=slave, stdout=subprocess.PIPE)
            told, _ = process.communicate(timeout=20)
        assert (told if isinstance(told, str) else told.decode()) == "1000\ntiocsti EPERM\n"
        after = os.fstat(slave)
        assert (after.st_uid, after.st_gid, after.st_mode) == (before.st_uid, before.st_gid, before.st_mode)
    finally:
        os.close(master)
        os.close(slave)


def test_a_users_own_streams_can_be_opened_again(box: type[Container]) -> None:
    """So that the test above is about the caller's: pipes and a terminal of the container's own are its user's."""
    script = "echo out > /dev/stdout; echo err > /dev/stderr; echo done"
    assert box.run("sh", "-c", script, user="user").stdout == "out\ndone\n"
    with box("sleep", "60", tty=True, user="user") as container:
        assert container.exec("sh", "-c", script).stdout == "out\ndone\n"
        assert container.exec("stat", "-c", "%u", "/dev/pts/0").stdout == "1000\n"


# -- the store and its sockets -------------------------------------------------------------------------------------------


def sockets(root: Path) -> list[Path]:
    """Return the sockets below a store."""
    return [path for path in root.rglob("*.sock") if stat.S_ISSOCK(path.lstat().st_mode)]


def test_store_and_sockets_are_their_users_alone(store_root: Path, box: type[Container]) -> None:
    with box("sleep", "60") as container:
        assert stat.S_IMODE(store_root.stat().st_mode) == 0o700
        found = sockets(store_root)
        assert len(found) >= 2
        assert container.id in {path.parent.name for path in found}
        assert {stat.S_IMODE(path.stat().st_mode) for path in found} == {0o600}


def speak(path: Path, uid: int, message: bytes) -> str:
    """Ask something at a socket as another user who has got into its directory; returns what comes back, or the error."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.chdir(path.parent)
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
                client.settimeout(5)
                client.connect(path.name)
                client.send(message)
                os.write(write, b"answer" if client.recv(4096) else b"closed")
        except OSError as error:
            os.write(write, errno.errorcode.get(error.errno or 0, "timeout").encode())
        finally:
            os._exit(0)
    os.close(write)
    with open(read) as file:
        told = file.read()
    os.waitpid(pid, 0)
    return told


def test_sockets_answer_their_own_user_only(store_root: Path, box: type[Container]) -> None:
    """By the kernel's word for who connects, even where the modes were lost."""
    request = struct.pack("=4I3q2I", lib.PYC_REQUEST_MAGIC, lib.PYC_REQ_PIDFD, 0, 0, 0, 0, 0, 0, 0)
    with box("sleep", "60") as container:
        path = next(path for path in sockets(store_root) if path.parent.name == container.id)
        assert speak(path, 1000, request) == "EACCES"
        path.parent.chmod(0o755)
        assert speak(path, 1000, request) == "EACCES"
        path.chmod(0o666)
        assert speak(path, 1000, request) in ("closed", "ECONNRESET", "EPIPE")
        # So that this can fail: to its own user the same question is answered.
        assert speak(path, 0, request) == "answer"


def test_malformed_requests_harm_nobody(store_root: Path, box: type[Container]) -> None:
    head = struct.Struct("=4I3q2I")
    plan = b"\xff" * 400
    messages = [b"", b"x", b"\0" * 48, os.urandom(48), head.pack(lib.PYC_REQUEST_MAGIC, 9999, 0, 0, 0, 0, 0, 0, 0),
                head.pack(lib.PYC_REQUEST_MAGIC, lib.PYC_REQ_EXEC, 0, len(plan), 0, 0, 0, 0, 0) + plan,
                head.pack(lib.PYC_REQUEST_MAGIC, lib.PYC_REQ_EXEC, 2, 0xFFFFFFFF, 0, 0, 0, 0, 0),
                head.pack(lib.PYC_REQUEST_MAGIC, lib.PYC_REQ_EXEC, 0x7F, 0, -1, -1, -1, 0xFFFFFFFF, 0xFFFFFFFF),
                head.pack(lib.PYC_REQUEST_MAGIC, lib.PYC_REQ_SIGNAL, 0, 0, 1 << 40, 0, 0, 0, 0),
                head.pack(lib.PYC_REQUEST_MAGIC, lib.PYC_REQ_SOCKET, 0, 0, -1, -1, -1, 0, 0),
                head.pack(lib.PYC_REQUEST_MAGIC, lib.PYC_REQ_FILE, 0, 0, -1, -1, -1, 0xFFFFFFF0, 0xFFFFFFF0),
                head.pack(lib.PYC_REQUEST_MAGIC, lib.PYC_REQ_UNPACK, 0, 0, 0, 1, 0, 5, 9), b"A" * 140_000]
    with box("sleep", "60") as container:
        for path in sockets(store_root):
            for message in messages:
                with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
                    client.settimeout(1)
                    try:
                        client.connect(str(path))
                        client.send(message)
                        client.recv(4096)
                    except OSError:
                        pass
        assert container.exec("echo", "well").stdout == "well\n"
        assert box.run("echo", "well").stdout == "well\n"


def test_a_host_network_finds_no_socket_of_ours(box: type[Container]) -> None:
    """CVE-2020-15257: abstract sockets are the network's, whoever is root in it."""
    with box("sleep", "60", network="host") as container:
        told = container.exec("cat", "/proc/net/unix").stdout
        assert not [line for line in told.splitlines() if " @" in line and re.search(r"pycontainers|pyc-", line)]


def test_an_update_does_not_lock_out_whoever_enters_later(box: type[Container]) -> None:
    """A limit given to a running container makes it a cgroup: who enters is under it as well."""
    with box("sleep", "60") as container:
        container.update(cpus=0.5)
        assert container.id in container.exec("grep", ":cpu:", "/proc/self/cgroup").stdout
