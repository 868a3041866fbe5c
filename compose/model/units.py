"""Booleans, sizes and durations as Compose files write them, and as Go prints them."""

from __future__ import annotations

import re
from typing import Any

NANOSECONDS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "μs": 1_000,
    "ms": 1_000_000,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
}
NANOSECONDS |= {"d": 24 * NANOSECONDS["h"], "w": 7 * 24 * NANOSECONDS["h"]}
_PART = re.compile(r"(\d+\.?\d*|\.\d+)([a-zµμ]+)")
_SIZE = re.compile(r"((?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d{1,3})?) ?(?:([kmgtpKMGTP])(?:[iI]?[bB])?|[bB])?")
_FACTOR = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}
MAX_INT64 = (1 << 63) - 1


class Duration(int):
    """A length of time in nanoseconds; prints as Go does (`1m30s`)."""

    @property
    def seconds(self) -> float:
        """The duration in seconds."""
        return self / 1e9

    def __str__(self) -> str:
        return format_duration(self)

    __repr__ = __str__

    @classmethod
    def parse(cls, text: str) -> Duration:
        """Read `1h30m`, `1.5s`, `2d`; raise ValueError for anything else, a bare number included."""
        rest = text[1:] if text[:1] in ("+", "-") else text
        if rest == "0":
            return cls(0)
        from fractions import Fraction  # 4 ms, and most commands read no size

        total, position = Fraction(0), 0
        for part in _PART.finditer(rest):
            if part.start() != position or part[2] not in NANOSECONDS:
                break
            total += Fraction(part[1].rstrip(".")) * NANOSECONDS[part[2]]
            position = part.end()
        if not rest or position != len(rest) or total > MAX_INT64:
            raise ValueError(f"cannot read {text!r} as a duration")
        return cls(-int(total) if text[0] == "-" else int(total))

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, _handler: Any) -> Any:
        from pydantic_core import core_schema

        def read(value: Any) -> Duration:
            return cls.parse(value) if isinstance(value, str) else cls(value)

        return core_schema.no_info_plain_validator_function(
            read,
            serialization=core_schema.to_string_ser_schema(),
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, _schema: Any, _handler: Any) -> dict[str, str]:
        return {"type": "string", "format": "duration"}


def _decimals(value: int, unit: int, suffix: str) -> str:
    whole, rest = divmod(value, unit)
    fraction = f"{rest:0{len(str(unit)) - 1}d}".rstrip("0") if rest else ""
    return f"{whole}.{fraction}{suffix}" if fraction else f"{whole}{suffix}"


def format_duration(nanoseconds: int) -> str:
    """Write a duration in Go's form: `1h5m30.02s`, `150ms`, `1µs`, `0s`."""
    sign, value = ("-", -nanoseconds) if nanoseconds < 0 else ("", int(nanoseconds))
    if value == 0:
        return "0s"
    for suffix, unit in (("ns", 1), ("µs", 1_000), ("ms", 1_000_000)):
        if value < unit * 1_000:
            return sign + (f"{value}ns" if unit == 1 else _decimals(value, unit, suffix))
    minutes, rest = divmod(value, NANOSECONDS["m"])
    hours, minutes = divmod(minutes, 60)
    text = _decimals(rest, 10**9, "s")
    return sign + (f"{hours}h{minutes}m{text}" if hours else f"{minutes}m{text}" if minutes else text)


def parse_bytes(text: str) -> int:
    """Read a size such as `512m`, `1.5 GiB` or `1024`, in powers of 1024; raise ValueError for anything else."""
    match = _SIZE.fullmatch(text)
    if not match:
        raise ValueError(f"cannot read {text!r} as a size in bytes")
    from fractions import Fraction

    value = int(Fraction(match[1].rstrip(".")) * _FACTOR[(match[2] or "").lower()])
    return value if value <= MAX_INT64 else -MAX_INT64 - 1  # as Docker has it: the engine refuses a negative size


def to_bool(text: str) -> bool:
    """A boolean in any spelling that YAML ever had."""
    word = text.lower()
    if word in ("true", "yes", "y", "on"):
        return True
    if word in ("false", "no", "n", "off"):
        return False
    raise ValueError(f'"{text}" is not true or false')
