from __future__ import annotations

import bz2
import gzip
import io
import lzma

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import InvalidInput
from engine.images.compression import decompressed

COMPRESSORS = {
    "none": lambda data: data,
    "gzip": gzip.compress,
    "zstd": zstandard.ZstdCompressor().compress,
    "xz": lzma.compress,
    "bzip2": bz2.compress,
}
TEXT = b"umiak " * 100_000


class Trickle(io.RawIOBase):
    """A stream that gives a few bytes at a time, as a pipe may."""

    def __init__(self, data: bytes, step: int) -> None:
        self._data, self._step = data, step

    def read(self, size: int = -1, /) -> bytes:
        taken, self._data = self._data[: self._step], self._data[self._step :]
        return taken


@pytest.mark.parametrize("kind", COMPRESSORS)
@pytest.mark.parametrize("step", [1 << 18, 1000])
def test_every_compression_is_told_by_its_first_bytes(kind: str, step: int) -> None:
    assert b"".join(decompressed(Trickle(COMPRESSORS[kind](TEXT), step))) == TEXT


@pytest.mark.parametrize("kind", ["gzip", "zstd", "xz", "bzip2"])
def test_members_one_after_another_are_one_stream(kind: str) -> None:
    data = COMPRESSORS[kind](b"one ") + COMPRESSORS[kind](b"two")
    assert b"".join(decompressed(io.BytesIO(data))) == b"one two"


def test_zero_bytes_after_the_last_member_are_padding() -> None:
    assert b"".join(decompressed(io.BytesIO(gzip.compress(b"one") + bytes(700)))) == b"one"


@pytest.mark.parametrize("kind", ["gzip", "xz", "bzip2"])
def test_a_stream_that_is_cut_off_is_refused(kind: str) -> None:
    with pytest.raises(InvalidInput, match="cut off"):
        list(decompressed(io.BytesIO(COMPRESSORS[kind](TEXT)[:-20])))


@pytest.mark.parametrize("kind", ["gzip", "zstd", "xz", "bzip2"])
def test_a_corrupt_stream_is_refused(kind: str) -> None:
    data = bytearray(COMPRESSORS[kind](TEXT))
    data[len(data) // 2 :] = b"\xff" * (len(data) - len(data) // 2)
    with pytest.raises(InvalidInput, match=r"corrupt|cut off"):
        list(decompressed(io.BytesIO(bytes(data))))


def test_a_bomb_comes_in_small_pieces() -> None:
    bomb = gzip.compress(bytes(64 << 20))
    assert max(map(len, decompressed(io.BytesIO(bomb)))) <= 1 << 20


@given(st.binary(max_size=200), st.sampled_from([b"", b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\xfd7zXZ\x00", b"BZh9"]))
def test_garbage_gives_bytes_or_our_own_error(data: bytes, magic: bytes) -> None:
    try:
        b"".join(decompressed(io.BytesIO(magic + data)))
    except InvalidInput:
        pass
