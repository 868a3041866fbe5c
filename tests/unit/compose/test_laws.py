"""What must hold for every project: reconciling after applying a plan gives an empty plan."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compose.plan import CreateContainer, StartContainer
from tests.unit.compose.stack import FakeStack

NAMES = ("a", "b", "c", "d")
CALLS = {
    "CreateContainer": "create",
    "StartContainer": "start",
    "StopContainer": "stop",
    "RetireContainer": "retire",
    "RemoveContainer": "remove",
    "RenameContainer": "rename",
    "CreateNetwork": "create network",
    "RemoveNetwork": "remove network",
    "CreateVolume": "create volume",
}
"""What the engine is asked for each operation; waits ask nothing of it."""
CONDITIONS = ("service_started", "service_healthy", "service_completed_successfully")


@st.composite
def services(draw: st.DrawFn) -> dict[str, Any]:
    """A few services; each may need those before it in the alphabet."""
    made: dict[str, Any] = {}
    for name in draw(st.lists(st.sampled_from(NAMES), min_size=1, unique=True).map(sorted)):
        service: dict[str, Any] = {"image": draw(st.sampled_from(["app", "db"])), "scale": draw(st.integers(0, 3))}
        service["environment"] = {"X": draw(st.sampled_from(["1", "2"]))}
        service["networks"] = draw(st.lists(st.sampled_from(["n", "m"]), min_size=1, unique=True))
        service["volumes"] = draw(st.sampled_from([[], ["vol:/v"], ["/anonymous"], ["vol:/v", "two:/w"]]))
        needs = draw(st.lists(st.sampled_from(sorted(made)), unique=True)) if made else []
        service["depends_on"] = {
            need: {"condition": draw(st.sampled_from(CONDITIONS)), "restart": draw(st.booleans())} for need in needs
        }
        made[name] = service
    return made


def as_file(made: dict[str, Any], internal: bool) -> str:
    return json.dumps(
        {"services": made, "networks": {"n": {"internal": internal}, "m": {}}, "volumes": {"vol": {}, "two": {}}}
    )


def programs(made: dict[str, Any]) -> dict[str, str]:
    """What each must do for all conditions on it to come true; none where they contradict each other.

    It is in the definition too: a container that is kept goes on doing what it did.
    """
    wanted: dict[str, str] = {}
    for service in made.values():
        for name, need in service["depends_on"].items():
            program = {"service_healthy": "healthy", "service_completed_successfully": "exit 0"}.get(need["condition"])
            if program and wanted.setdefault(name, program) != program:
                need["condition"] = "service_started"
    for name, program in wanted.items():
        made[name]["environment"]["DOES"] = program
    return wanted


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(services(), services(), st.booleans())
def test_reconciling_after_applying_a_plan_gives_an_empty_plan(
    first: dict[str, Any], second: dict[str, Any], internal: bool
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        stack = FakeStack(Path(directory))
        for made, is_internal in ((first, False), (second, internal)):
            stack.engine.programs = programs(made)
            stack.write(as_file(made, is_internal))
            stack.up(remove_orphans=True)
            assert str(stack.plan(remove_orphans=True, wait=True)) == ""
            count = sum(service["scale"] for service in made.values())
            assert len(stack.states()) == count
        stack.down(volumes=True)
        named = [volume for volume in stack.engine.volumes() if not volume.anonymous]
        assert (stack.states(), stack.engine.networks(), named) == ({}, [], [])


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(services(), services(), st.booleans(), st.booleans())
def test_what_a_plan_prints_is_what_up_does(
    first: dict[str, Any], second: dict[str, Any], internal: bool, force: bool
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        stack = FakeStack(Path(directory))
        for made, is_internal in ((first, False), (second, internal)):
            stack.engine.programs = programs(made)
            planned = stack.write(as_file(made, is_internal)).plan(remove_orphans=True, force_recreate=force)
            done = stack.up(remove_orphans=True, force_recreate=force)
            assert str(planned) == str(done)
            called = [f"{CALLS[o.kind]} {o.subject}" for o in planned if o.kind in CALLS]
            assert Counter(called) == Counter(
                call.rsplit(" ", call.startswith("rename"))[0] for call in stack.engine.calls
            )


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(services(), services())
def test_an_operation_only_waits_for_earlier_ones_and_starts_follow_creations(
    first: dict[str, Any], second: dict[str, Any]
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        stack = FakeStack(Path(directory))
        stack.engine.programs = programs(first)
        stack.write(as_file(first, False)).up()
        plan = stack.write(as_file(second, True)).plan(remove_orphans=True)
        for operation in plan:
            assert all(other < operation.id for other in operation.after)
        created = {o.resource for o in plan if isinstance(o.action, CreateContainer)}
        started = {o.resource for o in plan if isinstance(o.action, StartContainer)}
        assert created <= started
