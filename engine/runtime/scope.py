"""Where systemd is process 1: a cgroup of our own, which it has handed over and does not touch.

All cgroups belong to systemd there, but for those below a unit that says `Delegate=yes`. So containers and monitors live in a scope,
`umiak.scope`, which the first process to need it has made over D-Bus and which is gone with the last: monitors in its `monitors`,
each container in a cgroup beside that. What starts them may be a service that is stopped, or a session that is logged out of: neither
ends what is not in its cgroup. `cgroup_parent: some.slice` gives a scope of its own in that slice.
https://systemd.io/CGROUP_DELEGATION/, org.freedesktop.systemd1(5).
"""

from __future__ import annotations

import fcntl
import os

from engine.runtime.cgroup import DEFAULT_PARENT, Hierarchies
from engine.runtime.dbus import Connection, DBusError
from engine.runtime.steps import LaunchError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MONITORS = "monitors"
_BOOTED = "/run/systemd/system"  # sd_booted(3)
_SLICE = "system.slice"
_BUS, _PRIVATE = "/run/dbus/system_bus_socket", "/run/systemd/private"
_SYSTEMD, _MANAGER = "org.freedesktop.systemd1", "org.freedesktop.systemd1.Manager"
_OBJECT = "/org/freedesktop/systemd1"
_NO_LIMIT = 2**64 - 1
_STOP_TIMEOUT_US = 10_000_000  # until SIGKILL when the host goes down: Compose's own default
_TIMEOUT_S = 10.0
_ATTEMPTS = 3

# Slice → the scope's cgroup, which this process or the one that it was forked from has joined.
_joined: dict[str, str] = {}
_troubles: list[str] = []


def join_default() -> None:
    """Join the scope for containers without a `cgroup_parent`; where that fails they stay outside, and `trouble` tells."""
    if not _is_booted():
        return
    try:
        _join(_SLICE)
    except (OSError, ValueError) as error:
        _troubles.append(
            f"systemd gives no cgroup ({error}): monitors end with the service or session that starts them"
        )


def trouble() -> list[str]:
    """What went wrong, as warnings for the containers that are started nevertheless."""
    return list(_troubles)


def resolve(parent: str) -> str:
    """Return the cgroup that containers with this `cgroup_parent` go into. For a slice, join a scope in it; LaunchError if that fails."""
    if not _is_booted() or Hierarchies.of_host().v1:
        return parent
    if parent == DEFAULT_PARENT:
        return _joined.get(_SLICE, parent)
    if not parent.endswith(".slice") or "/" in parent:
        return parent
    try:
        return _join(parent)
    except (OSError, ValueError) as error:
        hint = "name a slice that systemd accepts, or give a cgroup by its path"
        raise LaunchError("Cgroup", 0, f"cannot use the slice {parent}: systemd says: {error}", hint=hint) from error


def _is_booted() -> bool:
    """Whether systemd is process 1 here. Its directory may be seen in a container, whose processes and cgroups it cannot name."""
    if not os.path.isdir(_BOOTED):
        return False
    with open("/proc/1/comm", encoding="ascii", errors="replace") as file:
        return file.read() == "systemd\n"


def _join(slice_: str) -> str:
    """Put this process into the scope of a slice, made now if it is not there; return the scope's cgroup."""
    if slice_ not in _joined:
        # One at a time, or another would find the scope before it has its `monitors`.
        lock = os.open(_BOOTED, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            systemd = _connect()
            try:
                _enter(systemd, _name(slice_), slice_)
            finally:
                systemd.close()
        finally:
            os.close(lock)
        _joined[slice_] = own_cgroup().removesuffix(f"/{MONITORS}")
    return _joined[slice_]


def _name(slice_: str) -> str:
    return "umiak.scope" if slice_ == _SLICE else f"umiak-{slice_.removesuffix('.slice')}.scope"


def _connect() -> Connection:
    """Connect to systemd: over the system bus, or to itself where there is none."""
    try:
        connection = Connection(_BUS, _TIMEOUT_S)
    except OSError:
        connection = Connection(_PRIVATE, _TIMEOUT_S)
    else:
        bus = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus")
        connection.call(*bus, "Hello")
        connection.call(*bus, "AddMatch", "s", f"type='signal',sender='{_SYSTEMD}',interface='{_MANAGER}'")
    _call(connection, "Subscribe")
    return connection


def _call(systemd: Connection, member: str, signature: str = "", *arguments: Any) -> list[Any]:
    return systemd.call(_SYSTEMD, _OBJECT, _MANAGER, member, signature, *arguments)


def _enter(systemd: Connection, scope: str, slice_: str) -> None:
    """Join the scope, or make it. One that is just being stopped is waited for."""
    below = "" if Hierarchies.of_host().v1 else f"/{MONITORS}"
    for _ in range(_ATTEMPTS):
        if _attach(systemd, scope, below):
            return
        try:
            _start(systemd, scope, slice_)
        except DBusError as error:
            if not error.name.endswith(".UnitExists"):
                raise
            next(name for name, *_ in systemd.signals("UnitRemoved") if name == scope)
        else:
            if below:
                _move_into_monitors()
            return
    raise TimeoutError(f"{scope} can neither be joined nor started")


def _attach(systemd: Connection, scope: str, below: str) -> bool:
    try:
        _call(systemd, "AttachProcessesToUnit", "ssau", scope, below, [0])  # 0: whoever asks
    except DBusError:
        return False
    return True


def _start(systemd: Connection, scope: str, slice_: str) -> None:
    properties = [
        ("Description", ("s", "Containers of Umiak and their monitors")),
        ("Slice", ("s", slice_)),
        ("Delegate", ("b", True)),
        ("PIDs", ("au", [0])),
        ("TasksMax", ("t", _NO_LIMIT)),  # the default is a share of the host's, for a single service
        ("CollectMode", ("s", "inactive-or-failed")),
        ("TimeoutStopUSec", ("t", _STOP_TIMEOUT_US)),
    ]
    (job,) = _call(systemd, "StartTransientUnit", "ssa(sv)a(sa(sv))", scope, "fail", properties, [])
    for _, path, _, result in systemd.signals("JobRemoved"):
        if path == job:
            if result != "done":
                raise DBusError(result, f"starting {scope} has {result}")
            return


def _move_into_monitors() -> None:
    """A cgroup with processes of its own cannot share out controllers: cgroups(7), "no internal processes"."""
    path = f"{Hierarchies.of_host().unified}{own_cgroup()}/{MONITORS}"
    os.mkdir(path)
    with open(f"{path}/cgroup.procs", "w", encoding="ascii") as file:
        file.write("0")


def own_cgroup() -> str:
    """Return the caller's cgroup in the unified hierarchy, as /proc/self/cgroup has it."""
    with open("/proc/self/cgroup", encoding="utf-8", errors="surrogateescape") as file:
        return next((line[3:].rstrip("\n") for line in file if line.startswith("0::")), "/")
