"""What a container sees of its cgroup, and where that lies. The same for users whether the host has cgroup v1, both or v2."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.stack import Stack


def seen(stack: Stack, service: str) -> set[str]:
    """The paths in /proc/self/cgroup, as a command in the container finds them."""
    return {line.split(":", 2)[2] for line in stack.sh(service, "cat /proc/self/cgroup").splitlines()}


def outside(stack: Stack, service: str) -> set[str]:
    """The paths of the container's first process, as this host names them."""
    text = Path(f"/proc/{stack.status(service)['pid']}/cgroup").read_text()
    return {line.split(":", 2)[2] for line in text.splitlines()}


def test_a_cgroup_is_private_unless_it_is_to_be_the_hosts(stack: Stack) -> None:
    stack.up()
    private, host = (stack.container(service)["ID"] for service in ("private", "host"))
    assert not any(private[:12] in path for path in seen(stack, "private"))
    assert any(path == "/" for path in seen(stack, "private"))
    assert any(host[:12] in path for path in seen(stack, "host"))
    assert any(private[:12] in path for path in outside(stack, "private"))
    assert stack.host.namespace("cgroup") == stack.sh("host", "readlink /proc/self/ns/cgroup")
    assert stack.host.namespace("cgroup") != stack.sh("private", "readlink /proc/self/ns/cgroup")


def parents(name: str) -> list[Path]:
    return [path for pattern in (name, f"*/{name}") for path in Path("/sys/fs/cgroup").glob(pattern)]


def test_a_parent_is_where_the_cgroup_lies_and_goes_with_it(stack: Stack) -> None:
    stack.up()
    assert any(path.startswith("/umiak-shop/front/") for path in outside(stack, "child"))
    assert stack.limit("child", "pids/pids.max", "pids.max") == "30"
    stack.umiak("down", "-t", "0")
    assert parents("umiak-shop") == []


def test_a_parent_that_others_have_made_stays_theirs(stack: Stack) -> None:
    where = Path("/sys/fs/cgroup/memory/umiak-shop")
    theirs = where if where.parent.exists() else Path("/sys/fs/cgroup/umiak-shop")
    theirs.mkdir()
    try:
        stack.up()
        stack.umiak("down", "-t", "0")
        assert parents("umiak-shop") == [theirs]
        assert not (theirs / "front").exists()
    finally:
        theirs.rmdir()


def test_a_container_may_not_change_its_cgroup_unless_it_is_privileged(stack: Stack) -> None:
    stack.up()
    place = "$(ls -d /sys/fs/cgroup/pids 2>/dev/null || echo /sys/fs/cgroup)"
    assert stack.sh("private", f"mkdir {place}/own 2>/dev/null || echo refused") == "refused"
    assert stack.sh("inner", f"mkdir {place}/own && echo made") == "made"


@pytest.mark.needs("cgroup2")
def test_a_cgroup_with_children_takes_commands_and_ends(stack: Stack) -> None:
    """As when a container runs systemd: init moves down, and shares controllers out ("no internal processes")."""
    stack.up()
    moved = (
        "cd /sys/fs/cgroup && mkdir init && for pid in $(cat cgroup.procs); do echo $pid > init/cgroup.procs; done; "
    )
    stack.sh("inner", moved + "echo +pids > cgroup.subtree_control")
    assert stack.sh("inner", "cat /proc/self/cgroup") == "0::/init"
    stack.umiak("down", "-t", "0")
