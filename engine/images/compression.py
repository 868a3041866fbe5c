"""Decompression of hostile streams: the format is told by its first bytes, each step yields a bounded amount.

gzip (several members too), zstd (several frames too), xz and bzip2; anything else passes through as it is.
"""

from __future__ import annotations

import functools
import threading
import zlib
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from engine.errors import InvalidInput, Unsupported

CHUNK_BYTES = 1 << 18
_PIECE_BYTES = 1 << 20
_HEAD_BYTES = 18
"""The longest header of a zstd frame: RFC 8878."""
_USUAL_WINDOW_BYTES = 1 << 23
"""What every zstd decoder should be ready to keep (RFC 8878), and what the tools that make images ask for, unless told otherwise."""
_LARGE_WINDOWS_BYTES = 1 << 26
"""For all larger windows of this process together. Twice the window of containerd's, BuildKit's and skopeo's best compression."""
_XZ_MEMORY_BYTES = 96 << 20

_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"\x1f\x8b", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"BZh", "bzip2"),
)


class Readable(Protocol):
    """Anything with `read(n)`: a file, a socket, standard input."""

    def read(self, size: int, /) -> bytes: ...


def detect(head: bytes) -> str:
    """The compression that a stream's first bytes show: "gzip", "zstd", "xz", "bzip2" or "" for none."""
    for magic, name in _MAGIC:
        if head.startswith(magic):
            return name
    return ""


class Peeked:
    """A stream whose compression is known before anything of it is used."""

    def __init__(self, source: Readable) -> None:
        self._source = source
        self._head = self.head = _read_head(source)
        self.compression = detect(self._head)

    def read(self, size: int = CHUNK_BYTES, /) -> bytes:
        if not self._head:
            return self._source.read(size)
        piece, self._head = self._head[:size], self._head[size:]
        return piece


def decompressed(source: Readable) -> Generator[bytes]:
    """Yield the content of a stream in pieces of at most 1 MiB, reading `source` to its end.

    Raise InvalidInput where it is corrupt or cut off.
    """
    stream = source if isinstance(source, Peeked) else Peeked(source)
    if not stream.compression:
        while piece := stream.read(CHUNK_BYTES):
            yield piece
    elif stream.compression == "zstd":
        yield from _zstd(stream)
    else:
        yield from _members(stream.compression, stream.read(CHUNK_BYTES), stream)


def _read_head(source: Readable) -> bytes:
    head = b""
    while len(head) < _HEAD_BYTES:
        more = source.read(CHUNK_BYTES)
        if not more:
            break
        head += more
    return head


def _members(name: str, data: bytes, source: Readable) -> Iterator[bytes]:
    """Decompress one member after another; zero bytes after the last one are padding."""
    while data:
        step, finished, errors = _decompressor(name)
        while not finished():
            try:
                piece, data, wants_input = step(data)
            except errors as error:
                raise InvalidInput(f"the {name} data is corrupt: {error}") from error
            if piece:
                yield piece
            if wants_input and not finished():
                data = source.read(CHUNK_BYTES)
                if not data:
                    raise InvalidInput(f"the {name} data is cut off")
        data = _skip_padding(data, source)
        if data and detect(data) != name:
            raise InvalidInput(f"there is something else after the end of the {name} data")


def _skip_padding(data: bytes, source: Readable) -> bytes:
    while True:
        data = data.lstrip(b"\0")
        if len(data) >= 6:
            return data
        more = source.read(CHUNK_BYTES)
        if not more:
            return data
        data += more


def _decompressor(name: str) -> tuple[Any, Any, Any]:
    """A function (input → piece, rest, wants more input), one that tells the end, and the errors it raises."""
    if name == "gzip":
        zlib, failure = _zlib()
        inflater = zlib.decompressobj(31)

        def inflate(data: bytes) -> tuple[bytes, bytes, bool]:
            piece = inflater.decompress(data, _PIECE_BYTES)
            if inflater.eof:
                return piece, inflater.unused_data, False
            rest = inflater.unconsumed_tail
            return piece, rest, not rest and len(piece) < _PIECE_BYTES

        return inflate, lambda: inflater.eof, failure

    import bz2
    import lzma

    decoder: Any = lzma.LZMADecompressor(memlimit=_XZ_MEMORY_BYTES) if name == "xz" else bz2.BZ2Decompressor()

    def decode(data: bytes) -> tuple[bytes, bytes, bool]:
        piece = decoder.decompress(data, _PIECE_BYTES)
        return piece, decoder.unused_data if decoder.eof else b"", decoder.needs_input

    return decode, lambda: decoder.eof, (lzma.LZMAError, OSError, EOFError, ValueError)


@functools.cache
def _zlib() -> tuple[Any, tuple[type[Exception], ...]]:
    """The fastest zlib there is, by the extra `umiak[fast]`, and the errors that it raises."""
    try:
        from isal import isal_zlib

        return isal_zlib, (isal_zlib.error, zlib.error)
    except ImportError:
        return zlib, (zlib.error,)


class _Memory:
    """An amount of memory that threads share: who wants more than is left waits for the others."""

    def __init__(self, size_bytes: int) -> None:
        self._free_bytes = size_bytes
        self._changed = threading.Condition()

    @contextmanager
    def taken(self, size_bytes: int) -> Iterator[None]:
        """Have so much of it for a block."""
        with self._changed:
            self._changed.wait_for(lambda: self._free_bytes >= size_bytes)
            self._free_bytes -= size_bytes
        try:
            yield
        finally:
            with self._changed:
                self._free_bytes += size_bytes
                self._changed.notify_all()


_large_windows = _Memory(_LARGE_WINDOWS_BYTES)


def _zstd(source: Peeked) -> Iterator[bytes]:
    try:
        import zstandard
    except ImportError as error:
        raise Unsupported("this data is compressed with zstd", hint="install the Python package zstandard") from error
    stream: Any = source
    try:
        window = max(zstandard.get_frame_parameters(source.head).window_size, _USUAL_WINDOW_BYTES)
        if window > _LARGE_WINDOWS_BYTES:
            raise InvalidInput(
                f"its zstd data need a window of {window >> 20} MiB, and at most {_LARGE_WINDOWS_BYTES >> 20} MiB are allowed",
                hint="compress it without --long and --ultra",
            )
        decompressor = zstandard.ZstdDecompressor(max_window_size=window)
        reader = decompressor.stream_reader(stream, read_size=CHUNK_BYTES, read_across_frames=True, closefd=False)
        with _large_windows.taken(window if window > _USUAL_WINDOW_BYTES else 0):
            while piece := reader.read(_PIECE_BYTES):
                yield piece
    except zstandard.ZstdError as error:
        raise InvalidInput(f"the zstd data is corrupt: {error}") from error
