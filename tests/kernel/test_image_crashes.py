"""Commands on one store at once, killed at many points: nothing is lost, nothing leaks, nothing half-made looks whole."""

from __future__ import annotations

import hashlib
import io
import os
import random
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine.images.archive import load
from engine.images.leases import live_leases
from engine.images.save import save
from engine.images.store import ImageStore
from engine.paths import Paths
from engine.state import State
from tests.patience import PATIENCE

pytestmark = pytest.mark.needs("root")
FILES, FILE_BYTES = 40, 30_000
"""A layer is large enough to be unpacked by a process of its own."""

COMMAND = """
import sys
from engine.images.archive import load
from engine.images.store import ImageStore
from engine.paths import Paths
from engine.state import State
from engine.prune import images as prune
base, act, *words = sys.argv[1:]
paths = Paths(base + "/root", base + "/run")
store = ImageStore(paths, State(paths.database))
print("ready", flush=True)
if act == "load":
    load(store, words[0])
elif act == "rm":
    store.remove(words[0], force=True)
else:
    prune(store, everything=act == "prune-all")
store.close()
"""


def open_store(base: Path) -> ImageStore:
    paths = Paths(str(base / "root"), str(base / "run"))
    return ImageStore(paths, State(paths.database))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ImageStore]:
    made = open_store(tmp_path)
    made.prepare()
    yield made
    made.close()


def archive(base: Path, name: str, *layers: str) -> Path:
    """An image archive; equal layer names give equal layers."""
    source = open_store(base / "source")
    refs = [source.add_layer(io.BytesIO(layer_tar(layer))) for layer in layers]
    source.add_image({"created": "2024-01-01T00:00:00Z", "config": {"Cmd": [name]}}, refs, [f"{name}:1"])
    path = base / f"{name}.tar"
    with path.open("wb") as file:
        save(source, [f"{name}:1"], file.write)
    source.close()
    return path


def layer_tar(name: str) -> bytes:
    buffer = io.BytesIO()
    content = random.Random(name)
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for number in range(FILES):
            info = tarfile.TarInfo(f"{name}/{number}")
            data = content.randbytes(FILE_BYTES)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def start(base: Path, *words: str) -> subprocess.Popen[str]:
    """A command that has opened the store and begins its work now."""
    process = subprocess.Popen([sys.executable, "-c", COMMAND, str(base), *words], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def kill_after(process: subprocess.Popen[str], seconds: float) -> None:
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    process.wait()


def check_whole(store: ImageStore, *names: str) -> None:
    """The images have all of their blobs, verified, and all files of their layers."""
    for name in names:
        image = store.resolve(f"{name}:1")
        for ref, directory in zip(store.layer_refs(image), store.layer_dirs(image), strict=True):
            with store.blobs.open(ref.blob) as file:
                assert f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}" == ref.blob
            [top] = os.listdir(directory)
            assert len(os.listdir(os.path.join(directory, top))) == FILES
            sizes = {os.path.getsize(os.path.join(directory, top, file)) for file in os.listdir(f"{directory}/{top}")}
            assert sizes == {FILE_BYTES}


def wait_for_unpackers(store: ImageStore) -> None:
    """Those of a killed command end when they have read what it wrote to them; until then they hold its lease."""
    deadline = time.monotonic() + 20 * PATIENCE
    while live_leases(os.path.join(store.paths.images, "leases")):
        assert time.monotonic() < deadline, "a lease outlives its command"
        time.sleep(0.002)


def check_nothing_else(store: ImageStore) -> None:
    """After one collection the store holds what its images name, and nothing more."""
    store.close()  # the test's own claims
    wait_for_unpackers(store)
    store.collect_garbage()
    used = store._referenced()
    assert set(store.blobs.all()) <= used
    assert set(store.layers.all()) == {diff_id for image in store.all() for diff_id in image.layers}
    assert [name for name in os.listdir(store.layers.directory) if name.startswith((".new", ".old"))] == []
    assert os.listdir(store.blobs.ingest) == []
    leases = Path(store.paths.images, "leases")
    assert not leases.exists() or list(leases.iterdir()) == []


def points(count: int, span_s: float) -> list[float]:
    return [span_s * number / count for number in range(count)]


def duration(run: Callable[[], None]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def test_a_load_killed_anywhere_leaves_nothing_and_the_next_one_works(store: ImageStore, tmp_path: Path) -> None:
    path = archive(tmp_path, "app", "one", "two", "three")
    span = duration(lambda: start(tmp_path, "load", str(path)).wait() and None)
    store.remove("app:1")
    for delay in points(14, span):
        kill_after(start(tmp_path, "load", str(path)), delay)
        if store.all():  # it was done before it was killed
            check_whole(store, "app")
            store.remove("app:1")
        check_nothing_else(store)
    load(store, str(path))
    check_whole(store, "app")


def test_a_killed_load_takes_nothing_from_one_beside_it_that_shares_layers(store: ImageStore, tmp_path: Path) -> None:
    one, two = archive(tmp_path, "one", "shared", "a"), archive(tmp_path, "two", "shared", "b")
    for delay in points(8, 0.4):
        first, second = start(tmp_path, "load", str(one)), start(tmp_path, "load", str(two))
        kill_after(first, delay)
        assert second.wait() == 0
        check_whole(store, "two")
        store.remove("two:1")
        if store.all():
            check_whole(store, "one")
            store.remove("one:1")
        check_nothing_else(store)


def test_prunes_beside_loads_lose_nothing(store: ImageStore, tmp_path: Path) -> None:
    one, two = archive(tmp_path, "one", "shared", "a"), archive(tmp_path, "two", "shared", "b")
    for _ in range(8):
        running = [start(tmp_path, "load", str(one)), *(start(tmp_path, "prune") for _ in range(2))]
        running.append(start(tmp_path, "load", str(two)))
        assert [process.wait() for process in running] == [0, 0, 0, 0]
        check_whole(store, "one", "two")
        store.remove("one:1")
        check_whole(store, "two")
        store.remove("two:1")
        check_nothing_else(store)


@pytest.mark.parametrize("act", ["rm", "prune-all"])
def test_a_removal_killed_anywhere_leaves_the_other_image_whole(store: ImageStore, tmp_path: Path, act: str) -> None:
    one, two = archive(tmp_path, "one", "shared", "a"), archive(tmp_path, "two", "shared", "b")
    load(store, str(two))
    store.state.execute(
        "INSERT INTO containers (id, name, created_at, image_id, desired, spec, argv, volumes, rootfs)"
        " VALUES ('c', 'c', 0, ?, 'created', '{}', '[]', '{}', '')",
        (store.resolve("two:1").id,),
    )
    for delay in points(8, 0.06):
        load(store, str(one))
        kill_after(start(tmp_path, act, *(["one:1"] if act == "rm" else [])), delay)
        check_whole(store, "two")
        if len(store.all()) == 2:
            check_whole(store, "one")
        check_nothing_else(store)
