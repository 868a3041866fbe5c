"""What all models share: they are frozen, they know nothing but their fields, and they keep `x-` keys aside.

The loader hands over canonical text; the types here read numbers, sizes and modes out of it.
"""

from __future__ import annotations

import math
import re
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from compose.model.units import MAX_INT64, parse_bytes, parse_float, single_precision, to_bool

_DECIMAL = re.compile(r"[-+]?[0-9]+")
_OCTAL = re.compile(r"[-+]?[0-7]+")


def _read_bool(value: Any) -> Any:
    return to_bool(value) if isinstance(value, str) else value


def _read_int(value: Any) -> Any:
    if isinstance(value, float):
        return _from_float(value)
    if isinstance(value, (str, bool)):
        raise ValueError(f'"{value}" is not an integer')
    return value


def _read_any_int(value: Any) -> Any:
    return int(value) if isinstance(value, str) and _DECIMAL.fullmatch(value) else _read_int(value)


def _read_whole(value: Any) -> Any:
    if isinstance(value, float):
        raise ValueError(f"{value} is not an integer")
    return _read_int(value)


def _read_float(value: Any) -> Any:
    number = parse_float(value) if isinstance(value, str) else value
    return single_precision(number) if isinstance(number, (int, float)) and not isinstance(number, bool) else number


def _read_bytes(value: Any) -> Any:
    if isinstance(value, str):
        return parse_bytes(value)
    return _from_float(value) if isinstance(value, float) else value


def _from_float(value: float) -> int:
    if not math.isfinite(value):
        raise ValueError(f"{value} is not a number")
    return int(value)


def _read_mode(value: Any) -> Any:
    if not isinstance(value, str):
        return _read_whole(value)
    if not _OCTAL.fullmatch(value):
        raise ValueError(f'"{value}" is not an octal mode such as "0440"')
    return int(value, 8)


Bool = Annotated[bool, BeforeValidator(_read_bool)]
"""True or false, in any spelling that YAML ever had."""
Int = Annotated[int, BeforeValidator(_read_int), Field(ge=-MAX_INT64 - 1, le=MAX_INT64)]
"""A signed number."""
AnyInt = Annotated[int, BeforeValidator(_read_any_int)]
"""A signed number that may be written as text."""
WholeInt = Annotated[int, BeforeValidator(_read_whole)]
"""A signed number that may not be written with a fraction."""
Count = Annotated[int, BeforeValidator(_read_int), Field(ge=0, le=(1 << 64) - 1)]
"""A number that is not negative."""
Float = Annotated[float, BeforeValidator(_read_float)]
"""A number that may have a fraction, in single precision."""
Bytes = Annotated[int, BeforeValidator(_read_bytes)]
"""A size in bytes; `config` prints it as a decimal string."""
FileMode = Annotated[int, BeforeValidator(_read_mode)]
"""Permission bits; text is octal."""


class Model(BaseModel):
    """A frozen part of the project. Attributes bear the names of the Compose specification, in Docker's order.

    A part that is some attribute's default comes from `model_construct()`: making it otherwise would build its validator at
    import, and again as part of the project's.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True, protected_namespaces=())


class Extensible(Model):
    """A part that may carry keys of the user's own."""

    extensions: dict[str, Any] = {}
    """Keys that start with `x-`, as they stand in the file; default none."""

    @model_validator(mode="before")
    @classmethod
    def _collect_extensions(cls, data: Any) -> Any:
        if not isinstance(data, dict) or not any(key.startswith("x-") for key in data):
            return data
        own = {key: value for key, value in data.items() if not key.startswith("x-")}
        own["extensions"] = {key: value for key, value in data.items() if key.startswith("x-")}
        return own
