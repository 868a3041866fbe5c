"""`--chmod`: octal, or symbolic as chmod(1) reads it (`u=rwX,go-w`)."""

from __future__ import annotations

import re

from engine.errors import InvalidInput
from engine.frozen import frozen

_OCTAL = re.compile(r"[0-7]{3,4}$")
_CLAUSE = re.compile(r"([ugoa]*)((?:[-+=](?:[rwxXst]*|[ugo]))+)$")
_ACTION = re.compile(r"([-+=])([ugo]|[rwxXst]*)")
_UMASK = 0o022
_SHIFTS = {"u": 6, "g": 3, "o": 0}
_BITS = {"r": 4, "w": 2, "x": 1}


@frozen
class ModeChange:
    """What `--chmod` does to a file's permission bits. `text` is as written, variables replaced."""

    text: str
    octal: int | None

    def apply(self, mode: int, *, is_directory: bool) -> int:
        """The bits that a file of mode `mode` gets."""
        if self.octal is not None:
            return self.octal
        for clause in self.text.split(","):
            found = _CLAUSE.match(clause)
            assert found is not None
            for operator, permissions in _ACTION.findall(found[2]):
                mode = _changed(mode, found[1], operator, permissions, is_directory)
        return mode


def read_mode(text: str) -> ModeChange:
    """Read a mode. Raise InvalidInput."""
    if _OCTAL.match(text):
        return ModeChange(text, int(text, 8))
    if all(_CLAUSE.match(clause) for clause in text.split(",")):
        return ModeChange(text, None)
    raise InvalidInput(f"cannot read --chmod={text}", hint="write for example --chmod=755 or --chmod=u=rwX,go=rX")


def _changed(mode: int, who: str, operator: str, permissions: str, is_directory: bool) -> int:
    everyone = not who or "a" in who
    classes = "ugo" if everyone else who
    allowed = ~_UMASK if not who else 0o7777
    bits = 0
    for name in classes:
        bits |= _class_bits(mode, permissions, is_directory) << _SHIFTS[name]
    if "s" in permissions:
        bits |= (0o4000 if "u" in classes else 0) | (0o2000 if "g" in classes else 0)
    if "t" in permissions and everyone:
        bits |= 0o1000
    bits &= allowed
    if operator == "+":
        return mode | bits
    if operator == "-":
        return mode & ~bits
    cleared = sum({7 << _SHIFTS[name] for name in classes})
    if not is_directory:
        cleared |= (0o4000 if "u" in classes else 0) | (0o2000 if "g" in classes else 0)
    return mode & ~cleared | bits


def _class_bits(mode: int, permissions: str, is_directory: bool) -> int:
    if permissions in _SHIFTS and permissions:
        return mode >> _SHIFTS[permissions] & 7
    bits = sum({_BITS[letter] for letter in permissions if letter in _BITS})
    if "X" in permissions and (is_directory or mode & 0o111):
        bits |= 1
    return bits
