"""A monitor that is killed takes nothing with it; the next one goes on where it was."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.kernel import process
from engine.runtime.client import MonitorClient
from tests.kernel.rig import Container, Rig
from tests.kernel.test_monitor import cgroups_of
from tests.patience import PATIENCE

pytestmark = pytest.mark.needs("root", "netns", "overlay", "cgroup")

TICKS = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.01; done"


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10 * PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def monitors_of(container: Container) -> list[str]:
    """Processes that call themselves this container's monitor."""
    paths = [path for path in Path("/proc").glob("[0-9]*/cmdline") if path.parent.joinpath("comm").exists()]
    return [str(path.parent) for path in paths if container.id[:40].encode() in read(path)]


def read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def kill_monitor(container: Container) -> None:
    os.kill(container.status()["monitor_pid"], signal.SIGKILL)
    until(lambda: not container.client.alive())


def test_the_container_lives_on_and_none_of_its_output_is_lost(rig: Rig) -> None:
    container = rig.shell(TICKS)
    pid = container.start()["pid"]
    until(lambda: b"\n5\n" in container.output())
    kill_monitor(container)
    found = container.status()
    assert (found["state"], found["pid"], found["monitored"]) == ("running", pid, False)
    time.sleep(0.2)
    assert container.start("reattach")["pid"] == pid
    until(lambda: len(container.output().split()) > 60)
    container.client.stop(0)
    numbers = [int(word) for word in container.output().split()]
    assert numbers == list(range(1, len(numbers) + 1))


def test_the_new_monitor_serves_as_the_old_did(rig: Rig) -> None:
    health = {
        "test": ["CMD", "true"],
        "interval_s": 0.1,
        "timeout_s": 5.0,
        "retries": 3,
        "start_period_s": 0.0,
        "start_interval_s": None,
    }
    container = rig.container("/bin/sleep", "100", health=health, restart={"name": "always", "max_retries": 0})
    first = container.start()["pid"]
    container.wait(lambda found: found["health"]["state"] == "healthy")
    kill_monitor(container)
    container.start("reattach")
    found = container.status()
    assert found["health"]["state"] == "healthy"
    container.wait(lambda now: now["health"]["log"][-1]["end"] > found["health"]["log"][-1]["end"])
    assert container.run_command("/bin/echo", "hi") == (0, b"hi\n")
    os.kill(first, signal.SIGKILL)
    again = container.wait(lambda found: found["state"] == "running" and found["pid"] != first)
    assert again["restart_count"] == 1
    assert container.client.stop(0)["status"]["state"] == "exited"


def knows_exit_codes_of_strangers() -> bool:
    """Linux 6.15 and later tell how a process ended that is not the asker's child."""
    child = os.fork()
    if not child:
        os._exit(7)
    pidfd = process.pidfd_open(child)
    os.waitpid(child, 0)
    try:
        return process.exit_code_of(pidfd) == 7
    finally:
        os.close(pidfd)


def test_the_exit_code_is_known_where_the_kernel_tells_it(rig: Rig) -> None:
    container = rig.shell("trap 'exit 6' TERM; echo ready; while :; do sleep 0.05; done")
    container.start()
    until(lambda: b"ready" in container.output())
    kill_monitor(container)
    container.start("reattach")
    # Older kernels tell it too, as long as process 1 has not yet reaped the container.
    expected = (6,) if knows_exit_codes_of_strangers() else (6, -1)
    assert container.client.stop()["status"]["exit_code"] in expected


def test_an_end_that_nobody_saw_is_told_as_such(rig: Rig) -> None:
    container = rig.container("/bin/sleep", "100")
    pid = container.start()["pid"]
    kill_monitor(container)
    os.kill(pid, signal.SIGKILL)
    until(lambda: container.status()["state"] == "exited")
    found = container.status()
    assert (found["exit_code"], found["pid"], found["monitored"]) == (-1, 0, False)
    assert found["finished_at"] >= found["started_at"]


def test_a_new_monitor_cleans_up_after_an_end_that_nobody_saw(rig: Rig) -> None:
    container = rig.container("/bin/sleep", "100")
    pid = container.start()["pid"]
    kill_monitor(container)
    os.kill(pid, signal.SIGKILL)
    until(lambda: container.status()["state"] == "exited")
    container.start("reattach")
    until(lambda: not container.client.alive())
    until(lambda: not monitors_of(container))
    assert container.status()["exit_code"] == -1
    assert cgroups_of(container) == []


def test_a_new_monitor_restarts_what_ended_unseen_if_the_policy_says_so(rig: Rig) -> None:
    container = rig.container("/bin/sleep", "100", restart={"name": "always", "max_retries": 0})
    pid = container.start()["pid"]
    kill_monitor(container)
    os.kill(pid, signal.SIGKILL)
    until(lambda: container.status()["state"] == "exited")
    container.start("reattach")
    container.wait(lambda found: found["state"] == "running" and found["restart_count"] == 1)
    os.kill(container.status()["pid"], signal.SIGKILL)
    again = container.wait(lambda found: found["state"] == "running" and found["restart_count"] == 2)
    assert again["exit_code"] == 137


def test_only_one_monitor_can_take_over(rig: Rig) -> None:
    container = rig.container("/bin/sleep", "100")
    container.start()
    kill_monitor(container)
    container.start("reattach")
    with pytest.raises(Exception, match="running already"):
        container.start("reattach")
    assert MonitorClient(str(container.run)).alive()


def test_a_frozen_container_stays_frozen(rig: Rig) -> None:
    container = rig.shell(TICKS)
    container.start()
    container.client.pause()
    kill_monitor(container)
    container.start("reattach")
    assert container.status()["state"] == "paused"
    before = container.output()
    time.sleep(0.1)
    assert container.output() == before
    container.client.unpause()
    until(lambda: container.output() != before)
