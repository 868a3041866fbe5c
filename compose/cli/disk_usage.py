"""`umiak system df`: what the engine keeps on disk, in Docker's tables."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from compose.cli.options import Args, Command, Option
from compose.cli.view.template import Template, listing
from compose.cli.view.units import human_size, local_time, short_id

if TYPE_CHECKING:
    from engine.diskusage import Item, Usage
    from engine.facade import Engine

DF = Command(
    "system df",
    "Show what is on disk",
    options=[
        Option("-v", "--verbose", help="Each image, container, volume and result of a build"),
        Option("--format", metavar="FORMAT", default="table", help="table, json or a Go template"),
    ],
)
_NONE = "<none>"
_KINDS = {"TYPE": "Type", "TOTAL": "TotalCount", "ACTIVE": "Active", "SIZE": "Size", "RECLAIMABLE": "Reclaimable"}
_IMAGES = {
    "REPOSITORY": "Repository",
    "TAG": "Tag",
    "IMAGE ID": "ID",
    "CREATED": "CreatedSince",
    "SIZE": "Size",
    "SHARED SIZE": "SharedSize",
    "UNIQUE SIZE": "UniqueSize",
    "CONTAINERS": "Containers",
}
_CONTAINERS = {
    "CONTAINER ID": "ID",
    "IMAGE": "Image",
    "COMMAND": "Command",
    "LOCAL VOLUMES": "LocalVolumes",
    "SIZE": "Size",
    "CREATED": "RunningFor",
    "STATUS": "Status",
    "NAMES": "Names",
}
_VOLUMES = {"VOLUME NAME": "Name", "LINKS": "Links", "SIZE": "Size"}
_CACHE = {
    "CACHE ID": "ID",
    "CACHE TYPE": "CacheType",
    "SIZE": "Size",
    "CREATED": "CreatedSince",
    "LAST USED": "LastUsedSince",
    "USAGE": "UsageCount",
    "SHARED": "Shared",
}


def df(engine: Engine, args: Args) -> None:
    """Run `system df`."""
    usages = engine.disk_usage()
    format = args.text("format") or "table"
    if not args.flag("verbose"):
        lines = listing([_summary(usage) for usage in usages], _KINDS, format)
    elif format == "table":
        lines = _tables(engine, usages, args)
    else:
        lines = [Template("{{json .}}" if format == "json" else format).render(_records(engine, usages, args))]
    print("".join(f"{line}\n" for line in lines), end="")


def _summary(usage: Usage) -> dict[str, Any]:
    has_share = usage.size_bytes and usage.kind != "Build Cache"
    share = f" ({100 * usage.reclaimable_bytes // usage.size_bytes}%)" if has_share else ""
    return {
        "Active": str(usage.active),
        "Reclaimable": human_size(usage.reclaimable_bytes, 4) + share,
        "Size": human_size(usage.size_bytes, 4),
        "TotalCount": str(len(usage.items)),
        "Type": usage.kind,
    }


def _tables(engine: Engine, usages: list[Usage], args: Args) -> list[str]:
    found = _records(engine, usages, args)
    cache = human_size(usages[-1].size_bytes, 4)
    titles = [
        "Images space usage:",
        "Containers space usage:",
        "Local Volumes space usage:",
        f"Build cache usage: {cache}",
    ]
    lines: list[str] = []
    for title, shown, records in zip(titles, (_IMAGES, _CONTAINERS, _VOLUMES, _CACHE), found.values(), strict=True):
        lines += [*([""] if lines else []), title, "", *listing(records, shown, "table")]
    return lines


def _records(engine: Engine, usages: list[Usage], args: Args) -> dict[str, list[dict[str, Any]]]:
    """What Docker gives to a template: all things by kind."""
    from compose.cli.container import rows_of

    images, containers, volumes, cache = usages
    sizes = {item.id: human_size(item.size_bytes) for item in containers.items}
    local = {name: info.spec.driver for info in engine.volumes() for name in [info.spec.name]}
    mounts = engine.state.rows("SELECT container_id, count(*) AS volumes FROM volume_uses GROUP BY container_id")
    count = {short_id(row["container_id"]): str(row["volumes"]) for row in mounts}
    return {
        "Images": [_image(item) for item in images.items],
        "Containers": [
            {**row, "LocalVolumes": count.get(row["ID"], "0"), "Size": sizes[identifier]}
            for identifier, row in rows_of(engine, args).items()
        ],
        "Volumes": [
            {
                "Driver": local[item.name],
                "Links": str(item.links),
                "Name": item.name,
                "Size": human_size(item.size_bytes, 4),
            }
            for item in volumes.items
        ],
        "BuildCache": [_cached(item) for item in cache.items],
    }


def _image(item: Item) -> dict[str, Any]:
    repository, _, tag = item.name.partition(", ")[0].rpartition(":")
    return {
        "Containers": str(item.links),
        "CreatedAt": local_time(item.created_at),
        "CreatedSince": _since(item.created_at),
        "ID": short_id(item.id),
        "Repository": repository or _NONE,
        "SharedSize": human_size(item.shared_bytes, 4),
        "Size": human_size(item.size_bytes),
        "Tag": tag if repository else _NONE,
        "UniqueSize": human_size(item.size_bytes - item.shared_bytes, 4),
    }


def _cached(item: Item) -> dict[str, Any]:
    return {
        "CacheType": item.type,
        "CreatedAt": local_time(item.created_at) if item.created_at else "N/A",
        "CreatedSince": _since(item.created_at),
        "ID": item.name,
        "LastUsedAt": local_time(item.used_at),
        "LastUsedSince": _since(item.used_at),
        "Shared": "false",
        "Size": human_size(item.size_bytes),
        "UsageCount": "N/A",
    }


def _since(moment: float) -> str:
    from compose.cli.view.listing import ago

    return ago(time.time() - moment) if moment else "N/A"
