"""Is it alive, and how did it end? Asked of the kernel: a monitor by its lock, an init by pid, start time and boot."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import time

from engine.kernel import procfs
from engine.runtime import status

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LOCK = "lock"
UNSEEN = -1
"""The exit code of a process that ended while nobody watched."""
# A command that looks whether a monitor lives holds the lock for an instant.
LOCK_PATIENCE_S = 0.3


def init_alive(found: dict[str, Any]) -> bool:
    """Whether the very init process that a status names still runs."""
    return procfs.is_same_process(found["pid"], found["pid_starttime"], found["boot_id"])


def exit_code_of_zombie(pid: int, started: int) -> int | None:
    """How a process ended that its parent has not reaped yet, 128 + N for signal N; None if it is gone. proc(5), stat, field 52."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return None
    if fields[0] != b"Z" or int(fields[19]) != started:
        return None
    code = os.waitstatus_to_exitcode(int(fields[49]))
    return code if code >= 0 else 128 - code


def take_lock(run: str) -> int | None:
    """Become the monitor of the container whose run directory this is: the lock's descriptor, or None if another is."""
    fd = os.open(f"{run}/{LOCK}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + LOCK_PATIENCE_S
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return fd
        except BlockingIOError:
            if time.monotonic() >= deadline:
                os.close(fd)
                return None
            time.sleep(0.005)


def monitor_alive(run: str) -> bool:
    """Whether a monitor holds the lock of this run directory."""
    try:
        fd = os.open(f"{run}/{LOCK}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def kill_init(found: dict[str, Any]) -> None:
    """Kill the init process that a status names, if it lives, and wait for its end."""
    try:
        pidfd = os.pidfd_open(found["pid"] or -1)
    except OSError:
        return
    try:
        if init_alive(found):
            _kill(pidfd)
    finally:
        os.close(pidfd)


def _kill(pidfd: int) -> None:
    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    poll.poll()


def end_unreachable_monitor(found: dict[str, Any], container_id: str) -> None:
    """Kill the monitor that a status names, if it lives: its run directory or socket was taken away, and another is to take its place."""
    try:
        pidfd = os.pidfd_open(found["monitor_pid"] or -1)
    except OSError:
        return
    try:
        directory = f"/proc/{found['monitor_pid']}/fd"
        # Its number may have gone to another process.
        if any(container_id in os.readlink(f"{directory}/{fd}") for fd in os.listdir(directory)):
            _kill(pidfd)
    except OSError:
        return
    finally:
        os.close(pidfd)


def observe(run: str, bundle: str | None = None) -> dict[str, Any]:
    """The truth about a container, whether or not a monitor lives: its status, and `monitored`.

    What a dead monitor left is corrected: an init that is gone has exited, with exit code -1.
    """
    monitored = monitor_alive(run)
    found = status.read(run) or (status.read(bundle) if bundle else None) or status.initial()
    found["monitored"] = monitored
    if monitored or found["state"] not in ("running", "paused", "restarting") or init_alive(found):
        return found
    ended_unseen = found["state"] != "restarting"
    found.update(state="exited", pid=0, finished_at=found["finished_at"] or _last_sign(run, found["started_at"]))
    if ended_unseen:
        found.update(exit_code=UNSEEN, finished_at=_last_sign(run, found["started_at"]))
    return found


def _last_sign(run: str, started_at: float) -> float:
    """When the monitor last wrote: the best guess at an end that nobody saw."""
    try:
        # The clock of file times lags by some milliseconds; an end before the start would look odd.
        return max(os.stat(f"{run}/{status.FILE}").st_mtime, started_at)
    except OSError:
        return started_at
