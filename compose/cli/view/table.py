"""Plain tables in the shape of Docker's: columns at least ten wide, three spaces between them."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence


def columns(rows: Sequence[Sequence[str]], *, minimum: int = 10, gap: int = 3) -> list[str]:
    """Rows as lines, the columns aligned; the last one is not padded."""
    widths = [max(minimum, max(map(width_of, column)) + gap) for column in zip(*rows, strict=True)]
    return ["".join(_pad(cell, w) for cell, w in zip(row[:-1], widths, strict=False)) + row[-1] for row in rows]


def width_of(text: str) -> int:
    """How many cells of the terminal a text takes."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def _pad(text: str, width: int) -> str:
    return text + " " * (width - width_of(text))
