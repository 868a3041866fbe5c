from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compose.spec.document import parse
from compose.spec.yamltext import Sorted, write

# YAML knows no lone surrogates, and a reader folds \r and the like into line breaks only where they are not escaped.
TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=12) | st.sampled_from(
    [
        "yes",
        "1:30",
        "0x1f",
        "~",
        "null",
        "- a",
        "a: b",
        "a #b",
        "#",
        "'",
        '"',
        "\n",
        "a\n",
        "\na",
        " a\n b",
        "2020-01-01",
        "$x",
        "<<",
    ]
)
SCALARS = st.none() | st.booleans() | st.integers(-(1 << 62), 1 << 62) | TEXT
TREES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT.filter(lambda k: k != "<<"), inner, max_size=4),
)


@given(st.dictionaries(st.just("a") | st.just("b"), TREES, min_size=1))
def test_what_is_written_reads_as_itself(data: dict[str, Any]) -> None:
    assert parse(write(data), "f.yaml") == [data]


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("plain", "plain"),
        ("yes", '"yes"'),
        ("12", '"12"'),
        ("1:30", '"1:30"'),
        ("", '""'),
        ("x: y", "'x: y'"),
        ("a # b", "'a # b'"),
        ("*x", "'*x'"),
        ("it's", "it's"),
        ("'a", "'''a'"),
        ("tab\tx", '"tab\\tx"'),
        ("a\nb", "|-\n  a\n  b"),
        ("a\n\n", "|+\n  a\n"),
        (" lead\n", "|2\n   lead"),
        ("a \nb", '"a \\nb"'),
        ("\x01", '"\\x01"'),
        ("é", "é"),
    ],
)
def test_texts_are_quoted_as_docker_quotes_them(text: str, written: str) -> None:
    assert write({"k": text}) == f"k: {written}\n"


def test_free_keys_come_in_natural_order() -> None:
    keys = ["a10", "a9", "b", "A", "a", "a1b", "a01", "a.b", "_x", "10", "9"]
    lines = write(Sorted(dict.fromkeys(keys, 1))).splitlines()
    order = ["_x", "9", "10", "A", "a", "a.b", "a1b", "a01", "a9", "a10", "b"]
    assert [line.split(":")[0].strip('"') for line in lines] == order


def test_lists_in_mappings_are_indented() -> None:
    data = {"a": [{"b": 1, "c": [2]}, [3]], "d": {}, "e": []}
    assert write(data) == "a:\n  - b: 1\n    c:\n      - 2\n  - - 3\nd: {}\ne: []\n"
