"""`umiak down`: stop and remove what a project has. It works from labels, so it needs no file where the project is named."""

from __future__ import annotations

from compose.cli import signals
from compose.cli.context import Context, print_plan, timeout_of
from compose.cli.errors import warn
from compose.cli.options import Args, Command, Option
from engine.errors import InvalidInput

COMMAND = Command(
    "down",
    "Stop and remove containers and networks",
    options=[
        Option("-v", "--volumes", help="Remove the project's named volumes and anonymous volumes too"),
        Option("--remove-orphans", help="Accepted for compatibility: down always removes all that is the project's"),
        Option("--rmi", metavar="WHICH", choices=("local", "all"), help="Remove images: local (unnamed ones) or all"),
        Option("-t", "--timeout", metavar="SECONDS", help="How long a container may take to stop"),
    ],
)


def run(context: Context, args: Args) -> int:
    """Take the project down."""
    if args.words:
        raise InvalidInput("down takes no service", hint=f"to stop services: umiak stop {' '.join(args.words)}")
    with context.view("down") as view, context.orchestrator(view=view) as orchestrator:
        project = context.project_name()
        volumes, timeout_s, images = args.flag("volumes"), timeout_of(args), args.text("rmi")
        with signals.interruptible():
            plan = orchestrator.down(project, volumes=volumes, timeout_s=timeout_s, images=images)
        if not plan:
            warn(f'no resource found to remove for project "{project}"')
        elif context.dry_run:
            print_plan(plan)
    return 0
