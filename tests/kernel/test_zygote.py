"""The zygote, and a monitor's independence of the command that started it."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from engine.errors import InvalidInput, Unavailable
from engine.runtime import client
from engine.runtime.client import Zygote
from tests.kernel.rig import Rig
from tests.patience import PATIENCE

pytestmark = pytest.mark.needs("root", "netns", "overlay", "cgroup")

STARTER = """
import sys
from engine.runtime.client import Zygote
zygote = Zygote.spawn()
print("started", zygote.launch(sys.argv[1], sys.argv[2])["pid"], flush=True)
sys.stdin.read()
"""


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def until_gone(pid: int) -> None:
    deadline = time.monotonic() + 10 * PATIENCE
    while alive(pid):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_it_ends_with_its_command() -> None:
    zygote = Zygote.spawn()
    pid = zygote._pid
    zygote.close()
    assert not alive(pid)


def test_a_monitor_belongs_to_nobody(rig: Rig) -> None:
    container = rig.container("/bin/sleep", "100")
    container.start()
    monitor = container.status()["monitor_pid"]
    fields = Path(f"/proc/{monitor}/stat").read_text().rpartition(")")[2].split()
    assert int(fields[3]) == monitor, "it leads a session of its own"
    assert Path(f"/proc/{monitor}/comm").read_text() == "umiak-monitor\n"
    assert container.id[:30] in Path(f"/proc/{monitor}/cmdline").read_text()
    assert os.readlink(f"/proc/{monitor}/cwd") == "/"
    assert {os.readlink(f"/proc/{monitor}/fd/{fd}") for fd in range(3)} == {"/dev/null"}


def test_a_killed_command_takes_no_container_with_it(rig: Rig) -> None:
    container = rig.container("/bin/sleep", "100")
    container.start()
    container.client.stop(0)
    config = str(container.bundle / "monitor.json")
    starter = subprocess.Popen(
        [sys.executable, "-c", STARTER, container.id, config], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert starter.stdout is not None
    assert starter.stdin is not None
    assert starter.stdout.readline().startswith(b"started")
    starter.kill()
    starter.communicate()
    assert container.run_command("/bin/echo", "alive") == (0, b"alive\n")
    assert container.client.stop(0)["status"]["exit_code"] == 137


def test_the_terminals_interrupt_does_not_reach_it(rig: Rig) -> None:
    container = rig.container("/bin/sleep", "100")
    container.start()
    assert os.getpgid(rig.zygote._pid) != os.getpgrp()
    assert os.getpgid(container.status()["monitor_pid"]) != os.getpgid(rig.zygote._pid)


def test_no_container_can_overwrite_the_interpreter(rig: Rig) -> None:
    container = rig.container("/bin/sleep", "100")
    container.start()
    monitor = container.status()["monitor_pid"]
    # Writing to a running program is refused anyway (ETXTBSY); what counts is that it stays refused after its end.
    executable = os.open(f"/proc/{monitor}/exe", os.O_PATH)
    assert os.fstatvfs(executable).f_flag & os.ST_RDONLY
    os.close(executable)


def test_a_sealed_copy_serves_where_mounting_is_not_allowed(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_untouchable", client._sealed_copy)
    rig.zygote.close()
    rig.zygote = Zygote.spawn()
    container = rig.container("/bin/sleep", "100")
    container.start()
    monitor = container.status()["monitor_pid"]
    executable = os.open(f"/proc/{monitor}/exe", os.O_RDONLY)
    assert fcntl.fcntl(executable, fcntl.F_GET_SEALS) & fcntl.F_SEAL_WRITE
    os.close(executable)


def test_a_dead_zygote_is_noticed() -> None:
    zygote = Zygote.spawn()
    os.kill(zygote._pid, signal.SIGKILL)
    until_gone(zygote._pid)
    with pytest.raises(Unavailable):
        zygote.launch("0" * 64, "/nothing")
    zygote.close()


def test_a_monitor_killed_in_the_middle_of_a_start_is_noticed(rig: Rig) -> None:
    container = rig.container("/bin/true", services=[{"module": "tests.kernel.deadly_service", "config": {}}])
    with pytest.raises(Unavailable, match="monitor ended"):
        container.start()
    assert container.status()["state"] == "created"
    del container.monitor["services"][0]
    container.start()
    assert container.wait_exited()["exit_code"] == 0


def test_configuration_that_cannot_be_read_is_an_error(rig: Rig) -> None:
    with pytest.raises(InvalidInput, match="nothing"):
        rig.zygote.launch("0" * 64, "/nothing/monitor.json")
    path = rig.base / "monitor.json"
    path.write_text(json.dumps({"id": "x", "services": [{"module": "no.such.module", "config": {}}]}))
    with pytest.raises(InvalidInput, match="no"):
        rig.zygote.launch("0" * 64, str(path))


def test_services_are_acquired_before_init_and_released_at_the_end(rig: Rig) -> None:
    journal = rig.base / "journal"
    service = {"module": "tests.kernel.noting_service", "config": {"journal": str(journal)}}
    container = rig.shell("exit 1", services=[service], restart={"name": "on-failure", "max_retries": 1})
    container.start()
    assert container.status()["ports"] in ([{"host_port": 1}], [])
    container.wait_exited()
    while container.client.alive():
        time.sleep(0.01)
    steps = journal.read_text().split()
    assert steps[0] == "acquired"
    assert steps[-1] == "released"
    assert steps.count("acquired") == 1


def test_a_service_that_cannot_be_had_fails_the_start_and_all_is_released(rig: Rig) -> None:
    journal = rig.base / "journal"
    good = {"module": "tests.kernel.noting_service", "config": {"journal": str(journal)}}
    bad = {"module": "tests.kernel.noting_service", "config": {"journal": str(journal), "refuse": "port 80 is taken"}}
    container = rig.container("/bin/true", services=[good, bad])
    with pytest.raises(Exception, match="port 80 is taken"):
        container.start()
    assert journal.read_text().split() == ["acquired", "released", "released"]
    assert not container.pin.exists()
