"""A container that dies with the process that asked for it, as a step of a build does. One of a monitor's services."""

from __future__ import annotations

import os
import signal

from engine.kernel import process, procfs
from engine.runtime.services import ServiceError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from engine.runtime.services import Host


def create(config: Mapping[str, Any], host: Host) -> Owner:
    """Make the service of `{"pid": …, "start_time": …}`, which name the owner."""
    return Owner(config["pid"], config["start_time"], host)


class Owner:
    """Watches one process; at its end the container gets SIGKILL."""

    def __init__(self, pid: int, start_time: int, host: Host) -> None:
        self._pid = pid
        self._start_time = start_time
        self._host = host
        self._pidfd = -1

    def acquire(self) -> None:
        """Begin to watch. Raise ServiceError where the owner has gone already."""
        try:
            self._pidfd = process.pidfd_open(self._pid)
        except ProcessLookupError:
            raise self._gone() from None
        if not procfs.is_alive(self._pid, self._start_time):
            self.release()
            raise self._gone()
        self._host.loop.add_reader(self._pidfd, self._end)

    def _gone(self) -> ServiceError:
        return ServiceError("conflict", f"process {self._pid}, which asked for the container, is gone")

    def _end(self) -> None:
        self.release()
        try:
            self._host.kill(signal.SIGKILL)
        except ServiceError:
            pass  # it has just ended by itself

    def ports(self) -> list[dict[str, Any]]:
        """None."""
        return []

    def release(self) -> None:
        """Stop watching."""
        if self._pidfd >= 0:
            self._host.loop.remove(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1
