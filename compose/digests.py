"""The images of a project with the digests that their registries have: what `config --resolve-image-digests` prints."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

AT_ONCE = 8
"""How many registries are asked at the same time."""


def pinned(images: Iterable[str]) -> dict[str, str]:
    """Each image, and its name in full with the digest. Raise what a registry says against one."""
    names = sorted(set(images))
    with ThreadPoolExecutor(AT_ONCE) as threads:
        return dict(zip(names, threads.map(_pinned, names), strict=True))


def _pinned(image: str) -> str:
    from engine.images.reference import Reference
    from engine.images.registry.remote import inspect_remote

    reference = Reference.parse(image)
    if reference.digest:
        return f"{reference.name}@{reference.digest}"
    return f"{reference}@{inspect_remote(image)['Digest']}"
