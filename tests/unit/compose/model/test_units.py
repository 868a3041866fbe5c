from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compose.model.units import MAX_INT64, Duration, parse_bytes, parse_float, single_precision
from compose.spec.shellwords import split


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("90s", "1m30s"),
        ("1h5m30s20ms", "1h5m30.02s"),
        ("1d2h", "26h0m0s"),
        ("1w", "168h0m0s"),
        ("1.5s", "1.5s"),
        ("150ms", "150ms"),
        ("1us", "1µs"),
        ("0", "0s"),
        ("0s", "0s"),
        ("-1s", "-1s"),
        ("1h", "1h0m0s"),
    ],
)
def test_durations_print_in_gos_form(text: str, printed: str) -> None:
    assert str(Duration.parse(text)) == printed


@pytest.mark.parametrize("text", ["", "10", "abc", "1x", "s", "1s ", "1h 2m", "9999999999999h"])
def test_other_durations_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        Duration.parse(text)


@given(st.integers(-MAX_INT64, MAX_INT64))
def test_a_printed_duration_reads_as_itself(nanoseconds: int) -> None:
    assert Duration.parse(str(Duration(nanoseconds))) == nanoseconds


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("64m", 64 << 20),
        ("1g", 1 << 30),
        ("1.5GiB", 3 << 29),
        ("10 kb", 10 << 10),
        ("512", 512),
        ("7b", 7),
        ("1e6", 10**6),
        (".5k", 512),
        ("2T", 2 << 40),
    ],
)
def test_sizes_count_in_powers_of_1024(text: str, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "m", "1x", "1mm", "-1", "1 2", "1kbb", "0x10", "1ki"])
def test_other_sizes_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="size"):
        parse_bytes(text)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("echo hi", ["echo", "hi"]),
        ("echo 'a b' \"c d\"", ["echo", "a b", "c d"]),
        ("echo ''", ["echo", ""]),
        (r"a\ b", ["a b"]),
        (r'"x\ny"', ["xny"]),
        ("echo a;b", ["echo", "a"]),
        ("echo a | b", ["echo", "a"]),
        ("echo 2>x", ["echo"]),
        ("echo $(date -u) `id -u`", ["echo", "$(date -u)", "`id -u`"]),
        ("", []),
        ("a\nb", ["a", "b"]),
    ],
)
def test_command_lines_split_as_docker_splits_them(line: str, words: list[str]) -> None:
    assert split(line) == words


@pytest.mark.parametrize("line", ["'", '"a', "a\\", "(a)", "$(a"])
def test_open_quotes_are_refused(line: str) -> None:
    with pytest.raises(ValueError, match="quote"):
        split(line)


@pytest.mark.parametrize(
    ("text", "size"),
    [("+5", 5), ("1_000", 1000), ("1e3k", 1000 << 10), ("9007199254740993", 1 << 53), (".5m", 1 << 19)],
)
def test_a_size_is_a_number_as_go_reads_it(text: str, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", [" 5", "5 ", "inf", "nan", "1e400", "", "0x10", "1__0"])
def test_what_go_reads_as_no_finite_number_is_none(text: str) -> None:
    with pytest.raises(ValueError, match="not a number"):
        parse_float(text)


@pytest.mark.parametrize(
    ("given", "stored"), [(0.1, 0.1), (123456789.123, 123456790.0), (0.123456789, 0.12345679), (0, 0)]
)
def test_shares_and_ratios_have_single_precision(given: float, stored: float) -> None:
    assert single_precision(given) == stored
