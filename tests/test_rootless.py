"""Containers of an ordinary user: with ranges of subordinate ids, and with the one id that everyone has."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from accountkit import PRELUDE
from accountkit import Account
from accountkit import Interpreter
from accountkit import give_ranges
from accountkit import own_account
from accountkit import own_interpreter
from accountkit import require_root
from accountkit import subordinate
from accountkit import take_ranges
from lifekit import heard
from lifekit import payloads
from lifekit import require_native
from lifekit import wait_until

require_native()
require_root()


@pytest.fixture(scope="module")
def interpreter() -> Iterator[Interpreter]:
    """An interpreter that the users may execute."""
    with own_interpreter() as made:
        yield made


@pytest.fixture(scope="module", params=["ranges", "single"])
def account(request: pytest.FixtureRequest, interpreter: Interpreter) -> Iterator[Account]:
    """A user with ranges of subordinate ids, and one without, each with a store and an image; nothing of either stays."""
    with own_account(interpreter, ranges=request.param == "ranges") as made:
        made.run("-c", PRELUDE + 'Image.import_rootfs(home / "rootfs", "box", engine=Engine("native", root=root))')
        yield made
        made.run("-c", PRELUDE + """
engine = Engine("native", root=root)
assert not Container.list(all=True, engine=engine)
for found in Image.list(engine=engine):
    found.remove(force=True)
engine.close()
left = [str(p) for place in ("containers/*/*", "layers/*/*", "images/*", "tmp/*", "trash/*") for p in root.glob(place)]
assert not left, left
import shutil
shutil.rmtree(root)
""")
        mounts = Path("/proc/self/mountinfo").read_text()
        assert str(made.home) not in mounts


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_kit(account: Account) -> None:
    """The conformance kit passes; what no cgroup and no ids allow is unsupported, and nothing else."""
    out = account.run("-m", "pytest", "-q", "-p", "no:cacheprovider", "--timeout=60", "--tb=short", "--pyargs",
                      "pycontainers.testing", "--pycontainers-backend=native", f"--basetemp={account.home}/kit", timeout=380)

    counts = {word: int(number) for number, word in re.findall(r"(\d+) (\w+)", out.splitlines()[-1])}
    assert counts["passed"] > 150
    assert "skipped" not in counts
    assert counts.get("unsupported", 0) < 15


def test_run_and_exec(account: Account) -> None:
    """`run` and `exec` give output, exit codes and input; a container has its own names, and ids that begin at root."""
    account.python("""
done = Box.run("sh", "-c", "cat; id -u; hostname; echo err >&2; exit 3", input="in\\n", hostname="hal")
assert (done.returncode, done.stdout, done.stderr) == (3, "in\\n0\\nhal\\n", "err\\n"), done
with Box("sleep", "300", init=True) as container:
    done = container.exec("sh", "-c", "cat; readlink /proc/self/ns/user; exit 4", input="x\\n")
    assert (done.returncode, done.stdout.splitlines()[0]) == (4, "x")
    assert done.stdout.splitlines()[1] != os.readlink("/proc/self/ns/user")
    raises(CommandNotFound, lambda: container.exec("nothing-such"), "nothing-such")
    assert container.top()[0].command
    assert container.stats().pids >= 2
""")


def test_exec_timeout_kills_the_tree(account: Account) -> None:
    """A timeout kills every descendant of that exec, orphans and new sessions too, and nothing else of the container."""
    account.python("""
tree = "sleep 391 & (setsid sleep 392 &) ; (setsid sh -c 'sleep 393 & sleep 394' &) ; sh -c 'trap \\"\\" TERM HUP; sleep 395'"
with Box("sh", "-c", "sleep 390 & wait") as container:
    def seconds():
        found = container.exec("sh", "-c", "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\\\0' ' '").stdout
        return {n for n in map(str, range(390, 396)) if f"sleep {n} " in found}
    threading.Thread(target=lambda: container.exec("sleep", "396", check=False), daemon=True).start()
    began = time.monotonic()
    raises(TimedOut, lambda: container.exec("sh", "-c", tree, timeout=0.7))
    assert time.monotonic() - began < 5
    assert seconds() == {"390"}, seconds()
    assert container.status == "running"
    with container.popen("sh", "-c", "(setsid sleep 391 &) ; sleep 392") as process:
        while seconds() != {"390", "391", "392"}:
            time.sleep(0.01)
        process.kill()
        assert process.wait(10) == 137
    assert seconds() == {"390"}
""")


def test_logs_stop_kill_and_start_again(account: Account) -> None:
    """A detached container outlives its caller, is found by another, stopped, started again, killed, and keeps its log."""
    name = account.python("""
container = Box("sh", "-c", "echo begun; echo err >&2; trap 'echo stopping; exit 5' TERM; sleep 300 & wait")
container.start()
container.wait_for(log("begun"), 20)
say(container.name)
""").strip()
    account.python("""
container = Container.get(sys.argv[1], engine=engine)
assert container.status == "running"
container.stop()
assert container.exit_code == 5
assert container.logs(stream="stdout") == "begun\\nstopping\\n", container.logs()
assert container.logs(stream="stderr") == "err\\n"
container.start()
container.kill("KILL")
assert container.wait(20) == 137
container.restart()
assert container.status == "running"
container.remove(force=True)
raises(ContainerNotFound, lambda: Container.get(sys.argv[1], engine=engine))
""", name)


def test_attach_and_terminals(account: Account) -> None:
    """Streams can be attached to; a container and an exec may have a terminal, with its size."""
    account.python("""
container = Box("cat", stdin_open=True)
with container.attach() as attached:
    container.start()
    attached.write("one\\n")
    attached.close_stdin()
    assert attached.read() == b"one\\n"
assert container.wait(20) == 0
container.remove()
script = "test -t 0 && tty && stty size && ls -l /dev/console && read word && echo got $word"
container = Box("sh", "-c", script, tty=True, stdin_open=True)
with container.attach() as attached:
    container.start()
    attached.write("word\\n")
    out = attached.read()
assert b"/dev/pts/0" in out and b"got word" in out, out
assert container.wait(20) == 0
container.remove()
with Box("sleep", "300", init=True) as container:
    with container.popen("sh", "-c", "read x; stty size; echo $x", tty=True) as process:
        process.resize(33, 101)
        process.stdin.write("typed\\n")
        process.stdin.flush()
        assert "33 101\\ntyped" in process.stdout.read().replace("\\r", "")
""")


def test_files_in_and_out(account: Account) -> None:
    """Copying, `path()`, `diff` and `export` work on running and ended containers, and what comes out is the caller's."""
    account.python("""
tree = home / "tree"
(tree / "deep").mkdir(parents=True)
(tree / "deep/file").write_text("content")
(tree / "link").symlink_to("deep/file")
container = Box("sh", "-c", "rm /etc/group; mkdir /new; echo x > /new/x; chmod 600 /new/x; sleep 300", init=True)
container.start()
container.wait_for(lambda c: c.exec("test", "-e", "/new/x").returncode == 0, 20)
for running in (True, False):
    if not running:
        container.stop()
    container.copy_to(tree, f"/copied{running}")
    assert container.path(f"/copied{running}/link").read_text() == "content"
    assert container.path("/new/x").stat().st_uid == 0
    out = container.copy_from("/new", home / f"out{running}")
    assert (out / "x").read_text() == "x\\n"
    assert (out / "x").stat().st_uid == os.getuid()
    changes = {(c.kind, c.path) for c in container.diff()}
    assert {("D", "/etc/group"), ("A", "/new/x"), ("C", "/etc")} <= changes, changes
container.export(home / "export.tar")
import tarfile
with tarfile.open(home / "export.tar") as tar:
    assert "new/x" in [name.removeprefix("./") for name in tar.getnames()]
container.remove()
""")


def test_binds(account: Account) -> None:
    """What the caller may read and write it may bind, read-only too; root inside is the caller outside."""
    account.python("""
shared = home / "shared"
shared.mkdir()
(shared / "in").write_text("in")
single = home / "single"
single.write_text("file")
where = {shared: "/mnt", single: ("/srv/file", "ro")}
done = Box.run("sh", "-c", "cat /mnt/in /srv/file; echo out > /mnt/out; echo no > /srv/file", volumes=where)
assert done.stdout == "infile", done
assert done.returncode and "Read-only" in done.stderr
assert (shared / "out").stat().st_uid == os.getuid()
done = Box.run("sh", "-c", "echo no > /mnt/in || mount -o remount,rw /mnt; echo no > /mnt/in", volumes={shared: ("/mnt", "ro")})
assert done.returncode and (shared / "in").read_text() == "in", done
made = home / "made/by/us"
Box.run("touch", "/mnt/x", volumes={made: "/mnt"}, check=True)
assert (made / "x").exists()
raises(ContainersError, lambda: Box.run("true", volumes={"/root/secret": "/mnt"}), "/root/secret")
done = Box.run("sh", "-c", "cat /mnt/shadow; echo x > /mnt/written", volumes={"/etc": "/mnt"})
assert done.returncode and not done.stdout, done
""")


MOUNTED_LATER = """
import ctypes, subprocess, sys
libc = ctypes.CDLL(None, use_errno=True)
home, uid, gid, *argv = sys.argv[1:]
assert libc.unshare(0x20000) == 0
assert libc.mount(b"none", b"/", None, 0x44000, None) == 0
user = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, user=int(uid), group=int(gid),
                        extra_groups=[], cwd=home)
assert user.stdout.readline() == "begun\\n"
for place in ("late", "late/deep"):
    assert libc.mount(b"tmpfs", f"{home}/{place}".encode(), b"tmpfs", 0, f"uid={uid}".encode()) == 0
    subprocess.run(["mkdir", "-p", f"{home}/late/deep"], check=True)
    open(f"{home}/{place}/there", "w").write(place)
out, _ = user.communicate("mounted\\n", timeout=60)
print(out)
sys.exit(user.returncode)
"""


def test_a_bind_source_that_is_mounted_later(account: Account) -> None:
    """A bind shows what the caller sees, and not what lay there when the launcher began: that one is replaced."""
    code = PRELUDE + """
engine = Engine("native", root=root)
Box = image(engine)
(home / "late").mkdir()
(home / "late/below").write_text("below")
where = {home / "late": "/mnt"}
kept = Box("sleep", "300", init=True, volumes=where)
kept.start()
assert kept.exec("ls", "/mnt").stdout == "below\\n"
say("begun")
assert hear() == "mounted"
done = Box.run("cat", "/mnt/there", "/mnt/deep/there", volumes=where)
assert done.stdout == "latelate/deep", done
assert kept.exec("ls", "/mnt").stdout == "below\\n"
kept.remove(force=True)
engine.close()
"""
    done = subprocess.run(
        [sys.executable, "-c", MOUNTED_LATER, str(account.home), str(account.uid), str(account.gid),
         account.interpreter.program, "-c", code],
        env=account.environment, capture_output=True, text=True, check=False, timeout=100)

    assert done.returncode == 0, done.stdout + done.stderr


def test_users_inside(account: Account) -> None:
    """With ranges a process may be any user; with a single id it may not, and is told what to do about that."""
    account.python("""
ranges = sys.argv[1] == "True"
assert engine.supports(Capability.USERS) is ranges
if ranges:
    done = Box.run("sh", "-c", "id -u; id -g; touch /tmp/mine; stat -c %u:%g /tmp/mine", user="user")
    assert done.stdout == "1000\\n1000\\n1000:1000\\n", done
    assert Box.run("id", "-G", user="1000:5", group_add=["7"]).stdout.split() == ["5", "7"]
    assert Box.run("sh", "-c", "chown 33:44 /tmp && stat -c %u:%g /tmp").stdout == "33:44\\n"
    with Box("sleep", "300", init=True, user="user") as container:
        assert container.exec("sh", "-c", "id -u; kill -0 1 && echo mine").stdout == "1000\\nmine\\n"
        assert container.exec("id", "-u", user="0").stdout == "0\\n"
        assert container.top()[0].uid
        raises(Unsupported, lambda: container.exec("true", user="70000"), "70000", "--add-subuids", "pycontainers doctor")
    raises(Unsupported, lambda: Box.run("true", user="70000"), "70000", "--add-subuids", "pycontainers doctor")
else:
    words = "--add-subuids", "pycontainers doctor"
    raises(Unsupported, lambda: Box.run("true", user="user"), *words)
    raises(Unsupported, lambda: Box.run("true", user="0:5"), *words)
    raises(Unsupported, lambda: Box.run("true", group_add=["5"]), *words)
    made = Image.import_rootfs(home / "rootfs", "with-user", config=ImageConfig(user="1000"), engine=engine)
    raises(Unsupported, lambda: made.run("true"), *words)
    assert made.run("id", "-u", user="root").stdout == "0\\n"
    made.remove(force=True)
    with Box("sleep", "300", init=True) as container:
        raises(Unsupported, lambda: container.exec("true", user="user"), *words)
    assert Box.run("chown", "33", "/tmp").returncode == 1
assert not Container.list(all=True, engine=engine)
""", str(account.ranges))


def test_host_image_and_network(account: Account) -> None:
    """The machine's own system is an image; with the host's network a container has the caller's."""
    out = account.python("""
Host = Image.host(engine=engine)
script = "cat /etc/os-release; echo x > /etc/pycontainers-test; ls /home /root; test -e /etc/pycontainers-test"
done = Host.run("sh", "-c", script)
assert done.returncode == 0 and done.stdout == Path("/etc/os-release").read_text() + "/home:\\n\\n/root:\\n", done
assert not os.path.exists("/etc/pycontainers-test")
secret = Host.run("sh", "-c", "cat /etc/shadow | wc -c")
assert secret.stdout.strip() == "0", secret
listener = socket.socket()
listener.bind(("127.0.0.1", 0))
listener.listen()
port = str(listener.getsockname()[1])
threading.Thread(target=lambda: listener.accept()[0].sendall(b"hello"), daemon=True).start()
assert Box.run("nc", "127.0.0.1", port, network="host", timeout=20).stdout == "hello"
assert Box.run("nc", "127.0.0.1", port, timeout=20).returncode == 1
say(Box.run("cat", "/proc/net/dev", network="host").stdout.count(":"), Box.run("cat", "/proc/net/dev").stdout.count(":"))
""")
    links = len(os.listdir("/sys/class/net"))
    assert out.split() == [str(links), "1"]


def foreign_root(target: Path, program: bytes) -> None:
    """Write a tar of a root file system as root has it: files of several owners, set-user-ID, sticky, devices, links."""
    with tarfile.open(target, "w") as tar:
        def add(name: str, mode: int, uid: int = 0, gid: int = 0, content: bytes = b"", **more: object) -> None:
            entry = tarfile.TarInfo(name)
            entry.mode, entry.uid, entry.gid, entry.size = mode, uid, gid, len(content)
            entry.type = tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE
            for field, value in more.items():
                setattr(entry, field, value)
            tar.addfile(entry, io.BytesIO(content))

        for name in ("bin/", "dev/", "etc/", "proc/", "sys/", "var/", "var/mail/"):
            add(name, 0o755)
        add("tmp/", 0o1777)
        add("bin/busybox", 0o755, content=program)
        for applet in ("sh", "id", "stat", "ls", "cat", "true", "rm", "mkdir", "touch", "chmod"):
            add(f"bin/{applet}", 0o777, type=tarfile.SYMTYPE, linkname="busybox")
        add("etc/passwd", 0o644, content=b"root:x:0:0::/:/bin/sh\nuser:x:1000:1000::/:/bin/sh\n")
        add("etc/shadow", 0o640, 0, 42, b"secret")
        add("bin/su", 0o4755, content=program)
        add("var/www/", 0o2775, 33, 33)
        add("var/www/private", 0o600, 33, 33, b"page")
        add("var/closed/", 0o700, 101, 104)
        add("var/closed/deep/", 0o500, 101, 104)
        add("var/closed/deep/file", 0o400, 101, 104, b"closed")
        add("dev/null", 0o666, type=tarfile.CHRTYPE, devmajor=1, devminor=3)
        add("var/pipe", 0o644, 33, 0, type=tarfile.FIFOTYPE)


def test_a_real_root(account: Account) -> None:
    """Files of other owners and modes are unpacked: as they are with ranges, as the caller's own with a single id."""
    archive = account.home / "root.tar"
    foreign_root(archive, (account.home / "rootfs/bin/busybox").read_bytes())
    out = account.python("""
Real = Image.import_rootfs(home / "root.tar", "real", engine=engine)
shown = "/etc/shadow /bin/su /var/www /var/www/private /var/closed/deep/file /tmp /var/pipe"
done = Real.run("sh", "-c", f"stat -c '%u:%g %a' {shown}; cat /etc/shadow /var/www/private /var/closed/deep/file", check=True)
say(done.stdout)
if sys.argv[1] == "True":
    assert Real.run("sh", "-c", "cat /var/www/private || id -u", user="user").stdout == "1000\\n"
container = Real("sh", "-c", "rm -r /var/closed && mkdir -m 0 /var/none && touch /var/none/x && chmod 0 /var/www/private")
container.start()
assert container.wait(20) == 0, container.logs()
found = {(c.kind, c.path) for c in container.diff()}
assert {("D", "/var/closed"), ("A", "/var/none/x"), ("C", "/var/www/private")} <= found, found
container.remove()
Real.remove()
assert not [name for bucket in (root / "layers").iterdir() for name in bucket.iterdir() if name.name not in str(Box.layers)]
""", str(account.ranges))

    modes = [line.split()[1] for line in out.splitlines() if ":" in line]
    owners = [line.split()[0] for line in out.splitlines() if ":" in line]
    assert modes == ["640", "4755", "2775", "600", "400", "1777", "644"]
    assert owners == (["0:42", "0:0", "33:33", "33:33", "101:104", "0:0", "33:0"] if account.ranges else ["0:0"] * 7)
    assert "secretpageclosed" in out


def test_files_of_subordinate_ids_are_removed(account: Account) -> None:
    """What a container's users wrote goes with it, though the caller itself could not even look into it."""
    out = account.python("""
owner = "user" if sys.argv[1] == "True" else "0"
script = "mkdir -m 700 -p /tmp/a/b && echo x > /tmp/a/b/c && chmod 500 /tmp/a/b && chmod 0 /tmp/a"
container = Box("sh", "-c", script, user=owner)
container.start()
assert container.wait(20) == 0
upper = root / "containers" / container.id[:2] / container.id / "upper/tmp/a"
say(upper.lstat().st_uid)
container.remove()
assert not upper.parent.parent.exists()
assert not list((root / "trash").iterdir())
""", str(account.ranges))
    first = subordinate("uid", account.name)[0][0] if account.ranges else None
    assert int(out) == (account.uid if first is None else first + 999)


def test_what_needs_a_cgroup(account: Account) -> None:
    """Without a cgroup of the user's, limits and `pause` are refused, and the refusal says who knows more."""
    account.python("""
if engine.supports(Capability.PAUSE):
    sys.exit()
with Box("sleep", "300", init=True) as container:
    raises(Unsupported, container.pause, "PAUSE", "pycontainers doctor")
    raises(Unsupported, lambda: container.update(memory="64m"), "LIMITS", "pycontainers doctor")
for option in ({"memory": "64m"}, {"cpus": 0.5}, {"pids_limit": 10}, {"cpuset_cpus": "0"}):
    raises(Unsupported, lambda: Box("true", **option), "LIMITS", "pycontainers doctor")
assert not Container.list(all=True, engine=engine)
assert Box.run("sh", "-c", "ulimit -n", ulimits={"nofile": 77}).stdout == "77\\n"
""")


def test_the_owner_is_killed(account: Account) -> None:
    """A second after its creator was killed nothing is left of a `with` container, its execs and their orphans."""
    mark = f"{account.home}/mark"
    owner = account.talk(f"""
with Box("sh", "-c", "setsid sleep 300 & sleep 300", init=True, environment={{"STORE": {mark!r}}}) as container:
    with container.popen("sh", "-c", "(setsid sleep 300 &) ; sleep 300"):
        say(container.id)
        time.sleep(100)
""")
    try:
        id = heard(owner)
        wait_until(lambda: len(payloads(mark)) >= 5)
    finally:
        owner.kill()
        owner.wait()
        killed = time.monotonic()
    while payloads(mark) or any(id in title for title in account.processes().values()):
        assert time.monotonic() - killed < 1, account.processes()
        time.sleep(0.01)
    for stream in (owner.stdin, owner.stdout):
        assert stream is not None
        stream.close()

    account.python("""
assert not Container.list(all=True, engine=engine)
assert not list((root / "containers").glob("*/*"))
""")


def test_a_killed_launcher_and_supervisor(account: Account) -> None:
    """Killing the launcher harms no container; killing a supervisor ends that one container alone."""
    account.python("""
def helpers(word):
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            # What is not dumpable belongs to root in /proc: by its user then.
            if (f"Uid:\\t{os.getuid()}\\t" in (folder / "status").read_text()
                    and (folder / "cmdline").read_bytes().startswith(b"pycontainers-" + word)):
                found.append(int(folder.name))
        except OSError:
            pass
    return found
one, two = Box("sleep", "300", init=True), Box("sleep", "300", init=True)
one.start(); two.start()
for pid in helpers(b"launcher"):
    os.kill(pid, signal.SIGKILL)
assert one.exec("echo", "here").stdout == "here\\n"
assert Box.run("echo", "new").stdout == "new\\n"
os.kill(helpers(b"supervisor " + one.id.encode())[0], signal.SIGKILL)
assert (one.wait(20), two.status) == (137, "running")
one.remove(); two.remove(force=True)
assert not list((root / "containers").glob("*/*"))
""")


def test_ranges_taken_away_and_given(interpreter: Interpreter) -> None:
    """A store keeps the kind of ids that it was begun with; one whose ranges are gone says how to get them back."""
    begin = 'Image.import_rootfs(home / "rootfs", "box", engine=Engine("native", root=root))\n'
    look = 'assert image(Engine("native", root=root)).run("id", "-u").stdout == "0\\n"\nEngine("native", root=root).close()\n'
    remove = 'engine = Engine("native", root=root)\nimage(engine).remove()\nengine.close()\n'
    with own_account(interpreter, ranges=True) as account:
        first = subordinate("uid", account.name)[0][0]
        account.run("-c", PRELUDE + begin)
        refused = (f'raises(BackendUnavailable, lambda: image(Engine("native", root=root)).run("true"), str(root), '
                   f'"--add-subuids {first}-{first + 65535}", "pycontainers doctor")\n')
        take_ranges(account.name)
        account.run("-c", PRELUDE + refused)
        give_ranges(account.name, first + 100_000)
        account.run("-c", PRELUDE + refused)
        take_ranges(account.name)
        # One of its own is begun without ranges, and stays so.
        single = 'root = home / "single"\n'
        account.run("-c", PRELUDE + single + begin + look)
        give_ranges(account.name, first)
        users = 'Engine("native", root=root).supports(Capability.USERS)\n'
        account.run("-c", PRELUDE + look + f"assert {users}" + remove)
        account.run("-c", PRELUDE + single + look + f"assert not {users}" + remove)
        with suppress(FileNotFoundError):
            assert not list((account.home / "single/containers").glob("*/*"))
