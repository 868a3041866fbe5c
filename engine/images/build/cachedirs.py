"""Directories of `RUN --mount=type=cache`: they outlive builds, and are shared between them as each mount says.

Each has a lock file. A build holds it shared ("shared"), alone ("locked"), or takes a directory of its own ("private").
Pruning takes only what nobody holds.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from engine.images.tree import disk_usage, remove_tree

if TYPE_CHECKING:
    from engine.images.build.cancel import Cancellation

_POLL_S = 0.05


class CacheDirectories:
    """All cache directories of one store."""

    def __init__(self, directory: str) -> None:
        self.directory = directory

    @contextmanager
    def held(self, name: str, sharing: str, cancellation: Cancellation, fill: Callable[[str], None]) -> Iterator[str]:
        """Hold a directory for a block and give its path. A new one is handed to `fill` first."""
        path, fd = self._locked(hashlib.sha256(name.encode()).hexdigest()[:32], sharing, cancellation)
        try:
            data = os.path.join(path, "data")
            self._make(data, path, fill)
            yield data
        finally:
            os.utime(fd)
            os.close(fd)

    def _make(self, data: str, path: str, fill: Callable[[str], None]) -> None:
        """Make the content under a lock of its own: those who share the directory may come at once."""
        with open(os.path.join(path, "making"), "w") as making:
            fcntl.flock(making, fcntl.LOCK_EX)
            if os.path.isdir(data):
                return
            new = os.path.join(path, "new")
            remove_tree(new)
            os.mkdir(new, 0o700)
            fill(new)
            os.rename(new, data)

    def _locked(self, stem: str, sharing: str, cancellation: Cancellation) -> tuple[str, int]:
        kind = fcntl.LOCK_SH if sharing == "shared" else fcntl.LOCK_EX
        number = 0
        while True:
            path = os.path.join(self.directory, f"{stem}-{number}" if number else stem)
            fd = _try_lock(path, kind)
            if fd is not None:
                return path, fd
            if sharing == "private":
                number += 1
                continue
            cancellation.check()
            time.sleep(_POLL_S)

    def sizes(self) -> list[tuple[str, float, int]]:
        """Each directory's name, when it was last used, and its size in bytes."""
        found = []
        for name in os.listdir(self.directory) if os.path.isdir(self.directory) else ():
            path = os.path.join(self.directory, name)
            try:
                used_at = os.stat(os.path.join(path, "lock")).st_mtime
            except FileNotFoundError:
                used_at = 0.0
            found.append((name, used_at, disk_usage(path)))
        return found

    def remove(self, name: str) -> bool:
        """Remove a directory unless a build holds it."""
        path = os.path.join(self.directory, name)
        fd = _try_lock(path, fcntl.LOCK_EX)
        if fd is None:
            return False
        try:
            os.unlink(os.path.join(path, "lock"))
            remove_tree(path)
        finally:
            os.close(fd)
        return True


def _try_lock(path: str, kind: int) -> int | None:
    """Lock a directory's lock file; None where somebody else does. One that pruning has just removed is made again."""
    while True:
        os.makedirs(path, mode=0o700, exist_ok=True)
        lock = os.path.join(path, "lock")
        try:
            fd = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(fd, kind | fcntl.LOCK_NB)
            if os.path.exists(lock) and os.path.samestat(os.stat(lock), os.fstat(fd)):
                return fd
        except BlockingIOError:
            os.close(fd)
            return None
        except FileNotFoundError:
            pass
        os.close(fd)
