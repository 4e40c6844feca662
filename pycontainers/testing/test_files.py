"""Files of a container: changes, copies, paths."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from pathlib import Path

import pytest

from pycontainers import Container
from pycontainers.backend import Capability
from pycontainers.errors import InvalidSpec
from pycontainers.errors import InvalidType
from pycontainers.errors import NotFound


@pytest.mark.needs(Capability.DIFF)
def test_diff(box: type[Container]) -> None:
    """`diff` tells what was added, changed and deleted, sorted by path."""
    container = box("sh", "-c", "echo x > /etc/new; echo y >> /etc/motd; rm -r /srv/data; mkdir /brand; touch /brand/file")
    assert container.diff() == []
    container.start()
    assert container.wait(20) == 0

    assert [(c.kind, c.path) for c in container.diff()] == [
        ("A", "/brand"), ("A", "/brand/file"), ("C", "/etc"), ("C", "/etc/motd"), ("A", "/etc/new"), ("C", "/srv"),
        ("D", "/srv/data"),
    ]


def test_image_is_never_changed(box: type[Container]) -> None:
    """What one container writes, no other sees."""
    assert box.run("sh", "-c", "rm /etc/motd; echo x > /srv/data/one.txt", check=True).stdout == ""

    assert box.run("cat", "/etc/motd", "/srv/data/one.txt").stdout == "welcome\none\n"


def test_files_stay_after_the_end(box: type[Container]) -> None:
    """An ended container's files are there until it is removed."""
    container = box("sh", "-c", "echo kept > /tmp/kept")
    container.start()
    container.wait(20)

    assert container.copy_from("/tmp/kept") == b"kept\n"


@pytest.mark.needs(Capability.ARCHIVE)
class TestCopy:
    """`copy_to` and `copy_from` do what `docker cp` does."""

    def test_file_to_a_name(self, box: type[Container], tmp_path: Path) -> None:
        """A file is copied under the name that is given, or into a directory under its own."""
        (tmp_path / "local.txt").write_text("local\n")
        (tmp_path / "local.txt").chmod(0o750)
        container = box("sh", "-c", "cat /tmp/named /tmp/local.txt /tmp/bytes; ls -l /tmp/named")

        container.copy_to(tmp_path / "local.txt", "/tmp/named")
        container.copy_to(str(tmp_path / "local.txt"), "/tmp")
        container.copy_to(b"from bytes\n", "/tmp/bytes")

        container.start()
        container.wait(20)
        assert container.logs().startswith("local\nlocal\nfrom bytes\n-rwxr-x---")

    def test_directory(self, box: type[Container], tmp_path: Path) -> None:
        """A directory becomes the target, goes into an existing one, or with `/.` gives its content."""
        (tmp_path / "dir/sub").mkdir(parents=True)
        (tmp_path / "dir/sub/file").write_text("deep\n")
        (tmp_path / "dir/link").symlink_to("sub/file")
        container = box("true")

        container.copy_to(tmp_path / "dir", "/tmp/new")
        container.copy_to(tmp_path / "dir", "/srv")
        container.copy_to(f"{tmp_path}/dir/.", "/home")

        assert container.copy_from("/tmp/new/sub/file") == b"deep\n"
        assert container.copy_from("/srv/dir/sub/file") == b"deep\n"
        assert container.copy_from("/home/sub/file") == b"deep\n"

    def test_out_of_it(self, box: type[Container], tmp_path: Path) -> None:
        """A file or directory is copied out under the given name, or into an existing directory under its own."""
        container = box("true")

        assert container.copy_from("/etc/motd") == b"welcome\n"
        assert container.copy_from("/etc/motd", tmp_path / "greeting") == tmp_path / "greeting"
        assert (tmp_path / "greeting").read_text() == "welcome\n"
        assert container.copy_from("/srv/data", tmp_path) == tmp_path / "data"
        assert (tmp_path / "data/deep/two.txt").read_text() == "two\n"
        container.copy_from("/srv/.", tmp_path / "whole")
        assert (tmp_path / "whole/data/one.txt").read_text() == "one\n"
        assert os.readlink(tmp_path / "whole/link") == "data/one.txt"
        assert stat.S_IMODE((tmp_path / "whole/script").stat().st_mode) == 0o755

    def test_missing_things(self, box: type[Container], tmp_path: Path) -> None:
        """What isn't there is named in the error, on both sides."""
        container = box("true")

        with pytest.raises(NotFound, match="/no/such"):
            container.copy_from("/no/such")
        with pytest.raises(NotFound, match="/no/where"):
            container.copy_to(b"x", "/no/where/file")
        with pytest.raises(FileNotFoundError, match="absent"):
            container.copy_to(tmp_path / "absent", "/tmp")
        with pytest.raises(NotFound):
            container.copy_to(__file__, "/tmp/absent/")

    def test_nonsense(self, box: type[Container], tmp_path: Path) -> None:
        """A file and a directory don't replace each other."""
        container = box("true")

        with pytest.raises(InvalidSpec, match="/srv"):
            container.copy_from("/srv")
        with pytest.raises(InvalidSpec):
            container.copy_to(b"x", "/srv")
        with pytest.raises(InvalidSpec):
            container.copy_to(tmp_path, "/etc/motd")
        with pytest.raises(InvalidType):
            container.copy_to(5, "/tmp")  # type: ignore[arg-type]
        (tmp_path / "motd").mkdir()
        with pytest.raises(IsADirectoryError):
            container.copy_from("/etc/motd", tmp_path)

    def test_running_container(self, running: Container) -> None:
        """Copies work while it runs, and its processes see them."""
        running.copy_to(b"live\n", "/tmp/live")

        assert running.exec("cat", "/tmp/live").stdout == "live\n"

    def test_links_lead_nowhere_outside(self, box: type[Container]) -> None:
        """A symbolic link is followed below the container's root alone."""
        container = box("sh", "-c", "ln -s /etc /tmp/etc; ln -s ../../../../../../etc/motd /tmp/up")
        container.start()
        container.wait(20)

        container.copy_to(b"inside\n", "/tmp/etc/pycontainers-inside")

        assert container.copy_from("/etc/pycontainers-inside") == b"inside\n"
        assert not Path("/etc/pycontainers-inside").exists()

    def test_export(self, box: type[Container], tmp_path: Path) -> None:
        """`export` is a tar of the whole file system, with what was changed."""
        container = box("sh", "-c", "echo x > /tmp/x; rm /etc/motd")
        container.start()
        container.wait(20)
        file = io.BytesIO()

        container.export(file)
        container.export(tmp_path / "root.tar")

        file.seek(0)
        with tarfile.open(fileobj=file) as tar:
            names = {name.removeprefix("./").rstrip("/") for name in tar.getnames()}
        assert {"bin/busybox", "tmp/x", "etc/passwd"} <= names
        assert "etc/motd" not in names
        with tarfile.open(tmp_path / "root.tar") as tar:
            assert {name.removeprefix("./").rstrip("/") for name in tar.getnames()} == names


@pytest.mark.needs(Capability.FILES)
class TestPath:
    """`path` works as pathlib's do."""

    def test_reading_and_writing(self, box: type[Container]) -> None:
        """Text and bytes are read and written whole."""
        container = box("cat", "/tmp/written")
        path = container.path("/tmp/written")

        assert not path.exists()
        assert path.write_text("one\n") == 4
        with path.open("a") as file:
            file.write("two\n")
        assert path.read_text() == "one\ntwo\n"
        assert path.read_bytes() == b"one\ntwo\n"
        assert path.stat().st_size == 8
        with path.open("r+b") as file:
            file.seek(4)
            file.write(b"2")
        container.start()
        container.wait(20)
        assert container.logs() == "one\n2wo\n"

    def test_looking(self, box: type[Container]) -> None:
        """Kinds, names and directories are told."""
        root = box("true").path("/srv")

        assert root.is_dir()
        assert not root.is_file()
        assert (root / "data/one.txt").is_file()
        assert (root / "link").is_symlink()
        assert str((root / "link").readlink()) == "data/one.txt"
        assert (root / "link").read_text() == "one\n"
        assert {path.name for path in root.iterdir()} == {"data", "link", "script", "not-a-program"}
        assert stat.S_IMODE((root / "script").stat().st_mode) == 0o755
        assert sorted(str(path) for path in root.rglob("*.txt")) == ["/srv/data/deep/two.txt", "/srv/data/one.txt"]
        assert [path.name for path in root.glob("*/one*")] == ["one.txt"]
        one = root / "data" / "one.txt"
        assert (one.parent, one.stem, one.suffix, one.parts[-1]) == (root / "data", "one", ".txt", "one.txt")
        assert one == root.joinpath("data", "one.txt")

    def test_changing(self, box: type[Container]) -> None:
        """Directories and links are made, renamed and removed."""
        root = box("true").path("/tmp")

        (root / "a/b/c").mkdir(parents=True)
        (root / "a/b/c").mkdir(exist_ok=True)
        with pytest.raises(FileExistsError):
            (root / "a").mkdir()
        with pytest.raises(FileNotFoundError):
            (root / "x/y").mkdir()
        (root / "file").touch()
        (root / "file").chmod(0o600)
        assert stat.S_IMODE((root / "file").stat().st_mode) == 0o600
        moved = (root / "file").rename(root / "a/moved")
        assert moved.exists()
        assert not (root / "file").exists()
        (root / "link").symlink_to("a/moved")
        assert (root / "link").is_file()
        (root / "link").unlink()
        (root / "link").unlink(missing_ok=True)
        with pytest.raises(FileNotFoundError):
            (root / "link").unlink()
        with pytest.raises(OSError, match="not empty"):
            (root / "a").rmdir()
        (root / "a/b/c").rmdir()
        assert not (root / "a/b/c").exists()

    def test_errors_are_the_kernels(self, box: type[Container]) -> None:
        """Errors are pathlib's."""
        container = box("true")

        with pytest.raises(FileNotFoundError):
            container.path("/no/such").read_text()
        with pytest.raises(IsADirectoryError):
            container.path("/srv").read_bytes()
        with pytest.raises(NotADirectoryError):
            list(container.path("/etc/motd").iterdir())
        with pytest.raises(FileExistsError):
            container.path("/etc/motd").open("x")
        with pytest.raises(TypeError):
            os.fspath(container.path("/etc/motd"))  # type: ignore[call-overload]

    def test_nothing_leads_outside(self, box: type[Container]) -> None:
        """Neither `..` nor a symbolic link leaves the container's root."""
        container = box("true")
        secret = container.path("/tmp/escape")
        secret.symlink_to("../../../../../../../../etc/hostname-of-the-kit")

        assert container.path("/../../../etc/motd").read_text() == "welcome\n"
        with pytest.raises(FileNotFoundError):
            secret.read_text()
        secret.write_text("inside")
        assert container.path("/etc/hostname-of-the-kit").read_text() == "inside"
        assert not Path("/etc/hostname-of-the-kit").exists()
