"""`umiak stop`: stop containers, dependents first."""

from __future__ import annotations

from compose import labels
from compose.cli.context import Context, check_services, print_plan, timeout_of
from compose.cli.options import Args, Command, Option

COMMAND = Command(
    "stop",
    "Stop containers",
    words="[SERVICE...]",
    options=[Option("-t", "--timeout", metavar="SECONDS", help="How long a container may take to stop")],
)


def run(context: Context, args: Args) -> int:
    """Do it, and say where there was nothing to do."""
    project = context.project_name()
    with context.view("stop") as view, context.orchestrator(view=view) as orchestrator:
        known = [c.labels.get(labels.SERVICE, "") for c in orchestrator.containers(project, stopped=True)]
        services = check_services(context, known, args.words)
        if args.words and not services:
            return 0
        plan = orchestrator.stop(project, services, timeout_s=timeout_of(args))
    if context.dry_run:
        print_plan(plan)
    return 0
