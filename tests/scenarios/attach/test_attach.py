"""`attach` joins a container's own input and output; the detach keys leave it running, its end gives the exit code."""

from __future__ import annotations

import signal

import pytest

from tests.stack import Stack
from tests.terminal import Opener


@pytest.mark.umiak("Docker ends with 1 when the user detaches")
def test_the_detach_keys_leave_the_container_running(stack: Stack, terminal: Opener) -> None:
    stack.up("shell")
    screen = terminal("attach", "shell")
    screen.press("echo $((40 + 2))\n")
    screen.wait_for("\r\n42\r\n")
    assert screen.is_raw()
    screen.press("\x10\x11")
    assert screen.end() == 0
    assert not screen.is_raw()
    assert stack.container("shell")["State"] == "running"

    again = terminal("attach", "shell")
    again.press("echo again; exit 5\n")
    assert again.end() == 5
    stack.wait_until_state("shell", "exited")


@pytest.mark.umiak("Docker ends with 1 when the user detaches")
def test_other_detach_keys_can_be_chosen(stack: Stack, terminal: Opener) -> None:
    stack.up("shell")
    screen = terminal("attach", "--detach-keys", "ctrl-a,x", "shell")
    screen.press("echo $((40 + 2))\n")
    screen.wait_for("\r\n42\r\n")
    screen.press("\x01")
    screen.press("x")
    assert screen.end() == 0
    assert stack.container("shell")["State"] == "running"
    assert "ctrl" in stack.umiak("attach", "--detach-keys", "ctrl-", "shell", exit_code=1).stderr


@pytest.mark.umiak("Docker shows nothing of it when the input is a pipe")
def test_input_reaches_the_container_and_its_exit_code_comes_back(stack: Stack) -> None:
    stack.up("lines")
    done = stack.umiak("attach", "lines", stdin="one\nend\n", exit_code=4)
    assert done.stdout == "got one\ngot end\n"


@pytest.mark.umiak("Docker ends with 130, not with the container's code")
def test_signals_are_passed_on(stack: Stack) -> None:
    stack.up("polite")
    stack.wait_for_output("polite", "waiting")
    child = stack.start("attach", "--no-stdin", "polite")
    stack.wait_until(lambda: stack.umiak("logs", "polite").stdout.count("waiting") == 1, "it to wait")
    stack.wait_until(lambda: is_caught(child.pid, signal.SIGQUIT), "attach to pass signals on")
    child.send_signal(signal.SIGTERM)
    output, _ = child.communicate(timeout=60)
    assert (child.returncode, output) == (6, "bye\n")


def test_what_does_not_run_cannot_be_attached_to(stack: Stack) -> None:
    stack.umiak("create")
    assert "not running" in stack.umiak("attach", "lines", exit_code=1).stderr
    assert "not running" in stack.umiak("attach", "nothing", exit_code=1).stderr


def is_caught(pid: int, number: int) -> bool:
    """Whether a process has a handler for a signal."""
    with open(f"/proc/{pid}/status") as file:
        mask = next(line.split()[1] for line in file if line.startswith("SigCgt"))
    return bool(int(mask, 16) >> (number - 1) & 1)
