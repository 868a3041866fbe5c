"""What the command that asked for a start is told, in the words of `engine.errors`."""

from __future__ import annotations

import errno
import json

from engine.runtime.services import ServiceError
from engine.runtime.steps import LaunchError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from typing import Any

_KINDS = {
    errno.EACCES: "denied",
    errno.EPERM: "denied",
    errno.EADDRINUSE: "conflict",
    errno.EBUSY: "conflict",
    errno.ENOENT: "not_found",
    errno.ENOSPC: "unavailable",
    errno.EDQUOT: "unavailable",
    errno.ENOSYS: "unsupported",
    errno.EOPNOTSUPP: "unsupported",
}


def failure_of(error: Exception) -> dict[str, Any]:
    """Say in a reply's fields why a start failed."""
    found: dict[str, Any] = {"kind": "kernel", "message": str(error), "hint": None, "exit_code": 125, "step": ""}
    if isinstance(error, LaunchError):
        found.update(kind=error.kind, message=error.message, hint=error.hint or None)
        found.update(exit_code=error.exit_code, step=error.step)
    elif isinstance(error, ServiceError):
        found.update(kind=error.kind, message=error.message, hint=error.hint)
    elif isinstance(error, OSError):
        found.update(kind=_KINDS.get(error.errno or 0, "kernel"))
    elif isinstance(error, (KeyError, TypeError, ValueError)):
        found.update(kind="invalid", message=f"the container's configuration cannot be read: {error!r}")
    return found


class Reply:
    """The answer to one request. Given once."""

    def __init__(self, channel: socket.socket, container_id: str) -> None:
        self._channel: socket.socket | None = channel
        self._id = container_id

    def started(self, pid: int, warnings: list[str]) -> None:
        """Tell that the container's process has been exec'd, and what the host could not give it."""
        self._send({"event": "started", "pid": pid, "warnings": warnings})

    def failed(self, failure: dict[str, Any]) -> None:
        """Tell why there is no container running."""
        self._send({"event": "failed", **failure})

    def _send(self, message: dict[str, Any]) -> None:
        if self._channel is None:
            return
        try:
            self._channel.send(json.dumps({"id": self._id, **message}).encode())
        except OSError:
            # The command is gone; status.json tells whoever asks next.
            pass
        self._channel.close()
        self._channel = None
