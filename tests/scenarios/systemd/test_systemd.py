"""A stack outlives the service or the session that it was started from, and a unit starts it after a reboot."""

from __future__ import annotations

import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.patience import PATIENCE
from tests.scenarios.boot.test_boot import power_cut
from tests.stack import UMIAK, Stack

pytestmark = pytest.mark.needs("systemd")
UNIT = Path("/run/systemd/system/umiak.service")


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=120 * PATIENCE, check=False)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def start_in(stack: Stack, unit: str, *kind: str) -> subprocess.Popen[bytes]:
    """Bring the stack up in a unit that stays afterwards."""
    kept = [f"--setenv={name}={value}" for name, value in stack.host.environment(stack.env).items()]
    where = ("systemd-run", "--quiet", f"--unit={unit}", f"--working-directory={stack.directory}", *kind, *kept)
    script = 'umiak=$1; ready=$2; "$umiak" up -d && touch "$ready" && exec sleep 600'
    return subprocess.Popen([*where, "sh", "-c", script, "sh", UMIAK, str(stack.directory / "ready")])


@pytest.mark.parametrize("kind", ["service", "scope"])
def test_a_stack_outlives_what_it_was_started_from(stack: Stack, kind: str) -> None:
    """A scope is what a session is, too: at logout, `KillUserProcesses=yes` ends all that is in it."""
    unit = f"test-{uuid.uuid4().hex[:8]}"
    started = start_in(stack, unit, *(["--scope"] if kind == "scope" else []))
    stack.wait_until((stack.directory / "ready").exists, "the stack to be up", 60)
    pids = {name: stack.status(name)["pid"] for name in ("web", "once")}
    run("systemctl", "stop", f"{unit}.{kind}")
    started.wait(60 * PATIENCE)
    assert set(stack.states().values()) == {"running"}
    for name, pid in pids.items():
        found = stack.status(name)
        assert (found["pid"], found["restart_count"], found["warnings"]) == (pid, 0, [])
        assert stack.host.is_alive(found["monitor_pid"]), "the monitor was in the unit"
    assert stack.sh("web", "cat /sys/fs/cgroup/memory.max") == str(32 << 20)


@pytest.fixture
def unit(stack: Stack) -> Iterator[str]:
    """Our unit, as `system install-unit` writes it, known to systemd."""
    UNIT.write_text(stack.umiak("system", "install-unit", "--print").stdout)
    run("systemctl", "daemon-reload")
    yield UNIT.name
    run("systemctl", "stop", UNIT.name)
    UNIT.unlink()
    run("systemctl", "daemon-reload")


def test_the_unit_starts_stacks_after_a_reboot(stack: Stack, unit: str) -> None:
    stack.up()
    before = stack.ids()
    power_cut(stack)
    assert "running" not in stack.states().values()
    run("systemctl", "start", unit)
    assert stack.ids() == before
    assert stack.states() == {"systemd-web-1": "running", "systemd-once-1": "exited"}
    pid = stack.status("web")["pid"]
    run("systemctl", "stop", unit)
    assert stack.status("web")["pid"] == pid
    assert stack.states()["systemd-web-1"] == "running"
