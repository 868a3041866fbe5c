"""Cgroups in directories that only look like the kernel's: what is written where, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.runtime import cgroup as module
from engine.runtime import cgroupfs
from engine.runtime.cgroup import Cgroup, CgroupV1, CgroupV2, Hierarchies, device_rules, open_cgroup, weight_from_shares
from engine.runtime.steps import LaunchError

V2_FILES = [
    *("memory.max", "memory.swap.max", "memory.low", "cpu.max", "cpu.weight", "pids.max"),
    *("cpuset.cpus", "cpuset.mems", "cgroup.procs"),
]

HYBRID = """\
22 1 254:0 / / rw - ext4 /dev/vda rw
30 22 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw
31 30 0:27 / /sys/fs/cgroup/cpu,cpuacct rw shared:1 - cgroup cgroup rw,cpu,cpuacct
32 30 0:28 / /sys/fs/cgroup/memory rw shared:2 - cgroup cgroup rw,memory
33 30 0:29 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd
34 30 0:30 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
35 22 0:28 / /elsewhere\\040here rw - cgroup cgroup rw,memory
"""


def test_hierarchies_are_read_from_mountinfo() -> None:
    found = Hierarchies(HYBRID)
    assert found.v1 == {"cpu,cpuacct": "/sys/fs/cgroup/cpu,cpuacct", "memory": "/sys/fs/cgroup/memory"}
    assert found.unified == "/sys/fs/cgroup/unified"


def test_controllers_decide_which_version_is_used() -> None:
    assert isinstance(open_cgroup("/umiak", "x", Hierarchies(HYBRID)), CgroupV1)
    assert isinstance(open_cgroup("/umiak", "x", Hierarchies("1 0 0:1 / /cg rw - cgroup2 none rw")), CgroupV2)
    with pytest.raises(LaunchError, match="no cgroup file system"):
        open_cgroup("/umiak", "x", Hierarchies(""))


@pytest.mark.parametrize(
    ("parent", "name"), [("/", "x"), ("", "x"), ("/umiak", "a/b"), ("/umiak/..", "x"), ("/umiak", "..")]
)
def test_only_our_own_subtree_can_be_named(parent: str, name: str) -> None:
    with pytest.raises(LaunchError):
        open_cgroup(parent, name, Hierarchies(HYBRID))


@pytest.fixture
def v2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CgroupV2:
    monkeypatch.setattr(
        module.bpf, "load_device_program", lambda _program: module.os.open("/dev/null", module.os.O_RDONLY)
    )
    monkeypatch.setattr(module.bpf, "attach_device_program", lambda _cgroup, _program: None)
    (tmp_path / "cgroup.controllers").write_text("cpuset cpu io memory hugetlb pids\n")
    (tmp_path / "cgroup.subtree_control").write_text("memory\n")
    make = cgroupfs.make_directories

    def make_with_files(path: str) -> None:
        make(path)
        for directory, files in (
            (Path(path).parent, ("cgroup.controllers", "cgroup.subtree_control")),
            (Path(path), V2_FILES),
        ):
            for name in files:
                (directory / name).touch()

    monkeypatch.setattr(cgroupfs, "make_directories", make_with_files)
    return CgroupV2("umiak/box", str(tmp_path))


def written(cgroup: CgroupV2, name: str) -> str:
    return Path(cgroup.path, name).read_text()


def test_limits_are_translated_to_v2(v2: CgroupV2) -> None:
    v2.create(
        {
            "memory": {"limit": 64 << 20, "swap": 96 << 20, "reservation": 32 << 20},
            "cpu": {"shares": 1024, "quota": 50000, "period": 100000, "cpus": "0-1", "mems": "0"},
            "pids": {"limit": -1},
        }
    )
    assert written(v2, "memory.max") == str(64 << 20)
    assert written(v2, "memory.swap.max") == str(32 << 20)
    assert written(v2, "memory.low") == str(32 << 20)
    assert written(v2, "cpu.weight") == "39"
    assert written(v2, "cpu.max") == "50000 100000"
    assert written(v2, "pids.max") == "max"
    assert written(v2, "cpuset.cpus") == "0-1"


def test_unlimited_swap_and_a_missing_quota(v2: CgroupV2) -> None:
    v2.create({"memory": {"limit": 1 << 20, "swap": -1}, "cpu": {"period": 50000}})
    assert written(v2, "memory.swap.max") == "max"
    assert written(v2, "cpu.max") == "max 50000"


def test_parents_hand_their_controllers_down(v2: CgroupV2, tmp_path: Path) -> None:
    v2.create({})
    # Each write replaces the former in a plain file; the kernel would add it up.
    assert (tmp_path / "cgroup.subtree_control").read_text().startswith("+")


def test_a_limit_without_its_controller_is_refused_with_a_reason(tmp_path: Path) -> None:
    bare = CgroupV1("umiak/box", {"memory": str(tmp_path)})
    (tmp_path / "umiak" / "box").mkdir(parents=True)
    with pytest.raises(LaunchError, match="'pids' is not available") as caught:
        bare.create({"pids": {"limit": 3}})
    assert caught.value.kind == "unsupported"
    assert caught.value.hint


def test_without_limits_missing_controllers_do_not_matter(tmp_path: Path) -> None:
    bare = CgroupV1("umiak/box", {"memory": str(tmp_path)})
    bare.create({})
    assert bare.exists()
    bare.remove()
    assert not (tmp_path / "umiak").exists()


def test_swap_that_is_not_accounted_for_is_a_warning(tmp_path: Path) -> None:
    place = tmp_path / "umiak" / "box"
    place.mkdir(parents=True)
    (place / "memory.limit_in_bytes").touch()
    bare: Cgroup = CgroupV1("umiak/box", {"memory": str(tmp_path)})
    bare.create({"memory": {"limit": 5, "swap": 9}})
    assert "swap" in bare.warnings[0]


def test_device_rules_deny_all_but_what_every_container_may_use() -> None:
    text = [repr(rule) for rule in device_rules(None)]
    assert text[0] == "deny a *:* rwm"
    assert "allow c 1:3 rwm" in text
    assert "allow c 136:* rwm" in text
    more = [
        repr(rule) for rule in device_rules([{"allow": False}, {"allow": True, "type": "b", "major": 8, "minor": -1}])
    ]
    assert more[:-1] == text
    assert more[-1] == "allow b 8:* rwm"
    assert [repr(rule) for rule in device_rules([{"allow": True, "access": "rwm"}])] == ["allow a *:* rwm"]


def test_shares_become_weights_within_bounds() -> None:
    assert [weight_from_shares(shares) for shares in (0, 2, 1024, 262144, 10**9)] == [1, 1, 39, 10000, 10000]
