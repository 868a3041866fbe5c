from __future__ import annotations

import json
import threading
import time
from itertools import groupby
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import logs
from engine.runtime import logwriter
from engine.runtime.logwriter import STDERR, STDOUT, JsonLog, RawLog
from engine.types import LogRecord

NAMES = {STDOUT: "stdout", STDERR: "stderr"}
PIECES = st.lists(st.tuples(st.sampled_from([STDOUT, STDERR]), st.binary(min_size=1, max_size=40)), max_size=30)
LINES = st.lists(
    st.tuples(st.sampled_from([STDOUT, STDERR]), st.text(max_size=20).map(lambda text: text.replace("\n", "") + "\n")),
    max_size=30,
)


def write_all(log: logwriter.NoLog, pieces: list[tuple[int, bytes]]) -> None:
    for stream, data in pieces:
        log.write(stream, memoryview(data))
    log.flush()
    log.close()


def joined(records: list[LogRecord]) -> list[tuple[str, bytes]]:
    """The output by stream, neighbours of one stream joined."""
    groups = groupby(records, key=lambda record: record.stream)
    return [(str(stream), b"".join(record.data for record in group)) for stream, group in groups]


def expected(pieces: list[tuple[int, bytes]]) -> list[tuple[str, bytes]]:
    groups = groupby(pieces, key=lambda piece: piece[0])
    return [(NAMES[stream], b"".join(data for _, data in group)) for stream, group in groups]


def test_writer_and_reader_agree_on_the_index() -> None:
    assert logs.INDEX_RECORD.format == logwriter.INDEX_RECORD.format


@given(PIECES)
@settings(max_examples=50)
def test_a_raw_log_gives_back_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[tuple[int, bytes]]
) -> None:
    directory = str(tmp_path_factory.mktemp("log"))
    write_all(RawLog(directory, None, 1), pieces)
    assert joined(list(logs.read(directory))) == expected(pieces)


@given(LINES)
@settings(max_examples=50)
def test_a_json_log_gives_back_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, lines: list[tuple[int, str]]
) -> None:
    directory = str(tmp_path_factory.mktemp("log"))
    pieces = [(stream, text.encode()) for stream, text in lines]
    write_all(JsonLog(directory, "abc", None, 1), pieces)
    assert joined(list(logs.read(directory))) == expected(pieces)


@given(st.binary(max_size=300))
def test_any_bytes_make_valid_json(data: bytes) -> None:
    for line in logwriter.json_piece(data, STDOUT).splitlines() if b"\n" not in data else []:
        entry = json.loads(line)
        assert set(entry) == {"log", "stream", "time"}
        assert entry["log"] == data.decode("utf-8", "replace")


def test_json_lines_have_dockers_form(tmp_path: Path) -> None:
    write_all(JsonLog(str(tmp_path), "abc", None, 1), [(STDERR, b'say "hi"\there\n'), (STDERR, b"no end")])
    first, second = [json.loads(line) for line in (tmp_path / "abc-json.log").read_text().splitlines()]
    assert first["log"] == 'say "hi"\there\n'
    assert first["stream"] == "stderr"
    assert len(first["time"]) == len("2026-01-01T00:00:00.000000000Z")
    assert second["log"] == "no end"


def test_json_cuts_long_lines_as_docker_does(tmp_path: Path) -> None:
    write_all(JsonLog(str(tmp_path), "abc", None, 1), [(STDOUT, b"x" * 40000), (STDOUT, b"y\n")])
    lengths = [len(json.loads(line)["log"]) for line in (tmp_path / "abc-json.log").read_text().splitlines()]
    assert lengths == [16384, 16384, 40000 - 32768 + 2]


@given(PIECES, st.integers(0, 20))
@settings(max_examples=60)
def test_tail_gives_the_last_lines(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[tuple[int, bytes]], tail: int
) -> None:
    directory = str(tmp_path_factory.mktemp("log"))
    only_stdout = [(STDOUT, data) for _, data in pieces]
    write_all(RawLog(directory, None, 1), only_stdout)
    whole = b"".join(data for _, data in only_stdout)
    lines = whole.split(b"\n")
    ended = lines[:-1] if lines[-1] == b"" else lines
    kept = b"\n".join(ended[max(len(ended) - tail, 0) :]) + (b"\n" if whole.endswith(b"\n") else b"")
    found = b"".join(record.data for record in logs.read(directory, tail=tail))
    assert found == (kept if tail and whole else b"")


def test_tail_counts_lines_of_both_streams(tmp_path: Path) -> None:
    pieces = [(STDOUT, b"a\n"), (STDERR, b"b\n"), (STDOUT, b"c\n"), (STDERR, b"d\n")]
    write_all(RawLog(str(tmp_path), None, 1), pieces)
    assert [record.data for record in logs.read(str(tmp_path), tail=3)] == [b"b\n", b"c\n", b"d\n"]


@pytest.mark.parametrize("tail", [0, 1, 5, 39, 40, 100])
def test_tail_of_a_json_log_spans_its_files(tmp_path: Path, tail: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "PIECE_BYTES", 50)
    lines = [b"%d\n" % number for number in range(40)]
    write_all(JsonLog(str(tmp_path), "abc", 1000, 50), [(STDOUT, line) for line in lines])
    assert len(list(tmp_path.iterdir())) > 1
    found = [record.data for record in logs.read(str(tmp_path), tail=tail)]
    assert found == lines[len(lines) - min(tail, 40) :]


def test_since_and_until_cut_by_time(tmp_path: Path) -> None:
    write_all(RawLog(str(tmp_path), None, 1), [(STDOUT, b"%d\n" % number) for number in range(20)])
    times = [record.time for record in logs.read(str(tmp_path))]
    found = [record.time for record in logs.read(str(tmp_path), since=times[5], until=times[15])]
    assert found == [moment for moment in times if times[5] <= moment <= times[15]]


@pytest.mark.parametrize("driver", ["raw", "json-file"])
def test_rotation_keeps_only_so_many_files(tmp_path: Path, driver: str) -> None:
    config = {"driver": driver, "dir": str(tmp_path), "max_size_bytes": 2000, "max_files": 3}
    log = logwriter.open_log(config, "abc")
    write_all(log, [(STDOUT, b"%050d\n" % number) for number in range(400)])
    found = b"".join(record.data for record in logs.read(str(tmp_path)))
    assert len(list(tmp_path.glob("*.log*"))) == 3
    assert found.endswith(b"%050d\n" % 399)
    assert found == b"".join(b"%050d\n" % number for number in range(400))[-len(found) :]
    assert all(path.stat().st_size <= 2000 for path in tmp_path.iterdir())


def test_a_log_goes_on_where_it_was_left(tmp_path: Path) -> None:
    write_all(RawLog(str(tmp_path), None, 1), [(STDOUT, b"one\n")])
    write_all(RawLog(str(tmp_path), None, 1), [(STDERR, b"two\n")])
    assert joined(list(logs.read(str(tmp_path)))) == [("stdout", b"one\n"), ("stderr", b"two\n")]


def test_bytes_that_a_killed_monitor_did_not_index_are_kept(tmp_path: Path) -> None:
    write_all(RawLog(str(tmp_path), None, 1), [(STDERR, b"one\n")])
    with open(tmp_path / "00000001.log", "ab") as data, open(tmp_path / "00000001.idx", "ab") as index:
        data.write(b"lost?\n")
        index.write(b"\1\2\3")
    write_all(RawLog(str(tmp_path), None, 1), [(STDERR, b"two\n")])
    assert joined(list(logs.read(str(tmp_path)))) == [
        ("stderr", b"one\n"),
        ("stdout", b"lost?\n"),
        ("stderr", b"two\n"),
    ]


@pytest.mark.parametrize("driver", ["raw", "json-file"])
def test_following_sees_all_across_rotation_and_ends_with_the_writer(tmp_path: Path, driver: str) -> None:
    config = {"driver": driver, "dir": str(tmp_path), "max_size_bytes": 50_000, "max_files": 50}
    log = logwriter.open_log(config, "abc")
    over = threading.Event()

    def write() -> None:
        for number in range(5000):
            log.write(STDOUT, memoryview(b"%08d\n" % number))
        log.flush()
        over.set()
        log.close()

    writer = threading.Thread(target=write)
    reader = logs.read(str(tmp_path), follow=True, ended=over.is_set)
    writer.start()
    found = b"".join(record.data for record in reader)
    writer.join()
    assert found == b"".join(b"%08d\n" % number for number in range(5000))


@pytest.mark.parametrize("driver", ["raw", "json-file"])
def test_following_goes_on_where_the_clock_is_set_back(
    tmp_path: Path, driver: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = logwriter.open_log({"driver": driver, "dir": str(tmp_path)}, "abc")

    def ended() -> bool:
        monkeypatch.setattr(logwriter.time, "time_ns", lambda: 10**18)
        write_all(log, [(STDOUT, b"after\n")])
        return True

    reader = logs.read(str(tmp_path), follow=True, since=time.time() - 60, ended=ended)
    assert [record.data for record in reader] == [b"after\n"]


def test_a_log_that_cannot_be_written_drops_output_and_says_so(tmp_path: Path) -> None:
    log = RawLog(str(tmp_path), None, 1)
    log.write(STDOUT, memoryview(b"before\n"))
    log.close()
    log._data = log._index = 10**6
    log.write(STDOUT, memoryview(b"lost\n"))
    assert "output is being dropped" in log.trouble


def test_no_log_takes_everything_and_keeps_nothing(tmp_path: Path) -> None:
    log = logwriter.open_log({"driver": "none", "dir": str(tmp_path / "log")}, "abc")
    write_all(log, [(STDOUT, b"gone")])
    assert list(logs.read(str(tmp_path / "log"))) == []
