"""Where each value of a loaded project comes from: a line of a file, a variable, an env file, or a default.

Nothing is recorded while loading: nodes keep their places through merging, so places are compared with the files afterwards.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, NamedTuple

from compose.errors import ComposeError, Place
from compose.model.project import split_path
from compose.spec import document, dotenv
from compose.spec.document import Map, Seq
from compose.spec.interpolate import variables
from compose.spec.load import LoadOptions, load, load_tree
from compose.spec.render import to_data
from compose.spec.validate import closest

Path = tuple[str | int, ...]


ENV_FILE = "env file"


class Origin(NamedTuple):
    """One value: its path and text, the place it was written at, how it got there, and the variables in it."""

    path: Path
    value: Any
    place: Place | None
    how: str
    variables: tuple[str, ...] = ()


def origins(options: LoadOptions, wanted: str) -> list[Origin]:
    """The origins of all values below `SERVICE[.path]`."""
    project = load(options)
    finder = Finder(options)
    steps: Path = split_path(wanted.removeprefix("services."))
    node: Any = to_data(project, is_json=False)["services"]
    for position, step in enumerate(steps):
        inner = dict(enumerate(node)) if isinstance(node, list) else node if isinstance(node, dict) else {}
        if step not in inner:
            parent = ".".join(map(str, steps[:position]))
            message = f"{parent or 'the project'} has no {step}"
            raise ComposeError("E061" if not position else "E040", message, suggestion=closest(str(step), inner))
        node = inner[step]
    return [finder.origin(path, value) for path, value in leaves(node, ("services", *steps))]


def leaves(node: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    """The values below a node, each with its path."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    if not node or not isinstance(node, (dict, list)):
        yield path, node
    for key, value in items:
        yield from leaves(value, (*path, key))


class Finder:
    """Finds origins in the project that the options describe, which loads."""

    def __init__(self, options: LoadOptions) -> None:
        loaded = load_tree(options)
        self._tree: Map = loaded.tree
        self._files = loaded.found.files
        self._given = options.environment
        self._environment = loaded.found.environment
        self._raw: dict[str, dict[Place, str]] = {}

    def origin(self, path: Path, value: Any) -> Origin:
        """Where the value at a path comes from."""
        place = self._place(path)
        if place is None:
            if len(path) == 4 and path[2] == "environment" and (found := self._in_env_file(path)):
                return Origin(path, value, found, ENV_FILE)
            return Origin(path, value, None, "default")
        if len(path) == 4 and path[2] == "environment" and self._has_no_value(path):
            return Origin(path, value, place, self._source(str(path[3])), (str(path[3]),))
        used = tuple(variables(self._written(place)))
        return Origin(path, value, place, ", ".join([self._layer(place), *map(self._source, used)]), used)

    def _place(self, path: Path) -> Place | None:
        """Where the value was written; None where no file did."""
        node: Any = self._tree
        place: Place | None = None
        for depth, step in enumerate(path):
            if isinstance(node, Map) and step in node:
                if step not in node.at and depth == 2:
                    return None  # an attribute that no file sets
                place = node.value_place(str(step)) or place
            elif isinstance(node, Seq) and isinstance(step, int) and step < len(node):
                place = node.at[step] or place
            else:
                return None if isinstance(node, (Map, Seq)) else place
            node = node[step]
        return place

    def value(self, name: str) -> str:
        """What a variable is replaced with."""
        return str(self._environment.get(name) or "")

    def _has_no_value(self, path: Path) -> bool:
        return self._tree["services"][path[1]]["environment"].get(path[3]) is None

    def _in_env_file(self, path: Path) -> Place | None:
        """The line of the last env file that sets a variable."""
        for entry in reversed(self._tree["services"][path[1]].get("env_file") or ()):
            if not os.path.isfile(entry["path"]):  # a pipe has been read and has no lines to point at
                continue
            if path[3] not in dotenv.read(entry["path"], self._environment, raw=entry.get("format") == "raw"):
                continue
            return Place(entry["path"], _line_of(entry["path"], str(path[3])), 1)
        return None

    def _source(self, name: str) -> str:
        if name in self._given:
            return f"variable {name} of the environment"
        return f"variable {name} of the env file" if name in self._environment else f"variable {name}, which is not set"

    def _layer(self, place: Place) -> str:
        if place.file not in self._files:
            return "included or extended file"
        return "override" if self._files.index(place.file) else "file"

    def _written(self, place: Place) -> str:
        """The text at a place before variables were replaced."""
        if place.file not in self._raw:
            self._raw[place.file] = {}
            for tree in document.parse(document.read(place.file, document.Texts()), place.file):
                self._collect(tree, None)
        return self._raw[place.file].get(place, "")

    def _collect(self, node: Any, place: Place | None) -> None:
        if isinstance(node, str) and place:
            self._raw[place.file][place] = node
        elif isinstance(node, Map):
            for key, value in node.items():
                self._collect(value, node.value_place(key))
        elif isinstance(node, Seq):
            for item, at in node.items_at():
                self._collect(item, at)


def _line_of(path: str, name: str) -> int:
    with open(path, encoding="utf-8", errors="replace") as file:
        found = [n for n, line in enumerate(file, 1) if line.removeprefix("export ").lstrip().startswith(name)]
    return found[-1] if found else 1
