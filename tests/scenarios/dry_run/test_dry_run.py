"""`--dry-run` tells what a command would do and changes nothing: no container, network, volume, image or file."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest

from compose.cli import commands
from compose.cli.commands import command_module
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
    "watch built",
    "boot",
    "down",
    "down -v --rmi all --remove-orphans -t 0",
]
LOOKING = {
    *("completion", "config", "convert", "events", "explain", "explain-config", "images", "logs", "ls", "plan"),
    *("port", "ps", "stats", "status", "top", "version", "volumes"),
}
"""Commands that change nothing anyway."""


def snapshot(stack: Stack) -> dict[str, object]:
    """All that a command could change: every path that the engine or the user keeps, and every record."""
    host = stack.host
    with closing(sqlite3.connect(host.root / "state.db")) as database:
        records = list(database.iterdump())
    return {"records": records} | {
        path: seen for base in (host.root, host.run, stack.directory) for path, seen in below(str(base))
    }


def below(base: str) -> Iterator[tuple[str, object]]:
    """Paths, with owner and mode; of files also the size and the moment of the last change."""
    for directory, _, files in os.walk(base):
        yield directory, os.lstat(directory).st_mode
        for name in files:
            if not name.startswith("state.db") and not name.endswith(".lock"):
                found = os.lstat(f"{directory}/{name}")
                yield f"{directory}/{name}", (found.st_mode, found.st_uid, found.st_size, found.st_mtime_ns)


def test_each_command_only_looks_or_is_tried_here() -> None:
    tried = {line.split()[0] for line in COMMANDS}
    assert tried.isdisjoint(LOOKING)
    assert tried | LOOKING == {name for name in commands.COMMANDS if command_module(name).COMMAND.can_run_dry}


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
