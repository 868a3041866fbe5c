"""Further processes in a running container."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Iterator

import pytest

from engine.runtime.exec import LaunchError
from tests.kernel.launcher import Launcher, Running

pytestmark = pytest.mark.needs("root", "overlay", "cgroup", "netns")


@pytest.fixture
def launcher() -> Iterator[Launcher]:
    made = Launcher()
    yield made
    made.close()


@pytest.fixture
def container(launcher: Launcher) -> Running:
    launcher.lower.joinpath("etc").mkdir()
    launcher.lower.joinpath("etc/passwd").write_text("root:x:0:0::/root:/bin/sh\nwww:x:33:34::/var/www:/bin/sh\n")
    launcher.lower.joinpath("etc/group").write_text("root:x:0:\nwww:x:34:\nextra:x:99:www,other\n")
    running = launcher.start("sh", "-c", "echo up; sleep 60", process={"env": ["PATH=/bin", "A=a", "B=b"]})
    running.read_until("up")
    return running


def test_it_shares_the_namespaces_the_root_and_the_cgroup(launcher: Launcher, container: Running) -> None:
    entered = launcher.enter(
        container,
        "sh",
        "-c",
        "hostname; for n in pid mnt net ipc uts cgroup; do readlink /proc/self/ns/$n; done; kill -9 $$",
    )
    assert entered.wait() == 137
    host, *namespaces = entered.output.split()
    assert host == "kayak"
    assert namespaces == [
        os.readlink(f"/proc/{container.pid}/ns/{name}") for name in ("pid", "mnt", "net", "ipc", "uts", "cgroup")
    ]


def test_it_is_in_the_containers_cgroup_and_our_child(launcher: Launcher, container: Running) -> None:
    entered = launcher.enter(container, "sleep", "60")
    assert entered.pid in launcher.cgroup.pids()
    entered.signal(signal.SIGTERM)
    assert entered.wait() == 143


def test_the_environment_is_added_to_the_containers(launcher: Launcher, container: Running) -> None:
    entered = launcher.enter(container, "sh", "-c", "echo $A $B $C; pwd", env=["B=changed", "C=c"], cwd="/etc")
    assert entered.wait() == 0
    assert entered.output.split("\n")[:2] == ["a changed c", "/etc"]


def test_it_has_the_containers_restrictions(launcher: Launcher, container: Running) -> None:
    entered = launcher.enter(
        container, "sh", "-c", "grep -E '^(CapEff|CapBnd|Seccomp:)' /proc/self/status; cd /proc/self/fd; echo *"
    )
    entered.wait()
    assert entered.output.count("00000000a80425fb") == 2
    assert "Seccomp:\t2" in entered.output
    assert entered.output.split("\n")[3].split()[:3] == ["0", "1", "2"]
    assert len(entered.output.split("\n")[3].split()) <= 4


def test_users_are_looked_up_in_the_container(launcher: Launcher, container: Running) -> None:
    script = "id -u; id -g; id -G; echo $HOME; grep ^CapEff /proc/self/status"
    entered = launcher.enter(container, "sh", "-c", script, user="www")
    assert entered.wait() == 0
    assert entered.output.split("\n")[:4] == ["33", "34", "34 99", "/var/www"]
    assert entered.output.split()[-1] == "0" * 16
    numeric = launcher.enter(container, "sh", "-c", "id -u; id -g; id -G", user="4242:7")
    numeric.wait()
    assert numeric.output.split() == ["4242", "7", "7"]
    with pytest.raises(LaunchError, match='no user "ghost"') as caught:
        launcher.enter(container, "true", user="ghost")
    assert caught.value.exit_code == 126


def test_a_hostile_account_file_does_no_harm(launcher: Launcher, container: Running) -> None:
    for setup in ("rm /etc/passwd; mkfifo /etc/passwd", "rm /etc/passwd; ln -s /dev/zero /etc/passwd"):
        launcher.enter(container, "sh", "-c", setup).wait()
        assert launcher.enter(container, "true", user="0").wait() == 0
        with pytest.raises(LaunchError):
            launcher.enter(container, "true", user="www")


def test_privileged_gives_all_capabilities_and_lets_them_be_used(launcher: Launcher, container: Running) -> None:
    entered = launcher.enter(container, "sh", "-c", "mount -t tmpfs t /tmp && echo mounted", privileged=True)
    assert entered.wait() == 0
    assert "mounted" in entered.output


def test_a_terminal_is_opened_in_the_container(launcher: Launcher, container: Running) -> None:
    entered = launcher.enter(container, "sh", "-c", "tty; echo $TERM; exit 3", tty=True)
    assert entered.console_fd is not None
    assert entered.wait() == 3
    assert entered.output.split() == ["/dev/pts/0", "xterm"]


def test_a_command_that_cannot_start_is_126_or_127(launcher: Launcher, container: Running) -> None:
    for argv, code in ((["nope"], 127), (["/etc/passwd"], 126)):
        with pytest.raises(LaunchError) as caught:
            launcher.enter(container, *argv)
        assert caught.value.exit_code == code
    with pytest.raises(LaunchError, match="working directory"):
        launcher.enter(container, "true", cwd="/nowhere")
    fds = len(os.listdir("/proc/self/fd"))
    with pytest.raises(LaunchError):
        launcher.enter(container, "nope")
    assert len(os.listdir("/proc/self/fd")) == fds


def test_a_container_that_has_ended_cannot_be_entered(launcher: Launcher, container: Running) -> None:
    container.signal(signal.SIGKILL)
    assert select.select([container.pidfd], [], [], 10)[0]
    with pytest.raises(LaunchError, match="has ended") as caught:
        launcher.enter(container, "true")
    assert (caught.value.exit_code, caught.value.kind) == (125, "conflict")
