"""`umiak ls`: the projects on this host."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from compose import labels
from compose.cli.context import Context
from compose.cli.options import Args, Command, Option
from compose.cli.view.template import listing
from engine.errors import InvalidInput
from engine.types import RUNNING, ContainerInfo

COMMAND = Command(
    "ls",
    "List projects",
    options=[
        Option("-a", "--all", help="Also projects of which nothing runs"),
        Option("-q", "--quiet", help="Only names"),
        Option("--filter", metavar="FILTER", many=True, help="name=PATTERN"),
        Option("--format", metavar="FORMAT", default="table", help="table, json or a Go template"),
    ],
)
_SHOWN = {"NAME": "Name", "STATUS": "Status", "CONFIG FILES": "ConfigFiles"}


def run(context: Context, args: Args) -> int:
    """Print them."""
    with context.engine() as engine:
        containers = engine.containers({labels.PROJECT: None})
    projects = [project for project in _projects(containers, args.flag("all")) if _passes(project, args)]
    if args.flag("quiet"):
        lines = [project["Name"] for project in projects]
    else:
        lines = listing(projects, _SHOWN, args.text("format") or "table", array=True, minimum=20)
    for line in lines:
        print(line)
    return 0


def _projects(containers: Iterable[ContainerInfo], everything: bool) -> list[dict[str, Any]]:
    by_name: dict[str, list[ContainerInfo]] = {}
    for one in containers:
        if everything or one.status.state in RUNNING:
            by_name.setdefault(one.labels[labels.PROJECT], []).append(one)
    return [
        {"Name": name, "Status": _status(found), "ConfigFiles": _files(found)}
        for name, found in sorted(by_name.items())
    ]


def _status(containers: Iterable[ContainerInfo]) -> str:
    """`exited(1), running(2)`."""
    counts = Counter(one.status.state for one in containers)
    return ", ".join(f"{state}({counts[state]})" for state in sorted(counts))


def _files(containers: Iterable[ContainerInfo]) -> str:
    found = (file for one in containers for file in one.labels.get(labels.CONFIG_FILES, "").split(","))
    return ",".join(dict.fromkeys(file for file in found if file)) or "N/A"


def _passes(project: dict[str, Any], args: Args) -> bool:
    import re

    for text in args.many("filter"):
        key, _, value = text.partition("=")
        if key != "name":
            raise InvalidInput(f'cannot filter by "{key}"', hint="use --filter name=PATTERN")
        try:
            if not re.search(value, project["Name"]):
                return False
        except re.error as error:
            raise InvalidInput(f'cannot read "{value}" as a pattern: {error}') from error
    return True
