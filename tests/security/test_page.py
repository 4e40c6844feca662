"""The security page lists what holds."""

from __future__ import annotations

import re

from securitykit import HERE
from securitykit import require_root

from pycontainers.backends.native import cgroups
from pycontainers.backends.native import planning
from pycontainers.backends.native.launcher import DEFAULT_CAPABILITIES

require_root()


def test_the_pages_lists_are_the_codes() -> None:
    text = (HERE.parent.parent / "docs/security.rst").read_text()
    lists = [block.split() for block in re.findall(r"::\n\n((?:   .*\n)+)", text)]
    assert lists[0] == list(DEFAULT_CAPABILITIES)
    assert lists[1] == list(planning.MASKED)
    assert lists[2] == list(planning.READ_ONLY)
    numbers = {(kind, number) for kind, number in zip(lists[3][::3], lists[3][1::3], strict=True)}
    assert numbers == {tuple(rule.split()[:2]) for rule in cgroups.DEVICE_RULES if not rule.endswith(" m")}
