from __future__ import annotations

import pytest

from compose.errors import Place
from compose.spec.document import Texts, parse
from compose.spec.interpolate import Interpolator, InvalidTemplate, RequiredVariable, Variable, substitute, variables

VALUES = {"SET": "value", "EMPTY": "", "OTHER": "x"}


def text(template: str) -> str:
    return substitute(template, VALUES.get, lambda _: None)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("$SET", "value"),
        ("${SET}", "value"),
        ("a$SET-b", "avalue-b"),
        ("$UNSET", ""),
        ("${UNSET:-d}", "d"),
        ("${EMPTY:-d}", "d"),
        ("${EMPTY-d}", ""),
        ("${UNSET-d}", "d"),
        ("${SET:+r}", "r"),
        ("${EMPTY:+r}", ""),
        ("${EMPTY+r}", "r"),
        ("${UNSET+r}", ""),
        ("${SET:?m}", "value"),
        ("${EMPTY?m}", ""),
        ("$$SET", "$SET"),
        ("$$$SET", "$value"),
        ("${UNSET:-${OTHER}y}", "xy"),
        ("${UNSET:-${ALSO:-$OTHER}}", "x"),
        ('${UNSET:-{"a":1}}', '{"a":1}'),
        ("${UNSET:-http://h:80/?q=1}", "http://h:80/?q=1"),
        ("${SET:-${UNSET:?not asked for}}", "value"),
        ("$1 $ $(SET) $ {SET}", "$1 $ $(SET) $ {SET}"),
    ],
)
def test_forms_of_variables(template: str, expected: str) -> None:
    assert text(template) == expected


@pytest.mark.parametrize(
    "template", ["${", "${}", "${SET", "${ SET }", "${1}", "${SET/a/b}", "${#SET}", "${SET^^}", "${a.b}"]
)
def test_invalid_forms_are_refused(template: str) -> None:
    with pytest.raises(InvalidTemplate):
        text(template)


def test_a_required_variable_tells_its_message() -> None:
    with pytest.raises(RequiredVariable, match="required variable UNSET is missing a value: set value"):
        text("${UNSET:?set $SET}")


def test_unset_variables_warn_once_and_point() -> None:
    tree = parse("services:\n  a:\n    image: x$NOPE\n    command: $NOPE\n", "f.yaml")[0]
    interpolator = Interpolator({}, Texts())
    assert interpolator.tree(tree)["services"]["a"]["image"] == "x"
    assert [str(warning.place) for warning in interpolator.warnings] == ["f.yaml:3:12"]


def test_keys_are_never_interpolated() -> None:
    tree = parse("services:\n  a:\n    environment:\n      $SET: 1\n", "f.yaml")[0]
    assert Interpolator(VALUES, Texts()).tree(tree)["services"]["a"]["environment"] == {"$SET": 1}


def test_numbers_and_booleans_are_cast() -> None:
    tree = parse("services:\n  a:\n    cpus: '${C:-0.5}'\n    init: 'yes'\n    scale: '2'\n    image: '2'\n", "f.yaml")[
        0
    ]
    assert Interpolator({}, Texts()).tree(tree)["services"]["a"] == {
        "cpus": 0.5,
        "init": True,
        "scale": 2,
        "image": "2",
    }


def test_the_variables_of_a_file_are_listed() -> None:
    tree = parse("a: '$A ${B:-b${C}} $$D'\nb: ['${E:?gone}', '${F:+f}']\n", "f.yaml")[0]
    assert variables(tree) == {
        "A": Variable("A"),
        "B": Variable("B", default="b${C}"),
        "C": Variable("C"),
        "E": Variable("E", is_required=True),
        "F": Variable("F", alternate="f"),
    }


def test_a_failed_cast_points_at_the_value() -> None:
    interpolator = Interpolator({}, Texts())
    interpolator.tree(parse("services:\n  a:\n    tty: maybe\n", "f.yaml")[0])
    assert interpolator.errors[0].at == Place("f.yaml", 3, 10)
