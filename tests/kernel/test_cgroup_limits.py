"""Cgroups of this host: v1 where its controllers are, and v2's device program, freezing and killing where it is mounted."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest

from engine.kernel import process
from engine.runtime.cgroup import Cgroup, CgroupV1, CgroupV2, Hierarchies, open_cgroup
from engine.runtime.steps import LaunchError

pytestmark = pytest.mark.needs("root", "cgroup")

PARENT = "umiak-test"


@pytest.fixture
def cgroup() -> Iterator[Cgroup]:
    made = open_cgroup(PARENT, f"v-{os.getpid()}")
    yield made
    made.kill()
    made.remove()


@pytest.fixture
def unified() -> Iterator[CgroupV2]:
    mount = Hierarchies.of_host().unified
    if mount is None:
        pytest.skip("no cgroup2 is mounted")
    made = CgroupV2(f"{PARENT}/u-{os.getpid()}", mount)
    yield made
    made.kill()
    made.remove()


def child(work: str) -> tuple[int, int, int]:
    """Clone a process that waits for a byte on the descriptor returned, then does `work`; return (pid, pidfd, fd)."""
    reader, writer = os.pipe()
    pid, pidfd = process.clone3(0)
    if pid == 0:
        try:
            os.close(writer)
            os.read(reader, 1)
            _work(work)
        finally:
            os._exit(99)
    os.close(reader)
    return pid, pidfd, writer


def _work(work: str) -> None:
    if work == "wait":
        signal.pause()
    elif work == "eat":
        hoard = []
        while True:
            hoard.append(bytearray(b"x" * (1 << 20)))
    elif work == "open":
        codes = []
        for path, flags in (
            ("/dev/null", os.O_RDWR),
            ("/dev/zero", os.O_RDONLY),
            ("/dev/zero", os.O_WRONLY),
            ("/dev/kmsg", 0),
        ):
            try:
                os.close(os.open(path, flags))
                codes.append("1")
            except PermissionError:
                codes.append("0")
        os._exit(int("".join(codes), 2))


def let_go(pidfd: int, writer: int) -> int:
    with contextlib.suppress(BrokenPipeError):  # it may be dead already
        os.write(writer, b"x")
    os.close(writer)
    code = process.wait_exit(pidfd)
    os.close(pidfd)
    assert code is not None
    return code


def read(path: str) -> str:
    with open(path) as file:
        return file.read().strip()


def v1(cgroup: Cgroup) -> dict[str, str]:
    if not isinstance(cgroup, CgroupV1):
        pytest.skip("this host has no v1 controllers")
    return {name: path for names, path in cgroup.hierarchies() for name in names.split(",")}


def test_limits_are_written_where_the_kernel_reads_them(cgroup: Cgroup) -> None:
    cgroup.create(
        {
            "memory": {"limit": 64 << 20, "swap": 64 << 20, "reservation": 32 << 20},
            "cpu": {"shares": 512, "quota": 25000, "period": 50000, "cpus": "0", "mems": "0"},
            "pids": {"limit": 33},
        }
    )
    paths = v1(cgroup)
    assert read(f"{paths['memory']}/memory.limit_in_bytes") == str(64 << 20)
    assert read(f"{paths['memory']}/memory.soft_limit_in_bytes") == str(32 << 20)
    assert read(f"{paths['cpu']}/cpu.shares") == "512"
    assert read(f"{paths['cpu']}/cpu.cfs_quota_us") == "25000"
    assert read(f"{paths['cpu']}/cpu.cfs_period_us") == "50000"
    assert read(f"{paths['pids']}/pids.max") == "33"
    assert read(f"{paths['cpuset']}/cpuset.cpus") == "0"
    pid, pidfd, writer = child("none")
    cgroup.attach(pid)
    assert pid in cgroup.pids()
    assert let_go(pidfd, writer) == 99


def test_a_limit_that_the_kernel_refuses_is_an_error_and_leaves_nothing(cgroup: Cgroup) -> None:
    with pytest.raises(LaunchError, match="cgroup"):
        cgroup.create({"cpu": {"cpus": "4000", "mems": "0"}})
    assert not cgroup.exists()


def test_an_oom_kill_is_seen(cgroup: Cgroup) -> None:
    cgroup.create({"memory": {"limit": 16 << 20, "swap": 16 << 20}})
    pid, pidfd, writer = child("eat")
    cgroup.attach(pid)
    assert let_go(pidfd, writer) == 137
    assert cgroup.oom_killed()
    assert cgroup.stats()["memory_limit_bytes"] == 16 << 20


def test_statistics_are_numbers(cgroup: Cgroup) -> None:
    cgroup.create({"pids": {"limit": 5}})
    pid, pidfd, writer = child("wait")
    cgroup.attach(pid)
    stats = cgroup.stats()
    assert stats["pids_current"] == 1
    assert stats["pids_limit"] == 5
    assert stats["memory_limit_bytes"] is None
    assert isinstance(stats["cpu_usage_ns"], int)
    os.close(writer)
    process.pidfd_send_signal(pidfd, signal.SIGKILL)
    process.wait_exit(pidfd)


@pytest.mark.parametrize("fixture", ["cgroup", "unified"])
def test_frozen_processes_stop_go_on_and_can_be_killed(fixture: str, request: pytest.FixtureRequest) -> None:
    cgroup: Cgroup = request.getfixturevalue(fixture)
    cgroup.create({})
    pid, pidfd, writer = child("wait")
    if isinstance(cgroup, CgroupV2):
        cgroup.close()  # else it is taken to have been cloned into it
    cgroup.attach(pid)
    assert cgroup.pids() == [pid]
    cgroup.freeze()
    cgroup.thaw()
    cgroup.freeze()
    cgroup.kill()
    assert let_go(pidfd, writer) == 137
    cgroup.remove()
    assert not cgroup.exists()


def test_a_process_can_be_cloned_into_v2(unified: CgroupV2) -> None:
    unified.create({})
    reader, writer = os.pipe()
    pid, pidfd = process.clone3(0, cgroup_fd=unified.clone_fd())
    if pid == 0:
        os.read(reader, 1)
        os._exit(0)
    unified.attach(pid)
    assert unified.pids() == [pid]
    os.close(reader)
    assert let_go(pidfd, writer) in (0, 141)


def test_the_device_program_of_v2_decides_each_open(unified: CgroupV2) -> None:
    rules = [
        {"allow": False, "access": "rwm"},
        {"allow": False, "type": "c", "major": 1, "minor": 5, "access": "w"},
    ]
    unified.create({"devices": rules})
    pid, pidfd, writer = child("open")
    unified.close()
    unified.attach(pid)
    assert let_go(pidfd, writer) == 0b1100, "null yes, zero for reading only, the kernel's log not"


def test_allow_all_devices_on_v2(unified: CgroupV2) -> None:
    unified.create({"devices": [{"allow": True, "access": "rwm"}]})
    pid, pidfd, writer = child("open")
    unified.close()
    unified.attach(pid)
    assert let_go(pidfd, writer) == 0b1111


def test_device_rules_of_v1_are_obeyed(cgroup: Cgroup) -> None:
    v1(cgroup)
    cgroup.create({"devices": [{"allow": False}, {"allow": False, "type": "c", "major": 1, "minor": 5, "access": "w"}]})
    pid, pidfd, writer = child("open")
    cgroup.attach(pid)
    assert let_go(pidfd, writer) == 0b1100


def test_cgroups_made_and_removed_at_once_never_lose_their_parent() -> None:
    failures: list[BaseException] = []

    def cycle(number: int) -> None:
        try:
            for turn in range(15):
                made = open_cgroup(f"{PARENT}-race", f"{number}-{turn}-{os.getpid()}")
                made.create({})
                made.remove()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=cycle, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    for path in Hierarchies.of_host().v1.values():
        assert not os.path.exists(f"{path}/{PARENT}-race")


def test_removing_waits_for_a_process_that_is_just_ending(cgroup: Cgroup) -> None:
    cgroup.create({})
    pid, pidfd, writer = child("none")
    cgroup.attach(pid)
    timer = threading.Timer(0.2, lambda: os.write(writer, b"x"))
    started = time.monotonic()
    timer.start()
    cgroup.remove()
    assert time.monotonic() - started > 0.1
    timer.join()
    assert process.wait_exit(pidfd) == 99


def test_cgroups_that_the_container_made_are_removed_too(cgroup: Cgroup) -> None:
    cgroup.create({})
    _, path = cgroup.hierarchies()[0]
    os.makedirs(f"{path}/a/b")
    cgroup.remove()
    assert not os.path.exists(path)
