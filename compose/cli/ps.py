"""`umiak ps`: the containers of a project, in the shapes of `docker compose ps`."""

from __future__ import annotations

from compose import labels
from compose.cli.context import Context, check_services
from compose.cli.options import Args, Command, Option
from compose.cli.view import listing
from engine.errors import InvalidInput
from engine.types import RUNNING, ContainerInfo

STATES = ("paused", "restarting", "removing", "running", "dead", "created", "exited")

COMMAND = Command(
    "ps",
    "List containers",
    words="[SERVICE...]",
    options=[
        Option("-a", "--all", help="Also containers that do not run, and one-off ones"),
        Option("-q", "--quiet", help="Only IDs"),
        Option("--services", help="Only the names of services"),
        Option("--format", metavar="FORMAT", default="table", help="table, json or a Go template"),
        Option(
            "--status", metavar="STATE", many=True, choices=STATES, help="Only containers in that state; repeatable"
        ),
        Option("--filter", metavar="FILTER", help="status=STATE"),
        Option("--no-trunc", help="Do not shorten"),
        Option("--orphans", default="true", help="Also containers of services that are not in the file"),
    ],
)


def run(context: Context, args: Args) -> int:
    """Print the containers as a table, JSON lines, IDs or service names."""
    project = context.project_name()
    states = {*args.many("status"), *_filtered(args)}
    with context.engine() as engine:
        found = engine.containers({labels.PROJECT: project})
    if args.given("orphans") and not args.flag("orphans"):
        found = _declared(context, found)
    known = [container.labels.get(labels.SERVICE, "") for container in found]
    services = check_services(context, known, args.words)
    shown = [
        container
        for container in found
        if (not args.words or container.labels.get(labels.SERVICE) in services)
        and (container.status.state in states if states else args.flag("all") or _is_shown(container))
    ]
    _print(shown, project, args)
    return 0


def _declared(context: Context, containers: list[ContainerInfo]) -> list[ContainerInfo]:
    """Those of services that are in the file."""
    project = context.project(all_resources=True)
    services = {*project.services, *project.disabled_services}
    return [container for container in containers if container.labels.get(labels.SERVICE) in services]


def _filtered(args: Args) -> list[str]:
    key, _, value = (args.text("filter") or "status=").partition("=")
    if key != "status":
        raise InvalidInput(f'cannot filter by "{key}"', hint="use --filter status=STATE")
    return [value] if value else []


def _is_shown(container: ContainerInfo) -> bool:
    """Without -a: what runs, one-off containers left out."""
    is_one_off = container.labels.get(labels.ONEOFF) == "True"
    return container.status.state in RUNNING and not is_one_off


def _print(shown: list[ContainerInfo], project: str, args: Args) -> None:
    if args.flag("quiet"):
        lines = [container.id for container in shown]
    elif args.flag("services"):
        lines = list(dict.fromkeys(container.labels.get(labels.SERVICE, "") for container in shown))
    elif (wanted := args.text("format") or "table") == "table":
        lines = listing.table(shown, full=args.flag("no-trunc"))
    else:
        from compose.cli.view.template import listing as formatted

        records = [listing.record(container, project, full=args.flag("no-trunc")) for container in shown]
        lines = formatted(records, listing.HEADINGS, wanted)
    for line in lines:
        print(line)
