"""The code in the README and the documentation runs as it stands."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import pycontainers
from pycontainers import errors
from pycontainers import list_backends

ROOT = Path(__file__).resolve().parent.parent
PAGES = ["README.md", *(f"docs/{page.name}" for page in sorted((ROOT / "docs").glob("*.rst")))]


def python_blocks(page: str) -> list[tuple[int, str]]:
    """Return the Python examples of a page, each with its line."""
    text = (ROOT / page).read_text()
    if page.endswith(".md"):
        found = re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    else:
        found = re.finditer(r"^\.\. code-block:: python\n\n((?: {3}.*\n|\n)+)", text, re.MULTILINE)
    return [(text.count("\n", 0, match.start(1)) + 1, textwrap.dedent(match[1])) for match in found]


def commands(page: str) -> list[str]:
    """Return the command lines of a page's `console` blocks."""
    return re.findall(r"^   \$ (.+)$", (ROOT / page).read_text(), re.MULTILINE)


def environment(store: Path) -> dict[str, str]:
    """Return an environment with a store of its own and our command on the path."""
    path = os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", os.defpath)])
    return {**os.environ, "PATH": path, "PYCONTAINERS_ROOT": str(store)}


def need_native() -> None:
    """Skip where containers can't run, unless they must."""
    reason = next((b.reason for b in list_backends() if b.name == "native"), "not installed")
    if reason:
        assert not os.environ.get("PYCONTAINERS_REQUIRE"), reason
        pytest.skip(reason)


@pytest.mark.parametrize("page", [page for page in PAGES if python_blocks(page)])
def test_examples_run(page: str, tmp_path: Path) -> None:
    """All Python examples of a page, in their order, are one program that runs to its end."""
    need_native()
    work = tmp_path / "work"
    work.mkdir()
    lines: list[str] = []
    for line, block in python_blocks(page):
        lines += [""] * (line - 1 - len(lines)) + block.splitlines()
    program = work / (Path(page).stem + ".py")
    program.write_text("\n".join(lines) + "\n")
    done = subprocess.run(
        [sys.executable, program], cwd=work, env=environment(tmp_path / "store"), capture_output=True, text=True, timeout=100
    )

    assert done.returncode == 0, f"{page} (the line numbers are the page's)\n{done.stdout}{done.stderr}"


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)])
def test_command_lines_run(page: str, tmp_path: Path) -> None:
    """All command lines of a page succeed, one after the other."""
    need_native()
    work = tmp_path / "work"
    work.mkdir()
    script = "set -eux -o pipefail\n" + "\n".join(commands(page))
    done = subprocess.run(
        ["bash", "-c", script], cwd=work, env=environment(tmp_path / "store"), capture_output=True, text=True, timeout=100,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip

    assert done.returncode == 0, f"{page}\n{done.stdout}{done.stderr}"


def test_every_page_is_listed() -> None:
    """The index leads to every page."""
    listed = set(re.findall(r"^   (\w+)$", (ROOT / "docs" / "index.rst").read_text(), re.MULTILINE))

    assert {page.stem for page in (ROOT / "docs").glob("*.rst")} == listed | {"index"}


def test_reference_names_everything() -> None:
    """The reference has an entry for every public name; the errors are listed as one module."""
    text = (ROOT / "docs" / "reference.rst").read_text()
    named = set(re.findall(r"^\.\. auto(?:class|function|data):: (\w+)", text, re.MULTILINE))

    assert named == set(pycontainers.__all__) - set(vars(errors)) - {"__version__"}
