"""Every event as one JSON object a line, for programs."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, TextIO

from compose.cli.view.plain import NOUNS

if TYPE_CHECKING:
    from engine.events import Event


class JsonLines:
    """Writes the versioned stream: `{"v":1,"ts":…,"seq":…,"kind":…}`.

    What Docker Compose tells too has its two keys: `"id":"Container shop-web-1","status":"Started"`.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()
        self._seq = 0

    def sink(self, event: Event) -> None:
        """Write one line."""
        with self._lock:
            self._seq += 1
            record = event.record(self._seq) | dockers(event)
            self._stream.write(json.dumps(record, ensure_ascii=False, default=str) + "\n")
            self._stream.flush()

    def close(self) -> None:
        """Nothing is held back."""


def dockers(event: Event) -> dict[str, str]:
    """An event in the keys of Docker Compose's own stream, or nothing where that has no such event."""
    if event.kind not in NOUNS or not event.state or event.state.startswith(("step ", "warning")):
        return {}
    return {"id": f"{NOUNS[event.kind]} {event.name}", "status": event.state.capitalize()}
