from __future__ import annotations

import errno
import socket
from typing import Any

import pytest

from engine.kernel import mounts
from engine.runtime import filesystem, init, steps
from engine.runtime.filesystem import MountOptions
from engine.runtime.steps import LaunchError, SetRlimits, Setup, Step


def test_mount_options_are_sorted_into_what_they_are_for() -> None:
    options = MountOptions(["nosuid", "noexec", "ro", "rbind", "rslave", "size=64m", "newinstance", "defaults"])
    expected = mounts.MOUNT_ATTR_NOSUID | mounts.MOUNT_ATTR_NOEXEC | mounts.MOUNT_ATTR_RDONLY
    assert options.set == expected
    assert options.read_only
    assert options.recursive
    assert options.propagation == mounts.MS_SLAVE
    assert options.data == [("size", "64m"), ("newinstance", None)]


def test_a_later_option_undoes_an_earlier_one() -> None:
    options = MountOptions(["ro", "rw", "suid", "nosuid"])
    assert not options.read_only
    assert options.clear & mounts.MOUNT_ATTR_RDONLY
    assert options.set == mounts.MOUNT_ATTR_NOSUID


def test_access_time_options_replace_each_other() -> None:
    options = MountOptions(["noatime", "strictatime"])
    assert options.set & mounts.MOUNT_ATTR_ATIME == mounts.MOUNT_ATTR_STRICTATIME
    assert options.clear & mounts.MOUNT_ATTR_ATIME == mounts.MOUNT_ATTR_ATIME, (
        "the kernel wants the whole field cleared"
    )


def test_recursive_attributes_make_a_bind_recursive() -> None:
    assert MountOptions(["rro"]).recursive
    assert MountOptions(["rro"]).read_only
    assert not MountOptions(["ro"]).recursive
    assert not MountOptions(["relatime"]).recursive


class _Failing(Step):
    def describe(self) -> str:
        return "do the impossible"

    def execute(self, setup: Setup) -> None:
        raise OSError(errno.EPERM, "not permitted")


def test_a_failed_step_says_which_and_why() -> None:
    with pytest.raises(LaunchError) as caught:
        steps.run([_Failing()], None)  # type: ignore[arg-type]
    assert caught.value.message == "cannot do the impossible: not permitted"
    assert (caught.value.step, caught.value.errno, caught.value.kind) == ("_Failing", errno.EPERM, "denied")
    assert caught.value.exit_code == 125


def test_limits_beyond_the_hosts_are_clamped_with_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps.capabilities, "effective_set", lambda: 0)
    monkeypatch.setattr(steps.process, "prlimit", lambda _pid, _number: (100, 1000))
    limits = SetRlimits(
        [
            {"type": "RLIMIT_NOFILE", "soft": 2**64 - 1, "hard": 2**64 - 1},
            {"type": "RLIMIT_NPROC", "soft": 10, "hard": 20},
            {"type": "core", "soft": 5, "hard": 2},
        ][:2]
    )
    assert limits.limits == [(7, 1000, 1000), (6, 10, 20)]
    assert limits.warnings == ["ulimit nofile is 1000, the host's hard limit, instead of unlimited"]


def test_with_the_capability_limits_are_taken_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps.capabilities, "effective_set", lambda: 1 << 24)
    limits = SetRlimits([{"type": "RLIMIT_NPROC", "soft": 2**64 - 1, "hard": 2**64 - 1}])
    assert limits.limits == [(6, -1, -1)]
    assert limits.warnings == []


def test_nobody_has_more_open_files_than_the_kernel_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps.capabilities, "effective_set", lambda: 1 << 24)
    monkeypatch.setattr(steps, "_most_files", lambda: 4096)
    limits = SetRlimits([{"type": "RLIMIT_NOFILE", "soft": 1024, "hard": 2**64 - 1}])
    assert limits.limits == [(7, 1024, 4096)]
    assert limits.warnings == ["ulimit nofile is 4096, the host's hard limit, instead of unlimited"]


def test_an_unknown_limit_is_refused() -> None:
    with pytest.raises(LaunchError, match="RLIMIT_WHAT"):
        SetRlimits([{"type": "RLIMIT_WHAT", "soft": 1, "hard": 1}])


@pytest.mark.parametrize(
    ("name", "kind"),
    [("net.core.somaxconn", None), ("kernel.shmmax", None), ("fs.mqueue.msg_max", None), ("vm.swappiness", "invalid")],
)
def test_only_sysctls_of_own_namespaces_are_taken(name: str, kind: str | None) -> None:
    if kind is None:
        filesystem.WriteSysctls({name: "1"}, own_network=True, own_ipc=True)
        return
    with pytest.raises(LaunchError) as caught:
        filesystem.WriteSysctls({name: "1"}, own_network=True, own_ipc=True)
    assert caught.value.kind == kind


def test_a_network_sysctl_needs_an_own_network() -> None:
    with pytest.raises(LaunchError):
        filesystem.WriteSysctls({"net.core.somaxconn": "1"}, own_network=False, own_ipc=True)


@pytest.mark.parametrize(
    "entry",
    [
        {"destination": "/", "type": "tmpfs"},
        {"destination": "/../", "type": "tmpfs"},
        {"destination": "/proc", "type": "bind", "source": "/tmp"},
        {"destination": "/x", "type": "bind", "source": "relative"},
        {"destination": "/x", "type": "bind", "source": "/tmp", "options": ["rbind", "wat"]},
    ],
)
def test_mounts_that_make_no_sense_are_refused_before_anything_happens(entry: dict[str, Any]) -> None:
    config = {"process": {"args": ["x"]}, "mounts": [entry], "linux": {"namespaces": [{"type": "mount"}]}}
    with pytest.raises(LaunchError) as caught:
        init.plan(config, {"lowerdirs": ["/x"]}, netns_fd=None, cgroup=None)  # type: ignore[arg-type]
    assert caught.value.kind == "invalid"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"process": {"args": []}}, "no command"),
        ({"process": {"args": [""]}}, "no command"),
        ({"process": {"args": ["x"], "capabilities": {"bounding": ["CAP_FLY"]}}}, "CAP_FLY"),
        ({"process": {"args": ["x"], "cwd": "relative"}}, "absolute"),
        ({"linux": {"namespaces": []}}, "mount namespace"),
        ({"linux": {"namespaces": [{"type": "mount"}, {"type": "time"}]}}, "time"),
        ({"linux": {"namespaces": [{"type": "mount"}], "rootfsPropagation": "odd"}}, "odd"),
    ],
)
def test_configurations_that_cannot_be_obeyed_are_refused(changes: dict[str, Any], message: str) -> None:
    config = {"process": {"args": ["x"]}, "linux": {"namespaces": [{"type": "mount"}]}, **changes}
    with pytest.raises(LaunchError, match=message) as caught:
        init.plan(config, {"lowerdirs": ["/x"]}, netns_fd=None, cgroup=None)  # type: ignore[arg-type]
    assert caught.value.kind == "invalid"


def test_mounts_come_in_order_of_depth() -> None:
    entries = [
        {"destination": "/a/b/c", "type": "tmpfs", "source": "3"},
        {"destination": "/a", "type": "tmpfs", "source": "1"},
        {"destination": "/a/b", "type": "bind", "source": "/2", "options": ["rbind"]},
    ]
    config = {"process": {"args": ["x"]}, "mounts": entries, "linux": {"namespaces": [{"type": "mount"}]}}
    what = init.plan(config, {"lowerdirs": ["/x"]}, netns_fd=None, cgroup=None)  # type: ignore[arg-type]
    text = what.describe()
    assert text.index("mount tmpfs on /a\n") < text.index("bind /2 on /a/b") < text.index("mount tmpfs on /a/b/c")


def test_environments_are_read_with_the_last_one_winning() -> None:
    assert init.parse_environment(["A=1", "B", "C=x=y", "A=2", "=odd", "D="]) == {"A": "2", "C": "x=y", "D": ""}


def test_elf_files_tell_their_machine_and_loader() -> None:
    with open("/proc/self/exe", "rb") as file:
        machine, interpreter = init.read_elf(file.read(4096))
    assert machine == steps.os.uname().machine
    assert interpreter.startswith("/") or interpreter == ""
    for junk in (b"", b"#!/bin/sh\n", b"\x7fELF", b"\x7fELF" + bytes(10)):
        with pytest.raises(ValueError, match="ELF"):
            init.read_elf(junk)


def test_what_a_process_said_last_is_heard_though_it_never_read_what_it_was_sent() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        ours.send(b"G")
        theirs.send(b"Ewhy")
        theirs.close()
        assert init.receive(ours) == (b"E", b"why", [])
        assert init.receive(ours) == (b"", b"", [])
