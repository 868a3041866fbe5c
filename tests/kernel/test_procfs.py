"""Whether a process lives, asked of the kernel."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.needs("root")

STUCK = """
import os, signal, time
from engine.kernel import process, procfs

process.unshare(process.CLONE_NEWPID)
init = os.fork() or time.sleep(60)
started = procfs.start_time(init)
other = os.fork() or time.sleep(60)
assert procfs.is_alive(init, started)
os.kill(init, signal.SIGKILL)
os.waitid(os.P_PID, other, os.WEXITED | os.WNOWAIT)  # the kernel has killed it, and nobody has reaped it yet
with open(f"/proc/{init}/stat") as file:
    state = file.read().rpartition(")")[2].split()[0]
print(state != "Z", procfs.is_alive(init, started))
"""


def test_an_init_that_cannot_end_since_nobody_reaps_its_children_is_not_alive() -> None:
    done = subprocess.run([sys.executable, "-c", STUCK], capture_output=True, text=True, timeout=50, check=False)
    assert done.stdout == "True False\n", done.stderr


def test_this_process_is_alive() -> None:
    from engine.kernel import procfs

    started = procfs.start_time(os.getpid())
    assert started
    assert procfs.is_alive(os.getpid(), started)
    assert not procfs.is_alive(os.getpid(), started + 1)
