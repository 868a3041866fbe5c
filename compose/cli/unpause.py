"""`umiak unpause`: let frozen containers go on."""

from __future__ import annotations

from compose.cli.context import Context
from compose.cli.labelled import run_by_labels
from compose.cli.options import Args, Command

COMMAND = Command("unpause", "Let frozen containers go on", words="[SERVICE...]")


def run(context: Context, args: Args) -> int:
    """Do it to what is frozen."""
    return run_by_labels(
        context, args, "unpause", lambda orchestrator, project, services: orchestrator.unpause(project, services)
    )
