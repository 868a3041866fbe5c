"""Image references: Docker Hub's naming rules, tags and digests."""

from __future__ import annotations

import re

from engine.errors import InvalidInput
from engine.frozen import frozen

DEFAULT_REGISTRY = "docker.io"
DEFAULT_NAMESPACE = "library"
DEFAULT_TAG = "latest"

_REGISTRY = re.compile(
    r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*|\[[0-9a-fA-F:]+\])(?::[0-9]+)?"
)
_REPOSITORY = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_MAX_NAME_LENGTH = 255


@frozen
class Reference:
    """A name for an image, in full: `docker.io/library/debian:bookworm-slim`. `tag` is None only where a digest was given."""

    registry: str
    repository: str
    tag: str | None
    digest: str | None = None

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Read a reference as people type it: `redis`, `user/app:1`, `ghcr.io/a/b@sha256:…`. Raise InvalidInput."""
        name, at, digest = text.partition("@")
        if at and not is_digest(digest):
            raise _invalid(text, "the digest must be sha256: and 64 lower-case hexadecimal digits")
        head, colon, tag = name.rpartition(":")
        if not colon or "/" in tag:
            head, tag = name, ""
        elif not _TAG.fullmatch(tag):
            raise _invalid(text, "a tag has letters, digits, '_', '.' and '-' only, at most 128 of them")
        registry, repository = _split_registry(head)
        if not _REPOSITORY.fullmatch(repository):
            lower = repository.lower()
            better = (
                f"write it in lower case: {text.lower()}"
                if lower != repository and _REPOSITORY.fullmatch(lower)
                else None
            )
            raise _invalid(text, better or "expected [registry/]name[:tag][@digest]")
        if not _REGISTRY.fullmatch(registry) or len(registry) + len(repository) > _MAX_NAME_LENGTH:
            raise _invalid(text, "expected [registry/]name[:tag][@digest]")
        return cls(registry, repository, tag or (None if at else DEFAULT_TAG), digest if at else None)

    @property
    def name(self) -> str:
        """Registry and repository, without tag and digest."""
        return f"{self.registry}/{self.repository}"

    @property
    def familiar(self) -> str:
        """The shortest form that means the same, as Docker shows it: `debian:bookworm-slim`."""
        name = self.name
        if self.registry == DEFAULT_REGISTRY:
            name = self.repository.removeprefix(f"{DEFAULT_NAMESPACE}/")
            if "/" in name and name != self.repository:
                name = self.repository
        return name + self._suffix

    @property
    def _suffix(self) -> str:
        return (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")

    def __str__(self) -> str:
        return self.name + self._suffix


def is_digest(text: str) -> bool:
    """Whether this is a digest that the store can hold (`sha256:` and 64 digits)."""
    return _DIGEST.fullmatch(text) is not None


def _split_registry(name: str) -> tuple[str, str]:
    """The first part is a registry only if it looks like a host (distribution/reference, normalize.go)."""
    first, slash, rest = name.partition("/")
    if not slash or not ("." in first or ":" in first or first == "localhost" or first != first.lower()):
        first, rest = DEFAULT_REGISTRY, name
    if first == "index.docker.io":
        first = DEFAULT_REGISTRY
    if first == DEFAULT_REGISTRY and "/" not in rest:
        rest = f"{DEFAULT_NAMESPACE}/{rest}"
    return first, rest


def _invalid(text: str, hint: str) -> InvalidInput:
    return InvalidInput(f"cannot read {text!r} as an image reference", hint=hint)
