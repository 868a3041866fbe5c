"""`umiak create`: make containers, networks and volumes, and start nothing."""

from __future__ import annotations

from dataclasses import replace

from compose.cli.context import Context, print_plan
from compose.cli.options import Args, Command
from compose.cli.up import PLANNING, QUIET, check_planning, muted, plan_options

COMMAND = Command(
    "create",
    "Create containers without starting them",
    words="[SERVICE...]",
    options=[
        *(option for option in PLANNING if option.key not in ("no-start", "rerun")),
        *QUIET,
    ],
)


def run(context: Context, args: Args) -> int:
    """Create them."""
    check_planning(args)
    with context.view("create", mutes=muted(args)) as view, context.orchestrator(view=view) as orchestrator:
        desired = context.desired(orchestrator, args.words)
        options = replace(plan_options(args), start=False)
        plan = orchestrator.up(desired, options)
    if context.dry_run or not plan:
        print_plan(plan)
    return 0
