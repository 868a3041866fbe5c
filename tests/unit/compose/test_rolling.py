"""Rolling updates: what is planned, what a failure leaves, and that a kill at any call is mended."""

from __future__ import annotations

import pytest

from compose import labels
from compose.cli.view.plain import line_of
from engine.errors import InvalidInput, UmiakError
from engine.types import ContainerInfo
from tests.unit.compose.stack import FakeStack, steps

WEB = """
    services:
      web:
        image: app
        environment: {COLOUR: green}
        healthcheck: {test: [CMD, "true"]}
        scale: 3
        deploy: {update_config: {parallelism: 2, failure_action: rollback}}
    """


@pytest.fixture
def web(stack: FakeStack) -> FakeStack:
    """Three healthy replicas."""
    stack.engine.programs["web"] = "healthy"
    stack.write(WEB).up()
    return stack


def blue_does(stack: FakeStack, program: str, number: int = 0) -> None:
    """Let the new containers do something else, or only the one with that number."""

    def program_of(container: ContainerInfo) -> str:
        is_meant = container.spec.environment["COLOUR"] == "blue" and number in (0, labels.number(container.labels))
        return program if is_meant else "healthy"

    stack.engine.program_of = program_of


def containers(stack: FakeStack) -> dict[str, str]:
    """Name → state and colour."""
    found = stack.engine.containers()
    return {c.name: f"{c.status.state} {c.spec.environment['COLOUR']}" for c in found}


GREEN = {f"p-web-{number}": "running green" for number in (1, 2, 3)}
BLUE = dict.fromkeys(GREEN, "running blue")


def test_containers_are_replaced_group_by_group_and_removed_at_the_end(web: FakeStack) -> None:
    cause = "update {} of 3, stop-first"
    plan = steps(web.edit("green", "blue").plan())
    made = ", ".join(plan[:3])
    assert made.count("CreateContainer") == 3
    assert plan[3:12] == [
        f"[1,2,3] -> #4 service:web:1, StopContainer, {cause.format(1)}",
        f"[4] -> #5 service:web:1, StartContainer, {cause.format(1)}",
        "[5] -> #6 service:web:1, AwaitContainer, must be ready, else rollback",
        f"[1,2,3] -> #7 service:web:2, StopContainer, {cause.format(2)}",
        f"[7] -> #8 service:web:2, StartContainer, {cause.format(2)}",
        "[8] -> #9 service:web:2, AwaitContainer, must be ready, else rollback",
        f"[6,9] -> #10 service:web:3, StopContainer, {cause.format(3)}",
        f"[10] -> #11 service:web:3, StartContainer, {cause.format(3)}",
        "[11] -> #12 service:web:3, AwaitContainer, must be ready, else rollback",
    ]
    assert plan[12] == "[6,9,12] -> #13 service:web:1, RemoveContainer, all of web is updated"
    web.up()
    assert containers(web) == BLUE
    assert steps(web.plan(wait=True)) == []


def test_start_first_stops_the_old_one_when_the_new_one_is_good(web: FakeStack) -> None:
    web.edit("scale: 3", "scale: 1")
    web.edit("parallelism: 2", "order: start-first").up()
    plan = steps(web.edit("green", "blue").plan())
    assert [line.split(", ")[1] for line in plan] == [
        "CreateContainer",
        "StartContainer",
        "AwaitContainer",
        "StopContainer",
        "RemoveContainer",
        "RenameContainer",
    ]
    assert "[3] -> #4 service:web:1, StopContainer, update 1 of 1, start-first" in plan


def test_a_delay_lies_between_groups(web: FakeStack) -> None:
    plan = steps(web.edit("parallelism: 2", "delay: 10ms").edit("green", "blue").plan())
    assert sum("service:web, Delay, update_config.delay 0.01s" in line for line in plan) == 2
    web.up()
    assert containers(web) == BLUE
    told = [line_of(event) for event in web.events if event.kind == "delay"]
    assert told[0] == " Service web  Waiting  update_config.delay 0.01s"
    assert len(told) == 4


@pytest.mark.parametrize("order", ["stop-first", "start-first"])
def test_a_failed_update_is_rolled_back_and_the_old_containers_run(web: FakeStack, order: str) -> None:
    before = {c.id for c in web.engine.containers()}
    blue_does(web, "unhealthy")
    web.edit("parallelism: 2", f"order: {order}").edit("green", "blue")
    with pytest.raises(UmiakError, match=r"is unhealthy; web: rolled back to the former containers"):
        web.up()
    assert containers(web) == GREEN
    assert {c.id for c in web.engine.containers()} == before
    assert any("update failed" in str(event.data.get("message")) for event in web.events if event.state == "warning")


def test_a_container_that_cannot_start_is_a_failed_update(web: FakeStack) -> None:
    blue_does(web, "cannot start")
    web.edit("green", "blue")
    with pytest.raises(UmiakError, match="already used by nginx"):
        web.up()
    assert containers(web) == GREEN


def test_pause_keeps_what_is_good_and_brings_the_rest_back(web: FakeStack) -> None:
    web.edit("parallelism: 2, failure_action: rollback", "").edit("green", "blue")
    blue_does(web, "unhealthy", 2)
    with pytest.raises(UmiakError, match="web: 1 of 3 containers are new, the others are again what they were"):
        web.up()
    web.engine.program_of = None
    assert containers(web) == GREEN | {"p-web-1": "running blue"}
    web.up()
    assert containers(web) == BLUE


def test_continue_goes_on_with_a_warning(web: FakeStack) -> None:
    web.edit("failure_action: rollback", "failure_action: continue").edit("green", "blue")
    web.engine.programs["web"] = "unhealthy"
    web.up()
    assert containers(web) == BLUE
    assert sum("not required" in line for line in web.told()) == 3


def test_so_many_failures_are_tolerated_as_max_failure_ratio_says(web: FakeStack) -> None:
    web.edit("parallelism: 2", "max_failure_ratio: 0.4").edit("green", "blue")
    blue_does(web, "unhealthy", 2)
    web.up()
    assert containers(web) == BLUE


def test_a_restart_while_it_is_watched_is_a_failure(stack: FakeStack) -> None:
    stack.write("services: {web: {image: app, environment: {COLOUR: green}, deploy: {update_config: {monitor: 30s}}}}")
    stack.up()
    stack.edit("green", "blue")
    stack.engine.programs["web"] = "exit 1"
    with pytest.raises(UmiakError, match=r"exited \(1\)"):
        stack.up()
    assert containers(stack).keys() == {"p-web-1"}


def test_what_only_one_container_can_hold_is_said_and_done_stop_first(web: FakeStack) -> None:
    web.edit("scale: 3", "ports: ['8080:80']").edit("parallelism: 2", "order: start-first").up()
    plan = web.edit("green", "blue").plan()
    assert "web is updated stop-first, not start-first: it publishes port 8080 of the host" in plan.warnings[0]
    kinds = [operation.kind for operation in plan]
    assert kinds.index("StopContainer") < kinds.index("StartContainer")


def test_a_fixed_address_forbids_it(stack: FakeStack) -> None:
    stack.write(
        """
        services:
          web: {image: app, networks: {n: {ipv4_address: 10.0.0.9}}, environment: {COLOUR: green}, deploy: {update_config: {}}}
        networks: {n: {ipam: {config: [{subnet: 10.0.0.0/24}]}}}
        """
    ).up()
    plan = stack.edit("green", "blue").plan()
    assert "update_config of web is not acted on: its fixed address" in plan.warnings[0]
    assert "AwaitContainer" not in str(plan)


def test_a_word_that_means_nothing_is_an_error_with_its_place(web: FakeStack) -> None:
    web.edit("failure_action: rollback", "failure_action: explode")
    with pytest.raises(InvalidInput, match='"explode" is no failure_action') as caught:
        web.plan()
    assert "compose.yaml:8:" in str(caught.value.place)


def test_other_services_wait_for_the_whole_update(web: FakeStack) -> None:
    path = web.directory / "compose.yaml"
    path.write_text(path.read_text() + "  api: {image: app, environment: {COLOUR: green}, depends_on: [web]}\n")
    web.up()
    plan = web.edit("green", "blue").plan()
    (start,) = [o for o in plan if o.resource == "service:api:1" and o.kind == "StartContainer"]
    renames = {o.id for o in plan if o.resource.startswith("service:web") and o.kind == "RenameContainer"}
    assert renames <= set(start.after)


@pytest.mark.parametrize("order", ["stop-first", "start-first"])
@pytest.mark.parametrize("call", range(24))
def test_an_update_killed_at_any_call_is_finished_by_the_next(web: FakeStack, order: str, call: int) -> None:
    web.edit("parallelism: 2", f"order: {order}").edit("green", "blue")
    web.engine.fail_at = call
    try:
        web.up()
    except KeyboardInterrupt:
        pass
    web.engine.fail_at = None
    web.up()
    assert containers(web) == BLUE
    assert steps(web.plan(wait=True)) == []


@pytest.mark.parametrize("call", range(0, 24, 3))
def test_an_update_killed_and_taken_back_in_the_file_ends_with_the_old_containers(web: FakeStack, call: int) -> None:
    web.edit("green", "blue")
    web.engine.fail_at = call
    try:
        web.up()
    except KeyboardInterrupt:
        pass
    web.engine.fail_at = None
    web.edit("blue", "green").up()
    assert containers(web) == GREEN
