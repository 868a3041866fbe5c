"""The installed command: hand the command line to a warm worker where one is wanted and there, else run it in this process."""

from __future__ import annotations

import os
import signal
import sys
from typing import NoReturn

COLLECT_AFTER = 50_000
"""How many more objects than were freed start a garbage collection. Importing makes many and frees few: Python's 700 costs 40 ms."""


def entry() -> NoReturn:
    """Run the command line of this process and end with its exit code, without taking the interpreter apart first."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # Ctrl-C while modules are imported must not print where that was; `main` has its own handler.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    code = None
    if os.environ.get("UMIAK_WORKER") == "1":
        from compose.cli.client import hand_over

        code = hand_over(sys.argv[1:])
    end(run(sys.argv[1:]) if code is None else code)


def run(arguments: list[str]) -> int:
    """Run a command line in this process."""
    import gc

    gc.set_threshold(COLLECT_AFTER, 20, 20)
    from compose.cli.main import main

    return main(arguments)


def end(code: int) -> NoReturn:
    """End this process at once. Nothing may be waiting in a buffer but in those of Python's own streams."""
    import contextlib

    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code & 0xFF)
