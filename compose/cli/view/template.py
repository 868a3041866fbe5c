"""`--format` of the listing and inspecting commands: `table`, `json` and Go templates as Docker's users write them.

Of Go's template language what such formats use: fields (`{{.Config.Env}}`), `json`, `len`, `index`, `join`, `upper`, `lower`
and `println`. Anything else is a clear error.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from compose.cli.view.table import columns
from engine.errors import InvalidInput

Record = Mapping[str, Any]

_ACTION = re.compile(r"\{\{-?(.*?)-?\}\}", re.DOTALL)
_ESCAPES = {"\\t": "\t", "\\n": "\n"}


def listing(records: Sequence[Record], shown: Mapping[str, str], format: str) -> list[str]:
    """Records as lines. `shown` maps each heading of the table to the field that stands below it.

    `format` is "table", "json" (an object a line), a template for each record, or "table " and a template whose fields give
    the headings.
    """
    if format == "json":
        return [json.dumps(record, ensure_ascii=False, separators=(",", ":")) for record in records]
    if format in ("", "table"):
        rows = [[_text(record[field]) for field in shown.values()] for record in records]
        return columns([list(shown), *rows])
    if not format.startswith("table "):
        template = Template(format)
        return [template.render(record) for record in records]
    template = Template(format.removeprefix("table "))
    headings = {field: heading for heading, field in shown.items()}
    lines = [template.headings(headings), *(template.render(record) for record in records)]
    return columns([line.split("\t") for line in lines])


def inspected(records: Sequence[Record], format: str | None) -> str:
    """Records as one JSON array, or each through a template."""
    if format in (None, "", "json"):
        return json.dumps(list(records), indent=4 if format != "json" else None, ensure_ascii=False)
    template = Template(str(format))
    return "\n".join(template.render(record) for record in records)


class Template:
    """A Go template. Raise InvalidInput where it uses what we do not know."""

    def __init__(self, text: str) -> None:
        for escape, character in _ESCAPES.items():
            text = text.replace(escape, character)
        self._parts: list[str | list[str]] = []
        for number, part in enumerate(_ACTION.split(text)):
            self._parts.append(_words(part) if number % 2 else part)
        if any("{{" in part for part in self._parts if isinstance(part, str)):
            raise InvalidInput(f"cannot read the format {text!r}: an action is not closed", hint="write {{.Name}}")

    def render(self, record: Record) -> str:
        """The text for one record."""
        return "".join(part if isinstance(part, str) else _text(_evaluate(part, record)) for part in self._parts)

    def headings(self, known: Mapping[str, str]) -> str:
        """The text with each field replaced by its heading."""
        return "".join(part if isinstance(part, str) else _heading(part, known) for part in self._parts)


def _words(action: str) -> list[str]:
    """An action's words; a pipeline `A | f` becomes `f A`."""
    stages = action.strip().split("|")
    try:
        words = [shlex.split(stage, posix=False) for stage in stages]
    except ValueError as error:
        raise InvalidInput(f"cannot read {{{{{action}}}}} in the format: {error}") from error
    if not all(words):
        raise InvalidInput(f"cannot read {{{{{action}}}}} in the format", hint="write {{.Name}} or {{json .}}")
    first, *further = words
    for stage in further:
        first = [*stage, *first] if len(first) == 1 else [*stage, "(", *first, ")"]
    return first


def _evaluate(words: Sequence[str], record: Record) -> Any:
    name, *arguments = words
    if not arguments and name not in _FUNCTIONS:
        return _value(name, record)
    if name not in _FUNCTIONS:
        raise InvalidInput(f"unknown function {name!r} in the format", hint=f"known: {', '.join(_FUNCTIONS)}")
    if arguments[:1] == ["("] and arguments[-1:] == [")"]:
        return _apply(name, [_evaluate(arguments[1:-1], record)])
    return _apply(name, [_value(argument, record) for argument in arguments])


def _apply(name: str, values: Sequence[Any]) -> Any:
    try:
        return _FUNCTIONS[name](*values)
    except (TypeError, KeyError, IndexError, ValueError, AttributeError) as error:
        raise InvalidInput(f"cannot apply {name} in the format: {error}") from error


def _value(word: str, record: Record) -> Any:
    if word.startswith(('"', "'", "`")):
        return word[1:-1]
    if word.isdigit():
        return int(word)
    if not word.startswith("."):
        raise InvalidInput(f"cannot read {word!r} in the format", hint="a field begins with a dot: {{.Name}}")
    value: Any = record
    for field in filter(None, word.split(".")):
        if not isinstance(value, Mapping) or field not in value:
            known = f"known here: {', '.join(value)}" if isinstance(value, Mapping) else None
            raise InvalidInput(f"there is no {word} for the format", hint=known)
        value = value[field]
    return value


def _heading(words: Sequence[str], known: Mapping[str, str]) -> str:
    field = words[-1].rpartition(".")[2]
    return known.get(field, field.upper())


def _text(value: Any) -> str:
    """A value as Go prints it."""
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return "<nil>"
    if isinstance(value, Mapping):
        return f"map[{' '.join(f'{key}:{_text(item)}' for key, item in sorted(value.items()))}]"
    if isinstance(value, list | tuple):
        return f"[{' '.join(map(_text, value))}]"
    return str(value)


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "json": lambda value: json.dumps(value, ensure_ascii=False, separators=(",", ":")),
    "len": len,
    "index": lambda value, *keys: _index(value, keys),
    "join": lambda values, separator: separator.join(map(_text, values)),
    "upper": lambda value: _text(value).upper(),
    "lower": lambda value: _text(value).lower(),
    "println": lambda value: _text(value) + "\n",
}


def _index(value: Any, keys: Sequence[Any]) -> Any:
    for key in keys:
        value = value[key] if not isinstance(value, Mapping) else value.get(key, "")
    return value
