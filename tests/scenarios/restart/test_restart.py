"""Restart policies bring back what should come back, and only that."""

from __future__ import annotations

import pytest

from tests.stack import Stack, wait_for


@pytest.mark.umiak("Docker may give a restarted container another address")
def test_always_brings_a_killed_container_back(stack: Stack) -> None:
    stack.up()
    before = stack.status("always")
    address = stack.address("always")
    stack.host.kill(before["pid"])

    after = wait_for(
        lambda: (now := stack.status("always"))["state"] == "running" and now["restart_count"] == 1 and now, "a restart"
    )
    assert after["pid"] != before["pid"]
    assert stack.address("always") == address, "a restarted container keeps its address"


def test_on_failure_stops_after_its_retries(stack: Stack) -> None:
    stack.up()
    stack.wait_until_state("bounded", "exited")
    status = stack.status("bounded")
    assert (status["restart_count"], status["exit_code"]) == (2, 4)


def test_on_failure_leaves_a_success_alone(stack: Stack) -> None:
    stack.up()
    stack.wait_until_state("satisfied", "exited")
    status = stack.status("satisfied")
    assert (status["restart_count"], status["exit_code"]) == (0, 0)


def test_down_wins_over_always(stack: Stack) -> None:
    stack.up()
    stack.down("-t", "0")
    assert stack.states() == {}
