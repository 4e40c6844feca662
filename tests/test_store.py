"""The native backend's store: many users at once, any of which may be killed at any moment."""

from __future__ import annotations

import errno
import fcntl
import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from storekit import in_small_file_system
from storekit import left_over
from storekit import open_store
from storekit import own_store
from storekit import python

from pycontainers.backends.native.locks import take_lock
from pycontainers.backends.native.store import VERSION
from pycontainers.backends.native.store import Store
from pycontainers.backends.native.store import new_id
from pycontainers.errors import AmbiguousName
from pycontainers.errors import ContainerNotFound
from pycontainers.errors import ImageNotFound
from pycontainers.errors import NameInUse
from pycontainers.errors import StoreError
from pycontainers.errors import StoreFull
from pycontainers.errors import StoreVersion


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A new store."""
    with own_store(tmp_path / "store") as result:
        yield result


def create(store: Store, name: str, image_id: str | None = None) -> str:
    """Enter a container as a backend does: directory first, then row."""
    id = new_id()
    with store.mutating():
        store.make_dir(store.container_dir(id))
        store.insert_container(id, name, image_id)
    return id


def remove(store: Store, id: str) -> None:
    """Take a container away as a backend does."""
    with store.mutating():
        gone = store.trash(store.container_dir(id))
        store.delete_container(id)
        store.trees.remove(gone)


def prefixed(store: Store, digits: str, name: str) -> str:
    """Enter a container whose id begins with these digits."""
    id = digits + new_id()[len(digits):]
    store.make_dir(store.container_dir(id))
    store.insert_container(id, name)
    return id


# -- opening ----------------------------------------------------------------------------------------------------------

def test_nothing_is_made_before_the_first_use(tmp_path: Path) -> None:
    """Naming a store touches no file."""
    open_store(tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_a_store_is_private(store: Store) -> None:
    """Nobody else can look into it, and its files are its owner's."""
    create(store, "nap")
    assert os.stat(store.root).st_mode & 0o777 == 0o700
    assert Path(store.path("version")).read_text() == f"{VERSION}\n"


def test_an_empty_directory_becomes_a_store(tmp_path: Path) -> None:
    """A directory that the user made beforehand will do, and becomes private."""
    tmp_path.chmod(0o755)
    open_store(tmp_path).open()
    assert os.stat(tmp_path).st_mode & 0o777 == 0o700


def test_other_things_are_not_taken_for_a_store(tmp_path: Path) -> None:
    """A directory that holds somebody's files is refused and left as it is."""
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(StoreError, match=r"holds other things \('thesis.tex'\)"):
        open_store(tmp_path).open()
    assert os.listdir(tmp_path) == ["thesis.tex"]


def test_a_store_half_made_is_finished(store: Store) -> None:
    """A kill while a store is being made is no harm."""
    store.open()
    os.unlink(store.path("version"))
    os.rmdir(store.path("trash"))
    again = open_store(store.root)
    create(again, "nap")
    assert again.find_container("nap")


def test_a_newer_store_is_refused(store: Store) -> None:
    """The error names both versions and what to do, and nothing is changed."""
    store.open()
    Path(store.path("version")).write_text(f"{VERSION + 1}\n")
    with pytest.raises(StoreVersion, match=rf"version {VERSION + 1}.*knows {VERSION}.*pip install -U"):
        open_store(store.root).containers()


def test_a_newer_database_is_refused(store: Store) -> None:
    """So is a database that a newer release has changed."""
    store.write(f"PRAGMA user_version={VERSION + 1}")
    with pytest.raises(StoreVersion, match=rf"version {VERSION + 1}"):
        open_store(store.root).containers()


def test_a_wrong_version_file_is_told(store: Store) -> None:
    """A version file with something else in it is an error that says what it should hold."""
    store.open()
    Path(store.path("version")).write_text("two")
    with pytest.raises(StoreError, match=rf"'two'.*should hold {VERSION}"):
        open_store(store.root).open()


def test_a_damaged_database_is_told(store: Store) -> None:
    """The error names the file and says what to do."""
    store.open()
    Path(store.path("db.sqlite3")).write_bytes(b"not a database, " * 1000)
    with pytest.raises(StoreError, match=r"db\.sqlite3.*damaged: restore it"):
        store.containers()


def test_a_root_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    """The error is an OSError with the kernel's number, and names the path."""
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="file/store: Not a directory") as caught:
        open_store(tmp_path / "file" / "store").open()
    assert caught.value.errno == errno.ENOTDIR
    assert isinstance(caught.value, OSError)


def test_a_full_disk_is_told_and_forgiven(tmp_path: Path) -> None:
    """Writing fails with the path and a remedy; what was there stays readable; with room again the store works."""
    output = in_small_file_system(tmp_path, """
from pycontainers.errors import StoreFull
kept = create("kept")
fill()
failed = 0
for i in range(2000):
    try:
        create(f"c{i}")
    except StoreFull as error:
        failed += 1
        print(error.errno, error)
        break
print(failed, store.find_container("kept") == (kept, "kept"))
os.unlink(store.root + "/../filler")
create("after")
store.sweep()
from storekit import left_over
print(left_over(store))
""")
    first, second, third = output.splitlines()
    assert first.startswith(f"{errno.ENOSPC} ")
    assert "No space left on device; free some room there" in first
    assert (second, third) == ("1 True", "{}")


def test_a_store_without_room_to_begin_is_told(tmp_path: Path) -> None:
    """Even making the store fails in a typed way."""
    output = in_small_file_system(tmp_path, """
fill()
from pycontainers.errors import StoreFull
try:
    store.containers()
except StoreFull as error:
    print("full")
""")
    assert output == "full\n"


# -- containers -------------------------------------------------------------------------------------------------------

def test_a_container_is_found_by_id_name_and_prefix(store: Store) -> None:
    """Docker's ways to name a container; a slash before the name is Docker's own habit."""
    id = create(store, "nap")
    for ref in (id, id[:12], id[:4], "nap", "/nap"):
        assert store.find_container(ref) == (id, "nap")
    assert [row.id for row in store.containers()] == [id]


def test_an_unknown_container_is_not_found(store: Store) -> None:
    """Whatever is asked for, even SQL or nothing."""
    create(store, "nap")
    for ref in ("nope", "NAP", "", "/", "%", "na", "*", "' OR 1=1 --", "f" * 64, "f" * 65):
        with pytest.raises(ContainerNotFound, match="No such container"):
            store.find_container(ref)


def test_a_prefix_of_several_ids_is_ambiguous(store: Store) -> None:
    """Such a prefix raises; one more digit decides; a name goes before a prefix, and a whole id before a name."""
    first, second = prefixed(store, "abc1", "one"), prefixed(store, "abc2", "two")
    with pytest.raises(AmbiguousName, match="prefix: abc"):
        store.find_container("abc")
    assert store.find_container("abc2")[0] == second
    named = create(store, "abc")
    assert store.find_container("abc")[0] == named
    create(store, first)
    assert store.find_container(first) == (first, "one")


def test_a_name_is_taken_once(store: Store) -> None:
    """The error is Docker's and names who holds it; the loser leaves no row."""
    id = create(store, "nap")
    with pytest.raises(NameInUse, match=f'"/nap" is already in use by container "{id}"'):
        create(store, "nap")
    other = create(store, "other")
    with pytest.raises(NameInUse):
        store.rename_container(other, "nap")
    assert store.find_container("other")[0] == other


def test_renaming(store: Store) -> None:
    """The new name finds it and the old one is free; its own name is no error; one that is gone raises."""
    id = create(store, "old")
    store.rename_container(id, "new")
    store.rename_container(id, "new")
    assert store.find_container("new")[0] == id
    create(store, "old")
    with pytest.raises(ContainerNotFound):
        store.rename_container("f" * 64, "x")


def test_a_name_whose_owner_is_gone_is_free(store: Store) -> None:
    """A row whose directory was removed, by a kill between both, holds up nobody."""
    id = create(store, "nap")
    store.trash(store.container_dir(id))
    again = create(store, "nap")
    assert store.find_container("nap")[0] == again
    gone = create(store, "gone")
    store.trash(store.container_dir(gone))
    store.rename_container(again, "gone")
    assert store.find_container("gone")[0] == again


def test_an_unknown_image_is_refused(store: Store) -> None:
    """A container of an image that was removed meanwhile is not entered."""
    id = new_id()
    store.make_dir(store.container_dir(id))
    with pytest.raises(ImageNotFound):
        store.insert_container(id, "nap", "sha256:" + "0" * 64)
    store.sweep()
    assert left_over(store) == {}


def test_deleting_is_idempotent(store: Store) -> None:
    """The second time nothing is left to do."""
    id = create(store, "nap")
    assert store.delete_container(id)
    assert not store.delete_container(id)


def test_a_transaction_is_undone_by_an_error(store: Store) -> None:
    """Nothing of it is left, and the next one works."""
    with pytest.raises(KeyError), store.transaction() as db:
        db.execute("INSERT INTO images VALUES ('a', 0, '', 0, 0)")
        raise KeyError
    assert store.read("SELECT * FROM images") == []
    with store.transaction() as db:
        db.execute("INSERT INTO images VALUES ('a', 0, '', 0, 0)")
    assert len(store.read("SELECT * FROM images")) == 1


def test_ids_never_look_like_numbers() -> None:
    """64 digits, of which the first twelve are not all decimal."""
    ids = {new_id() for _ in range(2000)}
    assert len(ids) == 2000
    assert all(len(id) == 64 and not id[:12].isdigit() for id in ids)


# -- many at once -----------------------------------------------------------------------------------------------------

def test_threads_and_processes_share_a_store(store: Store) -> None:
    """Four processes of eight threads enter and remove containers at once: none is lost, none fails, none is left."""
    code = """
import threading
mine = []
def work():
    for _ in range(10):
        mine.append(create())
        remove(create())
threads = [threading.Thread(target=work) for _ in range(8)]
[t.start() for t in threads]; [t.join() for t in threads]
assert len(mine) == 80, len(mine)
print(*mine)
"""
    store.open()
    processes = [python(store.root, code) for _ in range(4)]
    ids = [id for process in processes for id in process.communicate()[0].split()]
    assert [process.returncode for process in processes] == [0] * 4
    assert sorted(ids) == sorted(row.id for row in store.containers())
    assert len(ids) == 320
    store.sweep()
    assert left_over(store) == {}


def test_a_contested_name_has_one_winner(store: Store) -> None:
    """Of 64 threads that want a name at the same moment one gets it, and all others are told."""
    barrier = threading.Barrier(64)

    def want(_: int) -> str:
        id = new_id()
        store.make_dir(store.container_dir(id))
        barrier.wait()
        try:
            store.insert_container(id, "only")
        except NameInUse:
            return ""
        return id

    with ThreadPoolExecutor(64) as pool:
        winners = [id for id in pool.map(want, range(64)) if id]
    assert winners == [store.find_container("only")[0]]


def test_many_processes_make_a_store_at_once(tmp_path: Path) -> None:
    """The first use may come from everywhere at once."""
    processes = [python(tmp_path / "store", "sys.stdin.readline(); create()") for _ in range(6)]
    for process in processes:
        assert process.stdin
        process.stdin.write("\n")
        process.stdin.flush()
    for process in processes:
        process.communicate()
        assert process.returncode == 0
    with own_store(tmp_path / "store") as store:
        assert len(store.containers()) == 6


def test_a_forked_child_uses_the_store(store: Store) -> None:
    """Neither it nor its parent is harmed, and the child is another creator."""
    create(store, "parent")
    with store.mutating():
        pid = os.fork()
        if pid == 0:
            try:
                create(store, "child")
                os._exit(0)
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    create(store, "after")
    creators = {row.name: row.creator for row in store.containers()}
    assert creators["parent"] == creators["after"] == store.creator() != creators["child"]
    store.sweep()
    assert left_over(store) == {}


def test_a_forked_child_does_not_keep_its_parents_locks(store: Store) -> None:
    """A child forked inside a change does not hold up the sweeper once the change is over."""
    out, into = os.pipe()
    with store.mutating():
        pid = os.fork()
        if pid == 0:
            os.write(into, b".")
            time.sleep(60)
            os._exit(0)
    try:
        os.read(out, 1)
        assert store.sweep()
    finally:
        os.close(out)
        os.close(into)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


# -- sweeping ---------------------------------------------------------------------------------------------------------

def test_nobody_sweeps_while_someone_changes(store: Store) -> None:
    """What is half made by a living process stays."""
    with store.mutating():
        tmp = store.make_tmp()
        other = python(store.root, "print(store.sweep())")
        assert other.communicate()[0] == "False\n"
        with store.mutating():
            assert os.path.isdir(store.path(tmp))
    assert store.sweep()
    assert left_over(store) == {}


def test_what_a_killed_process_left_is_swept_at_the_next_use(store: Store) -> None:
    """By a process that was there before, too: rows without directory, directories without row, half-made things."""
    kept = create(store, "kept")
    dying = python(store.root, """
lock = store.mutating()
lock.__enter__()
tmp = store.make_tmp()
os.makedirs(store.path(tmp) + "/fs/deep/down")
store.make_dir(store.container_dir(new_id()))
id = create("rowonly")
store.trash(store.container_dir(id))
os.makedirs(store.path("layers/ab/" + "ab" * 32) + "/fs")
open(store.path("images/" + "cd" * 32 + ".json"), "w").close()
os.kill(os.getpid(), signal.SIGKILL)
""")
    dying.communicate()
    assert dying.returncode == -signal.SIGKILL
    assert {"tmp", "trash", "containers", "layers", "images", "marks"} == set(left_over(store))
    store.settle()
    assert left_over(store) == {}
    assert [row.id for row in store.containers()] == [kept]


def test_sweepers_end_what_still_runs(store: Store) -> None:
    """Each registered sweeper hears of the containers that are about to go, while their directories are there."""
    id = new_id()
    store.make_dir(store.container_dir(id))
    heard: list[tuple[str, bool]] = []

    def sweeper(gone: Sequence[str]) -> None:
        with store.mutating():
            heard.extend((id, os.path.isdir(store.path(store.container_dir(id)))) for id in gone)

    store.sweepers.append(sweeper)
    store.sweep()
    assert heard == [(id, True)]
    assert left_over(store) == {}


def test_a_container_never_started_goes_with_its_creator(store: Store) -> None:
    """One of lifetime `process` is swept once its creator is dead, unless a supervisor holds it, and not before."""
    creator = python(store.root, """
create("process", lifetime="process")
create("detached")
id = create("ended", lifetime="process")
open(store.path(store.container_dir(id)) + "/state", "w").write("a record")
id = create("supervised", lifetime="process")
open(store.path(store.container_dir(id)) + "/state", "w").write("a record")
print("ready", flush=True)
sys.stdin.readline()
""")
    assert creator.stdout
    assert creator.stdout.readline() == "ready\n"
    store.sweep()
    assert {row.name for row in store.containers()} == {"process", "detached", "ended", "supervised"}
    creator.communicate("\n")
    supervised = store.path(store.container_dir(store.find_container("supervised")[0]))
    with open(f"{supervised}/state", "r+b") as state:
        take_lock(state.fileno())
        store.sweep()
        assert {row.name for row in store.containers()} == {"detached", "supervised"}
    store.sweep()
    assert {row.name for row in store.containers()} == {"detached"}


def test_a_creator_is_known_for_ever(store: Store) -> None:
    """Not by its pid alone: another process with that number, another boot, are not the creator."""
    mine = store.creator()
    boot, namespace, pid, start = mine.split(":")
    assert store.alive(mine)
    assert not store.alive(f"{boot}:{namespace}:{pid}:{int(start) + 1}")
    assert not store.alive(f"other:{namespace}:{pid}:{start}")
    assert store.alive(f"{boot}:1:{pid}:{int(start) + 1}")
    process = subprocess.Popen(["true"])
    time.sleep(0.2)
    assert not store.alive(f"{boot}:{namespace}:{process.pid}:{start}")
    process.wait()


def test_a_lost_image_is_forgotten(store: Store) -> None:
    """An image whose config or layer is gone, after a power cut perhaps, is removed; its container stays."""
    store.sweep()
    with store.transaction() as db:
        db.execute("INSERT INTO images VALUES ('sha256:aa', 0, '', 0, 0)")
        db.execute("INSERT INTO tags VALUES ('docker.io/library/x:1', 'sha256:aa')")
        db.execute("INSERT INTO image_layers VALUES ('sha256:aa', 0, 'sha256:bb')")
    id = create(store, "nap", image_id="sha256:aa")
    store.sweep()
    assert left_over(store) == {}
    assert store.read("SELECT * FROM tags") == []
    assert store.find_container("nap")[0] == id


def test_a_kill_at_any_moment_leaves_nothing(store: Store) -> None:
    """200 processes that create and remove all the time are killed at random: what is told done is there, no more."""
    store.open()
    inside = 0
    for _ in range(200):
        out, into = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                while True:
                    id = create(store, new_id())
                    os.write(into, f"+ {id}\n".encode())
                    os.write(into, f"? {id}\n".encode())
                    remove(store, id)
                    os.write(into, f"- {id}\n".encode())
            finally:
                os._exit(1)
        os.close(into)
        time.sleep(random.uniform(0.002, 0.012))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        with open(out, encoding="ascii") as file:
            told = [line.split() for line in file]
        inside += bool(Path(store.path("lock")).read_bytes().strip(b"\0"))
        store.settle()
        assert left_over(store) == {}
        there = {row.id for row in store.containers()}
        sign, id = told[-1] if told else ("", "")
        assert sign != "+" or id in there
        assert sign != "-" or id not in there
        for id in there:
            remove(store, id)
        store.sweep()
    assert inside > 20


def test_the_turnstile_is_free_after_a_kill(store: Store) -> None:
    """A process killed inside a transaction holds up no other writer, and nothing of it is there."""
    process = python(store.root, """
context = store.transaction()
db = context.__enter__()
db.execute("INSERT INTO images VALUES ('a', 0, '', 0, 0)")
os.kill(os.getpid(), signal.SIGKILL)
""")
    process.communicate()
    before = time.monotonic()
    create(store, "nap")
    assert time.monotonic() - before < 5
    assert store.read("SELECT * FROM images") == []


def test_a_signal_does_not_break_a_wait_for_the_lock(store: Store) -> None:
    """Waiting for the sweeper to finish survives an interrupted system call."""
    store.open()
    heard: list[int] = []
    previous = signal.signal(signal.SIGUSR1, lambda number, frame: heard.append(number))
    fd = os.open(store.path("lock"), os.O_RDWR)
    try:
        store.settle()
        fcntl.flock(fd, fcntl.LOCK_EX)
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGUSR1)).start()
        threading.Timer(0.3, fcntl.flock, (fd, fcntl.LOCK_UN)).start()
        with store.mutating():
            assert heard == [signal.SIGUSR1]
    finally:
        os.close(fd)
        signal.signal(signal.SIGUSR1, previous)


def test_trash_takes_anything_once(store: Store) -> None:
    """Moving to the trash is idempotent and never follows a link."""
    store.open()
    os.symlink("/etc", store.path("tmp/link"))
    assert store.trash("tmp/link").startswith("trash/")
    assert store.trash("tmp/link") == ""
    store.sweep()
    assert os.path.isdir("/etc")
    assert left_over(store) == {}


def test_files_that_are_gone_are_told(store: Store) -> None:
    """Every call then fails with the path, not with a bare OSError."""
    store.sweep()
    os.unlink(store.path("lock"))
    with pytest.raises(StoreError, match="lock: No such file"), store.mutating():
        raise AssertionError
    with pytest.raises(StoreError, match="lock: No such file"):
        store.settle()
    with pytest.raises(StoreError, match=r"nowhere/x+: File name too long") as caught:
        store.make_dir("nowhere/" + "x" * 300)
    assert caught.value.errno == errno.ENAMETOOLONG
    assert not isinstance(caught.value, StoreFull)
    store.open()
    os.rmdir(store.path("tmp"))
    with pytest.raises(StoreError, match=r"making .*/tmp/.*: No such file"):
        store.make_tmp()
