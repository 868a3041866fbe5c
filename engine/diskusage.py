"""What the engine keeps on disk, and how much of it nothing uses: `system df`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.images.tree import disk_usage
from engine.types import RUNNING, Image

if TYPE_CHECKING:
    from engine.facade import Engine


@dataclass(frozen=True, slots=True)
class Item:
    """One thing with its size on disk. `shared_bytes` of an image are those of layers that other images have too.

    `links` counts the containers that use an image or a volume, `used_at` is when a part of the build cache was last of use,
    and `type` what it is, in BuildKit's words.
    """

    name: str
    id: str
    size_bytes: int
    is_used: bool
    shared_bytes: int = 0
    created_at: float = 0.0
    links: int = 0
    used_at: float = 0.0
    type: str = "regular"


@dataclass(frozen=True, slots=True)
class Usage:
    """All things of one kind. The sizes do not simply add up: images share layers."""

    kind: str
    items: Sequence[Item]
    size_bytes: int
    reclaimable_bytes: int

    @property
    def active(self) -> int:
        """How many are in use."""
        return sum(item.is_used for item in self.items)


def usage(engine: Engine) -> list[Usage]:
    """Images, containers, volumes and the build cache, in the order in which Docker lists them."""
    return [_images(engine), _containers(engine), _volumes(engine), _build_cache(engine)]


def _images(engine: Engine) -> Usage:
    store, found = engine.images, engine.images.all()
    in_use = Counter(info.image_id for info in engine.containers())
    sizes = {diff_id: store.layers.size_bytes(diff_id) or 0 for image in found for diff_id in image.layers}
    items = []
    for image in found:
        others = {diff_id for other in found if other.id != image.id for diff_id in other.layers}
        own = set(image.layers)
        items.append(
            Item(
                ", ".join(image.tags) or "<none>",
                image.id,
                image.size_bytes,
                image.id in in_use,
                sum(sizes[diff_id] for diff_id in own & others),
                image.created_at,
                in_use[image.id],
            )
        )
    needed = _layers(image for image in found if image.id in in_use)
    total = sum(sizes.values())
    return Usage("Images", items, total, total - sum(sizes[diff_id] for diff_id in needed))


def _layers(images: Iterable[Image]) -> set[str]:
    return {diff_id for image in images for diff_id in image.layers}


def _containers(engine: Engine) -> Usage:
    return _summed(
        "Containers",
        [
            Item(
                info.name,
                info.id,
                disk_usage(f"{engine.paths.container(info.id)}/upper"),
                info.status.state in RUNNING,
                created_at=info.created_at,
            )
            for info in engine.containers()
        ],
    )


def _volumes(engine: Engine) -> Usage:
    used = Counter(row["volume_name"] for row in engine.state.rows("SELECT volume_name FROM volume_uses"))
    return _summed(
        "Local Volumes",
        [
            Item(name, name, disk_usage(info.mountpoint), name in used, links=used[name])
            for info in engine.volumes()
            for name in [info.spec.name]
        ],
    )


def _build_cache(engine: Engine) -> Usage:
    """Layers that only results of build steps have, cache mounts and downloads."""
    from engine.images.build.prune import outside_of_images

    store = engine.images
    visible = _layers(store.all())
    rows = engine.state.rows(
        "SELECT diff_id, max(used_at) AS used_at, min(created_at) AS created_at FROM build_cache"
        " JOIN image_layers USING (image_id) JOIN images ON images.id = image_id GROUP BY diff_id"
    )
    return _summed(
        "Build Cache",
        [
            Item(
                row["diff_id"][7:19],
                row["diff_id"],
                store.layers.size_bytes(row["diff_id"]) or 0,
                is_used=False,
                created_at=row["created_at"],
                used_at=row["used_at"],
            )
            for row in rows
            if row["diff_id"] not in visible
        ]
        + [
            Item(kept.name[:12], kept.name, kept.size_bytes, is_used=False, used_at=kept.used_at, type=kept.type)
            for kept in outside_of_images(store)
        ],
    )


def _summed(kind: str, items: Sequence[Item]) -> Usage:
    total = sum(item.size_bytes for item in items)
    return Usage(kind, items, total, total - sum(item.size_bytes for item in items if item.is_used))
