"""Small files that stand for huge ones: refused with a place before they cost time or memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from compose.errors import ComposeError
from compose.model.units import Duration
from compose.spec import dotenv
from compose.spec.document import parse
from compose.spec.interpolate import MAX_EXPANSION, TooLong, substitute
from compose.spec.load import LoadOptions, load

DOUBLING = "A0=0123456789\n" + "".join(f"A{n}=$A{n - 1}$A{n - 1}$A{n - 1}$A{n - 1}\n" for n in range(1, 30))


def failure(path: Path, text: str, **environment: str) -> ComposeError:
    path.write_text(text)
    with pytest.raises(ComposeError) as caught:
        load(LoadOptions(files=(str(path),), environment=environment))
    return caught.value


def test_an_environment_file_whose_variables_repeat_each_other_is_refused() -> None:
    with pytest.raises(ComposeError, match="exceed 4 MiB") as caught:
        dotenv.parse(DOUBLING, "/x.env", {})
    assert caught.value.at is not None
    assert caught.value.at.line == 11


def test_the_same_in_the_file_beside_the_project(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(DOUBLING)
    error = failure(tmp_path / "compose.yaml", "services: {a: {image: x}}\n")
    assert (error.code, str(error.at).rpartition("/")[2]) == ("E030", ".env:11:1")


def test_a_long_variable_that_many_texts_use_is_refused_once(tmp_path: Path) -> None:
    labels = "".join(f"      k{n}: $BIG$BIG\n" for n in range(50))
    text = f"services:\n  a:\n    image: x\n    labels:\n{labels}"
    error = failure(tmp_path / "compose.yaml", text, BIG="x" * 100_000)
    assert error.code == "E006"
    assert error.at is not None
    assert error.at.line == 25
    assert not hasattr(error, "errors")


def test_what_variables_stand_for_is_counted_before_it_is_put_together() -> None:
    with pytest.raises(TooLong):
        substitute("${A:+$A$A$A}" * 100_000, {"A": "x" * 1_000_000}.get, lambda _: None)
    fits = "$A" * (MAX_EXPANSION // 100)
    assert len(substitute(fits, {"A": "x" * 100}.get, lambda _: None)) == len(fits) * 50


def test_a_long_text_counts_as_often_as_aliases_repeat_it() -> None:
    repeated = "b: [{}]\n".format(",".join(["*a"] * 60))
    for value in (f'"{"x" * 100_000}"', f'{{? "{"k" * 100_000}" : 1}}'):
        with pytest.raises(ComposeError, match="aliases expand to more than") as caught:
            parse(f"a: &a {value}\n{repeated}", "/c.yaml")
        assert caught.value.code == "E006"
    assert parse(f'a: &a "{"x" * 10_000}"\n{repeated}', "/c.yaml")


def test_a_line_of_many_statements_is_read_like_many_lines() -> None:
    text = "".join(f'A{n}="$U"' for n in range(20_000))
    assert len(dotenv.parse(text, "/x.env", {})) == 20_000


def test_warnings_of_an_environment_file_name_their_lines() -> None:
    warnings: list[object] = []
    dotenv.parse("A=$U\n\n# a\nB='1\n2'\nC=\"$V\"\n", "/x.env", {}, warnings)  # type: ignore[arg-type]
    assert [str(warning).split(":")[1] for warning in warnings] == ["1", "6"]


def test_a_duration_of_half_a_million_parts_is_none() -> None:
    with pytest.raises(ValueError, match="as a duration"):
        Duration.parse("1h" * 500_000)
