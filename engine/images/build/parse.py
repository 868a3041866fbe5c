"""The Dockerfile's surface: directives, comments, continued lines, flags and here-documents.

`parse` turns text into statements that still know their place; what each one means is the business of `instructions`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from engine.errors import InvalidInput, UmiakError
from engine.frozen import frozen

MAX_DOCKERFILE_BYTES = 4 << 20

_DIRECTIVE = re.compile(r"#\s*([a-zA-Z][a-zA-Z0-9]*)\s*=\s*(.+?)\s*$")
_DIRECTIVES = frozenset({"syntax", "escape", "check"})
_HEREDOC = re.compile(r"\d*<<(-?)(['\"]?)([A-Za-z_][\w.-]*)\2$")
_TAKES_HEREDOC = frozenset({"RUN", "COPY", "ADD", "ONBUILD"})


@frozen
class Place:
    """Where something is written: `file:line:column`."""

    file: str
    line: int
    column: int = 1

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@frozen
class Heredoc:
    """A here-document. `expand` is false where its name was quoted."""

    name: str
    content: str
    expand: bool


@frozen
class Statement:
    """One logical line: its keyword in capitals, its `--flag=value` words, the rest, and the here-documents it opened.

    `written` is the keyword as it stands in the file; `gap` the line of an empty line inside, 0 where there is none.
    """

    place: Place
    keyword: str
    flags: tuple[tuple[str, str], ...]
    rest: str
    heredocs: tuple[Heredoc, ...]
    escape: str
    written: str = ""
    gap: int = 0

    @property
    def text(self) -> str:
        """The statement as one line, to show to people."""
        flags = "".join(f" --{name}={value}" if value else f" --{name}" for name, value in self.flags)
        return " ".join(f"{self.keyword}{flags} {self.rest}".split())


@contextmanager
def located(place: Place) -> Iterator[None]:
    """Give errors raised in the block this place, unless they already name one."""
    try:
        yield
    except UmiakError as error:
        error.place = error.place or str(place)
        raise


def parse(text: str, file: str, *, escape: str | None = None, first_line: int = 1) -> list[Statement]:
    """Split a Dockerfile into statements. Raise InvalidInput with the place of what cannot be read.

    For a part of a file `escape` says what its directive would, and `first_line` where the part stands.
    """
    lines = lines_of(text)
    for number, line in enumerate(lines, 1):
        if "\0" in line:
            raise InvalidInput(
                "NUL byte: this is not a text file",
                place=str(Place(file, number + first_line - 1, line.index("\0") + 1)),
            )
    reader = _Reader(lines, file, escape or directives(lines, file).get("escape", "\\"), first_line)
    return list(reader.statements())


def lines_of(text: str) -> list[str]:
    """The lines of a file, whatever ends them, without a byte order mark."""
    return [line.removesuffix("\r") for line in text.removeprefix("\ufeff").split("\n")]


def directives(lines: Sequence[str], file: str) -> dict[str, str]:
    """The parser directives by name. They count only above everything else, comments included."""
    found: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        match = _DIRECTIVE.match(line.strip())
        if not match or (name := match[1].lower()) not in _DIRECTIVES:
            break
        if name in found:
            raise InvalidInput(f"directive {name!r} given twice", place=str(Place(file, number)))
        if name == "escape" and match[2] not in ("\\", "`"):
            raise InvalidInput(
                f"cannot use {match[2]!r} as the escape character",
                hint="only \\ and ` can be used",
                place=str(Place(file, number)),
            )
        found[name] = match[2]
    return found


class _Reader:
    """Reads logical lines from physical ones."""

    def __init__(self, lines: list[str], file: str, escape: str, first_line: int) -> None:
        self.lines = lines
        self.first_line = first_line
        self.file = file
        self.escape = escape
        self.position = 0
        quoted = re.escape(escape)
        self.continued = re.compile(rf"(?<!{quoted}){quoted}[ \t]*$")

    def statements(self) -> Iterator[Statement]:
        while self.position < len(self.lines):
            line = self.lines[self.position]
            if _is_blank_or_comment(line):
                self.position += 1
                continue
            place = Place(self.file, self.position + self.first_line, len(line) - len(line.lstrip()) + 1)
            yield self._statement(*self._logical_line(), place)

    def _logical_line(self) -> tuple[str, int]:
        """Join continued lines. Comments and blank lines between them are dropped, as Docker does; the number of a blank one is told."""
        parts: list[str] = []
        blank = gap = 0
        while self.position < len(self.lines):
            line = self.lines[self.position]
            self.position += 1
            if parts and _is_blank_or_comment(line):
                blank = blank if line.strip() else self.position + self.first_line - 1
                continue
            gap = blank or gap
            cut = self.continued.sub("", line)
            parts.append(cut)
            if cut == line:
                break
        return "".join(parts).strip(), gap

    def _statement(self, line: str, gap: int, place: Place) -> Statement:
        written, _, rest = re.sub(r"\s", " ", line, count=1).partition(" ")
        keyword = written.upper()
        with located(place):
            flags, rest = _split_flags(rest.strip(), self.escape)
            heredocs: tuple[Heredoc, ...] = ()
            if keyword in _TAKES_HEREDOC and "<<" in rest:
                heredocs = tuple(self._heredocs(rest))
        return Statement(place, keyword, flags, rest, heredocs, self.escape, written, gap)

    def _heredocs(self, rest: str) -> Iterator[Heredoc]:
        for word in split_words(rest, self.escape):
            found = _HEREDOC.match(word)
            if found:
                yield Heredoc(found[3], self._heredoc_body(found[3], bool(found[1])), not found[2])

    def _heredoc_body(self, name: str, strip_tabs: bool) -> str:
        body: list[str] = []
        while self.position < len(self.lines):
            line = self.lines[self.position]
            self.position += 1
            if strip_tabs:
                line = line.lstrip("\t")
            if line == name:
                return "".join(f"{part}\n" for part in body)
            body.append(line)
        raise InvalidInput(f"here-document {name!r} has no end", hint=f"end it with a line that holds only {name}")


def _is_blank_or_comment(line: str) -> bool:
    line = line.lstrip()
    return not line or line.startswith("#")


def _split_flags(rest: str, escape: str) -> tuple[tuple[tuple[str, str], ...], str]:
    """Take the leading `--name[=value]` words off."""
    flags: list[tuple[str, str]] = []
    while rest.startswith("--"):
        end = word_end(rest, 0, escape)
        name, _, value = rest[2:end].partition("=")
        rest = rest[end:].lstrip()
        if not name:
            break
        flags.append((name, unquote(value, escape)))
    return tuple(flags), rest


def heredoc_name(word: str) -> str | None:
    """The name of the here-document that a word such as `<<EOF` stands for."""
    found = _HEREDOC.match(word)
    return found[3] if found else None


def word_end(text: str, start: int, escape: str) -> int:
    """The index just past the word at `start`. White space inside quotes or after the escape character does not end it."""
    quote = ""
    position = start
    while position < len(text):
        char = text[position]
        if char == escape and quote != "'":
            position += 1
        elif quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        elif char.isspace():
            break
        position += 1
    return min(position, len(text))


def split_words(text: str, escape: str) -> list[str]:
    """Split at white space outside quotes; the words keep their quotes and escapes."""
    words: list[str] = []
    position = 0
    while position < len(text):
        if text[position].isspace():
            position += 1
            continue
        end = word_end(text, position, escape)
        words.append(text[position:end])
        position = end
    return words


def unquote(word: str, escape: str) -> str:
    """Remove quotes and escapes from a word."""
    out: list[str] = []
    quote = ""
    chars = iter(word)
    for char in chars:
        if char == escape and quote != "'":
            out.append(next(chars, escape))
        elif char == quote:
            quote = ""
        elif not quote and char in "'\"":
            quote = char
        else:
            out.append(char)
    return "".join(out)
