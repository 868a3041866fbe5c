"""Cgroups of this host: v1 where its controllers are, and v2's device program, freezing and killing where it is mounted."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

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
    elif work == "spin":
        ends = time.process_time() + 0.1
        while time.process_time() < ends:
            pass
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


LIMITS = {
    "memory": {"limit": 64 << 20, "swap": 96 << 20, "reservation": 32 << 20},
    "cpu": {"shares": 512, "quota": 25000, "period": 50000, "cpus": "0", "mems": "0"},
    "pids": {"limit": 33},
}


def v1(cgroup: Cgroup) -> dict[str, str]:
    if not isinstance(cgroup, CgroupV1):
        pytest.skip("this host has no v1 controllers")
    return {name: path for names, path in cgroup.hierarchies() for name in names.split(",")}


def v2(cgroup: Cgroup) -> str:
    if not isinstance(cgroup, CgroupV2):
        pytest.skip("the controllers of this host are v1's")
    return cgroup.path


def disk() -> tuple[int, int]:
    """Some disk: major and minor."""
    for path in sorted(Path("/sys/block").glob("*/dev")):
        if not path.parent.name.startswith(("loop", "ram", "zram")):
            major, minor = path.read_text().split(":")
            return int(major), int(minor)
    pytest.skip("this machine has no disk")


def test_limits_are_written_where_v2_reads_them(cgroup: Cgroup) -> None:
    path = v2(cgroup)
    cgroup.create(LIMITS)
    assert read(f"{path}/memory.max") == str(64 << 20)
    assert read(f"{path}/memory.swap.max") == str(32 << 20), "swap alone"
    assert read(f"{path}/memory.low") == str(32 << 20)
    assert read(f"{path}/cpu.weight") == "20"
    assert read(f"{path}/cpu.max") == "25000 50000"
    assert read(f"{path}/pids.max") == "33"
    assert read(f"{path}/cpuset.cpus") == "0"
    assert read(f"{path}/cpuset.mems") == "0"


def test_settings_of_v2_alone_are_written_by_their_own_names(cgroup: Cgroup) -> None:
    path = v2(cgroup)
    cgroup.create({"unified": {"memory.high": str(48 << 20), "memory.oom.group": "1"}})
    assert read(f"{path}/memory.high") == str(48 << 20)
    assert read(f"{path}/memory.oom.group") == "1"


def test_with_oom_group_all_of_the_container_ends_when_memory_does(cgroup: Cgroup) -> None:
    v2(cgroup)
    settings = {"memory.oom.group": "1", "memory.swap.max": "0"}
    cgroup.create({"memory": {"limit": 16 << 20}, "unified": settings})
    waiting, hungry = child("wait"), child("eat")
    for pid, _, _ in (waiting, hungry):
        cgroup.attach(pid)
    assert [let_go(pidfd, writer) for _, pidfd, writer in (hungry, waiting)] == [137, 137]
    assert cgroup.oom_killed()


def test_memory_that_is_low_or_high_is_no_limit(cgroup: Cgroup) -> None:
    path = v2(cgroup)
    cgroup.create({"memory": {"reservation": 8 << 20}, "unified": {"memory.high": str(256 << 20)}})
    pid, pidfd, writer = child("none")
    cgroup.attach(pid)
    assert let_go(pidfd, writer) == 99
    assert (read(f"{path}/memory.low"), read(f"{path}/memory.max")) == (str(8 << 20), "max")
    assert not cgroup.oom_killed()


def test_a_process_gets_no_more_of_a_processor_than_its_quota(cgroup: Cgroup) -> None:
    cgroup.create({"cpu": {"quota": 20_000, "period": 100_000}})
    pid, pidfd, writer = child("spin")
    cgroup.attach(pid)
    started = time.monotonic()
    assert let_go(pidfd, writer) == 99
    used_s = (cgroup.stats()["cpu_usage_ns"] or 0) / 1e9
    assert used_s < 0.5 * (time.monotonic() - started) + 0.05, "a fifth, and what is left of a period"


def test_block_io_has_a_weight_where_a_scheduler_knows_them(cgroup: Cgroup) -> None:
    cgroup.create({"blockIO": {"weight": 500}})
    _, path = next((names, path) for names, path in cgroup.hierarchies() if names in ("", "blkio"))
    places = ("io.bfq.weight", "io.weight", "blkio.bfq.weight")
    shown = {name: read(f"{path}/{name}").split()[-1] for name in places if os.path.exists(f"{path}/{name}")}
    if shown:
        assert next(iter(shown.values())) == ("4950" if next(iter(shown)) == "io.weight" else "500")
    assert bool(cgroup.warnings) is not bool(shown)


def test_pressure_is_told_where_the_kernel_counts_it(cgroup: Cgroup) -> None:
    path = v2(cgroup)
    cgroup.create({})
    stats = cgroup.stats()
    for name in ("cpu", "memory", "io"):
        assert (stats[f"{name}_pressure_us"] is not None) == os.path.exists(f"{path}/{name}.pressure")


def test_a_setting_cannot_name_a_file_elsewhere(cgroup: Cgroup) -> None:
    v2(cgroup)
    with pytest.raises(LaunchError, match="no file of a cgroup"):
        cgroup.create({"unified": {"../memory.max": "1"}})
    assert not cgroup.exists()


def test_settings_of_v2_are_told_to_be_missing_on_v1(cgroup: Cgroup) -> None:
    v1(cgroup)
    cgroup.create({"unified": {"memory.high": "1"}})
    assert "memory.high" in cgroup.warnings[0]


def test_block_io_is_limited_by_device(cgroup: Cgroup) -> None:
    major, minor = disk()
    rate = {"major": major, "minor": minor, "rate": 1 << 20}
    cgroup.create({"blockIO": {"throttleReadBpsDevice": [rate], "throttleWriteIOPSDevice": [rate]}})
    if isinstance(cgroup, CgroupV2):
        assert read(f"{cgroup.path}/io.max") == f"{major}:{minor} rbps={1 << 20} wbps=max riops=max wiops={1 << 20}"
        return
    paths = v1(cgroup)
    assert read(f"{paths['blkio']}/blkio.throttle.read_bps_device") == f"{major}:{minor} {1 << 20}"
    assert read(f"{paths['blkio']}/blkio.throttle.write_iops_device") == f"{major}:{minor} {1 << 20}"


def test_a_cgroup_with_processes_of_its_own_cannot_limit_its_children() -> None:
    outer = open_cgroup(PARENT, f"outer-{os.getpid()}")
    v2(outer)
    outer.create({})
    pid, pidfd = outer.clone(0)
    if pid == 0:
        signal.pause()
        os._exit(0)
    inner = open_cgroup(outer.place, "inner")
    try:
        with pytest.raises(LaunchError, match="processes live in") as caught:
            inner.create({"memory": {"limit": 1 << 24}})
        assert caught.value.hint
        inner.create({})  # without limits there is nothing wrong with it
        inner.remove()
    finally:
        outer.kill()
        process.wait_exit(pidfd)
        outer.remove()


def test_a_process_joins_a_container_that_has_made_cgroups_of_its_own(cgroup: Cgroup) -> None:
    path = v2(cgroup)
    cgroup.create({})
    os.mkdir(f"{path}/init.scope")
    pid, pidfd, writer = child("wait")
    with open(f"{path}/init.scope/cgroup.procs", "w") as file:
        file.write(str(pid))
    with open(f"{path}/cgroup.subtree_control", "w") as file:
        file.write("+memory")
    other, other_pidfd, other_writer = child("none")
    cgroup.attach(other)
    assert str(other) in read(f"{path}/init.scope/cgroup.procs").split()
    assert let_go(other_pidfd, other_writer) == 99
    cgroup.kill()
    assert let_go(pidfd, writer) == 137


def test_without_clone_into_cgroup_processes_are_moved(unified: CgroupV2, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def refuse(flags: int, *, cgroup_fd: int | None = None) -> tuple[int, int]:
        asked.append(cgroup_fd)
        if cgroup_fd is not None:
            raise OSError(errno.E2BIG, "clone3")
        return clone3(flags)

    clone3 = process.clone3
    monkeypatch.setattr("engine.runtime.cgroup._cannot_clone_into", [])
    monkeypatch.setattr(process, "clone3", refuse)
    unified.create({})
    for _ in range(2):
        pid, pidfd = unified.clone(0)
        if pid == 0:
            signal.pause()
            os._exit(0)
        assert unified.pids() == []
        unified.attach(pid)
        assert unified.pids() == [pid]
        unified.kill()
        process.wait_exit(pidfd)
    assert asked[1:] == [None, None], "the kernel is asked once"


def test_limits_are_written_where_v1_reads_them(cgroup: Cgroup) -> None:
    cgroup.create(LIMITS)
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
    pid, pidfd = unified.clone(0)
    if pid == 0:
        os.read(reader, 1)
        os._exit(0)
    assert unified.pids() == [pid], "before it was attached"
    unified.attach(pid)
    os.close(reader)
    assert let_go(pidfd, writer) in (0, 141)


def test_the_device_program_of_v2_decides_each_open(unified: CgroupV2) -> None:
    rules = [
        {"allow": False, "access": "rwm"},
        {"allow": False, "type": "c", "major": 1, "minor": 5, "access": "w"},
    ]
    unified.create({"devices": rules})
    pid, pidfd, writer = child("open")
    unified.attach(pid)
    assert let_go(pidfd, writer) == 0b1100, "null yes, zero for reading only, the kernel's log not"


def test_allow_all_devices_on_v2(unified: CgroupV2) -> None:
    unified.create({"devices": [{"allow": True, "access": "rwm"}]})
    pid, pidfd, writer = child("open")
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


def test_removal_waits_for_the_last_process(unified: CgroupV2) -> None:
    unified.create({})
    pid, pidfd, writer = child("wait")
    unified.attach(pid)
    ending = threading.Timer(0.2, lambda: process.pidfd_send_signal(pidfd, signal.SIGKILL))
    ending.start()
    unified.remove()
    assert not os.path.exists(unified.path)
    ending.join()
    process.wait_exit(pidfd)
    os.close(pidfd)
    os.close(writer)
