"""What is planned, and why. The plans are compared as they print."""

from __future__ import annotations

import pytest

from engine.errors import InvalidInput, NotFound, Unavailable
from tests.unit.compose.stack import FakeStack, steps

WEB_AND_DB = """
    services:
      web:
        image: app
        environment: {COLOUR: green}
        depends_on: {db: {condition: service_healthy}}
      db:
        image: db
        volumes: ["data:/data", "/cache"]
        healthcheck: {test: [CMD, "true"]}
    volumes: {data: {}}
    """


@pytest.fixture
def running(stack: FakeStack) -> FakeStack:
    """A web service that needs a healthy database, both up."""
    stack.engine.programs["db"] = "healthy"
    stack.write(WEB_AND_DB).up()
    return stack


def test_the_first_plan_makes_everything_in_order(stack: FakeStack) -> None:
    assert steps(stack.write(WEB_AND_DB).plan()) == [
        "[] -> #1 volume:data, CreateVolume, not found",
        "[] -> #2 network:default, CreateNetwork, not found",
        "[1,2] -> #3 service:db:1, CreateContainer, no existing container",
        "[3] -> #4 service:db:1, StartContainer, created",
        "[2] -> #5 service:web:1, CreateContainer, no existing container",
        "[4] -> #6 service:db:1, AwaitContainer, service_healthy needed by web",
        "[5,6] -> #7 service:web:1, StartContainer, created",
    ]


def test_up_twice_changes_nothing(running: FakeStack) -> None:
    assert steps(running.plan(wait=True)) == []


def test_an_edit_recreates_only_what_changed_and_says_why(running: FakeStack) -> None:
    assert steps(running.edit("green", "blue").plan()) == [
        '[] -> #1 service:web:1, CreateContainer, environment.COLOUR: "green" → "blue"',
        "[1] -> #2 service:web:1, StopContainer, replaced by #1",
        "[2] -> #3 service:web:1, RemoveContainer, replaced by #1",
        "[3] -> #4 service:web:1, RenameContainer, replaced by #1",
        "[4] -> #5 service:web:1, StartContainer, created",
    ]


def test_values_that_look_secret_are_not_shown(running: FakeStack) -> None:
    running.edit("COLOUR: green", "DB_PASSWORD: hunter2")
    assert "hunter2" not in str(running.plan())
    assert 'environment.DB_PASSWORD: (none) → "***"' in str(running.plan())


def test_a_new_image_recreates(running: FakeStack) -> None:
    running.engine.images.ids["app"] = f"sha256:{'f' * 64}"
    assert "image app changed: 617070000000 → ffffffffffff" in steps(running.plan())[0]


def test_a_recreated_container_takes_its_anonymous_volumes_over(running: FakeStack) -> None:
    before = running.engine.container("p-db-1").volumes
    running.edit("image: db", "image: db\n    init: true").up()
    assert running.engine.container("p-db-1").volumes == before
    assert steps(running.plan()) == []
    running.edit("init: true", "init: false").up()
    assert running.engine.container("p-db-1").volumes == before
    running.edit("init: false", "init: true").up(renew_anonymous_volumes=True)
    assert running.engine.container("p-db-1").volumes["/cache"] != before["/cache"]


def test_an_exited_service_is_started_again(running: FakeStack) -> None:
    running.engine.set_status("p-web-1", state="exited", exit_code=3)
    assert steps(running.plan()) == ["[] -> #1 service:web:1, StartContainer, exited (3)"]


def test_a_completed_one_shot_is_not_run_again_until_its_definition_changes(stack: FakeStack) -> None:
    stack.engine.programs["job"] = "exit 0"
    stack.write(
        """
        services:
          web: {image: app, depends_on: {job: {condition: service_completed_successfully}}}
          job: {image: app, command: [one]}
        """
    ).up()
    assert steps(stack.plan()) == []
    assert steps(stack.edit("[one]", "[two]").plan()) == [
        '[] -> #1 service:job:1, CreateContainer, command: ["one"] → ["two"]',
        "[1] -> #2 service:job:1, RemoveContainer, replaced by #1",
        "[2] -> #3 service:job:1, RenameContainer, replaced by #1",
        "[3] -> #4 service:job:1, StartContainer, created",
    ]


def test_a_completed_service_that_nobody_waits_for_is_not_run_again_either(stack: FakeStack) -> None:
    stack.engine.programs |= {"job": "exit 0", "port": "exit 0", "again": "exit 0"}
    stack.write(
        """
        services:
          job: {image: app}
          port: {image: app, ports: ["80"]}
          again: {image: app, restart: on-failure}
        """
    ).up()
    assert steps(stack.plan()) == [
        "[] -> #1 service:port:1, StartContainer, exited (0)",
        "[] -> #2 service:again:1, StartContainer, exited (0)",
    ]
    assert len(steps(stack.plan(rerun=True))) == 3
    assert steps(stack.plan("job")) == []
    assert steps(stack.plan("job", rerun_services=("job",))) == [
        "[] -> #1 service:job:1, StartContainer, exited (0)",
    ]


def test_what_was_stopped_and_ended_with_0_has_not_completed(running: FakeStack) -> None:
    running.engine.stop_container("p-web-1")
    assert steps(running.plan()) == ["[] -> #1 service:web:1, StartContainer, exited (0)"]


def test_a_one_shot_that_failed_is_run_again(stack: FakeStack) -> None:
    stack.engine.programs["job"] = "exit 0"
    stack.write(
        """
        services:
          web: {image: app, depends_on: {job: {condition: service_completed_successfully}}}
          job: {image: app}
        """
    ).up()
    stack.engine.set_status("p-job-1", exit_code=1)
    assert steps(stack.plan()) == [
        "[] -> #1 service:job:1, StartContainer, exited (1)",
    ]


def test_scaling_adds_the_lowest_free_numbers_and_removes_the_highest(stack: FakeStack) -> None:
    stack.write("services: {web: {image: app, scale: 2}}").up()
    assert steps(stack.plan(scale={"web": 3})) == [
        "[] -> #1 service:web:3, CreateContainer, no existing container",
        "[1] -> #2 service:web:3, StartContainer, created",
    ]
    assert steps(stack.plan(scale={"web": 1})) == [
        "[] -> #1 service:web:2, StopContainer, scaled down to 1",
        "[1] -> #2 service:web:2, RemoveContainer, scaled down to 1",
    ]
    stack.engine.remove_container("p-web-1", force=True)
    assert steps(stack.plan())[0] == "[] -> #1 service:web:1, CreateContainer, no existing container"


def test_a_container_with_a_name_of_its_own_cannot_be_scaled(stack: FakeStack) -> None:
    stack.write("services:\n  web: {image: app, container_name: the-web}")
    with pytest.raises(InvalidInput, match="cannot have 2 replicas"):
        stack.plan(scale={"web": 2})
    stack.up()
    assert stack.states() == {"the-web": "running"}


def test_orphans_are_named_and_removed_when_asked(running: FakeStack) -> None:
    running.write("services: {db: {image: db, volumes: ['data:/data', '/cache'], healthcheck: {test: [CMD, 'true']}}}\n"
                  "volumes: {data: {}}")  # fmt: skip
    assert "p-web-1" in running.plan().warnings[0]
    assert steps(running.plan()) == []
    assert steps(running.plan(remove_orphans=True)) == [
        "[] -> #1 service:web:1, StopContainer, orphan: its service is not in the file",
        "[1] -> #2 service:web:1, RemoveContainer, orphan: its service is not in the file",
    ]


def test_a_service_that_a_profile_hides_is_no_orphan(running: FakeStack) -> None:
    running.edit("web:\n", "web:\n    profiles: [later]\n")
    assert running.plan().warnings == ()


def test_a_missing_image_is_found_before_anything_is_made(stack: FakeStack) -> None:
    stack.write("services:\n  web:\n    image: debian:bookworm-slim")
    with pytest.raises(Unavailable, match="cannot pull debian:bookworm-slim") as caught:
        stack.up()
    assert str(caught.value.place).endswith("compose.yaml:3:5")
    assert stack.engine.calls == []


def test_an_image_that_may_not_be_pulled_is_named(stack: FakeStack) -> None:
    stack.write("services:\n  web:\n    image: redis\n    pull_policy: never")
    with pytest.raises(NotFound) as caught:
        stack.up()
    assert caught.value.message == 'image "redis" of service "web" does not exist here'
    assert str(caught.value.place).endswith("compose.yaml:3:5")


def test_an_image_with_a_build_section_is_built_once(stack: FakeStack) -> None:
    stack.write(
        """
        services:
          web: {image: made, build: .}
          worker: {image: made, build: ., command: [work]}
        """
    )
    assert [line for line in steps(stack.plan()) if "image:" in line] == ["[] -> #1 image:web, PullImage, not found"]
    assert [line for line in steps(stack.plan(pull="never")) if "image:" in line] == [
        "[] -> #1 image:web, BuildImage, not found"
    ]
    stack.up()
    assert stack.engine.calls.count("build made") == 1
    assert steps(stack.plan()) == []


def test_a_build_that_changes_the_image_recreates_its_containers(stack: FakeStack) -> None:
    stack.write("services: {web: {build: {dockerfile_inline: FROM app}}}").up()
    first = stack.engine.container("p-web-1")
    stack.up(build=True)
    assert stack.engine.container("p-web-1").id == first.id
    stack.write("services: {web: {build: {dockerfile_inline: FROM busybox}}}").up(build=True)
    assert stack.engine.container("p-web-1").id != first.id


def test_a_changed_network_takes_everything_on_it_along(stack: FakeStack) -> None:
    stack.write("services:\n  a: {image: app, networks: [n]}\n  b: {image: app}\nnetworks: {n: {}}").up()
    stack.write("services:\n  a: {image: app, networks: [n]}\n  b: {image: app}\nnetworks: {n: {internal: true}}")
    assert steps(stack.plan("b")) == []
    assert steps(stack.plan()) == [
        "[] -> #1 service:a:1, StopContainer, network n changed: internal: (none) → true",
        "[1] -> #2 service:a:1, RetireContainer, network n changed: internal: (none) → true",
        "[2] -> #3 network:n, RemoveNetwork, network n changed: internal: (none) → true",
        "[3] -> #4 network:n, CreateNetwork, network n changed: internal: (none) → true",
        "[2,4] -> #5 service:a:1, CreateContainer, network n changed: internal: (none) → true",
        "[5] -> #6 service:a:1, RemoveContainer, replaced by #5",
        "[6] -> #7 service:a:1, RenameContainer, replaced by #5",
        "[7] -> #8 service:a:1, StartContainer, created",
    ]
    stack.up()
    assert steps(stack.plan()) == []


def test_a_fixed_address_is_freed_before_it_is_taken_again(stack: FakeStack) -> None:
    text = """
        services:
          a: {image: app, command: [one], networks: {n: {ipv4_address: 10.9.0.5}}}
        networks: {n: {ipam: {config: [{subnet: 10.9.0.0/24}]}}}
        """
    stack.write(text).up()
    kinds = [operation.kind for operation in stack.edit("[one]", "[two]").plan()]
    assert kinds == [
        "StopContainer",
        "RetireContainer",
        "CreateContainer",
        "RemoveContainer",
        "RenameContainer",
        "StartContainer",
    ]


def test_a_retired_container_is_replaced_whatever_is_asked_for(running: FakeStack) -> None:
    anonymous = running.engine.container("p-db-1").volumes["/cache"]
    running.engine.stop_container("p-db-1")
    running.engine.retire_container("p-db-1")
    assert "CreateContainer, left by an interrupted replacement" in str(running.plan(no_recreate=True))
    running.up()
    assert running.engine.container("p-db-1").volumes["/cache"] == anonymous
    assert steps(running.plan()) == []


def test_what_shares_a_namespace_is_recreated_with_its_owner(stack: FakeStack) -> None:
    stack.write(
        """
        services:
          vpn: {image: app, command: [one]}
          app: {image: app, network_mode: "service:vpn"}
        """
    ).up()
    assert stack.engine.container("p-app-1").spec.network_mode == "container:p-vpn-1"
    plan = stack.edit("[one]", "[two]").plan("vpn")
    assert any("shares what belongs to vpn, which is replaced" in line for line in steps(plan))
    stack.up("vpn")
    assert steps(stack.plan()) == []


def test_dependents_with_restart_true_are_restarted_around_the_replacement(stack: FakeStack) -> None:
    stack.write(
        """
        services:
          db: {image: db, command: [one]}
          web: {image: app, depends_on: {db: {condition: service_started, restart: true}}}
        """
    ).up()
    stack.edit("[one]", "[two]").up()
    assert [call for call in stack.engine.calls if not call.startswith(("create", "rename"))] == [
        "stop p-web-1",
        "stop p-db-1",
        "remove p-db-1",
        "start p-db-1",
        "start p-web-1",
    ]


def test_external_networks_and_volumes_must_exist(stack: FakeStack) -> None:
    stack.write("services: {a: {image: app, networks: [n]}}\nnetworks:\n  n: {external: true, name: shared}")
    with pytest.raises(NotFound) as caught:
        stack.plan()
    assert caught.value.message == "network shared is declared as external, but does not exist"
    assert str(caught.value.place).endswith("compose.yaml:3:3")


def test_services_named_bring_what_they_need_and_no_more(running: FakeStack) -> None:
    running.down()
    assert {operation.service for operation in running.plan("db") if operation.service} == {"db"}
    assert {operation.service for operation in running.plan("web") if operation.service} == {"db", "web"}
    assert {o.service for o in running.plan("web", no_deps=True) if o.service} == {"web"}


def test_force_recreate_recreates_and_no_recreate_does_not(running: FakeStack) -> None:
    assert "asked for with --force-recreate" in str(running.plan(force_recreate=True))
    assert steps(running.edit("green", "blue").plan(no_recreate=True)) == []


def test_waiting_is_for_what_is_not_ready_yet(running: FakeStack) -> None:
    running.engine.set_status("p-db-1", health=None)
    running.engine.set_status("p-db-1", state="exited", exit_code=1)
    assert steps(running.plan(wait=True)) == [
        "[] -> #1 service:db:1, StartContainer, exited (1)",
        "[1] -> #2 service:db:1, AwaitContainer, asked for with --wait",
    ]


def test_creating_without_starting_waits_for_nothing(stack: FakeStack) -> None:
    kinds = {operation.kind for operation in stack.write(WEB_AND_DB).plan(start=False)}
    assert kinds == {"CreateVolume", "CreateNetwork", "CreateContainer"}


def test_a_volume_with_another_definition_is_kept_with_a_warning(running: FakeStack) -> None:
    running.edit("volumes: {data: {}}", "volumes: {data: {driver_opts: {type: tmpfs, device: tmpfs}}}")
    assert steps(running.plan()) == []
    assert (
        'is kept as it is although its definition changed (options.type: (none) → "tmpfs"' in running.plan().warnings[0]
    )


def test_a_volume_with_another_definition_is_made_anew_where_that_is_asked_for(running: FakeStack) -> None:
    running.edit("volumes: {data: {}}", "volumes: {data: {labels: {a: b}}}")
    cause = 'volume data changed: labels.a: (none) → "b"'
    assert steps(running.plan("db", renew_volumes=True)) == [
        f"[] -> #1 service:db:1, StopContainer, {cause}",
        f"[1] -> #2 service:db:1, RetireContainer, {cause}",
        f"[2] -> #3 volume:data, RemoveVolume, {cause}",
        f"[3] -> #4 volume:data, CreateVolume, {cause}",
        f"[2,4] -> #5 service:db:1, CreateContainer, {cause}",
        "[5] -> #6 service:db:1, RemoveContainer, replaced by #5",
        "[6] -> #7 service:db:1, RenameContainer, replaced by #5",
        "[7] -> #8 service:db:1, StartContainer, created",
    ]
    anonymous = running.engine.container("p-db-1").volumes["/cache"]
    running.up(renew_volumes=True)
    assert running.engine.container("p-db-1").volumes["/cache"] == anonymous
    assert (steps(running.plan()), running.plan().warnings) == ([], ())


def test_a_volume_is_not_made_anew_where_nothing_may_be_recreated(running: FakeStack) -> None:
    running.edit("volumes: {data: {}}", "volumes: {data: {labels: {a: b}}}")
    assert steps(running.plan("db", renew_volumes=True, no_recreate=True)) == []


def test_who_takes_the_volumes_of_another_is_recreated_with_it(stack: FakeStack) -> None:
    stack.write(
        """
        services:
          b: {image: app, volumes_from: ["a:ro"]}
          a: {image: app, volumes: [/data], command: [one]}
        """
    ).up()
    assert stack.engine.container("p-b-1").spec.volumes_from == ("p-a-1:ro",)
    assert steps(stack.plan()) == []
    plan = stack.edit("[one]", "[two]").plan()
    assert "service:b:1, CreateContainer, shares what belongs to a, which is replaced" in str(plan)


def test_a_provider_is_called_when_the_containers_that_it_needs_are_ready(stack: FakeStack) -> None:
    plan = stack.write("""
        services:
          web: {image: busybox, depends_on: [cloud]}
          other: {image: busybox}
          cloud: {provider: {type: x}, depends_on: [later]}
          later: {provider: {type: x}, depends_on: [other]}
          first: {provider: {type: x}}
    """).plan()
    told = [line.partition("] -> ")[2].rpartition(", ")[0] for line in steps(plan)]
    assert [line for line in told if "service" in line] == [
        "#1 service:first, RunProvider",
        "#3 service:other:1, CreateContainer",
        "#4 service:other:1, StartContainer",
        "#5 service:other:1, AwaitContainer",
        "#6 service:later, RunProvider",
        "#7 service:cloud, RunProvider",
        "#8 service:web:1, CreateContainer",
        "#9 service:web:1, StartContainer",
    ]
