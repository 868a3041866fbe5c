"""Checks a tree against the grammar and reports every problem at once, each with its place and what was expected."""

from __future__ import annotations

from typing import Any

from compose.errors import MANY, ComposeError, Place, Warning, dotted
from compose.spec.document import RESET, Map, Seq, Texts, Timestamp, format_scalar
from compose.spec.grammar import BUILD, DEPLOY, DURATION, HEALTHCHECK, PROJECT, SERVICE, Shape

Path = tuple[str | int, ...]

_LISTS_OF_PAIRS = ("environment", "labels", "args", "annotations", "sysctls", "additional_contexts")
_ARTICLES = {
    "string": "a string",
    "integer": "an integer",
    "number": "a number",
    "boolean": "true or false",
    "null": "null",
    "array": "a list",
    "object": "a mapping",
}


def validate(
    tree: Any,
    texts: Texts,
    *,
    is_partial: bool = False,
    is_canonical: bool = False,
    warnings: list[Warning] | None = None,
    broken: list[Path] | None = None,
) -> list[ComposeError]:
    """Problems of a whole file; a partial one, which completes another, may lack required keys and hold nulls.

    In a canonical tree a mapping may come from a list, whose names are free. To `warnings` it adds the keys that are unknown
    where Docker ignores such, to `broken` the paths of what is wrong.
    """
    checker = Checker(texts, is_partial=is_partial, is_canonical=is_canonical)
    errors = checker.check(tree, PROJECT)
    if warnings is not None:
        warnings += checker.warnings
    if broken is not None:
        broken += checker.broken
    return errors


class Checker:
    """Walks a tree and its shape together, collecting problems."""

    def __init__(
        self, texts: Texts, *, is_partial: bool = False, is_canonical: bool = False, is_guessing: bool = True
    ) -> None:
        self._texts = texts
        self._is_partial = is_partial
        self._is_canonical = is_canonical
        self._is_guessing = is_guessing
        self.errors: list[ComposeError] = []
        self.warnings: list[Warning] = []
        self.broken: list[Path] = []

    def check(self, node: Any, shape: Shape, path: Path = (), place: Place | None = None) -> list[ComposeError]:
        """Check a node; returns all problems found so far."""
        place = place or getattr(node, "place", None)
        if node is RESET or (self._is_partial and node is None):
            return self.errors
        if not _has_type(node, shape.types):
            self._wrong_type(node, shape, path, place)
        elif isinstance(node, Map):
            self._check_map(node, shape, path)
        elif isinstance(node, Seq):
            self._check_seq(node, shape, path)
        else:
            self._check_value(node, shape, path, place)
        return self.errors

    def _check_map(self, node: Map, shape: Shape, path: Path) -> None:
        if shape.is_open:
            return
        is_partial, self._is_partial = self._is_partial, self._is_partial or "extends" in node
        for key, value in node.items():
            inner = shape.fields.get(key) if shape.fields is not None else None
            was_list = self._is_canonical and shape.items is not None
            if inner is None and shape.keys is not None and (was_list or shape.keys.search(key)):
                inner = shape.values
            if inner is not None:
                self.check(value, inner, (*path, key), node.value_place(key))
            elif not (shape.accepts_extensions and key.startswith("x-")):
                self._unknown_key(node, key, shape, path)
        for key in shape.required:
            if key not in node and not self._is_partial:
                self._add("E014", f'{_subject(path)} lacks the key "{key}"', path, node.place, hint=f"add {key}:")
        self._is_partial = is_partial

    def _check_seq(self, node: Seq, shape: Shape, path: Path) -> None:
        if shape.is_open or shape.items is None:
            return
        for index, (item, place) in enumerate(node.items_at()):
            self.check(item, shape.items, (*path, index), place)
        if shape.unique and len(node) > 1:
            self._check_unique(node, path)

    def _check_unique(self, node: Seq, path: Path) -> None:
        seen: dict[Any, int] = {}
        for index, item in enumerate(node):
            key = repr(item) if isinstance(item, (Map, Seq)) else (isinstance(item, str), item)
            if key in seen:
                message = f"{dotted(path)}: items {seen[key]} and {index} are equal"
                self._add("E015", message, (*path, index), node.at[index], hint="remove one of the two")
            else:
                seen[key] = index

    def _check_value(self, node: Any, shape: Shape, path: Path, place: Place | None) -> None:
        if isinstance(node, str):
            if shape.enum and node not in shape.enum:
                allowed = " or ".join((", ".join(shape.enum[:-1]), shape.enum[-1])[len(shape.enum) == 1 :])
                message = f'{dotted(path)}: "{node}" is not allowed'
                meant = closest(node, shape.enum) if len(self.errors) < MANY else None
                self._add("E013", message, path, place, len(node), f"expected {allowed}", meant)
            elif shape.pattern and not shape.pattern.search(node):
                expected = f"expected {shape.example}" if shape.example else f"expected {shape.pattern.pattern}"
                self._add("E013", f'{dotted(path)}: "{node}" is not allowed', path, place, len(node), expected)
        elif isinstance(node, (int, float)) and not isinstance(node, bool):
            self._check_range(node, shape, path, place)

    def _check_range(self, node: float, shape: Shape, path: Path, place: Place | None) -> None:
        expected = ""
        if shape.minimum is not None and node < shape.minimum:
            expected = f"expected at least {shape.minimum}"
        elif shape.maximum is not None and node > shape.maximum:
            expected = f"expected at most {shape.maximum}"
        if expected:
            self._add("E013", f"{dotted(path)}: {node} is out of range", path, place, len(str(node)), expected)

    def _wrong_type(self, node: Any, shape: Shape, path: Path, place: Place | None) -> None:
        types = [t for t in shape.types if t != "null"] or list(shape.types)
        if len(types) > 1 and "string" in types and not isinstance(node, (Map, Seq)):
            types = [t for t in types if t not in ("array", "object")]
        expected = " or ".join(_ARTICLES[t] for t in types)
        width = len(format_scalar(node)) if not isinstance(node, (Map, Seq)) else 1
        hint: str | None = None
        if isinstance(node, (int, float, Timestamp)) and types == ["string"]:
            hint = f"write {_yaml_word(node)}s for seconds" if shape is DURATION else f'quote it: "{_yaml_word(node)}"'
        elif isinstance(node, Map) and types == ["string"]:
            hint = _item_with_a_colon(node, path)
        elif shape.example:
            hint = f"for example {path[-1]}: {shape.example}" if path else None
        message = f"{dotted(path) or 'the file'} must be {expected}, not {_describe(node)}"
        self._add("E011", message, path, place, max(width, 1), f"expected {expected}", hint=hint)

    def _unknown_key(self, node: Map, key: str, shape: Shape, path: Path) -> None:
        if shape.fields is None:
            message = f'{dotted(path)}: "{key}" is not a valid name'
            names = "use letters, digits, '.', '_' and '-'"
            self._add("E013", message, (*path, key), node.key_place(key), len(key), hint=names)
            return
        guesses = self._is_guessing and len(self.errors) + len(self.warnings) < MANY
        suggestion = closest(key, shape.fields) if guesses else None
        owner = f'service "{path[1]}"' if len(path) == 2 and path[0] == "services" else dotted(path)
        example = shape.fields[suggestion].example if suggestion else None
        hint = f"{suggestion}: {example}" if example else None
        if not suggestion and shape.accepts_extensions:
            hint = _where_it_belongs(key, node[key], shape) or "remove it, or start it with 'x-' if it is your own"
        message = f'unknown key "{key}" in {owner or "the file"}'
        if shape.is_lenient:
            meant = f"; did you mean {suggestion}?" if suggestion else ""
            self.warnings.append(Warning(node.key_place(key), f"{message} is ignored{meant}"))
            return
        self._add("E012", message, (*path, key), node.key_place(key), len(key), None, suggestion, hint)

    def _add(
        self,
        code: str,
        message: str,
        path: Path,
        place: Place | None,
        width: int = 1,
        expected: str | None = None,
        suggestion: str | None = None,
        hint: str | None = None,
    ) -> None:
        error = ComposeError(
            code,
            message,
            at=place,
            path=dotted(path),
            line_text=self._texts.line(place),
            width=width,
            expected=expected,
            suggestion=suggestion,
            hint=hint,
        )
        self.errors.append(error)
        self.broken.append(path)


def _has_type(node: Any, types: tuple[str, ...]) -> bool:
    if isinstance(node, str):
        return "string" in types and not isinstance(node, Timestamp)
    if node is None:
        return "null" in types
    if isinstance(node, bool):
        return "boolean" in types
    if isinstance(node, int):
        return "integer" in types or "number" in types
    if isinstance(node, float):
        return "number" in types or ("integer" in types and node.is_integer())
    return ("object" if isinstance(node, Map) else "array") in types


def _describe(node: Any) -> str:
    if isinstance(node, Map):
        return "a mapping"
    if isinstance(node, Seq):
        return "a list"
    if isinstance(node, Timestamp):
        return f"the date {node}"
    if node is None:
        return "empty"
    return f'"{node}"' if isinstance(node, str) else f"{_yaml_word(node)}"


def _yaml_word(node: Any) -> str:
    return format_scalar(node)


def _item_with_a_colon(node: Map, path: Path) -> str | None:
    """What to write for a list's item whose colon has made a mapping of it."""
    if len(node) != 1 or not path or not isinstance(path[-1], int):
        return None
    ((key, value),) = node.items()
    if isinstance(value, (Map, Seq)):
        return None
    if path[-2] in _LISTS_OF_PAIRS:
        return f'write "{key}={format_scalar(value)}", or leave out the dashes'
    return f'quote it: "{key}: {format_scalar(value)}"'


def _where_it_belongs(key: str, value: Any, shape: Shape) -> str | None:
    """Where a key that is unknown in this place is known."""
    if shape is PROJECT:
        if key in (SERVICE.fields or {}):
            return "it belongs to a service, under services:"
        is_service = isinstance(value, Map) and ("image" in value or "build" in value)
        return "a service stands under services:" if is_service else None
    homes = (
        {"deploy": DEPLOY, "build": BUILD, "healthcheck": HEALTHCHECK} if shape is SERVICE else {"a service": SERVICE}
    )
    found = [name for name, home in homes.items() if key in (home.fields or {}) and home is not shape]
    return f"it belongs to {' or '.join(found)}" if found else None


def _subject(path: Path) -> str:
    return dotted(path) or "the file"


MOST_CANDIDATES = 500
"""Among how many a likeness is looked for, and for how many errors of a file: each costs time."""


def closest(word: str, candidates: Any) -> str | None:
    """The candidate that the word most likely was meant to be."""
    import difflib

    if len(candidates) > MOST_CANDIDATES:
        return None
    lowered = {str(candidate).lower(): str(candidate) for candidate in candidates}
    wanted = word.lower().replace("-", "_")
    found = difflib.get_close_matches(wanted, lowered, 1, 0.7)
    # Too short to be like anything, letters in another order are.
    found = found or [candidate for candidate in lowered if sorted(candidate) == sorted(wanted)]
    return lowered[found[0]] if found else None
