"""Every event as one JSON object a line, for programs."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from engine.events import Event


class JsonLines:
    """Writes the versioned stream: `{"v":1,"ts":…,"seq":…,"kind":…}`."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()
        self._seq = 0

    def sink(self, event: Event) -> None:
        """Write one line."""
        with self._lock:
            self._seq += 1
            self._stream.write(json.dumps(event.record(self._seq), ensure_ascii=False, default=str) + "\n")
            self._stream.flush()

    def close(self) -> None:
        """Nothing is held back."""
