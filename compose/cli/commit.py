"""`umiak commit`: an image of what a service's container is now."""

from __future__ import annotations

from compose.cli.container import COMMIT_OPTIONS, commit
from compose.cli.context import Context, would
from compose.cli.labelled import one_container
from compose.cli.options import Args, Command, Option
from engine.errors import InvalidInput

COMMAND = Command(
    "commit",
    "Make an image of what a container is now",
    words="SERVICE [REFERENCE]",
    options=[*COMMIT_OPTIONS, Option("--index", metavar="N", help="Of the replica with this number")],
)


def run(context: Context, args: Args) -> int:
    """Make it, and print its ID."""
    if len(args.words) not in (1, 2):
        raise InvalidInput("commit takes a service and a name", hint="for example: umiak commit web web:saved")
    service, *reference = args.words
    with context.orchestrator() as orchestrator:
        container = one_container(context, orchestrator, service, args.number("index"))
        if context.dry_run:
            return would(f"make an image{''.join(f' {name}' for name in reference)} of {container.name}")
        print(commit(orchestrator.engine, container.id, reference[0] if reference else None, args).id)
    return 0
