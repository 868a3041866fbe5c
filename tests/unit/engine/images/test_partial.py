from __future__ import annotations

import gzip
import hashlib
import io
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.errors import InvalidInput, TimedOut, Unavailable
from engine.images.compression import Readable
from engine.images.partial import clear_partial, partial_blob
from engine.images.store import ImageStore
from tests.unit.engine.images.test_store import layer_tar, open_store

PLAIN = layer_tar(data=os.urandom(3_000_000))
PACKED = gzip.compress(PLAIN)
DIFF_ID = f"sha256:{hashlib.sha256(PLAIN).hexdigest()}"
BLOB = f"sha256:{hashlib.sha256(PACKED).hexdigest()}"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ImageStore]:
    made = open_store(tmp_path)
    yield made
    made.close()


class Source:
    """Serves a blob, noting from where it was asked; breaks after `breaks_at` bytes of it."""

    def __init__(self, data: bytes = PACKED, breaks_at: int | None = None) -> None:
        self.data = data
        self.breaks_at = breaks_at
        self.offsets: list[int] = []

    def __call__(self, offset: int) -> Readable:
        self.offsets.append(offset)
        return Breaking(self.data[offset:], None if self.breaks_at is None else self.breaks_at - offset)


class Breaking(io.BytesIO):
    def __init__(self, data: bytes, left: int | None) -> None:
        super().__init__(data if left is None else data[:left])
        self.breaks = left is not None

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        if not data and self.breaks:
            raise Unavailable("the connection broke")
        return data


def no_wait() -> None:
    raise AssertionError("nobody else works on it")


def files(store: ImageStore) -> list[str]:
    found = []
    for directory in (store.blobs.downloads, store.blobs.ingest, store.layers.directory):
        if os.path.isdir(directory):
            found += [name for name in os.listdir(directory) if name != ".lock"]
    return found


def test_a_download_becomes_a_layer(store: ImageStore) -> None:
    layer = store.download_layer(BLOB, DIFF_ID, Source(), no_wait)
    assert (layer.diff_id, layer.blob, layer.size_bytes) == (DIFF_ID, BLOB, len(PLAIN))
    assert Path(store.layers.path(DIFF_ID), "file").stat().st_size == 3_000_000
    assert os.listdir(store.blobs.downloads) == []


def test_a_broken_download_goes_on_where_it_ended(store: ImageStore) -> None:
    with pytest.raises(Unavailable):
        store.download_layer(BLOB, DIFF_ID, Source(breaks_at=2_000_000), no_wait)
    assert not store.layers.has(DIFF_ID)
    assert not store.blobs.has(BLOB)
    rest = Source()
    layer = store.download_layer(BLOB, DIFF_ID, rest, no_wait)
    assert rest.offsets == [2_000_000]
    assert Path(store.blobs.path(layer.blob)).read_bytes() == PACKED


def test_a_download_is_given_up_while_its_beginning_is_read_again(store: ImageStore) -> None:
    with pytest.raises(Unavailable):
        store.download_layer(BLOB, DIFF_ID, Source(breaks_at=2_000_000), no_wait)
    rest = Source()

    def give_up() -> None:
        raise TimedOut("no longer wanted")

    with pytest.raises(TimedOut):
        store.download_layer(BLOB, DIFF_ID, rest, no_wait, give_up)
    assert rest.offsets == []
    assert os.listdir(store.blobs.downloads) == [BLOB.removeprefix("sha256:")]


def test_garbage_collection_takes_unfinished_downloads_or_keeps_recent_ones(store: ImageStore) -> None:
    with pytest.raises(Unavailable):
        store.download_layer(BLOB, DIFF_ID, Source(breaks_at=2_000_000), no_wait)
    store.collect_garbage(keep_downloads=True)
    assert len(os.listdir(store.blobs.downloads)) == 1
    assert store.collect_garbage() == 2_000_000
    assert files(store) == []


def test_a_damaged_beginning_is_fetched_again(store: ImageStore) -> None:
    with pytest.raises(Unavailable):
        store.download_layer(BLOB, DIFF_ID, Source(breaks_at=2_000_000), no_wait)
    path = Path(store.blobs.downloads, BLOB[7:])
    path.write_bytes(b"\0" * 1000 + path.read_bytes()[1000:])
    source = Source()
    store.download_layer(BLOB, DIFF_ID, source, no_wait)
    assert source.offsets[-1] == 0
    assert store.layers.has(DIFF_ID)


def test_wrong_content_leaves_nothing(store: ImageStore) -> None:
    with pytest.raises(InvalidInput, match="digest"):
        store.download_layer(BLOB, DIFF_ID, Source(gzip.compress(layer_tar("other"))), no_wait)
    with pytest.raises(InvalidInput, match="digest"):
        store.download_layer(BLOB, f"sha256:{'0' * 64}", Source(), no_wait)
    assert files(store) == []
    assert list(store.blobs.all()) == []


def test_two_at_once_fetch_once(store: ImageStore, tmp_path: Path) -> None:
    other = open_store(tmp_path)
    source, waited, began = Source(), threading.Event(), threading.Event()

    def held(offset: int) -> Readable:
        began.set()
        waited.wait(10)
        return source(offset)

    thread = threading.Thread(target=store.download_layer, args=(BLOB, DIFF_ID, held, no_wait))
    thread.start()
    began.wait(10)
    nothing = Source(b"")
    layer = other.download_layer(BLOB, DIFF_ID, nothing, waited.set)
    thread.join()
    assert (layer.diff_id, nothing.offsets, source.offsets) == (DIFF_ID, [], [0])
    other.close()


def test_a_blob_is_not_taken_for_the_layer_of_another(store: ImageStore) -> None:
    store.download_layer(BLOB, DIFF_ID, Source(), no_wait)
    plain = layer_tar("other")
    diff_id = f"sha256:{hashlib.sha256(plain).hexdigest()}"
    store.download_layer(diff_id, diff_id, Source(plain), no_wait)
    with pytest.raises(InvalidInput):
        store.download_layer(BLOB, diff_id, Source(), no_wait)


def test_what_somebody_works_on_is_not_cleared(store: ImageStore) -> None:
    store.prepare()
    with partial_blob(store.blobs, BLOB, no_wait) as blob:
        blob.write(b"begun")
        assert clear_partial(store.blobs) == 0
    assert clear_partial(store.blobs) == 5
