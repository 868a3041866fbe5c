"""The build graph: which stages the target needs, and in which order they can be built."""

from __future__ import annotations

from collections.abc import Collection, Mapping


def stages_in_order(uses: Mapping[int, Collection[int]], target: int) -> list[int]:
    """The target and all stages that it needs, each after those that it uses; else in the file's order.

    `uses` tells for each stage which others it copies from, mounts or is based on.
    """
    if not uses[target]:
        return [target]  # nothing else is to be done, and networkx takes 160 ms to import
    from networkx import DiGraph, ancestors, lexicographical_topological_sort

    graph = DiGraph((used, stage) for stage, all_used in uses.items() for used in all_used)
    needed = graph.subgraph({target, *ancestors(graph, target)})
    return list(lexicographical_topological_sort(needed))
