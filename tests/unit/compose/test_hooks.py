"""Hooks in plans, and their output."""

from __future__ import annotations

import os
import socket

from compose.hooks import expect, forget, outcome
from compose.plan import RunHook
from engine.runtime.client import ExecSession
from tests.unit.compose.stack import FakeStack, steps

FILE = """
    services:
      web:
        image: app
        post_start: [{command: [one]}, {command: [two]}]
        pre_stop: [{command: [three], user: root, environment: {A: b}}]
      after: {image: app, depends_on: [web]}
"""


def test_hooks_come_after_the_start_and_before_dependents(stack: FakeStack) -> None:
    planned = [line for line in steps(stack.write(FILE).plan()) if "web" in line or "Start" in line]
    assert planned == [
        "[1] -> #2 service:web:1, CreateContainer, no existing container",
        "[2] -> #3 service:web:1, StartContainer, created",
        "[3] -> #4 service:web:1, RunHook, post_start",
        "[4] -> #5 service:web:1, RunHook, post_start",
        "[5,6] -> #7 service:after:1, StartContainer, created",
    ]


def test_hooks_that_a_kill_kept_from_being_run_are_run_by_the_next_up(stack: FakeStack) -> None:
    stack.write(FILE).up(start=False)
    container = stack.engine.container("p-web-1")
    expect(stack.engine.paths, container.id)
    stack.engine.start_container("p-web-1")
    assert [line for line in steps(stack.plan()) if "web" in line] == [
        "[] -> #1 service:web:1, RunHook, post_start has not been run to its end",
        "[1] -> #2 service:web:1, RunHook, post_start has not been run to its end",
    ]
    assert [operation.action.last for operation in stack.plan() if isinstance(operation.action, RunHook)] == [
        False,
        True,
    ]
    forget(stack.engine.paths, container.id)
    assert "RunHook" not in str(stack.plan())


def test_down_runs_hooks_from_the_label_but_not_in_a_frozen_container(stack: FakeStack) -> None:
    stack.write(FILE.replace("post_start: [{command: [one]}, {command: [two]}]", "")).up()
    stack.orchestrator.dry_run = True
    assert [line for line in steps(stack.down()) if "web" in line] == [
        "[1] -> #2 service:web:1, RunHook, pre_stop",
        "[2] -> #3 service:web:1, StopContainer, down",
        "[3] -> #5 service:web:1, RemoveContainer, down",
    ]
    stack.engine.set_status("p-web-1", state="paused")
    assert "RunHook" not in str(stack.down())


def test_the_outcome_does_not_wait_for_what_a_hook_left_running() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    (ignored, stdin), (stdout, left_open) = os.pipe(), os.pipe()
    os.write(left_open, b"started it\n")
    theirs.send(b'{"exit_code": 0}')
    assert outcome(ExecSession(ours, 1, stdin=stdin, stdout=stdout)) == (0, "started it\n")
    theirs.close()
    os.close(ignored)
    os.close(left_open)
