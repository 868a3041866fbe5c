"""`umiak volumes`: the volumes of a project."""

from __future__ import annotations

from typing import Any

from compose import labels
from compose.cli.context import Context
from compose.cli.labelled import containers_of
from compose.cli.options import Args, Command, Option
from compose.cli.view.template import listing
from engine.types import VolumeInfo

COMMAND = Command(
    "volumes",
    "List volumes",
    words="[SERVICE...]",
    options=[
        Option("-q", "--quiet", help="Only names"),
        Option("--format", metavar="FORMAT", default="table", help="table, json or a Go template"),
    ],
)


def run(context: Context, args: Args) -> int:
    """Print those of the project, or those that the services named use."""
    with context.orchestrator() as orchestrator:
        found = orchestrator.engine.volumes({labels.PROJECT: context.project_name()})
        if args.words:
            used = containers_of(context, orchestrator, args.words, stopped=True)
            names = {name for one in used for name in one.volumes.values()}
            found = [volume for volume in found if volume.spec.name in names]
    records = [_record(volume) for volume in found]
    if args.flag("quiet"):
        lines = [record["Name"] for record in records]
    else:
        lines = listing(records, {"DRIVER": "Driver", "VOLUME NAME": "Name"}, args.text("format") or "table")
    for line in lines:
        print(line)
    return 0


def _record(volume: VolumeInfo) -> dict[str, Any]:
    """The keys of `docker volume ls --format json`."""
    return {
        "Availability": "N/A",
        "Driver": volume.spec.driver,
        "Group": "N/A",
        "Labels": ",".join(f"{key}={value}" for key, value in volume.spec.labels.items()),
        "Links": "N/A",
        "Mountpoint": volume.mountpoint,
        "Name": volume.spec.name,
        "Scope": "local",
        "Size": "N/A",
        "Status": "N/A",
    }
