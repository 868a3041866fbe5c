"""`umiak rm`: remove containers that do not run."""

from __future__ import annotations

import sys

from compose.cli.context import Context, print_plan
from compose.cli.labelled import containers_of
from compose.cli.options import Args, Command, Option
from engine.errors import InvalidInput
from engine.types import RUNNING

COMMAND = Command(
    "rm",
    "Remove stopped containers",
    words="[SERVICE...]",
    options=[
        Option("-f", "--force", help="Do not ask"),
        Option("-s", "--stop", help="Stop them first where they run"),
        Option("-v", "--volumes", help="Their anonymous volumes too"),
        Option("-a", "--all", help="Accepted for compatibility", hidden=True),
    ],
)


def run(context: Context, args: Args) -> int:
    """Ask, and remove them."""
    stop, volumes = args.flag("stop"), args.flag("volumes")
    with context.view("rm") as view, context.orchestrator(view=view) as orchestrator:
        found = containers_of(context, orchestrator, args.words, stopped=True)
        going = [one for one in found if stop or one.status.state not in RUNNING]
        if not going:
            print("No stopped containers", file=sys.stderr)
            return 0
        names = ", ".join(one.name for one in going)
        if not (context.dry_run or args.flag("force") or _confirmed(names)):
            return 0
        services = sorted({one.labels["com.docker.compose.service"] for one in going})
        plan = orchestrator.remove(context.project_name(), services, stop=stop, volumes=volumes)
    if context.dry_run:
        print_plan(plan)
    return 0


def _confirmed(names: str) -> bool:
    if not sys.stdin.isatty():
        raise InvalidInput(f"going to remove {names}, and nobody can be asked", hint="use --force")
    print(f"Going to remove {names}\nAre you sure? [yN] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
