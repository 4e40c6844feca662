"""Docker's notations of a moment: RFC 3339 (in part too), seconds since the epoch, or how long ago (`10m`)."""

from __future__ import annotations

import re
import time
from datetime import datetime

from pycontainers.errors import InvalidSpec
from pycontainers.spec import parse_duration

_DATE = re.compile(r"(\d{4}-\d\d-\d\d)(?:T(\d\d)(?::(\d\d)(?::(\d\d)(\.\d+)?)?)?)?(Z|[+-]\d\d:?\d\d)?")


def parse_moment(text: str, option: str = "since") -> float:
    """Return seconds since the epoch. A date without a zone is in the local one. Raises `InvalidSpec`."""
    text = text.strip()
    if re.fullmatch(r"-?\d+(\.\d+)?", text):
        return time.time() if text == "0" else float(text)
    match = _DATE.fullmatch(text)
    try:
        if match:
            date, hours, minutes, seconds, fraction, zone = match.groups()
            zone = "+0000" if zone == "Z" else (zone or "").replace(":", "")
            whole = datetime.strptime(
                f"{date} {hours or '00'}:{minutes or '00'}:{seconds or '00'} {zone}".strip(),
                "%Y-%m-%d %H:%M:%S %z" if zone else "%Y-%m-%d %H:%M:%S",
            )
            return whole.timestamp() + float(fraction or 0)
        return time.time() - _signed_duration(text)
    except (ValueError, InvalidSpec):
        raise InvalidSpec(
            f'invalid value for "{option}": failed to parse value as time or duration: "{text}"'
        ) from None


def _signed_duration(text: str) -> float:
    return -parse_duration(text[1:]) if text.startswith("-") else parse_duration(text)
