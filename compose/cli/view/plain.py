"""One line for each change, as Docker Compose prints them: ` Container shop-web-1  Started  0.03s`. For pipes, files and CI."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from engine.events import Event

STILL_WAITING_S = 10.0

NOUNS = {
    "container": "Container",
    "network": "Network",
    "volume": "Volume",
    "build": "Image",
    "pull": "Image",
    "push": "Image",
    "provider": "Service",
    "delay": "Service",
}
"""Kind of event → what Docker Compose calls the thing."""


class Plain:
    """Prints changes, never ticks; every ten seconds of silence one line that says what is waited for."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()
        self._waiting: dict[str, str] = {}
        self._quiet_since = time.monotonic()
        self._closed = threading.Event()
        self._ticker: threading.Thread | None = None

    def sink(self, event: Event) -> None:
        """Print one line, if the event is a change."""
        with self._lock:
            self._note_waiting(event)
            line = line_of(event)
            if line:
                self._print(line)

    def close(self) -> None:
        """Stop saying what is waited for."""
        self._closed.set()

    def _print(self, line: str) -> None:
        self._quiet_since = time.monotonic()
        try:
            self._stream.write(line + "\n")
            self._stream.flush()
        except (OSError, ValueError):
            return  # nobody reads progress any more; the work goes on

    def _note_waiting(self, event: Event) -> None:
        if event.kind == "probe" and event.name in self._waiting:
            output = str(event.data["probe"]["output"]).strip().split("\n")[-1]
            self._waiting[event.name] = f"{event.name} (probe {event.data['number']}: {output or 'no output'})"
        elif event.kind == "container" and event.state == "waiting":
            self._waiting[event.name] = event.name
            if self._ticker is None:
                self._ticker = threading.Thread(target=self._tick, daemon=True)
                self._ticker.start()
        elif event.kind == "container":
            self._waiting.pop(event.name, None)

    def _tick(self) -> None:
        while not self._closed.wait(1.0):
            with self._lock:
                if self._waiting and time.monotonic() - self._quiet_since >= STILL_WAITING_S:
                    self._print(f"still waiting: {', '.join(self._waiting.values())}")


def line_of(event: Event) -> str:
    """The line for an event, or "" where there is nothing to say."""
    message = str(event.data.get("message", ""))
    if event.state == "warning":
        return f"warning: {message}"
    if event.kind == "watch":
        return f"error: {message}" if event.state == "error" else message
    if event.kind == "build" and event.state.startswith("step "):
        return _build_line(event)
    if event.kind in ("pull", "push") and event.state.startswith("step "):
        return f" Image {event.name}  {event.data['text']}" if event.state == "step retrying" else ""
    if event.kind not in NOUNS or not event.state or event.state == "prepared":
        return ""
    seconds = event.data.get("seconds")
    parts = [f" {NOUNS[event.kind]} {event.name}", event.state.capitalize()]
    if seconds is not None:
        parts.append(f"{seconds:.2f}s")
    if message:
        parts.append(message)
    return "  ".join(parts)


def _base_image_line(event: Event, what: str) -> str:
    """The line for a base image that a build fetches; how far it is makes no line."""
    took = f"  {event.data['seconds']:.2f}s" if what == "pulled" else ""
    return "" if what == "transfer" else f" Image {event.name}  {event.data['text']}{took}"


def _build_line(event: Event) -> str:
    what = event.state.removeprefix("step ")
    if what == "warning":
        return f"warning: {event.data['text']}"
    if what in ("pulling", "transfer", "pulled"):
        return _base_image_line(event, what)
    stage = f"{event.data['stage']} " if event.data.get("stage") else ""
    prefix = f" Image {event.name}  [{stage}{event.data['step']}/{event.data['steps']}]"
    if what == "output":
        text = str(event.data.get("output", "")).rstrip("\n")
        return "\n".join(f"{prefix} | {line}" for line in text.split("\n"))
    if what == "done":
        return f"{prefix} done  {event.data['seconds']:.2f}s"
    word = {"started": "", "cached": "CACHED ", "failed": "FAILED "}.get(what, "")
    return f"{prefix} {word}{event.data['text']}"
