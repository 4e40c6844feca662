"""How Sphinx builds these pages."""

from __future__ import annotations

from importlib.metadata import version as installed_version

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
autodoc_class_signature = "separated"
autodoc_preserve_defaults = True
# A docstring says `name` for code, not for a link.
default_role = "code"
