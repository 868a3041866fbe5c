"""`umiak images`: the images that a project's containers were made from."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from compose.cli.context import Context
from compose.cli.labelled import containers_of
from compose.cli.options import Args, Command, Option
from compose.cli.view.listing import ago
from compose.cli.view.template import listing
from compose.cli.view.units import human_size, iso_time, short_id
from engine.errors import NotFound

if TYPE_CHECKING:
    from engine.facade import Engine
    from engine.types import ContainerInfo

COMMAND = Command(
    "images",
    "List the images of containers",
    words="[SERVICE...]",
    options=[
        Option("-q", "--quiet", help="Only IDs"),
        Option("--format", metavar="FORMAT", default="table", help="table, json or a Go template"),
    ],
)
_HEADINGS = ("CONTAINER", "REPOSITORY", "TAG", "PLATFORM", "IMAGE ID", "SIZE", "CREATED")


def run(context: Context, args: Args) -> int:
    """Print them, one for each container."""
    with context.orchestrator() as orchestrator:
        found = containers_of(context, orchestrator, args.words, stopped=True)
        records = [_record(orchestrator.engine, one) for one in found]
    wanted = args.text("format") or "table"
    if args.flag("quiet"):
        lines = list(dict.fromkeys(record["ID"].removeprefix("sha256:") for record in records))
    elif wanted == "table":
        lines = listing([_row(record) for record in records], {name: name for name in _HEADINGS}, "table", minimum=20)
    else:
        lines = listing(records, {}, wanted, array=True)
    for line in lines:
        print(line)
    return 0


def _record(engine: Engine, container: ContainerInfo) -> dict[str, Any]:
    repository, tag = _split(container.spec.image)
    record = {"ID": container.image_id, "ContainerName": container.name, "Repository": repository, "Tag": tag}
    try:
        image = engine.images.resolve(container.image_id)
    except NotFound:
        return record | {"Platform": "", "Size": 0, "LastTagTime": iso_time(0), "Created": iso_time(0)}
    created = iso_time(image.created_at)
    platform = f"{image.os}/{image.architecture}"
    return record | {"Platform": platform, "Size": image.size_bytes, "LastTagTime": created, "Created": created}


def _split(reference: str) -> tuple[str, str]:
    """`registry:5000/app:1` → its repository and tag; an ID has neither."""
    if reference.startswith("sha256:"):
        return "<none>", "<none>"
    name = reference.partition("@")[0]
    repository, colon, tag = name.rpartition(":")
    return (repository, tag) if colon and "/" not in tag else (name, "latest" if name == reference else "<none>")


def _row(record: dict[str, Any]) -> dict[str, str]:
    import calendar

    created = calendar.timegm(time.strptime(record["Created"], "%Y-%m-%dT%H:%M:%SZ"))
    cells = (
        record["ContainerName"],
        record["Repository"],
        record["Tag"],
        record["Platform"],
        short_id(record["ID"]),
        human_size(record["Size"]),
        ago(time.time() - created) if created else "N/A",
    )
    return dict(zip(_HEADINGS, cells, strict=True))
