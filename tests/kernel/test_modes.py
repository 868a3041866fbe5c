"""Containers that share namespaces, log in Docker's format, or keep their stdin open."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from engine.errors import Conflict
from engine.runtime import netns
from tests.kernel.rig import Rig
from tests.patience import PATIENCE

pytestmark = pytest.mark.needs("root", "netns", "overlay", "cgroup")

SHOW_NET = ("/bin/readlink", "/proc/self/ns/net")


def test_the_hosts_network_can_be_used(rig: Rig) -> None:
    container = rig.container(*SHOW_NET, netns={"mode": "host"})
    container.start()
    container.wait_exited()
    assert container.output().strip() == os.fsencode(os.readlink("/proc/self/ns/net"))


def test_another_containers_network_can_be_shared_while_it_is_there(rig: Rig) -> None:
    owner = rig.container("/bin/sleep", "100")
    guest = rig.container(*SHOW_NET, netns={"mode": "shared", "pin": str(owner.pin)})
    with pytest.raises(Conflict, match="not running"):
        guest.start()
    owner.start()
    guest.start()
    assert guest.wait_exited()["exit_code"] == 0
    assert guest.output().split() == owner.run_command(*SHOW_NET)[1].split()


def test_a_private_network_without_endpoints_has_a_loopback_that_is_up(rig: Rig) -> None:
    container = rig.shell("ip link show lo; ip -o link | wc -l")
    container.start()
    container.wait_exited()
    assert b"LOOPBACK,UP" in container.output()
    assert container.output().split()[-1] == b"1"


def test_what_is_left_of_a_container_in_the_hosts_pid_namespace_is_ended_with_it(rig: Rig) -> None:
    container = rig.shell("sleep 4321 & echo $!; exit 0")
    container.oci["linux"]["namespaces"] = [{"type": kind} for kind in ("ipc", "uts", "mount", "cgroup", "network")]
    container.start()
    assert container.wait_exited()["exit_code"] == 0
    left_behind = int(container.output())
    deadline = time.monotonic() + 5 * PATIENCE
    while Path(f"/proc/{left_behind}/cmdline").exists() and Path(f"/proc/{left_behind}/cmdline").read_bytes():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_dockers_log_format_is_written_on_request(rig: Rig) -> None:
    container = rig.shell("echo one; echo two >&2; printf three")
    container.monitor["log"]["driver"] = "json-file"
    container.start()
    container.wait_exited()
    assert container.output("stdout") == b"one\nthree"
    assert container.output("stderr") == b"two\n"
    assert (container.bundle / "log" / f"{container.id}-json.log").exists()


def test_without_a_log_the_container_never_blocks(rig: Rig) -> None:
    container = rig.shell("head -c 5000000 /dev/zero; exit 2")
    container.monitor["log"]["driver"] = "none"
    container.start()
    assert container.wait_exited()["exit_code"] == 2


def test_an_open_stdin_stays_open_and_can_be_fed(rig: Rig) -> None:
    container = rig.shell("read line; echo got $line", stdin_open=True)
    container.start()
    with open(container.run / "stdin", "w") as stdin:
        stdin.write("it\n")
    container.wait_exited()
    assert container.output() == b"got it\n"


def test_a_closed_stdin_is_at_its_end(rig: Rig) -> None:
    container = rig.container("/bin/cat")
    container.start()
    assert container.wait_exited()["exit_code"] == 0


def test_a_pin_is_made_used_again_and_dropped(tmp_path: Path) -> None:
    pin = str(tmp_path / "pins" / "one")
    before = os.readlink("/proc/thread-self/ns/net")
    netns.make_pin(pin)
    assert os.readlink("/proc/thread-self/ns/net") == before
    assert netns.is_pinned(pin)
    netns.drop_pin(pin)
    assert not os.path.exists(pin)
    netns.drop_pin(pin)


def test_a_long_run_directory_is_no_obstacle(rig: Rig) -> None:
    container = rig.container("/bin/sleep", "100")
    deep = container.run.joinpath(*["deep" * 20] * 3)
    deep.mkdir(parents=True)
    container.monitor["run"] = str(deep)
    container.run = deep
    from engine.runtime.client import MonitorClient

    container.client = MonitorClient(str(deep), str(container.bundle))
    container.start()
    assert container.run_command("/bin/true")[0] == 0
