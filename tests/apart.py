"""Run a command apart from the machine:  python -m tests.apart COMMAND…

It gets network, mount, process, IPC and cgroup namespaces of its own, and cgroups below its own ones mounted at the usual place, so that
tests in it and tests outside see nothing of each other: neither bridges and firewall tables nor processes and cgroups. Its network
is loopback and one address that leads nowhere. Needs root and util-linux. See namespaces(7), cgroup_namespaces(7).
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.leaks import APART

ADDRESS = "192.0.2.2/24"
"""An address beside loopback's, which scenarios and tests of published ports look for (RFC 5737)."""
_OF_THE_MOUNT = {"rw", "ro", "xattr"}
_NAMESPACES = ("unshare", "--net", "--mount", "--pid", "--ipc", "--fork", "--kill-child", "--mount-proc")
_ENTER = """
set -e
enter() {
    mkdir "$1"
    for file in cpuset.cpus cpuset.mems; do
        # Version 1 wants them set before a process comes.
        [ ! -e "$1/$file" ] || [ -e "$1/cgroup.controllers" ] || cat "$1/../$file" > "$1/$file"
    done
    echo 0 > "$1/cgroup.procs"
}
"""
_SETUP = f"""
mount --make-rprivate /
mount -t sysfs sysfs /sys
ip link set lo up
ip link add eth0 type veth peer name eth1
ip address add {ADDRESS} dev eth0
ip link set eth0 up
ip link set eth1 up
"""


@dataclass(frozen=True)
class Hierarchy:
    """A mounted cgroup hierarchy: its mount point, file system type, and the mount options that name its controllers."""

    point: str
    kind: str
    options: str

    def mount_again(self) -> str:
        """The shell command that mounts it as the cgroup namespace shows it."""
        chosen = ["-o", self.options] if self.options else []
        return f"mkdir -p {self.point} && {shlex.join(['mount', '-t', self.kind, *chosen, 'cgroup', self.point])}"


def hierarchies(mountinfo: str) -> list[Hierarchy]:
    """Those in the text of a /proc/PID/mountinfo, in the order of mounting (proc_pid_mountinfo(5))."""
    found = []
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        if kind in ("cgroup", "cgroup2"):
            own = [option for option in options.split(",") if option not in _OF_THE_MOUNT and kind == "cgroup"]
            named = ["none"] if any(option.startswith("name=") for option in own) else []
            found.append(Hierarchy(before.split()[4], kind, ",".join(named + own)))
    return found


def main(command: Sequence[str]) -> int:
    """Run it and return its exit code."""
    found = hierarchies(Path("/proc/self/mountinfo").read_text())
    name = f"{APART}{os.getpid()}"
    try:
        return subprocess.run([*_NAMESPACES, "sh", "-c", _script(found, name, command)]).returncode
    finally:
        for directory in (Path(hierarchy.point, name) for hierarchy in found):
            for path, _, _ in os.walk(directory, topdown=False):
                os.rmdir(path)


def _script(found: Sequence[Hierarchy], name: str, command: Sequence[str]) -> str:
    """Enter the cgroups, make them the tops of what is seen, prepare the rest, and run the command below process 1."""
    joined = "\n".join(f"enter {hierarchy.point}/{name}" for hierarchy in found)
    pure = [hierarchy.point for hierarchy in found] == ["/sys/fs/cgroup"]
    above = [] if pure else ["mount -t tmpfs tmpfs /sys/fs/cgroup"]
    # Version 2 wants no process at a top that hands on controllers.
    leaves = [f"enter {hierarchy.point}/tests" for hierarchy in found if hierarchy.kind == "cgroup2"]
    mounted = [_SETUP, *above, *(hierarchy.mount_again() for hierarchy in found), *leaves]
    inner = "\n".join([_ENTER, *mounted, "set +e", shlex.join(command), "exit $?"])
    return f"{_ENTER}\n{joined}\nexec unshare --cgroup sh -c {shlex.quote(inner)}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]) if sys.argv[1:] else __doc__)
