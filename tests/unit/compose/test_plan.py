from __future__ import annotations

import importlib.metadata

import pytest

from compose import graph
from compose.plan import AwaitContainer, Change, PlanBuilder, StartContainer
from compose.version import VERSION
from engine.errors import InvalidInput


def test_a_plan_prints_one_line_for_each_operation() -> None:
    builder = PlanBuilder("p")
    first = builder.add("service:db:1", StartContainer("p-db-1"), "not started yet")
    builder.add("service:web:1", StartContainer("p-web-1"), "created", after=[first, None])
    assert str(builder.plan()) == (
        "[] -> #1 service:db:1, StartContainer, not started yet\n[1] -> #2 service:web:1, StartContainer, created"
    )


def test_leaving_operations_out_keeps_the_order_of_the_rest() -> None:
    builder = PlanBuilder("p")
    first = builder.add("service:db:1", StartContainer("p-db-1"), "a")
    wait = builder.add("service:db:1", AwaitContainer("p-db-1", "ready"), "b", after=[first])
    builder.add("service:web:1", StartContainer("p-web-1"), "c", after=[wait])
    plan = builder.plan().only(lambda operation: isinstance(operation.action, StartContainer))
    assert [(operation.id, operation.after) for operation in plan] == [(1, ()), (3, (1,))]


def test_a_plan_that_only_waits_changes_nothing() -> None:
    builder = PlanBuilder("p")
    builder.add("service:db:1", AwaitContainer("p-db-1", "ready"), "asked for with --wait")
    assert builder.plan()
    assert not builder.plan().changes_something


def test_a_change_shows_both_values() -> None:
    assert str(Change("environment.X", "a", None)) == 'environment.X: "a" → (none)'
    assert str(Change("init", None, True)) == "init: (none) → true"


def test_services_are_ordered_after_what_they_need_and_otherwise_as_given() -> None:
    assert graph.order({"web": ["db"], "cache": [], "db": []}) == ["cache", "db", "web"]
    assert graph.order({"b": [], "a": []}) == ["b", "a"]


def test_a_cycle_is_shown_as_a_path_at_its_place() -> None:
    with pytest.raises(InvalidInput) as caught:
        graph.order({"x": [], "a": ["b"], "b": ["c"], "c": ["a"]}, {"a": "compose.yaml:3:3"})
    assert caught.value.message == "dependency cycle detected: a -> b -> c -> a"
    assert caught.value.place == "compose.yaml:3:3"


def test_the_version_is_that_of_the_package() -> None:
    assert importlib.metadata.version("umiak") == VERSION
