"""What a Compose file can be wrong about: each error points at a place in the file and says what to write instead."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

from engine.errors import InvalidInput

CODES = {
    "E001": (
        "no configuration file",
        "No Compose file was found where one was looked for, or the one named does not exist.",
    ),
    "E002": (
        "unreadable file",
        "The file exists but cannot be read as UTF-8 text: permissions, a directory, its size or its encoding.",
    ),
    "E003": ("invalid YAML", "The text is not YAML: indentation, a tab, an unclosed quote or bracket."),
    "E004": ("duplicate key", "The same key stands twice in one mapping; YAML does not say which one counts."),
    "E005": (
        "key is not a string",
        "Keys of a Compose file are strings; quote a key that looks like a number, a date or a boolean.",
    ),
    "E006": (
        "too much expansion",
        "Anchors and aliases expand to more nodes than any real file needs, or nest too deeply.",
    ),
    "E010": (
        "not a mapping",
        "The top level of a Compose file is a mapping with the keys services, networks, volumes, ...",
    ),
    "E011": ("wrong type", "The attribute takes another kind of value: a string, a number, a list or a mapping."),
    "E012": ("unknown key", "The Compose specification has no such key here. Own keys start with 'x-'."),
    "E013": ("value not allowed", "The attribute accepts only certain values, or values in a certain range."),
    "E014": ("missing key", "A key that the attribute cannot do without is absent."),
    "E015": ("duplicate item", "A list whose items must differ holds the same one twice."),
    "E016": (
        "cannot read value",
        "The text does not follow the short syntax of the attribute (a port, a volume, a duration, a size).",
    ),
    "E020": (
        "invalid interpolation",
        "'$' starts a variable: ${NAME}, ${NAME:-default}, ${NAME:?message}. A literal '$' is written '$$'.",
    ),
    "E021": (
        "required variable",
        "The file uses ${NAME:?message} and the variable has no value in the environment or the .env file.",
    ),
    "E030": (
        "environment file",
        "An env_file, .env or label_file cannot be found or read, or a line of it is not KEY=VALUE.",
    ),
    "E040": (
        "undefined reference",
        "A service names a network, volume, secret, config or service that the project does not define.",
    ),
    "E041": ("conflicting attributes", "Two attributes that exclude each other, or that must agree, are both set."),
    "E042": ("cycle", "Files or services refer to each other in a circle."),
    "E050": ("cannot merge", "Two files give the same attribute values of different kinds."),
    "E060": (
        "invalid project name",
        "A project name has lowercase letters, digits, '-' and '_', and starts with a letter or digit.",
    ),
    "E061": ("unknown service", "The service named on the command line is not in the project."),
}
"""Error codes: a title and one sentence, as `umiak explain E012` prints them."""


MANY = 100
"""More errors than a person looks at: of what comes after so many nothing is guessed."""
MOST_TOLD = 1_000
"""Errors that are told of a project."""


class Place(NamedTuple):
    """A spot in a file; `line` and `column` count from 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{display_path(self.file)}:{self.line}:{self.column}"


class Warning(NamedTuple):
    """Something the loader accepted and the user should know."""

    place: Place | None
    message: str

    def __str__(self) -> str:
        return f"{self.place}: {self.message}" if self.place else self.message

    def as_dict(self) -> dict[str, object]:
        """The warning as plain data, for JSON output."""
        place: dict[str, object] = self.place._asdict() if self.place else {}
        return place | {"message": self.message}


def display_path(path: str) -> str:
    """The path as a person in the current directory would type it."""
    if not os.path.isabs(path):
        return path
    try:
        relative = os.path.relpath(path)
    except OSError:
        return path
    return path if relative.startswith("..") else relative


def dotted(path: Sequence[str | int]) -> str:
    """A node's path as text: `services.web.ports[1]`."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else str(step)
    return text


class ComposeError(InvalidInput):
    """One mistake in a Compose file.

    `code` keys into `CODES`; `at` is the place and `path` the dotted path of the node; `line_text` is the source line and
    `width` the length of what is wrong on it; `suggestion` is a replacement that would be right. `hint` says all of what
    was expected, what was meant and what to do; `advice` only the last.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        at: Place | None = None,
        path: str = "",
        line_text: str | None = None,
        width: int = 1,
        expected: str | None = None,
        suggestion: str | None = None,
        hint: str | None = None,
    ) -> None:
        meant = f'did you mean "{suggestion}"?' if suggestion else expected
        super().__init__(message, hint="; ".join(filter(None, (meant, hint))) or None, place=str(at) if at else None)
        self.advice = hint
        self.warnings: tuple[Warning, ...] = ()
        self.code = code
        self.at = at
        self.path = path
        self.line_text = line_text
        self.width = width
        self.expected = expected
        self.suggestion = suggestion

    def as_dict(self) -> dict[str, object]:
        """The error as plain data, for JSON output."""
        place: dict[str, object] = self.at._asdict() if self.at else {}
        details = {"path": self.path, "expected": self.expected, "suggestion": self.suggestion, "hint": self.advice}
        return {"code": self.code, "message": self.message} | place | {k: v for k, v in details.items() if v}


class ComposeErrors(ComposeError):
    """Several mistakes found in one pass, in the order of the file; itself reads as the first of them.

    `omitted` is how many more there are.
    """

    def __init__(self, errors: Sequence[ComposeError], omitted: int = 0) -> None:
        first = errors[0]
        super().__init__(
            first.code,
            first.message,
            at=first.at,
            path=first.path,
            line_text=first.line_text,
            width=first.width,
            expected=first.expected,
            suggestion=first.suggestion,
            hint=first.advice,
        )
        self.errors = tuple(errors)
        self.omitted = omitted

    def __str__(self) -> str:
        return "\n".join(str(error) for error in self.errors)


def errors_of(error: ComposeError) -> tuple[ComposeError, ...]:
    """The single mistakes of an error."""
    return error.errors if isinstance(error, ComposeErrors) else (error,)


def raise_all(errors: list[ComposeError]) -> None:
    """Raise the errors, if any: one as it is, several together."""
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise ComposeErrors(errors[:MOST_TOLD], omitted=max(0, len(errors) - MOST_TOLD))


def in_order(errors: list[ComposeError]) -> list[ComposeError]:
    """Errors in the order of the file."""
    return sorted(errors, key=lambda error: (error.at.file, error.at.line, error.at.column) if error.at else ("", 0, 0))


def snippet(error: ComposeError) -> str:
    """The error as text with the source line and a caret under what is wrong."""
    lines = [f"error[{error.code}]: {error.message}"]
    if error.at:
        lines.append(f"  --> {error.at}")
    if error.at and error.line_text is not None:
        number = str(error.at.line)
        lines.append(f" {number} | {error.line_text}")
        pad = "".join("\t" if c == "\t" else " " for c in error.line_text[: error.at.column - 1])
        note = (
            f' did you mean "{error.suggestion}"?'
            if error.suggestion
            else f" {error.expected}"
            if error.expected
            else ""
        )
        lines.append(f" {' ' * len(number)} | {pad}{'^' * error.width}{note}")
    if error.path:
        lines.append(f"   = at: {error.path}")
    if error.advice:
        lines.append(f"   = help: {error.advice}")
    return "\n".join(lines)
