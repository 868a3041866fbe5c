"""`kill -9` of the command after each single operation of its plan: what comes next completes or undoes it, and loses nothing."""

from __future__ import annotations

import json
import os
import signal
from itertools import count

import pytest

from tests.stack import Stack

pytestmark = pytest.mark.umiak("it looks at umiak's operations")

DONE = {"created", "started", "stopped", "retired", "removed", "prepared", "recreated", "healthy"}
"""The states in which an operation's last event tells that it is done."""

BOTH = {"killed_at_each-store-1": "running", "killed_at_each-web-1": "running"}

ALONE = """
services:
  store:
    image: busybox
    command: [sleep, "1000"]
    stop_signal: SIGKILL
    volumes: ["data:/data", /scratch]
    networks: {net: {ipv4_address: 10.213.0.50}}
networks:
  net: {labels: {edition: "0"}, ipam: {config: [{subnet: 10.213.0.0/24}]}}
volumes:
  data: {labels: {edition: "0"}}
"""
"""A service whose successor cannot be made while it is on its network, or has its address or its volume."""


def killed_after(stack: Stack, operations: int, *arguments: str) -> bool:
    """Run a command, one operation at a time, and kill it when so many are done; False if it came to its end before."""
    child = stack.start("--parallel", "1", "--progress", "json", *arguments)
    assert child.stdout
    events = (json.loads(line) for line in child.stdout if line.startswith("{"))
    done = 0
    for event in events:
        done += event.get("state", "") in DONE
        if done == operations:
            os.kill(child.pid, signal.SIGKILL)
            break
    child.stdout.read()
    return child.wait() == -signal.SIGKILL


def kept(stack: Stack, kind: str) -> set[str]:
    """What the session's engine keeps on disk: the names of its "containers" or "volumes"."""
    directory = stack.host.root / kind
    return set(os.listdir(directory)) if directory.exists() else set()


def nothing_is_left(stack: Stack) -> bool:
    """Whether neither container nor volume is left; the leak check looks for the rest."""
    return not kept(stack, "containers") and not kept(stack, "volumes")


def test_up_and_down_killed_after_each_operation_are_completed(stack: Stack) -> None:
    for operations in count(1):
        up_was_killed = killed_after(stack, operations, "up", "-d")
        stack.up()
        assert stack.states() == BOTH, operations
        assert len(kept(stack, "containers")) == 2, operations
        assert len(kept(stack, "volumes")) == 3, "one named, one anonymous for each container"
        down_was_killed = killed_after(stack, operations, "down", "-v")
        stack.down("-v")
        assert nothing_is_left(stack), operations
        if not (up_was_killed or down_was_killed):
            assert operations > 6
            return


def test_up_killed_after_each_operation_is_undone_by_down(stack: Stack) -> None:
    for operations in count(1):
        was_killed = killed_after(stack, operations, "up", "-d")
        stack.down("-v")
        assert nothing_is_left(stack), operations
        if not was_killed:
            return


def test_a_recreation_killed_after_each_operation_loses_no_volume(stack: Stack) -> None:
    stack.up()
    stack.sh("store", "echo kept > /scratch/file")
    before = kept(stack, "volumes")
    for operations in count(1):
        stack.replace(f"sleep {operations - 1}60", f"sleep {operations}60")
        was_killed = killed_after(stack, operations, "up", "-d")
        stack.up()
        assert stack.states() == BOTH, operations
        assert len(kept(stack, "containers")) == 2, operations
        assert kept(stack, "volumes") == before, operations
        if not was_killed:
            break
    assert stack.umiak("plan").stdout.endswith("all is as the file asks\n")
    assert stack.sh("store", "cat /scratch/file") == "kept"


def test_what_must_go_before_its_successor_comes_keeps_its_anonymous_volumes(stack: Stack) -> None:
    stack.write(ALONE)
    stack.up()
    stack.sh("store", "echo kept > /scratch/file")
    before = kept(stack, "volumes")
    for operations in count(1):
        stack.replace(f'edition: "{operations - 1}"', f'edition: "{operations}"')
        was_killed = killed_after(stack, operations, "up", "-d", "--yes")
        stack.up("--yes")
        assert len(kept(stack, "containers")) == 1, operations
        assert kept(stack, "volumes") == before, operations
        if not was_killed:
            break
    assert operations > 9
    assert stack.states() == {"killed_at_each-store-1": "running"}
    assert stack.sh("store", "cat /scratch/file") == "kept"
    assert stack.umiak("plan").stdout.endswith("all is as the file asks\n")
