"""`kill -9` of a monitor: its container lives on, the next command gives it a new one, no output is lost."""

from __future__ import annotations

import re

import pytest

from tests.stack import Stack, wait_for

pytestmark = pytest.mark.umiak("it kills a monitor")


def test_a_container_outlives_its_monitor_and_gets_a_new_one(stack: Stack) -> None:
    stack.up()
    before = stack.status("talker")
    stack.host.kill(before["monitor_pid"])
    wait_for(lambda: not stack.host.is_alive(before["monitor_pid"]), "the monitor to be gone")

    assert stack.states()["killed_monitor-talker-1"] == "running"
    stack.up()

    after = wait_for(
        lambda: (now := stack.status("talker"))["monitor_pid"] != before["monitor_pid"] and now, "a new monitor"
    )
    assert after["pid"] == before["pid"]
    assert stack.host.is_alive(after["pid"])
    assert stack.sh("talker", "echo exec works") == "exec works"


def test_no_line_is_lost_when_a_monitor_is_killed(stack: Stack) -> None:
    stack.up()
    stack.wait_for_output("talker", "line 5")
    stack.host.kill(stack.status("talker")["monitor_pid"])
    stack.up()
    reached = 5 + len(stack.umiak("logs", "talker").stdout.splitlines())
    stack.wait_for_output("talker", f"line {reached}")

    numbers = [int(number) for number in re.findall(r"line (\d+)", stack.umiak("logs", "talker").stdout)]
    assert numbers == list(range(1, len(numbers) + 1))


def test_down_after_a_killed_monitor_leaves_nothing(stack: Stack) -> None:
    stack.up()
    stack.host.kill(stack.status("talker")["monitor_pid"])
    stack.host.kill(stack.status("quiet")["monitor_pid"])
    stack.down("-v")
    assert stack.states() == {}


def test_a_container_with_a_terminal_ends_with_its_monitor_and_is_started_again(stack: Stack) -> None:
    stack.write('services: {shell: {image: busybox, command: ["sh"], tty: true, stdin_open: true}}')
    stack.up()
    before = stack.status("shell")
    stack.host.kill(before["monitor_pid"])
    wait_for(lambda: not stack.host.is_alive(before["monitor_pid"]), "the monitor to be gone")
    stack.up()
    assert stack.states() == {"killed_monitor-shell-1": "running"}
    assert stack.status("shell")["pid"] != before["pid"]
    assert not stack.host.is_alive(before["pid"])


def test_monitor_and_init_killed_together_is_seen_as_ended(stack: Stack) -> None:
    stack.up()
    status = stack.status("quiet")
    stack.host.kill(status["monitor_pid"])
    stack.host.kill(status["pid"])
    stack.wait_until_state("quiet", "exited")

    stack.up()

    assert stack.states()["killed_monitor-quiet-1"] == "running"
