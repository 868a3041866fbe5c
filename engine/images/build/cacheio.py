"""Caches of builds outside of the store: the layers, and one document that says what they are the result of.

They lie in a directory (an OCI layout), at a registry (an artefact), or in the image itself (inline: its configuration has the document).

`cache_to` writes it, `cache_from` reads it on another machine. Layers are verified by digest when they are taken over.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from engine.errors import InvalidInput, NotFound, Unsupported
from engine.frozen import frozen
from engine.images.blobs import replace_file, to_json
from engine.images.build.cache import BuildCache, Built, Made
from engine.images.build.context import explained
from engine.images.config import MAX_JSON_BYTES, diff_ids, parse_json
from engine.images.reference import Reference, is_digest

if TYPE_CHECKING:
    from engine.images.build.work import SolvedStage, Step
    from engine.images.registry.manifest import Descriptor
    from engine.images.store import ImageStore, LayerRef

CACHE_TYPE = "application/vnd.umiak.buildcache.v1+json"
INLINE_KEY = "io.umiak.buildcache.v1"
_MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
_INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
_LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"


@frozen
class CachePlace:
    """A cache outside of the store: a kind (`local`, `registry`, `inline`) and a directory or reference.

    `is_full` (mode=max) says that the steps of all stages go into it, not the target's only. `ignores_errors`: a cache that
    cannot be written is no reason to fail.
    """

    kind: str
    name: str = ""
    is_full: bool = False
    ignores_errors: bool = False


def read_place(text: str, key: str) -> CachePlace:
    """Read one entry of cache_from (`key` is `src`) or cache_to (`dest`); a name alone is a reference.

    Raise InvalidInput, or Unsupported for other types than local, registry and inline.
    """
    words = dict(word.partition("=")[::2] for word in text.split(",")) if "=" in text else {"ref": text}
    kind = words.get("type", "registry")
    known = ("local", "registry", "inline") if key == "dest" else ("local", "registry")
    if kind not in known:
        raise Unsupported(f'the cache "{text}" is not supported', hint=f"the types are {', '.join(known)}")
    full, lenient = words.get("mode") == "max", words.get("ignore-error") == "true"
    if kind == "inline":
        return CachePlace(kind, ignores_errors=lenient)
    name = words.get(key if kind == "local" else "ref")
    if not name:
        wanted = f"type=local,{key}=directory" if kind == "local" else "type=registry,ref=host/name:tag"
        raise InvalidInput(f'the cache "{text}" does not say where it is', hint=f"write {wanted}")
    if kind == "registry":
        Reference.parse(name)
        return CachePlace(kind, name, full, lenient)
    return CachePlace(kind, os.path.abspath(name), full, lenient)


def open_cache(place: CachePlace) -> ImportedCache:
    """The cache at a place, its document read. Raise InvalidInput, NotFound or what the registry says."""
    return RegistryCache(place.name) if place.kind == "registry" else LocalCache(place.name)


class ImportedCache(ABC):
    """A cache read from elsewhere. No layer is taken from it before a build asks."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.entries: dict[str, Built] = {}
        self.blobs: dict[str, str] = {}

    def read_document(self, data: bytes) -> None:
        """Take the steps and the layers from a cache's document. Raise InvalidInput."""
        try:
            document = parse_json(data, "the cache's document")
            self.blobs = {str(item["diff_id"]): str(item["blob"]) for item in document["layers"]}
            for entry in document["entries"]:
                made = tuple(Made(str(m["created"]), str(m["created_by"]), bool(m["layer"])) for m in entry["made"])
                self.entries[str(entry["key"])] = Built(tuple(map(str, entry["layers"])), made)
        except (KeyError, IndexError, TypeError) as error:
            raise self.strange() from error

    def strange(self) -> InvalidInput:
        """The error for what is no cache."""
        return InvalidInput(f"{self.name} is not a build cache of umiak's")

    def take(self, cache: BuildCache, keys: Sequence[str]) -> None:
        """Take over the last of these steps that this cache has, with its layers."""
        for key in reversed(keys):
            built = self.entries.get(key)
            if built is not None and built.made and self._take_layers(cache, built.layers):
                cache.add(key, built)

    def _take_layers(self, cache: BuildCache, layers: Sequence[str]) -> bool:
        missing = [layer for layer in dict.fromkeys(layers) if cache.store.find_layer(layer) is None]
        if not all(is_digest(layer) and is_digest(self.blobs.get(layer, "")) for layer in missing):
            return False
        return not missing or self.fetch(cache, missing)

    @abstractmethod
    def fetch(self, cache: BuildCache, layers: Sequence[str]) -> bool:
        """Bring layers into the store, verified; False where one is gone."""


class LocalCache(ImportedCache):
    """A cache in a directory."""

    def __init__(self, directory: str) -> None:
        super().__init__(directory)
        self._read()

    def _read(self) -> None:
        """Read the document. A directory that is not there is an empty cache, as the first run of a pipeline has it."""
        path = os.path.join(self.name, "index.json")
        if not os.path.exists(path):
            return
        try:
            with open(path, "rb") as file:
                index = parse_json(file.read(MAX_JSON_BYTES + 1), path)
            manifest = parse_json(self._blob(index["manifests"][0]["digest"]), "the cache's manifest")
            if manifest["config"]["mediaType"] != CACHE_TYPE:
                raise self.strange()
            self.read_document(self._blob(manifest["config"]["digest"]))
        except (KeyError, IndexError, TypeError) as error:
            raise self.strange() from error
        except OSError as error:
            raise explained(error, f"cannot read the build cache {self.name}") from error

    def _blob(self, digest: str) -> bytes:
        if not is_digest(digest):
            raise InvalidInput(f"{self.name} has an entry without a sha256 digest")
        with open(_blob_path(self.name, digest), "rb") as file:
            data = file.read(MAX_JSON_BYTES + 1)
        if f"sha256:{hashlib.sha256(data).hexdigest()}" != digest:
            raise InvalidInput(f"blob {digest} of {self.name} does not match its digest")
        return data

    def fetch(self, cache: BuildCache, layers: Sequence[str]) -> bool:
        try:
            for diff_id in layers:
                blob = self.blobs[diff_id]
                with open(_blob_path(self.name, blob), "rb") as file:
                    cache.hold(cache.store.add_layer(file, diff_id=diff_id, blob=blob))
        except FileNotFoundError:
            return False
        return True


class RegistryCache(ImportedCache):
    """A cache at a registry, or that in an image (inline). A name that is not there yet is an empty cache."""

    def __init__(self, reference: str) -> None:
        from engine.images.registry.artefact import read_artefact

        super().__init__(reference)
        self._descriptors: dict[str, Descriptor] = {}
        try:
            found = read_artefact(reference)
        except NotFound:
            return
        self._descriptors = {layer.digest: layer for layer in found.layers}
        if found.media_type == CACHE_TYPE:
            self.read_document(found.document)
        else:
            self._read_inline(parse_json(found.document, "the image configuration"), found.layers)

    def _read_inline(self, image: Mapping[str, Any], blobs: Sequence[Descriptor]) -> None:
        """Take the steps from an image's configuration: how many of its layers, and of its own steps, each has."""
        inline = image.get(INLINE_KEY)
        layers = diff_ids(image)
        if not isinstance(inline, dict) or len(layers) != len(blobs):
            raise self.strange()
        try:
            made = [Made(str(m["created"]), str(m["created_by"]), bool(m["layer"])) for m in inline["made"]]
            for key, layer_count, made_count in inline["entries"]:
                self.entries[str(key)] = Built(tuple(layers[: int(layer_count)]), tuple(made[: int(made_count)]))
        except (KeyError, TypeError, ValueError) as error:
            raise self.strange() from error
        self.blobs = {layer: blob.digest for layer, blob in zip(layers, blobs, strict=True)}

    def fetch(self, cache: BuildCache, layers: Sequence[str]) -> bool:
        from engine.images.registry.artefact import take_layers

        wanted = {layer: self._descriptors.get(self.blobs[layer]) for layer in layers}
        there = {layer: blob for layer, blob in wanted.items() if blob is not None}
        if len(there) < len(wanted):
            return False
        try:
            taken = take_layers(cache.store, self.name, there)
        except NotFound:
            return False
        for ref in taken.values():
            cache.hold(ref)
        return True


def inline_document(stage: SolvedStage, built: Built, cache: BuildCache) -> dict[str, Any]:
    """What goes into an image's configuration so that the image is a cache of its own steps, under INLINE_KEY."""
    entries = []
    keys = [step.key for step in stage.steps if step.work is not None]
    for key, image_id in cache.results([step for step in stage.steps if step.work is not None]).items():
        found = cache.load(image_id)
        if found is not None and found.layers == built.layers[: len(found.layers)]:
            entries.append([key, len(found.layers), len(found.made)])
    return {"made": _listed(built.made), "entries": sorted(entries, key=lambda entry: keys.index(entry[0]))}


def _listed(made: Sequence[Made]) -> list[dict[str, Any]]:
    return [{"created": m.created, "created_by": m.created_by, "layer": m.has_layer} for m in made]


def export(store: ImageStore, place: CachePlace, stages: Sequence[SolvedStage], cache: BuildCache) -> None:
    """Write the results of these stages' steps, with their layers; what was there before is replaced."""
    steps = [step for stage in stages for step in stage.steps if step.work is not None]
    entries, layers = _entries(steps, cache)
    refs = cache.refs(layers)
    if place.kind == "registry":
        from engine.images.registry.artefact import push_artefact

        push_artefact(
            store, place.name, refs, CACHE_TYPE, lambda sent: _document(entries, layers, [blob.digest for blob in sent])
        )
        return
    try:
        _write(store, place.name, entries, refs)
    except OSError as error:
        raise explained(error, f"cannot write the build cache {place.name}") from error


def _document(entries: list[dict[str, Any]], layers: Sequence[str], blobs: Sequence[str]) -> bytes:
    """The document of a cache: steps, and each layer with the blob that it is there."""
    listed = [{"diff_id": layer, "blob": blob} for layer, blob in zip(layers, blobs, strict=True)]
    return to_json({"entries": entries, "layers": listed})


def _entries(steps: Sequence[Step], cache: BuildCache) -> tuple[list[dict[str, Any]], list[str]]:
    entries: dict[str, dict[str, Any]] = {}
    layers: dict[str, None] = {}
    for key, image_id in cache.results(steps).items():
        built = cache.load(image_id)
        if built is None:
            continue
        layers.update(dict.fromkeys(built.layers))
        entries[key] = {"key": key, "layers": list(built.layers), "made": _listed(built.made)}
    return list(entries.values()), list(layers)


def _write(store: ImageStore, directory: str, entries: list[dict[str, Any]], refs: Sequence[LayerRef]) -> None:
    os.makedirs(os.path.join(directory, "blobs/sha256"), exist_ok=True)
    for ref in refs:
        _copy_blob(store, directory, ref.blob)
    config = _document(entries, [ref.diff_id for ref in refs], [ref.blob for ref in refs])
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
