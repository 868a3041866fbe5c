"""What a stack may leave behind on a machine: seen by asking the kernel and the disk, never the product's own word.

`snapshot` lists it, `leaked` compares. As a program (`python tests/leaks.py clean DIRECTORY`) it ends and removes whatever
belongs to engines that kept their state below that directory; CI and the test session do so when all else has failed.
"""

from __future__ import annotations

import contextlib
import glob
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator

SYSTEM_PATH = os.environ.get("PATH", "") + os.pathsep + "/usr/sbin:/sbin"
APART = "umiak-apart-"
"""What the names of the cgroups begin with in which `apart.py` runs commands."""
PLACE = re.compile(r"/umiak(-.*\.scope|\.scope)?/(?!monitors$)", re.MULTILINE)
"""What the cgroup of a container's process lies in. Where systemd runs that is a scope, with the monitors beside it."""
RUN_DIRECTORIES = ("containers", "netns", "networks")
TABLES = ("containers", "networks", "leases", "volumes", "volume_uses")

Found = frozenset[tuple[str, str]]
"""(kind, name) of each thing."""


def snapshot(base: str) -> Found:
    """Everything of ours on this machine and in the engine below `base` (its `root` and `run`)."""
    return frozenset(
        [
            *(("process", text) for text in _processes()),
            *(("mount", path) for path in mounts_below(base)),
            *(("link", name) for _, name in socket.if_nameindex() if name.startswith(("um-", "umv"))),
            *(("cgroup", path) for path in _empty_cgroups()),
            *(("firewall", name) for name in _firewall_tables()),
            ("sysctl", f"net.ipv4.ip_forward={_ip_forward()}"),
            *(("file", path) for path in _files(base)),
            *(("record", text) for text in _records(f"{base}/root/state.db")),
        ]
    )


def leaked(before: Found, base: str, *, timeout_s: float = 5.0) -> list[tuple[str, str]]:
    """What is there now, was not before, and stays.

    The kernel frees a network namespace and its links after the last process has gone, in its own time, so what
    is seen gets a few seconds to vanish. Only what was there at every look counts.
    """
    deadline = time.monotonic() + timeout_s
    staying = snapshot(base) - before
    while staying and time.monotonic() < deadline:
        time.sleep(0.05)
        staying &= snapshot(base) - before
    return sorted(staying)


def _read(path: str) -> str:
    try:
        with open(path, errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""


def _process_ids() -> Iterator[int]:
    return (int(name) for name in os.listdir("/proc") if name.isdigit())


def _cgroup_of(pid: int) -> str:
    return _read(f"/proc/{pid}/cgroup")


def _processes() -> Iterator[str]:
    """Monitors and zygotes by the name they give themselves, containers by their cgroup. Other tests run apart (`apart.py`)."""
    for pid in _process_ids():
        name, cgroup = _read(f"/proc/{pid}/comm"), _cgroup_of(pid)
        if (name.startswith("umiak-") or PLACE.search(cgroup)) and f"/{APART}" not in cgroup and _is_alive(pid):
            yield f"{pid} {name}"


def _is_alive(pid: int) -> bool:
    """Whether a process is more than a zombie."""
    return _read(f"/proc/{pid}/stat").rpartition(")")[2].split()[:1] not in ([], ["Z"], ["X"])


def mounts_below(base: str) -> list[str]:
    with open("/proc/self/mountinfo") as file:
        points = [line.split()[4].encode().decode("unicode_escape") for line in file]
    return [point for point in points if point.startswith(f"{base}/")]


def _cgroups() -> list[str]:
    """The containers' cgroups in every hierarchy; the parent that they share is the host's to keep."""
    found = [
        path for pattern in ("umiak", "*/umiak", "*/umiak*.scope") for path in glob.glob(f"/sys/fs/cgroup/{pattern}/*/")
    ]
    return [path.rstrip("/") for path in found if not path.endswith("/monitors/")]


def _empty_cgroups() -> list[str]:
    """Those with no process in them: the others are told by their processes."""
    return [path for path in _cgroups() if not _read(f"{path}/cgroup.procs") and _count(path) in ("", "0")]


def _count(path: str) -> str:
    """How many processes a cgroup has: also those outside this PID namespace, which `cgroup.procs` hides."""
    own = _read(f"{path}/pids.current")
    return own or _read(f"/sys/fs/cgroup/pids/umiak/{os.path.basename(path)}/pids.current")


def _firewall_tables() -> list[str]:
    nft = shutil.which("nft", path=SYSTEM_PATH)
    if nft is None or os.geteuid() != 0:
        return []
    listed = subprocess.run([nft, "list", "tables"], capture_output=True, text=True, check=False).stdout
    return [line for line in listed.splitlines() if "umiak" in line]


def _ip_forward() -> str:
    return _read("/proc/sys/net/ipv4/ip_forward")


def _files(base: str) -> Iterator[str]:
    for name in RUN_DIRECTORIES:
        yield from glob.glob(f"{base}/run/{name}/*")
    yield from glob.glob(f"{base}/root/containers/*")


def _records(database: str) -> Iterator[str]:
    if not os.path.exists(database):
        return
    with contextlib.closing(sqlite3.connect(database, timeout=20)) as connection:
        for table in TABLES:
            for row in connection.execute(f"SELECT * FROM {table}"):
                yield f"{table}: {' '.join(str(value)[:60] for value in row[:3])}"


def clean(directory: str) -> None:
    """End and remove all that belongs to the engines below `directory`, found by its files, mounts and cgroups."""
    databases = list(_databases(directory))
    containers = {name for path in databases for name in _container_ids(os.path.dirname(os.path.dirname(path)))}
    for _ in range(3):  # a monitor may be starting another init while its first is being ended
        for pid in _process_ids():
            if pid != os.getpid() and _belongs(pid, directory, containers):
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
        time.sleep(0.1)
    for point in reversed(mounts_below(directory)):
        subprocess.run(["umount", "-l", point], check=False)
    for path in _cgroups():
        if os.path.basename(path) in containers:
            with contextlib.suppress(OSError):
                os.rmdir(path)
    for link in {name for path in databases for name in _recorded_links(path)}:
        if link in {name for _, name in socket.if_nameindex()}:
            subprocess.run(["ip", "link", "delete", link], env={"PATH": SYSTEM_PATH}, check=False)
    for path in databases:
        _remove_firewall_table(os.path.dirname(path))


def forget(database: str) -> None:
    """Empty the records of containers, networks and volumes. Images stay."""
    with contextlib.closing(sqlite3.connect(database, timeout=20)) as connection, connection:
        for table in ("leases", "volume_uses", "container_labels", "containers", "networks", "volumes"):
            connection.execute(f"DELETE FROM {table}")


def _databases(directory: str) -> Iterator[str]:
    for path, folders, files in os.walk(directory):
        folders[:] = [name for name in folders if name not in ("layers", "images", "volumes", "cache", "containers")]
        if "state.db" in files:
            yield f"{path}/state.db"


def _container_ids(base: str) -> set[str]:
    return {os.path.basename(path) for path in glob.glob(f"{base}/*/containers/*")}


def _belongs(pid: int, directory: str, containers: set[str]) -> bool:
    parts = {part for line in _cgroup_of(pid).splitlines() for part in line.split("/")}
    if parts & containers:
        return True
    if not _read(f"/proc/{pid}/comm").startswith("umiak-"):
        return False
    for path in glob.glob(f"/proc/{pid}/fd/*"):
        with contextlib.suppress(OSError):
            if os.readlink(path).startswith(f"{directory}/"):
                return True
    return False


def _remove_firewall_table(root: str) -> None:
    from networking.driver import table_name
    from networking.firewall import Firewall

    with contextlib.suppress(OSError):
        Firewall(table_name(root)).delete()


def _recorded_links(database: str) -> list[str]:
    with contextlib.closing(sqlite3.connect(database, timeout=20)) as connection, contextlib.suppress(sqlite3.Error):
        return [link for table in ("networks", "leases") for (link,) in connection.execute(f"SELECT link FROM {table}")]
    return []


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] != "clean":
        sys.exit(__doc__)
    clean(os.path.abspath(sys.argv[2]))
