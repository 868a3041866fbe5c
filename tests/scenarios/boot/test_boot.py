"""After a reboot `umiak boot` starts what its restart policy asks for, in the order of dependencies."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests import leaks
from tests.stack import Stack

pytestmark = pytest.mark.umiak("dockerd does it, without depends_on")


def power_cut(stack: Stack) -> None:
    """What is left after one: no process of the engine, no mount, no link, an empty run directory."""
    statuses = [stack.status_of(container_id) for container_id in stack.ids().values()]
    for key in ("monitor_pid", "pid"):  # monitors first, as one would start its process again
        pids = [status[key] for status in statuses if status["state"] == "running"]
        for pid in pids:
            stack.host.kill(pid)
        stack.wait_until(lambda pids=pids: not any(map(stack.host.is_alive, pids)), f"each {key} to be gone")
    leaks.clean(str(stack.host.base))
    shutil.rmtree(stack.host.run)


def test_boot_starts_what_its_policy_asks_for(stack: Stack) -> None:
    stack.up("--wait")
    stack.umiak("stop", "stopped", "-t", "0")
    before = stack.ids()
    power_cut(stack)
    assert "running" not in stack.states().values()

    stack.umiak("boot")

    assert stack.ids() == before
    assert {name.split("-")[1]: state == "running" for name, state in stack.states().items()} == {
        "db": True,
        "web": True,
        "stopped": False,
        "once": False,
    }
    db, web = stack.status("db"), stack.status("web")
    assert db["health"]["state"] == "healthy"
    assert web["started_at"] >= db["started_at"] + 0.3, "web waits for db to be healthy"
    stack.sh("web", "ping -c 1 -W 2 db")
    stack.umiak("boot")
    assert stack.status("db")["pid"] == db["pid"], "what runs is left alone"


def test_the_unit_is_written_below_a_root(stack: Stack, tmp_path: Path) -> None:
    stack.umiak("system", "install-unit", "--root", str(tmp_path))
    text = (tmp_path / "etc/systemd/system/umiak.service").read_text()
    assert text == stack.umiak("system", "install-unit", "--print").stdout
    assert f'Environment="UMIAK_ROOT={stack.host.root}"' in text
    assert 'umiak" boot\n' in text
