"""The subordinate ids that /etc/subuid and /etc/subgid give a user (subuid(5))."""

from __future__ import annotations


def subordinate(path: str, name: str, number: int) -> tuple[int, int] | None:
    """Return (first id, count) of the user's range in that file, None if it has none."""
    for who, first, count in ranges(path):
        if who in (name, str(number)) and count >= 1:
            return first, count
    return None


def ranges(path: str) -> list[tuple[str, int, int]]:
    """Return (user's name or number, first id, count) of every line."""
    found = []
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            for line in file:
                who, _, rest = line.strip().partition(":")
                first, _, count = rest.partition(":")
                if first.isdigit() and count.isdigit():
                    found.append((who, int(first), int(count)))
    except OSError:
        pass
    return found
