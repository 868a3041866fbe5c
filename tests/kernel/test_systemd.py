"""Where systemd is process 1, containers are in a scope of ours: it leaves their limits alone, and no unit's end ends them."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from engine.errors import UmiakError
from engine.runtime import cgroup
from tests.kernel.rig import Container, Rig
from tests.kernel.test_monitor import cgroups_of
from tests.patience import PATIENCE
from tests.stack import wait_for

pytestmark = pytest.mark.needs("root", "netns", "overlay", "cgroup", "systemd")
ROOT = Path("/sys/fs/cgroup")
LIMITS = {"memory": {"limit": 64 << 20}, "pids": {"limit": 20}, "cpu": {"shares": 512}}


def systemctl(*arguments: str, check: bool = True) -> str:
    command = ["systemctl", *arguments]
    return subprocess.run(command, check=check, capture_output=True, text=True, timeout=60 * PATIENCE).stdout.strip()


def shown(unit: str, name: str) -> str:
    return systemctl("show", unit, "--property", name, "--value")


def is_active(unit: str) -> bool:
    return shown(unit, "ActiveState") == "active"


def cgroup_of(pid: int) -> str:
    return next(line[3:] for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines() if line.startswith("0::"))


def sleeper(rig: Rig, **changes: object) -> Container:
    made = rig.container("/bin/sleep", "1000", **changes)
    made.monitor["cgroup"] |= {"resources": LIMITS}
    made.start()
    return made


def test_containers_and_monitors_are_in_a_scope_that_systemd_has_handed_over(rig: Rig) -> None:
    container = sleeper(rig)
    found = container.status()
    assert found["warnings"] == []
    assert found["cgroup"] == shown("umiak.scope", "ControlGroup") == "/system.slice/umiak.scope"
    assert cgroup_of(found["pid"]) == f"/system.slice/umiak.scope/{container.id}"
    assert cgroup_of(found["monitor_pid"]) == "/system.slice/umiak.scope/monitors"
    assert shown("umiak.scope", "Delegate") == "yes"
    assert shown("umiak.scope", "TasksMax") == "infinity"
    assert shown("umiak.scope", "OOMPolicy") in ("", "continue")  # before 253 scopes have none
    assert not (ROOT / "umiak").exists()


def test_a_command_of_the_container_joins_it_there(rig: Rig) -> None:
    container = sleeper(rig)
    assert container.run_command("/bin/cat", "/proc/self/cgroup") == (0, b"0::/\n")


def test_systemd_leaves_the_limits_alone(rig: Rig) -> None:
    container = sleeper(rig)
    (path,) = cgroups_of(container)
    systemctl("daemon-reload")
    systemctl("set-property", "--runtime", "system.slice", "CPUWeight=200", "MemoryLow=1M")
    systemctl("start", "systemd-tmpfiles-clean.service")  # a unit comes and goes beside it
    systemctl("set-property", "--runtime", "system.slice", "CPUWeight=", "MemoryLow=0")
    assert (path / "memory.max").read_text().strip() == str(64 << 20)
    assert (path / "pids.max").read_text().strip() == "20"
    assert (path / "cpu.weight").read_text().strip() == str(cgroup.weight_from_shares(512))
    systemctl("daemon-reexec")
    wait_for(lambda: is_active("umiak.scope"), "systemd to be itself again")
    assert cgroup_of(container.status()["pid"]).endswith(container.id)
    code, _ = container.run_command("/bin/true")
    assert code == 0


def test_the_scope_is_gone_with_the_last_container_and_made_again(rig: Rig) -> None:
    container = sleeper(rig)
    container.client.stop(0)
    rig.zygote.close()
    wait_for(lambda: not is_active("umiak.scope"), "the empty scope to go")
    assert not (ROOT / "system.slice/umiak.scope").exists()
    rig.zygote = type(rig.zygote).spawn()
    container.start()
    assert cgroup_of(container.status()["pid"]) == f"/system.slice/umiak.scope/{container.id}"


def test_several_commands_share_it_however_they_come(rig: Rig) -> None:
    zygotes = [type(rig.zygote).spawn() for _ in range(4)]
    try:
        containers = []
        for zygote in zygotes:
            rig.zygote, before = zygote, rig.zygote
            containers.append(sleeper(rig))
            rig.zygote = before
    finally:
        for zygote in zygotes:
            zygote.close()
    places = {cgroup_of(container.status()["monitor_pid"]) for container in containers}
    assert places == {"/system.slice/umiak.scope/monitors"}
    assert all(container.status()["warnings"] == [] for container in containers)


def test_a_slice_as_parent_gets_a_scope_of_its_own(rig: Rig) -> None:
    container = rig.container("/bin/sleep", "1000")
    container.monitor["cgroup"] |= {"parent": "shop-front.slice", "resources": LIMITS}
    container.start()
    place = "/shop.slice/shop-front.slice/umiak-shop-front.scope"
    found = container.status()
    assert found["cgroup"] == shown("umiak-shop-front.scope", "ControlGroup") == place
    assert cgroup_of(found["pid"]) == f"{place}/{container.id}"
    assert (ROOT / place[1:] / container.id / "pids.max").read_text() == "20\n"
    os.kill(found["monitor_pid"], signal.SIGKILL)
    wait_for(lambda: not container.client.alive(), "the monitor to be dead")
    container.start("reattach")
    assert container.status()["cgroup"] == place
    container.client.stop(0)
    assert cgroups_of(container) == []
    wait_for(lambda: not is_active("umiak-shop-front.scope"), "the empty scope to go")


def test_a_slice_that_cannot_be_is_an_error(rig: Rig) -> None:
    container = rig.container("/bin/sleep", "1000")
    container.monitor["cgroup"] |= {"parent": "-a..slice"}
    with pytest.raises(UmiakError, match=r"cannot use the slice -a\.\.slice"):
        container.start()


def test_stopping_the_scope_ends_what_is_in_it(rig: Rig) -> None:
    """As when the host goes down."""
    container = rig.shell("trap 'exit 0' TERM; while :; do sleep 1; done", restart={"name": "always", "max_retries": 0})
    container.start()
    systemctl("stop", "umiak.scope")
    assert not container.client.alive()
    assert container.status()["state"] == "exited"
