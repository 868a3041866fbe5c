"""`umiak top`: the processes of containers, as this host sees them."""

from __future__ import annotations

from compose import labels
from compose.cli.context import Context
from compose.cli.labelled import containers_of
from compose.cli.options import Args, Command
from compose.cli.view.table import columns
from engine.errors import Conflict

COMMAND = Command("top", "Show the processes of containers", words="[SERVICE...]")
_HEADINGS = ("SERVICE", "#", "UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD")


def run(context: Context, args: Args) -> int:
    """Print one table of all."""
    rows: list[tuple[str, ...]] = []
    with context.orchestrator() as orchestrator:
        for one in containers_of(context, orchestrator, args.words):
            service, number = one.labels.get(labels.SERVICE, ""), str(labels.number(one.labels))
            try:
                processes = orchestrator.engine.processes(one.id)
            except Conflict:
                continue  # it has ended meanwhile
            rows += [
                (service, number, p.user, str(p.pid), str(p.ppid), str(p.cpu), p.started, p.terminal, p.time, p.command)
                for p in processes
            ]
    if rows:
        print("\n".join(columns([_HEADINGS, *rows], minimum=4, gap=2)))
    return 0
