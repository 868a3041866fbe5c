"""`kill -9` of a container's first process ends the container, as anywhere; the next `up` starts it again."""

from __future__ import annotations

from tests.stack import Stack


def test_a_killed_container_is_shown_with_the_signal_and_started_again(stack: Stack) -> None:
    stack.up()
    before = stack.status("web")
    stack.host.kill(before["pid"])

    stack.wait_until_state("web", "exited")
    assert stack.container("web")["ExitCode"] == 137
    assert stack.status("web")["oom_killed"] is False

    identity = stack.ids()
    stack.up()
    assert stack.ids() == identity
    assert stack.states()["killed_init-web-1"] == "running"
    assert stack.status("web")["pid"] != before["pid"]
