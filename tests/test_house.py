"""What holds the house together: the direction of imports, what is exported, the tree of errors, and the wheel."""

from __future__ import annotations

import ast
import builtins
import configparser
import importlib
import importlib.metadata
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import pycontainers
from pycontainers import errors

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = {"pycontainers": "pycontainers", "backends": "pycontainers.backends", "_native": "pycontainers._native"}
REQUIRED = bool(os.environ.get("PYCONTAINERS_REQUIRE"))

#: From the top down: a module imports from its own line and those below it. `pycontainers` itself is the package's face.
LAYERS = [
    ["__main__", "cli"],
    ["testing"],
    [""],
    ["container", "filesystem", "image", "layer", "options", "process"],
    ["waiting"],
    ["engine"],
    ["hooks", "plugins"],
    ["filters", "output", "usage"],
    ["backend"],
    ["dockerapi", "effective", "moments", "naming", "oci", "templates"],
    ["spec"],
    ["errors"],
]
#: Imported upwards for a type's name alone, under TYPE_CHECKING: a record that is shown, an object that is handed out.
UPWARDS_FOR_TYPING = {("dockerapi", "backend"), ("engine", "image"), ("waiting", "container")}
#: All that a backend sees of the API.
BACKENDS_SEE = {"backend", "dockerapi", "effective", "errors", "naming", "oci", "spec"}
#: Foreign packages that only one part may import.
ONLY_IN = {"click": {"cli"}, "rich": {"cli"}, "cffi": {"_native"}, "docker": {"backends"}}
#: Environment variables are read by the command line, and once for the default engine and the user's own store.
READ_THE_ENVIRONMENT = {"cli", "engine"}


# -- the direction of imports --------------------------------------------------------------------------------------------


def modules() -> dict[str, Path]:
    """Return every module's name below `pycontainers.` ("" is the package), and its file."""
    found = {}
    for folder, package in FOLDERS.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = [*package.split(".")[1:], *path.relative_to(ROOT / folder).with_suffix("").parts]
            found[".".join(p for p in parts if p != "__init__")] = path
    return found


MODULES = modules()


class Imports(ast.NodeVisitor):
    """Collects what a module imports, and whether only for types."""

    def __init__(self, name: str, path: Path) -> None:
        self.name, self.typing, self.found = name, False, set[tuple[str, bool]]()
        self.package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        self.visit(ast.parse(path.read_text(), str(path)))

    def visit_If(self, node: ast.If) -> None:
        """Note what stands under `if TYPE_CHECKING`."""
        before = self.typing
        self.typing = before or "TYPE_CHECKING" in ast.unparse(node.test)
        for child in node.body:
            self.visit(child)
        self.typing = before
        for child in node.orelse:
            self.visit(child)

    def visit_Import(self, node: ast.Import) -> None:
        """Note `import x.y`."""
        self.found |= {(alias.name, self.typing) for alias in node.names}

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        """Note `from x import y`, where y may be a module."""
        module = node.module or ""
        if node.level:
            parts = self.package.split(".") if self.package else []
            base = ["pycontainers", *parts[: len(parts) - node.level + 1]]
            module = ".".join([*base, *([module] if module else [])])
        for alias in node.names:
            full = f"{module}.{alias.name}"
            self.found.add((full if full.removeprefix("pycontainers.") in MODULES else module, self.typing))


def part(module: str) -> str:
    """Return which part of the map a module belongs to: `cli.ps` is part of `cli`."""
    return module.partition(".")[0]


def layer(name: str) -> int:
    """Return a part's place in the map, from the top."""
    places = [place for place, names in enumerate(LAYERS) if name in names]
    assert places, f"pycontainers.{name} has no place in LAYERS"
    return places[0]


def ours(module: str) -> str | None:
    """Return a module's name below `pycontainers.`; None if it is a foreign one."""
    return module.partition(".")[2] if module.partition(".")[0] == "pycontainers" else None


@pytest.mark.parametrize("name", sorted(MODULES), ids=lambda name: name or "__init__")
def test_imports_go_down(name: str) -> None:
    """A module imports only from its own layer and from lower ones; backends see the contract alone."""
    for module, typing in Imports(name, MODULES[name]).found:
        target = ours(module)
        if target is None:
            allowed = ONLY_IN.get(part(module), {part(name)})
            assert part(name) in allowed, f"pycontainers.{name} imports {module}, which is for {allowed} alone"
            continue
        source, target = part(name), part(target)
        if source == "backends":
            native = name.startswith("backends.native") and target == "_native"
            assert native or target in BACKENDS_SEE | {"backends"}, f"pycontainers.{name} imports {module}"
        elif source == "_native":
            assert target == "_native", f"pycontainers.{name} imports {module}"
        else:
            assert target not in ("backends", "_native"), f"pycontainers.{name} imports {module}: use its entry point"
            if typing and (source, target) in UPWARDS_FOR_TYPING:
                continue
            assert layer(source) <= layer(target), f"pycontainers.{name} imports {module}, which is above it"


@pytest.mark.parametrize("name", sorted(n for n in MODULES if n.startswith("backends.") and n.count(".") > 1))
def test_backends_do_not_know_each_other(name: str) -> None:
    """A backend imports nothing of another one."""
    own = ".".join(name.split(".")[:2])
    for module, _ in Imports(name, MODULES[name]).found:
        target = ours(module)
        assert target is None or part(target) != "backends" or f"{target}.".startswith(f"{own}."), module


@pytest.mark.parametrize("name", sorted(MODULES), ids=lambda name: name or "__init__")
def test_environment_is_read_at_the_top(name: str) -> None:
    """Nothing below the command line and the default engine looks at the caller's environment variables."""
    if part(name) in READ_THE_ENVIRONMENT:
        return
    tree = ast.parse(MODULES[name].read_text())
    read = [n.lineno for n in ast.walk(tree) if isinstance(n, ast.Attribute) and n.attr in ("environ", "environb", "getenv")]

    assert not [line for line in read if "XDG_" not in MODULES[name].read_text().splitlines()[line - 1]]


def test_import_is_light() -> None:
    """`import pycontainers`, with `Image` and `Container` touched, loads no backend and no library."""
    code = "import sys, pycontainers; pycontainers.Image, pycontainers.Container; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    heavy = {"attr", "attrs", "typing", "pluggy", "click", "rich", "_cffi_backend", "urllib3", "sqlite3", "importlib.metadata"}

    assert not {m for m in loaded if m in heavy or m.startswith(("pycontainers.backends", "pycontainers._native"))}


# -- what is exported ------------------------------------------------------------------------------------------------------


def exported() -> Iterator[tuple[str, object]]:
    """Yield each public name and what it stands for."""
    for name in pycontainers.__all__:
        yield name, getattr(pycontainers, name)


def test_all_equals_the_public_names() -> None:
    """`__all__` is sorted, each name in it is there, type checkers see the same ones, and `dir()` shows them."""
    tree = ast.parse(MODULES[""].read_text())
    seen = {
        alias.asname
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for line in node.body
        if isinstance(line, ast.ImportFrom) and (line.module or "").startswith("pycontainers")
        for alias in line.names
        if alias.asname
    }

    names = list(pycontainers.__all__)
    assert names == sorted(names, key=lambda n: (not n.isupper(), n.islower() or "_" in n, n)), "constants, classes, functions"
    assert seen == set(pycontainers.__all__) - {"__version__"}
    assert set(pycontainers.__all__) <= set(dir(pycontainers))
    for name, value in exported():
        assert value is not None, name
    with pytest.raises(AttributeError, match="no_such_name"):
        pycontainers.no_such_name  # noqa: B018


def test_every_error_is_exported() -> None:
    """What can be raised can be caught by a name from `pycontainers` itself."""
    tree = {n for n, v in vars(errors).items() if inspect.isclass(v) and v.__module__ == errors.__name__}

    assert tree <= set(pycontainers.__all__)


def functions(name: str, value: object) -> Iterator[tuple[str, object]]:
    """Yield the public functions of an exported name: itself, or its methods and properties."""
    if inspect.isfunction(value):
        yield name, value
    if not inspect.isclass(value):
        return
    for owner in value.__mro__:
        if not owner.__module__.startswith("pycontainers"):
            continue
        for attribute, member in vars(owner).items():
            if attribute.startswith("_") or (attribute in vars(value) and owner is not value):
                continue
            if isinstance(member, property):
                yield f"{name}.{attribute}", member.fget
            elif isinstance(member, (classmethod, staticmethod)):
                yield f"{name}.{attribute}", member.__func__
            elif inspect.isfunction(member):
                yield f"{name}.{attribute}", member


def test_every_exported_name_is_documented_and_typed() -> None:
    """Each public class, function, method and property says what it does, and has the types of all that it takes."""
    missing = []
    for name, value in exported():
        if name == "__version__":
            continue
        if (inspect.isclass(value) or inspect.isfunction(value)) and not inspect.getdoc(value):
            missing.append(f"{name} has no docstring")
        for full, function in functions(name, value):
            if not inspect.getdoc(function):
                missing.append(f"{full} has no docstring")
            signature = inspect.signature(function)  # type: ignore[arg-type]
            if signature.return_annotation is signature.empty:
                missing.append(f"{full} has no return type")
            for parameter in list(signature.parameters.values()):
                if parameter.annotation is parameter.empty and parameter.name not in ("self", "cls", "mcls"):
                    missing.append(f"{full}: {parameter.name} has no type")

    assert not missing, "\n".join(sorted(set(missing)))


@pytest.mark.parametrize("name", sorted(MODULES), ids=lambda name: name or "__init__")
def test_every_module_says_its_job(name: str) -> None:
    """A file opens with a docstring, and takes annotations as text."""
    tree = ast.parse(MODULES[name].read_text())

    assert ast.get_docstring(tree)
    if len(tree.body) > 1:
        assert "from __future__ import annotations" in ast.unparse(tree)


# -- the tree of errors ------------------------------------------------------------------------------------------------------


def drawn() -> dict[str, tuple[str, str]]:
    """Return the tree in the docstring of `errors`: name -> (parent, builtin that it also is)."""
    result: dict[str, tuple[str, str]] = {}
    above: list[str] = []
    for line in (inspect.getdoc(errors) or "").splitlines():
        match = re.fullmatch(r"((?:│   |    )*)(?:[├└]── )?(\w+)(?: \(([\w.]+)\))?", line)
        if match:
            depth = len(match[1]) // 4 + (1 if "──" in line else 0)
            above[depth:] = [match[2]]
            result[match[2]] = (above[depth - 1] if depth else "", match[3] or "")
    return result


def test_drawing_of_the_errors_is_true() -> None:
    """Each error stands in the drawing, below its parent, with the builtin that it also is."""
    real = {}
    for name, value in vars(errors).items():
        if inspect.isclass(value) and value.__module__ == errors.__name__:
            parent, *others = value.__bases__
            builtin = [o.__name__ if hasattr(builtins, o.__name__) else f"{o.__module__}.{o.__name__}" for o in others]
            real[name] = (parent.__name__ if parent.__module__ == errors.__name__ else "", *(builtin or [""]))
            assert value.__doc__, name

    assert drawn() == real


# -- packaging -----------------------------------------------------------------------------------------------------------------


def setup() -> configparser.ConfigParser:
    """Return what setup.cfg says."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    return config


def test_packages_are_all_named() -> None:
    """setup.cfg names every folder that holds Python: one that it forgot would be missing from the wheel alone."""
    folders = {".".join(["pycontainers", name]).rstrip(".") for name in MODULES if MODULES[name].name == "__init__.py"}
    folders |= {".".join(["pycontainers", *name.split(".")[:-1]]) for name in MODULES if "." in name}

    assert set(setup()["options"]["packages"].split()) == folders


def test_entry_points_can_be_loaded() -> None:
    """The command and both backends are found by their entry points."""
    ours = [e for e in importlib.metadata.distribution("pycontainers").entry_points if e.value.startswith("pycontainers")]
    found = {(e.group, e.name): e.load() for e in ours}

    assert found.keys() == {("console_scripts", "pycontainers"), ("pycontainers", "memory"), ("pycontainers", "native"),
                            ("pytest11", "pycontainers-kit")}
    for name in ("memory", "native"):
        assert callable(found["pycontainers", name].pycontainers_backend)


def installed() -> tuple[bool, set[str]]:
    """Return whether the sources are installed in place, and the installed files."""
    distribution = importlib.metadata.distribution("pycontainers")
    origin = json.loads(distribution.read_text("direct_url.json") or "{}")
    return bool(origin.get("dir_info", {}).get("editable")), {str(f) for f in distribution.files or ()}


def test_wheel_holds_what_it_must() -> None:
    """Every module, the marker for type checkers, and on Linux both C parts are in the wheel; sources of C are not."""
    editable, files = installed()
    package = importlib.import_module("pycontainers._native").__path__[0]
    if not editable:
        modules = {str(Path("pycontainers", *name.split("."))) for name in MODULES}
        assert modules <= {f.removesuffix(".py").removesuffix("/__init__") for f in files if f.endswith(".py")}
        assert "pycontainers/py.typed" in files
        assert not [f for f in files if f.endswith((".c", ".h", ".o"))]
    helper = Path(package, "pycontainers-launcher")
    if not (Path(package, "_lib.abi3.so").exists() and helper.exists()):
        assert not (REQUIRED and sys.platform == "linux"), "built without the C parts"
        pytest.skip("built without a C compiler")
    assert os.access(helper, os.X_OK)
    content = helper.read_bytes()
    assert content[:4] == b"\x7fELF"
    assert b"/ld-linux" not in content, "the helper program must not need a dynamic linker"
    assert len(content) < 200_000


def run_setup(code: str, compiler: str) -> subprocess.CompletedProcess[str]:
    """Run code after setup.py, in its namespace, with that C compiler."""
    load = f"import runpy, sys; sys.argv = ['setup.py', '--quiet', '--version']; exec({code!r}, runpy.run_path('setup.py'))"
    environment = {**os.environ, "CC": compiler}
    return subprocess.run([sys.executable, "-c", load], cwd=ROOT, env=environment, capture_output=True, text=True)


def test_native_backend_alone_needs_a_compiler(tmp_path: Path) -> None:
    """Without a compiler the wheel is pure, and says so while it is built."""
    done = run_setup("", str(tmp_path / "no-such-compiler"))

    assert done.returncode == 0, done.stderr
    assert "building without the native backend: no C compiler" in done.stderr


@pytest.mark.parametrize("compiler", ["gcc", "aarch64-linux-gnu-gcc"])
def test_helper_compiles_for_both_machines(compiler: str, tmp_path: Path) -> None:
    """The helper program compiles without a warning for x86_64 and aarch64, with no libc to link against."""
    if not shutil.which(compiler):
        assert not REQUIRED, f"{compiler} is in .ci/packages"
        pytest.skip(f"no {compiler} here")
    target = tmp_path / "launcher"
    code = f"subprocess.run([*launcher_command({str(target)!r}), '-Werror'], check=True)"
    done = run_setup(code, compiler)

    assert done.returncode == 0, done.stderr
    machine = int.from_bytes(target.read_bytes()[18:20], "little")
    assert machine == (183 if compiler.startswith("aarch64") else {"x86_64": 62, "aarch64": 183}[os.uname().machine])


def test_ci_runs_the_readmes_command() -> None:
    """The README has one command for the demo and one for the tests; CI takes the latter from there."""
    text = (ROOT / "README.md").read_text()
    commands = {name: re.search(rf"<!-- {name} -->\n```sh\n(.+)\n```\n", text) for name in ("demo", "tests")}

    assert all(commands.values()), commands
    assert "<!-- tests -->" in (ROOT / ".ci" / "run").read_text()
    assert (ROOT / ".ci" / "packages").read_text().split() == sorted((ROOT / ".ci" / "packages").read_text().split())
