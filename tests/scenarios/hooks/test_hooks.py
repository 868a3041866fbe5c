"""Hooks run inside the container: after its start, before its dependents, and before it is stopped, whatever stops it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stack import Stack

START, STOP = "start 0 /tmp blue sweet", "stop 0"


@pytest.fixture
def notes(stack: Stack) -> Iterator[Path]:
    directory = stack.directory / "notes"
    yield directory
    (directory / "fail").unlink(missing_ok=True)  # else the stack could not be taken down


@pytest.mark.umiak("Docker's restart calls no pre_stop hook")
def test_they_run_with_each_start_and_each_stop(stack: Stack, notes: Path) -> None:
    stack.up()
    assert (notes / "after").read_text().splitlines() == [START], "a dependent starts after the hook"
    stack.umiak("restart", "web")
    stack.umiak("stop")
    stack.umiak("start")
    stack.up("--force-recreate", "web")
    stack.umiak("-p", "hooks", "down")
    assert (notes / "web").read_text().splitlines() == [START, STOP] * 4


def test_they_are_operations_of_the_plan(stack: Stack, notes: Path) -> None:
    planned = json.loads(stack.umiak("plan", "--format", "json", exit_code=None).stdout)["operations"]
    web = [operation["action"] for operation in planned if operation["resource"] == "service:web:1"]
    assert web == ["CreateContainer", "StartContainer", "RunHook", "RunHook"]
    stack.up()
    assert stack.umiak("plan").stdout.strip().count("RunHook") == 0


@pytest.mark.umiak("Docker does not show the output of a hook")
def test_a_hook_that_fails_fails_the_command_and_shows_its_output(stack: Stack, notes: Path) -> None:
    (notes / "fail").touch()
    failed = stack.up(exit_code=1)
    assert "post_start hook of hooks-web-1 exited with code 3" in failed.stderr
    assert "no luck" in failed.stderr
    assert "compose.yaml:8:" in failed.stderr
    assert stack.states() == {"hooks-web-1": "running"}, "its dependent is not started"
    assert "pre_stop hook of hooks-web-1" in stack.umiak("stop", exit_code=1).stderr
    assert stack.states()["hooks-web-1"] == "running"
    stack.umiak("kill", "web")
    stack.umiak("down")


def test_hooks_that_a_kill_kept_from_being_run_are_run_by_the_next_up(stack: Stack, notes: Path) -> None:
    stack.replace('"echo start', '"while test -e /notes/hold; do sleep 0.05; done; echo start')
    (notes / "hold").touch()
    child = stack.start("up", "-d")
    stack.wait_until(lambda: stack.states().get("hooks-web-1") == "running", "the service to run")
    child.kill()
    child.wait()
    (notes / "hold").unlink()
    stack.up()
    assert START in (notes / "after").read_text().splitlines()
    stack.umiak("plan", exit_code=0)


def test_a_changed_hook_is_a_changed_definition(stack: Stack, notes: Path) -> None:
    stack.up()
    first = stack.ids()
    stack.replace("TASTE=sweet", "TASTE=sour")
    stack.up()
    assert stack.ids()["hooks-web-1"] != first["hooks-web-1"]
    assert stack.ids()["hooks-after-1"] == first["hooks-after-1"]
    assert (notes / "web").read_text().splitlines()[-1] == "start 0 /tmp blue sour"
