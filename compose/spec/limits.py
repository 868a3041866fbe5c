"""How much a project may hold, so that no file takes a second or fills the memory: `docs/loading.md` lists the limits."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from compose.errors import ComposeError, Place

MAX_BYTES = 1 << 20
"""Largest file that is read."""
MAX_NODES = 12_500
"""Keys and values of all files of a project, each alias, base and included file counted as often as it is used."""
MAX_FILES = 400
"""Compose files that are read for one project, each as often as it is."""
MAX_PORTS = 20_000
"""Ports that the ranges of a project stand for."""
MAX_VARIABLES = 25_000
"""What the environment files of all services hold, in variables."""
MAX_EXPANDED = 1 << 19
"""Characters that the variables of one file may grow to."""
_LONG = 64


def weight(text: str) -> int:
    """What a scalar counts for: 1, and more where it is long."""
    return 1 + len(text) // _LONG


def measure(node: Any) -> int:
    """What a tree counts for: 1 for each value, and more where it or its key is long."""
    if isinstance(node, str):
        return weight(node)
    if isinstance(node, dict):
        return 1 + sum(len(key) // _LONG + measure(value) for key, value in node.items())
    return 1 + sum(map(measure, node)) if isinstance(node, list) else 1


class Budget:
    """What may still be read for one project."""

    def __init__(self) -> None:
        self.ports_left = MAX_PORTS
        self._nodes = self._files = self._variables = 0

    def add_nodes(self, count: int, at: Place | None, what: str = "the project has") -> None:
        """Count nodes; raises a ComposeError where there are too many."""
        self._nodes += count
        if self._nodes > MAX_NODES:
            hint = "split it into projects that share networks and volumes by external: true"
            raise ComposeError("E006", f"{what} more than {MAX_NODES} nodes, keys and values", at=at, hint=hint)

    def add_file(self, path: str) -> None:
        """Count a Compose file."""
        self._files += 1
        if self._files > MAX_FILES:
            message = f"the project reads more than {MAX_FILES} files, each as often as it is included"
            raise ComposeError("E006", message, at=Place(path, 1, 1), hint="include each file once")

    def add_variables(self, values: dict[str, str], at: Place | None) -> None:
        """Count the variables of an environment file, and the reading of it."""
        self._variables += 10 + sum(len(name + value) // _LONG for name, value in values.items()) + len(values)
        if self._variables > MAX_VARIABLES:
            message = f"the environment files of all services hold more than {MAX_VARIABLES} variables"
            hint = "a file counts for each service that reads it: give each one only what it needs"
            raise ComposeError("E030", message, at=at, hint=hint)


@contextmanager
def without_collection() -> Iterator[None]:
    """Leave the garbage collector off meanwhile: trees of this size hold no circles and cost it a third of the time."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
