"""`umiak scale`: set how many containers services have."""

from __future__ import annotations

from compose.cli.context import Context, print_plan
from compose.cli.options import Args, Command, Option
from engine.errors import InvalidInput

COMMAND = Command(
    "scale",
    "Set the number of containers of services",
    words="SERVICE=N...",
    options=[Option("--no-deps", help="Leave out what the services need")],
)


def run(context: Context, args: Args) -> int:
    """Make or remove containers until there are as many as asked for."""
    from compose.verdicts import UpOptions

    if not args.words:
        raise InvalidInput("scale needs a service and a number", hint="for example: umiak scale web=3")
    counts = dict(map(_count, args.words))
    with context.view("scale") as view, context.orchestrator(warm=True, view=view) as orchestrator:
        desired = context.desired(orchestrator, list(counts))
        options = UpOptions(services=tuple(counts), scale=counts, no_deps=args.flag("no-deps"))
        plan = orchestrator.up(desired, options)
    if context.dry_run:
        print_plan(plan)
    return 0


def _count(text: str) -> tuple[str, int]:
    service, _, number = text.partition("=")
    if not service or not number.isdecimal():
        raise InvalidInput(f'cannot read "{text}" as a service and a number', hint="for example: umiak scale web=3")
    return service, int(number)
