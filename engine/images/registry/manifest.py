"""Manifests and indexes: the media types that we take, choosing a platform, and reading both as hostile JSON."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from engine.errors import InvalidInput, Unsupported
from engine.frozen import frozen
from engine.images.config import MAX_JSON_BYTES, host_architecture, parse_json
from engine.images.reference import is_digest

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"

INDEX_TYPES = (OCI_INDEX, DOCKER_INDEX)
MANIFEST_TYPES = (OCI_MANIFEST, DOCKER_MANIFEST)
ACCEPT = ", ".join((*MANIFEST_TYPES, *INDEX_TYPES))
_CONFIG_TYPES = (OCI_CONFIG, DOCKER_CONFIG)
_LAYER_TYPES = (
    OCI_LAYER,
    f"{OCI_LAYER}+gzip",
    f"{OCI_LAYER}+zstd",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
    "application/vnd.docker.image.rootfs.diff.tar.zstd",
)
_OLD_TYPES = (
    "application/vnd.docker.distribution.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
)
_MAX_LAYERS = 512
_MAX_SIZE_BYTES = 1 << 50
_DEFAULT_VARIANTS = {"arm64": "v8", "arm": "v7"}


@frozen
class Descriptor:
    """A blob or manifest that a manifest points to (OCI image-spec, descriptor.md)."""

    media_type: str
    digest: str
    size_bytes: int


@frozen
class Platform:
    """An operating system, an architecture and its variant, in Go's words: `linux/arm64/v8`."""

    os: str
    architecture: str
    variant: str = ""

    @classmethod
    def parse(cls, text: str) -> Platform:
        """Read `linux/arm64[/v8]` or only `arm64`. Raise InvalidInput."""
        parts = text.lower().split("/")
        if len(parts) == 1:
            parts = ["linux", parts[0]]
        if len(parts) > 3 or not all(part.isascii() and part.replace("_", "").isalnum() for part in parts):
            raise InvalidInput(f"cannot read {text!r} as a platform", hint="for example linux/arm64")
        named = {"x86_64": "amd64", "aarch64": "arm64"}.get(parts[1], parts[1])
        return cls(parts[0], named, parts[2] if len(parts) == 3 else "")

    @classmethod
    def host(cls) -> Platform:
        """This machine's."""
        return cls("linux", host_architecture())

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)

    def fits(self, other: Platform) -> int:
        """How well an image for `other` suits this platform; 0 for not at all."""
        if (self.os, self.architecture) != (other.os, other.architecture):
            return 0
        default = _DEFAULT_VARIANTS.get(self.architecture, "")
        wanted, has = self.variant or default, other.variant or default
        if wanted == has:
            return 100
        if self.architecture == "arm" and wanted[1:].isdigit() and has[1:].isdigit() and has < wanted:
            return 50 + int(has[1:]) if int(has[1:]) < 40 else 0  # an ARMv7 machine runs what was made for ARMv6
        return 0


@frozen
class RemoteManifest:
    """A manifest or index as a registry served it. `digest` was computed from the bytes."""

    data: bytes
    media_type: str
    digest: str
    document: Mapping[str, Any]

    @property
    def is_index(self) -> bool:
        return self.media_type in INDEX_TYPES


@frozen
class ImageManifest:
    """What an image consists of, checked."""

    remote: RemoteManifest
    config: Descriptor
    layers: tuple[Descriptor, ...]


def read_manifest(data: bytes, content_type: str, expected: str | None) -> RemoteManifest:
    """Check what a registry served in answer to a request for a manifest, by tag or by the `expected` digest."""
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    if expected is not None and digest != expected:
        raise InvalidInput(f"the manifest does not match its digest: expected {expected}, got {digest}")
    document = parse_json(data, "the manifest")
    named, declared = document.get("mediaType"), content_type.partition(";")[0].strip().lower()
    if document.get("schemaVersion") == 1 or declared in _OLD_TYPES:
        raise Unsupported(
            "the image has a manifest of the old kind (Docker schema 1), which nobody makes any more",
            hint="push it anew with a current tool",
        )
    known = (*INDEX_TYPES, *MANIFEST_TYPES)
    if named in known and declared in known and named != declared:
        raise InvalidInput(f"the manifest says that it is {named}, its registry {declared}")
    media_type = named if named in known else declared if declared in known else _guessed(document)
    if media_type is None or (named is not None and named not in known):
        raise Unsupported(f"the manifest has the unknown media type {named or declared!r}")
    if "layers" in document and "manifests" in document:
        raise InvalidInput("the manifest is ambiguous: it has layers and manifests")  # CVE-2021-41190
    return RemoteManifest(data, media_type, digest, document)


def _guessed(document: Mapping[str, Any]) -> str | None:
    if document.get("schemaVersion") != 2:
        return None
    return OCI_INDEX if "manifests" in document else OCI_MANIFEST if "layers" in document else None


def read_image(remote: RemoteManifest) -> ImageManifest:
    """The configuration and layers that an image manifest lists. Raise Unsupported for what is no container image."""
    document = remote.document
    config, layers = descriptor(document.get("config")), document.get("layers")
    if config.media_type not in _CONFIG_TYPES:
        raise Unsupported(f"this is no container image: its configuration has the media type {config.media_type!r}")
    if config.size_bytes > MAX_JSON_BYTES:
        raise InvalidInput(f"the image configuration is too large ({config.size_bytes} bytes)")
    if not isinstance(layers, list) or len(layers) > _MAX_LAYERS:
        raise InvalidInput(f"the manifest has no list of at most {_MAX_LAYERS} layers")
    found = tuple(descriptor(layer) for layer in layers)
    for layer in found:
        if layer.media_type not in _LAYER_TYPES:
            raise Unsupported(f"the image has a layer of the unknown media type {layer.media_type!r}")
    return ImageManifest(remote, config, found)


def descriptor(value: object) -> Descriptor:
    """Read a descriptor. Raise InvalidInput, or Unsupported for digests that are not SHA-256."""
    if not isinstance(value, dict):
        raise InvalidInput("the manifest has an entry that is not a descriptor")
    digest, size, media_type = value.get("digest"), value.get("size"), value.get("mediaType")
    if not isinstance(digest, str) or not is_digest(digest):
        raise Unsupported(f"the manifest has a digest that is not SHA-256: {str(digest)[:80]!r}")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= _MAX_SIZE_BYTES:
        raise InvalidInput(f"the manifest has an impossible size: {str(size)[:40]}")
    if not isinstance(media_type, str):
        raise InvalidInput("the manifest has an entry without a media type")
    return Descriptor(media_type, digest, size)


def choose(index: RemoteManifest, wanted: Platform) -> Descriptor:
    """The entry of an index that suits a platform best. Raise Unsupported, naming the platforms that there are."""
    entries = index.document.get("manifests")
    if not isinstance(entries, list):
        raise InvalidInput("the image index lists no manifests")
    offered = [(_platform(entry), entry) for entry in entries if isinstance(entry, dict)]
    best = max(offered, key=lambda offer: wanted.fits(offer[0]) if offer[0] else 0, default=None)
    if best is not None and best[0] is not None and wanted.fits(best[0]):
        return descriptor(best[1])
    unnamed = [entry for platform, entry in offered if platform is None]
    if len(unnamed) == 1 == len(offered):
        return descriptor(unnamed[0])
    raise Unsupported(f"the image is not there for {wanted}", hint=_offer(offered))


def _offer(offered: Sequence[tuple[Platform | None, object]]) -> str:
    there = sorted({str(platform) for platform, _ in offered if platform and platform.os != "unknown"})
    return f"it is there for {', '.join(there[:20])}" if there else "the index lists no platform"


def platforms(index: RemoteManifest) -> list[tuple[Platform, Descriptor]]:
    """The images of an index; what else it lists (attestations) is left out."""
    entries = index.document.get("manifests")
    found = [
        (_platform(entry), entry) for entry in (entries if isinstance(entries, list) else ()) if isinstance(entry, dict)
    ]
    return [(platform, descriptor(entry)) for platform, entry in found if platform and platform.os != "unknown"]


def _platform(entry: Mapping[str, Any]) -> Platform | None:
    value = entry.get("platform")
    if not isinstance(value, dict):
        return None
    names = [value.get(key) or "" for key in ("os", "architecture", "variant")]
    if not all(isinstance(name, str) and len(name) < 64 and name.isprintable() for name in names):
        raise InvalidInput("the image index has an unreadable platform")
    return Platform(*names)
