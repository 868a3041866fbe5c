"""`up` recreates what an edit, an option or a neighbour concerns and nothing else; `down` finds all that is the project's."""

from __future__ import annotations

import json

import pytest

from tests.stack import Stack

ALL = {"db", "web", "beside", "taker"}


def recreated(stack: Stack, before: dict[str, str]) -> set[str]:
    """The services whose container is another one than it was."""
    now = stack.ids()
    return {name.split("-")[1] for name in before if before[name] != now[name]}


def causes(stack: Stack) -> dict[str, str]:
    """What the plan makes anew: resource → why."""
    plan = json.loads(stack.umiak("plan", "--format", "json", exit_code=2).stdout)
    return {o["resource"]: o["cause"] for o in plan["operations"] if o["action"].startswith("Create")}


def test_a_change_takes_along_those_that_share_what_changed(stack: Stack) -> None:
    stack.up()
    before = stack.ids()
    stack.sh("db", "echo kept > /anonymous/note")
    stack.replace("COLOUR: green", "COLOUR: blue")
    wanted = causes(stack)
    assert wanted["service:db:1"] == 'environment.COLOUR: "green" → "blue"'

    stack.up()

    assert recreated(stack, before) == {"db", "beside", "taker"} == {key.split(":")[1] for key in wanted}
    assert stack.sh("taker", "cat /anonymous/note") == "kept"
    namespaces = {stack.sh(service, "readlink /proc/self/ns/net") for service in ("db", "beside")}
    assert len(namespaces) == 1
    stack.umiak("plan")


@pytest.mark.umiak("Docker leaves what shares a recreated container's namespaces as it is")
def test_options_decide_what_is_recreated(stack: Stack) -> None:
    stack.up()
    for options, wanted in (
        (["--force-recreate", "web"], {"web"}),
        (["--force-recreate", "--no-deps", "web"], {"web"}),
        (["--always-recreate-deps", "web"], {"db", "beside", "taker"}),
        (["--force-recreate"], ALL),
    ):
        before = stack.ids()
        stack.up(*options)
        assert recreated(stack, before) == wanted, options
    before = stack.ids()
    stack.sh("db", "echo old > /anonymous/note")
    stack.replace("COLOUR: green", "COLOUR: blue")
    stack.up("--no-recreate")
    stack.up("--no-deps", "web")
    assert recreated(stack, before) == set()
    stack.up("--renew-anon-volumes", "db", "taker")
    assert stack.sh("taker", "ls /anonymous") == "", "a new volume, for the one that takes it too"
    stack.host.umiak("volume", "prune", "-f")  # the old one is nobody's, and kept for those who think better of it


def test_a_changed_network_is_made_anew_and_a_changed_volume_only_where_asked(stack: Stack) -> None:
    stack.up()
    before = stack.ids()
    stack.sh("db", "echo kept > /data/note; echo kept > /anonymous/note")
    stack.replace("back: {}", "back: {internal: true}")
    assert causes(stack)["network:back"] == "network back changed: internal: (none) → true"
    stack.up()
    assert recreated(stack, before) == ALL
    assert stack.sh("db", "cat /data/note /anonymous/note") == "kept\nkept"
    assert stack.exec("db", "sh", "-c", "ip route | grep default", exit_code=1).stdout == ""

    before = stack.ids()
    stack.replace("data: {}", "data: {labels: {kind: scratch}}")
    warned = stack.up()
    assert 'its definition changed (labels.kind: (none) → "scratch")' in warned.stderr
    assert (recreated(stack, before), stack.sh("db", "cat /data/note")) == (set(), "kept")
    stack.up("--yes")
    assert recreated(stack, before) == {"db", "beside", "taker"}
    assert stack.sh("db", "ls /data; cat /anonymous/note") == "kept"


@pytest.mark.umiak("Docker says it in other words, and umiak makes the networks here")
def test_what_is_external_must_exist_and_stays(stack: Stack) -> None:
    stack.replace("back: {}", "back: {external: true, name: outer}")
    stack.replace("data: {}", "data: {external: true, name: store}")
    for kind, name in (("network", "outer"), ("volume", "store")):
        failed = stack.up(exit_code=1).stderr
        assert f"{kind} {name} is declared as external, but does not exist" in failed
        assert "help: make it first" in failed
        assert "compose.yaml:" in failed
        assert stack.ids() == {}
        stack.host.umiak(kind, "create", name)
    stack.up("web")
    stack.down("-v")
    assert "outer" in stack.host.umiak("network", "ls").stdout
    assert "store" in stack.host.umiak("volume", "ls").stdout
    stack.host.umiak("network", "rm", "outer")
    stack.host.umiak("volume", "rm", "store")


@pytest.mark.umiak("Docker leaves what only carries the project's label")
def test_down_finds_all_of_a_project_by_its_name_alone(stack: Stack) -> None:
    stack.replace("  web:\n", "  web:\n    deploy: {replicas: 2}\n")
    stack.umiak("--profile", "tools", "up", "-d")
    stack.umiak("run", "-d", "--name", "by-hand", "web", "sleep", "600")
    stack.up("--remove-orphans")
    wanted = {f"converge-{service}-1" for service in (*ALL, "tool")} | {"converge-web-2", "by-hand"}
    assert stack.ids().keys() == wanted, "what a profile has left, or a run that goes on, is no orphan"
    stack.host.umiak("-p", "converge", "down", "-v")
    assert stack.ids() == {}
