"""What a view is: something that takes events from any thread until it is closed."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from engine.events import Event


class View(Protocol):
    """Shows what happens, on stderr."""

    def sink(self, event: Event) -> None:
        """Take one event. Must not raise; may be called from many threads."""

    def close(self) -> None:
        """Show what is still to be shown and leave the terminal as it was. Safe to call twice."""


class Quiet:
    """Shows warnings, and errors that end nothing."""

    def sink(self, event: Event) -> None:
        """Print a warning; forget the rest."""
        if event.state == "warning":
            from compose.cli.errors import warn

            warn(str(event.data.get("message", "")))
        elif event.kind == "watch" and event.state == "error":
            print(f"error: {event.data['message']}", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Nothing to do."""
