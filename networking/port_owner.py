"""Who holds a port: for the error that says so. Reads /proc (proc_net_tcp.rst); standard library only."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

TCP_LISTEN = "0A"


class Owner:
    """A process that holds a port. `container` is the name of the container that it publishes the port for, or ""."""

    __slots__ = ("container", "pid", "process", "user")

    def __init__(self, pid: int, process: str, user: str, container: str) -> None:
        self.pid = pid
        self.process = process
        self.user = user
        self.container = container

    def __str__(self) -> str:
        return f"container {self.container}" if self.container else f"{self.process} (pid {self.pid})"

    @property
    def hint(self) -> str:
        """What to do about it."""
        if self.container:
            return "change 'ports' or stop that container"
        user = f" (run by {self.user})" if self.user else ""
        return f"change 'ports' or stop that process{user}"


def find(protocol: str, port: int, containers: str) -> Owner | None:
    """The process that holds a port of the host, None if it cannot be told. `containers` is the directory of ours."""
    sockets = dict(_sockets(protocol, port))
    if not sockets:
        return None
    wanted = {f"socket:[{inode}]": uid for inode, uid in sockets.items()}
    for pid in _numbers("/proc"):
        links = list(_descriptors(pid))
        for link in links:
            if link in wanted:
                return Owner(pid, _process_name(pid), _user_name(wanted[link]), _container(links, containers))
    return None


def _sockets(protocol: str, port: int) -> Iterator[tuple[int, int]]:
    """(inode, uid) of the sockets bound to the port."""
    for table in (protocol, f"{protocol}6"):
        try:
            with open(f"/proc/net/{table}") as file:
                lines = file.read().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if int(fields[1].rpartition(":")[2], 16) != port:
                continue
            if protocol == "udp" or fields[3] == TCP_LISTEN:
                yield int(fields[9]), int(fields[7])


def _numbers(directory: str) -> Iterator[int]:
    for name in os.listdir(directory):
        if name.isdigit():
            yield int(name)


def _descriptors(pid: int) -> Iterator[str]:
    try:
        for fd in _numbers(f"/proc/{pid}/fd"):
            try:
                yield os.readlink(f"/proc/{pid}/fd/{fd}")
            except OSError:
                continue
    except OSError:
        return


def _process_name(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/comm", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return "a process"


def _user_name(uid: int) -> str:
    # By hand: the C library's look-up may load modules, which a monitor must not.
    try:
        with open("/etc/passwd", errors="replace") as file:
            for line in file:
                fields = line.split(":")
                if len(fields) > 2 and fields[2] == str(uid):
                    return fields[0]
    except OSError:
        pass
    return f"uid {uid}"


def _container(links: list[str], containers: str) -> str:
    """A monitor holds its container's lock open: `<run>/containers/<id>/lock`."""
    for link in links:
        directory, _, name = link.rpartition("/")
        parent, _, container_id = directory.rpartition("/")
        if name == "lock" and parent.endswith("/containers"):
            return _container_name(f"{containers}/{container_id}/monitor.json") or container_id[:12]
    return ""


def _container_name(path: str) -> str:
    import json

    try:
        with open(path) as file:
            return str(json.load(file)["name"])
    except (OSError, ValueError, KeyError):
        return ""
