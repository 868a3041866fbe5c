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

_UNFINISHED_S = 86400.0
"""After this long nobody is at work any more on a download that has not got its name, or on a copy."""


@frozen
class Kept:
    """Something that builds keep. `remove` tells whether it went; `is_shared` whether images have all of its layers."""

    name: str
    type: str
    size_bytes: int
    used_at: float
    remove: Callable[[], bool]
    is_shared: bool = False


def prune(
    store: ImageStore, *, everything: bool = True, keep_bytes: int | None = None, before: float | None = None
) -> tuple[int, int]:
    """Remove what builds keep: results of steps, cache mounts, downloads. Return how many there were, and the bytes freed.

    Without `everything` results whose layers images have stay. `before` (seconds since the epoch) spares what was used
    since then, `keep_bytes` the latest used up to that much. What a running build holds stays.
    """
    items = sorted([*_results(store), *outside_of_images(store)], key=lambda item: -item.used_at)
    kept = removed = freed = 0
    for item in items:
        is_spared = (before is not None and item.used_at > before) or (item.is_shared and not everything)
        if is_spared or (keep_bytes is not None and kept + item.size_bytes <= keep_bytes):
            kept += item.size_bytes
        elif item.remove():
            removed += 1
            freed += 0 if item.type == "regular" else item.size_bytes
    # What results held, blobs and layers, is counted as it goes.
    return removed, freed + store.collect_garbage()


def outside_of_images(store: ImageStore) -> list[Kept]:
    """Cache mounts and downloads. The types are BuildKit's."""
    return [*_cache_mounts(store), *_downloads(store)]


def _results(store: ImageStore) -> list[Kept]:
    """Images of the cache. Each counts for the layers that nothing used later, and no image of the user's, has."""
    rows = store.state.rows(
        "SELECT image_id, MAX(used_at) AS used_at FROM build_cache GROUP BY image_id ORDER BY used_at DESC"
    )
    layers = store.state.rows(
        "SELECT image_id, diff_id FROM image_layers WHERE image_id NOT IN (SELECT image_id FROM build_cache)"
        " OR image_id IN (SELECT image_id FROM tags)"
    )
    visible = {row["diff_id"] for row in layers}
    counted = set(visible)
    items = []
    for row in rows:
        image_id = row["image_id"]
        own = {
            layer["diff_id"]
            for layer in store.state.rows("SELECT diff_id FROM image_layers WHERE image_id = ?", (image_id,))
        }
        size_bytes = sum(store.layers.size_bytes(diff_id) or 0 for diff_id in own - counted)
        counted |= own
        forget = _forget(store, image_id)
        items.append(Kept(image_id, "regular", size_bytes, row["used_at"], forget, is_shared=own <= visible))
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


def _cache_mounts(store: ImageStore) -> list[Kept]:
    caches = CacheDirectories(os.path.join(store.paths.root, "build", CACHE_NAME))
    return [
        Kept(name, "exec.cachemount", size_bytes, used_at, lambda name=name: caches.remove(name))  # type: ignore[misc]
        for name, used_at, size_bytes in caches.sizes()
    ]


def _downloads(store: ImageStore) -> list[Kept]:
    directory = store.paths.downloads
    items = []
    for name in os.listdir(directory) if os.path.isdir(directory) else ():
        path = os.path.join(directory, name)
        try:
            found = os.stat(path)
        except FileNotFoundError:
            continue
        if name.startswith(".") and time.time() - found.st_mtime < _UNFINISHED_S:
            continue
        used_at = max(found.st_atime, found.st_mtime)
        items.append(Kept(name, "source.http", found.st_blocks * 512, used_at, _unlink(path)))
    return items


def _unlink(path: str) -> Callable[[], bool]:
    def remove() -> bool:
        try:
            os.unlink(path)
        except FileNotFoundError:
            return False
        return True

    return remove
