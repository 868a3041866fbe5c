"""`--format` of listing and inspecting commands: `table`, `json`, and Docker's Go templates. One renderer for every command.

Of Go's text/template it knows what people script with: fields (`.Name`, `.Config.Env`, `.`), strings and numbers, pipelines
(`{{.Name | upper}}`), `if`, `else`, `range`, `with`, and the functions of `_FUNCTIONS`. Anything else is a clear error.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from compose.cli.view.table import columns
from engine.errors import InvalidInput

Record = Mapping[str, Any]

_ACTION = re.compile(r"\{\{(-\s)?\s*(.*?)\s*(\s-)?\}\}", re.DOTALL)
_TOKEN = re.compile(r"""\s*(?:("(?:\\.|[^"\\])*"|`[^`]*`)|(-?\d+)|(\$?(?:\.\w*)+|\$)|([A-Za-z_]\w*)|([|()]))""")
_HINT = "for example: --format '{{.Name}}'"


def listing(
    records: Sequence[Record],
    shown: Mapping[str, str],
    format: str,
    *,
    array: bool = False,
    minimum: int = 10,
    gap: int = 3,
) -> list[str]:
    """Records as lines. `shown` maps each heading of the table to the field that stands below it.

    `format` is "table", "json" (an object a line, with `array` one array), a template for each record, or "table " and a
    template whose fields give the headings.
    """
    if format == "json":
        return [go_json(list(records))] if array else [go_json(record) for record in records]
    if format in ("", "table"):
        rows = [[_text(record[field]) for field in shown.values()] for record in records]
        return columns([list(shown), *rows], minimum=minimum, gap=gap)
    template = Template(format.removeprefix("table "))
    lines = [template.render(record) for record in records]
    if not format.startswith("table "):
        return lines
    headings = {field: heading_of(field) for record in records for field in record}
    headings |= {field: heading for heading, field in shown.items()}
    return columns([line.split("\t") for line in (template.render(headings), *lines)], minimum=minimum, gap=gap)


def inspected(records: Sequence[Record], format: str | None) -> str:
    """Records as one JSON array, or each through a template."""
    if format in (None, "", "json"):
        return json.dumps(list(records), indent=4 if format != "json" else None, ensure_ascii=False)
    template = Template(str(format))
    return "\n".join(template.render(record) for record in records)


def heading_of(field: str) -> str:
    """`RunningFor` → `RUNNING FOR`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", field).upper()


def go_json(value: Any) -> str:
    """JSON as Go writes it: compact, with `<`, `>` and `&` escaped."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, default=str)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _text(value: Any) -> str:
    """A value as Go prints it."""
    if value is None:
        return "<no value>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return f"map[{' '.join(f'{key}:{_text(value[key])}' for key in sorted(value))}]"
    if isinstance(value, (list, tuple)):
        return f"[{' '.join(map(_text, value))}]"
    return str(value)


# A node is text, or (kind, pipeline, body, alternative) with kind "print", "if", "range" or "with".
_Node = str | tuple[str, list[Any], list[Any], list[Any]]


class Template:
    """A parsed template; `render` fills it from one record. Raise InvalidInput where it uses what we do not know."""

    def __init__(self, text: str) -> None:
        self._nodes = _Parser(text.replace("\\t", "\t").replace("\\n", "\n")).parse()

    def render(self, record: Any) -> str:
        """The text for a record (what its JSON would be)."""
        return "".join(_render(self._nodes, record, record))


class _Parser:
    def __init__(self, text: str) -> None:
        self._pieces = list(_pieces(text))

    def parse(self) -> list[_Node]:
        nodes, end = self._block()
        if end:
            raise InvalidInput(f"the template has an {{{{{end}}}}} too many", hint=_HINT)
        return nodes

    def _block(self) -> tuple[list[_Node], str]:
        """Nodes up to `else`, `end` or the template's end; return them with what ended them."""
        nodes: list[_Node] = []
        while self._pieces:
            is_action, text = self._pieces.pop(0)
            if not is_action:
                nodes.append(text)
                continue
            word, _, rest = text.partition(" ")
            if word == "end" or (word == "else" and not rest):
                return nodes, word
            if word in ("if", "range", "with"):
                nodes.append(self._branch(word, rest))
            elif not text.startswith("/*"):
                nodes.append(("print", _pipeline(text), [], []))
        return nodes, ""

    def _branch(self, kind: str, condition: str) -> _Node:
        body, end = self._block()
        alternative: list[_Node] = []
        if end == "else":
            alternative, end = self._block()
        if end != "end":
            raise InvalidInput(f"the template's {{{{{kind}}}}} has no {{{{end}}}}", hint=_HINT)
        return kind, _pipeline(condition), body, alternative


def _pieces(text: str) -> Iterator[tuple[bool, str]]:
    """Cut a template into (False, text) and (True, action)."""
    at, trim = 0, False
    for match in _ACTION.finditer(text):
        before = text[at : match.start()]
        before = before.lstrip() if trim else before
        yield False, before.rstrip() if match[1] else before
        yield True, match[2]
        at, trim = match.end(), bool(match[3])
    rest = text[at:].lstrip() if trim else text[at:]
    if "{{" in rest:
        raise InvalidInput("the template has a {{ without its }}", hint=_HINT)
    yield False, rest


def _pipeline(text: str) -> list[Any]:
    """Commands between `|`, each a list of operands: ("value", v), ("field", path), ("name", function) or ("pipe", pipeline)."""
    tokens: list[tuple[str, Any]] = []
    at = 0
    while at < len(text.rstrip()):
        match = _TOKEN.match(text, at)
        if match is None:
            raise InvalidInput(f'cannot read "{text}" in the template', hint=_HINT)
        at = match.end()
        string, number, field, name, sign = match.groups()
        if string:
            tokens.append(("value", json.loads(string) if string[0] == '"' else string[1:-1]))
        elif number:
            tokens.append(("value", int(number)))
        elif field:
            tokens.append(("field", field))
        elif name:
            tokens.append(("value", name == "true") if name in ("true", "false") else ("name", name))
        else:
            tokens.append((sign, None))
    commands, left = _commands(tokens)
    if left:
        raise InvalidInput(f'cannot read "{text}" in the template: a ")" too many', hint=_HINT)
    return commands


def _commands(tokens: list[tuple[str, Any]]) -> tuple[list[Any], list[tuple[str, Any]]]:
    """Read up to a closing bracket or the end; return the commands and the tokens left."""
    commands: list[Any] = [[]]
    while tokens and tokens[0][0] != ")":
        kind, value = tokens[0]
        tokens = tokens[1:]
        if kind == "|":
            commands.append([])
        elif kind == "(":
            inner, tokens = _commands(tokens)
            if not tokens:
                raise InvalidInput('a "(" in the template is not closed', hint=_HINT)
            tokens = tokens[1:]
            commands[-1].append(("pipe", inner))
        else:
            commands[-1].append((kind, value))
    if not all(commands):
        raise InvalidInput("a command in the template is empty", hint=_HINT)
    return commands, tokens


def _render(nodes: Sequence[Any], dot: Any, root: Any) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, str):
            yield node
            continue
        kind, pipeline, body, alternative = node
        value = _evaluate(pipeline, dot, root)
        if kind == "print":
            yield _text(value)
        elif kind == "range" and value:
            for item in value.values() if isinstance(value, Mapping) else value:
                yield from _render(body, item, root)
        elif value:
            yield from _render(body, value if kind == "with" else dot, root)
        else:
            yield from _render(alternative, dot, root)


def _evaluate(pipeline: Sequence[Any], dot: Any, root: Any) -> Any:
    value: Any = None
    for position, command in enumerate(pipeline):
        operands = [_operand(operand, dot, root) for operand in command[1:]]
        if position:
            operands.append(value)
        kind, what = command[0]
        if kind == "name":
            value = _call(what, operands)
        elif kind == "field" and what.endswith(".Label") and operands:
            value = _labels(_operand(("field", f"{what}s"), dot, root)).get(operands[0], "")
        elif operands:
            raise InvalidInput(f"the template gives an argument to what is no function: {what}", hint=_HINT)
        else:
            value = _operand(command[0], dot, root)
    return value


def _operand(operand: tuple[str, Any], dot: Any, root: Any) -> Any:
    kind, what = operand
    if kind == "value":
        return what
    if kind == "pipe":
        return _evaluate(what, dot, root)
    if kind == "name":
        return _call(what, [])
    value = root if what.startswith("$") else dot
    for name in what.lstrip("$").split("."):
        value = _field(value, name) if name else value
    return value


def _field(value: Any, name: str) -> Any:
    if not isinstance(value, Mapping):
        raise InvalidInput(f"the template asks for .{name} of what has no fields", hint=_HINT)
    if name not in value:
        raise InvalidInput(f"the template asks for .{name}", hint=f"there are: {', '.join(f'.{key}' for key in value)}")
    return value[name]


def _labels(labels: Any) -> Mapping[str, str]:
    if isinstance(labels, Mapping):
        return labels
    return dict(entry.partition("=")[::2] for entry in str(labels).split(","))


def _call(name: str, operands: list[Any]) -> Any:
    if name not in _FUNCTIONS:
        raise InvalidInput(f'the template uses a function "{name}"', hint=f"there are: {', '.join(_FUNCTIONS)}")
    try:
        return _FUNCTIONS[name](*operands)
    except (TypeError, ValueError, LookupError, AttributeError) as error:
        raise InvalidInput(f'the template cannot use "{name}" like that: {error}', hint=_HINT) from error


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        value = value.get(key, "") if isinstance(value, Mapping) else value[key]
    return value


def _printf(pattern: str, *values: Any) -> str:
    return re.sub(r"%([-+0-9.]*)v", r"%\1s", pattern).replace("%q", '"%s"') % values


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "json": go_json,
    "upper": lambda text: text.upper(),
    "lower": lambda text: text.lower(),
    "title": lambda text: text.title(),
    "split": lambda text, separator: text.split(separator),
    "join": lambda parts, separator: separator.join(parts),
    "len": len,
    "index": _index,
    "slice": lambda value, first, *last: value[slice(first, *last)] if last else value[first:],
    "truncate": lambda text, length: text[:length],
    "pad": lambda text, before, after: " " * before + text + " " * after,
    "printf": _printf,
    "println": lambda *values: " ".join(map(_text, values)) + "\n",
    "print": lambda *values: "".join(map(_text, values)),
    "eq": lambda value, *others: value in others,
    "ne": lambda value, other: value != other,
    "not": lambda value: not value,
    "and": lambda *values: next((value for value in values if not value), values[-1]),
    "or": lambda *values: next((value for value in values if value), values[-1]),
}
