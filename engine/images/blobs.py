"""Content-addressed blobs in an OCI image layout (image-spec, image-layout.md): written once, named by their SHA-256."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from io import RawIOBase
from typing import Any, BinaryIO, Self

from engine.errors import InvalidInput, NotFound
from engine.images.compression import CHUNK_BYTES, Readable
from engine.images.config import MAX_JSON_BYTES, parse_json
from engine.images.reference import is_digest


class BlobWriter:
    """A blob that is being written: a temporary file and its running hash. Nothing is visible before `commit()`."""

    def __init__(self, store: BlobStore, path: str, file: RawIOBase) -> None:
        self._store = store
        self._path = path
        self._file = file
        self._reset()

    def _reset(self) -> None:
        self._hash = hashlib.sha256()
        self.size_bytes = 0

    @classmethod
    def temporary(cls, store: BlobStore, owner: str) -> BlobWriter:
        """A new one, which goes with the command that owns it."""
        path = os.path.join(store.ingest, f"{owner}-{os.urandom(6).hex()}")
        return cls(store, path, open(path, "x+b", buffering=0))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        try:
            os.unlink(self._path)
        except FileNotFoundError:
            pass

    def write(self, data: bytes) -> None:
        self._hash.update(data)
        self.size_bytes += len(data)
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) or 0 :]

    def tee(self, source: Readable) -> Readable:
        """A reader of `source` that writes all that passes into this blob."""
        return _Tee(source, self)

    @property
    def digest(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"

    def reread(self) -> BinaryIO:
        """Open what was written so far for reading."""
        return open(self._path, "rb", buffering=0)

    def commit(self, expected: str | None = None) -> str:
        """Make the blob durable and visible; return its digest. Raise InvalidInput where it is not the expected one."""
        digest = self.digest
        if expected is not None and digest != expected:
            raise InvalidInput(f"the content does not match its digest: expected {expected}, got {digest}")
        target = self._store.path(digest)
        if not os.path.exists(target):
            os.fsync(self._file.fileno())
            os.rename(self._path, target)
            _sync_directory(os.path.dirname(target))
        return digest


class _Tee:
    def __init__(self, source: Readable, blob: BlobWriter) -> None:
        self._source = source
        self._blob = blob

    def read(self, size: int = CHUNK_BYTES, /) -> bytes:
        data = self._source.read(size)
        if data:
            self._blob.write(data)
        return data


class BlobStore:
    """The blobs of one image layout. Safe between processes: a blob appears whole, by rename."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self.ingest = os.path.join(directory, "ingest")
        self.downloads = os.path.join(directory, "downloads")
        self._blobs = os.path.join(directory, "blobs", "sha256")

    def prepare(self) -> None:
        """Make the layout where it is missing."""
        os.makedirs(self._blobs, mode=0o700, exist_ok=True)
        os.makedirs(self.ingest, mode=0o700, exist_ok=True)
        marker = os.path.join(self.directory, "oci-layout")
        if not os.path.exists(marker):
            replace_file(marker, b'{"imageLayoutVersion":"1.0.0"}')

    def path(self, digest: str) -> str:
        """Where a blob lies, or would. The digest is checked: it may come from an archive."""
        if not is_digest(digest):
            raise InvalidInput(f"cannot read {digest!r} as a digest", hint="only sha256 digests are supported")
        return os.path.join(self._blobs, digest.removeprefix("sha256:"))

    def has(self, digest: str) -> bool:
        return os.path.exists(self.path(digest))

    def size_bytes(self, digest: str) -> int:
        try:
            return os.stat(self.path(digest)).st_size
        except FileNotFoundError as error:
            raise _missing(digest) from error

    def open(self, digest: str) -> BinaryIO:
        """Open a blob for reading. Who reads it verifies the digest."""
        try:
            return open(self.path(digest), "rb", buffering=0)
        except FileNotFoundError as error:
            raise _missing(digest) from error

    def json(self, digest: str) -> dict[str, Any]:
        """Read a small JSON blob, verified."""
        with self.open(digest) as file:
            data = file.read(MAX_JSON_BYTES + 1)
        if f"sha256:{hashlib.sha256(data).hexdigest()}" != digest:
            raise InvalidInput(
                f"blob {digest} in the image store is damaged", hint="remove the image and load it again"
            )
        return parse_json(data, f"blob {digest}")

    def put(self, data: bytes, owner: str) -> str:
        """Store bytes; return their digest."""
        with BlobWriter.temporary(self, owner) as blob:
            blob.write(data)
            return blob.commit()

    def all(self) -> Iterator[str]:
        for name in os.listdir(self._blobs):
            if is_digest(f"sha256:{name}"):
                yield f"sha256:{name}"

    def remove(self, digest: str) -> None:
        try:
            os.unlink(self.path(digest))
        except FileNotFoundError:
            pass


def to_json(value: Any) -> bytes:
    """JSON as we store it: compact, in UTF-8."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def replace_file(path: str, data: bytes) -> None:
    """Write a file by temporary file and rename, so that a reader sees the old or the new one."""
    temporary = f"{path}.{os.urandom(4).hex()}.tmp"
    with open(temporary, "xb") as file:
        file.write(data)
    os.rename(temporary, path)


def _sync_directory(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _missing(digest: str) -> NotFound:
    return NotFound(f"blob {digest} is missing from the image store", hint="remove the image and load it again")
