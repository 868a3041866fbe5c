"""What is known of an image, in the shapes of Docker's API: inspection and history."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.frozen import frozen
from engine.images.config import created_at, timestamp
from engine.images.store import ImageStore
from engine.types import Image

_CONFIG_DEFAULTS: Mapping[str, Any] = {
    "User": "",
    "Env": None,
    "Entrypoint": None,
    "Cmd": None,
    "WorkingDir": "",
    "Labels": None,
}


@frozen
class HistoryEntry:
    """One step of an image's making. `image_id` is that of the image itself at its last step, else empty."""

    image_id: str
    created_at: float
    created_by: str
    size_bytes: int
    comment: str
    tags: tuple[str, ...]


def describe(store: ImageStore, image: Image) -> dict[str, Any]:
    """An image as `docker image inspect` shows it."""
    document = store.config_json(image.id)
    directories = [store.layers.path(diff_id) for diff_id in reversed(image.layers)]
    data = {"UpperDir": directories[0], "LowerDir": ":".join(directories[1:])} if directories else {}
    described = {
        "Id": image.id,
        "RepoTags": list(image.tags),
        "RepoDigests": store.repo_digests(image.id),
        "Parent": "",
        "Comment": _last_comment(document),
        "Created": document.get("created") or timestamp(image.created_at),
        "Author": document.get("author", ""),
        "Config": {**_CONFIG_DEFAULTS, **(document.get("config") or {})},
        "Architecture": image.architecture,
        "Variant": document.get("variant", ""),
        "Os": image.os,
        "Size": image.size_bytes,
        "GraphDriver": {"Name": "overlay2", "Data": {key: value for key, value in data.items() if value}},
        "RootFS": {"Type": "layers", "Layers": list(image.layers)},
        "Descriptor": {"mediaType": store.manifest(image.id).media_type, "digest": store.manifest(image.id).digest},
    }
    if not described["Variant"]:
        del described["Variant"]
    return described


def history(store: ImageStore, image: Image) -> list[HistoryEntry]:
    """How an image came about, newest step first. Steps that made no layer have size 0."""
    document = store.config_json(image.id)
    records = [record for record in document.get("history") or () if isinstance(record, dict)]
    sizes = [layer.size_bytes for layer in store.layer_refs(image)]
    with_layer = sum(not record.get("empty_layer") for record in records)
    if with_layer < len(sizes):  # an image need not have a history, nor a whole one (OCI image-spec, config.md)
        records = [{} for _ in range(len(sizes) - with_layer)] + records
    entries = []
    left = iter(sizes)
    for record in records:
        size_bytes = 0 if record.get("empty_layer") else next(left, 0)
        entries.append(
            HistoryEntry(
                image_id="",
                created_at=created_at({"created": record.get("created")}),
                created_by=str(record.get("created_by") or ""),
                size_bytes=size_bytes,
                comment=str(record.get("comment") or ""),
                tags=(),
            )
        )
    entries.reverse()
    if entries:
        first = entries[0]
        entries[0] = HistoryEntry(
            image.id, first.created_at, first.created_by, first.size_bytes, first.comment, image.tags
        )
    return entries


def _last_comment(document: Mapping[str, Any]) -> str:
    records = document.get("history") or []
    last = records[-1] if records and isinstance(records[-1], dict) else {}
    return str(last.get("comment") or "")
