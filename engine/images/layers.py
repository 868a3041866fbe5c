"""Extracted layers: `<diff id hex>/fs`, each made once, whole or not at all, and shared by all containers."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import sqlite3
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from engine.errors import InvalidInput, Unavailable
from engine.images.blobs import BlobWriter
from engine.images.compression import Peeked, Readable, decompressed
from engine.images.layer import LayerWriter, in_thread
from engine.images.tar import Limits
from engine.images.tree import remove_tree

_TEMPORARY = ".new-"
_TRASH = ".old-"


class LayerDirectory:
    """The directory of extracted layers. What begins with a dot in it is temporary."""

    def __init__(self, directory: str) -> None:
        self.directory = directory

    def path(self, diff_id: str) -> str:
        """Where an extracted layer lies, or would."""
        return os.path.join(self.directory, diff_id.removeprefix("sha256:"), "fs")

    def has(self, diff_id: str) -> bool:
        return os.path.isdir(self.path(diff_id))

    @contextmanager
    def temporary(self, owner: str) -> Iterator[str]:
        """A directory to make a layer in, removed afterwards unless `adopt()` has taken it."""
        path = os.path.join(self.directory, f"{_TEMPORARY}{owner}-{os.urandom(6).hex()}")
        os.makedirs(os.path.join(path, "fs"), mode=0o755)
        os.chmod(path, 0o711)
        os.chmod(os.path.join(path, "fs"), 0o755)
        try:
            yield path
        finally:
            remove_tree(path)

    def size_bytes(self, diff_id: str) -> int | None:
        """The size of an extracted layer's uncompressed tar; None where it is not extracted."""
        try:
            with open(os.path.join(os.path.dirname(self.path(diff_id)), "size"), encoding="ascii") as file:
                return int(file.read())
        except (FileNotFoundError, ValueError):
            return None

    def is_from(self, diff_id: str, blob: str) -> bool:
        """Whether a layer was extracted from that blob; False where it is not known."""
        try:
            with open(os.path.join(os.path.dirname(self.path(diff_id)), "blob"), encoding="ascii") as file:
                return file.read() == blob
        except FileNotFoundError:
            return False

    def adopt(self, temporary: str, unpacked: Unpacked, blob: str) -> None:
        """Give a finished temporary directory its place. Where another command was first, its layer stays."""
        for name, text in (("size", str(unpacked.size_bytes)), ("blob", blob)):
            with open(os.path.join(temporary, name), "x", encoding="ascii") as file:
                file.write(text)
        try:
            os.rename(temporary, os.path.dirname(self.path(unpacked.diff_id)))
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise

    @contextmanager
    def making(self, diff_id: str) -> Iterator[None]:
        """Let one command at a time make this layer; the others wait and find it made."""
        fd = os.open(os.path.join(self.directory, ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        start = int(diff_id.removeprefix("sha256:")[:15], 16)
        try:
            # An open-file-description lock on one byte per layer: fcntl_locking(2). Unlike flock it needs no file for each.
            fcntl.fcntl(fd, fcntl.F_OFD_SETLKW, struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, start, 1, 0))
            yield
        finally:
            os.close(fd)

    def trash(self, diff_id: str) -> str:
        """Take a layer away at once; the caller removes the returned directory when it has no lock to hold."""
        trash = os.path.join(self.directory, f"{_TRASH}{os.urandom(6).hex()}")
        os.rename(os.path.dirname(self.path(diff_id)), trash)
        return trash

    def abandoned(self, live: Callable[[str], bool]) -> list[str]:
        """Temporary directories of commands that ended, and trash."""
        return [
            os.path.join(self.directory, name)
            for name in os.listdir(self.directory)
            if name.startswith(_TRASH) or (name.startswith(_TEMPORARY) and not live(_owner(name)))
        ]

    def all(self) -> Iterator[str]:
        for name in os.listdir(self.directory):
            if not name.startswith("."):
                yield f"sha256:{name}"


def _owner(name: str) -> str:
    return name.removeprefix(_TEMPORARY).partition("-")[0]


class Unpacked:
    """What unpacking a stream found out."""

    __slots__ = ("diff_id", "size_bytes")

    def __init__(self, diff_id: str, size_bytes: int) -> None:
        self.diff_id = diff_id
        self.size_bytes = size_bytes


def unpack(
    source: Readable, target: str | None, blob: BlobWriter | None, what: str, limits: Limits | None = None
) -> Unpacked:
    """Read a layer once: hash it as it is (into `blob`) and uncompressed, and write its files below `target`.

    Reading, hashing and decompressing run in a thread beside the writing. `target` None only hashes.
    """
    stream = Peeked(blob.tee(source) if blob else source)
    # What is not compressed has one digest: hashing it twice would cost a fifth of the time.
    uncompressed = None if blob is not None and not stream.compression else hashlib.sha256()
    size_bytes = 0

    def pieces() -> Iterator[bytes]:
        nonlocal size_bytes
        for piece in decompressed(stream):
            if uncompressed is not None:
                uncompressed.update(piece)
            size_bytes += len(piece)
            yield piece

    try:
        if target is None:
            for _ in pieces():
                pass
        else:
            with LayerWriter(target) as writer:
                writer.unpack(in_thread(pieces()), limits)
                writer.finish()
    except InvalidInput as error:
        raise InvalidInput(f"cannot unpack {what}: {error.message}", hint=error.hint) from error
    diff_id = f"sha256:{uncompressed.hexdigest()}" if uncompressed is not None else _digest_of(blob)
    return Unpacked(diff_id, size_bytes)


def _digest_of(blob: BlobWriter | None) -> str:
    assert blob is not None
    return blob.digest


@contextmanager
def full_disk_explained(what: str, directory: str) -> Iterator[None]:
    """Turn "no space left" into an error that names what was being written and how much is free."""
    try:
        yield
    except (OSError, sqlite3.OperationalError) as error:
        if not _is_full(error):
            raise
        free = shutil.disk_usage(directory).free
        raise Unavailable(
            f"cannot unpack {what}: no space left in {directory} ({free / 1e6:.1f} MB free)",
            hint="free some space (`umiak image rm`), or set UMIAK_ROOT to a directory on a larger disk",
        ) from error


def _is_full(error: OSError | sqlite3.OperationalError) -> bool:
    if isinstance(error, sqlite3.OperationalError):
        return error.sqlite_errorcode == sqlite3.SQLITE_FULL
    return error.errno in (errno.ENOSPC, errno.EDQUOT)
