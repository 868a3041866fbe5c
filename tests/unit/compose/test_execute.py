"""Plans carried out: order, failures with what they show, and what is taken back."""

from __future__ import annotations

import pytest

from compose.failure import NotReady
from engine.errors import Conflict, UmiakError
from tests.unit.compose.stack import FakeStack, steps

CHAIN = """
    services:
      web:
        image: app
        depends_on: {db: {condition: service_healthy}}
      db:
        image: db
        volumes: ["data:/data"]
        healthcheck: {test: [CMD, "true"]}
    volumes: {data: {}}
    """


def test_an_unhealthy_dependency_fails_with_all_that_helps(stack: FakeStack) -> None:
    stack.engine.programs["db"] = "unhealthy"
    with pytest.raises(NotReady) as caught:
        stack.write(CHAIN).up()
    assert caught.value.message == "dependency failed to start: container p-db-1 is unhealthy"
    assert caught.value.details[:2] == ("last probe: true", "  exited with code 1 after 0.1s, 0 failures in a row")
    assert "  last words" in caught.value.details
    assert caught.value.hint == "try the test by hand with: umiak -p p exec db sh"
    assert str(caught.value.place).endswith("compose.yaml:9:5"), "its health check"


def test_a_failure_leaves_what_started_and_takes_back_what_did_not(stack: FakeStack) -> None:
    stack.engine.programs["db"] = "unhealthy"
    with pytest.raises(UmiakError):
        stack.write(CHAIN).up()
    assert stack.states() == {"p-db-1": "running"}
    assert [network.spec.name for network in stack.engine.networks()] == ["p_default"]
    assert [volume.spec.name for volume in stack.engine.volumes()] == ["p_data"]


def test_a_start_that_fails_leaves_nothing_at_all(stack: FakeStack) -> None:
    stack.engine.programs["db"] = "cannot start"
    with pytest.raises(Conflict, match="already used by nginx") as caught:
        stack.write(CHAIN).up()
    assert str(caught.value.place).endswith("compose.yaml:6:3")
    assert stack.states() == {}
    assert stack.engine.networks() == []
    assert stack.engine.volumes() == []


def test_a_successor_that_cannot_start_is_kept_for_the_next_up(stack: FakeStack) -> None:
    stack.write("services: {db: {image: db, volumes: [/data]}}").up()
    volumes = stack.engine.container("p-db-1").volumes
    stack.engine.programs["db"] = "cannot start"
    with pytest.raises(Conflict):
        stack.write("services: {db: {image: db, volumes: [/data], init: true}}").up()
    assert stack.states() == {"p-db-1": "created"}
    stack.engine.programs["db"] = "run"
    stack.up()
    assert stack.states() == {"p-db-1": "running"}
    assert stack.engine.container("p-db-1").volumes == volumes


def test_a_job_that_fails_stops_what_waits_for_it(stack: FakeStack) -> None:
    stack.engine.programs["job"] = "exit 7"
    stack.write(
        """
        services:
          job: {image: app}
          web: {image: app, depends_on: {job: {condition: service_completed_successfully}}}
        """
    )
    with pytest.raises(NotReady) as caught:
        stack.up()
    assert caught.value.message == 'service "job" didn\'t complete successfully: exit 7'
    assert "p-job-1 exited with code 7 after 1.0s" in caught.value.details
    assert stack.states() == {"p-job-1": "exited"}


def test_a_failure_that_is_not_required_is_only_told(stack: FakeStack) -> None:
    stack.engine.programs["job"] = "exit 7"
    stack.write(
        """
        services:
          job: {image: app}
          web: {image: app, depends_on: {job: {condition: service_completed_successfully, required: false}}}
        """
    ).up()
    assert stack.states()["p-web-1"] == "running"
    assert "p-job-1 not required" in stack.told()


def test_wait_accepts_a_one_shot_and_fails_at_an_error(stack: FakeStack) -> None:
    stack.write("services: {once: {image: app}}")
    stack.engine.programs["once"] = "exit 0"
    stack.up(wait=True)
    stack.down()
    stack.engine.programs["once"] = "exit 1"
    with pytest.raises(NotReady, match=r"container p-once-1 exited \(1\)"):
        stack.up(wait=True)


def test_wait_has_a_bound_and_says_what_it_waited_for(stack: FakeStack) -> None:
    stack.engine.programs["db"] = "starting"
    with pytest.raises(NotReady, match=r"application not healthy after 0.2s: still waiting for p-db-1"):
        stack.write(CHAIN).up(wait=True, wait_timeout_s=0.2)


def test_waiting_for_health_without_a_check_is_an_error(stack: FakeStack) -> None:
    stack.write("services:\n  a: {image: app}\n  b: {image: app, depends_on: {a: {condition: service_healthy}}}")
    with pytest.raises(NotReady, match="container p-a-1 has no healthcheck configured"):
        stack.up()


def kill_at(stack: FakeStack, call: int) -> None:
    """Let `up` be killed as it makes its n-th call; nothing after it happens, not even undoing."""
    stack.engine.calls.clear()
    stack.engine.fail_at = call
    with pytest.raises(KeyboardInterrupt):
        stack.up()
    stack.engine.fail_at = None


@pytest.mark.parametrize("call", range(8))
def test_up_killed_at_any_call_is_finished_by_the_next(stack: FakeStack, call: int) -> None:
    stack.engine.programs["db"] = "healthy"
    kill_at(stack.write(CHAIN), call % 6)
    stack.up()
    assert stack.states() == {"p-db-1": "running", "p-web-1": "running"}
    assert steps(stack.plan()) == []


@pytest.mark.parametrize("call", range(5))
def test_a_replacement_killed_at_any_call_is_finished_by_the_next(stack: FakeStack, call: int) -> None:
    stack.write("services: {db: {image: db, volumes: [/data]}}").up()
    volumes = stack.engine.container("p-db-1").volumes
    kill_at(stack.write("services: {db: {image: db, volumes: [/data], init: true}}"), call)
    stack.up()
    assert stack.states() == {"p-db-1": "running"}
    assert stack.engine.container("p-db-1").spec.init
    assert stack.engine.container("p-db-1").volumes == volumes
    assert steps(stack.plan()) == []


@pytest.mark.parametrize("call", range(5))
def test_a_replacement_killed_and_then_edited_again_ends_with_the_last_edit(stack: FakeStack, call: int) -> None:
    stack.write("services: {db: {image: db, volumes: [/data]}}").up()
    volumes = stack.engine.container("p-db-1").volumes
    kill_at(stack.write("services: {db: {image: db, volumes: [/data], init: true}}"), call)
    stack.write("services: {db: {image: db, volumes: [/data], tty: true}}").up()
    container = stack.engine.container("p-db-1")
    assert (container.spec.init, container.spec.tty) == (False, True)
    assert container.volumes == volumes
    assert stack.states() == {"p-db-1": "running"}


def test_down_stops_dependents_first_and_keeps_volumes(stack: FakeStack) -> None:
    stack.engine.programs["db"] = "healthy"
    stack.write(CHAIN).up()
    stack.down()
    calls = stack.engine.calls
    assert calls.index("stop p-web-1") < calls.index("stop p-db-1")
    assert calls[-1] == "remove network p_default"
    assert [volume.spec.name for volume in stack.engine.volumes()] == ["p_data"]
    assert not stack.down()


def test_down_with_volumes_removes_them_too(stack: FakeStack) -> None:
    stack.write("services: {db: {image: db, volumes: ['data:/data', '/anonymous']}}\nvolumes: {data: {}}").up()
    stack.down(volumes=True)
    assert stack.engine.volumes() == []


def test_start_replays_conditions_from_labels_and_leaves_completed_jobs_alone(stack: FakeStack) -> None:
    stack.engine.programs |= {"job": "exit 0", "db": "healthy"}
    stack.write(
        """
        services:
          db: {image: db, healthcheck: {test: [CMD, "true"]}}
          job: {image: app, depends_on: {db: {condition: service_healthy}}}
          web: {image: app, depends_on: {job: {condition: service_completed_successfully}}}
        """
    ).up()
    stack.orchestrator.stop("p")
    stack.engine.calls.clear()
    stack.orchestrator.start("p", ["web"])
    assert stack.engine.calls == ["start p-db-1", "start p-web-1"]


def test_restart_stops_and_starts_in_the_order_of_dependencies(stack: FakeStack) -> None:
    stack.engine.programs["db"] = "healthy"
    stack.write(CHAIN).up()
    stack.engine.calls.clear()
    stack.orchestrator.restart("p")
    assert stack.engine.calls == ["stop p-web-1", "stop p-db-1", "start p-db-1", "start p-web-1"]
