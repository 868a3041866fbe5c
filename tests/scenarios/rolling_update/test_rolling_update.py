"""A service with an `update_config` is updated container by container, and goes back to the old ones where a new one is not good."""

from __future__ import annotations

import os
import signal
import socket
import time

import pytest

from tests.stack import Stack, json_values, wait_for

pytestmark = pytest.mark.umiak("Docker Compose does not act on update_config")


def pages(stack: Stack) -> set[str]:
    """What the replicas serve."""
    return {stack.sh("web", "wget -qO- localhost", index=number) for number in (1, 2)}


def events(stack: Stack, since: float) -> list[tuple[str, str]]:
    """What happened to containers: ID and action."""
    printed = stack.umiak("events", "--json", "--since", f"{since:f}", "--until", f"{time.time():f}").stdout
    return [(event["id"][:12], event["action"]) for event in json_values(printed)]


def test_old_containers_run_until_new_ones_are_healthy(stack: Stack) -> None:
    stack.up("--wait")
    old, since = stack.ids(), time.time()
    stack.replace("PAGE: one", "PAGE: two")

    stack.up()

    new = stack.ids()
    assert (old.keys(), pages(stack)) == (new.keys(), {"two"})
    seen = events(stack, since)
    healthy = [seen.index((new[name], "health_status: healthy")) for name in sorted(new)]
    ended = [seen.index((old[name], "die")) for name in sorted(old)]
    assert healthy[0] < ended[0] < healthy[1] < ended[1]
    stack.umiak("plan")


def test_a_container_that_was_renamed_while_it_ran_is_known_by_its_new_name(stack: Stack) -> None:
    stack.replace("init: true", "init: true\n    restart: always")
    stack.up()
    stack.replace("PAGE: one", "PAGE: two")
    stack.up()
    pid, since = stack.status("web")["pid"], time.time()
    stack.host.kill(pid)
    stack.wait_until(lambda: stack.status("web")["pid"] not in (0, pid), "a restart of its own accord")
    assert stack.sh("web", "wget -qO- rolling_update-web-1", index=2) == "two"
    printed = stack.umiak("events", "--json", "--since", f"{since:f}", "--until", f"{time.time():f}").stdout
    assert {event["attributes"]["name"] for event in json_values(printed) if event["action"] in ("die", "start")} == {
        "rolling_update-web-1"
    }


@pytest.mark.parametrize("order", ["start-first", "stop-first"])
def test_a_failed_health_gate_brings_the_old_containers_back(stack: Stack, order: str) -> None:
    stack.replace("order: start-first", f"order: {order}")
    stack.up("--wait")
    old = stack.ids()
    stack.replace("PAGE: one", "PAGE: bad")

    failed = stack.up(exit_code=1)

    assert stack.ids() == old
    assert (set(stack.states().values()), pages(stack)) == ({"running"}, {"one"})
    for told in ("rolled back to the former containers", "the page is bad", "serving bad"):
        assert told in failed.stderr
    assert stack.umiak("plan", exit_code=2).stdout.count('environment.PAGE: "one" → "bad"') == 2


def test_one_that_ends_while_it_is_watched_is_taken_back(stack: Stack) -> None:
    stack.write(
        "services: {job: {image: busybox, restart: always, init: true, environment: {S: '600'}, command: [sh, -c, 'sleep $$S'],"
        " deploy: {update_config: {failure_action: rollback, monitor: 30s}}}}"
    )
    stack.up()
    old = stack.ids()
    stack.replace("S: '600'", "S: '0.3'")
    stack.up(exit_code=1)
    assert (stack.ids(), set(stack.states().values())) == (old, {"running"})


def test_a_fixed_port_is_updated_stop_first_and_given_back(stack: Stack) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    stack.replace("scale: 2", f'ports: ["127.0.0.1:{port}:80"]')
    stack.up("--wait")
    old = stack.ids()
    stack.replace("PAGE: one", "PAGE: bad")
    plan = stack.umiak("plan", exit_code=2)
    assert f"updated stop-first, not start-first: it publishes port {port}" in plan.stderr
    stack.up(exit_code=1)
    assert stack.ids() == old
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert wait_for(lambda: client.recv(4096), "an answer").startswith(b"HTTP/1")


def test_an_update_killed_half_way_is_finished_by_the_next_up_or_taken_away_by_down(stack: Stack) -> None:
    stack.replace("retries: 3", "retries: 1000")
    stack.up()
    old = stack.ids()
    stack.replace("PAGE: one", "PAGE: bad")
    new = killed_beside_the_old(stack)
    assert old.items() <= stack.ids().items()

    (stack.directory / "checks" / "bad.is-bad").unlink()
    stack.up()
    assert stack.ids().keys() == old.keys()
    assert new in stack.ids().values(), "the container that was there already is the one that took over"

    (stack.directory / "checks" / "worse.is-bad").touch()
    stack.replace("PAGE: bad", "PAGE: worse")
    killed_beside_the_old(stack)
    stack.down()
    assert stack.ids() == {}


def killed_beside_the_old(stack: Stack) -> str:
    """Kill an `up` when a third container runs; return that one's ID."""
    child = stack.start("up", "-d")
    passing = wait_for(lambda: [name for name in running(stack) if "_rolling" in name], "a new container")
    os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    return stack.ids()[passing[0]]


def running(stack: Stack) -> list[str]:
    return [name for name, state in stack.states().items() if state == "running"]
