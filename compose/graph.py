"""The order of services: a directed graph of who needs whom.

The only user of networkx, and only to show a cycle: it takes 160 ms to import, more than `up` needs for everything else
when nothing is to be done.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NoReturn

from engine.errors import InvalidInput

if TYPE_CHECKING:
    from networkx import DiGraph


def order(needs: Mapping[str, Sequence[str]], places: Mapping[str, str] | None = None) -> list[str]:
    """Sort names so that each comes after all that it needs; names that could go either way keep their given order.

    Raise InvalidInput showing the path where some need each other, at the place of the first in `places`.
    """
    return [name for level in levels(needs, places) for name in level]


def levels(needs: Mapping[str, Sequence[str]], places: Mapping[str, str] | None = None) -> list[list[str]]:
    """Group names into levels: those of one level need only names of the levels before it."""
    waiting = {name: {needed for needed in all_needed if needed in needs} for name, all_needed in needs.items()}
    found: list[list[str]] = []
    done: set[str] = set()
    while waiting:
        level = [name for name, missing in waiting.items() if missing <= done]
        if not level:
            _refuse_cycle(_graph(needs), places or {})
        found.append(level)
        done.update(level)
        waiting = {name: missing for name, missing in waiting.items() if name not in done}
    return found or [[]]


def _graph(needs: Mapping[str, Sequence[str]]) -> DiGraph[str]:
    from networkx import DiGraph

    graph: DiGraph[str] = DiGraph()
    graph.add_nodes_from(needs)
    graph.add_edges_from(
        (needed, name) for name, all_needed in needs.items() for needed in all_needed if needed in needs
    )
    return graph


def _refuse_cycle(graph: DiGraph[str], places: Mapping[str, str]) -> NoReturn:
    from networkx import find_cycle

    edges = find_cycle(graph)
    # An edge leads from what is needed to who needs it; people read it the other way round.
    path = [edge[1] for edge in reversed(edges)]
    start = min(range(len(path)), key=lambda position: list(graph).index(path[position]))
    path = path[start:] + path[:start]
    raise InvalidInput(
        f"dependency cycle detected: {' -> '.join([*path, path[0]])}",
        hint="remove one of these from depends_on, links, volumes_from or network_mode",
        place=places.get(path[0]),
    )
