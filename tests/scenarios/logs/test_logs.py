"""Logs hold what was written, in order, and no more than they may."""

from __future__ import annotations

import re

import pytest

from tests.stack import Stack, wait_for


@pytest.mark.umiak("Docker Compose drops a last line that has no end")
def test_both_streams_are_kept_to_the_last_byte(stack: Stack) -> None:
    stack.up()
    stack.wait_until_state("both", "exited")
    printed = stack.umiak("logs", "--no-log-prefix", "both")
    everything = printed.stdout + printed.stderr
    assert all(text in everything for text in ("to stdout", "to stderr", "no newline"))


def test_lines_come_in_order_and_tail_gives_the_last(stack: Stack) -> None:
    stack.up()
    stack.wait_for_output("counter", "number 500")
    numbers = re.findall(r"number (\d+)", stack.umiak("logs", "counter").stdout)
    assert numbers == [str(number) for number in range(1, 501)]
    assert re.findall(r"number (\d+)", stack.umiak("logs", "--tail", "3", "counter").stdout) == ["498", "499", "500"]


@pytest.mark.umiak("Docker goes on following")
def test_following_ends_when_the_containers_have_ended(stack: Stack) -> None:
    stack.write("services: {one: {image: busybox, command: [sh, -c, 'sleep 0.5; echo at last']}}\n")
    stack.up()
    child = stack.start("logs", "-f")
    output, _ = child.communicate(timeout=15)
    assert "at last" in output


def test_a_full_log_drops_its_oldest_lines(stack: Stack) -> None:
    stack.up()
    stack.wait_until_state("rotated", "exited")
    printed = wait_for(
        lambda: "line 20000" in (text := stack.umiak("logs", "rotated").stdout) and text, "the last line"
    )
    numbers = [int(number) for number in re.findall(r"rotated line (\d+)\n", printed)]
    assert numbers == list(range(numbers[0], 20001))
    assert 500 < len(numbers) < 12000
