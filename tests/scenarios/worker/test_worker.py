"""With UMIAK_WORKER=1 commands are run by a resident process, and nobody can tell but by the time they take."""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stack import UMIAK, Host, Stack, StackMaker, wait_for

pytestmark = pytest.mark.umiak("there is one for umiak alone")

WARM = {"UMIAK_WORKER": "1"}


@pytest.fixture
def warm(make_stack: StackMaker, busybox: str) -> Iterator[Stack]:
    """A stack whose commands a worker runs. The worker is ended after the test, before the stack is taken down."""
    stack = make_stack(Path(__file__).parent, env=WARM)
    stack.umiak("version")
    worker = wait_for(lambda: worker_pid(stack.host), "the worker", timeout_s=30)
    yield stack
    if stack.host.is_alive(worker):
        stack.host.kill(worker, signal.SIGTERM)
        wait_for(lambda: not stack.host.is_alive(worker), "the worker's end")
        assert not (stack.host.run / "worker.sock").exists()
    stack.env = {}


def worker_pid(host: Host) -> int:
    """The process that listens for commands; 0 if none does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        try:
            connection.connect(str(host.run / "worker.sock"))
        except OSError:
            return 0
        pid, _, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        return int(pid)


def children(pid: int) -> list[int]:
    """The commands that a worker runs now."""
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def begin(stack: Stack, *arguments: str) -> tuple[subprocess.Popen[bytes], int]:
    """A command in the background, and the worker's child that runs it."""
    worker = worker_pid(stack.host)
    environment = stack.host.environment(WARM)
    process = subprocess.Popen([UMIAK, *arguments], cwd=stack.directory, env=environment, stdout=subprocess.PIPE)
    (child,) = wait_for(lambda: children(worker), "the worker's child")
    return process, child


def test_a_stack_lives_its_life_by_the_worker(warm: Stack) -> None:
    warm.up()
    assert warm.exec("web", "cat", stdin="through stdin\n").stdout == "through stdin\n"
    warm.exec("web", "sh", "-c", "exit 5", exit_code=5)
    assert "nothing to do" in warm.umiak("up", "-d").stdout
    assert "no such service: cat" in warm.umiak("logs", "cat", exit_code=1).stderr
    warm.umiak("down")
    assert worker_pid(warm.host)


def test_a_command_has_its_callers_directory_environment_umask_and_limits(warm: Stack) -> None:
    (warm.directory / "other.yaml").write_text("name: other\nservices: {a: {image: 'busybox:${TAG}'}}\n")
    command = f"umask 027; ulimit -n 333; TAG=17 {UMIAK} -f other.yaml config -o made.yaml"
    subprocess.run(["sh", "-c", command], cwd=warm.directory, env=warm.host.environment(WARM), check=True)
    made = warm.directory / "made.yaml"
    assert "image: busybox:17" in made.read_text()
    assert made.stat().st_mode & 0o777 == 0o640
    process, child = begin(warm, "events")
    wait_for(lambda: os.readlink(f"/proc/{child}/cwd") == str(warm.directory), "the command to be in its directory")
    process.kill()
    process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_signal_to_the_caller_reaches_its_command(warm: Stack, number: signal.Signals) -> None:
    process, child = begin(warm, "events")
    process.send_signal(number)
    process.communicate(timeout=20)
    wait_for(lambda: not warm.host.is_alive(child), "the end of the command")
    assert worker_pid(warm.host)


def test_a_killed_worker_takes_its_commands_along_and_says_so(warm: Stack) -> None:
    process, child = begin(warm, "events")
    warm.host.kill(worker_pid(warm.host))
    process.communicate(timeout=20)
    assert process.returncode == 1
    wait_for(lambda: not warm.host.is_alive(child), "the end of the command")
    warm.umiak("ps")
    worker = wait_for(lambda: worker_pid(warm.host), "a new worker", timeout_s=30)
    warm.host.kill(worker, signal.SIGTERM)
    wait_for(lambda: not warm.host.is_alive(worker), "the worker's end")


def test_a_caller_in_other_namespaces_runs_its_command_itself(warm: Stack) -> None:
    environment = warm.host.environment(WARM)
    done = subprocess.run(
        ["unshare", "--uts", "sh", "-c", f"hostname elsewhere && {UMIAK} -f - config"],
        cwd=warm.directory,
        env=environment,
        input="name: x\nservices: {}\n",
        capture_output=True,
        text=True,
        check=True,
    )
    assert "name: x" in done.stdout
