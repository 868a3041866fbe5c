from __future__ import annotations

from compose.output import Ended, Follower, Line, Span, lines, written
from engine.events import Record
from engine.types import LogRecord
from tests.unit.compose.stack import FakeStack


def record(time: float, text: str, stream: str = "stdout") -> LogRecord:
    return LogRecord(time, stream, text.encode())  # type: ignore[arg-type]


def test_records_are_cut_into_lines_dated_by_their_first_byte() -> None:
    found = list(lines("c", [record(1, "one\ntw"), record(2, "o\nthree\r\n"), record(3, "no end")]))
    assert [(line.time, line.data) for line in found] == [(1, b"one"), (1, b"two"), (2, b"three"), (3, b"no end")]


def test_the_two_streams_do_not_mix_within_a_line() -> None:
    found = list(lines("c", [record(1, "a"), record(2, "X\n", "stderr"), record(3, "b\n")]))
    assert [(line.stream, line.data) for line in found] == [("stderr", b"X"), ("stdout", b"ab")]


def test_an_endless_line_comes_in_pieces() -> None:
    found = list(lines("c", [record(1, "x" * 70000), record(2, "y\n")]))
    assert [len(line.data) for line in found] == [70000, 1]


def test_lines_of_several_containers_are_merged_by_time(stack: FakeStack) -> None:
    stack.write("services: {a: {image: app}, b: {image: app}}").up()
    stack.engine.logs = lambda ref, **_: iter(  # type: ignore[method-assign]
        [record(1, "a1\n"), record(4, "a4\n")]
        if stack.engine.container(ref).name == "p-a-1"
        else [record(2, "b2\n"), record(3, "b3\n")]
    )
    found = written(stack.engine, stack.engine.containers(), Span())  # type: ignore[arg-type]
    assert [line.data for line in found] == [b"a1", b"b2", b"b3", b"a4"]


def test_following_ends_with_how_each_container_ended(stack: FakeStack) -> None:
    stack.engine.programs["a"] = "exit 3"
    stack.write("services: {a: {image: app}}").up()
    follower = Follower(stack.engine)  # type: ignore[arg-type]
    follower.follow(stack.engine.container("p-a-1"), Span())
    found = list(follower)
    assert [item.data for item in found if isinstance(item, Line)] == [b"first line", b"last words"]
    assert found[-1] == Ended("p-a-1", 3, stack.engine.container("p-a-1").id)


def test_how_a_removed_container_ended_is_found_among_the_events(stack: FakeStack) -> None:
    stack.engine.programs["a"] = "exit 3"
    stack.write("services: {a: {image: app}}").up()
    container = stack.engine.container("p-a-1")
    ends = [
        Record(n, "container", "die", id, {"exitCode": code}) for n, id, code in ((1, container.id, "7"), (2, "x", "1"))
    ]
    stack.engine.events = lambda **_: iter(ends)  # type: ignore[attr-defined]
    stack.engine.remove_container("p-a-1", force=True)
    follower = Follower(stack.engine)  # type: ignore[arg-type]
    follower.follow(container, Span())
    assert list(follower)[-1] == Ended("p-a-1", 7, container.id)
