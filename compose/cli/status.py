"""`umiak status`: the project at a glance, problems first."""

from __future__ import annotations

import time

from compose import labels
from compose.cli.context import Context
from compose.cli.options import Args, Command
from compose.cli.view.listing import duration, ports
from compose.readiness import exit_reason
from engine.types import ContainerInfo

COMMAND = Command("status", "Show the project at a glance", words="[SERVICE...]")

_GOOD, _BUSY, _BAD, _IDLE = ("●", "green"), ("◐", "cyan"), ("✗", "red"), ("○", "dim")


def run(context: Context, args: Args) -> int:
    """Print the table."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    project = context.project_name()
    with context.orchestrator() as orchestrator:
        containers = orchestrator.containers(project, args.words, stopped=True)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("SERVICE", "STATE", "UP", "RESTARTS", "PORTS"):
        table.add_column(heading, justify="right" if heading == "RESTARTS" else "left")
    for container in sorted(containers, key=_problems_first):
        (symbol, style), state = _state(container)
        table.add_row(
            f"{container.labels.get(labels.SERVICE, container.name)} {labels.number(container.labels)}",
            Text(f"{symbol} {state}", style=style),
            _up(container),
            str(container.status.restart_count),
            ports(container.ports),
        )
    console = Console()
    running = sum(container.status.state == "running" for container in containers)
    console.print(f"[bold]{project}[/bold]  {running}/{len(containers)} running", highlight=False)
    if containers:
        console.print(table)
    return 0


def _state(container: ContainerInfo) -> tuple[tuple[str, str], str]:
    status = container.status
    if status.state == "running":
        health = status.health.state if status.health else "none"
        if health == "none":
            return _GOOD, "running"
        return {"healthy": _GOOD, "starting": _BUSY}.get(health, _BAD), health
    if status.state == "exited":
        return (_IDLE, "done") if status.exit_code == 0 else (_BAD, exit_reason(status))
    return (_BUSY if status.state == "restarting" else _IDLE), status.state


def _up(container: ContainerInfo) -> str:
    if container.status.state not in ("running", "paused"):
        return "–"
    return duration(time.time() - container.status.started_at)


def _problems_first(container: ContainerInfo) -> tuple[int, str]:
    (symbol, _), _ = _state(container)
    return ("✗◐●○".index(symbol), container.name)
