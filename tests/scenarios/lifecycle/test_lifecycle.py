"""`pause`, `wait`, `events`, `rm`, `kill` and `restart`: what they do to containers, how they end, and what is on record of it."""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any

import pytest

from tests.stack import Stack

PROJECT = "lifecycle"


def events(stack: Stack, *words: str) -> list[dict[str, Any]]:
    """What is on record of the project so far."""
    printed = stack.umiak("events", "--json", "--since", "1", "--until", "0s", *words).stdout
    return [json.loads(line) for line in printed.splitlines()]


@pytest.mark.umiak("Docker refuses to pause what is paused")
def test_what_is_paused_stands_still_until_it_is_let_go_on(stack: Stack) -> None:
    stack.up("ticks")
    stack.umiak("pause")
    assert stack.container("ticks")["State"] == "paused"
    assert stack.umiak("ps", "--status", "paused", "--services").stdout == "ticks\n"
    before = stack.container("ticks")["ID"]
    stack.umiak("pause")
    assert "paused" in stack.exec("ticks", "true", exit_code=None).stderr
    stack.umiak("unpause", "ticks")
    lines = int(stack.sh("ticks", "wc -l < /ticks"))
    stack.wait_until(lambda: int(stack.sh("ticks", "wc -l < /ticks")) > lines, "it to go on")
    assert stack.container("ticks")["ID"] == before
    stack.umiak("pause")
    stack.down("-t", "1")
    assert stack.containers() == {}


def waiting_for(stack: Stack, *words: str) -> subprocess.Popen[str]:
    """A `wait` that has found its containers: it follows each in a thread, beside the main one and the one for signals."""
    child = stack.start("wait", *words)
    stack.wait_until(lambda: len(os.listdir(f"/proc/{child.pid}/task")) > 2, "wait to follow", timeout_s=30)
    return child


def test_wait_ends_with_the_exit_code(stack: Stack) -> None:
    stack.up()
    waiting = waiting_for(stack, "five")
    stack.exec("five", "touch", "/go")
    output, _ = waiting.communicate(timeout=60)
    assert waiting.returncode == 5
    assert output.endswith("exited with status code 5\n")
    assert "no containers" in stack.umiak("wait", "five", exit_code=1).stderr
    waiting = waiting_for(stack, "--down-project", "ticks")
    stack.umiak("kill", "-s", "KILL", "ticks")
    waiting.communicate(timeout=60)
    assert waiting.returncode == 137
    assert stack.containers() == {}


@pytest.mark.umiak("Docker's events --until ends with an error")
def test_events_are_on_record_in_dockers_words(stack: Stack) -> None:
    stack.up("five")
    stack.exec("five", "touch", "/go")
    stack.wait_until_state("five", "exited")
    found = events(stack)
    assert [one["action"] for one in found if one["action"] in ("create", "start", "die")][-3:] == [
        "create",
        "start",
        "die",
    ]
    died = found[-1]
    assert set(died) == {"time", "type", "service", "id", "action", "attributes"}
    assert (died["type"], died["service"]) == ("container", "five")
    assert died["id"].startswith(stack.container("five")["ID"])
    assert (died["attributes"]["exitCode"], died["attributes"]["name"]) == ("5", f"{PROJECT}-five-1")
    assert not any(key.startswith("com.docker.compose.") for key in died["attributes"])
    assert events(stack, "ticks") == [one for one in found if one["service"] == "ticks"]


@pytest.mark.umiak("Docker's rm without -f and a terminal removes nothing, and tells nobody")
def test_rm_removes_what_does_not_run_and_with_stop_the_rest(stack: Stack) -> None:
    stack.up()
    stack.exec("five", "touch", "/go")
    stack.wait_until_state("five", "exited")
    stack.umiak("rm", exit_code=1)  # nobody can be asked
    stack.umiak("rm", "-f")
    assert list(stack.states()) == [f"{PROJECT}-ticks-1"]
    assert "No stopped containers" in stack.umiak("rm", "-f").stderr
    stack.umiak("rm", "-fs")
    assert stack.containers() == {}


def test_restart_takes_along_those_that_ask_for_it(stack: Stack) -> None:
    stack.replace("  five:\n", "  five:\n    depends_on: {ticks: {condition: service_started, restart: true}}\n")
    stack.up()

    def pids() -> list[int]:
        return [stack.status(name)["pid"] for name in ("ticks", "five")]

    first = pids()
    stack.umiak("restart", "-t", "0", "--no-deps", "ticks")
    second = pids()
    assert (second[0] != first[0], second[1] == first[1]) == (True, True)
    stack.umiak("restart", "-t", "0", "ticks")
    third = pids()
    assert (third[0] != second[0], third[1] != second[1]) == (True, True)


def test_down_of_services_leaves_the_others_and_what_they_use(stack: Stack) -> None:
    stack.write(
        "services:\n"
        "  one: {image: busybox, command: [sleep, '600'], init: true, networks: [shared, own], volumes: ['shared:/s', 'own:/o']}\n"
        "  two: {image: busybox, command: [sleep, '600'], init: true, networks: [shared], volumes: ['shared:/s']}\n"
        "networks: {shared: , own: }\nvolumes: {shared: , own: }\n"
    )
    stack.up()
    stack.down("-v", "one")
    assert list(stack.states()) == [f"{PROJECT}-two-1"]
    assert stack.umiak("volumes", "-q").stdout == f"{PROJECT}_shared\n"
    stack.sh("two", "touch /s/still-there")
    assert "no such service: nothing" in stack.umiak("down", "nothing", exit_code=1).stderr
    stack.up("two")
    stack.down("-v")
    assert stack.containers() == {}


def test_containers_of_services_no_longer_in_the_file_can_be_left_out(stack: Stack) -> None:
    stack.up("ticks")
    stack.replace("  ticks:\n", "  renamed:\n")
    assert stack.umiak("ps", "--services").stdout == "ticks\n"
    assert stack.umiak("ps", "--services", "--orphans=false").stdout.split() == []
    stack.env["COMPOSE_IGNORE_ORPHANS"] = "1"
    assert "orphan" not in stack.up("five").stderr
    del stack.env["COMPOSE_IGNORE_ORPHANS"]
    assert f"{PROJECT}-ticks-1" in stack.up("five").stderr
    stack.env["COMPOSE_REMOVE_ORPHANS"] = "1"
    stack.up("five")
    assert list(stack.states()) == [f"{PROJECT}-five-1"]
