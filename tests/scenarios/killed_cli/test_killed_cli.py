"""`kill -9` of the command in the middle of its work: the next commands tell the truth, finish or undo."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress

import pytest

from tests.stack import Stack, wait_for

pytestmark = pytest.mark.umiak("it looks at umiak's operations")

DELAYS_MS = [20, 60, 90, 120, 150, 180, 220, 280, 350, 500]


def kill_after(stack: Stack, delay_ms: int, *arguments: str) -> None:
    """Start a command and kill it, as the kernel's OOM killer would, after so many milliseconds."""
    child = stack.start(*arguments)
    time.sleep(delay_ms / 1000)  # the moment is the point of the test
    with suppress(ProcessLookupError):
        os.kill(child.pid, signal.SIGKILL)
    child.wait()


def assert_truthful(stack: Stack) -> None:
    """Each container that `ps` calls running has a live process."""
    for name, entry in stack.containers().items():
        if entry["State"] == "running":
            pid = stack.status_of(entry["ID"])["pid"]
            assert pid, name
            assert stack.host.is_alive(pid), name


@pytest.mark.parametrize("delay_ms", DELAYS_MS)
def test_up_killed_half_way_is_repaired_by_the_next_up(stack: Stack, delay_ms: int) -> None:
    kill_after(stack, delay_ms, "up", "-d")
    assert_truthful(stack)

    stack.up()

    assert_truthful(stack)
    assert stack.states() == {
        f"killed_cli-{service}-1": "running" for service in ("one", "two", "three", "four", "five")
    }


@pytest.mark.parametrize("delay_ms", DELAYS_MS[::2])
def test_up_killed_half_way_is_undone_by_down(stack: Stack, delay_ms: int) -> None:
    kill_after(stack, delay_ms, "up", "-d")
    stack.down("-v")
    wait_for(lambda: stack.states() == {}, "nothing to be left")


@pytest.mark.parametrize("delay_ms", [20, 60, 100, 150, 250])
def test_down_killed_half_way_is_finished_by_the_next_down(stack: Stack, delay_ms: int) -> None:
    stack.up()
    kill_after(stack, delay_ms, "down", "-v")
    assert_truthful(stack)
    stack.down("-v")
    assert stack.states() == {}


@pytest.mark.parametrize("delay_ms", [60, 120, 200, 300])
def test_recreation_killed_half_way_ends_with_one_container_a_service(stack: Stack, delay_ms: int) -> None:
    stack.up()
    stack.replace('command: ["sleep", "600"]', 'command: ["sleep", "700"]')
    kill_after(stack, delay_ms, "up", "-d")
    assert_truthful(stack)

    stack.up()

    assert stack.states() == {
        f"killed_cli-{service}-1": "running" for service in ("one", "two", "three", "four", "five")
    }
    assert all("700" in entry["Command"] for entry in stack.containers().values())
