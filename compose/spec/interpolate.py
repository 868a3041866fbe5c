"""Variables: `$NAME`, `${NAME}`, and the forms with a default, an alternative or an error.

Interpolation works on values, never on keys, before files are merged. Some attributes are numbers or booleans: their
strings are cast afterwards, variable or not.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from compose.errors import MANY, ComposeError, Place, Warning, dotted
from compose.model.units import parse_float, to_bool
from compose.spec.document import Map, Seq, Texts, Timestamp
from compose.spec.limits import MAX_EXPANDED

_NAME = re.compile(r"[_a-zA-Z][_a-zA-Z0-9]*")
_BRACE = re.compile(r"\$\{|\}")
_OPERATOR = re.compile(r":?[-?+]")
MAX_NESTING = 20
_SECRET_WORDS = ("PASSWORD", "PASSWD", "SECRET", "TOKEN", "KEY", "CREDENTIAL", "PRIVATE")
_ESCAPE_HINT = "You may need to escape any $ with another $"

Path = tuple[str | int, ...]


class InvalidTemplate(ValueError):
    """The text is not a valid template."""


class TooLong(ValueError):
    """Variables in variables make a text longer than any file."""


class Expansion:
    """How long the texts of one file have become by their variables."""

    def __init__(self) -> None:
        self._length = 0

    def counted(self, text: str) -> str:
        """The text; raises TooLong where it and those before it are too long together."""
        self._length += len(text)
        if self._length > MAX_EXPANDED:
            raise TooLong(f"variables make the file longer than {MAX_EXPANDED} characters")
        return text


class RequiredVariable(ValueError):
    """A `${NAME:?message}` has no value."""


def substitute(template: str, lookup: Callable[[str], str | None], unset: Callable[[str], None], depth: int = 0) -> str:
    """Replace the variables in a text; `unset` is told of each that has neither a value nor a default."""
    if "$" not in template:
        return template
    if depth > MAX_NESTING:
        raise InvalidTemplate(f"{template[:20]}...")
    parts: list[str] = []
    position = size = 0
    while (dollar := template.find("$", position)) >= 0:
        parts.append(template[position:dollar])
        size += len(parts[-1])
        following = template[dollar + 1 : dollar + 2]
        if following == "$":
            parts.append("$")
            position = dollar + 2
        elif following == "{":
            value, position = _braced(template, dollar, lookup, unset, depth)
            parts.append(value)
            size += len(value)
        elif name := _NAME.match(template, dollar + 1):
            parts.append(_value(name[0], lookup, unset))
            size += len(parts[-1])
            position = name.end()
        else:
            parts.append("$")
            position = dollar + 1
        if size > MAX_EXPANDED:
            raise TooLong(f"variables make the text longer than {MAX_EXPANDED} characters")
    parts.append(template[position:])
    return "".join(parts)


def _value(name: str, lookup: Callable[[str], str | None], unset: Callable[[str], None]) -> str:
    value = lookup(name)
    if value is None:
        unset(name)
    return value or ""


def _braced(
    template: str, start: int, lookup: Callable[[str], str | None], unset: Callable[[str], None], depth: int
) -> tuple[str, int]:
    """The value of the `${...}` at `start`, and where it ends."""
    end = _closing_brace(template, start)
    name = _NAME.match(template, start + 2)
    if end < 0 or not name:
        raise InvalidTemplate(template[start:])
    if name.end() == end:
        return _value(name[0], lookup, unset), end + 1
    operator = _OPERATOR.match(template, name.end(), end)
    if not operator:
        raise InvalidTemplate(template[start : end + 1])
    value = lookup(name[0])
    is_set = value is not None and (value != "" or operator[0][0] != ":")
    word = template[operator.end() : end]
    kind = operator[0][-1]
    if kind == "+":
        return (substitute(word, lookup, unset, depth + 1) if is_set else ""), end + 1
    if is_set:
        return value or "", end + 1
    if kind == "-":
        return substitute(word, lookup, unset, depth + 1), end + 1
    message = substitute(word, lookup, unset, depth + 1)
    raise RequiredVariable(f"required variable {name[0]} is missing a value" + (f": {message}" if message else ""))


def _closing_brace(template: str, start: int) -> int:
    depth = 0
    for brace in _BRACE.finditer(template, start):
        depth += 1 if brace[0] == "${" else -1
        if depth > MAX_NESTING:
            raise InvalidTemplate(f"{template[:20]}...")
        if depth == 0:
            return brace.start()
    return -1


class Variable(NamedTuple):
    """A variable that a file uses, as `config --variables` lists it."""

    name: str
    is_required: bool = False
    default: str = ""
    alternate: str = ""


def variables(node: Any) -> dict[str, Variable]:
    """The variables in a tree that was not interpolated, by name; those in defaults included."""
    found: dict[str, Variable] = {}
    if isinstance(node, str):
        _collect(node, found)
    elif isinstance(node, (Map, Seq)):
        for value in node.values() if isinstance(node, Map) else node:
            found |= variables(value)
    return found


def _collect(template: str, found: dict[str, Variable]) -> None:
    position = 0
    while (dollar := template.find("$", position)) >= 0:
        position = dollar + 1
        if template.startswith("$", position):
            position += 1
        elif name := _NAME.match(template, position):
            found[name[0]] = Variable(name[0])
            position = name.end()
        elif template.startswith("{", position) and (name := _NAME.match(template, position + 1)):
            end = max(_closing_brace(template, dollar), name.end())
            operator = _OPERATOR.match(template, name.end(), end)
            kind, word = (operator[0][-1], template[operator.end() : end]) if operator else ("", "")
            found[name[0]] = Variable(name[0], kind == "?", word if kind == "-" else "", word if kind == "+" else "")
            _collect(word, found)
            position = end


def _to_int(text: str) -> int:
    if not re.fullmatch(r"[-+]?[0-9]+", text):
        raise ValueError(f'"{text}" is not an integer')
    return int(text)


_SERVICE_CASTS: dict[str, Any] = {
    **dict.fromkeys(("cpu_count", "cpu_period", "cpu_quota", "cpu_rt_period", "cpu_rt_runtime", "cpu_shares"), _to_int),
    "cpu_percent": parse_float,
    "cpus": parse_float,
    "init": to_bool,
    "deploy": {
        "replicas": _to_int,
        "update_config": {"parallelism": _to_int, "max_failure_ratio": parse_float},
        "rollback_config": {"parallelism": _to_int, "max_failure_ratio": parse_float},
        "restart_policy": {"max_attempts": _to_int},
        "placement": {"max_replicas_per_node": _to_int},
    },
    "healthcheck": {"retries": _to_int, "disable": to_bool},
    "oom_kill_disable": to_bool,
    "oom_score_adj": _to_int,
    "pids_limit": _to_int,
    "ports": {"[]": {"target": _to_int}},
    "privileged": to_bool,
    "read_only": to_bool,
    "scale": _to_int,
    "stdin_open": to_bool,
    "tty": to_bool,
    "ulimits": {"*": {"": _to_int, "hard": _to_int, "soft": _to_int}},
    "volumes": {"[]": {"read_only": to_bool, "volume": {"nocopy": to_bool}}},
}
CASTS: dict[str, Any] = {
    "services": {"*": _SERVICE_CASTS},
    "networks": {
        "*": dict.fromkeys(("external", "internal", "attachable", "enable_ipv4", "enable_ipv6"), to_bool),
    },
    "volumes": {"*": {"external": to_bool}},
    "secrets": {"*": {"external": to_bool}},
    "configs": {"*": {"external": to_bool}},
}
"""What the strings of these attributes are cast to, by path; `*` is any key, `[]` any item, `` the node itself."""


def is_secret(name: str) -> bool:
    """Whether a key's or a variable's name says that its value is a password or the like."""
    return any(word in name.upper() for word in _SECRET_WORDS)


class Interpolator:
    """Interpolates trees against one environment, collecting errors and warnings with their places."""

    def __init__(self, environment: Mapping[str, str], texts: Texts) -> None:
        self._environment = environment
        self._texts = texts
        self._warned: set[str] = set()
        self._expansion = Expansion()
        self.errors: list[ComposeError] = []
        self.warnings: list[Warning] = []
        self.broken: list[Path] = []

    def tree(self, node: Any, casts: Any = CASTS, path: Path = (), place: Place | None = None) -> Any:
        """A copy of the tree with variables replaced and strings cast."""
        if isinstance(node, str):
            return self._scalar(node, casts, path, place)
        if isinstance(node, Map):
            copy = node.like()
            for key, value in node.items():
                inner = casts.get(key) or casts.get("*") if isinstance(casts, dict) else None
                copy[key] = self.tree(value, inner, (*path, key), node.value_place(key))
            return copy
        if isinstance(node, Seq):
            inner = casts.get("[]") if isinstance(casts, dict) else None
            items = [self.tree(item, inner, (*path, i), at) for i, (item, at) in enumerate(node.items_at())]
            return Seq(items, node.place, node.at)
        return node

    def text(self, template: str, place: Place | None, path: Path = ()) -> str:
        """One text with its variables replaced; on an error the text as it was."""

        def unset(name: str) -> None:
            if name not in self._warned:
                self._warned.add(name)
                message = f'The "{name}" variable is not set. Defaulting to a blank string.'
                if path and is_secret(str(path[-1])):  # where a $ is rarely meant as a variable
                    message += f" {_ESCAPE_HINT}."
                self.warnings.append(Warning(self._place_of(name, place), message))

        try:
            return self._expansion.counted(substitute(template, self._environment.get, unset))
        except TooLong as error:
            hint = "mount long texts as a file"
            raise ComposeError("E006", f"{dotted(path)}: {error}", at=place, path=dotted(path), hint=hint) from None
        except InvalidTemplate as error:
            message = f'invalid interpolation format for {dotted(path)}: "{error}"'
            self._fail("E020", message, str(error), path, place, f"{_ESCAPE_HINT}: $${str(error)[1:]}")
        except RequiredVariable as error:
            hint = "set it in the environment or in the .env file"
            self._fail("E021", str(error), "$", path, place, hint)
        return template

    def _place_of(self, name: str, place: Place | None) -> Place | None:
        """Where a variable is used in the text that starts at a place, which may have several lines."""
        if len(self._warned) > MANY:
            return place
        use = re.compile(rf"\$\{{?{re.escape(name)}(?![A-Za-z0-9_])")
        line = place.line if place else 0
        while place and (text := self._texts.line(Place(place.file, line, 1))) is not None and line < place.line + 100:
            if found := use.search(text, place.column - 1 if line == place.line else 0):
                return Place(place.file, line, found.start() + 1)
            line += 1
        return place

    def _scalar(self, node: str, casts: Any, path: Path, place: Place | None) -> Any:
        if isinstance(node, Timestamp):
            return node
        value = self.text(node, place, path) if "$" in node else node
        cast = casts.get("") if isinstance(casts, dict) else casts
        if cast is None:
            return value
        try:
            result = cast(value)
        except ValueError as error:
            self._fail("E016", f"{dotted(path)}: {error}", node, path, place, None)
            return value
        if cast is to_bool and value.lower() not in ("true", "false"):
            message = f'{dotted(path)}: "{value}" is read as {str(result).lower()}; write true or false'
            self.warnings.append(Warning(place, message))
        return result

    def _fail(self, code: str, message: str, part: str, path: Path, place: Place | None, hint: str | None) -> None:
        line = self._texts.line(place)
        at, width = place, len(part)
        if place and line is not None and (found := line.find(part, place.column - 1)) >= 0:
            at = Place(place.file, place.line, found + 1)
            width = min(width, len(line) - found)
        elif line is not None:
            width = 1
        if part == "$":
            width = 1
        error = ComposeError(code, message, at=at, path=dotted(path), line_text=line, width=max(width, 1), hint=hint)
        self.errors.append(error)
        self.broken.append(path)
