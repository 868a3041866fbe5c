"""The build cache: from the key of a step to the layers that building up to it gave.

A key is a hash of what a step depends on, chained from the base image's layers on. What it leads to is kept as an image
without a name, so that the store's garbage collection needs to know nothing of builds.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from threading import Lock
from typing import TYPE_CHECKING, Any

from engine.errors import Conflict, NotFound
from engine.frozen import frozen
from engine.images.blobs import to_json
from engine.images.config import diff_ids
from engine.images.reference import Reference
from engine.types import Image

if TYPE_CHECKING:
    from engine.images.build.cacheio import ImportedCache
    from engine.images.build.work import Step
    from engine.images.store import ImageStore, LayerRef

CACHE_LABEL = "io.umiak.build-cache"
_TOUCH_AFTER_S = 3600.0
_KEY_VERSION = 1
_QUERY_KEYS = 500
_ENTRIES = 20


@frozen
class Made:
    """One step that was carried out: when, as the image's history tells it, and whether it gave a layer."""

    created: str
    created_by: str
    has_layer: bool


@frozen
class Built:
    """The layers (diff IDs, lowest first, those of the base image included) after a step, and the steps since that image."""

    layers: tuple[str, ...]
    made: tuple[Made, ...]


def key_of(*parts: Any) -> str:
    """The key of a step: a hash of JSON values, normally of its parent's key and of what the step is."""
    text = json.dumps([_KEY_VERSION, *parts], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


class Session:
    """What builds of one command have in common: a step that several of them have is carried out once, whatever `--no-cache` says."""

    def __init__(self) -> None:
        self._fresh: dict[str, str] = {}
        self._turns: dict[str, Lock] = {}
        self._lock = Lock()

    def lock(self, key: str) -> Lock:
        """The lock under which the step of that key is carried out."""
        with self._lock:
            return self._turns.setdefault(key, Lock())

    def made(self, key: str) -> str | None:
        """The image that this session has made for a key."""
        return self._fresh.get(key)

    def remember(self, key: str, image_id: str) -> None:
        """Note the image that was made for a key."""
        self._fresh[key] = image_id


class BuildCache:
    """The table `build_cache` of one store. With `read` false it is only added to.

    The layers that a build is at work with are pinned until `close`: what they are part of may be pruned meanwhile.
    """

    def __init__(self, store: ImageStore, *, read: bool = True, session: Session | None = None) -> None:
        self.store = store
        self.read = read
        self.session = session or Session()
        self.imports: list[ImportedCache] = []
        self._refs: dict[str, LayerRef] = {}
        self._lock = Lock()

    def known(self, steps: Iterable[Step]) -> dict[str, str]:
        """The steps whose results are there: key → image ID."""
        found: dict[str, str] = {}
        wanted: list[str] = []
        for step in steps:
            made = self.session.made(step.key)
            if made is not None:
                found[step.key] = made
            elif self.read and not step.refresh and step.work is not None:
                wanted.append(step.key)
        for start in range(0, len(wanted), _QUERY_KEYS):
            found.update(self._stored(wanted[start : start + _QUERY_KEYS]))
        return found

    def find(self, key: str, *, refresh: bool = False) -> str | None:
        """The image for one key."""
        made = self.session.made(key)
        if made is None and self.read and not refresh:
            return self._stored([key]).get(key)
        return made

    def import_steps(self, steps: Sequence[Step]) -> None:
        """Take over from imported caches what these steps lack here."""
        if self.imports and self.read:
            wanted = [step.key for step in steps if step.work is not None and not step.refresh]
            for imported in self.imports:
                imported.take(self, [key for key in wanted if key not in self._stored(wanted)])

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
        """The image that this session itself has made for a key."""
        return self.session.made(key)

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
        self.hold(ref)
        return ref.diff_id

    def hold(self, ref: LayerRef) -> None:
        """Pin a layer that was added to the store for this build."""
        with self._lock:
            if ref.diff_id not in self._refs:
                self.store.pin(ref)
                self._refs[ref.diff_id] = ref

    def close(self) -> None:
        """Give up the layers."""
        with self._lock:
            self.store.unpin(self._refs.values())
            self._refs.clear()

    def results(self, steps: Sequence[Step]) -> dict[str, str]:
        """What these steps led to, whether it was read or made: key → image ID."""
        return self._stored([step.key for step in steps])

    def refs(self, layers: Iterable[str]) -> list[LayerRef]:
        """The layers as `ImageStore.add_image` wants them, pinned. Raise NotFound where one is gone."""
        return [self._ref(diff_id) for diff_id in layers]

    def _ref(self, diff_id: str) -> LayerRef:
        ref = self._refs.get(diff_id)
        if ref is not None:
            return ref
        self.store.layer_dir(diff_id)
        with self._lock:
            ref = self._refs.get(diff_id) or self.store.find_layer(diff_id, pinned=True)
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
        image = self.entered(key, lambda: self.store.add_image(config, self.refs(built.layers)))
        self.session.remember(key, image.id)

    def entered(self, key: str | None, make: Callable[[], Image]) -> Image:
        """Make an image without a name part of the cache: hidden, and pruned with it. Without a key it is found by none.

        Until it is entered it looks like any untagged image, and may be pruned as one; then it is made again.
        """
        for _ in range(_ENTRIES):
            image = make()
            try:
                self._enter(key or key_of("image", image.id), image.id)
            except sqlite3.IntegrityError:
                continue
            return image
        raise Conflict("the build's cache is removed again and again while it is running", hint="build again")

    def _enter(self, key: str, image_id: str) -> None:
        """Write a row. The image that the key led to stays in the cache, hidden, as a build beside may be at work on it."""
        with self.store.state.transaction() as state:
            state.execute(
                "UPDATE OR IGNORE build_cache SET key = 'replaced ' || image_id WHERE key = ? AND image_id <> ?",
                (key, image_id),
            )
            state.execute(
                "INSERT OR REPLACE INTO build_cache (key, image_id, used_at) VALUES (?, ?, ?)",
                (key, image_id, time.time()),
            )

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
