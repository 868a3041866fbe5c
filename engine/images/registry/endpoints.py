"""Where a registry is: its address, what it speaks, and the mirrors to ask before it."""

from __future__ import annotations

from urllib.parse import urlsplit

from engine.errors import InvalidInput
from engine.frozen import frozen
from engine.images.reference import DEFAULT_REGISTRY
from engine.images.registry.proxies import is_loopback
from engine.images.registry.settings import Settings

DOCKER_HUB_HOST = "registry-1.docker.io"


@frozen
class Endpoint:
    """One place to get images from. `registry` is the name that its login goes by; `prefix` comes before each repository."""

    registry: str
    host: str
    schemes: tuple[str, ...]
    prefix: str = ""
    is_mirror: bool = False


def endpoint(registry: str, settings: Settings) -> Endpoint:
    """The registry itself. One on this machine may speak TLS or plain HTTP, as with Docker."""
    host = DOCKER_HUB_HOST if registry == DEFAULT_REGISTRY else registry
    return Endpoint(registry, host, _schemes(registry, host, settings))


def endpoints(registry: str, settings: Settings) -> list[Endpoint]:
    """The registry's mirrors, then the registry itself."""
    return [*(_mirror(address, settings) for address in settings.host(registry).mirrors), endpoint(registry, settings)]


def _mirror(address: str, settings: Settings) -> Endpoint:
    parts = urlsplit(address if "://" in address else f"//{address}")
    if parts.scheme not in ("", "http", "https") or not parts.hostname or parts.query or parts.username:
        raise InvalidInput(f"cannot read the mirror {address!r}", hint="write [https://]host[:port][/prefix]")
    schemes = (parts.scheme,) if parts.scheme else _schemes(parts.netloc, parts.netloc, settings)
    prefix = parts.path.strip("/").removeprefix("v2/")
    return Endpoint(
        parts.netloc, parts.netloc, schemes, f"{prefix}/" if prefix and prefix != "v2" else "", is_mirror=True
    )


def _schemes(registry: str, host: str, settings: Settings) -> tuple[str, ...]:
    if settings.host(registry).plain_http:
        return ("http",)
    name = urlsplit(f"//{host}").hostname or ""
    return ("https", "http") if is_loopback(name) or settings.host(registry).insecure else ("https",)
