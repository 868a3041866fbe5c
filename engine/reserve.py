"""Room that is kept on the engine's disk for removing things: on a full disk nothing else helps, and removing has to write too."""

from __future__ import annotations

import os

SIZE_BYTES = 1 << 20
PLENTY_BYTES = 16 << 20
"""With less room than this left, none of it is taken for the reserve."""


def keep(path: str) -> None:
    """Have the reserve, a file, where there is room for it. Never raises."""
    try:
        if os.path.exists(path) or _free_bytes(path) < PLENTY_BYTES:
            return
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(fd, 0, SIZE_BYTES)
        finally:
            os.close(fd)
    except OSError:
        return


def use(path: str) -> bool:
    """Give the reserve up if the disk is full; tell whether there is more room now."""
    try:
        if _free_bytes(path) >= SIZE_BYTES:
            return False
        os.unlink(path)
    except OSError:
        return False
    return True


def _free_bytes(path: str) -> int:
    found = os.statvfs(os.path.dirname(path))
    return found.f_bavail * found.f_frsize
