"""`--dry-run` tells what a command would do and changes nothing: no container, network, volume, image or file."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import pytest

from tests.stack import Stack

pytestmark = pytest.mark.umiak("Docker prints the progress of a dry run, umiak the plan")

COMMANDS = [
    "up -d",
    "up -d --force-recreate --build",
    "up -d --scale web=3",
    "up",
    "create --force-recreate",
    "run --rm web true",
    "run -d --name once web true",
    "exec web touch /touched",
    "start",
    "stop",
    "restart",
    "kill",
    "kill -s TERM web",
    "pause",
    "unpause",
    "rm -f",
    "rm -fsv",
    "scale web=2",
    "pull",
    "push",
    "build built",
    "cp compose.yaml web:/copied",
    "cp web:/etc/hosts copied",
    "wait --down-project web",
    "attach web",
    "export -o exported.tar web",
    "commit web local/committed",
    "down",
    "down -v --rmi all --remove-orphans -t 0",
]


def snapshot(stack: Stack) -> dict[str, object]:
    """All that a command could change: the containers' states, and every path that the engine or the user keeps."""
    host = stack.host
    return {
        "states": {str(path): path.read_text() for path in host.run.glob("containers/*/status.json")},
        "paths": sorted(path for base in (host.root, host.run, stack.directory) for path in paths_below(str(base))),
    }


def paths_below(base: str) -> Iterator[str]:
    for directory, _, files in os.walk(base):
        yield directory
        yield from (f"{directory}/{name}" for name in files if not name.endswith(("-wal", "-shm", ".lock")))


def everything(stack: Stack) -> list[str]:
    """What the engine itself lists."""
    return [stack.umiak(kind, "ls", "-q").stdout for kind in ("container", "network", "volume", "image")]


def test_no_command_changes_anything_in_a_dry_run(stack: Stack) -> None:
    stack.up("--scale", "web=2")
    stack.wait_until_state("done", "exited")
    stack.replace("depends_on", "environment: {NEW: value}\n    depends_on")
    before, listed = snapshot(stack), everything(stack)
    for line in COMMANDS:
        name, *words = line.split()
        stack.umiak("--dry-run", name, *words)
        assert snapshot(stack) == before, line
    assert everything(stack) == listed


def test_nothing_is_made_where_there_is_nothing_yet(stack: Stack) -> None:
    for line in ("up -d", "create", "run --rm web true", "scale web=2", "down -v"):
        stack.umiak("--dry-run", *line.split())
        assert stack.containers() == {}, line
        assert stack.umiak("network", "ls", "-q", "--filter", f"name={stack.directory.name}").stdout == "", line


def test_the_option_may_follow_the_command_as_with_docker_compose(stack: Stack) -> None:
    stack.umiak("up", "-d", "--dry-run")
    assert stack.containers() == {}
    stack.up()
    stack.umiak("down", "--dry-run")
    assert stack.container("web")["State"] == "running"
    assert stack.umiak("exec", "-T", "web", "echo", "--dry-run").stdout == "--dry-run\n"


@pytest.mark.parametrize("line", ["image rm busybox", "volume prune -f", "container prune -f", "system prune -f"])
def test_commands_on_everything_have_no_dry_run_and_refuse_it(stack: Stack, line: str) -> None:
    name, *words = line.split()
    assert "has no dry run" in stack.umiak("--dry-run", name, *words, exit_code=1).stderr


def test_a_dry_run_of_up_prints_the_plan_that_up_carries_out(stack: Stack) -> None:
    dry = stack.umiak("--dry-run", "up", "-d").stdout
    planned = json.loads(stack.umiak("plan", "--format", "json", exit_code=2).stdout)
    assert len(dry.splitlines()) == len(planned["operations"])
