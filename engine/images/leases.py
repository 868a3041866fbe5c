"""What running commands are about to use, so that garbage collection leaves it alone.

A lease is a file that its owner keeps locked with flock(2): the kernel ends it with the process. It lists the digests that
are in the store but in no image yet. Temporary files carry the lease's name and die with it.
"""

from __future__ import annotations

import fcntl
import os
import weakref
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from threading import Lock


class Lease:
    """One command's claim. Made when the command first adds something; `release()` gives all of it up.

    A process that inherits `fd` holds the claim with it.
    """

    def __init__(self, directory: str) -> None:
        self.name = os.urandom(8).hex()
        path = os.path.join(directory, self.name)
        self._held: set[str] = set()
        self._pinned: Counter[str] = Counter()
        self._counting = Lock()
        os.makedirs(directory, mode=0o700, exist_ok=True)
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        fcntl.flock(self.fd, fcntl.LOCK_EX)
        self._end = weakref.finalize(self, _end, path, self.fd)

    def hold(self, digest: str) -> None:
        """Claim a digest. The caller holds the store's lock, so no collection runs meanwhile."""
        if digest not in self._held:
            self._held.add(digest)
            os.write(self.fd, f"{digest}\n".encode())

    def pin(self, digest: str) -> None:
        """Claim a digest until `unpin`, whatever images take it over and go meanwhile. Pins of one digest add up."""
        with self._counting:
            self._pinned[digest] += 1
        self.hold(digest)

    def unpin(self, digests: Iterable[str]) -> None:
        """Give up pins, and what they claimed. The caller holds the store's lock."""
        with self._counting:
            self._pinned.subtract(digests)
            self._pinned += Counter()
        self.drop(set(digests))

    def drop(self, digests: set[str]) -> None:
        """Give up claims that an image has taken over."""
        self._held -= digests - self._pinned.keys()
        os.ftruncate(self.fd, 0)
        os.write(self.fd, "".join(f"{digest}\n" for digest in sorted(self._held)).encode())

    def release(self) -> None:
        """End the lease. It ends by itself when the owner forgets it or the process exits."""
        self._end()


def _end(path: str, fd: int) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    os.close(fd)


def live_leases(directory: str) -> dict[str, set[str]]:
    """The leases whose owners live, with what they hold. The others are removed."""
    leases: dict[str, set[str]] = {}
    for name in os.listdir(directory) if os.path.isdir(directory) else ():
        path = os.path.join(directory, name)
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink(path)
        except BlockingIOError:
            with open(path, encoding="ascii") as file:
                leases[name] = set(file.read().split())
        except FileNotFoundError:
            pass
        finally:
            os.close(fd)
    return leases


@contextmanager
def locked(path: str, *, exclusive: bool) -> Iterator[None]:
    """Hold a lock file, shared or exclusive, for a block."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH)
        yield
    finally:
        os.close(fd)
