"""Commands run in a container through its monitor."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from engine.errors import InvalidInput, NotFound, Unavailable
from engine.runtime.client import ExecSession
from tests.kernel.rig import Rig
from tests.patience import PATIENCE

pytestmark = pytest.mark.needs("root", "netns", "overlay", "cgroup")


def test_a_command_has_its_own_streams_and_exit_code(rig: Rig) -> None:
    container = rig.container("/bin/sleep", "100")
    container.start()
    session = container.client.exec(["/bin/sh", "-c", "cat; echo err >&2; exit 5"])
    os.write(session.stdin, b"in")
    os.close(session.stdin)
    with os.fdopen(session.stdout, "rb") as stdout, os.fdopen(session.stderr, "rb") as stderr:
        assert (stdout.read(), stderr.read()) == (b"in", b"err\n")
    assert session.wait() == 5


def test_it_runs_in_the_containers_namespaces_with_what_was_asked(rig: Rig) -> None:
    container = rig.container("/bin/sleep", "100")
    container.start()
    script = "hostname; pwd; echo $A; id -u; cat /proc/1/comm"
    code, output = container.run_command("/bin/sh", "-c", script, env=["A=b"], cwd="/tmp", user="65534:65534")
    assert code == 0
    assert output.split() == [b"rig", b"/tmp", b"b", b"65534", b"sleep"]


def test_an_absent_command_is_an_error(rig: Rig) -> None:
    container = rig.container("/bin/sleep", "100")
    container.start()
    with pytest.raises(NotFound, match="nothing-such") as caught:
        container.client.exec(["nothing-such"])
    assert caught.value.exit_code == 127
    with pytest.raises(InvalidInput):
        container.client.exec([])


def test_many_run_at_once_and_leave_no_zombie(rig: Rig) -> None:
    container = rig.container("/bin/sleep", "100")
    container.start()
    results: dict[int, tuple[int, bytes]] = {}

    def run(number: int) -> None:
        results[number] = container.run_command("/bin/sh", "-c", f"echo {number}; exit {number}")

    threads = [threading.Thread(target=run, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {number: (number, b"%d\n" % number) for number in range(20)}
    monitor = container.status()["monitor_pid"]
    assert Path(f"/proc/{monitor}/task/{monitor}/children").read_text().split() == [str(container.status()["pid"])]


def test_a_terminal_can_be_resized_and_typed_at(rig: Rig) -> None:
    container = rig.container("/bin/sleep", "100")
    container.start()
    session = container.client.exec(["/bin/sh"], tty=True, rows=24, cols=80)
    session.resize(40, 120)
    os.write(session.master, b"until stty size | grep '40 120'; do :; done; exit 3\n")
    seen = b""
    while b"\n40 120" not in seen:
        seen += os.read(session.master, 1000)
    assert session.wait() == 3
    os.close(session.master)


def test_it_dies_with_the_container(rig: Rig) -> None:
    container = rig.container("/bin/sleep", "100")
    container.start()
    session = container.client.exec(["/bin/sleep", "100"])
    container.client.stop(0)
    assert session.wait() == 137


def test_a_client_that_goes_away_leaves_its_command_running(rig: Rig) -> None:
    container = rig.container("/bin/sleep", "100")
    container.start()
    session = container.client.exec(["/bin/sh", "-c", "sleep 0.2; touch /done"])
    close_all(session)
    deadline = time.monotonic() + 5 * PATIENCE
    while not (container.bundle / "upper" / "done").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def close_all(session: ExecSession) -> None:
    session.close()
    for fd in (session.stdin, session.stdout, session.stderr):
        os.close(fd)


def test_no_command_runs_in_a_container_that_has_ended(rig: Rig) -> None:
    container = rig.container("/bin/true")
    container.start()
    container.wait_exited()
    with pytest.raises(Unavailable, match="not running"):
        container.client.exec(["/bin/true"])
