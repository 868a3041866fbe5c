"""Ctrl-C, SIGTERM and a closed terminal: each ends a command as a shell expects it, with the terminal and the stack in order."""

from __future__ import annotations

import signal

import pytest

from tests.stack import Stack, wait_for
from tests.terminal import Opener

pytestmark = pytest.mark.umiak("Docker ends with 130 at SIGTERM, dies of SIGHUP, and waits for health meanwhile")

SIGNALS = [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]


@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_up_in_the_foreground_stops_the_stack_at_each_signal(stack: Stack, number: signal.Signals, code: int) -> None:
    child = stack.start("up")
    assert child.stdout
    wait_for(lambda: "ready" in child.stdout.readline(), "the container's line")
    child.send_signal(number)
    child.communicate(timeout=30)
    assert child.returncode == code
    assert set(stack.states().values()) == {"exited"}
    assert stack.status("web")["exit_code"] == 0, "it was given the time to end by itself"


def test_up_whose_terminal_is_closed_stops_the_stack(stack: Stack, terminal: Opener) -> None:
    screen = terminal("up")
    screen.wait_for("ready")
    assert screen.hang_up() == 129
    assert set(stack.states().values()) == {"exited"}


@pytest.mark.parametrize(("number", "code"), SIGNALS)
def test_a_wait_for_health_ends_at_each_signal(stack: Stack, number: signal.Signals, code: int) -> None:
    child = stack.start("--progress", "json", "up", "-d", "--wait", "slow")
    assert child.stdout
    wait_for(lambda: '"probe"' in child.stdout.readline(), "the first probe")
    child.send_signal(number)
    output, _ = child.communicate(timeout=30)
    assert child.returncode == code
    assert "error" not in output


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_terminal_is_as_before_after_exec_was_ended(stack: Stack, terminal: Opener, number: signal.Signals) -> None:
    stack.up()
    screen = terminal("exec", "web", "sh")
    screen.press("echo $((40 + 2))\n")
    screen.wait_for("\r\n42\r\n")
    assert screen.is_raw()
    screen.child.send_signal(number)
    assert screen.end() == 128 + number
    assert not screen.is_raw()


def test_exec_ends_with_its_terminal(stack: Stack, terminal: Opener) -> None:
    stack.up()
    screen = terminal("exec", "web", "sh", "-c", "echo in; sleep 601")
    screen.wait_for("in")
    assert screen.hang_up() == 129
    wait_for(lambda: "sleep 601" not in stack.sh("web", "ps -o args"), "the command to end, too")


def test_run_interrupted_while_it_waits_leaves_no_container_of_its_own(stack: Stack) -> None:
    child = stack.start("--progress", "json", "run", "--rm", "task", "true")
    assert child.stdout
    wait_for(lambda: '"probe"' in child.stdout.readline(), "the first probe")
    child.send_signal(signal.SIGTERM)
    child.communicate(timeout=30)
    assert child.returncode == 143
    assert set(stack.states()) == {"interrupted-slow-1"}


def test_what_a_killed_run_was_to_remove_is_removed_after_its_end(stack: Stack) -> None:
    child = stack.start("run", "--rm", "--name", "once", "web")
    assert child.stdout
    wait_for(lambda: child.stdout.readline() == "ready\n", "its output")
    child.kill()
    child.wait()
    once = stack.containers()["once"]
    assert once["State"] == "running", "the container itself was not killed"
    stack.host.kill(stack.status_of(once["ID"])["pid"])
    wait_for(lambda: "once" not in stack.states(), "the container to be gone")
