"""The kit's command line option: pytest reads it before it sees the kit's own conftest."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that names the backend under test."""
    group = parser.getgroup("pycontainers")
    group.addoption("--pycontainers-backend", metavar="NAME",
                    help="run the conformance kit (--pyargs pycontainers.testing) against this backend")
