"""`umiak watch`: bring services up, and follow the files on this host that they are made from."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from compose.cli import signals
from compose.cli.context import Context, print_plan
from compose.cli.errors import warn
from compose.cli.options import Args, Command, Option

if TYPE_CHECKING:
    from compose.desired import Desired
    from compose.model.project import Project
    from compose.orchestrator import Orchestrator
    from compose.watch import Watcher

COMMAND = Command(
    "watch",
    "Watch the files that services are made from, and update containers when they change",
    words="[SERVICE...]",
    options=[
        Option("--no-up", help="Do not build and start services first"),
        Option("--prune", help="Remove the image that a rebuild replaced (default true)"),
        Option("--quiet", help="Show only warnings and errors"),
    ],
)


def run(context: Context, args: Args) -> int:
    """Bring the services up and watch until Ctrl-C."""
    from compose.verdicts import UpOptions

    quiet = args.flag("quiet")
    with context.view("watch", quiet=quiet) as view, context.orchestrator(warm=True, view=view) as orchestrator:
        project = context.project(args.words)
        desired = orchestrator.desired(project)
        watcher = make_watcher(context, orchestrator, project, desired, args.words)
        if args.given("prune"):
            watcher.prune = args.flag("prune")
        if not args.flag("no-up") or context.dry_run:
            plan = orchestrator.up(desired, UpOptions(services=tuple(args.words), build=True))
        if context.dry_run:
            print_plan(plan)
            return 0
        view.close()
        numbers: list[int] = []

        def stop(number: int) -> None:
            numbers.append(number)
            watcher.stop()

        with signals.on_interrupt(stop), context.view("watch", quiet=quiet, lines=True) as lines:
            orchestrator.sink = lines.sink
            watcher.run()
    return 128 + (numbers or [signal.SIGINT])[0]


def make_watcher(
    context: Context, orchestrator: Orchestrator, project: Project, desired: Desired, services: list[str]
) -> Watcher:
    """The watcher of a project's rules and of the files that it is made of."""
    from compose.watch import Rule, Watcher, rules_of

    def reload() -> tuple[Desired, list[Rule]]:
        now = context.project(services)
        return orchestrator.desired(now), rules_of(now, services, warn)

    files = [os.path.abspath(path) for path in (*project.compose_files, *project.env_files) if os.path.isfile(path)]
    rules = rules_of(project, services, warn)
    return Watcher(orchestrator, desired, rules, services=services, files=files, reload=reload)
