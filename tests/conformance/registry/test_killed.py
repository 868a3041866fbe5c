"""Pulls that are killed in the middle, and several at once: nothing lost, nothing fetched twice, nothing that looks whole."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.images.build.prune import prune as prune_build_cache
from engine.images.registry.credentials import CredentialStore
from engine.images.registry.pull import pull
from engine.prune import images as prune_images
from tests.conformance.registry.conftest import QUICK, Client
from tests.conformance.registry.fake import FakeRegistry, Handler, layer_tar, packed, sha256

LAYERS = [layer_tar(f"file-{number}", os.urandom(2_000_000)) for number in range(3)]
BLOBS = [sha256(packed(layer)) for layer in LAYERS]


def _pull(root: str, run: str, reference: str) -> None:
    from engine.images.store import ImageStore
    from engine.paths import Paths
    from engine.state import State

    paths = Paths(root, run)
    store = ImageStore(paths, State(paths.database))
    pull(store, reference, settings=QUICK, credentials=CredentialStore("/nonexistent"))
    store.close()


def start_pull(client: Client, reference: str) -> multiprocessing.process.BaseProcess:
    paths = client.store.paths
    process = multiprocessing.get_context("spawn").Process(target=_pull, args=(paths.root, paths.run, reference))
    process.start()
    return process


def slow(registry: FakeRegistry, piece: int = 100_000, pause_s: float = 0.05) -> Callable[[Handler], bool]:
    """Serve layers slowly, in pieces."""

    def hook(handler: Handler) -> bool:
        digest = handler.path.rpartition("/")[2]
        if digest not in BLOBS:
            return False
        data = registry.blobs[digest]
        start = int(handler.headers.get("Range", "bytes=0-")[6:].partition("-")[0])
        handler.send_response(206 if start else 200)
        handler.send_header("Content-Length", str(len(data) - start))
        handler.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        handler.end_headers()
        for at in range(start, len(data), piece):
            handler.wfile.write(data[at : at + piece])
            time.sleep(pause_s)
        return True

    return hook


def wait_for(condition: Callable[[], bool]) -> None:
    for _ in range(600):
        if condition():
            return
        time.sleep(0.02)
    raise AssertionError("it did not come about")


def downloaded(client: Client) -> int:
    directory = Path(client.store.blobs.downloads)
    return sum(path.stat().st_size for path in directory.iterdir()) if directory.is_dir() else 0


def test_a_killed_pull_leaves_no_image_and_the_next_one_goes_on(client: Client, registry: FakeRegistry) -> None:
    registry.add_image(*LAYERS)
    registry.hooks.append(slow(registry))
    process = start_pull(client, f"{registry.host}/app:1")
    wait_for(lambda: downloaded(client) > 1_000_000)
    os.kill(process.pid or 0, signal.SIGKILL)
    process.join()
    had = downloaded(client)
    assert client.store.all() == []
    registry.hooks.clear()
    registry.requests.clear()
    image = client.pull(f"{registry.host}/app:1")
    starts = [headers.get("Range", "bytes=0-")[6:-1] for blob in BLOBS for headers in registry.asked("GET", blob)]
    assert sum(map(int, starts)) == had > 0
    assert [os.listdir(directory) for directory in client.store.layer_dirs(image)] == [
        ["file-0"],
        ["file-1"],
        ["file-2"],
    ]
    assert client.unfinished() == []


def test_garbage_collection_clears_what_a_killed_pull_left(client: Client, registry: FakeRegistry) -> None:
    registry.add_image(*LAYERS)
    registry.hooks.append(slow(registry))
    process = start_pull(client, f"{registry.host}/app:1")
    wait_for(lambda: downloaded(client) > 1_000_000)
    os.kill(process.pid or 0, signal.SIGKILL)
    process.join()
    assert client.store.collect_garbage() > 1_000_000
    assert client.leftovers() == client.unfinished() == []


def test_two_pulls_at_once_fetch_each_layer_once(client: Client, registry: FakeRegistry) -> None:
    registry.add_image(*LAYERS)
    registry.hooks.append(slow(registry, pause_s=0.02))
    processes = [start_pull(client, f"{registry.host}/app:1") for _ in range(2)]
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    assert [len(registry.asked("GET", blob)) for blob in BLOBS] == [1, 1, 1]
    image = client.store.resolve(f"{registry.host}/app:1")
    assert len(client.store.layer_dirs(image)) == 3
    assert client.unfinished() == []


def test_one_of_two_pulls_is_killed_and_the_other_completes(client: Client, registry: FakeRegistry) -> None:
    registry.add_image(*LAYERS)
    registry.hooks.append(slow(registry, pause_s=0.03))
    first = start_pull(client, f"{registry.host}/app:1")
    wait_for(lambda: downloaded(client) > 500_000)
    second = start_pull(client, f"{registry.host}/app:1")
    time.sleep(0.3)
    os.kill(first.pid or 0, signal.SIGKILL)
    first.join()
    second.join(60)
    assert second.exitcode == 0
    image = client.store.resolve(f"{registry.host}/app:1")
    assert len(client.store.layer_dirs(image)) == 3
    assert client.unfinished() == []


def test_garbage_collection_beside_a_pull_takes_nothing_from_it(client: Client, registry: FakeRegistry) -> None:
    registry.add_image(*LAYERS)
    registry.hooks.append(slow(registry, pause_s=0.02))
    process = start_pull(client, f"{registry.host}/app:1")
    stopped = threading.Event()

    def collect() -> None:
        while not stopped.wait(0.01):
            client.store.collect_garbage()

    thread = threading.Thread(target=collect)
    thread.start()
    process.join(60)
    stopped.set()
    thread.join()
    assert process.exitcode == 0
    image = client.store.resolve(f"{registry.host}/app:1")
    assert len(client.store.layer_dirs(image)) == 3
    assert all(client.store.blobs.has(blob) for blob in BLOBS)


@pytest.mark.parametrize("bytes_before", [1, 2_500_000])
def test_a_pull_killed_beside_another_and_beside_prunes_loses_and_leaks_nothing(
    client: Client, registry: FakeRegistry, bytes_before: int
) -> None:
    registry.add_image(*LAYERS[:2], tag="one")
    registry.add_image(*LAYERS[::2], tag="two")
    registry.hooks.append(slow(registry, pause_s=0.02))
    killed, other = (start_pull(client, f"{registry.host}/app:{tag}") for tag in ("one", "two"))
    stopped = threading.Event()

    def clear_up() -> None:
        while not stopped.wait(0.02):
            prune_images(client.store)
            prune_build_cache(client.store)

    thread = threading.Thread(target=clear_up)
    thread.start()
    try:
        wait_for(lambda: downloaded(client) >= bytes_before)
        os.kill(killed.pid or 0, signal.SIGKILL)
        killed.join()
        other.join(60)
        assert other.exitcode == 0
    finally:
        stopped.set()
        thread.join()
    image = client.store.resolve(f"{registry.host}/app:two")
    assert [os.listdir(directory) for directory in client.store.layer_dirs(image)] == [["file-0"], ["file-2"]]
    assert [client.store.blobs.has(blob) for blob in BLOBS[::2]] == [True, True]
    again = start_pull(client, f"{registry.host}/app:one")
    again.join(60)
    assert again.exitcode == 0
    for tag in ("one", "two"):
        client.store.remove(f"{registry.host}/app:{tag}")
    client.store.collect_garbage()
    assert client.leftovers() == client.unfinished() == []
