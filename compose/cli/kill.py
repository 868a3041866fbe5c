"""`umiak kill`: send a signal to containers at once, in no order."""

from __future__ import annotations

from compose import labels
from compose.cli.context import Context, check_services, would
from compose.cli.options import Args, Command, Option

COMMAND = Command(
    "kill",
    "Send a signal to running containers",
    words="[SERVICE...]",
    options=[
        Option("-s", "--signal", metavar="SIGNAL", default="SIGKILL", help="The signal"),
        Option("--remove-orphans", help="Accepted, and changes nothing: kill acts on all that is the project's"),
    ],
)


def run(context: Context, args: Args) -> int:
    """Send it."""
    project = context.project_name()
    with context.view("kill") as view, context.orchestrator(view=view) as orchestrator:
        known = [c.labels.get(labels.SERVICE, "") for c in orchestrator.containers(project, stopped=True)]
        services = check_services(context, known, args.words)
        if args.words and not services:
            return 0
        signal = args.text("signal") or "SIGKILL"
        killed = orchestrator.kill(project, services, signal=signal)
    if context.dry_run and killed:
        would(f"send {signal} to {', '.join(killed)}")
    return 0
