from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Any

import pytest

from compose.errors import ComposeError, Place
from compose.spec.document import RESET, Map, Texts, Timestamp, find_place, format_scalar, parse, read
from compose.spec.limits import MAX_BYTES


def value(text: str) -> Any:
    return parse(f"a: {text}", "f.yaml")[0]["a"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("010", 8),
        ("0o17", 15),
        ("0x1f", 31),
        ("0b101", 5),
        ("1_000", 1000),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("08", 8.0),
        ("22:22", "22:22"),
        ("yes", "yes"),
        ("on", "on"),
        ("True", True),
        ("~", None),
        ("", None),
        ("'1'", "1"),
        ("!!str 1", "1"),
        ("!unknown 1", "1"),
        ("18446744073709551615", 18446744073709551615),
    ],
)
def test_plain_scalars_mean_what_go_yaml_says(text: str, expected: object) -> None:
    found = value(text)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize("text", ["1" * 5000, "1e400", "-1e400", "0x" + "f" * 5000])
def test_a_number_that_go_cannot_hold_is_text(text: str) -> None:
    assert value(text) == text


def test_binary_is_decoded_and_must_be_base64() -> None:
    assert value("!!binary aGk=") == "hi"
    with pytest.raises(ComposeError, match="base64") as caught:
        value("!!binary aGk")
    assert caught.value.at == Place("f.yaml", 1, 4)


def test_an_iso_date_is_no_string() -> None:
    assert isinstance(value("2020-01-01"), Timestamp)
    assert type(value("2020-13-01")) is str


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (1.0, "1"),
        (0.5, "0.5"),
        (1e3, "1000"),
        (1e21, "1e+21"),
        (1e-5, "1e-05"),
        (1e6, "1e+06"),
        (-1234567.5, "-1.2345675e+06"),
        (True, "true"),
    ],
)
def test_numbers_become_text_as_go_prints_them(number: float, text: str) -> None:
    assert format_scalar(number) == text


def test_every_node_knows_its_place() -> None:
    tree = parse("services:\n  web:\n    ports:\n      - 80\n      - 81\n", "f.yaml")[0]
    assert find_place(tree, ("services", "web")) == Place("f.yaml", 2, 3)
    assert find_place(tree, ("services", "web", "ports", 1)) == Place("f.yaml", 5, 9)
    assert find_place(tree, ("services", "web", "nothing", "here")) == Place("f.yaml", 2, 3)


def test_merge_keys_are_shallow_and_the_first_source_wins() -> None:
    tree = parse("x: &a {k: 1, l: 1}\ny: &b {k: 2, m: 2}\nz:\n  <<: [*a, *b]\n  l: 3\n", "f.yaml")[0]
    assert tree["z"] == {"l": 3, "k": 1, "m": 2}


def test_reset_and_override_survive_aliases_and_merge_keys() -> None:
    tree = parse("x: &a {p: !reset [], q: !override [1]}\nz:\n  <<: *a\n", "f.yaml")[0]
    assert tree["z"]["p"] is RESET
    assert tree["z"].overrides == {"q"}


def test_an_anchor_may_be_defined_twice() -> None:
    assert parse("a: &x 1\nb: &x 2\nc: *x\n", "f.yaml")[0]["c"] == 2


@pytest.mark.parametrize(
    ("text", "code", "line", "column"),
    [
        ("a: 1\nb: [\n", "E003", 2, 5),
        ("a:\n\tb: 1\n", "E003", 2, 1),
        ("a: 'x\n", "E003", 1, 6),
        ("a: b: c\n", "E003", 1, 5),
        ("a: *nope\n", "E003", 1, 4),
        ("a: 1\nb: 2\na: 3\n", "E004", 3, 1),
        ("a:\n  1: x\n", "E005", 2, 3),
        ("? [a]\n: b\n", "E005", 1, 3),
        ("a: &a [*a]\n", "E006", 1, 8),
        ("a: \x07\n", "E003", 1, 4),
    ],
)
def test_broken_yaml_is_one_error_with_its_place(text: str, code: str, line: int, column: int) -> None:
    with pytest.raises(ComposeError) as caught:
        parse(text, "f.yaml")
    assert caught.value.code == code
    assert caught.value.at is not None
    assert (caught.value.at.line, caught.value.at.column) == (line, column)


def test_an_alias_bomb_is_refused_at_once() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 20)]
    started = time.perf_counter()
    with pytest.raises(ComposeError, match="aliases expand to more than"):
        parse("\n".join(lines), "f.yaml")
    assert time.perf_counter() - started < 0.1


@pytest.mark.parametrize("text", ["[" * 5000, "{a: " * 5000, "- " * 5000, "a:\n" + " " * 4000 + "- b"])
def test_deep_nesting_is_an_error_or_harmless(text: str) -> None:
    with contextlib.suppress(ComposeError):
        parse(text, "f.yaml")


def test_too_many_nodes_are_refused() -> None:
    with pytest.raises(ComposeError, match="more than 12500 nodes"):
        parse("- a\n" * 120_000, "f.yaml")


def test_unreadable_files_say_why(tmp_path: Path) -> None:
    texts = Texts()
    (tmp_path / "latin").write_bytes(b"a: b\nc: \xe9\n")
    (tmp_path / "big").write_bytes(b"#" * (MAX_BYTES + 1))
    expected = {"nothing": "no such file", ".": "directory", "latin": "not UTF-8", "big": "larger than"}
    for name, message in expected.items():
        with pytest.raises(ComposeError, match=message):
            read(str(tmp_path / name), texts)


def test_a_byte_order_mark_is_ignored(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert parse(read(str(tmp_path / "f"), Texts()), "f") == [{"a": 1}]


def test_several_documents_come_in_order() -> None:
    assert parse("a: 1\n---\nb: 2\n", "f.yaml") == [{"a": 1}, {"b": 2}]


def test_an_empty_mapping_is_a_map() -> None:
    assert isinstance(value("{}"), Map)
