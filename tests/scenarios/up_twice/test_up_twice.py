"""A second `up` finds everything as wanted and touches nothing."""

from __future__ import annotations

from tests.stack import Stack


def test_up_twice_changes_nothing(stack: Stack) -> None:
    stack.up("--wait")
    first = stack.containers()
    started = {name: stack.status(entry["Service"])["started_at"] for name, entry in first.items()}

    stack.up("--wait")

    assert {name: entry["ID"] for name, entry in first.items()} == stack.ids()
    assert started == {name: stack.status(entry["Service"])["started_at"] for name, entry in first.items()}


def test_a_second_up_says_that_it_changes_nothing(stack: Stack) -> None:
    stack.up()
    first = stack.umiak("plan").stdout
    second = stack.up()
    assert "Create" not in first
    assert second.stdout + second.stderr
    assert "Creat" not in second.stdout + second.stderr


def test_up_starts_again_what_has_stopped_and_leaves_the_rest_alone(stack: Stack) -> None:
    stack.up()
    before = stack.ids()
    web, db = stack.status("web"), stack.status("db")
    stack.host.kill(web["pid"])
    stack.wait_until_state("web", "exited")

    stack.up()

    assert stack.ids() == before
    assert stack.status("web")["pid"] not in (0, web["pid"])
    assert stack.status("db")["pid"] == db["pid"]
