from __future__ import annotations

from typing import Any

import pytest

from compose.readiness import exit_reason, judge
from engine.types import ContainerStatus, Health


def status(state: Any, health: Any = None, **more: Any) -> ContainerStatus:
    return ContainerStatus(state, health=Health(health) if health else None, **more)


@pytest.mark.parametrize(
    ("condition", "found", "wanted"),
    [
        ("service_started", status("running"), "running"),
        ("service_started", status("running", "starting"), "running"),
        ("service_started", status("created"), "wait"),
        ("service_healthy", status("running", "starting"), "wait"),
        ("service_healthy", status("running", "healthy"), "healthy"),
        ("service_healthy", status("running", "unhealthy"), "container c is unhealthy"),
        ("service_healthy", status("running"), "container c has no healthcheck configured"),
        ("service_healthy", status("exited", exit_code=1), "container c exited (1)"),
        ("service_healthy", status("restarting", exit_code=1), "wait"),
        ("service_completed_successfully", status("running"), "wait"),
        ("service_completed_successfully", status("exited", exit_code=0), "exited"),
        ("service_completed_successfully", status("exited", exit_code=7), 'service "s" didn\'t complete successfully: exit 7'),
        ("ready", status("running"), "running"),
        ("ready", status("running", "starting"), "wait"),
        ("ready", status("running", "healthy"), "healthy"),
        ("ready", status("exited", exit_code=0), "container c exited (0)"),
    ],
)  # fmt: skip
def test_a_status_is_held_against_a_condition(condition: Any, found: ContainerStatus, wanted: str) -> None:
    verdict = judge(found, condition, name="c", service="s")
    assert (verdict.failure or verdict.state) == wanted if verdict.done else wanted == "wait"


def test_a_one_shot_that_ended_well_is_ready() -> None:
    assert judge(status("exited", exit_code=0), "ready", name="c", service="s", one_shot=True).state == "exited"
    assert judge(status("exited", exit_code=1), "ready", name="c", service="s", one_shot=True).failure


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (status("exited", exit_code=1), "exited with code 1"),
        (status("exited", exit_code=137), "killed by SIGKILL (exit code 137)"),
        (status("exited", exit_code=137, oom_killed=True), "used more memory than its limit"),
        (status("exited", exit_code=127), "the command was not found"),
        (status("exited", exit_code=-1), "ended while nothing watched it"),
        (status("exited", exit_code=255), "exited with code 255"),
    ],
)
def test_an_end_is_told_in_words(found: ContainerStatus, words: str) -> None:
    assert words in exit_reason(found)
