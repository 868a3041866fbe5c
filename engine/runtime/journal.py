"""The record of what happens to containers, networks and volumes: one JSON object a line, appended by whoever does it.

Monitors write to it beside the commands, so it is a file and no table: a line is one write(2) to a file opened for appending.
`engine.events` reads it. The newest lines are in `current.jsonl`, those before in `previous.jsonl`.
"""

from __future__ import annotations

import fcntl
import json
import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

CURRENT = "current.jsonl"
PREVIOUS = "previous.jsonl"
MAX_SIZE_BYTES = 8 << 20


def append(directory: str, kind: str, action: str, subject: str, attributes: dict[str, Any]) -> None:
    """Record that `action` happened to `subject` (an ID). Never raises: what happens matters more than its record."""
    record = {"time": time.time(), "type": kind, "action": action, "id": subject, "attributes": attributes}
    line = json.dumps(record, separators=(",", ":"), default=str).encode() + b"\n"
    try:
        fd = _open(directory)
        try:
            os.write(fd, line)
            if os.fstat(fd).st_size > MAX_SIZE_BYTES:
                _rotate(directory, fd)
        finally:
            os.close(fd)
    except OSError:
        pass


def _open(directory: str) -> int:
    path = f"{directory}/{CURRENT}"
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
    try:
        return os.open(path, flags, 0o600)
    except FileNotFoundError:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        return os.open(path, flags, 0o600)


def _rotate(directory: str, fd: int) -> None:
    """Make room, once: of several writers that find the file too large, the first renames it."""
    fcntl.flock(fd, fcntl.LOCK_EX)
    path = f"{directory}/{CURRENT}"
    if os.path.samestat(os.fstat(fd), os.stat(path)):
        os.rename(path, f"{directory}/{PREVIOUS}")
