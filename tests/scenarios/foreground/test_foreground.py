"""`up` in the foreground shows the logs; Ctrl-C stops the stack and leaves it stopped."""

from __future__ import annotations

import signal
import time

import pytest

from tests.stack import Stack, wait_for


@pytest.mark.umiak("Docker does not show what containers write while they stop")
def test_ctrl_c_stops_the_stack_gracefully(stack: Stack) -> None:
    child = stack.start("up")
    wait_for(lambda: set(stack.states().values()) == {"running"} and len(stack.states()) == 2, "both to run")

    child.send_signal(signal.SIGINT)
    output, _ = child.communicate(timeout=15)

    assert child.returncode == 130
    assert set(stack.states().values()) == {"exited"}
    assert stack.status("talker")["exit_code"] == 0, "it was given the time to end by itself"
    assert "ready to talk" in output
    assert "stopping politely" in output


@pytest.mark.umiak("it waits for files of umiak")
@pytest.mark.parametrize("delay_s", [0.0, 0.05, 0.1, 0.2])
def test_ctrl_c_while_the_stack_comes_up_leaves_nothing_running(stack: Stack, delay_s: float) -> None:
    child = stack.start("up")
    wait_for(lambda: stack.host.run.joinpath("containers").exists() and any_container(stack), "a container")
    time.sleep(delay_s)  # not waiting for something: the moment of the interruption
    child.send_signal(signal.SIGINT)
    child.communicate(timeout=30)
    assert child.returncode == 130
    assert "running" not in stack.states().values()


def any_container(stack: Stack) -> bool:
    """Whether the engine has begun to make one."""
    return any(stack.host.run.joinpath("containers").iterdir())


@pytest.mark.parametrize("option", ["--exit-code-from", "--attach"])
def test_an_option_that_names_no_service_is_refused_before_anything_starts(stack: Stack, option: str) -> None:
    refused = stack.umiak("up", option, "talkr", exit_code=1)
    assert "talkr" in refused.stderr
    assert stack.containers() == {}, "it is known before anything is made"


def test_the_foreground_ends_when_all_containers_have_ended(stack: Stack) -> None:
    stack.write('services: {one: {image: busybox, command: ["sh", "-c", "echo done; exit 3"]}}\n')
    child = stack.start("up")
    output, _ = child.communicate(timeout=15)
    assert "done" in output
    assert stack.status("one")["exit_code"] == 3
