"""`umiak boot`: start, after a reboot, what its restart policy asks for, in all projects."""

from __future__ import annotations

from compose import labels
from compose.cli.context import Context, print_plan
from compose.cli.options import Args, Command
from engine.errors import InvalidInput, UmiakError

COMMAND = Command("boot", "After a reboot, start the containers whose restart policy asks for it, in all projects")


def run(context: Context, args: Args) -> int:
    """Project by project. One that fails is told and does not hold up the others; the exit code is then its error's."""
    from compose.cli.errors import report

    if args.words:
        raise InvalidInput("boot takes no project", hint="to start one: umiak -p PROJECT start")
    code = 0
    with context.view("boot") as view, context.orchestrator(warm=True, view=view) as orchestrator:
        found = {container.labels.get(labels.PROJECT, "") for container in orchestrator.engine.containers()}
        for project in sorted(found - {""}):
            try:
                plan = orchestrator.boot(project)
            except UmiakError as error:
                code = report(error)
                continue
            if context.dry_run:
                print_plan(plan)
    return code
