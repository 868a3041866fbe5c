"""What a test may need of the machine, and how to find out whether it is there.

    @pytest.mark.needs("root", "netns", "overlay")

A missing thing skips the test on a laptop and fails it where `STRICT_NEEDS=1` (CI), unless it is in `MAY_BE_MISSING`.
Every probe does the thing itself, in a child process, rather than guess from version numbers.
"""

from __future__ import annotations

import contextlib
import functools
import glob
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

SYSTEM_PATH = os.environ.get("PATH", "") + os.pathsep + "/usr/sbin:/sbin"
MUST_BE_THERE = set(os.environ.get("UMIAK_TEST_MUST_HAVE", "").split())
"""What whoever runs the tests knows of this machine (`tests/vm/machines.py`)."""
MAY_BE_MISSING = {"cgroup2", "umoci", "docker", "ipv6", "systemd"} - MUST_BE_THERE

OVERLAY = """
set -e
mount -t tmpfs none /mnt
mkdir /mnt/lower /mnt/upper /mnt/work /mnt/merged
mount -t overlay -o lowerdir=/mnt/lower,upperdir=/mnt/upper,workdir=/mnt/work none /mnt/merged
"""


def _runs(*argv: str) -> bool:
    try:
        return subprocess.run(argv, capture_output=True, timeout=20).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def _is_root() -> bool:
    return os.geteuid() == 0


def _can_make_cgroups() -> bool:
    """Make and remove a cgroup where the memory limits live: under a v1 `memory` hierarchy, or at the top of v2."""
    for parent in ("/sys/fs/cgroup/memory", "/sys/fs/cgroup"):
        controllers = f"{parent}/cgroup.controllers"
        if parent.endswith("/memory") or os.path.exists(controllers):
            path = f"{parent}/umiak-probe-{os.getpid()}"
            with contextlib.suppress(OSError):
                os.mkdir(path)
                os.rmdir(path)
                return True
    return False


def _has_cgroup2_controllers() -> bool:
    for path in glob.glob("/sys/fs/cgroup/cgroup.controllers"):
        with open(path) as file:
            return "memory" in file.read().split()
    return False


PROBES: dict[str, Callable[[], bool]] = {
    "root": _is_root,
    "netns": lambda: _runs("unshare", "--net", "true"),
    "mount": lambda: _runs("unshare", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"),
    "overlay": lambda: _runs("unshare", "--mount", "sh", "-c", OVERLAY),
    "cgroup": _can_make_cgroups,
    "cgroup2": _has_cgroup2_controllers,
    "seccomp": lambda: os.path.exists("/proc/sys/kernel/seccomp/actions_avail"),
    "bridge": lambda: _runs(
        "unshare", "--net", shutil.which("ip", path=SYSTEM_PATH) or "ip", "link", "add", "b", "type", "bridge"
    ),
    "ipv6": lambda: os.path.exists("/proc/net/if_inet6"),
    "systemd": lambda: os.path.isdir("/run/systemd/system") and Path("/proc/1/comm").read_text() == "systemd\n",
    "apt": lambda: shutil.which("apt-get") is not None,
}


@functools.cache
def is_there(name: str) -> bool:
    """Whether this machine has it. A name without a probe is a command to be found in PATH."""
    probe = PROBES.get(name)
    return probe() if probe else shutil.which(name, path=SYSTEM_PATH) is not None


def missing(names: tuple[str, ...]) -> list[str]:
    """The ones of `names` that this machine lacks."""
    return [name for name in names if not is_there(name)]


def is_strict() -> bool:
    """Whether a missing thing is a failure."""
    return os.environ.get("STRICT_NEEDS") == "1"
