"""Sizes, identifiers and times as Docker shows them."""

from __future__ import annotations

import time

ID_DIGITS = 12


def human_size(size_bytes: float, digits: int = 3) -> str:
    """So many digits, at least three, and powers of 1000 (go-units, HumanSizeWithPrecision)."""
    value = float(size_bytes)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 1000:
            return f"{value:.{digits}g}{unit}"
        value /= 1000
    return f"{value:.{digits}g}PB"


def short_id(identifier: str) -> str:
    """The first twelve digits."""
    return identifier.removeprefix("sha256:")[:ID_DIGITS]


def local_time(seconds: float) -> str:
    """A moment as Docker's CreatedAt: `2026-01-31 12:00:00 +0000 UTC`."""
    return time.strftime("%Y-%m-%d %H:%M:%S %z %Z", time.localtime(seconds))


def iso_time(seconds: float) -> str:
    """A moment as RFC 3339 in UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
