"""Environment files: the Compose grammar of `.env` and `env_file`, and Docker's raw one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from compose.errors import ComposeError, Place, Warning, display_path
from compose.spec.interpolate import Expansion, InvalidTemplate, RequiredVariable, TooLong, substitute
from compose.spec.limits import MAX_BYTES
from compose.spec.source import read_bytes

_BLANK = " \t\v\f\r\x85\xa0"
_EXPORT = re.compile(r"export[ \t\v\f\r]+")
_ESCAPE = re.compile(r"\\(?:[abfnrtv$\"\\]|0\d{0,3})")
_ESCAPED = {
    "a": "\a",
    "b": "\b",
    "f": "\f",
    "n": "\n",
    "r": "\r",
    "t": "\t",
    "v": "\v",
    '"': '"',
    "\\": "\\",
    "$": "$$",
}
_SEPARATOR = re.compile("[=:]")
_COMMENT = re.compile(r"\s#")


def read(
    path: str,
    environment: Mapping[str, str],
    *,
    raw: bool = False,
    at: Place | None = None,
    warnings: list[Warning] | None = None,
) -> dict[str, str]:
    """The variables of an environment file; those already in `environment` serve to expand others.

    `at` is where the file is asked for, and `raw` chooses Docker's grammar.
    """
    text = _text(path, at)
    if raw:
        return parse_raw(text, path, environment)
    return parse(text, path, environment, warnings)


def _text(path: str, at: Place | None) -> str:
    name = display_path(path)
    try:
        data = read_bytes(path)
    except FileNotFoundError:
        hint = "create it, or set required: false on it"
        raise ComposeError("E030", f"env file {name} not found", at=at, hint=hint) from None
    except OSError as error:
        raise ComposeError("E030", f"cannot read env file {name}: {(error.strerror or '').lower()}", at=at) from error
    if len(data) > MAX_BYTES:
        raise ComposeError("E030", f"env file {name} is larger than {MAX_BYTES >> 20} MiB", at=at)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ComposeError("E030", f"env file {name} is not UTF-8 text", at=Place(path, line, 1)) from None


def parse_raw(text: str, path: str, environment: Mapping[str, str]) -> dict[str, str]:
    """Docker's grammar: everything after `=` is the value, as it stands."""
    values: dict[str, str] = {}
    for number, line in enumerate(text.split("\n"), 1):
        line = line.removesuffix("\r").lstrip(" \t\v\f\r")
        if not line or line.startswith("#"):
            continue
        name, separator, value = line.partition("=")
        if not name:
            raise _broken(path, number, f'no variable name on line "{line}"', line)
        if any(character.isspace() for character in name):
            raise _broken(path, number, f'variable "{name}" contains whitespace', line)
        if separator:
            values[name] = value
        elif name in environment:
            values[name] = environment[name]
    return values


def _broken(path: str, line: int, message: str, text: str, hint: str | None = None) -> ComposeError:
    return ComposeError("E030", message, at=Place(path, line, 1), line_text=text, width=len(text) or 1, hint=hint)


def parse(
    text: str, path: str, environment: Mapping[str, str], warnings: list[Warning] | None = None
) -> dict[str, str]:
    """The Compose grammar: quotes, escapes, comments, `export`, and variables."""
    return _Parser(text, path, environment, [] if warnings is None else warnings).values()


class _Parser:
    def __init__(self, text: str, path: str, environment: Mapping[str, str], warnings: list[Warning]) -> None:
        self._text = text.replace("\r\n", "\n")
        self._path = path
        self._environment = environment
        self._warnings = warnings
        self._position = 0
        self._values: dict[str, str] = {}
        self._expansion = Expansion()
        self._counted = (0, 1)
        self._unset: set[tuple[str, int]] = set()

    def values(self) -> dict[str, str]:
        while self._skip_to_statement():
            key, has_value = self._key()
            if has_value:
                self._values[key] = self._value()
            elif key in self._environment:
                self._values[key] = self._environment[key]
        return self._values

    def _line(self) -> int:
        """The line of the position; counted on from where it was counted before, for positions only grow."""
        position, line = self._counted
        self._counted = (self._position, line + self._text.count("\n", position, self._position))
        return self._counted[1]

    def _end_of_line(self, start: int) -> int:
        end = self._text.find("\n", start)
        return len(self._text) if end < 0 else end

    def _fail(self, message: str, hint: str | None = None) -> ComposeError:
        start = self._text.rfind("\n", 0, self._position) + 1
        return _broken(self._path, self._line(), message, self._text[start : self._end_of_line(start)], hint)

    def _skip_to_statement(self) -> bool:
        while self._position < len(self._text):
            character = self._text[self._position]
            if character == "#":
                self._position = self._end_of_line(self._position)
            elif not character.isspace():
                return True
            else:
                self._position += 1
        return False

    def _key(self) -> tuple[str, bool]:
        """The name at the position, and whether a value follows; moves to the value."""
        if prefix := _EXPORT.match(self._text, self._position):
            self._position = prefix.end()
        end = self._end_of_line(self._position)
        separator = _SEPARATOR.search(self._text, self._position, end)
        stop = separator.start() if separator else end
        key = self._text[self._position : stop].rstrip()
        for character in key:
            if not (character.isalnum() or character in "_.-[]" or character in _BLANK):
                raise self._fail(f'unexpected character "{character}" in variable name "{key}"')
        if " " in key:  # other blanks pass, as with Docker
            raise self._fail(f'key cannot contain a space: "{key}"', "write NAME=VALUE")
        self._position = min(stop + 1, len(self._text))
        return key, stop < end

    def _value(self) -> str:
        while self._position < len(self._text) and self._text[self._position] in _BLANK:
            self._position += 1
        quote = self._text[self._position : self._position + 1]
        if quote in ('"', "'") and quote:
            return self._quoted(quote)
        end = self._end_of_line(self._position)
        line = self._text[self._position : end]
        comment = _COMMENT.search(line)
        value = self._expand((line[: comment.start()] if comment else line).rstrip())
        self._position = end
        return value

    def _quoted(self, quote: str) -> str:
        start = self._position + 1
        end = start
        while (end := self._text.find(quote, end)) >= 0 and _is_escaped(self._text, end, start):
            end += 1
        if end < 0:
            line = self._text[self._position : self._end_of_line(self._position)]
            raise self._fail(f"unterminated quoted value {line}", f"close it with {quote}")
        value = self._text[start:end]
        value = self._expand(_ESCAPE.sub(_unescape, value)) if quote == '"' else value.replace("\\'", "'")
        self._position = end + 1  # what follows on the line is the next statement, as Docker has it
        return value

    def _expand(self, value: str) -> str:
        def lookup(name: str) -> str | None:
            return self._environment[name] if name in self._environment else self._values.get(name)

        def unset(name: str) -> None:
            line = self._line()
            if (name, line) in self._unset:
                return
            self._unset.add((name, line))
            message = f'The "{name}" variable is not set. Defaulting to a blank string.'
            self._warnings.append(Warning(Place(self._path, line, 1), message))

        try:
            return self._expansion.counted(substitute(value, lookup, unset))
        except TooLong as error:
            raise self._fail(str(error), "write long values once") from None
        except InvalidTemplate as error:
            raise self._fail(f'invalid template "{error}"', "write a literal $ as $$, or use single quotes") from None
        except RequiredVariable as error:
            raise self._fail(str(error)) from None


def _is_escaped(text: str, position: int, start: int) -> bool:
    backslashes = 0
    while position - backslashes > start and text[position - backslashes - 1] == "\\":
        backslashes += 1
    return backslashes % 2 == 1


def _unescape(match: re.Match[str]) -> str:
    escape = match[0][1:]
    if escape[0] != "0":
        return _ESCAPED[escape]
    digits = escape[1:]
    return chr(int(digits, 8)) if len(digits) == 3 and int(digits, 8) < 256 else match[0]


def load_files(paths: Iterable[str], environment: Mapping[str, str], warnings: list[Warning]) -> dict[str, str]:
    """The variables of several files; a later file wins and may use variables of the earlier ones."""
    values: dict[str, str] = {}
    for path in paths:
        values |= read(path, {**values, **environment}, warnings=warnings)
    return values
