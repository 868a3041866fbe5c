"""A frozen class behaves as the standard library's does: each check runs on both."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from collections.abc import Mapping
from dataclasses import FrozenInstanceError, dataclass, field
from typing import Any

import pytest

from engine.frozen import frozen


@frozen
class Ours:
    """A value."""

    a: int
    b: str = "b"
    secret: str = field(default="s", repr=False)
    note: str = field(default="n", compare=False)
    options: Mapping[str, int] = field(default_factory=dict)

    def twice(self) -> int:
        return 2 * self.a


@frozen
class OursBelow(Ours):
    """A value with one field more."""

    c: int = 3


@dataclass(frozen=True, slots=True)
class Theirs:
    """A value."""

    a: int
    b: str = "b"
    secret: str = field(default="s", repr=False)
    note: str = field(default="n", compare=False)
    options: Mapping[str, int] = field(default_factory=dict)

    def twice(self) -> int:
        return 2 * self.a


@dataclass(frozen=True, slots=True)
class TheirsBelow(Theirs):
    """A value with one field more."""

    c: int = 3


@pytest.fixture(params=[(Ours, OursBelow), (Theirs, TheirsBelow)], ids=["ours", "standard"])
def kinds(request: pytest.FixtureRequest) -> tuple[Any, Any]:
    kinds: tuple[Any, Any] = request.param
    return kinds


def test_values_are_made_compared_and_shown(kinds: tuple[Any, Any]) -> None:
    kind, below = kinds
    assert kind(1) == kind(a=1, b="b") != kind(2)
    assert kind(1, note="x") == kind(1, note="y")
    assert kind(1) != below(1)
    assert repr(kind(1)) == f"{kind.__name__}(a=1, b='b', note='n', options={{}})"
    assert (below(1, "x", c=4).c, below(1).twice(), kind(1).options is not kind(1).options) == (4, 2, True)


def test_what_has_hashable_fields_has_a_hash(kinds: tuple[Any, Any]) -> None:
    kind, _ = kinds
    assert hash(kind(1, options=())) == hash(kind(1, note="x", options=()))
    with pytest.raises(TypeError, match="unhashable"):
        hash(kind(1))


def test_nothing_can_be_changed_or_added(kinds: tuple[Any, Any]) -> None:
    value = kinds[0](1)
    with pytest.raises(FrozenInstanceError, match="cannot assign to field 'a'"):
        value.a = 2
    with pytest.raises(FrozenInstanceError, match="cannot delete field 'a'"):
        del value.a
    with pytest.raises((FrozenInstanceError, TypeError)):
        value.unknown = 2
    assert not hasattr(value, "__dict__")


@pytest.mark.parametrize("arguments", [((), {}), ((1, "b", "s", "n", {}, 6), {}), ((1,), {"a": 1}), ((1,), {"z": 1})])
def test_wrong_arguments_are_refused(kinds: tuple[Any, Any], arguments: tuple[Any, Any]) -> None:
    values, named = arguments
    with pytest.raises(TypeError):
        kinds[0](*values, **named)


def test_the_standard_functions_work(kinds: tuple[Any, Any]) -> None:
    kind, below = kinds
    assert dataclasses.replace(kind(1), b="c") == kind(1, "c")
    assert dataclasses.asdict(below(1))["c"] == 3
    assert [each.name for each in dataclasses.fields(below)] == ["a", "b", "secret", "note", "options", "c"]
    match kind(5):
        case Ours(a) | Theirs(a):
            assert a == 5
        case _:
            pytest.fail("no match")


def test_values_are_copied_and_pickled(kinds: tuple[Any, Any]) -> None:
    value = kinds[1](1, options={"x": 1}, c=9)
    assert copy.copy(value) == copy.deepcopy(value) == pickle.loads(pickle.dumps(value)) == value
    assert copy.deepcopy(value).options is not value.options
