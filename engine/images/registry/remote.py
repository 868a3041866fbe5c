"""Look at an image at its registry without fetching it."""

from __future__ import annotations

from typing import Any

from engine.errors import Unsupported
from engine.images.config import parse_json
from engine.images.reference import Reference
from engine.images.registry.credentials import CredentialStore
from engine.images.registry.events import Progress, Reporter
from engine.images.registry.manifest import Platform, platforms
from engine.images.registry.pull import connected, find, naming
from engine.images.registry.settings import Settings


def inspect_remote(
    reference: str,
    *,
    platform: str | None = None,
    progress: Progress | None = None,
    settings: Settings | None = None,
    credentials: CredentialStore | None = None,
) -> dict[str, Any]:
    """Read what a registry has under a name: digest, platforms, layers, and the configuration for one platform."""
    wanted = Reference.parse(reference)
    report = Reporter(progress)
    with connected(report, settings, credentials) as connection, naming("inspect", wanted):
        asked = Platform.parse(platform) if platform else Platform.host()
        found = find(connection, wanted, asked, report)
        image = found.image
        config = parse_json(
            found.repository.blob(image.config.digest, image.config.size_bytes), "the image configuration"
        )
        has = Platform(*(str(config.get(key) or "") for key in ("os", "architecture", "variant")))
        if platform and has.architecture and not found.index and not asked.fits(has):
            raise Unsupported(f"the image is made for {has}, not for {asked}")
        return {
            "Name": wanted.familiar,
            "Digest": found.digest,
            "Id": image.config.digest,
            "MediaType": image.remote.media_type,
            "Platforms": [str(each) for each, _ in platforms(found.index)] if found.index else [],
            "Created": config.get("created"),
            "Os": config.get("os"),
            "Architecture": config.get("architecture"),
            "Size": sum(layer.size_bytes for layer in image.layers),
            "Layers": [
                {"MediaType": layer.media_type, "Digest": layer.digest, "Size": layer.size_bytes}
                for layer in image.layers
            ],
            "Config": config.get("config") or {},
        }
