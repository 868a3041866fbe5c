"""The order of services: a directed graph of who needs whom. The only user of networkx, which is imported when asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

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
    if not any(needs.values()):
        return [list(needs)]  # the common case, and networkx takes 160 ms to import
    from networkx import topological_generations

    graph = _graph(needs)
    _refuse_cycle(graph, places or {})
    rank = {name: position for position, name in enumerate(needs)}
    return [sorted(level, key=lambda name: rank[name]) for level in topological_generations(graph)]


def _graph(needs: Mapping[str, Sequence[str]]) -> DiGraph[str]:
    from networkx import DiGraph

    graph: DiGraph[str] = DiGraph()
    graph.add_nodes_from(needs)
    graph.add_edges_from(
        (needed, name) for name, all_needed in needs.items() for needed in all_needed if needed in needs
    )
    return graph


def _refuse_cycle(graph: DiGraph[str], places: Mapping[str, str]) -> None:
    from networkx import NetworkXNoCycle, find_cycle

    try:
        edges = find_cycle(graph)
    except NetworkXNoCycle:
        return
    # An edge leads from what is needed to who needs it; people read it the other way round.
    path = [edge[1] for edge in reversed(edges)]
    start = min(range(len(path)), key=lambda position: list(graph).index(path[position]))
    path = path[start:] + path[:start]
    raise InvalidInput(
        f"dependency cycle detected: {' -> '.join([*path, path[0]])}",
        hint="remove one of these from depends_on, links, volumes_from or network_mode",
        place=places.get(path[0]),
    )
