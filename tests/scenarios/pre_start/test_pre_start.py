"""Containers that run to their end before the service starts: once, as long as they are defined alike."""

from __future__ import annotations

import pytest

from tests.stack import Stack

pytestmark = pytest.mark.umiak("v5 has it")

RUNNING = {"pre_start-web-1": "running", "pre_start-web-2": "running"}


def test_they_run_before_the_start_and_not_again(stack: Stack) -> None:
    log = stack.directory / "notes" / "log"
    stack.up()
    assert log.read_text().splitlines() == ["once 1", "each", "each"]
    assert stack.states() == RUNNING
    stack.umiak("stop", "-t", "0")
    stack.up()
    stack.up("--force-recreate")
    assert len(log.read_text().splitlines()) == 3
    stack.replace("STEP=1", "STEP=2")
    stack.up()
    assert sorted(log.read_text().splitlines()[3:]) == ["each", "each", "once 2"]


def test_start_runs_them_before_the_first_start_of_what_was_only_created(stack: Stack) -> None:
    log = stack.directory / "notes" / "log"
    stack.umiak("create")
    assert not log.exists()
    (stack.directory / "notes" / "fail").touch()
    stack.umiak("-p", "pre_start", "start", exit_code=1)
    (stack.directory / "notes" / "fail").unlink()
    log.unlink()
    for _ in range(2):
        stack.umiak("-p", "pre_start", "start")
        assert sorted(log.read_text().splitlines()) == ["each", "each", "once 1"]
        assert stack.states() == RUNNING
        stack.umiak("stop", "-t", "0")


def test_one_that_fails_is_kept_and_the_service_does_not_start(stack: Stack) -> None:
    fail = stack.directory / "notes" / "fail"
    fail.touch()
    assert "no luck" in stack.up(exit_code=1).stderr
    stack.wait_until(lambda: set(stack.states().values()) == {"exited"}, "only what failed to be left")
    assert not any(name[-6:] == "-web-1" for name in stack.states())
    fail.unlink()
    stack.up()
    assert stack.states() == RUNNING
