"""Caches of builds outside of the store: an OCI layout with the layers, and one document that says what they are the result of.

`cache_to` writes it, `cache_from` reads it on another machine. Layers are verified by digest when they are taken over.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engine.errors import InvalidInput, Unsupported
from engine.images.blobs import replace_file, to_json
from engine.images.build.cache import BuildCache, Built, Made
from engine.images.build.context import explained
from engine.images.config import MAX_JSON_BYTES, parse_json
from engine.images.reference import is_digest

if TYPE_CHECKING:
    from engine.images.build.work import SolvedStage, Step
    from engine.images.store import ImageStore, LayerRef

CACHE_TYPE = "application/vnd.umiak.buildcache.v1+json"
_MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
_INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
_LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"


@dataclass(frozen=True, slots=True)
class CachePlace:
    """A cache outside of the store. `is_full` (mode=max) says that the steps of all stages go into it, not the target's only."""

    directory: str
    is_full: bool = False


def read_place(text: str, key: str) -> CachePlace:
    """Read one entry of cache_from (`src`) or cache_to (`dest`). Raise Unsupported for other types than local."""
    words = dict(word.partition("=")[::2] for word in text.split(",")) if "=" in text else {"type": "registry"}
    if words.get("type", "registry") != "local":
        raise Unsupported(f'the cache "{text}" is not supported', hint=f"use type=local,{key}=directory")
    if not words.get(key):
        raise InvalidInput(f'the cache "{text}" names no directory', hint=f"write type=local,{key}=directory")
    return CachePlace(os.path.abspath(words[key]), words.get("mode") == "max")


class ImportedCache:
    """A cache read from a directory. Nothing is taken from it before a build asks."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self.entries: dict[str, Built] = {}
        self.blobs: dict[str, str] = {}
        self._read()

    def _read(self) -> None:
        """Read the document. A directory that is not there is an empty cache, as the first run of a pipeline has it."""
        path = os.path.join(self.directory, "index.json")
        if not os.path.exists(path):
            return
        try:
            with open(path, "rb") as file:
                index = parse_json(file.read(MAX_JSON_BYTES + 1), path)
            manifest = parse_json(self._blob(index["manifests"][0]["digest"]), "the cache's manifest")
            if manifest["config"]["mediaType"] != CACHE_TYPE:
                raise InvalidInput(f"{self.directory} is not a build cache of umiak's")
            document = parse_json(self._blob(manifest["config"]["digest"]), "the cache's document")
            self.blobs = {str(item["diff_id"]): str(item["blob"]) for item in document["layers"]}
            for entry in document["entries"]:
                made = tuple(Made(str(m["created"]), str(m["created_by"]), bool(m["layer"])) for m in entry["made"])
                self.entries[str(entry["key"])] = Built(tuple(map(str, entry["layers"])), made)
        except (KeyError, IndexError, TypeError) as error:
            raise InvalidInput(f"{self.directory} is not a build cache of umiak's") from error
        except OSError as error:
            raise explained(error, f"cannot read the build cache {self.directory}") from error

    def _blob(self, digest: str) -> bytes:
        if not is_digest(digest):
            raise InvalidInput(f"{self.directory} has an entry without a sha256 digest")
        with open(_blob_path(self.directory, digest), "rb") as file:
            data = file.read(MAX_JSON_BYTES + 1)
        if f"sha256:{hashlib.sha256(data).hexdigest()}" != digest:
            raise InvalidInput(f"blob {digest} of {self.directory} does not match its digest")
        return data

    def take(self, cache: BuildCache, keys: Sequence[str]) -> None:
        """Take over the last of these steps that this cache has, with its layers."""
        for key in reversed(keys):
            built = self.entries.get(key)
            if built is not None and built.made and all(self._take_layer(cache, layer) for layer in built.layers):
                cache.add(key, built)

    def _take_layer(self, cache: BuildCache, diff_id: str) -> bool:
        store = cache.store
        if store.find_layer(diff_id) is not None:
            return True
        blob = self.blobs.get(diff_id, "")
        if not is_digest(blob) or not is_digest(diff_id):
            return False
        try:
            with open(_blob_path(self.directory, blob), "rb") as file:
                cache.hold(store.add_layer(file, diff_id=diff_id, blob=blob))
        except FileNotFoundError:
            return False
        return True


def export(store: ImageStore, place: CachePlace, stages: Sequence[SolvedStage], cache: BuildCache) -> None:
    """Write the results of these stages' steps, with their layers, to a directory; what it held before is replaced."""
    steps = [step for stage in stages for step in stage.steps if step.work is not None]
    entries, layers = _entries(steps, cache)
    try:
        _write(store, place.directory, entries, cache.refs(layers))
    except OSError as error:
        raise explained(error, f"cannot write the build cache {place.directory}") from error


def _entries(steps: Sequence[Step], cache: BuildCache) -> tuple[list[dict[str, Any]], list[str]]:
    entries: dict[str, dict[str, Any]] = {}
    layers: dict[str, None] = {}
    for key, image_id in cache.results(steps).items():
        built = cache.load(image_id)
        if built is None:
            continue
        layers.update(dict.fromkeys(built.layers))
        made = [{"created": m.created, "created_by": m.created_by, "layer": m.has_layer} for m in built.made]
        entries[key] = {"key": key, "layers": list(built.layers), "made": made}
    return list(entries.values()), list(layers)


def _write(store: ImageStore, directory: str, entries: list[dict[str, Any]], refs: Sequence[LayerRef]) -> None:
    os.makedirs(os.path.join(directory, "blobs/sha256"), exist_ok=True)
    for ref in refs:
        _copy_blob(store, directory, ref.blob)
    layers = [{"diff_id": ref.diff_id, "blob": ref.blob} for ref in refs]
    config = to_json({"entries": entries, "layers": layers})
    manifest = to_json(
        {
            "schemaVersion": 2,
            "mediaType": _MANIFEST_TYPE,
            "config": {"mediaType": CACHE_TYPE, **_stored(directory, config)},
            "layers": [
                {"mediaType": _LAYER_TYPE, "digest": ref.blob, "size": store.blobs.size_bytes(ref.blob)} for ref in refs
            ],
        }
    )
    descriptor = {"mediaType": _MANIFEST_TYPE, **_stored(directory, manifest)}
    replace_file(os.path.join(directory, "oci-layout"), b'{"imageLayoutVersion":"1.0.0"}')
    index = {"schemaVersion": 2, "mediaType": _INDEX_TYPE, "manifests": [descriptor]}
    replace_file(os.path.join(directory, "index.json"), to_json(index))
    kept = {ref.blob for ref in refs} | {descriptor["digest"], parse_json(manifest, "")["config"]["digest"]}
    for name in os.listdir(os.path.join(directory, "blobs/sha256")):
        if f"sha256:{name}" not in kept:
            os.unlink(os.path.join(directory, "blobs/sha256", name))


def _stored(directory: str, data: bytes) -> dict[str, Any]:
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    replace_file(_blob_path(directory, digest), data)
    return {"digest": digest, "size": len(data)}


def _copy_blob(store: ImageStore, directory: str, digest: str) -> None:
    target = _blob_path(directory, digest)
    if os.path.exists(target):
        return
    temporary = f"{target}.{os.urandom(6).hex()}"
    with store.blobs.open(digest) as source, open(temporary, "xb") as copy:
        shutil.copyfileobj(source, copy, 1 << 20)
    os.rename(temporary, target)


def _blob_path(directory: str, digest: str) -> str:
    return os.path.join(directory, "blobs/sha256", digest.removeprefix("sha256:"))
