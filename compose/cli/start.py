"""`umiak start`: start containers that exist, in the order of their dependencies."""

from __future__ import annotations

from compose import labels
from compose.cli.context import Context, check_services, print_plan, timeout_of
from compose.cli.options import Args, Command, Option

COMMAND = Command(
    "start",
    "Start containers that exist",
    words="[SERVICE...]",
    options=[
        Option("--wait", help="Return when the services are running, or healthy where they have a health check"),
        Option("--wait-timeout", metavar="SECONDS", help="How long to wait at most"),
    ],
)


def run(context: Context, args: Args) -> int:
    """Do it, and say where there was nothing to do."""
    project = context.project_name()
    with context.view("start") as view, context.orchestrator(warm=True, view=view) as orchestrator:
        known = [c.labels.get(labels.SERVICE, "") for c in orchestrator.containers(project, stopped=True)]
        services = check_services(context, known, args.words)
        if args.words and not services:
            return 0
        plan = orchestrator.start(
            project, services, wait=args.flag("wait"), wait_timeout_s=timeout_of(args, "wait-timeout")
        )
    if context.dry_run:
        print_plan(plan)
    return 0
