"""The native backend's images: imported from directories and archives, tagged, listed, removed by Docker's rules."""

from __future__ import annotations

import gzip
import io
import json
import lzma
import os
import socket
import stat
import subprocess
import tarfile
import threading
import time
from collections.abc import Callable
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest
import zstandard
from storekit import in_small_file_system
from storekit import left_over
from storekit import own_store
from storekit import python

from pycontainers.backends.native import hostimage
from pycontainers.backends.native.images import Images
from pycontainers.backends.native.store import Store
from pycontainers.backends.native.store import new_id
from pycontainers.errors import AmbiguousName
from pycontainers.errors import ContainersError
from pycontainers.errors import CorruptArchive
from pycontainers.errors import ImageNotFound
from pycontainers.errors import InUse
from pycontainers.errors import InvalidReference
from pycontainers.errors import InvalidType
from pycontainers.errors import LimitExceeded
from pycontainers.errors import NotFound
from pycontainers.oci.compression import Limits
from pycontainers.oci.packing import DirectoryReader
from pycontainers.spec import ImageConfig
from pycontainers.spec import ImageUpdate
from pycontainers.spec import ImportSpec


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A new store."""
    with own_store(tmp_path / "store") as result:
        yield result


@pytest.fixture
def images(store: Store) -> Images:
    """Its images."""
    return Images(store)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A small root file system."""
    root = tmp_path / "tree"
    (root / "bin").mkdir(parents=True)
    (root / "bin" / "sh").write_bytes(b"#!" * 5000)
    (root / "bin" / "sh").chmod(0o4755)
    os.link(root / "bin" / "sh", root / "bin" / "ash")
    (root / "sbin").symlink_to("bin")
    (root / "tmp").mkdir()
    (root / "tmp").chmod(0o1777)
    os.mkfifo(root / "pipe", 0o640)
    (root / ("long" * 50)).write_text("content")
    Path(os.fsdecode(os.fsencode(root) + b"/caf\xe9")).touch()
    os.setxattr(root / "bin" / "sh", "user.note", b"\x00\xff text")
    os.utime(root / "bin" / "sh", ns=(1, 1234567890123456789))
    return root


def tar_of(tree: Path) -> bytes:
    """Return a directory as GNU tar's plain archive."""
    return subprocess.run(["tar", "-C", str(tree), "--xattrs", "-c", "."], stdout=subprocess.PIPE, check=True).stdout


def tar_with(files: dict[str, bytes]) -> bytes:
    """Return an archive of a few files."""
    result = io.BytesIO()
    with tarfile.open(fileobj=result, mode="w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return result.getvalue()


def small(images: Images, reference: str | None = None, content: bytes = b"x") -> str:
    """Import an image of one file."""
    return images.import_rootfs(ImportSpec(source=io.BytesIO(tar_with({"f": content})), reference=reference))


def container(store: Store, image_id: str, name: str = "nap") -> str:
    """Enter a container of an image."""
    id = new_id()
    with store.mutating():
        store.make_dir(store.container_dir(id))
        store.insert_container(id, name, image_id)
    return id


# -- importing --------------------------------------------------------------------------------------------------------

def test_a_directory_becomes_an_image(store: Store, images: Images, tree: Path) -> None:
    """Every kind of file arrives as it was: modes, times, hard links, attributes, names that are no UTF-8."""
    id = images.import_rootfs(ImportSpec(source=tree, reference="app:1", message="by hand",
                                         config=ImageConfig(command=("sh",), environment={"A": "1"})))
    record = images.get("app:1")
    assert record.id == id == images.resolve(id[7:19])
    assert record.tags == ("docker.io/library/app:1",)
    assert (record.config.command, record.config.environment) == (("sh",), (("A", "1"),))
    assert record.config.architecture
    assert time.time() - 60 < record.created < time.time() + 60
    layer, = record.layers
    assert (layer.comment, layer.size, record.size) == ("by hand", 10007, 10007)
    assert images.lowers(id) == (f"{store.layer_dir(layer.diff_id)}/fs",)
    there = Path(store.path(images.lowers(id)[0]))
    assert sorted(os.listdir(there)) == sorted(os.listdir(tree))
    sh = os.lstat(there / "bin" / "sh")
    assert (stat.S_IMODE(sh.st_mode), sh.st_mtime_ns, sh.st_nlink) == (0o4755, 1234567890123456789, 2)
    assert os.getxattr(there / "bin" / "sh", "user.note") == b"\x00\xff text"
    assert os.readlink(there / "sbin") == "bin"
    assert stat.S_IMODE(os.lstat(there / "tmp").st_mode) == 0o1777
    assert stat.S_ISFIFO(os.lstat(there / "pipe").st_mode)
    assert left_over(store) == {}


def test_the_id_is_the_configs_hash(store: Store, images: Images, tree: Path) -> None:
    """What other tools compute from the same blob is the same id, and the blob is OCI's."""
    id = images.import_rootfs(ImportSpec(source=tree))
    path = store.path(f"images/{id[7:]}.json")
    assert subprocess.run(["sha256sum", path], stdout=subprocess.PIPE, text=True, check=True).stdout.startswith(id[7:])
    document = json.loads(Path(path).read_text())
    assert document["rootfs"] == {"type": "layers", "diff_ids": [images.get(id).layers[0].diff_id]}
    assert document["os"] == "linux"


@pytest.mark.parametrize("compress", [bytes, gzip.compress, lzma.compress, zstandard.compress],
                         ids=["plain", "gzip", "xz", "zstd"])
def test_archives_come_in_any_compression(images: Images, store: Store, tree: Path, tmp_path: Path,
                                          compress: Callable[[bytes], bytes]) -> None:
    """From a path or a file object: the layer is the uncompressed archive's, and is kept once."""
    plain = tar_of(tree)
    path = tmp_path / "archive"
    path.write_bytes(compress(plain))
    first = images.import_rootfs(ImportSpec(source=str(path)))
    second = images.import_rootfs(ImportSpec(source=io.BytesIO(compress(plain))))
    digest = subprocess.run(["sha256sum"], input=plain, stdout=subprocess.PIPE, check=True).stdout.decode().split()[0]
    assert images.get(first).layers[0].diff_id == images.get(second).layers[0].diff_id == f"sha256:{digest}"
    assert images.get(first).layers[0].comment == f"Imported from {path}"
    assert len(os.listdir(store.path("layers"))) == 1
    assert os.path.islink(store.path(f"{images.lowers(first)[0]}/sbin"))


def test_a_file_object_stays_the_callers(images: Images, tree: Path) -> None:
    """It is read to its end, and not closed."""
    source = io.BytesIO(tar_of(tree))
    images.import_rootfs(ImportSpec(source=source))
    assert not source.closed
    assert source.read() == b""


def test_a_pipe_is_a_source(images: Images, tree: Path) -> None:
    """As in `tar -c . | pycontainers import -`."""
    with subprocess.Popen(["tar", "-C", str(tree), "-cz", "."], stdout=subprocess.PIPE) as process:
        id = images.import_rootfs(ImportSpec(source=process.stdout))
    assert images.get(id).size == 10007


@pytest.fixture
def server() -> Iterator[tuple[str, dict[str, bytes]]]:
    """A web server: its address, and what it serves; `/short` promises more than it sends."""
    served: dict[str, bytes] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = served.get(self.path)
            self.send_response(404 if body is None else 200)
            self.send_header("Content-Length", str(len(body or b"") + 1000 * (self.path == "/short")))
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as result:
        thread = threading.Thread(target=result.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{result.server_address[1]}", served
        result.shutdown()
        thread.join()


def test_an_url_is_a_source(images: Images, tree: Path, store: Store, server: tuple[str, dict[str, bytes]]) -> None:
    """What the server does not have, and what breaks off, are told with the address, and leave nothing."""
    address, served = server
    served["/root.tar.gz"] = served["/short"] = gzip.compress(tar_of(tree))
    id = images.import_rootfs(ImportSpec(source=f"{address}/root.tar.gz"))
    assert images.get(id).layers[0].comment == f"Imported from {address}/root.tar.gz"
    with pytest.raises(NotFound, match=rf"fetching {address}/nope: the server answered 404"):
        images.import_rootfs(ImportSpec(source=f"{address}/nope"))
    with pytest.raises(CorruptArchive, match=r"ended after \d+ of \d+ bytes"):
        images.import_rootfs(ImportSpec(source=f"{address}/short"))
    with pytest.raises(ContainersError, match=r"fetching http://127.0.0.1:1/x: .*refused.*check the address"):
        images.import_rootfs(ImportSpec(source="http://user:secret@127.0.0.1:1/x"))
    assert len(images.list()) == 1
    assert left_over(store) == {}


@pytest.mark.parametrize("compress", [bytes, gzip.compress, lzma.compress, zstandard.compress],
                         ids=["plain", "gzip", "xz", "zstd"])
def test_a_truncated_archive_is_refused(images: Images, store: Store, tree: Path, tmp_path: Path,
                                        compress: Callable[[bytes], bytes]) -> None:
    """Wherever it is cut, even between two entries, and nothing of it is kept."""
    plain = tar_of(tree)
    whole = compress(plain)
    cuts = [len(whole) - 1, len(whole) // 2, len(whole) // 3]
    if compress is bytes:
        end = -(-len(plain.rstrip(b"\0")) // 512) * 512
        cuts = [end, end + 512, end - 1, end // 2, end // 1024 * 512]
    for cut in cuts:
        with pytest.raises(CorruptArchive, match=r"truncated|too early|damaged|not end as a tar"):
            images.import_rootfs(ImportSpec(source=io.BytesIO(whole[:cut])))
        assert left_over(store) == {}
    assert images.list() == []


def test_bad_sources_are_told(images: Images, store: Store, tmp_path: Path) -> None:
    """Each with an error of its own kind, and nothing left behind."""
    text = tmp_path / "text"
    text.write_text("this is no archive\n" * 1000)
    for source, kind, reason in (
        (tmp_path / "nope.tar", NotFound, r"nope\.tar: No such file"),
        (str(text / "x"), NotFound, "Not a directory"),
        (text, CorruptArchive, "truncated|malformed|not end as a tar"),
        (io.BytesIO(b""), CorruptArchive, "not end as a tar"),
        (io.BytesIO(b"\x1f\x8b"), CorruptArchive, "too early"),
        (io.StringIO("text"), InvalidType, "binary mode"),
        (42, InvalidType, "takes a path, a URL, or a binary file object"),
    ):
        with pytest.raises(kind, match=reason):
            images.import_rootfs(ImportSpec(source=source))
        assert left_over(store) == {}


def test_a_bad_reference_is_refused_before_anything_is_read(images: Images) -> None:
    """And a digest is no name to give."""
    source = io.BytesIO(b"never read")
    for reference in ("App", "a b", "a@sha256:" + "0" * 64):
        with pytest.raises(InvalidReference):
            images.import_rootfs(ImportSpec(source=source, reference=reference))
    assert source.tell() == 0


def test_a_bomb_is_refused(store: Store) -> None:
    """A few KiB that become many MiB exceed the limits, which are the caller's to set."""
    bomb = gzip.compress(tar_with({"zeros": bytes(64 * 1024**2)}))
    images = Images(store, limits=Limits(free=1024**2, ratio=100))
    with pytest.raises(LimitExceeded, match="more than 100 times as much and 1048576 bytes; raise the limit"):
        images.import_rootfs(ImportSpec(source=io.BytesIO(bomb)))
    assert left_over(store) == {}
    assert Images(store).import_rootfs(ImportSpec(source=io.BytesIO(bomb)))


def test_a_hostile_archive_stays_inside(store: Store, images: Images, tmp_path: Path) -> None:
    """Names that lead out are refused or end up inside; the file they point at is untouched."""
    canary = tmp_path / "canary"
    canary.write_text("safe")
    result = io.BytesIO()
    with tarfile.open(fileobj=result, mode="w") as archive:
        link = tarfile.TarInfo("way")
        link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path)
        archive.addfile(link)
        for name in ("way/canary", str(canary)):
            info = tarfile.TarInfo(name)
            info.size = 4
            archive.addfile(info, io.BytesIO(b"evil"))
    images.import_rootfs(ImportSpec(source=io.BytesIO(result.getvalue())))
    with pytest.raises(CorruptArchive):
        images.import_rootfs(ImportSpec(source=io.BytesIO(tar_with({"../../../../../../canary": b"evil"}))))
    assert canary.read_text() == "safe"
    assert left_over(store) == {}


def test_a_full_disk_undoes_the_import(tmp_path: Path) -> None:
    """The error tells what to do, nothing of the image is left, and what was there still is."""
    output = in_small_file_system(tmp_path, """
import io
from pycontainers.backends.native.images import Images
from pycontainers.errors import StoreFull
from pycontainers.spec import ImportSpec
from test_images import tar_with
images = Images(store)
kept = images.import_rootfs(ImportSpec(source=io.BytesIO(tar_with({"f": b"x"}))))
try:
    images.import_rootfs(ImportSpec(source=io.BytesIO(tar_with({"f": bytes(range(256)) * 8192}))))
except StoreFull as error:
    print("free some room" in str(error))
print([image.id == kept for image in images.list()], left_over(store))
images.import_rootfs(ImportSpec(source=io.BytesIO(tar_with({"g": b"y"}))))
""")
    assert output == "True\n[True] {}\n"


def test_two_processes_import_the_same_at_once(store: Store, images: Images, tree: Path, tmp_path: Path) -> None:
    """Neither fails, and the layer is there once."""
    path = tmp_path / "root.tar"
    path.write_bytes(tar_of(tree))
    code = f"""
from pycontainers.backends.native.images import Images
from pycontainers.spec import ImportSpec
images = Images(store)
for i in range(5):
    print(images.import_rootfs(ImportSpec(source={str(path)!r}, reference="app:1")), flush=True)
"""
    store.open()
    processes = [python(store.root, code) for _ in range(4)]
    reported: list[str] = []
    for process in processes:
        out, _ = process.communicate()
        assert process.returncode == 0
        reported += (out.decode() if isinstance(out, bytes) else out).split()
    assert len(reported) == 20
    # What was reported is there; two reports tell of one image only if they were made in the same microsecond.
    assert {image.id for image in images.list()} == set(reported)
    assert len({image.layers[0].diff_id for image in images.list()}) == 1
    store.sweep()
    assert left_over(store) == {}


def test_a_killed_import_leaves_nothing(store: Store, images: Images, tmp_path: Path) -> None:
    """Killed anywhere, the next use finds the images that were reported, and no half one."""
    path = tmp_path / "root.tar"
    path.write_bytes(tar_with({f"file{i}": os.urandom(5000) for i in range(200)}))
    store.open()
    for i in range(12):
        process = python(store.root, f"""
from pycontainers.backends.native.images import Images
from pycontainers.spec import ImportSpec
images = Images(store)
print("ready", flush=True)
while True:
    id = images.import_rootfs(ImportSpec(source={str(path)!r}, reference="app:1"))
    print(id, flush=True)
    images.remove(id, force=True)
    print("removed", flush=True)
""")
        assert process.stdout
        process.stdout.readline()
        time.sleep(0.01 + i * 0.008)
        process.kill()
        told = [line.strip() for line in process.communicate()[0].splitlines(keepends=True) if line.endswith("\n")]
        store.settle()
        assert left_over(store) == {}
        for image in images.list():
            assert sorted(os.listdir(store.path(images.lowers(image.id)[0])))[0] == "file0"
            images.remove(image.id, force=True)
        assert told[-1:] != ["removed"] or len(told) % 2 == 0


# -- finding ----------------------------------------------------------------------------------------------------------

def test_an_image_is_found_by_every_kind_of_name(images: Images) -> None:
    """Reference in any form, id with and without its algorithm, prefix; a name goes before a prefix."""
    id = small(images, "localhost:5000/app:1")
    for ref in ("localhost:5000/app:1", id, id[7:], id[7:19], id[:12], id[7:9]):
        assert images.resolve(ref) == id
    other = small(images, id[7:13], b"y")
    assert images.resolve(id[7:13]) == other
    assert images.resolve(f"sha256:{id[7:13]}") == id


def test_an_unknown_image_is_not_found(images: Images) -> None:
    """The error is Docker's; what can't be a reference is told as such."""
    small(images)
    for ref, shown in (("nope", "nope:latest"), ("f" * 64, "f" * 64), ("sha256:" + "f" * 64, "sha256:f+"), ("a/b:c", "a/b:c")):
        with pytest.raises(ImageNotFound, match=f"No such image: {shown}"):
            images.get(ref)
    with pytest.raises(InvalidReference):
        images.get("Nope")


def test_a_prefix_of_several_images_is_ambiguous(images: Images) -> None:
    """With 17 images two ids begin with the same digit."""
    ids = [small(images, None, bytes([i])) for i in range(17)]
    first = [id[7] for id in ids]
    digit = next(d for d in first if first.count(d) > 1)
    with pytest.raises(AmbiguousName, match="multiple images"):
        images.get(f"sha256:{digit}")


def test_images_are_listed_newest_first(images: Images) -> None:
    """Tagged ones and others."""
    ids = [small(images, None if i % 2 else f"app:{i}", bytes([i])) for i in range(4)]
    assert [image.id for image in images.list()] == ids[::-1]
    assert [image.tags for image in images.list()] == [(), ("docker.io/library/app:2",), (), ("docker.io/library/app:0",)]


def test_a_damaged_layer_is_told(store: Store, images: Images) -> None:
    """The path of what is damaged is in the error."""
    id = small(images)
    Path(store.path(images.lowers(id)[0] + "/../meta.json")).write_text("{}")
    with pytest.raises(ContainersError, match=r"meta\.json: it is damaged"):
        Images(store).get(id)


# -- tagging and removing ---------------------------------------------------------------------------------------------

def test_tags_are_given_and_taken(images: Images) -> None:
    """In any form; a tag that another image bears moves; all of it twice is once."""
    first, second = small(images, "app:1"), small(images, None, b"y")
    for _ in range(2):
        images.update(second, ImageUpdate(add_tags=("app:1", "other"), remove_tags=("nope:1",)))
        assert images.get(first).tags == ()
        assert images.get(second).tags == ("docker.io/library/app:1", "docker.io/library/other:latest")
    images.update("app:1", ImageUpdate(remove_tags=("docker.io/library/app:1",)))
    assert images.get("other").tags == ("docker.io/library/other:latest",)
    with pytest.raises(ImageNotFound):
        images.update("app:1", ImageUpdate(add_tags=("x",)))
    with pytest.raises(InvalidReference, match="digest reference"):
        images.update(first, ImageUpdate(add_tags=("x@sha256:" + "0" * 64,)))


def test_the_last_tag_takes_the_image_along(store: Store, images: Images) -> None:
    """A further tag goes alone; with the last one go image, layer and room."""
    id = small(images, "app:1", b"x" * 1000)
    layer = images.get(id).layers[0].diff_id
    images.update(id, ImageUpdate(add_tags=("app:2",)))
    first = images.remove("app:1")
    assert (first.untagged, first.deleted, first.reclaimed) == (("docker.io/library/app:1",), (), 0)
    last = images.remove("app:2")
    assert (last.untagged, last.deleted, last.reclaimed) == (("docker.io/library/app:2",), (id, layer), 1000)
    assert images.list() == []
    assert left_over(store) == {}
    assert list(Path(store.path("layers")).glob("*/*")) == []


def test_a_layer_stays_while_another_image_has_it(images: Images, store: Store) -> None:
    """Removing one of two images of the same layer frees nothing."""
    first, second = small(images, "a"), small(images, "b")
    assert first != second
    assert images.remove("a").reclaimed == 0
    assert os.path.isdir(store.path(images.lowers(second)[0]))


def test_several_repositories_need_force(images: Images) -> None:
    """By id an image of several names is removed only when forced."""
    id = small(images, "a")
    images.update(id, ImageUpdate(add_tags=("b",)))
    with pytest.raises(InUse, match=r"\(must be forced\) - image is referenced in multiple repositories"):
        images.remove(id)
    assert set(images.remove(id, force=True).untagged) == {"docker.io/library/a:latest", "docker.io/library/b:latest"}
    assert images.list() == []


def test_an_image_in_use_is_kept(images: Images, store: Store) -> None:
    """By an ended container: with force it goes out of sight, and its files with the container. A running one holds it."""
    id = small(images, "app")
    user = container(store, id)
    with pytest.raises(InUse, match=rf'repository reference "app:latest" \(must force\) - container {user[:12]} is using'):
        images.remove("app")
    with pytest.raises(InUse, match=rf"\(must be forced\) - image is being used by stopped container {user[:12]}"):
        images.remove(id)
    with pytest.raises(InUse, match=rf"\(cannot be forced\) - image is being used by running container {user[:12]}"):
        images.remove(id, force=True, running=[user])
    assert images.remove("app", force=True, running=[user]).deleted == ()
    assert images.get(id).tags == ()
    assert images.remove(id, force=True).deleted == (id,)
    assert images.list() == []
    with pytest.raises(ImageNotFound):
        images.get(id)
    store.sweep()
    assert os.path.isdir(store.path(images.lowers(id)[0]))
    assert images.document(id).diff_ids
    store.delete_container(user)
    store.trash(store.container_dir(user))
    store.sweep()
    assert left_over(store) == {}
    assert list(Path(store.path("layers")).glob("*/*")) == []


def test_an_image_with_children_is_kept(images: Images, store: Store) -> None:
    """An image that another was made from can't be removed by force either; untagged parents go with their last child."""
    parent, child = small(images), small(images, "child", b"y")
    store.write("UPDATE images SET parent=? WHERE id=?", (parent, child))
    with pytest.raises(InUse, match=r"\(cannot be forced\) - image has dependent child images"):
        images.remove(parent, force=True)
    assert images.get("child").parent == parent
    assert images.remove("child").deleted[:2] == (child, parent)
    assert images.list() == []


def test_digests_go_with_the_repositorys_last_tag(images: Images, store: Store) -> None:
    """A reference by digest finds the image, is no tag, and doesn't outlive the tag."""
    id = small(images, "app:1")
    digest = "docker.io/library/app@sha256:" + "0" * 64
    store.write("INSERT INTO tags VALUES (?, ?)", (digest, id))
    assert images.get("app:9@sha256:" + "0" * 64).digests == (digest,)
    assert images.get(id).tags == ("docker.io/library/app:1",)
    assert images.remove("app:1").untagged == ("docker.io/library/app:1", digest)
    assert images.list() == []


def test_removing_races_with_importing(images: Images, store: Store) -> None:
    """Threads that import and remove the same layer at once never leave an image without it."""
    def work(number: int) -> None:
        for _ in range(15):
            id = small(images, f"app{number}", b"same")
            assert os.path.exists(store.path(images.lowers(id)[0] + "/f"))
            images.remove(id)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert images.list() == []
    store.sweep()
    assert left_over(store) == {}


# -- the directory as a stream ----------------------------------------------------------------------------------------

def test_the_same_tree_gives_the_same_bytes(tree: Path, tmp_path: Path) -> None:
    """In whatever order its files were made; GNU tar reads them without complaint."""
    copy = tmp_path / "copy"
    copy.mkdir()
    subprocess.run(["tar", "-C", str(copy), "--xattrs", "--xattrs-include=*", "-xp"], input=tar_of(tree), check=True)
    for path in [tree, *tree.rglob("*")]:
        status = path.lstat()
        os.utime(copy / path.relative_to(tree), ns=(1, status.st_mtime_ns), follow_symlinks=False)
    streams = [b"".join(DirectoryReader(path)) for path in (tree, copy)]
    assert streams[0] == streams[1]
    listed = subprocess.run(["tar", "-t"], input=streams[0], capture_output=True, check=True)
    assert listed.stderr == b""
    assert len(listed.stdout.splitlines()) == 1 + len(list(tree.rglob("*")))
    assert len(streams[0]) % 10240 == 0


def test_sockets_and_mounts_are_left_out(tree: Path) -> None:
    """A socket has no meaning in an image, and what is mounted in a tree is not of it."""
    here = os.getcwd()
    os.chdir(tree)
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind("listener")
    finally:
        os.chdir(here)
    with tarfile.open(fileobj=io.BytesIO(b"".join(DirectoryReader(tree)))) as archive:
        assert "./listener" not in archive.getnames()
    with tarfile.open(fileobj=io.BytesIO(b"".join(DirectoryReader("/dev")))) as archive:
        names = archive.getnames()
    assert {"./null", "./pts"} < set(names)
    assert not [name for name in names if name.startswith("./pts/")]


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    """A file that becomes shorter while it is read is no image."""
    path = tmp_path / "shrinking"
    path.write_bytes(bytes(3 * 1024**2))
    stream = iter(DirectoryReader(tmp_path))
    next(stream)
    os.truncate(path, 0)
    with pytest.raises(ContainersError, match="shrinking: it became shorter"):
        list(stream)


# -- the host ---------------------------------------------------------------------------------------------------------

def test_the_host_is_an_image_of_no_bytes(images: Images, store: Store) -> None:
    """Always the same one on a machine; found by its name, listed once it is known, and made anew when removed."""
    record = images.get("host")
    assert (record.size, record.tags) == (0, ("docker.io/library/host:latest",))
    assert record.id == images.host() == Images(store).resolve("host") == images.resolve("host:latest")
    assert record.config.command in (("/bin/bash",), ("/bin/sh",))
    assert images.document(record.id).host
    assert images.lowers(record.id) == ()
    assert images.remove("host").deleted == (record.id,)
    assert images.list() == []
    assert images.host() == record.id
    user = container(store, record.id)
    images.remove(record.id, force=True)
    assert images.host() == record.id
    assert [row.id for row in store.containers(record.id)] == [user]


def test_the_hosts_root_is_composed(store: Store) -> None:
    """Mounted as `host_layers` says: programs run, secrets are empty, homes too, every write stays above."""
    rootless = os.geteuid() != 0
    with store.mutating():
        layers = hostimage.host_layers(store, rootless=rootless)
        assert hostimage.host_layers(store, rootless=rootless) == layers
    option = "userxattr," if rootless else ""
    lines = ["set -e", f"cd {store.root}", "mkdir up merged empty"]
    for number, overlay in enumerate([*layers.overlays[1:], layers.overlays[0]]):
        at = f"at{number}" if overlay.target else "merged"
        directories = f"lowerdir={':'.join(overlay.lowers)},upperdir=up/{overlay.target},workdir=work{number}"
        lines += [f"mkdir -p up/{overlay.target} work{number} {at}",
                  f"mount -t overlay overlay -o {option}{directories} {at}"]
    lines += [f"mount --bind at{number} merged/{overlay.target}" for number, overlay in enumerate(layers.overlays[1:])]
    lines += [f"mount --rbind {path} merged{path} && mount -o remount,bind,ro merged{path}" for path in layers.binds]
    lines += [f"if [ -d merged{path} ]; then mount --bind empty merged{path}; else mount --bind /dev/null merged{path}; fi"
              for path in layers.masked]
    inside = ("ls /home /root /run /tmp; cat /etc/shadow 2>&-; ls $1 2>&-; "
              "echo written > /etc/new-file; touch /top /root/x; cat /etc/new-file; true")
    lines.append(f"chroot merged /bin/sh -c '{inside}' sh {store.root}")
    output = subprocess.run(["unshare", *(["-Urm"] if rootless else ["-m"]), "sh", "-c", "\n".join(lines)],
                            stdout=subprocess.PIPE, text=True, check=True).stdout
    assert output.split() == ["/home:", "/root:", "/run:", "/tmp:", "written"]
    assert {str(path.relative_to(store.path("up"))) for path in Path(store.path("up")).rglob("*") if path.is_file()} == {
        "etc/new-file", "top", "root/x"}
    assert not os.path.exists("/etc/new-file")


def test_a_new_secret_is_hidden_at_once(tmp_path: Path) -> None:
    """What may be read by its owner alone is looked for again whenever its directory changed."""
    directory = tmp_path / "etc"
    directory.mkdir()
    assert hostimage.secrets(str(directory), 3) == []
    secret = directory / "key"
    secret.touch(0o600)
    assert hostimage.secrets(str(directory), 3) == []
    (directory / "other").write_text("for all")
    (directory / "key").write_text("for me")
    assert hostimage.secrets(str(directory), 3) == [str(secret)]
    secret.chmod(0o644)
    (directory / "sub").mkdir(0o700)
    (directory / "sub" / "x").touch()
    assert hostimage.secrets(str(directory), 3) == [str(directory / "sub")]


def test_an_interrupted_import_gives_up_at_once(store: Store) -> None:
    """Ctrl-C while the source is silent ends the call, and leaves nothing."""
    process = python(store.root, """
from pycontainers.backends.native.images import Images
from pycontainers.spec import ImportSpec
from storekit import left_over
import threading
threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
silent = os.fdopen(os.pipe()[0], "rb")
try:
    Images(store).import_rootfs(ImportSpec(source=silent))
except KeyboardInterrupt:
    print(left_over(store), flush=True)
    os._exit(0)
""")
    before = time.monotonic()
    assert process.communicate()[0] == "{}\n"
    assert time.monotonic() - before < 10
