"""Commands that act on the containers of services by their labels alone: the project's name, the services, one plan."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from compose import labels
from compose.cli.context import Context, check_services, print_plan
from compose.cli.options import Args
from engine.errors import NotFound

if TYPE_CHECKING:
    from compose.orchestrator import Orchestrator
    from compose.plan import Plan
    from engine.types import ContainerInfo


def run_by_labels(
    context: Context, args: Args, title: str, act: Callable[[Orchestrator, str, Sequence[str]], Plan]
) -> int:
    """Act on the services named, or all; with --dry-run print the plan."""
    project = context.project_name()
    with context.view(title) as view, context.orchestrator(view=view) as orchestrator:
        known = [c.labels.get(labels.SERVICE, "") for c in orchestrator.containers(project, stopped=True)]
        services = check_services(context, known, args.words)
        if args.words and not services:
            return 0
        plan = act(orchestrator, project, services)
    if context.dry_run:
        print_plan(plan)
    return 0


def one_container(context: Context, orchestrator: Orchestrator, service: str, index: int | None) -> ContainerInfo:
    """The service's container with that number, or its first one, running or not. Raise NotFound where there is none."""
    found = containers_of(context, orchestrator, [service], stopped=True)
    for one in sorted(found, key=lambda one: labels.number(one.labels)):
        if index in (None, labels.number(one.labels)):
            return one
    which = f'container of service "{service}"' if index is None else f'container {index} of service "{service}"'
    raise NotFound(f"there is no {which}", hint="`umiak ps -a` lists them")


def containers_of(
    context: Context,
    orchestrator: Orchestrator,
    services: Sequence[str],
    *,
    stopped: bool = False,
    one_off: bool = False,
) -> list[ContainerInfo]:
    """The containers of the services named, or of all; a service that the project does not have is an error."""
    project = context.project_name()
    found = orchestrator.containers(project, stopped=True, one_off=one_off)
    chosen = check_services(context, [c.labels.get(labels.SERVICE, "") for c in found], services)
    if services and not chosen:
        return []
    return orchestrator.containers(project, chosen, stopped=stopped, one_off=one_off)
