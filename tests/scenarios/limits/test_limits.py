"""Limits are the container's own view of its cgroup, and they bite."""

from __future__ import annotations

from tests.stack import Stack


def test_limits_are_read_back_from_inside(stack: Stack) -> None:
    stack.up()
    assert stack.limit("limited", "memory/memory.limit_in_bytes", "memory.max") == str(48 << 20)
    assert stack.limit("limited", "pids/pids.max", "pids.max") == "20"
    quota = stack.limit("limited", "cpu/cpu.cfs_quota_us", "cpu.max").split()[0]
    assert int(quota) == 50000
    assert stack.sh("limited", "ulimit -n; ulimit -H -n") == "512\n1024"


def test_no_more_processes_than_the_limit_can_be_made(stack: Stack) -> None:
    stack.up()
    failed = stack.exec("limited", "sh", "-c", "for n in $(seq 1 40); do sleep 5 & done; wait", exit_code=None)
    assert failed.returncode != 0
    assert stack.states()["limits-limited-1"] == "running"


def test_an_oom_kill_is_recorded_as_such(stack: Stack) -> None:
    stack.up()
    stack.wait_until_state("hungry", "exited")
    status = stack.status("hungry")
    assert status["oom_killed"] is True
    assert status["exit_code"] == 137
