"""In which fields two container specifications differ, so that a plan can say why it recreates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from compose.desired import plain
from compose.plan import Change

if TYPE_CHECKING:
    from engine.types import ContainerInfo, ContainerSpec, Mount, NetworkSpec, VolumeSpec

SECRET_WORDS = ("PASSWORD", "PASSWD", "SECRET", "TOKEN", "CREDENTIAL", "PRIVATE_KEY", "API_KEY", "ACCESS_KEY")


_ABSENT = object()
_KEYS = ("target", "network", "name", "container_port")


def differences(existing: ContainerInfo, wanted: ContainerSpec) -> tuple[Change, ...]:
    """The fields in which a container differs from what is wanted, as a person would look for them in the file.

    Values of environment variables that look like secrets are not shown.
    """
    before = dict(_flat(plain(_as_asked(existing, wanted))))
    after = dict(_flat(plain(replace(wanted, name=""))))
    changed = (path for path in {**before, **after} if before.get(path, _ABSENT) != after.get(path, _ABSENT))
    return tuple(Change(path, _shown(path, before.get(path)), _shown(path, after.get(path))) for path in changed)


def changes_between(existing: NetworkSpec | VolumeSpec, wanted: NetworkSpec | VolumeSpec) -> str:
    """The fields in which a network or a volume differs from what is wanted, as text."""
    before, after = dict(_flat(plain(existing))), dict(_flat(plain(wanted)))
    changed = [path for path in {**before, **after} if before.get(path, _ABSENT) != after.get(path, _ABSENT)]
    return "; ".join(str(Change(path, before.get(path), after.get(path))) for path in changed) or "definition changed"


def anonymous_volumes(existing: ContainerInfo) -> dict[str, str]:
    """Target → name of the volumes that a container has without having asked for them by name."""
    named = {mount.source for mount in existing.spec.mounts if mount.type == "volume" and mount.source}
    inherited = inherited_targets(existing)
    return {
        target: volume
        for target, volume in existing.volumes.items()
        if volume and (volume not in named or target in inherited)
    }


def inherited_targets(existing: ContainerInfo) -> frozenset[str]:
    """Targets of the mounts that a container took over from the one it replaced."""
    return frozenset(mount.target for mount in existing.spec.mounts if mount.options.get("inherited"))


def _as_asked(existing: ContainerInfo, wanted: ContainerSpec) -> ContainerSpec:
    """A container's specification as it was asked for: anonymous volumes that it took over read as anonymous again."""
    inherited = inherited_targets(existing)
    asked = {mount.target: mount for mount in wanted.mounts}
    mounts: list[Mount] = []
    for mount in existing.spec.mounts:
        if "from" in mount.options:
            continue  # by way of `volumes_from`, which is compared as such
        if mount.target not in inherited:
            mounts.append(mount)
        elif mount.target in asked and not asked[mount.target].source:
            mounts.append(asked[mount.target])
    return replace(existing.spec, name="", mounts=tuple(mounts))


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted path → leaf. Lists of mounts go by target, of networks by name, of ports by number; other lists are leaves."""
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _flat(item, f"{path}.{key}" if path else key)
    elif isinstance(value, list) and value and all(map(_key_of, value)):
        for item in value:
            key = _key_of(item)
            rest = {name: own for name, own in item.items() if name != key}
            yield from _flat(rest or "", f"{path}[{item[key]}]")
    else:
        yield path, value


def _key_of(item: Any) -> str:
    """The field by which an item of a list is known, or ""."""
    return next((name for name in _KEYS if isinstance(item, Mapping) and name in item), "")


def _shown(path: str, value: Any) -> Any:
    secret = path.startswith("environment.") and any(word in path.upper() for word in SECRET_WORDS)
    return "***" if secret and value is not None else value
