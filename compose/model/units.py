"""Booleans, sizes and durations as Compose files write them, and as Go prints them."""

from __future__ import annotations

import math
import re
import struct
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
MAX_LETTERS = 200
"""More than any duration or size is written with: reading the digits of a number costs their square."""
NANOSECONDS |= {"d": 24 * NANOSECONDS["h"], "w": 7 * 24 * NANOSECONDS["h"]}
_PART = re.compile(r"(\d+\.?\d*|\.\d+)([a-zµμ]+)")
_SIZE = re.compile(r"(.*[0-9.]) ?(?:([kmgtp])(?:i?b)?|b)?", re.IGNORECASE)
_FACTOR = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}
_HEXADECIMAL = re.compile(r"[-+]?0[xX][0-9a-fA-F_.]+[pP]")
_MAX_FLOAT32 = 3.4028234e38
MAX_INT64 = (1 << 63) - 1


class UnitError(ValueError):
    """A size or a duration that cannot be read; `hint` says how one is written."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


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
        for part in _PART.finditer(rest[:MAX_LETTERS]):
            if part.start() != position or part[2] not in NANOSECONDS:
                break
            total += Fraction(part[1].rstrip(".")) * NANOSECONDS[part[2]]
            position = part.end()
        if not rest or position != len(rest) or total > MAX_INT64:
            raise UnitError(f"cannot read {text!r} as a duration", "write a number with a unit: 30s, 1m30s, 2h")
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
    try:
        number = parse_float(match[1]) if match else -1
    except ValueError:
        number = -1
    if not match or number < 0:
        raise UnitError(f"cannot read {text!r} as a size in bytes", "write a number with a unit: 512m, 1.5g")
    value = int(number * _FACTOR[(match[2] or "").lower()])  # a float's precision, as Docker has it
    return value if value <= MAX_INT64 else -MAX_INT64 - 1  # as Docker has it: the engine refuses a negative size


def parse_float(text: str) -> float:
    """Read a number as Go does: no blanks, `1_000`, `1e-3` and `0x1p4` included; raise ValueError for anything not finite."""
    try:
        number = float.fromhex(text) if _HEXADECIMAL.match(text) else float(text if text == text.strip() else "")
    except (ValueError, OverflowError):
        number = math.inf
    if not math.isfinite(number):
        raise ValueError(f'"{text}" is not a number')
    return number


def single_precision(number: float) -> float:
    """The number that 32 bits hold, in the fewest digits that tell it from its neighbours: Docker's shares and ratios."""
    if not math.isfinite(number) or abs(number) > _MAX_FLOAT32:
        raise ValueError(f"{number} is not a number that can be used")
    stored = struct.pack("f", number)
    short = (float(f"{number:.{digits}g}") for digits in range(1, 10))
    return next(candidate for candidate in short if struct.pack("f", candidate) == stored)


def to_bool(text: str) -> bool:
    """A boolean in any spelling that YAML ever had."""
    word = text.lower()
    if word in ("true", "yes", "y", "on"):
        return True
    if word in ("false", "no", "n", "off"):
        return False
    raise ValueError(f'"{text}" is not true or false')
