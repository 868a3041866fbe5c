"""A container's changing side: `status.json`, written by its monitor alone, read by anyone.

The file is replaced by rename, so that a reader always sees a whole one.
"""

from __future__ import annotations

import errno
import json
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

VERSION = 1
FILE = "status.json"


def initial() -> dict[str, Any]:
    """The status of a container that has never run."""
    return {
        "v": VERSION,
        "state": "created",
        "pid": 0,
        "pid_starttime": 0,
        "boot_id": "",
        "monitor_pid": 0,
        "started_at": 0.0,
        "finished_at": 0.0,
        "exit_code": None,
        "oom_killed": False,
        "error": "",
        "warnings": [],
        "restart_count": 0,
        "health": None,
        "ports": [],
        "cgroup": "",  # what the container's own lies in; empty before the first start
    }


def read(directory: str) -> dict[str, Any] | None:
    """The status kept in `directory`, or None where there is none that can be read."""
    try:
        with open(f"{directory}/{FILE}", "rb") as file:
            found = json.loads(file.read())
    except (OSError, ValueError):
        return None
    return {**initial(), **found} if isinstance(found, dict) else None


def write(directory: str, status: dict[str, Any]) -> None:
    """Replace the status kept in `directory`."""
    temporary = f"{directory}/.{FILE}"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        text = json.dumps(status, separators=(",", ":")).encode()
        if os.write(fd, text) < len(text):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), temporary)
    finally:
        os.close(fd)
    os.rename(temporary, f"{directory}/{FILE}")


class StatusKeeper:
    """The status while its monitor lives: each change is written and told to `on_change`."""

    __slots__ = ("_run", "_written", "current", "on_change")

    def __init__(self, run: str, current: dict[str, Any]) -> None:
        self._run = run
        self._written: dict[str, Any] = {}
        self.current = current
        self.on_change: Callable[[dict[str, Any]], object] | None = None

    def update(self, **changes: Any) -> None:
        """Change fields; write only if something is new. A full disk does not stop a container: the next update tries again."""
        self.current = {**self.current, **changes}
        if self.current == self._written:
            return
        try:
            write(self._run, self.current)
            self._written = self.current
        except OSError:
            self._written = {}
        if self.on_change:
            self.on_change(self.current)
