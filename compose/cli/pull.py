"""`umiak pull`: fetch the images of services from their registries."""

from __future__ import annotations

from compose.cli.context import Context, print_plan
from compose.cli.options import Args, Command, Option

COMMAND = Command(
    "pull",
    "Fetch the images of services",
    words="[SERVICE...]",
    options=[
        Option("--ignore-pull-failures", help="Go on where an image cannot be had"),
        Option("--ignore-buildable", help="Leave out images that can be built"),
        Option("--include-deps", help="Also what the services need"),
        Option(
            "--policy",
            metavar="POLICY",
            choices=("missing", "always"),
            default="always",
            help="missing (only what is not here) or always",
        ),
        Option("-q", "--quiet", help="Show no progress"),
    ],
)


def run(context: Context, args: Args) -> int:
    """Fetch them, all at once."""
    with context.view("pull", quiet=args.flag("quiet")) as view, context.orchestrator(view=view) as orchestrator:
        desired = context.desired(orchestrator, args.words)
        plan = orchestrator.pull(
            desired,
            args.words,
            include_deps=args.flag("include-deps"),
            ignore_failures=args.flag("ignore-pull-failures"),
            ignore_buildable=args.flag("ignore-buildable"),
            policy=args.text("policy") or "always",
        )
    if context.dry_run:
        print_plan(plan)
    return 0
