from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from engine.runtime.loop import Loop


@pytest.fixture
def loop() -> Iterator[Loop]:
    made = Loop()
    yield made
    made.close()


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for fd in ends:
        try:
            os.close(fd)
        except OSError:
            continue


def test_timers_run_in_the_order_of_their_times(loop: Loop) -> None:
    seen: list[str] = []
    loop.call_later(0.02, loop.stop)
    loop.call_later(0.01, lambda: seen.append("second"))
    loop.call_later(0, lambda: seen.append("first"))
    loop.run()
    assert seen == ["first", "second"]


def test_a_cancelled_timer_never_runs(loop: Loop) -> None:
    seen: list[str] = []
    loop.cancel(loop.call_later(0, lambda: seen.append("no")))
    loop.cancel(None)
    loop.call_later(0.01, loop.stop)
    loop.run()
    assert seen == []


def test_a_reader_is_called_while_there_is_something_to_read(loop: Loop, pipe: tuple[int, int]) -> None:
    seen: list[bytes] = []
    loop.add_reader(pipe[0], lambda: seen.append(os.read(pipe[0], 1)))
    os.write(pipe[1], b"ab")
    loop.step(1)
    loop.step(1)
    loop.step(0)
    assert seen == [b"a", b"b"]


def test_a_reader_learns_of_the_end(loop: Loop, pipe: tuple[int, int]) -> None:
    seen: list[bytes] = []
    loop.add_reader(pipe[0], lambda: seen.append(os.read(pipe[0], 1)))
    os.close(pipe[1])
    loop.step(1)
    assert seen == [b""]


def test_reader_and_writer_of_one_descriptor_are_independent(loop: Loop) -> None:
    import socket

    ours, theirs = socket.socketpair()
    seen: list[str] = []
    loop.add_reader(ours.fileno(), lambda: seen.append("read"))
    loop.add_writer(ours.fileno(), lambda: seen.append("write"))
    theirs.send(b"x")
    loop.step(1)
    assert seen == ["read", "write"]
    loop.remove_writer(ours.fileno())
    loop.step(1)
    assert seen == ["read", "write", "read"]
    loop.remove(ours.fileno())
    loop.step(0)
    assert len(seen) == 3
    ours.close()
    theirs.close()


def test_a_reader_may_remove_and_close_its_descriptor(loop: Loop, pipe: tuple[int, int]) -> None:
    def close() -> None:
        loop.remove(pipe[0])
        os.close(pipe[0])

    loop.add_reader(pipe[0], close)
    os.write(pipe[1], b"x")
    loop.step(1)
    loop.step(0)


def test_an_error_in_a_callback_goes_to_the_handler_and_the_loop_goes_on() -> None:
    errors: list[str] = []
    loop = Loop(lambda error: errors.append(str(error)))

    def fail() -> None:
        raise ValueError("broken")

    loop.call_later(0, fail)
    loop.call_later(0.01, loop.stop)
    loop.run()
    loop.close()
    assert errors == ["broken"]


def test_removing_an_unknown_descriptor_is_fine(loop: Loop) -> None:
    loop.remove(12345)


def test_a_loop_that_was_stopped_before_it_ran_returns_at_once(loop: Loop) -> None:
    loop.stop()
    loop.run()
