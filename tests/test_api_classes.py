"""An image is a class, a container is its instance: what Python's own tools may do with them."""

from __future__ import annotations

import copy
import dataclasses
import gc
import inspect
import pydoc
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
from apikit import fresh_python
from apikit import memory_box
from attrs import evolve

from pycontainers import Container
from pycontainers import Engine
from pycontainers import Image
from pycontainers import errors
from pycontainers.backend import ImageRecord
from pycontainers.errors import ContainerNotFound
from pycontainers.errors import ImageNotFound
from pycontainers.errors import InvalidSpec
from pycontainers.errors import InvalidType
from pycontainers.options import ContainerOptions
from pycontainers.options import UpdateOptions
from pycontainers.spec import ContainerSpec
from pycontainers.spec import ContainerUpdate


@pytest.fixture
def engine() -> Iterator[Engine]:
    """A memory engine, as the default one."""
    with Engine("memory") as engine:
        yield engine


@pytest.fixture
def box(engine: Engine, tmp_path: Path) -> type[Container]:
    """An image."""
    return memory_box(engine, tmp_path / "root")


def test_classes_and_instances(box: type[Container]) -> None:
    """An image is an instance of `Image` and a class of containers."""
    container = box("true")

    assert isinstance(box, Image)
    assert issubclass(box, Container)
    assert isinstance(container, box)
    assert isinstance(container, Container)
    assert not isinstance(box, Container)
    assert not isinstance(container, Image)
    assert box.__name__ == "Box"


def test_both_names_answer_for_either(box: type[Container]) -> None:
    """A name that image and container have answers for the class or for the instance."""
    container = box("true", labels={"a": "b"})

    assert box.id.startswith("sha256:")
    assert len(container.id) == 64
    assert (box.short_id, container.short_id) == (box.id[7:19], container.id[:12])
    assert box.created <= container.created
    assert type(box.config).__name__ == "ImageConfig"
    assert type(container.config).__name__ == "ContainerSpec"
    assert box.inspect()["Id"] == box.id
    assert container.inspect()["Id"] == container.id
    container.remove()
    box.remove()
    with pytest.raises(AttributeError):
        container.id = "other"


def test_what_is_an_images_alone(box: type[Container]) -> None:
    """What only an image has isn't on its containers, and the other way round."""
    container = box("true")

    for name in ("tags", "layers", "history", "tag", "run", "containers", "import_rootfs"):
        assert hasattr(box, name)
        assert not hasattr(container, name)
    assert isinstance(inspect.getattr_static(container, "status"), property)


def test_container_names_no_image(engine: Engine) -> None:
    """`Container()` is a TypeError that says what to do."""
    with pytest.raises(TypeError, match=r"names no image"):
        Container()
    with pytest.raises(TypeError, match="names no image"):
        Container.run("true")
    with pytest.raises(errors.ContainersError):
        _ = Container.tags


def test_image_keyword(engine: Engine, box: type[Container]) -> None:
    """`image=` takes a reference or a class of an image; any other keyword is a TypeError."""

    class ByReference(Container, image="box"):
        pass

    class ByClass(Container, image=box):
        pass

    class Below(ByReference):
        pass

    for cls in (ByReference, ByClass, Below):
        assert cls.id == box.id
        assert cls.run("echo", "x").stdout == "x\n"
        assert isinstance(cls("true"), cls)
    with pytest.raises(InvalidType, match="image"):
        type(Container)("Bad", (Container,), {}, image=5)
    with pytest.raises(InvalidType, match="image"):
        type(Container)("Bad", (Container,), {}, image=Container)
    with pytest.raises(TypeError):
        type(Container)("Bad", (Container,), {}, colour="red")


def test_methods_of_a_subclass(box: type[Container]) -> None:
    """The methods of a class with `image=` are its containers' methods."""

    class Greeter(Container, image="box"):
        def greet(self, whom: str) -> str:
            return self.exec("echo", "hello", whom).stdout

    with Greeter("sleep", "60", init=True) as greeter:
        assert greeter.greet("you") == "hello you\n"
        found = Greeter.get(greeter.name)
        assert type(found) is Greeter
        assert found == greeter
        assert found.greet("me") == "hello me\n"
        assert [type(c) for c in Greeter.list()] == [Greeter]


def test_own_init(box: type[Container]) -> None:
    """A subclass may have an `__init__` of its own that calls the container's."""

    class Napper(Container, image="box"):
        def __init__(self, seconds: int, **options: object) -> None:
            super().__init__("sleep", str(seconds), **options)
            self.seconds = seconds

    nap = Napper(60, name="nap")

    assert (nap.seconds, nap.name, nap.config.command) == (60, "nap", ("sleep", "60"))


@pytest.mark.parametrize("how", ["define", "frozen", "dataclass", "slots"])
def test_attrs_and_dataclasses(box: type[Container], how: str) -> None:
    """A subclass survives `attrs.define` and `dataclass(slots=True)`: fields are its own, options the container's."""

    class Web(Container, image="box"):
        site: str = "default"
        depth: int = 1

        def where(self) -> str:
            return f"{self.site}/{self.short_id}"

    decorate = {"define": attrs.define, "frozen": attrs.frozen, "dataclass": dataclasses.dataclass,
                "slots": dataclasses.dataclass(slots=True)}[how]
    Web = decorate(Web)

    web = Web("sleep", "60", name="web", site="mine")

    assert isinstance(Web, Image)
    assert isinstance(web, Container)
    assert Web.id == box.id
    assert (web.site, web.depth, web.name) == ("mine", 1, "web")
    assert web.where() == f"mine/{web.short_id}"
    assert web.config.command == ("sleep", "60")
    assert issubclass(Web, box)
    with pytest.raises(InvalidType):
        Web("true", colour="red")
    assert len(Container.list(all=True)) == 1


def test_failing_field_leaves_nothing(box: type[Container]) -> None:
    """When a subclass's own fields can't be set, no container is left behind."""

    @attrs.define
    class Web(Container, image="box"):
        site: str = attrs.field(validator=attrs.validators.instance_of(str))

    with pytest.raises(TypeError):
        Web("true", site=5)
    with pytest.raises(TypeError):
        Web("true")

    assert Container.list(all=True) == []


def test_one_class_for_each_image(box: type[Container]) -> None:
    """There is one class per engine and image id, whoever asks, and it goes when nobody holds it."""
    assert Image.get("box") is box
    assert Image.get(box.id) is box
    assert Image.list() == [box]
    assert type(Container.get(box("true").id)) is box
    other = Image.get("box")
    gone = weakref.ref(other)
    engine = box("true").engine
    del other, box
    gc.collect()
    # pytest's fixture still holds the class here: it goes with the engine.
    assert gone() is engine._classes.get(next(iter(engine._classes)))


def test_class_is_held_weakly(engine: Engine, tmp_path: Path) -> None:
    """A class that nobody holds is given up."""
    gone = weakref.ref(memory_box(engine, tmp_path / "root"))
    gc.collect()

    assert gone() is None
    assert Image.get("box").run("true").returncode == 0


def test_classes_from_many_threads(engine: Engine, box: type[Container]) -> None:
    """Threads that ask at once get the same class."""
    found: list[object] = []
    threads = [threading.Thread(target=lambda: found.append(Image.get("box", engine=engine))) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert found == [box] * 20


def test_issubclass_follows_parents(engine: Engine, box: type[Container]) -> None:
    """An image made from another is its subclass, however its class is come by."""
    backend = engine.backend
    record = backend.get(ImageRecord, "box")
    child = evolve(record, id="sha256:" + "c" * 64, parent=record.id, tags=("docker.io/library/child:latest",))
    backend._images[child.id] = child
    backend._tags["docker.io/library/child:latest"] = child.id
    backend._roots[child.id] = backend._roots[record.id]

    Child = Image.get("child")

    class ByName(Container, image="child"):
        pass

    class Absent(Container, image="nothing-here"):
        pass

    assert issubclass(Child, box)
    assert not issubclass(box, Child)
    assert issubclass(ByName, box)
    assert issubclass(ByName, Child)
    assert isinstance(ByName("true"), box)
    assert not issubclass(Absent, box)
    assert not issubclass(int, box)
    assert box.get(Child("true", name="kid").id).name == "kid"
    assert [c.name for c in Child.list(all=True)].count("kid") == 1
    with pytest.raises(ContainerNotFound, match="Child"):
        Child.get(box("true").id)


def test_engines_are_apart(engine: Engine, box: type[Container], tmp_path: Path) -> None:
    """Images and containers stay with their engine; a class body is resolved on each one."""
    other = Engine("memory")
    Other = memory_box(other, tmp_path / "other")

    class Web(Container, image="box"):
        pass

    assert Other is not box
    assert not issubclass(Other, box)
    with pytest.raises(InvalidSpec, match="engine"):
        box("true", engine=other)
    assert Web("true", engine=other).engine is other
    assert Web("true").engine is engine
    assert len(Container.list(all=True, engine=other)) == 1
    with other:
        assert Image.list() == [Other]
        assert box("true").engine is engine


def test_equality(box: type[Container]) -> None:
    """Two objects of one container are equal, and stand for it in sets."""
    first, second = box("true"), box("true")

    assert Container.get(first.id) == first
    assert first != second
    assert len({first, Container.get(first.id), second}) == 2
    assert copy.copy(first) == first
    assert first != "text"


def test_removed_image(engine: Engine, box: type[Container]) -> None:
    """A container knows its image's class even when the image was removed by force."""
    container = box("true")
    old = box.id
    box.remove(force=True)

    assert Container.get(container.id).image.id == old
    with pytest.raises(ImageNotFound):
        _ = box.tags


LOOK = """
import inspect, json, pydoc, sys
from unittest import mock
from pycontainers import Container, Image

class Web(Container, image="no-such-image:1"):
    '''Serves.'''
    def url(self) -> str:
        '''Where.'''

for cls in (Web, Container, Image):
    dir(cls); repr(cls); str(cls); pydoc.render_doc(cls); inspect.getmembers(cls); inspect.classify_class_attrs(cls)
    inspect.getdoc(cls); hash(cls); cls == 1; inspect.signature(cls.get); mock.create_autospec(cls)
    try: inspect.signature(cls)
    except ValueError: pass
issubclass(Web, Container); isinstance(3, Web); isinstance(Web, Image); issubclass(int, Web)
print(json.dumps([name for name in sys.modules if name.startswith("pycontainers.")]))
"""


def test_looking_touches_no_engine() -> None:
    """`dir`, `repr`, documentation tools and importing never open an engine or ask for an image."""
    modules = fresh_python(LOOK, PYCONTAINERS_BACKEND="no-such-backend")

    assert isinstance(modules, list)
    assert "pycontainers.engine" not in modules
    assert not any(name.startswith("pycontainers.backends") for name in modules)


def test_documentation_tells_of_both() -> None:
    """The names that image and container share are documented, and an image's class looks like a class."""
    text = pydoc.plain(pydoc.render_doc(Container))

    assert "short_id" in text
    assert "Of an image:" in text
    assert "import_rootfs" in pydoc.plain(pydoc.render_doc(Image))


def test_repr(box: type[Container]) -> None:
    """`repr` tells image and container by what never changes."""
    assert repr(box) == f"<image 'box' {box.short_id} of the memory engine>"
    container = box("true")
    assert repr(container) == f"<Box {container.short_id}>"


def test_options_are_the_specs_fields() -> None:
    """The typed keywords of a container and of `update` are the fields of its spec: one list, written twice, held equal."""
    fields = {field.name for field in attrs.fields(ContainerSpec)}
    changes = {field.name for field in attrs.fields(ContainerUpdate)}

    assert set(ContainerOptions.__annotations__) == fields - {"image", "image_id", "command"}
    assert set(UpdateOptions.__annotations__) == changes - {"name", "paused", "lifetime"}


def test_a_container_tells_its_images_reference(box: type[Container], tmp_path: Path) -> None:
    """A container is of the class's image for ever, and says the reference by which that was asked for."""
    first = box("true")
    (tmp_path / "root/new").touch()
    moved = Image.import_rootfs(tmp_path / "root", "box")
    second = box("true")

    assert moved.id != box.id
    assert [box.id] * 2 == [c.inspect()["Image"] for c in (first, second)]
    assert ["box"] * 2 == [c.config.image for c in (first, second)]
    assert "box" == moved("true").config.image
