"""Give back what nothing uses: stopped containers, networks, volumes, images, results of builds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.errors import Conflict, InvalidInput, NotFound
from engine.images.select import carries, moment, select
from engine.images.store import ImageStore
from engine.images.tree import disk_usage

if TYPE_CHECKING:
    from engine.facade import Engine

_ENDED = ("created", "exited", "dead")


@dataclass(frozen=True, slots=True)
class Pruned:
    """What went: names or IDs, and the bytes of disk that came free."""

    removed: tuple[str, ...]
    freed_bytes: int = 0


@dataclass(frozen=True, slots=True)
class _Limits:
    """Docker's filters of prune commands."""

    labels: tuple[str, ...]
    unwanted: tuple[str, ...]
    before: float | None

    def allow(self, labels: Mapping[str, str], created_at: float) -> bool:
        own = dict(labels)
        if self.before is not None and created_at >= self.before:
            return False
        return carries(own, self.labels) and not any(carries(own, [label]) for label in self.unwanted)


def images(store: ImageStore, *, everything: bool = False, filters: Sequence[str] = ()) -> Pruned:
    """Remove images that no container uses: the untagged ones, or all with `everything`. Return Docker's lines about it."""
    kept = [f for f in filters if not f.startswith(("label!=", "dangling="))]
    everything = everything or any(f.lower() in ("dangling=false", "dangling=0") for f in filters)
    unwanted = tuple(f.partition("!=")[2] for f in filters if f.startswith("label!="))
    for name in kept:
        if name.partition("=")[0] not in ("until", "label"):
            raise InvalidInput(f"cannot prune by {name!r}", hint="use until=, label= or label!=")
    removed: list[str] = []
    candidates = select(store, [*kept, *([] if everything else ["dangling=true"])])
    with store.state.transaction():
        for image in candidates:
            if not any(carries(dict(image.config.labels), [label]) for label in unwanted):
                removed += store.forget(image.id)
    return Pruned(tuple(removed), store.collect_garbage(keep_downloads=not everything))


def containers(engine: Engine, *, filters: Sequence[str] = ()) -> Pruned:
    """Remove containers that do not run, with what they wrote; without filters also what is left of those nobody knows any more."""
    limits, freed = _limits(filters), 0
    removed = [] if filters else engine.remove_stray_containers()
    for info in engine.containers():
        if info.status.state in _ENDED and limits.allow(info.labels, info.created_at):
            size_bytes = disk_usage(f"{engine.paths.container(info.id)}/upper")
            if _done(lambda ref=info.id: engine.remove_container(ref)):  # type: ignore[misc]
                removed.append(info.id)
                freed += size_bytes
    return Pruned(tuple(removed), freed)


def networks(engine: Engine, *, filters: Sequence[str] = ()) -> Pruned:
    """Remove networks that no container is on."""
    limits = _limits(filters)
    names = [n.spec.name for n in engine.networks() if limits.allow(n.spec.labels, n.created_at)]
    return Pruned(tuple(name for name in names if _done(lambda name=name: engine.remove_network(name))))  # type: ignore[misc]


def volumes(engine: Engine, *, everything: bool = False, filters: Sequence[str] = ()) -> Pruned:
    """Remove volumes that no container uses: those without a name of the user's, or all with `everything`."""
    limits, removed, freed = _limits(filters, times=False), [], 0
    for info in engine.volumes():
        if (everything or info.anonymous) and limits.allow(info.spec.labels, info.created_at):
            size_bytes = disk_usage(info.mountpoint)
            if _done(lambda name=info.spec.name: engine.remove_volume(name)):  # type: ignore[misc]
                removed.append(info.spec.name)
                freed += size_bytes
    return Pruned(tuple(removed), freed)


def _limits(filters: Iterable[str], *, times: bool = True) -> _Limits:
    labels, unwanted, before = [], [], None
    for text in filters:
        key, equals, value = text.partition("=")
        if key == "label" and equals:
            labels.append(value)
        elif key == "label!" and equals:
            unwanted.append(value)
        elif key == "until" and equals and times:
            before = moment(value)
        else:
            known = "until=, label= or label!=" if times else "label= or label!="
            raise InvalidInput(f"cannot prune by {text!r}", hint=f"use {known}")
    return _Limits(tuple(labels), tuple(unwanted), before)


def _done(remove: Callable[[], object]) -> bool:
    """Whether it went. What has come into use, or has gone, since we looked is left."""
    try:
        remove()
    except (Conflict, NotFound):
        return False
    return True
