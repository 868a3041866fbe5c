"""One image as an OCI layout, packed or as a directory, with the `manifest.json` by which `docker load` reads it."""

from __future__ import annotations

import io
import os
import shutil
import tarfile
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO

from engine.images.blobs import to_json
from engine.images.config import parse_json
from engine.images.reference import Reference

if TYPE_CHECKING:
    from engine.images.store import ImageStore
    from engine.types import Image

_INDEX_TYPE = "application/vnd.oci.image.index.v1+json"


def write_layout_tar(store: ImageStore, image: Image, tags: Sequence[str], file: BinaryIO) -> None:
    """Write the layout as a tar. Equal images give equal bytes."""
    documents, blobs = _content(store, image, tags)
    with tarfile.open(fileobj=file, mode="w|", format=tarfile.PAX_FORMAT) as tar:
        for name, data in documents.items():
            tar.addfile(_info(name, len(data)), io.BytesIO(data))
        for digest in blobs:
            with store.blobs.open(digest) as blob:
                tar.addfile(_info(_blob_name(digest), store.blobs.size_bytes(digest)), blob)


def write_layout(store: ImageStore, image: Image, tags: Sequence[str], directory: str) -> None:
    """Write the layout into a directory."""
    documents, blobs = _content(store, image, tags)
    os.makedirs(os.path.join(directory, "blobs/sha256"), exist_ok=True)
    for digest in blobs:
        with store.blobs.open(digest) as blob, open(os.path.join(directory, _blob_name(digest)), "wb") as copy:
            shutil.copyfileobj(blob, copy, 1 << 20)
    for name, data in documents.items():
        with open(os.path.join(directory, name), "wb") as file:
            file.write(data)


def _content(store: ImageStore, image: Image, tags: Sequence[str]) -> tuple[dict[str, bytes], list[str]]:
    """The documents of the layout, and the digests of its blobs."""
    row = store.state.row("SELECT manifest, manifest_type FROM images WHERE id = ?", (image.id,))
    assert row is not None
    with store.blobs.open(row["manifest"]) as file:
        manifest = parse_json(file.read(), "the image manifest")
    descriptor = {
        "mediaType": row["manifest_type"],
        "digest": row["manifest"],
        "size": store.blobs.size_bytes(row["manifest"]),
        "platform": {"architecture": image.architecture, "os": image.os},
    }
    layers = [str(layer["digest"]) for layer in manifest["layers"]]
    references = [Reference.parse(tag) for tag in tags]
    saved = {
        "Config": _blob_name(image.id),
        "RepoTags": [reference.familiar for reference in references],
        "Layers": [_blob_name(digest) for digest in layers],
    }
    index = {"schemaVersion": 2, "mediaType": _INDEX_TYPE, "manifests": list(_named(descriptor, references))}
    documents = {
        "oci-layout": b'{"imageLayoutVersion":"1.0.0"}',
        "index.json": to_json(index),
        "manifest.json": to_json([saved]),
    }
    return documents, list(dict.fromkeys([row["manifest"], image.id, *layers]))


def _named(descriptor: dict[str, Any], references: Sequence[Reference]) -> Iterator[dict[str, Any]]:
    for reference in references:
        names = {
            "io.containerd.image.name": str(reference),
            "org.opencontainers.image.ref.name": reference.tag or "latest",
        }
        yield {**descriptor, "annotations": names}
    if not references:
        yield descriptor


def _info(name: str, size_bytes: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size = size_bytes
    info.mode = 0o644
    return info


def _blob_name(digest: str) -> str:
    return f"blobs/sha256/{digest.removeprefix('sha256:')}"
