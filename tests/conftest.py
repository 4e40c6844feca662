"""What every test stands on."""

from __future__ import annotations

from leftovers import nothing_left as nothing_left
