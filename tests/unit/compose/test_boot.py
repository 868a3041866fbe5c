"""What `umiak boot` starts, and in which order."""

from __future__ import annotations

import pytest

from compose import lifecycle
from tests.unit.compose.stack import FakeStack, steps

FILE = """
    services:
      db: {image: db, restart: always}
      web: {image: app, restart: always, depends_on: {db: {condition: service_healthy}, job: {condition: service_started}}}
      job: {image: app}
"""


def cut_power(stack: FakeStack, exit_code: int | None = -1) -> None:
    for container in stack.engine.containers():
        stack.engine.set_status(container.name, state="exited", exit_code=exit_code, pid=0)


def boot(stack: FakeStack) -> list[str]:
    return steps(lifecycle.boot("p", stack.engine.containers()))


def test_what_is_needed_is_started_first_and_awaited(stack: FakeStack) -> None:
    stack.engine.programs["db"] = "healthy"
    stack.write(FILE).up()
    assert boot(stack) == [], "what runs is left alone"
    cut_power(stack)
    assert boot(stack) == [
        "[] -> #1 service:db:1, StartContainer, restart policy",
        "[1] -> #2 service:db:1, AwaitContainer, service_healthy needed by web",
        "[2] -> #3 service:web:1, StartContainer, restart policy",
    ]


def test_a_dependency_that_stays_unhealthy_is_a_warning(stack: FakeStack) -> None:
    stack.engine.programs["db"] = "healthy"
    stack.write(FILE).up()
    cut_power(stack)
    stack.engine.programs["db"] = "unhealthy"
    stack.orchestrator.boot("p")
    assert stack.states() == {"p-db-1": "running", "p-web-1": "running", "p-job-1": "exited"}
    assert "p-db-1 not required" in stack.told()


@pytest.mark.parametrize(
    ("policy", "stopped", "exit_code", "starts"),
    [
        ("no", False, -1, False),
        ("always", False, 0, True),
        ("always", True, 0, True),
        ("unless-stopped", False, 0, True),
        ("unless-stopped", True, 0, False),
        ("on-failure", False, -1, True),
        ("on-failure", False, 0, False),
        ("on-failure", True, -1, False),
    ],
)
def test_the_policy_decides(stack: FakeStack, policy: str, stopped: bool, exit_code: int, starts: bool) -> None:
    stack.write(f'services: {{web: {{image: app, restart: "{policy}"}}}}').up()
    if stopped:
        stack.orchestrator.stop("p")
    cut_power(stack, exit_code)
    assert bool(boot(stack)) == starts


def test_what_was_never_started_is_not_started(stack: FakeStack) -> None:
    stack.write("services: {web: {image: app, restart: always}}").up(start=False)
    assert boot(stack) == []
