"""`python -m pycontainers` is the command line."""

from __future__ import annotations

import sys

from pycontainers.cli import main

sys.exit(main())
