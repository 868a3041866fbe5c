"""Commands at the same time do not get in each other's way."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.stack import Stack, StackMaker

pytestmark = pytest.mark.umiak("two of Docker Compose at once disturb each other")


def test_two_ups_of_one_project_end_with_one_container_a_service(stack: Stack) -> None:
    children = [stack.start("up", "-d") for _ in range(2)]
    outputs = [child.communicate(timeout=40)[0] for child in children]
    assert [child.returncode for child in children] == [0, 0], outputs
    assert stack.states() == {f"two_ups-{service}-1": "running" for service in ("one", "two", "three")}


def test_two_projects_come_up_side_by_side(busybox: str, make_stack: StackMaker) -> None:
    stacks = [make_stack(Path(__file__).parent, name=name) for name in ("left", "right")]
    children = [stack.start("up", "-d") for stack in stacks]
    for child in children:
        output, _ = child.communicate(timeout=40)
        assert child.returncode == 0, output
    for stack in stacks:
        assert set(stack.states().values()) == {"running"}
    stacks[0].down("-v")
    assert set(stacks[1].states().values()) == {"running"}


def test_up_and_down_at_once_leave_a_state_that_can_be_mended(stack: Stack) -> None:
    stack.up()
    children = [stack.start("down"), stack.start("up", "-d")]
    for child in children:
        child.communicate(timeout=40)
    stack.up()
    assert set(stack.states().values()) == {"running"}
    assert len(stack.states()) == 3
