from __future__ import annotations

from pathlib import Path

import pytest

from compose.errors import ComposeError
from compose.spec.dotenv import load_files, parse, parse_raw, read


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A=1", "1"),
        ("export A=1", "1"),
        ("A: 1", "1"),
        ("A = 1 ", "1"),
        ("A=a # comment", "a"),
        ("A=a# no comment", "a# no comment"),
        ("A= #c", "#c"),
        ('A="a # b" # c', "a # b"),
        ('A="x"y', "x"),
        (r'A="a\tb\\c\"d\$E\0101"', 'a\tb\\c"d$EA'),
        (r"A='a\nb $C it\'s'", r"a\nb $C it's"),
        ("A='two\nlines'", "two\nlines"),
        ('A="x\n# not a comment\ny"', "x\n# not a comment\ny"),
        ("A=$HOME_DIR/x", "/home/x"),
        ("A=${UNSET:-d}", "d"),
        ("A=pass__$85858", "pass__$85858"),
        ("A=1\nA=2", "2"),
        ("A=1\r\n", "1"),
        ("A=", ""),
    ],
)
def test_the_compose_grammar(text: str, expected: str) -> None:
    assert parse(text, ".env", {"HOME_DIR": "/home"})["A"] == expected


def test_a_name_alone_takes_the_value_of_the_environment() -> None:
    assert parse("A\nB\n", ".env", {"A": "1"}) == {"A": "1"}


def test_later_variables_use_earlier_ones() -> None:
    assert parse("A=1\nB=$A\n", ".env", {})["B"] == "1"


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("A=1\nA B=2", 2, "key cannot contain a space"),
        ('A=1\n\nB="open', 3, "unterminated quoted value"),
        ("A=${B", 1, "invalid template"),
        ("A=${B:?gone}", 1, "required variable B is missing a value: gone"),
        ("A%=1", 1, "unexpected character"),
    ],
)
def test_a_broken_line_is_named(text: str, line: int, message: str) -> None:
    with pytest.raises(ComposeError, match=message) as caught:
        parse(text, ".env", {})
    assert caught.value.at is not None
    assert caught.value.at.line == line


def test_the_raw_grammar_takes_values_as_they_stand() -> None:
    assert parse_raw('A="1" # $B\n# c\nC\n D= x\n', "f", {"C": "c"}) == {"A": '"1" # $B', "C": "c", "D": " x"}


@pytest.mark.parametrize("text", ["export A=1", "A = 1", "=x"])
def test_the_raw_grammar_refuses_what_docker_refuses(text: str) -> None:
    with pytest.raises(ComposeError):
        parse_raw(text, "f", {})


def test_of_several_files_the_later_wins_and_the_environment_serves_first(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("A=1\nB=1\n")
    (tmp_path / "b").write_text("B=2\nC=$A$X\n")
    values = load_files([str(tmp_path / "a"), str(tmp_path / "b")], {"X": "x"}, [])
    assert values == {"A": "1", "B": "2", "C": "1x"}


def test_files_that_cannot_be_read_are_errors(tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes(b"A=\xff\n")
    for name in ("nothing", ".", "latin"):
        with pytest.raises(ComposeError):
            read(str(tmp_path / name), {})
