"""Which view shows progress: what was asked for, else what fits stderr."""

from __future__ import annotations

import os
import sys
from typing import TextIO

from compose.cli.options import is_true
from compose.cli.view.base import Quiet, View
from engine.errors import InvalidInput


def choose_view(mode: str, title: str) -> View:
    """The view for a mode: auto, tty, plain, json or quiet. `title` heads the live region (`up shop`).

    COMPOSE_STATUS_STDOUT has it on stdout instead of stderr.
    """
    stream = sys.stdout if is_true("COMPOSE_STATUS_STDOUT") else sys.stderr
    if mode == "auto":
        mode = "tty" if _is_live_terminal(stream) else "plain"
    if mode == "tty":
        from compose.cli.view.tty import Live

        return Live(stream, title)
    if mode in ("plain", "rawjson"):
        from compose.cli.view.plain import Plain

        return Plain(stream)
    if mode == "json":
        from compose.cli.view.jsonlines import JsonLines

        return JsonLines(stream)
    if mode == "quiet":
        return Quiet()
    raise InvalidInput(f'unknown progress type "{mode}"', hint="use one of: auto, tty, plain, json, quiet")


def _is_live_terminal(stream: TextIO) -> bool:
    if os.environ.get("CI") or os.environ.get("TERM", "dumb") == "dumb":
        return False
    return stream.isatty()
