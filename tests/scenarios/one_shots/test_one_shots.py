"""A service that has done its work and ended with 0 is not run again by the next `up`, unless it changed or somebody asks for it."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.stack import Stack

pytestmark = pytest.mark.umiak("Docker runs one-shots again with each up")


def runs(stack: Stack) -> Counter[str]:
    """How often each service has run, as it noted itself."""
    stack.wait_until(lambda: stack.replicas("app")[0]["State"] == "running", "app to run")
    lines = stack.sh("app", "cd /data; for file in *; do sed s/ran/$file/ $file; done").split()
    return Counter(lines)


def test_what_has_completed_stays_completed(stack: Stack) -> None:
    stack.up("--wait")
    stack.wait_until(lambda: stack.container("seed")["State"] == "exited", "seed to end")
    assert runs(stack) == {"migrate": 1, "seed": 1, "app": 1}
    stack.umiak("plan", exit_code=0)

    stack.umiak("stop")
    assert stack.container("app")["ExitCode"] == 0
    stack.up()
    assert runs(stack) == {"migrate": 1, "seed": 1, "app": 2}, "what was stopped had not completed"

    stack.up("seed", "--no-deps")
    stack.wait_until(lambda: runs(stack)["seed"] == 2, "a service that is named to run again")
    stack.up("--rerun")
    stack.wait_until(lambda: runs(stack) == {"migrate": 2, "seed": 3, "app": 2}, "--rerun to run all again")

    stack.replace("echo ran >> /data/seed", "echo ran >> /data/seed; true")
    stack.up()
    stack.wait_until(lambda: runs(stack) == {"migrate": 2, "seed": 4, "app": 2}, "a changed one to run again")


def test_whoever_asks_for_an_exit_code_has_it_run_each_time(stack: Stack) -> None:
    stack.env["CODE"] = "0"
    for _ in range(2):
        stack.umiak("--profile", "check", "up", "--exit-code-from", "check", "-t", "0")
    stack.up("app")
    assert (runs(stack)["check"], runs(stack)["migrate"]) == (2, 1)


def test_a_stack_that_has_wholly_completed_says_how_to_run_it_again(stack: Stack) -> None:
    stack.write('services: {job: {image: busybox, command: ["echo", "done"]}}\n')
    assert "done" in stack.umiak("up").stdout
    again = stack.umiak("up")
    assert "done" not in again.stdout
    assert "--rerun" in again.stderr
    assert "done" in stack.umiak("up", "--rerun").stdout
