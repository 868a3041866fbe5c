"""YAML as Compose reads it: text in, plain trees out, every node with its place. The only user of the yaml package.

The dialect is that of go-yaml: YAML 1.2 scalars with a few of YAML 1.1 (`010` is octal, `1_000` an integer, `yes` a string),
merge keys, no duplicate keys, and the tags `!reset` and `!override`. Mappings become `Map`, sequences `Seq`, which are
a dict and a list that know where their items stand; scalars become str, int, float, bool, None or `Timestamp`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

from compose.errors import MANY, ComposeError, Place, display_path, raise_all
from compose.spec.limits import MAX_BYTES, MAX_NODES, Budget, measure, weight
from compose.spec.source import no_such_file, read_bytes

MAX_DIGITS = 100  # of an integer; 64 binary ones and a prefix are the most that any can have
MAX_DEPTH = 100
MAX_DOCUMENTS = 1_000

_INTEGER = re.compile(r"[-+]?(?:0[xX][0-9a-fA-F]+|0[oO]?[0-7]+|0[bB][01]+|0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_TIMESTAMP = re.compile(
    r"\d{4}-\d{1,2}-\d{1,2}(?:[Tt]\d{1,2}:\d{1,2}:\d{1,2}(?:\.\d+)?(?:Z|[-+]\d\d:\d\d)| \d{1,2}:\d{1,2}:\d{1,2}(?:\.\d+)?)?"
)
_WORDS: dict[str, Any] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), float("inf")),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), float("-inf")),
}
_MERGE = "<<"
_BARE_KEY = re.compile(r"[A-Za-z0-9_.-]+")


class Timestamp(str):
    """A scalar that YAML takes for a date; no Compose attribute is one."""

    __slots__ = ()

    def as_rfc3339(self) -> Timestamp:
        """The date as Go prints it, with the time and its zone."""
        date, _, time = self.replace("t", " ").replace("T", " ").partition(" ")
        year, month, day = date.split("-")
        zone = re.search(r"[-+]\d\d:\d\d$", time)
        clock, dot, fraction = time.removesuffix("Z").removesuffix(zone[0] if zone else "Z").partition(".")
        hour, minute, second = clock.split(":") if clock else ("0", "0", "0")
        text = f"{year}-{month:0>2}-{day:0>2}T{hour:0>2}:{minute:0>2}:{second:0>2}"
        fraction = (dot + fraction).rstrip("0").rstrip(".")
        return Timestamp(f"{text}{fraction}{zone[0] if zone else 'Z'}")


class Reset:
    """The value of a key tagged `!reset`: the key is deleted from what came before."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "!reset"


RESET: Final = Reset()


class Map(dict[str, Any]):
    """A mapping. `place` is its own; `at` holds the places of each key and value; `overrides` the keys tagged `!override`."""

    __slots__ = ("at", "overrides", "place")

    def __init__(self, items: Any = (), place: Place | None = None) -> None:
        super().__init__(items)
        self.place = place
        self.at: dict[str, tuple[Place | None, Place | None]] = {}
        self.overrides: frozenset[str] = frozenset()

    def put(self, key: str, value: Any, at: tuple[Place | None, Place | None] | None) -> None:
        """Set an item that stands `at` these places of key and value."""
        self[key] = value
        if at:
            self.at[key] = at

    def take(self, key: str, other: Map, value: Any = ...) -> None:
        """Set an item that comes from another mapping, its places included."""
        self[key] = other[key] if value is ... else value
        if key in other.at:
            self.at[key] = other.at[key]

    def like(self) -> Map:
        """An empty mapping in the same place."""
        empty = Map(place=self.place)
        empty.at, empty.overrides = self.at, self.overrides
        return empty

    def clone(self) -> Map:
        """A shallow copy that may be changed."""
        copy = type(self)(self, self.place)
        copy.at, copy.overrides = dict(self.at), self.overrides
        return copy

    def key_place(self, key: str) -> Place | None:
        """Where the key stands."""
        return self.at[key][0] if key in self.at else self.place

    def value_place(self, key: str) -> Place | None:
        """Where the value stands."""
        return self.at[key][1] if key in self.at else self.place


class RawMap(Map):
    """A mapping of variables of a template, as it was written; laid over another it becomes a list of `key=value`, as with Docker."""

    __slots__ = ()


class Seq(list[Any]):
    """A sequence. `place` is its own; `at` holds the place of each item."""

    __slots__ = ("at", "place")

    def __init__(
        self, items: Iterable[Any] = (), place: Place | None = None, at: list[Place | None] | None = None
    ) -> None:
        super().__init__(items)
        self.place = place
        self.at: list[Place | None] = at if at is not None else [place] * len(self)

    def add(self, value: Any, at: Place | None) -> None:
        """Append an item that stands at this place."""
        self.append(value)
        self.at.append(at)

    def items_at(self) -> Iterator[tuple[Any, Place | None]]:
        """Items with their places."""
        return zip(self, self.at, strict=True)


def find_place(tree: Any, path: Iterable[str | int]) -> Place | None:
    """Where the node at `path` stands; where there is none, its nearest parent."""
    node, place = tree, getattr(tree, "place", None)
    for step in path:
        if isinstance(node, Map) and isinstance(step, str) and step in node:
            place = node.key_place(step) or place
            node = node[step]
        elif isinstance(node, Seq) and isinstance(step, int) and step < len(node):
            place = node.at[step] or place
            node = node[step]
        else:
            break
    return place


def prune(tree: Any, paths: Iterable[tuple[str | int, ...]]) -> None:
    """Take the nodes at these paths out of a tree, so that the rest of it can be understood."""
    for path in sorted(set(paths), key=repr, reverse=True):  # the later items of a sequence first
        node = tree
        for step in path[:-1]:
            node = node[step] if _has(node, step) else None
        if path and isinstance(node, Map):
            node.pop(str(path[-1]), None)
        elif path and isinstance(node, Seq) and _has(node, path[-1]):
            index = int(path[-1])
            del node[index]
            node.at = [*node.at[:index], *node.at[index + 1 :]]  # copies of a sequence share their places


def _has(node: Any, step: str | int) -> bool:
    return (
        step in node if isinstance(node, Map) else isinstance(node, Seq) and isinstance(step, int) and step < len(node)
    )


class Texts:
    """The text of each file read, for the source line of an error."""

    def __init__(self) -> None:
        self._lines: dict[str, list[str]] = {}

    def add(self, file: str, text: str) -> None:
        """Remember the text of a file."""
        self._lines[file] = text.splitlines()

    def line(self, place: Place | None) -> str | None:
        """The source line of a place."""
        lines = self._lines.get(place.file) if place else None
        return lines[place.line - 1] if lines and place and 0 < place.line <= len(lines) else None


def read(path: str, texts: Texts) -> str:
    """The text of a Compose file, `-` being standard input; raises a ComposeError that says why it cannot be read."""
    try:
        data = read_bytes(path)
    except FileNotFoundError:
        raise no_such_file(path) from None
    except OSError as error:
        raise ComposeError(
            "E002", f"cannot read {display_path(path)}: {(error.strerror or str(error)).lower()}"
        ) from error
    if len(data) > MAX_BYTES:
        raise ComposeError("E002", f"cannot read {display_path(path)}: larger than {MAX_BYTES >> 20} MiB")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - data.rfind(b"\n", 0, error.start)
        at = Place(path, line, column)
        raise ComposeError("E002", "the file is not UTF-8 text", at=at, hint="save it as UTF-8") from None
    texts.add(path, text)
    return text


def parse(text: str, file: str, budget: Budget | None = None, errors: list[ComposeError] | None = None) -> list[Any]:
    """The documents of a YAML stream as trees; `budget` is that of the project, which other files share.

    Wrong keys go to `errors`, if given; what else is wrong is raised.
    """
    import yaml

    loader_class: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        loader = loader_class(text)
    except yaml.YAMLError as error:
        raise _syntax_error(error, text, file) from None
    try:
        composer = _Composer(loader, file, budget or Budget())
        trees = list(composer.documents())
    except yaml.YAMLError as error:
        raise _syntax_error(error, text, file) from None
    finally:
        loader.dispose()
    if errors is None:
        raise_all(composer.errors)
    else:
        errors += composer.errors
    return trees


def _syntax_error(error: Any, text: str, file: str) -> ComposeError:
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "cannot be read"
    context = getattr(error, "context", None)
    lines = text.splitlines()
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    if mark is None:
        position = getattr(error, "position", 0)
        line, column = text.count("\n", 0, position) + 1, position - text.rfind("\n", 0, position)
    elif mark.line < len(lines):
        line, column = mark.line + 1, mark.column + 1
    else:  # where the text ends
        line = max((number for number, content in enumerate(lines, 1) if content.strip()), default=1)
        column = len(lines[line - 1].rstrip()) + 1 if lines else 1
    hint = _syntax_hint(problem, context or "", lines, line, column) or _quote_hint(text, line)
    message = f"invalid YAML: {problem}" + (f" ({context})" if context else "")
    source = lines[line - 1] if line <= len(lines) else None
    return ComposeError("E003", message, at=Place(file, line, column), line_text=source or None, hint=hint)


def _syntax_hint(problem: str, context: str, lines: list[str], line: int, column: int) -> str | None:
    """What is likely to be wrong on a line where the parser gave up."""
    source = lines[line - 1] if line <= len(lines) else ""
    if "\t" in source[:column]:
        return "indent with spaces: YAML allows no tabs"
    if "mapping values are not allowed" in problem:
        before = next((number for number in range(line - 1, 0, -1) if lines[number - 1].strip()), 0)
        key = lines[before - 1].strip() if before else ""
        if _BARE_KEY.fullmatch(key):
            return f"line {before} may lack a colon: {key}:"
        return "quote the value if it holds ': ', or check the indentation"
    if source[column - 1 : column] in ("@", "`", "%"):
        return f"quote a value that starts with {source[column - 1]}"
    if "block" in context and source[: column - 1].isspace():
        return "check the indentation: the line begins where none of those above it does"
    return None


def _quote_hint(text: str, line: int) -> str | None:
    """Tell of the last quote before the line where the parser gave up, if it spans lines: one may be missing."""
    import yaml

    last, reader = None, getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        for token in yaml.scan(text, Loader=reader):
            if token.start_mark.line >= line:
                break
            if isinstance(token, yaml.ScalarToken) and token.style in ("'", '"'):
                last = token
    except yaml.YAMLError as error:
        opening = getattr(error, "context_mark", None)
        if opening and "quoted scalar" in (getattr(error, "context", None) or ""):
            return f"close the quote that opens in line {opening.line + 1}"
    if last is None or last.start_mark.line == last.end_mark.line:
        return None
    return f"the quote that opens in line {last.start_mark.line + 1} ends in line {last.end_mark.line + 1}: is one missing?"


class _Composer:
    """Builds trees from the parser's events, so that aliases, tags and limits are ours to decide."""

    def __init__(self, parser: Any, file: str, budget: Budget) -> None:
        self._next = parser.get_event
        self._file = file
        self.errors: list[ComposeError] = []
        self._anchors: dict[str, Any] = {}
        self._open: set[str] = set()
        self._nodes = 0
        self._budget = budget
        self._measures: dict[int, tuple[int, int]] = {}
        self._measured: list[Any] = []  # keeps what was measured alive, so that no id is used twice

    def documents(self) -> Iterator[Any]:
        """Each document's tree."""
        count = 0
        while (event := self._next()) is not None and type(event).__name__ != "StreamEndEvent":
            if type(event).__name__ != "DocumentStartEvent":
                continue
            count += 1
            if count > MAX_DOCUMENTS:
                raise self._fail("E006", f"the file has more than {MAX_DOCUMENTS} documents", event)
            self._anchors, self._open = {}, set()
            tree = self._node(self._next(), 0)
            yield tree.value if isinstance(tree, _Tagged) else tree
        self._budget.add_nodes(self._nodes, Place(self._file, 1, 1), "all files of the project have")

    def _place(self, event: Any) -> Place:
        mark = event.start_mark
        return Place(self._file, mark.line + 1, mark.column + 1)

    def _fail(self, code: str, message: str, event: Any, hint: str | None = None, width: int = 1) -> ComposeError:
        return ComposeError(code, message, at=self._place(event), hint=hint, width=width)

    def _note(self, error: ComposeError) -> None:
        """Keep an error after which the rest can be read all the same, unless there are many."""
        self.errors.append(error)
        if len(self.errors) >= MANY:
            raise_all(self.errors)

    def _node(self, event: Any, depth: int) -> Any:
        name = type(event).__name__
        if name == "AliasEvent":
            return self._alias(event, depth)
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise self._fail("E006", f"the file has more than {MAX_NODES} nodes", event)
        if depth > MAX_DEPTH:
            raise self._fail("E006", f"nested more than {MAX_DEPTH} levels deep", event)
        anchor = event.anchor
        if name == "ScalarEvent":
            value = self._scalar(event)
        else:
            if anchor:
                self._open.add(anchor)
            value = self._mapping(event, depth) if name == "MappingStartEvent" else self._sequence(event, depth)
            self._open.discard(anchor)
        tag = event.tag
        if tag in ("!reset", "!override"):
            value = _Tagged(tag, value)
        if anchor:
            self._anchors[anchor] = value
        return value

    def _alias(self, event: Any, depth: int) -> Any:
        name = event.anchor
        if name in self._open:
            raise self._fail("E006", f"anchor {name!r} contains itself", event)
        if name not in self._anchors:
            raise self._fail(
                "E003", f"unknown anchor {name!r}", event, "define it with '&' before the '*' that uses it"
            )
        value = self._anchors[name]
        size, levels = self._measure(value.value if isinstance(value, _Tagged) else value)
        self._nodes += size
        if self._nodes > MAX_NODES:
            raise self._fail("E006", f"aliases expand to more than {MAX_NODES} nodes", event)
        if depth + levels > MAX_DEPTH:
            raise self._fail("E006", f"aliases nest more than {MAX_DEPTH} levels deep", event)
        return value

    def _measure(self, value: Any) -> tuple[int, int]:
        """What a finished tree counts for, each alias counted as often as it is used, and how deep it is."""
        if not isinstance(value, (Map, Seq)):
            return measure(value), 1
        if id(value) not in self._measures:
            inner = [self._measure(item) for item in (value.values() if isinstance(value, Map) else value)]
            keys = sum(weight(key) - 1 for key in value) if isinstance(value, Map) else 0
            size, depth = 1 + keys + sum(size for size, _ in inner), 1 + max((depth for _, depth in inner), default=0)
            self._measures[id(value)] = (size, depth)
            self._measured.append(value)
        return self._measures[id(value)]

    def _sequence(self, event: Any, depth: int) -> Seq:
        sequence = Seq(place=self._place(event))
        while type(item := self._next()).__name__ != "SequenceEndEvent":
            place = self._place(item)
            value = self._node(item, depth + 1)
            if isinstance(value, _Tagged):
                if value.tag == "!reset":
                    continue
                value = value.value
            sequence.add(value, place)
        return sequence

    def _mapping(self, event: Any, depth: int) -> Map:
        mapping = Map(place=self._place(event))
        merged: list[Map] = []
        lines: dict[str, Any] = {}
        overrides: set[str] = set()
        while type(key_event := self._next()).__name__ != "MappingEndEvent":
            key = self._key(key_event, depth)
            if key in lines:
                first = lines[key].start_mark.line + 1
                message = f'mapping key "{key}" already defined at line {first}'
                self._note(self._fail("E004", message, key_event, "remove one of the two", len(key)))
                self._node(self._next(), depth + 1)
                continue
            lines[key] = key_event
            value_event = self._next()
            place = (self._place(key_event), self._place(value_event))
            value = self._node(value_event, depth + 1)
            if key == _MERGE and getattr(key_event, "implicit", (True, False))[0]:
                merged = self._merge_sources(value, value_event)
                continue
            if isinstance(value, _Tagged):
                if value.tag == "!override":
                    overrides.add(key)
                value = RESET if value.tag == "!reset" else value.value
            mapping.put(key, value, place)
        for source in merged:
            for key in source:
                if key not in mapping:
                    mapping.take(key, source)
                    if key in source.overrides:
                        overrides.add(key)
        mapping.overrides = frozenset(overrides)
        return mapping

    def _scalar(self, event: Any) -> Any:
        try:
            return _scalar(event)
        except ValueError:
            hint = "base64 has groups of four letters, digits, + and /, and = at the end"
            raise self._fail("E016", "cannot read the value of !!binary as base64", event, hint) from None

    def _key(self, event: Any, depth: int) -> str:
        key = self._node(event, depth + 1)
        if isinstance(key, str) and not isinstance(key, Timestamp):
            return str(key)
        text = getattr(event, "value", None)
        hint = f'write "{text}":' if text else "keys of a Compose file are strings"
        if type(event).__name__ == "MappingStartEvent" and event.flow_style:
            hint = "{{ … }} belongs to a template: render the file first, or quote the value"
        error = self._fail("E005", f"key {text or 'of this mapping'} is not a string", event, hint, len(text or "-"))
        if not text:
            raise error
        self._note(error)
        return str(text)

    def _merge_sources(self, value: Any, event: Any) -> list[Map]:
        sources = list(value) if isinstance(value, Seq) else [value]
        if not all(isinstance(source, Map) for source in sources):
            raise self._fail("E003", "a merge key '<<' takes a mapping or a list of mappings", event)
        return sources


class _Tagged:
    __slots__ = ("tag", "value")

    def __init__(self, tag: str, value: Any) -> None:
        self.tag = tag
        self.value = value


def _scalar(event: Any) -> Any:
    text, tag = event.value, event.tag
    if tag is None or tag == "!":
        return resolve(text) if event.implicit[0] and tag is None else text
    if tag in ("!reset", "!override") and event.style in (None, "") and resolve(text) is None:
        return None
    short = tag.removeprefix("tag:yaml.org,2002:")
    if short == "float" and isinstance(number := resolve(text), (int, float)):
        return float(number)
    if short in ("int", "bool", "null", "float"):
        return resolve(text)
    if short == "binary":
        import base64

        return base64.b64decode("".join(text.split()), validate=True).decode("utf-8", "replace")
    return text


def resolve(text: str) -> Any:
    """The value of a plain scalar."""
    first = text[:1]
    if first not in "0123456789+-.":
        return _WORDS.get(text, text) if len(text) <= 5 else text
    if text in _WORDS:
        return _WORDS[text]
    plain = text.replace("_", "")
    if len(plain) <= MAX_DIGITS and _INTEGER.fullmatch(plain):
        value = _integer(plain)
        if -(1 << 63) <= value < 1 << 64:
            return value
    if _TIMESTAMP.fullmatch(text) and _is_date(text):
        return Timestamp(text)
    if _FLOAT.fullmatch(plain) and math.isfinite(number := float(plain)):
        return number
    return text


def _integer(text: str) -> int:
    sign = -1 if text[0] == "-" else 1
    digits = text.lstrip("+-").lower()
    if len(digits) > 1 and digits[0] == "0" and digits[1].isdigit():
        return sign * int(digits, 8)
    return sign * int(digits, 0)


def _is_date(text: str) -> bool:
    month, day = re.split("[-Tt ]", text)[1:3]
    return 1 <= int(month) <= 12 and 1 <= int(day) <= 31


def format_scalar(value: Any) -> str:
    """A scalar as Go prints it with %v: what becomes of a number in `environment` or `labels`."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return format_float(value)
    return "" if value is None else str(value)


def format_float(value: float) -> str:
    """A float in Go's %v: shortest digits, an exponent from 1e+06 up and below 1e-04."""
    if value != value:
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "+Inf" if value > 0 else "-Inf"
    from decimal import Decimal

    if value == 0 or 1e-4 <= abs(value) < 1e6:
        text = format(Decimal(repr(value)), "f")
        return text.rstrip("0").rstrip(".") if "." in text else text
    sign, numerals, power = Decimal(repr(value)).normalize().as_tuple()
    digits = "".join(map(str, numerals))
    exponent = int(power) + len(digits) - 1
    digits = ("-" if sign else "") + digits[0] + (f".{digits[1:]}" if digits[1:] else "")
    return f"{digits}e{int(exponent):+03d}"
