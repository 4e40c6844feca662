"""The conformance kit, against both backends that come along, as the author of a third would run it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pycontainers import list_backends

REQUIRED = bool(os.environ.get("PYCONTAINERS_REQUIRE"))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("backend", ["memory", "native"])
def test_kit(backend: str, tmp_path: Path) -> None:
    """Every promise is kept, or reported as unsupported: none fails and none is skipped."""
    reason = next(status.reason for status in list_backends() if status.name == backend)
    if reason and not REQUIRED:
        pytest.skip(f"the {backend} backend can't be used here: {reason}")

    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-ra", "-p", "no:cacheprovider", "--timeout=120", "--tb=short",
         "--pyargs", "pycontainers.testing", f"--pycontainers-backend={backend}", f"--basetemp={tmp_path / 'kit'}"],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    counts = {word: int(number) for number, word in re.findall(r"(\d+) (\w+)", done.stdout.splitlines()[-1])}
    assert counts["passed"] > 150
    assert "skipped" not in counts
    assert counts.get("unsupported", 0) < 20
