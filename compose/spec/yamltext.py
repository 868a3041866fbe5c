"""Writes plain data as YAML the way Docker does: two spaces, block style, keys in natural order where they are free."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from functools import cmp_to_key
from typing import Any

from compose.spec.document import Timestamp, format_float, resolve

_WORD = re.compile(r"[A-Za-z_/][A-Za-z0-9_./-]*")
_BASE_60 = re.compile(r"[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?")
_OLD_BOOLEANS = frozenset(
    ["y", "Y", "yes", "Yes", "YES", "on", "On", "ON", "n", "N", "no", "No", "NO", "off", "Off", "OFF"]
)
_INDICATORS = frozenset("#,[]{}&*!|>'\"%@`")
_ESCAPES = {
    "\0": "\\0",
    "\a": "\\a",
    "\b": "\\b",
    "\t": "\\t",
    "\n": "\\n",
    "\v": "\\v",
    "\f": "\\f",
    "\r": "\\r",
    "\x1b": "\\e",
    '"': '\\"',
    "\\": "\\\\",
    "\x85": "\\N",
    "\u2028": "\\L",
    "\u2029": "\\P",
}
_INFINITE = {math.inf: ".inf", -math.inf: "-.inf"}
_BREAKS = frozenset("\n\r\x85\u2028\u2029")


class Sorted(dict[str, Any]):
    """A mapping with free keys, written in natural order; others keep their own."""


def write(data: Any) -> str:
    """The data as a YAML document."""
    return "".join(_node(data, 0, ""))


def _node(value: Any, indent: int, lead: str) -> Iterator[str]:
    """The lines of a node; `lead` is what already stands on its first line: ` ` after a key, `- ` in a list."""
    if isinstance(value, dict) and value:
        yield from _mapping(value, indent, lead)
    elif isinstance(value, (list, tuple)) and value:
        yield from _sequence(value, indent, lead)
    else:
        yield f"{lead}{_inline(value, indent)}\n"


def _mapping(value: dict[str, Any], indent: int, lead: str) -> Iterator[str]:
    keys = sorted(value, key=natural_order) if isinstance(value, Sorted) else list(value)
    if lead == " ":
        yield "\n"
    for number, key in enumerate(keys):
        start = lead if number == 0 and lead != " " else " " * indent
        item = value[key]
        step = indent + 2
        yield f"{start}{_key(key)}:"
        yield from _node(item, step, " ")


def _sequence(value: Any, indent: int, lead: str) -> Iterator[str]:
    if lead == " ":
        yield "\n"
    for number, item in enumerate(value):
        start = lead if number == 0 and lead != " " else " " * indent
        yield from _node(item, indent + 2, f"{start}- ")


def _key(key: str) -> str:
    return _text(key, 0, is_key=True)


def _inline(value: Any, indent: int) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return format_float(value) if math.isfinite(value) else _INFINITE.get(value, ".nan")
    if isinstance(value, Timestamp):
        return str(value)
    if isinstance(value, str):
        return _text(value, indent)
    if isinstance(value, (dict, list, tuple)):
        return "{}" if isinstance(value, dict) else "[]"
    return str(value)


def _text(text: str, indent: int, *, is_key: bool = False) -> str:
    if "\n" in text:
        return _quoted(text) if is_key or not _Traits(text).may_be_block else _block(text, indent)
    if type(resolve(text)) is not str or text in _OLD_BOOLEANS or _BASE_60.fullmatch(text):
        return _quoted(text)
    if _WORD.fullmatch(text):
        return text  # the common case, needing no look at each character
    traits = _Traits(text)
    if traits.may_be_plain:
        return text
    return "'" + text.replace("'", "''") + "'" if traits.may_be_single else _quoted(text)


class _Traits:
    """Which styles a text may be written in, by the rules of libyaml's emitter."""

    def __init__(self, text: str) -> None:
        is_special = any(not _is_printable(c) and c != "\n" for c in text)
        has_break = any(c in _BREAKS for c in text)
        edges = text[:1] + text[-1:]
        space_break = any(text[i] == " " and text[i + 1] in _BREAKS for i in range(len(text) - 1))
        break_space = any(text[i] in _BREAKS and text[i + 1] == " " for i in range(len(text) - 1))
        is_padded = any(c == " " or c in _BREAKS for c in edges)
        self.may_be_single = not (space_break or break_space or is_special or "\t" in text)
        self.may_be_plain = self.may_be_single and not (has_break or is_padded or _has_indicator(text)) and bool(text)
        self.may_be_block = not (text.endswith(" ") or space_break or is_special)


def _has_indicator(text: str) -> bool:
    """Whether the text holds what YAML reads as structure where it stands."""
    if text.startswith(("---", "...")) or text[:1] in _INDICATORS:
        return True
    if text[:1] in ("?", ":", "-") and (len(text) == 1 or text[1] in " \t"):
        return True
    return ": " in text or " #" in text or text.endswith(":")


def _is_printable(character: str) -> bool:
    code = ord(character)
    return (
        character in "\n\t"
        or 0x20 <= code <= 0x7E
        or (0xA0 <= code <= 0xD7FF and code not in (0x2028, 0x2029))
        or (0xE000 <= code <= 0xFFFD and code != 0xFEFF)
        or 0x10000 <= code <= 0x10FFFF
    )


def _quoted(text: str) -> str:
    return '"' + "".join(map(_escaped, text)) + '"'


def _escaped(character: str) -> str:
    if character in _ESCAPES:
        return _ESCAPES[character]
    if _is_printable(character):
        return character
    code = ord(character)
    return f"\\x{code:02X}" if code <= 0xFF else f"\\u{code:04X}" if code <= 0xFFFF else f"\\U{code:08X}"


def _block(text: str, indent: int) -> str:
    hint = "2" if text[0] in " \n" else ""
    chomp = "" if text.endswith("\n") else "-"
    if text == "\n" or text.endswith("\n\n"):
        chomp = "+"
    lines = text.removesuffix("\n").split("\n")
    pad = " " * indent
    return f"|{hint}{chomp}\n" + "\n".join(pad + line if line else "" for line in lines)


def _compare(a: str, b: str) -> int:
    """Natural order as go-yaml has it: digits by value, and letters after what is no letter."""
    in_digits = False
    for i, (x, y) in enumerate(zip(a, b, strict=False)):
        if x == y:
            in_digits = x.isdigit()
            continue
        if x.isalpha() and y.isalpha():
            return -1 if x < y else 1
        if x.isalpha() or y.isalpha():
            return -1 if (x.isalpha() if in_digits else y.isalpha()) else 1
        return _compare_numbers(a, b, i)
    return len(a) - len(b)


def _compare_numbers(a: str, b: str, start: int) -> int:
    prefix = ""
    if "0" in (a[start], b[start]):
        before = re.search(r"[0-9]*$", a[:start])
        prefix = "1" if before and before[0].strip("0") else ""
    numbers = []
    for text in (a, b):
        digits = re.compile(r"[0-9]*").match(text, start)
        numbers.append(digits[0] if digits else "")
    first, second = (int(prefix + digits or "0") for digits in numbers)
    if first != second:
        return -1 if first < second else 1
    if len(numbers[0]) != len(numbers[1]):
        return len(numbers[0]) - len(numbers[1])
    return -1 if a[start] < b[start] else 1


natural_order = cmp_to_key(_compare)
"""A sort key for the free keys of a mapping."""
