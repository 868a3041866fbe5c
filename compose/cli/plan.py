"""`umiak plan`: what `up` would do, and why. Exit code 0 where there is nothing to do, 2 where there is."""

from __future__ import annotations

from compose.cli.context import Context, print_plan
from compose.cli.errors import warn
from compose.cli.options import Args, Command, Option
from compose.cli.up import PLANNING, plan_options

COMMAND = Command(
    "plan",
    "Show what up would do, and why",
    words="[SERVICE...]",
    options=[
        *PLANNING,
        Option("--format", metavar="FORMAT", choices=("text", "json"), default="text", help="text or json"),
    ],
)


def run(context: Context, args: Args) -> int:
    """Print the plan."""
    with context.orchestrator() as orchestrator:
        plan = orchestrator.plan(context.desired(orchestrator, args.words), plan_options(args))
    if args.text("format") == "json":
        import json

        print(json.dumps(plan.as_json(), ensure_ascii=False, indent=2, default=str))
    else:
        for warning in plan.warnings:
            warn(warning)
        print_plan(plan)
    return 2 if plan.changes_something else 0
