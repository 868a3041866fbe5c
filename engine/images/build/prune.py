"""Make room: forget results of build steps, cache mounts and downloads, the longest unused first."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from engine.frozen import frozen
from engine.images.build.cachedirs import CacheDirectories
from engine.images.build.workspace import CACHE_NAME

if TYPE_CHECKING:
    from engine.images.store import ImageStore


@frozen
class _Item:
    """Something that can go. `remove` tells whether it did."""

    used_at: float
    size_bytes: int
    remove: Callable[[], bool]


def prune(store: ImageStore, *, keep_bytes: int | None, older_than_s: float | None) -> tuple[int, int]:
    """See `cache.prune`."""
    items = sorted([*_results(store), *_cache_mounts(store), *_downloads(store)], key=lambda item: -item.used_at)
    before = time.time() - (older_than_s or 0.0)
    kept = removed = freed = 0
    for item in items:
        if item.used_at > before or (keep_bytes is not None and kept + item.size_bytes <= keep_bytes):
            kept += item.size_bytes
        elif item.remove():
            removed += 1
            freed += item.size_bytes
    store.collect_garbage()
    return removed, freed


def _results(store: ImageStore) -> list[_Item]:
    """Images of the cache. Each counts for the layers that nothing used later, and no image of the user's, has."""
    rows = store.state.rows(
        "SELECT image_id, MAX(used_at) AS used_at FROM build_cache GROUP BY image_id ORDER BY used_at DESC"
    )
    layers = store.state.rows(
        "SELECT image_id, diff_id FROM image_layers WHERE image_id NOT IN (SELECT image_id FROM build_cache)"
        " OR image_id IN (SELECT image_id FROM tags)"
    )
    counted = {row["diff_id"] for row in layers}
    items = []
    for row in rows:
        own = store.state.rows("SELECT diff_id FROM image_layers WHERE image_id = ?", (row["image_id"],))
        fresh = {layer["diff_id"] for layer in own} - counted
        counted |= fresh
        size_bytes = sum(store.layers.size_bytes(diff_id) or 0 for diff_id in fresh)
        items.append(_Item(row["used_at"], size_bytes, _forget(store, row["image_id"])))
    return items


def _forget(store: ImageStore, image_id: str) -> Callable[[], bool]:
    def remove() -> bool:
        with store.state.transaction() as state:
            state.execute("DELETE FROM build_cache WHERE image_id = ?", (image_id,))
            state.execute(
                "DELETE FROM images WHERE id = ? AND id NOT IN (SELECT image_id FROM tags)"
                " AND id NOT IN (SELECT image_id FROM containers)",
                (image_id,),
            )
        return True

    return remove


def _cache_mounts(store: ImageStore) -> list[_Item]:
    caches = CacheDirectories(os.path.join(store.paths.root, "build", CACHE_NAME))
    return [
        _Item(used_at, size_bytes, lambda name=name: caches.remove(name))  # type: ignore[misc]
        for name, used_at, size_bytes in caches.sizes()
    ]


def _downloads(store: ImageStore) -> list[_Item]:
    directory = store.paths.downloads
    items = []
    for name in os.listdir(directory) if os.path.isdir(directory) else ():
        path = os.path.join(directory, name)
        found = os.stat(path)
        items.append(_Item(max(found.st_atime, found.st_mtime), found.st_blocks * 512, _unlink(path)))
    return items


def _unlink(path: str) -> Callable[[], bool]:
    def remove() -> bool:
        try:
            os.unlink(path)
        except FileNotFoundError:
            return False
        return True

    return remove
