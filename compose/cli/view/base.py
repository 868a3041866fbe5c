"""What a view is: something that takes events from any thread until it is closed."""

from __future__ import annotations

import sys
from collections.abc import Collection
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from engine.events import Event


class View(Protocol):
    """Shows what happens, on stderr."""

    def sink(self, event: Event) -> None:
        """Take one event. Must not raise; may be called from many threads."""

    def close(self) -> None:
        """Show what is still to be shown and leave the terminal as it was. Safe to call twice."""


class Muted:
    """Another view that is not told of some kinds of events, but for what warns of something or fails."""

    def __init__(self, view: View, kinds: Collection[str]) -> None:
        self._view = view
        self._kinds = kinds

    def sink(self, event: Event) -> None:
        """Pass it on, or not."""
        if event.kind not in self._kinds or event.state in ("warning", "error", "step warning"):
            self._view.sink(event)

    def close(self) -> None:
        """Close the other one."""
        self._view.close()


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
