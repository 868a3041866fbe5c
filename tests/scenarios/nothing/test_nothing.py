"""Commands on a project that is not there, or no longer."""

from __future__ import annotations

from tests.stack import Stack


def test_down_of_nothing_is_no_error(stack: Stack) -> None:
    stack.down("-v")


def test_down_twice_is_no_error(stack: Stack) -> None:
    stack.up()
    stack.down("-v")
    stack.down("-v")


def test_ps_and_logs_of_nothing_are_empty(stack: Stack) -> None:
    assert stack.containers() == {}
    assert stack.umiak("logs").stdout == ""


def test_an_unknown_service_is_named(stack: Stack) -> None:
    for verb in ("ps", "logs", "up"):
        assert "no-such" in stack.umiak(verb, "no-such", exit_code=1).stderr


def test_down_needs_no_file_when_the_project_is_named(stack: Stack) -> None:
    stack.up()
    stack.host.umiak("-p", "nothing", "down", "-v")
    assert stack.states() == {}
