"""Documents with layers that are no images, at a registry: a manifest whose configuration is the document (OCI artefact)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from engine.errors import InvalidInput
from engine.frozen import frozen
from engine.images.blobs import to_json
from engine.images.config import MAX_JSON_BYTES
from engine.images.reference import Reference
from engine.images.registry.endpoints import endpoint
from engine.images.registry.events import Progress, Reporter
from engine.images.registry.manifest import OCI_MANIFEST, Descriptor, Platform, choose, descriptor
from engine.images.registry.pull import connected, fetch_layers, naming
from engine.images.registry.push import SentBlob, Upload
from engine.images.registry.repository import Connection, Repository

if TYPE_CHECKING:
    from engine.images.store import ImageStore, LayerRef


@frozen
class Artefact:
    """A document, its media type, and the layers that its manifest lists."""

    media_type: str
    document: bytes
    layers: tuple[Descriptor, ...]


def read_artefact(reference: str) -> Artefact:
    """The document under a name; that of an image is its configuration, for this platform. Raise NotFound, Denied, Unavailable …"""
    wanted = Reference.parse(reference)
    with connected(Reporter(None), None, None) as connection, naming("read", wanted):
        repository = _opened(connection, wanted, "pull")
        manifest = repository.manifest(wanted.digest or wanted.tag or "latest")
        if manifest.is_index:
            manifest = repository.manifest(choose(manifest, Platform.host()).digest)
        config, layers = descriptor(manifest.document.get("config")), manifest.document.get("layers")
        if config.size_bytes > MAX_JSON_BYTES or not isinstance(layers, list):
            raise InvalidInput("its manifest is not one of a document with layers")
        document = repository.blob(config.digest, config.size_bytes)
        return Artefact(config.media_type, document, tuple(map(descriptor, layers)))


def take_layers(store: ImageStore, reference: str, wanted: Mapping[str, Descriptor]) -> dict[str, LayerRef]:
    """Fetch layers from the repository of a name: diff ID → blob. Both digests are verified."""
    name = Reference.parse(reference)
    report = Reporter(None)
    with connected(report, None, None) as connection, naming("read", name):
        return fetch_layers(store, connection, _opened(connection, name, "pull"), dict(wanted), report)


def push_artefact(
    store: ImageStore,
    reference: str,
    layers: Sequence[LayerRef],
    media_type: str,
    document: Callable[[Sequence[SentBlob]], bytes],
    progress: Progress | None = None,
) -> str:
    """Send layers, and the document that is made of what they are there; return the manifest's digest."""
    target = Reference.parse(reference)
    report = Reporter(progress)
    with connected(report, None, None) as connection, naming("write", target):
        repository = _opened(connection, target, "pull,push")
        blobs = Upload(store, repository, target, "gzip", connection.patience, report).layers(layers, connection)
        config = document(blobs)
        config_digest = _digest(config)
        repository.put_blob(config_digest, config)
        manifest = to_json(
            {
                "schemaVersion": 2,
                "mediaType": OCI_MANIFEST,
                "config": {"mediaType": media_type, "digest": config_digest, "size": len(config)},
                "layers": [blob.descriptor() for blob in blobs],
            }
        )
        repository.put_manifest(target.tag or "latest", manifest, OCI_MANIFEST)
        return _digest(manifest)


def _opened(connection: Connection, reference: Reference, actions: str) -> Repository:
    place = endpoint(reference.registry, connection.settings)
    repository = Repository(connection, place, reference.repository, actions)
    repository.open()
    return repository


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
