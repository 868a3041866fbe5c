"""What `--wait` waits for, when it gives up, and what a failure shows."""

from __future__ import annotations

import pytest

from tests.stack import Stack, wait_for

FAILURES = {
    "unhealthy": (
        (
            "healthcheck: {test: [CMD-SHELL, 'echo no route; exit 7'], interval: 50ms, retries: 2},"
            " command: [sh, -c, 'echo up; exec sleep 600']"
        ),
        [
            "web-1 is unhealthy",
            "last probe: echo no route; exit 7",
            "exited with code 7",
            "no route",
            "  up\n",
            "exec web sh",
        ],
    ),
    "exit": ("command: [sh, -c, 'seq 20; exit 3'], ports: ['80']", ["exited with code 3", "  20", "  11", "logs web"]),
    "signal": (
        "command: [sh, -c, 'echo bye; kill -9 $$$$'], ports: ['80']",
        ["killed by SIGKILL (exit code 137)", "bye"],
    ),
    "missing command": ("command: [no-such-program]", ['"no-such-program": no such file', "check 'command'"]),
    "dies while it is tested": (
        "healthcheck: {test: [CMD, 'false'], interval: 50ms, retries: 1000}, command: [sh, -c, 'sleep 0.5; exit 4']",
        ["exited with code 4 after 0.", "last probe: false"],
    ),
}


@pytest.mark.umiak("Docker shows no report, and waits for all others first")
@pytest.mark.parametrize("case", FAILURES)
def test_a_failure_shows_why_and_what_to_do(stack: Stack, case: str) -> None:
    definition, told = FAILURES[case]
    stack.write(
        f"services: {{web: {{image: busybox, init: true, {definition}}}, never: {{image: busybox, command: [sleep, '600'], init: true,"
        " healthcheck: {test: [CMD, 'false'], interval: 1s, retries: 1000}}}"
    )
    failed = stack.up("--wait", exit_code=None, timeout_s=30).stderr
    assert [text for text in told if text not in failed] == [], "at once, although another service is not ready yet"
    assert "help: " in failed


@pytest.mark.umiak("to Docker a one-shot that ended with 0 has failed")
def test_a_wait_ends_when_all_are_ready_or_have_done_their_work(stack: Stack) -> None:
    child = stack.start("up", "--wait")
    wait_for(lambda: stack.states().get("readiness-web-1") == "running", "the web service to run")
    assert child.poll() is None
    stack.sh("web", "touch /tmp/ready")
    assert child.wait(30) == 0
    assert stack.states() == {"readiness-web-1": "running", "readiness-job-1": "exited"}


@pytest.mark.umiak("Docker does not tell what it waited for")
def test_a_wait_has_a_bound_and_tells_what_it_waited_for(stack: Stack) -> None:
    failed = stack.up("--wait", "--wait-timeout", "1", exit_code=1).stderr
    for told in (
        "not healthy after 1s: still waiting for readiness-web-1",
        "last probe: test -e /tmp/ready",
        "serving",
    ):
        assert told in failed
    assert stack.states()["readiness-web-1"] == "running", "it goes on, for a look at it"


@pytest.mark.umiak("start_interval needs Docker Engine 25")
def test_health_before_a_restart_counts_for_nothing(stack: Stack) -> None:
    stack.replace("command: [sh", "restart: always\n    command: [sh")
    stack.up("web")
    stack.sh("web", "touch /tmp/ready")
    stack.up("--wait", "web")
    stack.replace("retries: 1000", "retries: 1000, start_interval: 1h, start_period: 2h")
    stack.up("web")
    assert stack.status("web")["health"]["state"] == "starting"
    stack.umiak("stop", "web")
    stack.umiak("start", "--wait", "--wait-timeout", "1", "web", exit_code=1)
    assert stack.status("web")["health"]["state"] == "starting"


@pytest.mark.umiak("Docker looks no more at what has been ready")
def test_what_was_ready_and_fails_while_others_are_waited_for_is_a_failure(stack: Stack) -> None:
    stack.write(
        "services:\n"
        "  first: {image: busybox, init: true, command: [sh, -c, 'sleep 1; exit 9'], ports: ['80']}\n"
        "  late: {image: busybox, init: true, command: [sh, -c, 'sleep 3; touch /tmp/ready; sleep 600'],\n"
        "    healthcheck: {test: [CMD, test, -e, /tmp/ready], interval: 100ms, retries: 1000}}\n"
    )
    assert "exited with code 9" in stack.up("--wait", exit_code=1).stderr


def test_a_dependency_that_is_not_required_may_fail_or_be_absent(stack: Stack) -> None:
    stack.write(
        "services:\n"
        "  bad: {image: busybox, command: [sh, -c, 'exit 5'], restart: 'no'}\n"
        "  absent: {image: busybox, profiles: [never]}\n"
        "  web:\n    image: busybox\n    init: true\n    command: [sleep, '600']\n    depends_on:\n"
        "      bad: {condition: service_completed_successfully, required: false}\n"
        "      absent: {condition: service_healthy, required: false}\n"
    )
    told = stack.up().stderr
    assert "exit 5" in told
    assert stack.container("web")["State"] == "running"


@pytest.mark.umiak("to Docker what is restarted again and again is ready when it happens to run")
def test_what_ends_at_once_or_again_and_again_is_not_ready(stack: Stack) -> None:
    stack.write("services: {web: {image: busybox, command: [sh, -c, 'exit 3']}}")
    assert "exited with code 3" in stack.up("--wait", exit_code=1).stderr
    stack.replace("image: busybox", "image: busybox, restart: always")
    assert "does not stay up: exited with code 3" in stack.up("--wait", exit_code=1).stderr
