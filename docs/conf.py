"""How Sphinx builds these pages."""

from __future__ import annotations

from importlib.metadata import version as installed_version
from typing import Any

project = "pycontainers"
author = "the pycontainers maintainers"
project_copyright = author
release = version = installed_version("pycontainers")
extensions = ["sphinx.ext.autodoc"]
html_theme = "alabaster"
html_theme_options = {"description": "The container engine you import", "page_width": "1000px", "sidebar_width": "220px"}
html_title = "pycontainers"
templates_path: list[str] = []
exclude_patterns = ["_build"]
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = False
# `type` is a field of several values; no link is meant.
suppress_warnings = ["ref.python"]
# A docstring says `name` for code, not for a link.
default_role = "code"


def join_lines(app: object, what: str, name: str, value: object, options: object, lines: list[str]) -> None:
    """Join what an attribute says of images with what it says of containers, each indented in its own way."""
    if lines and lines[0].startswith("Of an image: "):
        lines[:] = [" ".join(line.strip() for line in lines)]


def setup(app: Any) -> None:
    """Have Sphinx call the function above."""
    app.connect("autodoc-process-docstring", join_lines)
