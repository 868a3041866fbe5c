"""However large a layer is, unpacking it takes little memory: measured in processes of their own."""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zstandard

from engine.errors import InvalidInput
from engine.images import unpacker
from engine.images.config import host_architecture
from engine.images.layers import unpack
from engine.images.tar import Entry, header

MOST_KIB = 150_000
UNPACKER_KIB = 8_000
"""Of these, for each process that writes a layer's files: what it shares with the command, Python itself, counts once."""
MEASURE = """
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM:")))
"""
UNPACK = """
import sys
from engine.images import unpacker
from engine.images.layers import unpack
with open(sys.argv[1], "rb") as file:
    unpack(file, sys.argv[2], None, "the layer")
"""
LOAD = """
import sys
from engine.images.archive import load
from engine.images.store import ImageStore
from engine.paths import Paths
from engine.state import State
paths = Paths(sys.argv[2], sys.argv[2])
load(ImageStore(paths, State(paths.database)), sys.argv[1])
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
    in_zstd(path, pieces, window_log=26)


def as_it_is(path: Path, pieces: Iterator[bytes]) -> None:
    with path.open("wb") as file:
        file.writelines(pieces)


@pytest.mark.parametrize("write", [in_gzip, in_zstd, in_zstd_with_the_largest_window, as_it_is])
def test_a_large_layer_takes_little_memory(write: Callable[[Path, Iterator[bytes]], None], tmp_path: Path) -> None:
    assert peak_kib_of_unpacking(tmp_path, write, one_large_file()) < MOST_KIB


def test_a_zstd_window_larger_than_any_tool_makes_by_itself_is_refused(tmp_path: Path) -> None:
    in_zstd(tmp_path / "layer", one_large_file(), window_log=27)
    with (tmp_path / "layer").open("rb") as file, pytest.raises(InvalidInput, match=r"window of 128 MiB.* 64 MiB"):
        unpack(file, None, None, "the layer")


def test_what_a_failed_layer_kept_is_free_at_once(tmp_path: Path) -> None:
    in_zstd_with_the_largest_window(tmp_path / "layer", iter([b"no tar" * 1_000_000]))
    failures = []
    for _ in range(2):  # the second would wait for ever
        with (tmp_path / "layer").open("rb") as file, pytest.raises(InvalidInput, match="not a tar") as failure:
            unpack(file, str(tmp_path), None, "the layer")
        failures.append(failure)


def test_an_image_of_layers_with_large_windows_takes_little_memory(tmp_path: Path) -> None:
    """They are unpacked in parallel, but their windows are not all kept at once."""
    data, layers = "".join(chr(97 + number) for number in range(4)), {}
    for name in data:
        pieces = [header(Entry(name.encode(), b"0", 72 << 20)), *[name.encode() * (1 << 20)] * 72, bytes(1024)]
        diff_id = hashlib.sha256(b"".join(pieces)).hexdigest()
        in_zstd_with_the_largest_window(tmp_path / name, iter(pieces))
        layers[f"sha256:{diff_id}"] = tmp_path / name
    archive = tmp_path / "archive.tar"
    write_archive(archive, layers)
    assert peak_kib(LOAD, archive, tmp_path / "store", processes=4) < MOST_KIB


def write_archive(path: Path, layers: dict[str, Path]) -> None:
    """A `docker save` tar of layers by their diff ID."""
    config = {"architecture": host_architecture(), "os": "linux", "rootfs": {"diff_ids": list(layers)}}
    manifest = [{"Config": "config.json", "Layers": [layer.name for layer in layers.values()]}]
    with tarfile.open(path, "w") as tar:
        for name, document in (("config.json", config), ("manifest.json", manifest)):
            (path.parent / name).write_text(json.dumps(document))
            tar.add(path.parent / name, name)
        for layer in layers.values():
            tar.add(layer, layer.name)


def peak_kib_of_unpacking(
    tmp_path: Path, write: Callable[[Path, Iterator[bytes]], None], pieces: Iterator[bytes]
) -> int:
    layer, target = tmp_path / "layer", tmp_path / "fs"
    target.mkdir()
    write(layer, pieces)
    return peak_kib(UNPACK, layer, target)


def peak_kib(code: str, source: Path, target: Path, *, processes: int = 1) -> int:
    """The most memory that a command takes, with so many unpackers. What getrusage(2) says would include the parent's share."""
    command = [sys.executable, "-c", code + MEASURE, source, target]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    shutil.rmtree(target)
    return int(done.stdout) + processes * UNPACKER_KIB


@pytest.mark.parametrize("pieces", [one_large_file, many_entries])
def test_the_process_that_writes_files_takes_little_memory(
    pieces: Callable[[], Iterator[bytes]], tmp_path: Path
) -> None:
    command = [sys.executable, "-I", "-S", "-E", unpacker.__file__, tmp_path, "1000000", f"{1 << 30}"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.writelines(pieces())
        process.stdin.flush()
        smaps = Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()
        process.stdin.close()
        assert process.wait() == 0
    assert sum(int(line.split()[1]) for line in smaps if line.startswith("Private")) < UNPACKER_KIB
