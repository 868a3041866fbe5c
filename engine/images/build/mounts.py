"""`RUN --mount=…`: what the words of the flag mean, before any variable is replaced."""

from __future__ import annotations

from collections.abc import Mapping

from engine.errors import InvalidInput
from engine.frozen import frozen

_ALIASES = {
    "src": "source",
    "dst": "target",
    "destination": "target",
    "ro": "readonly",
    "rw": "readwrite",
}
_KEYS: Mapping[str, frozenset[str]] = {
    "bind": frozenset({"target", "source", "from", "readonly", "readwrite"}),
    "cache": frozenset(
        {"id", "target", "source", "from", "readonly", "readwrite", "sharing", "mode", "uid", "gid"},
    ),
    "tmpfs": frozenset({"target", "size"}),
    "secret": frozenset({"id", "target", "source", "required", "mode", "uid", "gid", "env"}),
    "ssh": frozenset({"id", "target", "required", "mode", "uid", "gid"}),
}
_TRUTHS = frozenset({"readonly", "readwrite", "required"})
SHARING = ("shared", "private", "locked")


@frozen
class MountOption:
    """One `--mount`: its type, and its words by their full names. A word that stood alone has the value "true"."""

    type: str
    words: Mapping[str, str]


def read_mount(text: str) -> MountOption:
    """Read the value of a `--mount`. Raise InvalidInput, with the nearest word where one is unknown."""
    words: dict[str, str] = {}
    for field in _fields(text):
        key, equals, value = field.partition("=")
        key = _ALIASES.get(key.strip().lower(), key.strip().lower())
        if not equals and key not in _TRUTHS:
            raise InvalidInput(
                f"--mount: {field!r} is not of the form name=value",
                hint="for example --mount=type=cache,target=/root/.cache",
            )
        if key in words:
            raise InvalidInput(f"--mount: {key} given twice", hint="keep one of them")
        words[key] = value if equals else "true"
    kind = words.pop("type", "bind").lower()
    if kind not in _KEYS:
        raise InvalidInput(f"--mount cannot be of type {kind!r}", hint=f"use one of: {', '.join(_KEYS)}")
    for key in words:
        if key not in _KEYS[kind]:
            raise InvalidInput(f"--mount=type={kind} does not know {key!r}", hint=_nearest(key, kind))
    if "readonly" in words and "readwrite" in words:
        raise InvalidInput("--mount cannot be readonly and readwrite at once", hint="keep one of them")
    return MountOption(kind, words)


def truth(option: MountOption, key: str) -> bool:
    """A word that is true or false; False where it is not given."""
    value = option.words.get(key, "false").lower()
    if value not in ("true", "false", "1", "0"):
        raise InvalidInput(f"--mount: {key}={value} is neither true nor false", hint="write true or false")
    return value in ("true", "1")


def number(text: str | None, key: str, default: int, base: int = 10) -> int:
    """A word that is a number, such as uid or (in octal) mode."""
    if text is None:
        return default
    try:
        value = int(text, base)
    except ValueError:
        value = -1
    if not 0 <= value < 1 << 32:
        raise InvalidInput(f"--mount: cannot read {key}={text} as a number")
    return value


def size_bytes(text: str | None, what: str = "--mount: size") -> int | None:
    """A size: a number with k, m, g or t behind it, in powers of 1024. `what` stands in the error."""
    if text is None:
        return None
    digits = text.lower().removesuffix("ib").removesuffix("b")
    factor = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}.get(digits[-1:], 1)
    digits = digits[:-1] if factor > 1 else digits
    if not digits.isascii() or not digits.isdigit() or len(digits) > 15:
        raise InvalidInput(f"cannot read {what}={text}", hint="write for example 64m")
    return int(digits) * factor


def _fields(text: str) -> list[str]:
    import csv

    try:
        rows = list(csv.reader([text], strict=True))
    except csv.Error as error:
        raise InvalidInput(f"cannot read --mount={text}: {error}") from error
    return rows[0] if rows else []


def _nearest(key: str, kind: str) -> str:
    from difflib import get_close_matches

    close = get_close_matches(key, _KEYS[kind], n=1)
    return f"did you mean {close[0]}?" if close else f"it knows {', '.join(sorted(_KEYS[kind]))}"
