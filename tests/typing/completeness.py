"""Fails if a public name of pycontainers, or anything of it, has a type that pyright can't tell: run by tox -e types."""

from __future__ import annotations

import json
import subprocess
import sys

import pycontainers


def main() -> int:
    """Print what pyright says of each public symbol without a known type, and return how many there are."""
    command = ["pyright", "--outputjson", "--ignoreexternal", "--verifytypes", "pycontainers"]
    report = json.loads(subprocess.run(command, capture_output=True, text=True).stdout)
    public = ["pycontainers"]
    for name in pycontainers.__all__:
        module = getattr(getattr(pycontainers, name), "__module__", "")
        public.append(f"{module}.{name}" if module.startswith("pycontainers") else f"pycontainers.{name}")
    symbols = report["typeCompleteness"]["symbols"]
    wrong = 0
    for symbol in symbols:
        name = symbol["name"]
        if not symbol["isTypeKnown"] and any(name == p or (name.startswith(f"{p}.") and p != "pycontainers") for p in public):
            wrong += 1
            print(name, *(d["message"] for d in symbol["diagnostics"]), sep="\n    ")
    print(f"{wrong} of {len(symbols)} symbols are public and have no known type")
    return 1 if wrong or not symbols else 0


if __name__ == "__main__":
    sys.exit(main())
