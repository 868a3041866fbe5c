"""`umiak pause`: freeze containers."""

from __future__ import annotations

from compose.cli.context import Context
from compose.cli.labelled import run_by_labels
from compose.cli.options import Args, Command

COMMAND = Command("pause", "Freeze containers", words="[SERVICE...]")


def run(context: Context, args: Args) -> int:
    """Do it to what runs."""
    return run_by_labels(
        context, args, "pause", lambda orchestrator, project, services: orchestrator.pause(project, services)
    )
