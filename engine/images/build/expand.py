"""Variables in a Dockerfile's words: `$name`, `${name}` and the modifiers that Docker's reference lists."""

from __future__ import annotations

import re
from collections.abc import Callable

from engine.errors import InvalidInput

Lookup = Callable[[str], str | None]

MAX_EXPANDED_CHARS = 1 << 20
MAX_DEPTH = 40

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*|[0-9@*#?\-!$]")


def expand(word: str, lookup: Lookup, escape: str = "\\", unknown: Callable[[str], object] | None = None) -> str:
    """Replace variables and remove quotes, as a shell does without splitting or globbing.

    A variable without a value becomes the empty string, and `unknown` is told of it. Raise InvalidInput for a broken `${…}`.
    """
    return _Expansion(word, lookup, escape, quotes=True, unknown=unknown).run()


def expand_heredoc(text: str, lookup: Lookup, escape: str = "\\") -> str:
    """Replace variables in a here-document, where quotes are ordinary characters."""
    return _Expansion(text, lookup, escape, quotes=False).run()


class _Expansion:
    """One pass over one word."""

    def __init__(
        self,
        text: str,
        lookup: Lookup,
        escape: str,
        *,
        quotes: bool,
        depth: int = 0,
        unknown: Callable[[str], object] | None = None,
    ) -> None:
        self.text = text
        self.lookup = lookup
        self.escape = escape
        self.quotes = quotes
        self.depth = depth
        self.unknown = unknown
        self.position = 0
        if depth > MAX_DEPTH:
            raise InvalidInput("variables nested too deeply")

    def run(self) -> str:
        result = self._until("")
        if len(result) > MAX_EXPANDED_CHARS:
            raise InvalidInput(f"a word expands to more than {MAX_EXPANDED_CHARS} characters")
        return result

    def _until(self, stop: str) -> str:
        """Expand up to one of the characters in `stop`, left unread, or to the end."""
        out: list[str] = []
        while self.position < len(self.text):
            char = self.text[self.position]
            if char in stop:
                break
            if char == "'" and self.quotes:
                out.append(self._single_quoted())
            elif char == '"' and self.quotes:
                out.append(self._double_quoted())
            elif char == "$":
                out.append(self._variable())
            elif char == self.escape:
                out.append(self._escaped())
            else:
                out.append(char)
                self.position += 1
        return "".join(out)

    def _escaped(self) -> str:
        following = self.text[self.position + 1 : self.position + 2]
        self.position += 2
        if not self.quotes and following not in ("$", self.escape):
            return self.escape + following
        return following

    def _single_quoted(self) -> str:
        end = self.text.find("'", self.position + 1)
        if end < 0:
            raise InvalidInput("a single quote is not closed", hint="close it; in double quotes it stands for itself")
        inside = self.text[self.position + 1 : end]
        self.position = end + 1
        return inside

    def _double_quoted(self) -> str:
        out: list[str] = []
        self.position += 1
        while self.position < len(self.text):
            char = self.text[self.position]
            if char == '"':
                self.position += 1
                return "".join(out)
            if char == "$":
                out.append(self._variable())
                continue
            if char == self.escape and self.text[self.position + 1 : self.position + 2] in ('"', "$", self.escape):
                self.position += 1
            out.append(self.text[self.position])
            self.position += 1
        raise InvalidInput("a double quote is not closed", hint="close it, or put a backslash before it")

    def _variable(self) -> str:
        self.position += 1
        if self.text[self.position : self.position + 1] == "{":
            self.position += 1
            return self._braced()
        found = _NAME.match(self.text, self.position)
        if not found:
            return "$"
        self.position = found.end()
        return self._value(found[0])

    def _value(self, name: str) -> str:
        value = self.lookup(name)
        if value is None and self.unknown:
            self.unknown(name)
        return value or ""

    def _braced(self) -> str:
        start = self.position
        found = _NAME.match(self.text, self.position)
        if not found:
            raise InvalidInput(f"cannot read the variable in {self._excerpt(start)!r}", hint="write ${NAME}")
        self.position = found.end()
        operator = self._operator()
        if operator is None:
            raise InvalidInput(
                f"unknown modifier in {self._excerpt(start)!r}", hint="Docker knows - + ? :- :+ :? # ## % %% / //"
            )
        operand = self._operand(operator)
        if self.text[self.position : self.position + 1] != "}":
            raise InvalidInput(
                f"{self._excerpt(start)!r} has no closing brace",
                hint="write ${name} or ${name:-default}; a dollar sign alone is \\$",
            )
        self.position += 1
        return self._modified(found[0], operator, operand)

    def _excerpt(self, start: int) -> str:
        return "${" + self.text[start : start + 30]

    def _operator(self) -> str | None:
        for operator in (":-", ":+", ":?", "##", "%%", "//", "-", "+", "?", "#", "%", "/"):
            if self.text.startswith(operator, self.position):
                self.position += len(operator)
                return operator
        return "" if self.text.startswith("}", self.position) or self.position >= len(self.text) else None

    def _operand(self, operator: str) -> str:
        """The text up to the closing brace; patterns stay unexpanded but for their variables."""
        if not operator:
            return ""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise InvalidInput("variables nested too deeply")
        operand = self._raw_pattern() if operator[0] in "#%/" else self._until("}")
        self.depth -= 1
        return operand

    def _raw_pattern(self) -> str:
        out: list[str] = []
        while self.position < len(self.text) and self.text[self.position] != "}":
            if self.text[self.position] == "$":
                out.append(self._variable())
                continue
            if self.text[self.position] == self.escape:
                out.append(self.text[self.position])
                self.position += 1
            out.append(self.text[self.position : self.position + 1])
            self.position += 1
        return "".join(out)

    def _modified(self, name: str, operator: str, operand: str) -> str:
        if not operator:
            return self._value(name)
        value = self.lookup(name)
        is_set = bool(value) if operator[0] == ":" else value is not None
        match operator[-1]:
            case "-":
                return value or "" if is_set else operand
            case "+":
                return operand if is_set else ""
            case "?":
                if not is_set:
                    raise InvalidInput(f"{name}: {operand or 'not set'}", hint=f"give it with --build-arg {name}=…")
                return value or ""
            case "/":
                return _replaced(value or "", operator, operand, self.escape)
            case _:
                return _trimmed(value or "", operator, operand, self.escape)


def _trimmed(value: str, operator: str, pattern: str, escape: str) -> str:
    """Cut the shortest (`#`, `%`) or longest (`##`, `%%`) match off the start or the end."""
    whole = re.compile(f"(?:{_glob(pattern, escape)})", re.DOTALL)
    sizes = range(len(value) + 1) if len(operator) == 1 else range(len(value), -1, -1)
    for size in sizes:
        if operator[0] == "#" and whole.fullmatch(value, 0, size):
            return value[size:]
        if operator[0] == "%" and whole.fullmatch(value, len(value) - size):
            return value[: len(value) - size]
    return value


def _replaced(value: str, operator: str, operand: str, escape: str) -> str:
    found = re.match(rf"((?:{re.escape(escape)}.|[^/])*)(?:/(.*))?$", operand, re.DOTALL)
    pattern, replacement = (found[1], found[2] or "") if found else (operand, "")
    if not pattern:
        return value
    return re.sub(
        _glob(pattern, escape), lambda _: replacement, value, count=0 if operator == "//" else 1, flags=re.DOTALL
    )


def _glob(pattern: str, escape: str) -> str:
    out: list[str] = []
    chars = iter(pattern)
    for char in chars:
        if char == escape:
            out.append(re.escape(next(chars, "")))
        else:
            out.append({"*": ".*", "?": "."}.get(char) or re.escape(char))
    return "".join(out)
