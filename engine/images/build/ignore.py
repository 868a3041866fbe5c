""".dockerignore: which paths of a context a build does not see.

The rules are those of moby's patternmatcher: lines are patterns from the context's root, `!` takes a path back, the last line
that matches a path or one of its parents decides.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from engine.errors import InvalidInput
from engine.frozen import frozen


@frozen
class Pattern:
    """One line. `text` is as written, for messages."""

    text: str
    place: str
    negated: bool
    regex: re.Pattern[str]


@dataclass(slots=True)
class IgnoreRules:
    """All lines of one .dockerignore, in order."""

    patterns: Sequence[Pattern] = ()
    _matched: dict[str, tuple[bool, ...]] = field(default_factory=dict)
    """For each directory met, which patterns match it or one above it."""

    @property
    def has_exceptions(self) -> bool:
        """Whether some path under an ignored directory may be wanted all the same."""
        return any(pattern.negated for pattern in self.patterns)

    def deciding(self, path: str) -> Pattern | None:
        """The line that decides about a path (relative to the context, `/` between names), or None."""
        if not self.patterns or path in ("", "."):
            return None
        matched = self._matches(path, self._above(path))
        return next((self.patterns[i] for i in range(len(matched) - 1, -1, -1) if matched[i]), None)

    def _above(self, path: str) -> tuple[bool, ...]:
        """Which patterns match one of the directories that a path is in."""
        matched: tuple[bool, ...] = (False,) * len(self.patterns)
        above = path.rpartition("/")[0]
        if above in self._matched:
            return self._matched[above]
        for end in (index for index, char in enumerate(path) if char == "/"):
            matched = self._matched[path[:end]] = self._matches(path[:end], matched)
        return matched

    def _matches(self, path: str, above: tuple[bool, ...]) -> tuple[bool, ...]:
        return tuple(
            already or pattern.regex.fullmatch(path) is not None
            for already, pattern in zip(above, self.patterns, strict=True)
        )

    def ignores(self, path: str) -> bool:
        """Whether a build does not see this path."""
        decision = self.deciding(path)
        return decision is not None and not decision.negated


def read_rules(text: str, file: str) -> IgnoreRules:
    """Read a .dockerignore. Raise InvalidInput with the place of a pattern that cannot be read."""
    lines = enumerate(text.removeprefix("\ufeff").split("\n"), 1)
    return compile_rules((f"{file}:{number}:1", line) for number, line in lines if not line.startswith("#"))


def compile_rules(lines: Iterable[tuple[str, str]]) -> IgnoreRules:
    """Rules from patterns with their places. Raise InvalidInput."""
    patterns: list[Pattern] = []
    for place, line in lines:
        written = line.strip()
        if not written:
            continue
        negated = written.startswith("!")
        body = written[1:].strip() if negated else written
        if not body:
            raise InvalidInput('a pattern cannot be only "!"', place=place)
        cleaned = posixpath.normpath(body).lstrip("/")
        if cleaned not in ("", "."):
            patterns.append(Pattern(written, place, negated, _compile(cleaned, place)))
    return IgnoreRules(patterns)


def _compile(pattern: str, place: str) -> re.Pattern[str]:
    try:
        return re.compile(glob_regex(pattern, double_star=True), re.DOTALL)
    except (re.error, ValueError) as error:
        raise InvalidInput(f"cannot read the pattern {pattern!r}: {error}", place=place) from error


def glob_regex(pattern: str, *, double_star: bool) -> str:
    """The regular expression of a pattern: `*` and `?` stay within a name, `**` (where allowed) spans directories."""
    out: list[str] = []
    position = 0
    while position < len(pattern):
        char = pattern[position]
        if double_star and pattern.startswith("**", position):
            position += 2
            while position < len(pattern) and pattern[position] == "*":
                position += 1
            if position < len(pattern) and pattern[position] == "/":
                position += 1
            out.append(".*" if position >= len(pattern) else "(?:.*/)?")
            continue
        if char == "[":
            end = _class_end(pattern, position)
            out.append(_class_regex(pattern[position + 1 : end]))
            position = end + 1
            continue
        if char == "\\":
            position += 1
            char = pattern[position : position + 1]
            if not char:
                raise ValueError("it ends with a backslash")
            out.append(re.escape(char))
        else:
            out.append({"*": "[^/]*", "?": "[^/]"}.get(char) or re.escape(char))
        position += 1
    return "".join(out)


def _class_end(pattern: str, start: int) -> int:
    """The index of the `]` that closes the class opened at `start`."""
    position = start + 1
    if pattern[position : position + 1] == "^":
        position += 1
    first = position
    while position < len(pattern):
        if pattern[position] == "]" and position > first:
            return position
        position += 2 if pattern[position] == "\\" else 1
    raise ValueError("a [ is not closed")


def _class_regex(body: str) -> str:
    negated = body.startswith("^")
    body = body[1:] if negated else body
    escaped = re.sub(r"(?<!\\)([\[&~|^])", r"\\\1", body)
    return f"[^/{escaped}]" if negated else f"(?!/)[{escaped}]"
