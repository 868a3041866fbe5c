"""Debian control data (deb822(5)): stanzas of fields, and the version order of deb-version(7)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import total_ordering

_DIGITS = re.compile(r"(\D*)(\d*)")


def fields(stanza: str) -> dict[str, str]:
    """The fields of one stanza, their names in lower case, continuation lines joined by newlines."""
    result: dict[str, str] = {}
    name = ""
    for line in stanza.splitlines():
        if line.startswith("#"):
            continue
        if line[:1] in " \t":
            if name:
                result[name] += "\n" + line[1:]
        else:
            name, colon, value = line.partition(":")
            name = name.strip().lower() if colon else ""
            if name:
                result[name] = value.strip()
    return result


def stanzas(text: str) -> Iterator[dict[str, str]]:
    """All stanzas of a file."""
    for block in re.split(r"\n[ \t]*\n", text):
        if found := fields(block):
            yield found


@total_ordering
class Version:
    """A Debian version with dpkg's order: epoch, upstream version, revision; `~` sorts before everything."""

    __slots__ = ("_key", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        epoch, colon, rest = text.partition(":")
        if not colon or not epoch.isdigit():
            epoch, rest = "0", text
        upstream, _, revision = rest.rpartition("-") if "-" in rest else (rest, "", "")
        self._key = (int(epoch), _order(upstream), _order(revision))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Version) and self._key == other._key

    def __lt__(self, other: Version) -> bool:
        return self._key < other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def __str__(self) -> str:
        return self.text


def _order(part: str) -> tuple[tuple[tuple[int, ...], int], ...]:
    """Alternate non-digits (letters before the rest, `~` before the end) and numbers, as tuples that compare like dpkg."""
    pairs = []
    for text, digits in _DIGITS.findall(part):
        if text or digits:
            # 0 ends the text: it must sort after `~` and before letters.
            pairs.append(((*(_weight(c) for c in text), 0), int(digits or 0)))
    if pairs[-1:] != [((0,), 0)]:  # a part that is missing equals "0"
        pairs.append(((0,), 0))
    return tuple(pairs)


def _weight(character: str) -> int:
    if character == "~":
        return -1
    return ord(character) if character.isalpha() else ord(character) + 256
