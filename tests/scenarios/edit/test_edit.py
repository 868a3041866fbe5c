"""After an edit, `up` recreates what the edit concerns, and the plan says why."""

from __future__ import annotations

from tests.stack import Stack, wait_for


def test_an_edit_recreates_only_what_changed(stack: Stack) -> None:
    stack.up()
    before = stack.ids()
    stack.sh("changed", "echo kept > /data/note")
    stack.replace("COLOUR: green", "COLOUR: blue")

    stack.up()

    after = stack.ids()
    assert before.keys() == after.keys()
    assert before["edit-changed-1"] != after["edit-changed-1"]
    assert before["edit-same-1"] == after["edit-same-1"]
    assert before["edit-dependent-1"] == after["edit-dependent-1"]
    assert stack.sh("changed", "echo $COLOUR; cat /data/note") == "blue\nkept"


def test_the_plan_of_an_edit_names_the_service_and_what_changed(stack: Stack) -> None:
    stack.up()
    before = stack.ids()
    stack.replace("COLOUR: green", "COLOUR: blue")

    plan = stack.umiak("plan", exit_code=None).stdout

    about = [line for line in plan.splitlines() if "changed" in line]
    assert any("environment" in line for line in about), plan
    assert not any("service:same" in line for line in plan.splitlines()), plan
    assert stack.ids() == before, "a plan changes nothing"


def test_a_service_taken_out_of_the_file_goes_when_orphans_are_removed(stack: Stack) -> None:
    stack.up()
    stack.replace('  same:\n    image: busybox\n    command: ["sleep", "600"]\n', "")

    stack.up()
    assert "edit-same-1" in stack.ids()

    stack.up("--remove-orphans")
    assert "edit-same-1" not in stack.ids()


def test_more_replicas_are_added_and_fewer_are_removed(stack: Stack) -> None:
    stack.up()
    first = stack.ids()
    stack.replace("  same:\n", "  same:\n    scale: 3\n")
    stack.up()
    three = stack.ids()
    assert {name: three[name] for name in first} == first
    assert {"edit-same-2", "edit-same-3"} <= three.keys()

    stack.replace("    scale: 3\n", "    scale: 1\n")
    stack.up()
    wait_for(lambda: stack.ids() == first, "the extra replicas to go")
