"""`Image`, the metaclass of `Container`: an image is a class, and its containers are the instances.

This module and `container` import nothing that costs time; what they need they import in the call that needs it.
"""

from __future__ import annotations

import builtins
from abc import ABCMeta

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any
    from typing import BinaryIO
    from typing import Literal
    from typing import overload

    from typing_extensions import Unpack

    from pycontainers.backend import ImageRecord
    from pycontainers.backend import LayerRecord
    from pycontainers.backend import Removed
    from pycontainers.container import Container
    from pycontainers.engine import Engine
    from pycontainers.layer import Layer
    from pycontainers.options import ContainerOptions
    from pycontainers.options import Text
    from pycontainers.process import CompletedProcess
    from pycontainers.spec import ImageConfig


class Bound:
    """The image that a class stands for, once an engine has it: its id there, and the reference it was asked by."""

    __slots__ = ("engine", "id", "title")

    def __init__(self, engine: Engine, id: str, title: str) -> None:
        self.engine: Engine = engine
        self.id: str = id
        self.title: str = title


class Image(ABCMeta):
    """The metaclass of `Container`. `Image.get("debian:12")` is a class; calling it makes a container of that image.

    `isinstance(Debian, Image)` holds, and `issubclass(Child, Debian)` if the image `Child` was made from `Debian`.
    `engine=` names the engine; without it the default engine is meant.
    """

    #: The class that names no image: `Container`, the first one made.
    _root: type[Container]

    # -- finding and making images -----------------------------------------------------------------------------------

    @classmethod
    def get(mcls, reference: str, *, engine: Engine | None = None) -> type[Container]:
        """Return the image with that reference, id, id prefix or digest.

        Raises `ImageNotFound`, `AmbiguousName`, `InvalidReference`.
        """
        from pycontainers.backend import ImageRecord

        _check_text("reference", reference)
        engine = engine or _default()
        return image_class(engine, engine.backend.get(ImageRecord, reference), reference)

    @classmethod
    def list(
        mcls, *, filters: Mapping[str, object] | None = None, engine: Engine | None = None
    ) -> builtins.list[type[Container]]:
        """Return all images, newest first. `filters` are Docker's: reference, label, dangling, before, since, until."""
        from pycontainers.backend import ImageRecord
        from pycontainers.filters import select_images

        engine = engine or _default()
        records = select_images(engine.backend.list(ImageRecord), filters)
        return [image_class(engine, record, record.tags[0] if record.tags else "") for record in records]

    @classmethod
    def import_rootfs(
        mcls,
        source: Text | BinaryIO,
        reference: str | None = None,
        *,
        message: str = "",
        config: ImageConfig | None = None,
        engine: Engine | None = None,
    ) -> type[Container]:
        """Make an image of one layer of a root file system, and return it.

        `source` is a directory, or a tar (plain, gzip, xz, zstd) by its path, its URL or an open binary file. `config`
        is what the image shall say of its containers. Atomic. Raises `CorruptArchive`, `StoreFull`, `InvalidReference`,
        `NotFound` if there is no such source.
        """
        from pycontainers.backend import Capability
        from pycontainers.backend import ImageRecord
        from pycontainers.spec import ImageConfig
        from pycontainers.spec import ImportSpec

        engine = engine or _default()
        engine.require(Capability.IMPORT)
        spec = ImportSpec(source=source, reference=reference, message=message, config=config or ImageConfig())
        id = engine.backend.create(spec)
        return image_class(engine, engine.backend.get(ImageRecord, id), reference or "")

    @classmethod
    def host(mcls, *, engine: Engine | None = None) -> type[Container]:
        """Return the image of no bytes: this machine's own root file system, read-only, with its secrets masked.

        What a container of it writes is captured above it, and gone with the container. It needs no registry.
        Raises `Unsupported`.
        """
        from pycontainers.backend import Capability
        from pycontainers.backend import ImageRecord

        engine = engine or _default()
        engine.require(Capability.HOST_IMAGE)
        return image_class(engine, engine.backend.get(ImageRecord, "host"), "host")

    @classmethod
    def prune(
        mcls, *, all: bool = False, filters: Mapping[str, object] | None = None, engine: Engine | None = None
    ) -> Removed:
        """Remove images without a tag (with `all`, every image) that no container uses; say what went.

        `filters` are Docker's: label, label!, until. One that is used or goes away meanwhile is left out.
        """
        from pycontainers.backend import ContainerRecord
        from pycontainers.backend import ImageRecord
        from pycontainers.errors import InUse
        from pycontainers.errors import NotFound
        from pycontainers.filters import merge_removed
        from pycontainers.filters import prunable

        backend = (engine or _default()).backend
        used = {record.image_id for record in backend.list(ContainerRecord)}
        results = []
        for record in prunable(backend.list(ImageRecord), filters):
            if record.id in used or (record.tags and not all):
                continue
            try:
                results.append(backend.remove(ImageRecord, record.id, force=True))
            except (NotFound, InUse):
                continue
        return merge_removed(results)

    # -- one image ---------------------------------------------------------------------------------------------------

    @property
    def tags(cls) -> tuple[str, ...]:
        """The image's references, as they are now: `('debian:12',)`."""
        from pycontainers.oci.names import familiar

        return tuple(familiar(tag) for tag in cls._record().tags)

    @property
    def digests(cls) -> tuple[str, ...]:
        """The image's references by digest."""
        return cls._record().digests

    @property
    def size(cls) -> int:
        """Bytes of all the image's layers, unpacked."""
        return cls._record().size

    @property
    def layers(cls) -> tuple[Layer, ...]:
        """The image's layers, lowest first."""
        from pycontainers.backend import ImageRecord
        from pycontainers.layer import layers_of

        return layers_of(cls._record(), cls._engine_for().backend.list(ImageRecord))

    def history(cls) -> builtins.list[LayerRecord]:
        """Return the steps that made the image, newest first; a step that changed no file is `empty`."""
        return [*reversed(cls._record().layers)]

    def tag(cls, *references: str) -> None:
        """Give the image these references too; another image that has one loses it. Idempotent, atomic.

        Raises `InvalidReference`, `ImageNotFound`.
        """
        from pycontainers.backend import ImageRecord
        from pycontainers.oci.names import normalise
        from pycontainers.spec import ImageUpdate

        update = ImageUpdate(add_tags=tuple(normalise(reference) for reference in references))
        cls._engine_for().backend.update(ImageRecord, cls._image_ref(), update)

    def untag(cls, *references: str) -> None:
        """Take these references from the image; the image stays. Idempotent, atomic. Raises `InvalidReference`."""
        from pycontainers.backend import ImageRecord
        from pycontainers.oci.names import normalise
        from pycontainers.spec import ImageUpdate

        update = ImageUpdate(remove_tags=tuple(normalise(reference) for reference in references))
        cls._engine_for().backend.update(ImageRecord, cls._image_ref(), update)

    def containers(cls, *, all: bool = False) -> builtins.list[Container]:
        """Return the running containers of this image and of images made from it; with `all`, ended ones too."""
        engine = cls._engine_for()
        return cls._root.list(all=all, filters={"ancestor": cls._record(engine).id}, engine=engine)

    if TYPE_CHECKING:

        @overload
        def run(
            cls, *command: Text, input: str | bytes | None = None, timeout: float | None = None, check: bool = False,
            text: Literal[True] = True, engine: Engine | None = None, **options: Unpack[ContainerOptions],
        ) -> CompletedProcess[str]: ...

        @overload
        def run(
            cls, *command: Text, input: str | bytes | None = None, timeout: float | None = None, check: bool = False,
            text: Literal[False], engine: Engine | None = None, **options: Unpack[ContainerOptions],
        ) -> CompletedProcess[bytes]: ...

    def run(
        cls,
        *command: Text,
        input: str | bytes | None = None,
        timeout: float | None = None,
        check: bool = False,
        text: bool = True,
        engine: Engine | None = None,
        **options: Unpack[ContainerOptions],
    ) -> CompletedProcess[Any]:
        """Run a command in a new container, wait, remove it, and answer as `subprocess.run` does.

        `input` goes to its stdin; after `timeout` seconds it is killed. With `check` an exit code other than 0 raises.
        The container dies with this process, whatever kills it. Raises `ProcessFailed`, `TimedOut` (with the output so
        far), `CommandNotFound`, `CommandNotExecutable`, `ImageNotFound`, `InvalidSpec`, `Unsupported`.
        """
        from pycontainers.process import run_container

        engine = cls._engine_for(engine)
        options.setdefault("lifetime", "process")
        options.setdefault("auto_remove", True)
        spec = cls._spec(engine, command, options)
        return run_container(engine.backend, spec, input, timeout, check, text)

    # -- classes -----------------------------------------------------------------------------------------------------

    def __init__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **keywords: Any) -> None:
        super().__init__(name, bases, namespace, **keywords)
        if "_root" not in Image.__dict__:
            Image._root = cls  # type: ignore[assignment]

    if not TYPE_CHECKING:  # Type checkers take the signature from Container.__init__.

        def __call__(cls, *args: object, **keywords: object) -> object:
            """Make a container of the image."""
            if cls._source() is None:
                from pycontainers.errors import InvalidType

                raise InvalidType(f"{cls.__name__} names no image; call what Image.get() or Image.import_rootfs() gave, "
                                  f"or a class that says image=")
            generated = _generated_fields(cls)
            if generated is None:
                return super().__call__(*args, **keywords)
            # attrs and dataclasses write an __init__ for the subclass's own fields; everything else is the container's.
            self = cls.__new__(cls)
            own = {key: keywords.pop(key) for key in generated & keywords.keys()}
            cls._root.__init__(self, *args, **keywords)
            try:
                cls.__init__(self, **own)
            except BaseException:
                self.remove(force=True)
                raise
            return self

    def __repr__(cls) -> str:
        source = cls.__dict__.get("_image")
        if isinstance(source, Bound):
            return f"<image {source.title!r} {_short(source.id)} of the {source.engine.name} engine>"
        return super().__repr__()

    def __dir__(cls) -> builtins.list[str]:
        """Leave out what would ask an engine: tools that read every attribute (pydoc, inspect) must not start one."""
        names = super().__dir__()
        if cls._source() is None:
            return [*names]
        return [name for name in names if name not in ("id", "short_id", "created", "config")]

    def __instancecheck__(cls, instance: object) -> bool:
        # Not ABCMeta's: it remembers a "no" that a later import or tag can make a "yes".
        return type.__instancecheck__(cls, instance) or cls.__subclasscheck__(type(instance))

    def __subclasscheck__(cls, subclass: type) -> bool:
        if super().__subclasscheck__(subclass):
            return True
        bound = cls.__dict__.get("_image")
        return isinstance(bound, Bound) and isinstance(subclass, Image) and _descends(subclass, bound)

    def _source(cls) -> str | Image | Bound | None:
        """What the class says its image is: a reference, another class, or an engine's image."""
        source: str | Image | Bound | None = getattr(cls, "_image", None)
        return source

    def _engine_for(cls, engine: Engine | None = None) -> Engine:
        """The engine that a call on the class means. Raises `InvalidSpec` if that isn't where the image is."""
        source = cls._source()
        if isinstance(source, Image):
            return source._engine_for(engine)
        if not isinstance(source, Bound):
            return engine or _default()
        if engine is not None and engine is not source.engine:
            from pycontainers.errors import InvalidSpec

            raise InvalidSpec(f"engine: {cls.__name__} is an image of {source.engine!r}, not of {engine!r}")
        return source.engine

    def _image_id(cls) -> str:
        """The image's id: for ever the same if an engine gave the class, asked each time if it names a reference."""
        source = cls._source()
        while isinstance(source, Image):
            source = source._source()
        return source.id if isinstance(source, Bound) else cls._record().id

    def _image_ref(cls) -> str:
        """The id or reference by which the engine finds the image. Raises `InvalidType` if the class names none."""
        source = cls._source()
        if isinstance(source, Image):
            return source._image_ref()
        if isinstance(source, Bound):
            return source.id
        if source is None:
            from pycontainers.errors import InvalidType

            raise InvalidType(f"{cls.__name__} names no image")
        return source

    def _record(cls, engine: Engine | None = None) -> ImageRecord:
        from pycontainers.backend import ImageRecord

        ref = cls._image_ref()
        return cls._engine_for(engine).backend.get(ImageRecord, ref)

    def _spec(cls, engine: Engine, command: tuple[Text, ...], options: Any) -> Any:
        """The checked spec of a container of this image. Raises `InvalidSpec`, `InvalidType`, `Unsupported`."""
        from pycontainers.spec import ContainerSpec

        if command:
            options["command"] = command
        source = cls._source()
        while isinstance(source, Image):
            source = source._source()
        try:
            if isinstance(source, Bound):
                spec = ContainerSpec(image=source.title, image_id=source.id, **options)
            else:
                spec = ContainerSpec(image=cls._image_ref(), **options)
        except TypeError as error:
            raise _unknown_option(options, ContainerSpec, error) from error
        engine.require_for(spec)
        return spec


def image_class(engine: Engine, record: ImageRecord, reference: str = "") -> type[Container]:
    """Return the class of that image: one per engine and image id while anyone holds it, below its parent's class."""
    with engine._lock:
        found = engine._classes.get(record.id)
        if found is not None:
            return found  # type: ignore[return-value]
        base = _parent_class(engine, record) or Image._root
        title = reference or (_familiar(record.tags[0]) if record.tags else _short(record.id))
        names = {"_image": Bound(engine, record.id, title), "__module__": __name__, "__doc__": f"The image {title}."}
        made = Image(_class_name(title), (base,), names)
        engine._classes[record.id] = made
        return made  # type: ignore[return-value]


def _parent_class(engine: Engine, record: ImageRecord) -> type[Container] | None:
    if not record.parent:
        return None
    from pycontainers.backend import ImageRecord
    from pycontainers.errors import NotFound

    try:
        return image_class(engine, engine.backend.get(ImageRecord, record.parent))
    except NotFound:
        return None


def _descends(subclass: Image, bound: Bound) -> bool:
    """Tell whether a class that names its image by a reference or a class means that image, or one made from it."""
    source = subclass._source()
    while isinstance(source, Image):
        subclass, source = source, source._source()
    if source is None or (isinstance(source, Bound) and source.engine is not bound.engine):
        return False
    from pycontainers.backend import ImageRecord
    from pycontainers.errors import NotFound

    ref = source.id if isinstance(source, Bound) else source
    try:
        while ref:
            record = bound.engine.backend.get(ImageRecord, ref)
            if record.id == bound.id:
                return True
            ref = record.parent
    except NotFound:
        pass
    return False


def _default() -> Engine:
    from pycontainers.engine import default_engine

    return default_engine()


def _check_text(what: str, value: object) -> None:
    if not isinstance(value, str):
        from pycontainers.errors import InvalidType

        raise InvalidType(f"{what} takes a text: got {value!r}")


def _familiar(reference: str) -> str:
    from pycontainers.oci.names import familiar

    return familiar(reference)


def _short(id: str) -> str:
    return id.partition(":")[2][:12] or id[:12]


def _class_name(title: str) -> str:
    last = title.partition("@")[0].rpartition("/")[2].partition(":")[0]
    name = "".join(part[:1].upper() + part[1:] for part in last.replace(".", "-").replace("_", "-").split("-"))
    return name if name.isidentifier() else f"Image{name}"


def _generated_fields(cls: type) -> set[str] | None:
    """The fields of an `__init__` that attrs or dataclasses wrote for a subclass; None if nobody wrote one."""
    for base in cls.__mro__:
        init = base.__dict__.get("__init__")
        if init is None:
            continue
        code = getattr(init, "__code__", None)
        if code is None or not code.co_filename.startswith("<"):
            return None
        if "__attrs_attrs__" in base.__dict__ or "__dataclass_fields__" in base.__dict__:
            return {*code.co_varnames[1 : code.co_argcount + code.co_kwonlyargcount]}
        return None
    return None


def _unknown_option(options: Mapping[str, object], spec: type, error: TypeError) -> Exception:
    """The error that names an option which doesn't exist; the given one if they all do."""
    import difflib

    from pycontainers.errors import InvalidType

    known = [attribute.name for attribute in spec.__attrs_attrs__]  # type: ignore[attr-defined]
    for name in options:
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            return InvalidType(f"there is no option {name!r}" + (f"; is {close[0]!r} meant?" if close else ""))
        if name in ("image", "image_id"):
            return InvalidType(f"{name} can't be an option: the class says which image it is")
    return error
