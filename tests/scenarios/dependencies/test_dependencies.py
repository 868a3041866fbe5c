"""What `depends_on` promises: order, conditions, and that a failing dependency stops what waits for it."""

from __future__ import annotations

import pytest

from tests.stack import Stack, wait_for


def test_a_service_starts_when_all_its_conditions_hold(stack: Stack) -> None:
    stack.up("--wait")
    last = stack.status("last")["started_at"]
    job = stack.status("job")
    assert job["exit_code"] == 0
    assert job["finished_at"] <= last
    assert stack.status("other")["started_at"] <= last
    wait_for(lambda: "healthy" in (seen := stack.umiak("logs", "last").stdout) and "completed" in seen, "both notes")


@pytest.mark.parametrize(
    ("dependency", "condition"),
    [
        ('command: ["sh", "-c", "exit 7"]', "service_completed_successfully"),
        ('command: ["sh", "-c", "exit 7"]\n    healthcheck: {test: ["CMD", "true"], interval: 60s}', "service_healthy"),
        (
            'command: ["sleep", "600"]\n    healthcheck: {test: ["CMD", "false"], interval: 50ms, retries: 2}',
            "service_healthy",
        ),
    ],
    ids=["job-fails", "dies-before-healthy", "unhealthy"],
)
def test_a_dependency_that_fails_stops_what_waits_for_it(stack: Stack, dependency: str, condition: str) -> None:
    stack.write(
        f"services:\n"
        f"  waits:\n    image: busybox\n    command: [sleep, '600']\n"
        f"    depends_on: {{fails: {{condition: {condition}}}}}\n"
        f"  fails:\n    image: busybox\n    {dependency}\n"
    )

    failed = stack.up(exit_code=1, timeout_s=20)

    assert "fails" in failed.stderr
    assert stack.states().get("dependencies-waits-1", "created") == "created"


def test_down_stops_dependents_before_what_they_need(stack: Stack) -> None:
    stack.write(
        "services:\n"
        "  app:\n    image: busybox\n    depends_on: [base]\n    volumes: [shared:/shared]\n"
        "    command: [sh, -c, 'trap \"sleep 0.3; echo app >> /shared/order; exit\" TERM; while :; do sleep 0.05; done']\n"
        "  base:\n    image: busybox\n    volumes: [shared:/shared]\n"
        "    command: [sh, -c, 'trap \"echo base >> /shared/order; exit\" TERM; while :; do sleep 0.05; done']\n"
        "  reader:\n    image: busybox\n    profiles: [later]\n    volumes: [shared:/shared]\n    command: [sleep, '600']\n"
        "volumes:\n  shared:\n"
    )
    stack.up()
    stack.down()
    stack.up("reader")
    assert stack.sh("reader", "cat /shared/order") == "app\nbase"
