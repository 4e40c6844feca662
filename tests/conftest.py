"""What every test stands on."""

from __future__ import annotations

from debiankit import debian_root as debian_root

from leftovers import nothing_left as nothing_left
