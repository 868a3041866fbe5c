"""Extracted layers: `<diff id hex>/fs`, each made once, whole or not at all, and shared by all containers."""

from __future__ import annotations

import errno
import fcntl
import functools
import hashlib
import itertools
import os
import shutil
import struct
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager, suppress

from engine.errors import InvalidInput, Unavailable
from engine.images.blobs import BlobWriter
from engine.images.compression import Peeked, Readable, decompressed
from engine.images.layer import LayerWriter
from engine.images.leases import Lease, locked
from engine.images.tar import Limits
from engine.images.tree import remove_tree
from engine.images.unpacker import Unpacker
from engine.kernel import procfs
from engine.kernel.files import spread_subdirectories, syncfs

SETTLED_AFTER_S = 60.0
"""After this long the kernel has written out what was written (vm.dirty_expire_centisecs), so asking for it costs little."""
_UNSETTLED = "unsettled"
_TEMPORARY = ".new-"
_TRASH = ".old-"
_SMALL_BYTES = 1 << 20
"""What is not larger is unpacked before another process could have been started."""


class LayerDirectory:
    """The directory of extracted layers. What begins with a dot in it is temporary."""

    def __init__(self, directory: str) -> None:
        self.directory = directory

    def prepare(self) -> None:
        """Make the directory where it is missing."""
        os.makedirs(self.directory, mode=0o711, exist_ok=True)
        spread_subdirectories(self.directory)

    def path(self, diff_id: str) -> str:
        """Where an extracted layer lies, or would."""
        return os.path.join(self.directory, diff_id.removeprefix("sha256:"), "fs")

    def has(self, diff_id: str) -> bool:
        """Whether a layer is there, whole and on disk or sure to get there."""
        return os.path.isdir(self.path(diff_id)) and not self._is_doubtful(diff_id)

    def _is_doubtful(self, diff_id: str) -> bool:
        """Whether the host went down before anyone saw the layer written out: files in it may be empty then.

        Waiting for the disk would double the time of a load. So a layer says in which boot it was made until it is settled.
        """
        try:
            with open(self._marker(diff_id), encoding="ascii") as file:
                return file.read() != _boot_id()
        except FileNotFoundError:
            return False

    def _marker(self, diff_id: str) -> str:
        return os.path.join(os.path.dirname(self.path(diff_id)), _UNSETTLED)

    def unsettled(self, older_than_s: float = SETTLED_AFTER_S) -> list[str]:
        """Layers of this boot that nobody has yet seen written out, made so long ago that the kernel will have done it."""
        before = time.time() - older_than_s
        found = []
        for diff_id in self.all():
            try:
                if os.stat(self._marker(diff_id)).st_mtime <= before and not self._is_doubtful(diff_id):
                    found.append(diff_id)
            except FileNotFoundError:
                continue
        return found

    def settle(self, older_than_s: float = SETTLED_AFTER_S) -> None:
        """See to it that what was extracted some time ago is on disk, so that it outlives a power cut."""
        layers = self.unsettled(older_than_s)
        if not layers:
            return
        fd = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            syncfs(fd)
        finally:
            os.close(fd)
        for diff_id in layers:
            with suppress(FileNotFoundError):
                os.unlink(self._marker(diff_id))

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
        for name, text in (("size", str(unpacked.size_bytes)), ("blob", blob), (_UNSETTLED, _boot_id())):
            with open(os.path.join(temporary, name), "x", encoding="ascii") as file:
                file.write(text)
        self._clear_doubtful(unpacked.diff_id)
        try:
            os.rename(temporary, os.path.dirname(self.path(unpacked.diff_id)))
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise

    def _clear_doubtful(self, diff_id: str) -> None:
        """Take a doubtful layer out of the way of a new one. Two commands at once must not take each other's new one."""
        if self._is_doubtful(diff_id):
            with locked(os.path.join(self.directory, ".doubt"), exclusive=True):
                if self._is_doubtful(diff_id):
                    self.trash(diff_id)

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


@functools.cache
def _boot_id() -> str:
    return procfs.boot_id()


def _owner(name: str) -> str:
    return name.removeprefix(_TEMPORARY).partition("-")[0]


class Unpacked:
    """What unpacking a stream found out."""

    __slots__ = ("diff_id", "size_bytes")

    def __init__(self, diff_id: str, size_bytes: int) -> None:
        self.diff_id = diff_id
        self.size_bytes = size_bytes


def unpack(
    source: Readable,
    target: str | None,
    blob: BlobWriter | None,
    what: str,
    limits: Limits | None = None,
    lease: Lease | None = None,
) -> Unpacked:
    """Read a layer once: hash it as it is (into `blob`) and uncompressed, and write its files below `target`.

    Reading, hashing and decompressing run here, the writing of a large layer in a process beside it, which holds `lease` too: nobody
    takes its directory for abandoned before it has ended. `target` None only hashes.
    """
    stream = Peeked(blob.tee(source) if blob else source)
    # What is not compressed has one digest: hashing it twice would cost a fifth of the time.
    uncompressed = None if blob is not None and not stream.compression else hashlib.sha256()
    size_bytes = 0

    def pieces() -> Generator[bytes]:
        nonlocal size_bytes
        with closing(decompressed(stream)) as content:
            for piece in content:
                if uncompressed is not None:
                    uncompressed.update(piece)
                size_bytes += len(piece)
                yield piece

    try:
        # Closed at once when something fails: it may hold memory that others wait for.
        with closing(pieces()) as content:
            if target is None:
                for _ in content:
                    pass
            else:
                _write_files(content, target, limits or Limits(), lease)
    except InvalidInput as error:
        raise InvalidInput(f"cannot unpack {what}: {error.message}", hint=error.hint) from error
    diff_id = f"sha256:{uncompressed.hexdigest()}" if uncompressed is not None else _digest_of(blob)
    return Unpacked(diff_id, size_bytes)


def _write_files(pieces: Iterator[bytes], target: str, limits: Limits, lease: Lease | None) -> None:
    head = []
    for piece in pieces:
        head.append(piece)
        if sum(map(len, head)) > _SMALL_BYTES:
            break
    else:
        with LayerWriter(target) as writer:
            writer.unpack(head, limits)
            writer.finish()
        return
    with Unpacker(target, limits, [lease.fd] if lease else ()) as unpacker:
        for piece in itertools.chain(head, pieces):
            unpacker.write(piece)
        unpacker.finish()


def _digest_of(blob: BlobWriter | None) -> str:
    assert blob is not None
    return blob.digest


@contextmanager
def full_disk_explained(what: str, directory: str) -> Iterator[None]:
    """Turn "no space left" into an error that names what was being written and how much is free."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        free = shutil.disk_usage(directory).free
        raise Unavailable(
            f"cannot unpack {what}: no space left in {directory} ({free / 1e6:.1f} MB free)",
            hint="free some space (`umiak image rm`), or set UMIAK_ROOT to a directory on a larger disk",
        ) from error
