"""Health follows the probe; `--wait` returns when it is good and fails when it is bad."""

from __future__ import annotations

import pytest

from tests.stack import Stack, wait_for


def test_wait_returns_when_the_service_is_healthy(stack: Stack) -> None:
    stack.up("--wait")
    assert stack.status("web")["health"]["state"] == "healthy"
    assert stack.container("web")["Health"] == "healthy"


@pytest.mark.umiak("Docker probes once in an interval")
def test_probes_are_frequent_while_a_container_starts(stack: Stack) -> None:
    stack.replace("interval: 200ms", "interval: 30s")
    stack.up("--wait", timeout_s=10)
    assert stack.status("web")["health"]["state"] == "healthy"


def test_a_service_that_stops_working_turns_unhealthy_and_comes_back(stack: Stack) -> None:
    stack.up("--wait")
    stack.sh("web", "rm /tmp/works")
    health = wait_for(lambda: (now := stack.status("web")["health"])["state"] == "unhealthy" and now, "unhealthy")
    assert health["failing_streak"] >= 2
    assert "it does not work" in health["log"][-1]["output"]
    assert health["log"][-1]["exit_code"] == 1

    stack.sh("web", "touch /tmp/works")
    wait_for(lambda: stack.status("web")["health"]["state"] == "healthy", "healthy again")


@pytest.mark.umiak("Docker does not show the probe")
def test_wait_fails_with_the_last_probe_when_a_service_is_unhealthy(stack: Stack) -> None:
    stack.replace("touch /tmp/works; ", "")
    stack.replace("start_period: 5s", "start_period: 0s")
    failed = stack.up("--wait", exit_code=1, timeout_s=20)
    assert "it does not work" in failed.stderr


def test_a_probe_that_takes_too_long_counts_as_failed(stack: Stack) -> None:
    stack.write(
        "services:\n  web:\n    image: busybox\n    command: [sleep, '600']\n"
        "    healthcheck: {test: [CMD, sleep, '60'], interval: 100ms, timeout: 200ms, retries: 2}\n"
    )
    stack.up()
    wait_for(lambda: stack.status("web")["health"]["state"] == "unhealthy", "unhealthy")
    assert stack.status("web")["health"]["log"][-1]["exit_code"] == -1
