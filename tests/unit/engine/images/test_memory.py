"""However large a layer is, unpacking it takes little memory: measured in a process of its own."""

from __future__ import annotations

import gzip
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zstandard

from engine.images.tar import Entry, header

MOST_KIB = 150_000
WINDOW_KIB = 128 << 10
"""What a zstd stream may ask its reader to keep; only a layer made with `zstd --ultra` or `--long` asks for so much."""
MEASURED = """
import sys
from engine.images.layers import unpack
with open(sys.argv[1], "rb") as file:
    found = unpack(file, sys.argv[2], None, "the layer")
peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM:"))
print(found.size_bytes, peak)
"""


def one_large_file() -> Iterator[bytes]:
    """192 MiB, so that whoever holds the layer is found out."""
    yield header(Entry(b"large", b"0", 192 << 20))
    for _ in range(192):
        yield bytes(1 << 20)
    yield bytes(1024)


def many_entries() -> Iterator[bytes]:
    """100,000 entries in 100 directories: hard links, which are quickly made, to two files, since a file may have 65,000."""
    for number in range(100_000):
        if number % 50_000 == 0:
            yield header(Entry(b"file%d" % number, b"0"))
        entry = Entry(b"%02d/%s/%05d" % (number % 100, b"name" * 5, number), b"1")
        entry.link = b"file%d" % (number - number % 50_000)
        yield header(entry)
    yield bytes(1024)


def in_gzip(path: Path, pieces: Iterator[bytes]) -> None:
    with gzip.open(path, "wb", compresslevel=1) as file:
        for piece in pieces:
            file.write(piece)


def in_zstd(path: Path, pieces: Iterator[bytes], window_log: int = 23) -> None:
    parameters = zstandard.ZstdCompressionParameters.from_level(1, window_log=window_log)
    with path.open("wb") as raw, zstandard.ZstdCompressor(compression_params=parameters).stream_writer(raw) as file:
        for piece in pieces:
            file.write(piece)


def in_zstd_with_the_largest_window(path: Path, pieces: Iterator[bytes]) -> None:
    in_zstd(path, pieces, window_log=27)


def as_it_is(path: Path, pieces: Iterator[bytes]) -> None:
    with path.open("wb") as file:
        file.writelines(pieces)


@pytest.mark.parametrize("write", [in_gzip, in_zstd, as_it_is])
def test_a_large_layer_takes_little_memory(write: Callable[[Path, Iterator[bytes]], None], tmp_path: Path) -> None:
    assert peak_kib(tmp_path, write, one_large_file()) < MOST_KIB


def test_a_large_layer_in_zstd_takes_its_window_and_little_more(tmp_path: Path) -> None:
    assert peak_kib(tmp_path, in_zstd_with_the_largest_window, one_large_file()) < MOST_KIB + WINDOW_KIB


def test_a_layer_of_a_hundred_thousand_entries_takes_little_memory(tmp_path: Path) -> None:
    assert peak_kib(tmp_path, in_gzip, many_entries()) < MOST_KIB


def peak_kib(tmp_path: Path, write: Callable[[Path, Iterator[bytes]], None], pieces: Iterator[bytes]) -> int:
    """The most memory that a process needs to unpack the layer. What getrusage(2) says would include the parent's share."""
    layer, target = tmp_path / "layer", tmp_path / "fs"
    target.mkdir()
    write(layer, pieces)
    done = subprocess.run([sys.executable, "-c", MEASURED, layer, target], capture_output=True, text=True, check=True)
    (target / "large").unlink(missing_ok=True)
    return int(done.stdout.split()[1])
