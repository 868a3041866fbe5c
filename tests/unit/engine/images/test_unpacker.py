"""Large layers are written by processes of their own, several at once: they fail as one, and nothing of them stays."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.errors import InvalidInput, Unavailable
from engine.images import unpacker
from engine.images.archive import load
from engine.images.config import host_architecture
from engine.images.store import ImageStore
from engine.images.tar import Limits
from engine.images.unpacker import Unpacker, _error_of, _report_of
from engine.paths import Paths
from engine.state import State

LARGE_BYTES = 3 << 20


def layer_tar(name: str, size: int = LARGE_BYTES, *more: str) -> bytes:
    """A layer of one large file, and empty ones."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for each, length in ((name, size), *((other, 0) for other in more)):
            info = tarfile.TarInfo(each)
            info.size = length
            tar.addfile(info, io.BytesIO(name[:1].encode() * length))
    return buffer.getvalue()


def archive(path: Path, layers: list[bytes], *, changed: dict[int, bytes] | None = None) -> str:
    """A `docker save` tar of these layers, some of them changed after their digests were taken."""
    diff_ids = [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in layers]
    config = {"architecture": host_architecture(), "os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids}}
    names = [f"{number}.tar" for number in range(len(layers))]
    manifest = [{"Config": "config.json", "RepoTags": ["app:1"], "Layers": names}]
    files = {"config.json": json.dumps(config).encode(), "manifest.json": json.dumps(manifest).encode()}
    files |= dict(zip(names, layers, strict=True)) | {names[at]: data for at, data in (changed or {}).items()}
    with tarfile.open(path, "w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return str(path)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ImageStore]:
    paths = Paths(str(tmp_path / "root"), str(tmp_path / "run"))
    made = ImageStore(paths, State(paths.database))
    made.prepare()
    yield made
    made.close()


def unpackers() -> list[str]:
    """The command lines of this process's unpackers, ended ones that nobody has waited for among them."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, fields = status.read_text().split(" (", 1)[1].rsplit(") ", 1)
            command = status.with_name("cmdline").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        is_ours = int(fields.split()[1]) == os.getpid()
        if is_ours and ("unpacker.py" in command or (name.startswith("python") and not command)):
            found.append(command or name)
    return found


def check_nothing_stayed(store: ImageStore) -> None:
    assert unpackers() == []
    assert store.all() == []
    store.close()
    store.collect_garbage()
    assert list(store.blobs.all()) == os.listdir(store.blobs.ingest) == []
    assert [name for name in os.listdir(store.layers.directory) if name != ".lock"] == []


def test_large_layers_are_loaded_side_by_side(store: ImageStore, tmp_path: Path) -> None:
    layers = [layer_tar(name) for name in "abca"]
    [image] = load(store, archive(tmp_path / "a.tar", layers))
    found = [Path(directory, name) for directory in store.layer_dirs(image) for name in os.listdir(directory)]
    assert [path.name for path in found] == ["b", "c", "a"], "one that occurs twice is made once"
    assert all(path.read_bytes() == path.name.encode() * LARGE_BYTES for path in found)


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        (layer_tar("b", LARGE_BYTES, "../outside"), "outside of itself"),
        (layer_tar("../outside"), "outside of itself"),
        (layer_tar("b")[:LARGE_BYTES], "cut off"),
        (layer_tar("c"), "does not match its digest"),
        (layer_tar("b")[: LARGE_BYTES + 512] + b"x" * 1024, "not a tar archive, or it is corrupt"),
    ],
    ids=["leads-outside-at-the-end", "leads-outside-at-once", "cut-off", "another-digest", "corrupt"],
)
def test_a_broken_layer_among_good_ones_leaves_nothing(
    store: ImageStore, tmp_path: Path, broken: bytes, told: str
) -> None:
    layers = [layer_tar(name) for name in "abcd"]
    with pytest.raises(InvalidInput, match=f"layer {hashlib.sha256(layers[1]).hexdigest()[:12]}.*{told}"):
        load(store, archive(tmp_path / "a.tar", layers, changed={1: broken}))
    check_nothing_stayed(store)
    assert not (tmp_path / "outside").exists()


def test_an_interrupted_load_leaves_nothing(store: ImageStore, tmp_path: Path) -> None:
    path = archive(tmp_path / "a.tar", [layer_tar(name, 32 << 20) for name in "abcd"])
    main = threading.main_thread().ident
    assert main is not None

    def interrupt(text: str, done: int, _total: int) -> None:
        if text.startswith("layer") and done == 0:
            signal.pthread_kill(main, signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            load(store, path, progress=interrupt)
    finally:
        signal.signal(signal.SIGINT, before)
    check_nothing_stayed(store)


def test_a_block_that_is_left_early_ends_the_process(tmp_path: Path) -> None:
    with Unpacker(str(tmp_path), Limits()) as process:
        process.write(layer_tar("a")[:1024])
    assert unpackers() == []


def test_a_process_that_is_killed_is_told(tmp_path: Path) -> None:
    with Unpacker(str(tmp_path), Limits()) as process:
        os.kill(process._pid, signal.SIGKILL)
        with pytest.raises(Unavailable, match="ended by signal 9"):
            process.finish()


def test_nothing_is_said_where_the_command_is_gone(tmp_path: Path) -> None:
    command = [sys.executable, "-I", "-S", "-E", unpacker.__file__, tmp_path, "9", "9999"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        process.stdin.write(layer_tar("a")[:700])
        process.stdin.close()
        assert process.stderr.read() == b""
        assert process.wait() == 1


def test_a_limit_holds_in_the_process_too(tmp_path: Path) -> None:
    with Unpacker(str(tmp_path), Limits(2)) as process:
        process.write(layer_tar("a", 10, "b", "c"))
        with pytest.raises(InvalidInput, match="more than 2 entries"):
            process.finish()


def test_a_full_disk_stays_what_it_is() -> None:
    error = _error_of(_report_of(OSError(errno.ENOSPC, "no space")))
    assert isinstance(error, OSError)
    assert error.errno == errno.ENOSPC
