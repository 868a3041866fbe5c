from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Any

import pytest

from engine.kernel import procfs
from engine.runtime import liveness, status


def ours(**changes: Any) -> dict[str, Any]:
    """A status whose init is this very process."""
    pid = os.getpid()
    identity = {"pid": pid, "pid_starttime": procfs.start_time(pid), "boot_id": procfs.boot_id()}
    return {**status.initial(), "state": "running", "started_at": 100.0, **identity, **changes}


def hold_lock(run: Path) -> int:
    fd = os.open(run / "lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(fd, fcntl.LOCK_EX)
    return fd


def test_a_container_that_never_ran_is_created(tmp_path: Path) -> None:
    found = liveness.observe(str(tmp_path / "absent"))
    assert (found["state"], found["exit_code"], found["monitored"]) == ("created", None, False)


def test_what_a_living_monitor_wrote_is_believed(tmp_path: Path) -> None:
    status.write(str(tmp_path), ours(pid=0, state="restarting", exit_code=3))
    fd = hold_lock(tmp_path)
    found = liveness.observe(str(tmp_path))
    os.close(fd)
    assert (found["state"], found["exit_code"], found["monitored"]) == ("restarting", 3, True)


def test_an_init_without_a_monitor_still_runs(tmp_path: Path) -> None:
    status.write(str(tmp_path), ours())
    found = liveness.observe(str(tmp_path))
    assert (found["state"], found["pid"], found["monitored"]) == ("running", os.getpid(), False)


@pytest.mark.parametrize("change", [{"pid_starttime": 1}, {"boot_id": "another"}, {"pid": 2**22 + 1}])
def test_an_init_that_is_gone_ended_unseen_even_if_its_pid_is_used_again(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    status.write(str(tmp_path), ours(**change))
    found = liveness.observe(str(tmp_path))
    assert (found["state"], found["exit_code"], found["pid"]) == ("exited", -1, 0)
    assert found["finished_at"] > 100.0


def test_a_restart_that_a_dead_monitor_owed_does_not_hide_the_last_exit_code(tmp_path: Path) -> None:
    status.write(str(tmp_path), ours(state="restarting", pid=0, exit_code=5, finished_at=200.0))
    found = liveness.observe(str(tmp_path))
    assert (found["state"], found["exit_code"], found["finished_at"]) == ("exited", 5, 200.0)


def test_after_a_reboot_the_saved_copy_tells(tmp_path: Path) -> None:
    (tmp_path / "bundle").mkdir()
    status.write(str(tmp_path / "bundle"), ours(boot_id="the boot before"))
    found = liveness.observe(str(tmp_path / "run"), str(tmp_path / "bundle"))
    assert (found["state"], found["exit_code"]) == ("exited", -1)


def test_a_spoilt_file_is_no_status(tmp_path: Path) -> None:
    (tmp_path / "status.json").write_text('{"state": "runn')
    assert status.read(str(tmp_path)) is None
    assert liveness.observe(str(tmp_path))["state"] == "created"


def test_only_one_can_hold_the_lock_and_looking_does_not_take_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(liveness, "LOCK_PATIENCE_S", 0.0)
    assert not liveness.monitor_alive(str(tmp_path))
    fd = liveness.take_lock(str(tmp_path))
    assert fd is not None
    assert liveness.monitor_alive(str(tmp_path))
    assert liveness.take_lock(str(tmp_path)) is None
    os.close(fd)
    assert not liveness.monitor_alive(str(tmp_path))


def test_the_keeper_writes_and_tells_only_what_changed(tmp_path: Path) -> None:
    told: list[str] = []
    keeper = status.StatusKeeper(str(tmp_path), status.initial())
    keeper.on_change = lambda found: told.append(found["state"])
    keeper.update(state="running")
    keeper.update(state="running")
    keeper.update(state="exited")
    assert told == ["running", "exited"]
    found = status.read(str(tmp_path))
    assert found is not None
    assert found["state"] == "exited"
