"""The build cache: from the key of a step to the layers that building up to it gave.

A key is a hash of what a step depends on, chained from the base image's layers on. What it leads to is kept as an image
without a name, so that the store's garbage collection needs to know nothing of builds.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engine.errors import Conflict, NotFound
from engine.images.blobs import to_json
from engine.images.config import diff_ids
from engine.images.reference import Reference
from engine.types import Image

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
    """The layers (diff IDs, lowest first, those of the base image included) after a step, and the steps since that image."""

    layers: tuple[str, ...]
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
        self._refs: dict[str, LayerRef] = {}

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

    def fresh(self, key: str) -> str | None:
        """The image that this build itself has made for a key."""
        return self._fresh.get(key)

    def load(self, image_id: str) -> Built | None:
        """What a cached image holds; None if it is gone meanwhile."""
        try:
            document = self.store.config_json(image_id)
        except NotFound:
            return None
        history = document.get("history", [])
        made = tuple(Made(item["created"], item["created_by"], not item.get("empty_layer")) for item in history)
        return Built(diff_ids(document), made)

    def adopt(self, upper: str) -> str:
        """Make a layer of what a step wrote; return its diff ID."""
        ref = self.store.add_layer_from_upper(upper)
        self._refs[ref.diff_id] = ref
        return ref.diff_id

    def refs(self, layers: Iterable[str]) -> list[LayerRef]:
        """The layers as `ImageStore.add_image` wants them."""
        return [self._ref(diff_id) for diff_id in layers]

    def _ref(self, diff_id: str) -> LayerRef:
        ref = self._refs.get(diff_id)
        if ref is None:
            self.store.layer_dir(diff_id)
            ref = self.store.find_layer(diff_id)
        if ref is None:
            raise NotFound(f"layer {diff_id} was removed while the build was running", hint="build again")
        return self._refs.setdefault(diff_id, ref)

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
        image = self.store.add_image(config, self.refs(built.layers))
        try:
            self.store.state.execute(
                "INSERT OR REPLACE INTO build_cache (key, image_id, used_at) VALUES (?, ?, ?)",
                (key, image.id, time.time()),
            )
        except sqlite3.IntegrityError as error:
            raise Conflict("the build's cache was removed while it was running", hint="build again") from error
        self._fresh[key] = image.id

    def image(self, document: Mapping[str, Any], built: Built, tags: Sequence[str]) -> Image:
        """Record the finished image. If it is there already under these names, that is all: a cached build writes nothing."""
        complete = {**document, "rootfs": {"type": "layers", "diff_ids": list(built.layers)}}
        data = to_json(complete)
        try:
            image = self.store.resolve(f"sha256:{hashlib.sha256(data).hexdigest()}")
        except NotFound:
            return self.store.add_image_bytes(data, self.refs(built.layers), tags)
        if {Reference.parse(tag).familiar for tag in tags} <= set(image.tags):
            return image
        for tag in tags:
            self.store.tag(image.id, tag)
        return self.store.resolve(image.id)
