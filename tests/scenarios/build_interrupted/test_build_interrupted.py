"""A build that is interrupted or killed in a RUN with mounts: its command ends, nothing stays mounted, the cache is kept."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.leaks import mounts_below
from tests.stack import Stack, wait_for

pytestmark = pytest.mark.umiak("it reads umiak's lines, and looks for its mounts and workspaces")

NAP = f"31000.{os.getpid()}"
"""Seconds that nobody else sleeps."""


@pytest.fixture
def napping(stack: Stack) -> subprocess.Popen[str]:
    """A build in the middle of its RUN."""
    stack.env = {"NAP": NAP}
    child = stack.start("build")
    assert child.stdout
    assert any("| lines: " in line for line in child.stdout)
    wait_for(lambda: sleepers(), "the command to sleep")
    return child


def sleepers() -> list[str]:
    """The processes that the RUN of this test is in."""
    nap = f"sleep\0{NAP}\0".encode()
    return [path.name for path in Path("/proc").iterdir() if path.name.isdigit() and _command(path) == nap]


def _command(path: Path) -> bytes:
    try:
        return (path / "cmdline").read_bytes()
    except OSError:
        return b""


def workspaces(stack: Stack) -> set[str]:
    """What builds have on disk beside their caches."""
    return {name for name in os.listdir(stack.host.root / "build") if name != "cache" and not name.startswith(".")}


def finish(stack: Stack) -> int:
    """Build to the end; return how many builds the cache directory has seen."""
    stack.env = {}
    [line] = [line for line in stack.umiak("build", "--no-cache").stderr.splitlines() if "| lines: " in line]
    return int(line.rpartition(" ")[2])


def assert_nothing_left(stack: Stack) -> None:
    assert not sleepers()
    assert mounts_below(str(stack.host.base)) == []
    assert workspaces(stack) == set()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_command_and_leaves_nothing_but_the_cache(
    stack: Stack, napping: subprocess.Popen[str], number: int, code: int
) -> None:
    os.kill(napping.pid, number)
    assert napping.wait(60) == code
    assert_nothing_left(stack)
    lines = (stack.host.root / "build/cache").glob("*/**/lines")
    before = len(next(lines).read_text().splitlines())
    assert finish(stack) == before + 1
    assert_nothing_left(stack)


def test_a_killed_build_takes_its_command_along_and_the_next_one_clears_up(
    stack: Stack, napping: subprocess.Popen[str]
) -> None:
    os.kill(napping.pid, signal.SIGKILL)
    napping.wait()
    wait_for(lambda: not sleepers(), "the command to end with its build")
    lines = (stack.host.root / "build/cache").glob("*/**/lines")
    before = len(next(lines).read_text().splitlines())
    assert finish(stack) == before + 1
    assert_nothing_left(stack)


def test_a_killed_build_disturbs_no_other(stack: Stack, napping: subprocess.Popen[str]) -> None:
    beside = stack.start("build")
    assert beside.stdout
    assert any("| lines: " in line for line in beside.stdout)
    wait_for(lambda: len(sleepers()) == 2, "both to sleep")
    os.kill(napping.pid, signal.SIGKILL)
    napping.wait()
    wait_for(lambda: len(sleepers()) == 1, "one command to end with its build")
    finish(stack)
    assert len(sleepers()) == 1
    assert len(workspaces(stack)) == 1
    os.kill(beside.pid, signal.SIGINT)
    assert beside.wait(60) == 130
    assert_nothing_left(stack)
