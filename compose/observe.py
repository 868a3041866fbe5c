"""What exists of a project, in one snapshot: found by labels, as the kernel confirms it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import field
from typing import TYPE_CHECKING

from compose import hooks, labels
from engine.errors import NotFound
from engine.frozen import frozen

if TYPE_CHECKING:
    from engine.facade import Engine
    from engine.types import ContainerInfo, NetworkInfo, VolumeInfo


@frozen
class Observed:
    """A snapshot. Networks and volumes go by their names and are all that exist, since a project may use others' too."""

    containers: tuple[ContainerInfo, ...] = ()
    networks: Mapping[str, NetworkInfo] = field(default_factory=dict)
    volumes: Mapping[str, VolumeInfo] = field(default_factory=dict)
    images: Mapping[str, str] = field(default_factory=dict)
    """Reference → image ID, for those references asked for that exist."""
    hooks_due: frozenset[str] = frozenset()
    """IDs of the containers whose `post_start` a kill or a failure kept from being run."""
    image_ages_s: Mapping[str, float] = field(default_factory=dict)
    """Reference → how long ago its registry confirmed it, for images that came from one."""


def observe(engine: Engine, project: str, images: Iterable[str] = ()) -> Observed:
    """Take a snapshot of a project's containers, of all networks and volumes, and of the images named."""
    found = _resolve(engine, images)
    containers = tuple(engine.containers({labels.PROJECT: project}))
    return Observed(
        containers=containers,
        networks={network.spec.name: network for network in engine.networks()},
        volumes={volume.spec.name: volume for volume in engine.volumes()},
        images=found,
        hooks_due=frozenset(container.id for container in containers if hooks.are_due(engine.paths, container)),
        image_ages_s=_ages(engine, found),
    )


def _ages(engine: Engine, images: Mapping[str, str]) -> dict[str, float]:
    now = time.time()
    seen = {reference: engine.images.seen_at(image_id, reference) for reference, image_id in images.items()}
    return {reference: now - seen_at for reference, seen_at in seen.items() if seen_at}


def _resolve(engine: Engine, references: Iterable[str]) -> dict[str, str]:
    found = {}
    for reference in dict.fromkeys(references):
        try:
            found[reference] = engine.images.resolve(reference).id
        except NotFound:
            continue
    return found
