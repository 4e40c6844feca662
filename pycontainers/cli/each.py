"""Commands that do one thing to each of several containers or images."""

from __future__ import annotations

import sys

from pycontainers.cli.flags import Failure
from pycontainers.cli.output import reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Iterable


def each(refs: Iterable[str], act: Callable[[str], str | None]) -> None:
    """Call `act` for every name, print what it returns, and go on after an error; then fail if there was one."""
    from pycontainers.errors import ContainersError

    failed = False
    for ref in refs:
        try:
            said = act(ref)
        except ContainersError as error:
            failed = True
            sys.stdout.flush()
            print(f"Error: {reason(error)}", file=sys.stderr)
            continue
        if said is not None:
            print(said)
    if failed:
        raise Failure
