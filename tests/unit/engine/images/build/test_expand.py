from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import InvalidInput, UmiakError
from engine.images.build.expand import expand, expand_heredoc

VARIABLES = {"a": "x", "empty": "", "path": "one/two/two.tar.gz"}


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("$a", "x"),
        ("${a}b$a", "xbx"),
        ("$missing.", "."),
        ("\\$a", "$a"),
        ("'$a'", "$a"),
        ('"$a b"', "x b"),
        ('"\\$a \\" \\n"', '$a " \\n'),
        ("${a:-y}", "x"),
        ("${missing:-y}", "y"),
        ("${missing:-$a-${a}}", "x-x"),
        ("${empty:-y}", "y"),
        ("${empty-y}", ""),
        ("${missing-y}", "y"),
        ("${a:+y}", "y"),
        ("${empty:+y}", ""),
        ("${empty+y}", "y"),
        ("${missing+y}", ""),
        ("${a:?no}", "x"),
        ("${path#*/}", "two/two.tar.gz"),
        ("${path##*/}", "two.tar.gz"),
        ("${path%.*}", "one/two/two.tar"),
        ("${path%%.*}", "one/two/two"),
        ("${path/two/2}", "one/2/two.tar.gz"),
        ("${path//two/2}", "one/2/2.tar.gz"),
        ("${path//\\//-}", "one-two-two.tar.gz"),
        ("$", "$"),
        ("a$/b", "a$/b"),
        ("", ""),
    ],
)
def test_words_expand_as_in_a_shell(word: str, value: str) -> None:
    assert expand(word, VARIABLES.get) == value


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("${a", "'${a' has no closing brace"),
        ("${}", "cannot read the variable in '${}'"),
        ("${a:=b}", "unknown modifier in '${a:=b}'"),
        ("'a", "a single quote is not closed"),
        ('"a', "a double quote is not closed"),
        ("${missing:?tell me}", "missing: tell me"),
    ],
)
def test_a_broken_word_is_refused(word: str, message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        expand(word, VARIABLES.get)
    assert caught.value.message == message


def test_quotes_stay_in_a_here_document() -> None:
    assert expand_heredoc("\"$a\" 'b' \\$a \\n\n", VARIABLES.get) == "\"x\" 'b' $a \\n\n"


def test_nesting_is_bounded() -> None:
    with pytest.raises(InvalidInput):
        expand("${b:-" * 500 + "}" * 500, VARIABLES.get)


@given(st.text(st.sampled_from("a$b{}:-+?#%/\\\"'* "), max_size=30))
def test_no_word_fails_in_another_way_than_ours(word: str) -> None:
    try:
        expand(word, VARIABLES.get)
    except UmiakError:
        pass


@given(st.text(st.characters(exclude_characters="$\\'\"", exclude_categories=["Cs"])))
def test_a_plain_word_stays_as_it_is(word: str) -> None:
    assert expand(word, VARIABLES.get) == word
