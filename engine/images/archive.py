"""Images from files: `docker save` tars (both layouts), OCI layouts (tar or folder), and root file system tars."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from engine.errors import InvalidInput, NotFound, Unsupported
from engine.frozen import frozen
from engine.images.changes import apply_changes
from engine.images.compression import CHUNK_BYTES, Readable
from engine.images.config import MAX_JSON_BYTES, diff_ids, host_architecture, parse_json, timestamp
from engine.images.layers import full_disk_explained
from engine.images.members import Members, open_input, open_members, read_member
from engine.images.parallel import Cancelled, gather
from engine.images.reference import Reference, is_digest
from engine.images.registry.manifest import Platform
from engine.images.store import ImageStore, LayerRef
from engine.types import Image

Progress = Callable[[str, int, int], None]

_INDEX_TYPES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
_MANIFEST_TYPES = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
_LAYER_TYPES = (
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
)
_MAX_INDEX_DEPTH = 4
_MAX_LAYERS = 512
_MOST_AT_ONCE = 4
"""Layers unpacked at a time: no more than there are processors, and few enough to bound the memory."""


def load(store: ImageStore, path: str, *, progress: Progress | None = None) -> list[Image]:
    """Load the images of a `docker save` tar or an OCI layout (tar or folder), compressed or not; "-" is standard input.

    Digests are verified. A layer that the store has already is not read again. Raise InvalidInput where the archive is broken:
    images before the broken one stay loaded, the broken one leaves nothing.
    """
    report = progress or (lambda _text, _done, _total: None)
    store.prepare()
    with full_disk_explained("the archive", store.paths.root), open_members(path, store.blobs.ingest) as members:
        docker_manifest = read_member(members, "manifest.json")
        if docker_manifest is not None:
            return [_load_docker(store, members, item, report) for item in _docker_images(docker_manifest)]
        index = read_member(members, "index.json")
        if index is None:
            raise InvalidInput(
                f"{path} is not an image archive: it has neither manifest.json nor index.json",
                hint="use `umiak image import` for the tar of a root file system",
            )
        descriptors = _manifests(members, parse_json(index, "index.json"), _MAX_INDEX_DEPTH)
        return [_load_oci(store, members, descriptor, report) for descriptor in descriptors]


def load_one(store: ImageStore, path: str, wanted: str | None = None) -> Image:
    """Load one image of an OCI layout without giving it a name: the one of that tag or digest, else the only one. Raise NotFound."""
    store.prepare()
    with open_members(path, store.blobs.ingest) as members:
        index = read_member(members, "index.json")
        if index is None:
            raise InvalidInput(f"{path} is not an OCI layout: it has no index.json")
        found = _manifests(members, parse_json(index, "index.json"), _MAX_INDEX_DEPTH)
        if wanted is not None:
            found = [item for item in found if wanted in (item["digest"], *_tags(item))]
        distinct = {item["digest"]: item for item in found}
        if len(distinct) != 1:
            count = "no image" if not distinct else f"{len(distinct)} images"
            raise NotFound(
                f"{path} has {count}" + (f" called {wanted!r}" if wanted else ""),
                hint="name one: path:tag or path@digest",
            )
        (descriptor,) = distinct.values()
        return _load_oci(store, members, {**descriptor, "annotations": None}, lambda _text, _done, _total: None)


def _tags(descriptor: Mapping[str, Any]) -> list[str]:
    """What a layout's entry is called, in full and by its tag alone."""
    annotations = descriptor.get("annotations")
    name = annotations.get("org.opencontainers.image.ref.name") if isinstance(annotations, dict) else None
    return [name, name.rpartition(":")[2]] if isinstance(name, str) else []


def import_rootfs(
    store: ImageStore,
    tar_path: str,
    reference: str | None,
    changes: Sequence[str] = (),
    *,
    message: str | None = None,
    platform: str | None = None,
) -> Image:
    """Make a single-layer image from a root file system's tar, of any compression; "-" is standard input.

    `changes` are Dockerfile instructions that set the image's configuration: `CMD ["sh"]`, `ENV A=b`, … `message` is for the
    history, `platform` what the files are made for, by default this machine's.
    """
    if reference is not None:
        Reference.parse(reference)
    config = apply_changes({}, changes)
    made_for = Platform.parse(platform) if platform else Platform.host()
    with open_input(tar_path) as file:
        layer = store.add_layer(file)
    created = timestamp(time.time())
    document = {
        "created": created,
        "architecture": made_for.architecture,
        "os": made_for.os,
        **({"variant": made_for.variant} if made_for.variant else {}),
        "config": config,
        "history": [{"created": created, "comment": message or f"imported from {os.path.basename(tar_path)}"}],
    }
    return store.add_image(document, [layer], [] if reference is None else [reference])


def _docker_images(data: bytes) -> list[Mapping[str, Any]]:
    try:
        items = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"manifest.json in the archive is not valid JSON: {error}") from error
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise InvalidInput("manifest.json in the archive is not a list of images")
    return items


def _load_docker(store: ImageStore, members: Members, item: Mapping[str, Any], report: Progress) -> Image:
    name, layer_names = item.get("Config"), _names(item, "Layers")
    config = read_member(members, name) if isinstance(name, str) else None
    if config is None:
        raise InvalidInput(f"the archive lacks the image configuration {name!r}")
    _check_named_digest(str(name), config)
    wanted = _wanted_layers(config, len(layer_names))
    named = [_Layer(layer_name, diff_id, None) for layer_name, diff_id in zip(layer_names, wanted, strict=True)]
    layers = _layers(store, members, named, report)
    return store.add_image_bytes(config, layers, _names(item, "RepoTags"))


def _load_oci(store: ImageStore, members: Members, descriptor: Mapping[str, Any], report: Progress) -> Image:
    original = _blob(members, descriptor)
    manifest = parse_json(original, "the image manifest")
    config = _blob(members, _descriptor(manifest.get("config")))
    layer_descriptors = manifest.get("layers")
    if not isinstance(layer_descriptors, list):
        raise InvalidInput("the image manifest lists no layers")
    wanted = _wanted_layers(config, len(layer_descriptors))
    named = []
    for item, diff_id in zip(layer_descriptors, wanted, strict=True):
        layer = _descriptor(item)
        if not str(layer.get("mediaType", "")).startswith(_LAYER_TYPES):
            raise Unsupported(f"a layer of the image has the unknown media type {layer.get('mediaType')!r}")
        named.append(_Layer(_blob_name(layer["digest"]), diff_id, layer["digest"]))
    layers = _layers(store, members, named, report)
    names = _reference_names(descriptor)
    image = store.add_image_bytes(config, layers, names, manifest=original)
    if store.manifest(image.id).digest == descriptor["digest"]:
        for name in names:
            store.note_digest(Reference.parse(name), descriptor["digest"], image.id, seen_at=0.0)
    return image


@frozen
class _Layer:
    """A layer's name in the archive, its diff ID and, where the archive says it, its blob's digest."""

    name: str
    diff_id: str
    blob: str | None


def _layers(store: ImageStore, members: Members, wanted: Sequence[_Layer], report: Progress) -> list[LayerRef]:
    """All layers of an image, those that are missing added several at a time; where one fails the others are given up."""
    have = {layer.diff_id: store.find_layer(layer.diff_id) for layer in wanted}
    missing = {layer.diff_id: layer for layer in wanted if have[layer.diff_id] is None}
    stop, reporting, started = threading.Event(), threading.Lock(), itertools.count()

    def add(layer: _Layer) -> LayerRef:
        with reporting:
            report(f"layer {layer.diff_id[7:19]}", next(started), len(missing))
        return _add_layer(store, members, layer, stop)

    with ThreadPoolExecutor(min(_MOST_AT_ONCE, len(os.sched_getaffinity(0))), "load") as pool:
        futures = {diff_id: pool.submit(add, layer) for diff_id, layer in missing.items()}
        gather(futures.values(), stop.set)
    report("image", len(missing), len(missing))
    return [have[layer.diff_id] or futures[layer.diff_id].result() for layer in wanted]


def _add_layer(store: ImageStore, members: Members, layer: _Layer, stop: threading.Event) -> LayerRef:
    file = members.open(layer.name)
    if file is None:
        raise InvalidInput(f"the archive lacks the layer {layer.name!r}")
    with file:
        return store.add_layer(_Stoppable(file, stop), diff_id=layer.diff_id, blob=layer.blob)


class _Stoppable:
    """A file that is read until another thread says that it is no longer wanted."""

    def __init__(self, file: Readable, stop: threading.Event) -> None:
        self._file = file
        self._stop = stop

    def read(self, size: int = CHUNK_BYTES, /) -> bytes:
        if self._stop.is_set():
            raise Cancelled("given up")
        return self._file.read(size)


def _wanted_layers(config: bytes, count: int) -> tuple[str, ...]:
    wanted = diff_ids(parse_json(config, "the image configuration"))
    if len(wanted) != count or count > _MAX_LAYERS:
        raise InvalidInput(f"the image configuration lists {len(wanted)} layers, the manifest {count}")
    for diff_id in wanted:
        if not is_digest(diff_id):
            raise InvalidInput(f"the image configuration has an unreadable layer digest {diff_id!r}")
    return wanted


def _manifests(members: Members, index: Mapping[str, Any], depth: int) -> list[Mapping[str, Any]]:
    """The image manifests for this machine, nested indexes opened. A nested one's name is that of the entry above it."""
    items = index.get("manifests")
    if not isinstance(items, list):
        raise InvalidInput("the image index lists no manifests")
    descriptors = [_descriptor(item) for item in items]
    usable = [item for item in descriptors if _is_for_this_platform(item)]
    if descriptors and not usable:
        raise Unsupported(f"the archive has no image for linux/{host_architecture()}")
    found: list[Mapping[str, Any]] = []
    for item in usable:
        if item.get("mediaType") in _INDEX_TYPES:
            if depth == 0:
                raise InvalidInput("the image indexes of the archive are nested too deep")
            nested = _manifests(members, parse_json(_blob(members, item), "an image index"), depth - 1)
            found.extend({**below, "annotations": item.get("annotations")} for below in nested[:1])
        elif item.get("mediaType", _MANIFEST_TYPES[0]) in _MANIFEST_TYPES:
            found.append(item)
        else:
            raise Unsupported(f"the image index has an entry of the unknown media type {item.get('mediaType')!r}")
    return found


def _is_for_this_platform(descriptor: Mapping[str, Any]) -> bool:
    platform = descriptor.get("platform")
    if not isinstance(platform, dict):
        return True
    return platform.get("os") == "linux" and platform.get("architecture") == host_architecture()


def _descriptor(value: object) -> Mapping[str, Any]:
    if not isinstance(value, dict) or not is_digest(str(value.get("digest"))):
        raise InvalidInput("the archive has an entry without a sha256 digest")
    return value


def _blob(members: Members, descriptor: Mapping[str, Any]) -> bytes:
    digest = descriptor["digest"]
    data = read_member(members, _blob_name(digest))
    if data is None:
        raise InvalidInput(f"the archive lacks the blob {digest}")
    if len(data) > MAX_JSON_BYTES or f"sha256:{hashlib.sha256(data).hexdigest()}" != digest:
        raise InvalidInput(f"blob {digest} in the archive does not match its digest")
    return data


def _blob_name(digest: str) -> str:
    return f"blobs/sha256/{digest.removeprefix('sha256:')}"


def _check_named_digest(name: str, data: bytes) -> None:
    """`docker save` names a configuration by its digest, `<hex>.json` or `blobs/sha256/<hex>`."""
    stem = os.path.basename(name).removesuffix(".json")
    if is_digest(f"sha256:{stem}") and hashlib.sha256(data).hexdigest() != stem:
        raise InvalidInput(f"{name} in the archive does not match its digest")


def _reference_names(descriptor: Mapping[str, Any]) -> list[str]:
    """The image's name in an OCI layout: containerd's full one, else `ref.name` where it is more than a bare tag."""
    annotations = descriptor.get("annotations")
    if not isinstance(annotations, dict):
        return []
    full = annotations.get("io.containerd.image.name")
    name = annotations.get("org.opencontainers.image.ref.name")
    for candidate in (full, name if isinstance(name, str) and (":" in name or "/" in name) else None):
        if isinstance(candidate, str):
            return [candidate]
    return []


def _names(item: Mapping[str, Any], key: str) -> list[str]:
    value = item.get(key)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise InvalidInput(f"{key} in the archive's manifest.json is not a list of names")
    return value
