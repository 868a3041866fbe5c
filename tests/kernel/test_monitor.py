"""A container's life under its monitor: start, end, restart, stop, and what remains."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from engine.errors import Conflict, Denied, NotFound, UmiakError
from engine.runtime import netns
from tests.kernel.rig import Container, Rig, private_kib
from tests.patience import PATIENCE
from tests.stack import wait_for

pytestmark = pytest.mark.needs("root", "netns", "overlay", "cgroup")

TRAP = "trap 'echo bye; exit 7' TERM; echo ready; while :; do sleep 0.05; done"


def wait_for_output(container: Container, wanted: bytes) -> None:
    deadline = time.monotonic() + 10 * PATIENCE
    while wanted not in container.output():
        assert time.monotonic() < deadline, container.output()
        time.sleep(0.01)


def cgroups_of(container: Container) -> list[Path]:
    return list(Path("/sys/fs/cgroup").glob(f"**/{container.id}"))


def test_output_and_exit_code_are_kept(rig: Rig) -> None:
    container = rig.shell("echo out; echo err >&2; exit 3")
    container.start()
    found = container.wait_exited()
    assert (found["exit_code"], found["pid"], found["error"]) == (3, 0, "")
    assert container.output("stdout") == b"out\n"
    assert container.output("stderr") == b"err\n"


def test_a_signal_shows_as_128_plus_its_number(rig: Rig) -> None:
    container = rig.container("/bin/sleep", "100")
    os.kill(container.start()["pid"], signal.SIGKILL)
    assert container.wait_exited()["exit_code"] == 137


def test_nothing_but_the_namespace_pin_remains_after_the_end(rig: Rig) -> None:
    container = rig.container("/bin/true")
    container.start()
    container.wait_exited()
    deadline = time.monotonic() + 5 * PATIENCE
    while container.client.alive() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not container.client.alive()
    assert not (container.run / "control.sock").exists()
    assert cgroups_of(container) == []
    assert netns.is_pinned(str(container.pin))


def test_the_network_namespace_outlives_a_restart(rig: Rig) -> None:
    container = rig.container("/bin/readlink", "/proc/self/ns/net")
    for _ in range(2):
        container.start()
        container.wait_exited()
        while container.client.alive():
            time.sleep(0.01)
    first, second = container.output().split()
    assert first == second != os.fsencode(os.readlink("/proc/self/ns/net"))


def test_a_command_that_is_not_there_fails_the_start_and_leaves_nothing(rig: Rig) -> None:
    container = rig.container("/bin/absent")
    with pytest.raises(NotFound, match="absent") as caught:
        container.start()
    assert caught.value.exit_code == 127
    found = container.status()
    assert (found["state"], found["exit_code"], found["monitored"]) == ("created", 127, False)
    assert "absent" in found["error"]
    assert cgroups_of(container) == []
    assert not container.pin.exists()
    assert not (container.run / "control.sock").exists()


def test_a_file_that_is_not_executable_has_exit_code_126(rig: Rig) -> None:
    container = rig.container("/etc/passwd")
    with pytest.raises(Denied) as caught:
        container.start()
    assert caught.value.exit_code == 126


def test_starting_a_running_container_is_a_conflict(rig: Rig) -> None:
    container = rig.container("/bin/sleep", "100")
    pid = container.start()["pid"]
    with pytest.raises(Conflict, match="running already"):
        container.start()
    assert container.status()["pid"] == pid


def test_a_broken_configuration_is_a_clear_error(rig: Rig) -> None:
    container = rig.container("/bin/true")
    del container.monitor["restart"]
    with pytest.raises(UmiakError, match="restart"):
        container.start()


def test_stop_lets_the_process_end_by_itself(rig: Rig) -> None:
    container = rig.shell(TRAP)
    container.start()
    wait_for_output(container, b"ready")
    reply = container.client.stop()
    assert (reply["status"]["state"], reply["status"]["exit_code"], reply["hint"]) == ("exited", 7, None)
    assert container.output().endswith(b"bye\n")
    assert not container.client.alive()


def test_stop_kills_after_the_grace_period(rig: Rig) -> None:
    container = rig.shell("trap 'echo no' TERM; echo ready; while :; do sleep 0.05; done")
    container.start()
    wait_for_output(container, b"ready")
    begun = time.monotonic()
    reply = container.client.stop(0.5)
    assert 0.5 <= time.monotonic() - begun < 5
    assert reply["status"]["exit_code"] == 137


def test_stop_does_not_wait_for_a_process_that_would_never_see_the_signal(rig: Rig) -> None:
    container = rig.container("/bin/sleep", "100")
    container.start()
    begun = time.monotonic()
    reply = container.client.stop()
    assert time.monotonic() - begun < 5
    assert "SIGTERM" in reply["hint"]


def test_several_may_stop_at_once(rig: Rig) -> None:
    container = rig.shell(TRAP)
    container.start()
    wait_for_output(container, b"ready")
    replies: list[int] = []
    threads = [
        threading.Thread(target=lambda: replies.append(container.client.stop()["status"]["exit_code"]))
        for _ in range(5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert replies == [7] * 5


def test_always_restarts_with_growing_delays_until_stopped(rig: Rig) -> None:
    container = rig.shell("echo run; exit 1", restart={"name": "always", "max_retries": 0})
    container.start()
    container.wait(lambda found: found["restart_count"] >= 3)
    reply = container.client.stop()
    assert reply["status"]["state"] == "exited"
    runs = container.output().count(b"run")
    time.sleep(1)
    assert container.output().count(b"run") == runs


def test_on_failure_gives_up_after_its_retries(rig: Rig) -> None:
    container = rig.shell("echo run; exit 9", restart={"name": "on-failure", "max_retries": 2})
    container.start()
    found = container.wait_exited()
    assert (found["exit_code"], found["restart_count"]) == (9, 2)
    assert container.output().count(b"run") == 3


def test_killing_init_restarts_it_but_a_kill_on_request_does_not(rig: Rig) -> None:
    container = rig.container("/bin/sleep", "100", restart={"name": "always", "max_retries": 0})
    first = container.start()["pid"]
    os.kill(first, signal.SIGKILL)
    second = container.wait(lambda found: found["state"] == "running" and found["pid"] != first)
    assert second["restart_count"] == 1
    container.client.kill(signal.SIGKILL)
    assert container.wait_exited()["exit_code"] == 137


def test_an_out_of_memory_kill_is_recorded(rig: Rig) -> None:
    limits = {"memory": {"limit": 16 << 20, "swap": 16 << 20}}
    container = rig.shell("tail /dev/zero")
    container.monitor["cgroup"]["resources"] = limits
    container.start()
    found = container.wait_exited()
    assert found["oom_killed"]
    assert found["exit_code"] == 137


def test_an_out_of_memory_kill_that_init_survives_is_an_event_at_once(rig: Rig) -> None:
    container = rig.shell("tail /dev/zero; echo went on; sleep 1000")
    container.monitor["cgroup"]["resources"] = {"memory": {"limit": 16 << 20, "swap": 16 << 20}}
    container.monitor["journal"] = {"dir": str(rig.base), "attributes": {}}
    container.start()
    wait_for_output(container, b"went on")

    def actions() -> list[str]:
        lines = [line for path in rig.base.glob("*.jsonl") for line in path.read_text().splitlines()]
        return [json.loads(line)["action"] for line in lines]

    wait_for(lambda: actions() == ["start", "oom"], "the event")
    assert container.client.stop(0)["status"]["oom_killed"]
    assert actions()[-2:] == ["kill", "die"]


def test_a_frozen_container_does_nothing_and_can_be_stopped(rig: Rig) -> None:
    container = rig.shell("trap 'exit 4' TERM; while :; do echo tick; sleep 0.02; done")
    container.start()
    wait_for_output(container, b"tick")
    container.client.pause()
    assert container.status()["state"] == "paused"
    before = container.output()
    time.sleep(0.2)
    assert container.output() == before
    with pytest.raises(Conflict, match="paused"):
        container.client.exec(["/bin/true"])
    container.client.unpause()
    wait_for_output(container, before + b"tick\n")
    container.client.pause()
    assert container.client.stop()["status"]["exit_code"] == 4


def test_a_pause_that_a_client_holds_ends_with_the_client(rig: Rig) -> None:
    container = rig.container("/bin/sleep", "100")
    container.start()
    with container.client.paused():
        assert container.status()["state"] == "paused"
    assert container.status()["state"] == "running"
    child = os.fork()
    if child == 0:
        with container.client.paused():
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    wait_for(lambda: container.status()["state"] == "running", "the container to go on")


def test_a_terminal_has_one_stream_and_a_size(rig: Rig) -> None:
    container = rig.shell("sleep 0.3; stty size; tty; echo err >&2", tty=True)
    container.start()
    container.client.resize(33, 77)
    assert container.wait_exited()["exit_code"] == 0
    assert b"33 77" in container.output("stdout")
    assert b"err" in container.output("stdout")


def test_a_log_flood_neither_stops_the_container_nor_delays_a_stop(rig: Rig) -> None:
    container = rig.shell("trap 'exit 0' TERM; yes 0123456789abcdef & wait")
    container.monitor["log"].update(max_size_bytes=4 << 20, max_files=2)
    container.start()
    deadline = time.monotonic() + 10 * PATIENCE
    log = Path(container.monitor["log"]["dir"])
    # Only two files are kept: which ones, says how far it came; the fourth may have come and gone between two looks.
    while not any(int(path.stem) >= 4 for path in log.glob("*.log")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    begun = time.monotonic()
    container.client.stop()
    assert time.monotonic() - begun < 2
    assert sum(path.stat().st_size for path in log.glob("*.log")) <= 8 << 20


def test_a_full_disk_drops_output_but_the_container_runs_on(rig: Rig) -> None:
    container = rig.shell("echo one; head -c 3000000 /dev/zero; echo two >&2; exit 5")
    container.monitor["log"]["dir"] = f"{container.bundle}/small"
    Path(container.monitor["log"]["dir"]).mkdir()
    from engine.kernel.mounts import mount

    mount("tmpfs", container.monitor["log"]["dir"], "tmpfs", 0, "size=1m")
    container.start()
    found = container.wait_exited()
    assert found["exit_code"] == 5
    assert "dropped" in found["error"]
    assert container.output().startswith(b"one\n")


def test_watchers_see_each_state_and_a_slow_one_holds_nobody_up(rig: Rig) -> None:
    container = rig.shell("exit 1", restart={"name": "on-failure", "max_retries": 3})
    slow = None
    container.start()
    try:
        slow = container.client.watch()
        next(slow)
        states = [found["state"] for found in container.client.watch()]
    finally:
        assert slow is not None
        assert list(slow)[-1]["state"] == "exited"
    assert states[-1] == "exited"
    assert "restarting" in states


def test_fifty_containers_start_at_once_with_little_memory_each(rig: Rig) -> None:
    containers = [rig.container("/bin/sleep", "1000") for _ in range(50)]
    failures: list[BaseException] = []

    def start(container: Container) -> None:
        try:
            container.start()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=start, args=(container,)) for container in containers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    states = [container.status() for container in containers]
    assert {found["state"] for found in states} == {"running"}
    memory = sorted(private_kib(found["monitor_pid"]) for found in states)
    assert memory[25] <= 4.5 * 1024


def test_however_short_a_life_watching_ends_with_its_last_state(rig: Rig) -> None:
    for number in range(20):
        container = rig.shell(f"exit {number}")
        container.start()
        assert list(container.client.watch())[-1]["exit_code"] == number
        assert container.client.stop()["status"]["exit_code"] == number
