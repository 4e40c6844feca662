"""The command line: Docker's verbs, flags, columns and exit codes. Thin: what it can do, the API can.

    main        the table of commands, global flags, errors and exit codes
    flags       Docker's rules for flags, arguments and help texts
    output      tables, `--format`, sizes and times as Docker prints them
    options     the flags of run and create, as a `ContainerSpec`
    terminal    raw mode, window size, detach keys, signals, and the copying of streams
    (others)    commands, imported when they are called
"""

from __future__ import annotations

from pycontainers.cli.main import main as main
