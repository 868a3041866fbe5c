"""The build cache: from the key of a step to the layers that building up to it gave.

A key is a hash of what a step depends on, chained from the base image's layers on. What it leads to is kept as an image
without a name, so that the store's garbage collection needs to know nothing of builds.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engine.errors import NotFound, UmiakError

if TYPE_CHECKING:
    from engine.images.store import ImageStore, LayerRef

CACHE_LABEL = "io.umiak.build-cache"
_TOUCH_AFTER_S = 3600.0
_KEY_VERSION = 1
_QUERY_KEYS = 500


@dataclass(frozen=True, slots=True)
class Made:
    """One step that was carried out: when, as the image's history tells it, and whether it gave a layer."""

    created: str
    created_by: str
    has_layer: bool


@dataclass(frozen=True, slots=True)
class Built:
    """All layers up to a step, those of the base image included, and the steps carried out since that image."""

    layers: tuple[LayerRef, ...]
    made: tuple[Made, ...]


def key_of(*parts: Any) -> str:
    """The key of a step: a hash of JSON values, normally of its parent's key and of what the step is."""
    text = json.dumps([_KEY_VERSION, *parts], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


class BuildCache:
    """The table `build_cache` of one store. With `read` false it is only added to."""

    def __init__(self, store: ImageStore, *, read: bool = True) -> None:
        self.store = store
        self.read = read
        self._fresh: dict[str, str] = {}

    def known(self, keys: Iterable[str]) -> dict[str, str]:
        """Which of these keys lead to an image: key → image ID."""
        wanted = list(keys)
        found = {key: self._fresh[key] for key in wanted if key in self._fresh}
        if self.read:
            for start in range(0, len(wanted), _QUERY_KEYS):
                found.update(self._stored(wanted[start : start + _QUERY_KEYS]))
        return found

    def _stored(self, keys: Sequence[str]) -> dict[str, str]:
        marks = ",".join("?" * len(keys))
        rows = self.store.state.rows(f"SELECT key, image_id, used_at FROM build_cache WHERE key IN ({marks})", keys)
        now = time.time()
        stale = [row["key"] for row in rows if row["used_at"] < now - _TOUCH_AFTER_S]
        if stale:
            with self.store.state.transaction() as state:
                for key in stale:
                    state.execute("UPDATE build_cache SET used_at = ? WHERE key = ?", (now, key))
        return {row["key"]: row["image_id"] for row in rows}

    def load(self, image_id: str) -> Built | None:
        """What a cached image holds; None if it is gone meanwhile."""
        try:
            layers = self.store.layer_refs(image_id)
            history = self.store.config_json(image_id).get("history", [])
            made = tuple(Made(item["created"], item["created_by"], not item.get("empty_layer")) for item in history)
        except (NotFound, KeyError, TypeError):
            return None
        return Built(tuple(layers), made)

    def add(self, key: str, built: Built) -> None:
        """Remember what a step gave."""
        config = {
            "created": built.made[-1].created,
            "config": {"Labels": {CACHE_LABEL: "true"}},
            "history": [
                {"created": item.created, "created_by": item.created_by, "empty_layer": not item.has_layer}
                for item in built.made
            ],
        }
        image = self.store.add_image(config, built.layers)
        try:
            self.store.state.execute(
                "INSERT OR REPLACE INTO build_cache (key, image_id, used_at) VALUES (?, ?, ?)",
                (key, image.id, time.time()),
            )
        except sqlite3.IntegrityError as error:
            raise UmiakError("the build's own cache was removed while it ran", hint="build again") from error
        self._fresh[key] = image.id
