from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import InvalidInput, UmiakError
from engine.images.build.ignore import read_rules


@pytest.mark.parametrize(
    ("lines", "path", "ignored"),
    [
        ("a", "a", True),
        ("a", "a/b/c", True),
        ("a", "b/a", False),
        ("/a", "a", True),
        ("a/", "a/b", True),
        ("*/a", "b/a", True),
        ("*/a", "b/c/a", False),
        ("*.md", "README.md", True),
        ("*.md", "docs/README.md", False),
        ("**/*.md", "README.md", True),
        ("**/*.md", "a/b/README.md", True),
        ("**/a", "a", True),
        ("a/**", "a/b/c", True),
        ("a/**", "a", False),
        ("a/**/b", "a/b", True),
        ("a/**/b", "a/c/d/b", True),
        ("**", "a/b", True),
        ("a?", "ab", True),
        ("a?", "a/", False),
        ("[a-c]x", "bx", True),
        ("[^a-c]x", "bx", False),
        ("[^a-c]x", "dx", True),
        ("a\\*", "a*", True),
        ("a\\*", "ab", False),
        ("a.b", "axb", False),
        ("./a/../b", "b", True),
        ("# a", "# a", False),
        ("*\n!a", "a", False),
        ("*\n!a", "b", True),
        ("*\n!a", "a/b", False),
        ("!a\n*", "a", True),
        ("*.md\n!README*.md\nREADME-secret.md", "README.md", False),
        ("*.md\n!README*.md\nREADME-secret.md", "README-secret.md", True),
        ("  a  ", "a", True),
        ("", "a", False),
        (".", "a", False),
    ],
)
def test_patterns_decide_as_dockers_do(lines: str, path: str, ignored: bool) -> None:
    assert read_rules(lines, ".dockerignore").ignores(path) is ignored


def test_the_line_that_hides_a_path_is_known() -> None:
    deciding = read_rules("*.md\n\n*.tmp\n", ".dockerignore").deciding("a.tmp")
    assert deciding is not None
    assert (deciding.place, deciding.text) == (".dockerignore:3:1", "*.tmp")


@pytest.mark.parametrize("line", ["!", "a\n[b", "a\\", "[]"])
def test_a_pattern_that_cannot_be_read_is_told_with_its_place(line: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        read_rules(line, ".dockerignore")
    assert caught.value.place is not None


@given(st.text(st.sampled_from("ab*?[]^!-\\/.# \n"), max_size=20), st.text(st.sampled_from("ab/."), max_size=8))
def test_no_line_fails_in_another_way_than_ours(lines: str, path: str) -> None:
    try:
        read_rules(lines, ".dockerignore").ignores(path)
    except UmiakError:
        pass
