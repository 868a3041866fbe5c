from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import InvalidInput, UmiakError
from engine.images.build.instructions import read
from engine.images.build.parse import parse
from engine.images.build.stages import group


def rests(text: str) -> list[tuple[str, str]]:
    return [(statement.keyword, statement.rest) for statement in parse(text, "Dockerfile")]


def test_a_statement_knows_its_file_line_and_column() -> None:
    statements = parse("# a comment\n\nFROM a\n  RUN b\n", "web/Dockerfile")
    assert [str(statement.place) for statement in statements] == ["web/Dockerfile:3:1", "web/Dockerfile:4:3"]


def test_lines_are_continued_over_comments_and_blank_lines() -> None:
    assert rests("RUN a \\\n# why\n\n  && b \\  \n  && c\nUSER x") == [("RUN", "a   && b   && c"), ("USER", "x")]


def test_a_doubled_backslash_does_not_continue_a_line() -> None:
    assert rests("RUN a\\\\\nUSER x") == [("RUN", "a\\\\"), ("USER", "x")]


def test_a_file_may_have_crlf_and_a_byte_order_mark() -> None:
    assert rests("\ufeffFROM a\r\nRUN b \\\r\n c\r\n") == [("FROM", "a"), ("RUN", "b  c")]


def test_the_escape_directive_changes_the_continuation() -> None:
    assert rests("# escape=`\nRUN a `\n b\\\nUSER x") == [("RUN", "a  b\\"), ("USER", "x")]


def test_a_directive_below_a_comment_is_a_comment() -> None:
    assert rests("# hello\n# escape=`\nRUN a \\\n b") == [("RUN", "a  b")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("# escape=x\nFROM a", "Dockerfile:1:1: cannot use 'x' as the escape character"),
        ("# escape=`\n# escape=`\nFROM a", "Dockerfile:2:1: directive 'escape' given twice"),
        ("FROM a\nRUN b\0", "Dockerfile:2:6: NUL byte: this is not a text file"),
        ("FROM a\nRUN <<EOF\nb\n", "Dockerfile:2:1: here-document 'EOF' has no end"),
    ],
)
def test_what_cannot_be_read_is_told_with_its_place(text: str, message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse(text, "Dockerfile")
    assert str(caught.value) == message


def test_flags_are_the_leading_words_with_dashes() -> None:
    (statement,) = parse('COPY --from=a --chown="b c" x --y /z', "Dockerfile")
    assert statement.flags == (("from", "a"), ("chown", "b c"))
    assert statement.rest == "x --y /z"


def test_here_documents_belong_to_the_statement_that_opened_them() -> None:
    one, two = parse("COPY <<A <<-'B' /x/\n$a\nA\n\tb\n\tB\nRUN c\n", "Dockerfile")
    assert [(doc.name, doc.content, doc.expand) for doc in one.heredocs] == [("A", "$a\n", True), ("B", "b\n", False)]
    assert (two.keyword, str(two.place)) == ("RUN", "Dockerfile:6:1")


def test_only_run_copy_and_add_have_here_documents() -> None:
    assert rests("CMD cat <<EOF\nUSER x") == [("CMD", "cat <<EOF"), ("USER", "x")]


KEYWORDS = "FROM RUN COPY ADD ENV ARG LABEL CMD ENTRYPOINT WORKDIR USER EXPOSE VOLUME SHELL ONBUILD HEALTHCHECK STOPSIGNAL MAINTAINER"
SIGNS = [
    "\n",
    "\\\n",
    " ",
    "=",
    "$",
    "${",
    "}",
    "[",
    "]",
    '"',
    "'",
    "\\",
    "<<EOF",
    "EOF\n",
    "# escape=`\n",
    "AS",
    "CMD",
    "NONE",
]
VALUES = [
    "a",
    "--from=",
    "--mount=type=",
    "cache,target=/",
    "--exclude=",
    "--link",
    "--network=",
    "\r\n",
    "${a##",
    "--chmod=",
    "--interval=1s",
    "80-",
    "/",
    "${a:-b}",
    '["a"]',
    '["\\ud800"]',
    "\0",
    "é",
]
FRAGMENTS = st.one_of(st.sampled_from([*KEYWORDS.split(), *SIGNS, *VALUES]), st.text(max_size=5))


@settings(max_examples=300, deadline=None)
@given(st.lists(FRAGMENTS, max_size=30).map("".join))
def test_no_text_makes_the_parser_fail_in_another_way_than_ours(text: str) -> None:
    try:
        group(parse(text, "Dockerfile"), "Dockerfile")
    except UmiakError as error:
        place = error.place
    else:
        place = "Dockerfile:"
    assert place is not None
    assert place.startswith("Dockerfile:")


@given(
    st.lists(st.text(st.characters(exclude_characters="\n\r\\\0", exclude_categories=["Cs"]), min_size=1), max_size=5)
)
def test_each_line_gives_at_most_one_statement(lines: list[str]) -> None:
    for statement in parse("\n".join(lines), "Dockerfile"):
        assert 1 <= statement.place.line <= len(lines)


def test_reading_a_statement_twice_gives_equal_instructions() -> None:
    (statement,) = parse("HEALTHCHECK --interval=1m30s --retries=2 CMD curl -f x", "Dockerfile")
    assert read(statement) == read(statement)
