"""`umiak down`: stop and remove what a project has. It works from labels, so it needs no file where the project is named."""

from __future__ import annotations

from compose import labels
from compose.cli.context import Context, check_services, print_plan, timeout_of
from compose.cli.errors import warn
from compose.cli.options import Args, Command, Option

COMMAND = Command(
    "down",
    "Stop and remove containers and networks",
    words="[SERVICE...]",
    options=[
        Option("-v", "--volumes", help="Remove the project's named volumes and anonymous volumes too"),
        Option("--remove-orphans", help="Accepted, and changes nothing: down removes all that is the project's"),
        Option("--rmi", metavar="WHICH", choices=("local", "all"), help="Remove images: local (unnamed ones) or all"),
        Option("-t", "--timeout", metavar="SECONDS", help="How long a container may take to stop"),
    ],
)


def run(context: Context, args: Args) -> int:
    """Take the project down, or the services named."""
    with context.view("down") as view, context.orchestrator(view=view) as orchestrator:
        project = context.project_name()
        volumes, timeout_s, images = args.flag("volumes"), timeout_of(args), args.text("rmi")
        known = [c.labels.get(labels.SERVICE, "") for c in orchestrator.containers(project, stopped=True)]
        services = check_services(context, known, args.words)
        if args.words and not services:
            return 0
        plan = orchestrator.down(project, services, volumes=volumes, timeout_s=timeout_s, images=images)
        if not plan:
            warn(f'no resource found to remove for project "{project}"')
        elif context.dry_run:
            print_plan(plan)
    return 0
