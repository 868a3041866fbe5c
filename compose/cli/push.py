"""`umiak push`: send the images that services build to their registries."""

from __future__ import annotations

from compose.cli.context import Context, print_plan
from compose.cli.options import Args, Command, Option

COMMAND = Command(
    "push",
    "Send the images of services to their registries",
    words="[SERVICE...]",
    options=[
        Option("--ignore-push-failures", help="Go on where an image cannot be sent"),
        Option("--include-deps", help="Also what the services need"),
        Option("-q", "--quiet", help="Show no progress"),
    ],
)


def run(context: Context, args: Args) -> int:
    """Send them, all at once."""
    with context.view("push", quiet=args.flag("quiet")) as view, context.orchestrator(view=view) as orchestrator:
        desired = context.desired(orchestrator, args.words)
        plan = orchestrator.push(
            desired,
            args.words,
            include_deps=args.flag("include-deps"),
            ignore_failures=args.flag("ignore-push-failures"),
        )
    if context.dry_run:
        print_plan(plan)
    return 0
