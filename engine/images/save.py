"""Images into one archive or directory: what `docker load`, skopeo and podman read, or an OCI layout alone.

The "docker" format is both at once, as Docker writes it since version 25: an OCI layout with a `manifest.json` beside it. In it layers
are uncompressed, since old readers know no other; in the "oci" format all blobs and the manifest are as they are stored.
"""

from __future__ import annotations

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, BinaryIO

from engine.errors import InvalidInput, NotFound
from engine.images.blobs import to_json
from engine.images.compression import decompressed
from engine.images.reference import Reference, is_digest
from engine.images.store import CONFIG_TYPE, INDEX_TYPE, LAYER_TYPE, MANIFEST_TYPE, ImageStore
from engine.images.tar import BLOCK_BYTES, Entry, header
from engine.types import Image

FORMATS = ("docker", "oci")

Write = Callable[[bytes], object]
_CHUNK_BYTES = 1 << 20


def save(store: ImageStore, references: Sequence[str], write: Write, *, format: str = "docker") -> None:
    """Write images as one tar. A name that is given is kept; an image given by its ID keeps all of its names.

    Raise NotFound before anything is written where one of them is missing.
    """
    _check_format(format)
    _save(store, _named(store, references).values(), _Tar(write), format)


def save_built(store: ImageStore, image: Image, tags: Sequence[str], write: Write, *, format: str) -> None:
    """Write one image as a tar, under names that the store need not know."""
    _check_format(format)
    _save(store, [(image, _familiar(tags))], _Tar(write), format)


def save_directory(store: ImageStore, image: Image, tags: Sequence[str], directory: str, *, format: str) -> None:
    """Write one image as a directory. Raise OSError where that cannot be."""
    _check_format(format)
    _save(store, [(image, _familiar(tags))], _Directory(directory), format)


def _check_format(format: str) -> None:
    if format not in FORMATS:
        raise InvalidInput(f"cannot save images as {format!r}", hint=f"use one of: {', '.join(FORMATS)}")


def _familiar(tags: Sequence[str]) -> list[str]:
    return [name for tag in tags if (name := Reference.parse(tag).familiar)]


def _save(store: ImageStore, images: Iterable[tuple[Image, list[str]]], layout: _Layout, format: str) -> None:
    layout.add("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
    manifests, docker = [], []
    for image, names in images:
        if format == "oci":
            descriptor = _add_stored(store, layout, image)
        else:
            descriptor, item = _add_plain(store, layout, image, names)
            docker.append(item)
        manifests += _described(image, names, descriptor)
    layout.add("index.json", to_json({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": manifests}))
    if docker:
        layout.add("manifest.json", to_json(docker))
        layout.add("repositories", to_json(_repositories(docker)))
    layout.end()


def _named(store: ImageStore, references: Sequence[str]) -> dict[str, tuple[Image, list[str]]]:
    """Each image once, with the names it shall have."""
    images: dict[str, tuple[Image, list[str]]] = {}
    for reference in references:
        image = store.resolve(reference)
        names = images.setdefault(image.id, (image, []))[1]
        is_name = not is_digest(reference) and not image.id.startswith(f"sha256:{reference.removeprefix('sha256:')}")
        tag = Reference.parse(reference).familiar if is_name else None
        names += [name for name in ([tag] if tag in image.tags else image.tags) if name and name not in names]
    return images


def _add_stored(store: ImageStore, layout: _Layout, image: Image) -> dict[str, Any]:
    manifest = store.manifest(image.id)
    for digest in (manifest.digest, image.id, *(layer.blob for layer in store.layer_refs(image))):
        with _blob(store, digest) as file:
            layout.add_file(
                _blob_name(digest), store.blobs.size_bytes(digest), iter(lambda: file.read(_CHUNK_BYTES), b"")
            )
    return {
        "mediaType": manifest.media_type,
        "digest": manifest.digest,
        "size": store.blobs.size_bytes(manifest.digest),
    }


def _add_plain(
    store: ImageStore, layout: _Layout, image: Image, names: Sequence[str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Add an image with uncompressed layers; return its descriptor for index.json and its item for manifest.json."""
    layers: list[dict[str, Any]] = []
    for layer in store.layer_refs(image):
        size_bytes = layer.size_bytes or _measure(store, layer.blob)
        with _blob(store, layer.blob) as file:
            layout.add_file(_blob_name(layer.diff_id), size_bytes, decompressed(file))
        layers.append({"mediaType": LAYER_TYPE, "digest": layer.diff_id, "size": size_bytes})
    with _blob(store, image.id) as file:
        config = file.read()
    layout.add(_blob_name(image.id), config)
    manifest = to_json(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": {"mediaType": CONFIG_TYPE, "digest": image.id, "size": len(config)},
            "layers": layers,
        }
    )
    digest = f"sha256:{hashlib.sha256(manifest).hexdigest()}"
    layout.add(_blob_name(digest), manifest)
    item = {
        "Config": _blob_name(image.id),
        "RepoTags": list(names) or None,
        "Layers": [_blob_name(layer["digest"]) for layer in layers],
    }
    return {"mediaType": MANIFEST_TYPE, "digest": digest, "size": len(manifest)}, item


def _described(image: Image, names: Sequence[str], descriptor: dict[str, Any]) -> list[dict[str, Any]]:
    entry = {**descriptor, "platform": {"architecture": image.architecture, "os": image.os}}
    if not names:
        return [entry]
    return [
        {
            **entry,
            "annotations": {
                "io.containerd.image.name": str(Reference.parse(name)),
                "org.opencontainers.image.ref.name": Reference.parse(name).tag,
            },
        }
        for name in names
    ]


def _repositories(items: Sequence[dict[str, Any]]) -> dict[str, dict[str, str]]:
    """The index of Docker before 1.10, which some readers still look into: repository → tag → top layer."""
    found: dict[str, dict[str, str]] = {}
    for item in items:
        for name in item["RepoTags"] or ():
            repository, _, tag = name.rpartition(":")
            if item["Layers"]:
                found.setdefault(repository, {})[tag] = os.path.basename(item["Layers"][-1])
    return found


def _measure(store: ImageStore, digest: str) -> int:
    with _blob(store, digest) as file:
        return sum(map(len, decompressed(file)))


@contextmanager
def _blob(store: ImageStore, digest: str) -> Iterator[BinaryIO]:
    with store.blobs.open(digest) as file:
        yield file


def _blob_name(digest: str) -> str:
    return f"blobs/sha256/{digest.removeprefix('sha256:')}"


class _Layout(ABC):
    """A layout that is being written. What several images share is in it once."""

    def __init__(self) -> None:
        self._names: set[str] = set()

    def add(self, name: str, data: bytes) -> None:
        self.add_file(name, len(data), [data])

    def add_file(self, name: str, size_bytes: int, pieces: Iterable[bytes]) -> None:
        """Add a file of just this size. Raise NotFound where the pieces are more or fewer."""
        if name in self._names:
            return
        self._names.add(name)
        written = 0
        with self.file(name, size_bytes) as write:
            for piece in pieces:
                written += len(piece)
                write(piece)
            if written != size_bytes:
                raise NotFound(f"{name} in the image store is damaged", hint="remove the image and load it again")

    @abstractmethod
    def file(self, name: str, size_bytes: int) -> AbstractContextManager[Write]:
        """Where to write the content of one file."""

    def end(self) -> None:  # noqa: B027
        """Say that all is in it."""


class _Tar(_Layout):
    """A tar."""

    def __init__(self, write: Write) -> None:
        super().__init__()
        self._write = write

    @contextmanager
    def file(self, name: str, size_bytes: int) -> Iterator[Write]:
        self._add_directories(name)
        self._write(header(Entry(os.fsencode(name), b"0", size_bytes)))
        yield self._write
        self._write(bytes(-size_bytes % BLOCK_BYTES))

    def _add_directories(self, name: str) -> None:
        above = os.path.dirname(name)
        if above and above not in self._names:
            self._names.add(above)
            self._add_directories(above)
            entry = Entry(os.fsencode(above) + b"/", b"5")
            entry.mode = 0o755
            self._write(header(entry))

    def end(self) -> None:
        self._write(bytes(2 * BLOCK_BYTES))


class _Directory(_Layout):
    """A directory, made if it is missing."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path

    @contextmanager
    def file(self, name: str, size_bytes: int) -> Iterator[Write]:  # noqa: ARG002
        path = os.path.join(self._path, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            yield file.write
