"""A blob as a stream that mends itself: where the connection breaks or stalls, it goes on with the next byte (RFC 9110, Range)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from engine.errors import InvalidInput
from engine.images.compression import CHUNK_BYTES
from engine.images.registry.failures import PASSING, Broken, Pace, Patience
from engine.images.registry.manifest import Descriptor
from engine.images.registry.repository import Repository
from engine.images.registry.transport import explained

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse

_MAX_RECONNECTS = 50
_PROGRESS_BYTES = 1 << 16


class BlobStream:
    """The bytes of one blob from `offset` on: as many as its descriptor says, neither more nor fewer."""

    def __init__(
        self,
        repository: Repository,
        blob: Descriptor,
        offset: int,
        patience: Patience,
        timeout_s: float,
        progress: Callable[[int], None],
    ) -> None:
        self._repository = repository
        self._blob = blob
        self._position = offset
        self._patience = patience
        self._timeout_s = timeout_s
        self._progress = progress
        self._response: BaseHTTPResponse | None = None
        self._failures = 0
        self._reconnects = 0
        self._good_until = offset
        self._pace = Pace(repository.host, timeout_s, offset)

    def read(self, size: int = CHUNK_BYTES, /) -> bytes:
        """The next bytes, b"" at the end."""
        while True:
            self._patience.check()
            try:
                data = self._read(size)
            except PASSING as error:
                self._drop()
                self._count_failure()
                self._patience.wait(error, self._failures)
                continue
            self._progress(self._position)
            return data

    def _read(self, size: int) -> bytes:
        from urllib3.exceptions import HTTPError

        if self._position == self._blob.size_bytes:
            return self._end()
        if self._response is None:
            self._response = self._connect()
            self._pace = Pace(self._repository.host, self._timeout_s, self._position)
        try:
            # One receive at a time, so that a trickle is noticed.
            with self._patience.watching(self._response.shutdown):
                data: bytes = self._response.read1(size)
        except HTTPError as error:
            raise explained(error, self._repository.host) from error
        except OSError as error:
            raise Broken(f"the connection to {self._repository.host} failed: {error}") from error
        if not data:
            raise Broken(f"the connection to {self._repository.host} broke")
        self._position += len(data)
        if self._position > self._blob.size_bytes:
            raise self._wrong(f"is larger than the {self._blob.size_bytes} bytes announced")
        self._pace.at(self._position)
        return data

    def _end(self) -> bytes:
        if self._response is not None and self._response.length_remaining == 0:
            self._response.release_conn()
            self._response = None
        self._drop()
        return b""

    def _connect(self) -> BaseHTTPResponse:
        """Open the blob where we are; read over the beginning where the registry knows no ranges."""
        response = self._repository.open_blob(self._blob.digest, self._position)
        if response.status == 206:
            start = response.headers.get("Content-Range", "").removeprefix("bytes ").partition("-")[0]
            if start != str(self._position):
                response.close()
                raise self._wrong("was asked for from another place than it came from")
            return response
        length = response.headers.get("Content-Length", "")
        if length.isdigit() and int(length) != self._blob.size_bytes:
            response.close()
            raise self._wrong(f"has {length} bytes instead of the {self._blob.size_bytes} announced")
        skipped = 0
        while skipped < self._position:
            piece = response.read(min(CHUNK_BYTES, self._position - skipped))
            if not piece:
                raise Broken(f"the connection to {self._repository.host} broke")
            skipped += len(piece)
        return response

    def _count_failure(self) -> None:
        """Failures in a row count; some progress between them forgives, but not for ever."""
        if self._position - self._good_until >= _PROGRESS_BYTES:
            self._failures = 0
        self._good_until = self._position
        self._failures += 1
        self._reconnects += 1
        if self._reconnects > _MAX_RECONNECTS:
            raise Broken(f"the connection to {self._repository.host} broke {_MAX_RECONNECTS} times")

    def _drop(self) -> None:
        if self._response is not None:
            self._response.close()
            self._response = None

    def _wrong(self, what: str) -> InvalidInput:
        self._drop()
        return InvalidInput(f"{self._repository.host} serves a layer that {what}")
