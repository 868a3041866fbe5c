"""Blobs that are being downloaded: each has one file, locked by who fetches it, and found again after a kill.

The file is named by the digest that the content shall have. A command that wants the same blob waits for the lock and
then finds the layer made, or goes on where the other one stopped.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from engine.images.blobs import BlobStore, BlobWriter
from engine.images.compression import CHUNK_BYTES, Readable

KEPT_S = 24 * 3600.0
"""How long a command that clears up by the way leaves an unfinished download for a later one to resume."""

_POLL_S = 0.05


class PartialBlob(BlobWriter):
    """A blob whose beginning may be there from an earlier attempt. It stays, to be resumed, unless committed or discarded."""

    def __init__(self, store: BlobStore, path: str, fd: int) -> None:
        self._fd = fd
        super().__init__(store, path, os.fdopen(fd, "r+b", buffering=0))
        self.resumed_bytes = os.fstat(fd).st_size

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def stream(self, source: Callable[[int], Readable], check: Callable[[], None]) -> Readable:
        """The whole content: what is in the file, then what `source` (given where to begin) has. `check` may raise to give up."""
        return _Resumed(self, source, check)

    def replay(self, size: int) -> bytes:
        """Read and hash the next piece of what was there."""
        data = self._file.read(min(size, self.resumed_bytes - self.size_bytes)) or b""
        self._hash.update(data)
        self.size_bytes += len(data)
        return data

    def restart(self) -> None:
        """Forget what was there."""
        os.ftruncate(self._fd, 0)
        self._file.seek(0)
        self.resumed_bytes = 0
        self._reset()

    def discard(self) -> None:
        """Remove the file, unless it has become the blob: its content is not, or no longer, wanted."""
        if _is_at(self._path, self._fd):
            os.unlink(self._path)


class _Resumed:
    def __init__(self, blob: PartialBlob, source: Callable[[int], Readable], check: Callable[[], None]) -> None:
        self._blob = blob
        self._open = source
        self._check = check
        self._source: Readable | None = None

    def read(self, size: int = CHUNK_BYTES, /) -> bytes:
        self._check()
        if self._source is None:
            data = self._blob.replay(size)
            if data:
                return data
            self._source = self._open(self._blob.size_bytes)
        data = self._source.read(size)
        if data:
            self._blob.write(data)
        return data


@contextmanager
def partial_blob(store: BlobStore, digest: str, waiting: Callable[[], None]) -> Iterator[PartialBlob]:
    """Hold the one unfinished copy of a blob. While another command holds it `waiting` is called, which may raise to give up."""
    path = os.path.join(store.downloads, os.path.basename(store.path(digest)))
    os.makedirs(store.downloads, mode=0o700, exist_ok=True)
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            while not _try_lock(fd):
                waiting()
                time.sleep(_POLL_S)
            if not _is_at(path, fd):
                os.close(fd)  # finished or cleared away while we waited
                continue
        except BaseException:
            os.close(fd)
            raise
        with PartialBlob(store, path, fd) as blob:
            yield blob
        return


def clear_partial(store: BlobStore, older_than_s: float = 0.0) -> int:
    """Remove unfinished downloads that nobody works on; return the bytes freed."""
    freed = 0
    for name in os.listdir(store.downloads) if os.path.isdir(store.downloads) else ():
        path = os.path.join(store.downloads, name)
        try:
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            continue
        try:
            found = os.fstat(fd)
            if _try_lock(fd) and _is_at(path, fd) and time.time() - found.st_mtime >= older_than_s:
                os.unlink(path)
                freed += found.st_size
        finally:
            os.close(fd)
    return freed


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(path: str, fd: int) -> bool:
    try:
        return os.path.samestat(os.stat(path, follow_symlinks=False), os.fstat(fd))
    except FileNotFoundError:
        return False
