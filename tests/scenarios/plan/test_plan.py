"""What `plan` prints is what `up` does: its operations are the events of `up`, no more and no less."""

from __future__ import annotations

import json
import re
from collections import Counter

from tests.stack import Stack

DONE = {
    "CreateNetwork": "created",
    "RemoveNetwork": "removed",
    "CreateVolume": "created",
    "CreateContainer": "created",
    "StartContainer": "started",
    "StopContainer": "stopped",
    "RetireContainer": "retired",
    "RemoveContainer": "removed",
    "RenameContainer": "recreated",
    "AwaitContainer": "healthy",
}
"""The state in which an operation's last event tells that it is done."""

EDITS = [
    ("COLOUR: green", "COLOUR: blue"),
    ('test: [CMD, "true"]', 'test: [CMD-SHELL, "true"]'),
    ("  web:", "  web:\n    scale: 3"),
    ("default: {}", "default: {internal: true}"),
    ("  web:\n    scale: 3", "  app:"),
]


def planned(stack: Stack) -> Counter[tuple[str, str]]:
    """What and how often: the name of a thing and what becomes of it."""
    plan = json.loads(stack.umiak("plan", "--remove-orphans", "--format", "json", exit_code=2).stdout)
    assert all(operation["cause"] for operation in plan["operations"])
    return Counter((lasting(operation["name"]), DONE[operation["action"]]) for operation in plan["operations"])


def done(stack: Stack) -> Counter[tuple[str, str]]:
    """The same, as `up` tells it."""
    told = stack.umiak("--progress", "json", "up", "-d", "--remove-orphans").stderr
    events = [json.loads(line) for line in told.splitlines() if line.startswith("{")]
    named = [(event.get("container") or event.get("network") or event.get("volume"), event) for event in events]
    states = [
        (lasting(name), event["state"].replace("prepared", "created"))
        for name, event in named
        if name and "state" in event
    ]
    return Counter(state for state in states if state[1] in DONE.values())


def lasting(name: str) -> str:
    """A container's name, also while it is on its way to take another one's place."""
    return re.sub("^[0-9a-f]{12}_", "", name)


def test_the_operations_of_a_plan_are_the_events_of_up(stack: Stack) -> None:
    assert planned(stack) == done(stack)
    for old, new in EDITS:
        stack.replace(old, new)
        wanted = planned(stack)
        assert done(stack) == wanted, new
    stack.umiak("plan", exit_code=0)


def test_plan_and_a_dry_run_print_the_same_and_change_nothing(stack: Stack) -> None:
    stack.up()
    before = stack.ids()
    stack.replace("COLOUR: green", "COLOUR: blue")
    dry = stack.umiak("--dry-run", "up", "-d").stdout
    assert dry == stack.umiak("plan", exit_code=2).stdout
    assert 'environment.COLOUR: "green" → "blue"' in dry
    assert stack.ids() == before
