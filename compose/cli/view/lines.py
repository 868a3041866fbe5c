"""Lines of containers' output on stdout: `web-1  | ` before each, the bytes themselves untouched on a pipe.

On a terminal what could move the cursor is taken out (colours stay), so that no container can draw over another's lines.
"""

from __future__ import annotations

import re
import sys
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

from compose.cli.errors import uses_colour
from compose.output import Line

# Legible on dark and on light ground; replicas of one service share one.
_HUES = (36, 33, 32, 35, 34, 96, 93, 92, 95, 94, 91, 31)
_CONTROL = re.compile(
    rb"\x1b\[[0-?]*[ -/]*[@-ln-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[^\[\]]|[\x00-\x08\x0b-\x1a\x1c-\x1f]"
)


@dataclass(frozen=True, slots=True)
class Style:
    """What comes before a line, and whether in colour where that is possible."""

    prefix: bool = True
    timestamps: bool = False
    colour: bool = True


class LinePrinter:
    """Prints lines with a prefix as wide as the longest name. `names` maps containers to what is shown of them."""

    def __init__(self, names: Mapping[str, str], style: Style) -> None:
        self._names = names
        self._width = max((len(name) for name in names.values()), default=0) + 1
        self._style = style
        self._colour = style.colour and uses_colour(sys.stdout)
        self._is_terminal = sys.stdout.isatty()

    def print(self, line: Line) -> None:
        """Print one line."""
        data = _CONTROL.sub(b"", line.data) if self._is_terminal else line.data
        if self._style.timestamps:
            data = f"{_timestamp(line.time)} ".encode() + data
        sys.stdout.flush()
        sys.stdout.buffer.write(self._prefix_of(line.container) + data + b"\n")
        sys.stdout.buffer.flush()

    def _prefix_of(self, container: str) -> bytes:
        if not self._style.prefix:
            return b""
        name = self._names.get(container, container)
        text = f"{name:<{self._width}} | "
        if self._colour:
            service = name.rstrip("0123456789")
            text = f"\x1b[{_HUES[zlib.crc32(service.encode()) % len(_HUES)]}m{text}\x1b[0m"
        return text.encode()


def _timestamp(seconds: float) -> str:
    """RFC 3339 with nine digits, as Docker prints it."""
    whole = int(seconds)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)) + f".{int((seconds - whole) * 1e9):09d}Z"
