"""How far a transfer is: one record for each change of one layer, or of the whole (`id` "")."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Literal

from engine.frozen import frozen

TransferState = Literal[
    "resolving",
    "exists",
    "waiting",
    "downloading",
    "compressing",
    "uploading",
    "mounted",
    "retrying",
    "done",
    "warning",
]

_INTERVAL_S = 0.1


@frozen
class Transfer:
    """The state of one layer (`id`: twelve digits of its digest). `done` and `total` are bytes; `message` is for people."""

    id: str
    state: TransferState
    done: int = 0
    total: int = 0
    message: str = ""


Progress = Callable[[Transfer], None]


class Reporter:
    """Hands transfers on, one at a time and from any thread; growing byte counts at most ten times a second for each layer."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._lock = threading.Lock()
        self._told: dict[str, tuple[TransferState, float]] = {}

    def __call__(self, id: str, state: TransferState, done: int = 0, total: int = 0, message: str = "") -> None:
        if self._progress is None:
            return
        now = time.monotonic()
        with self._lock:
            before, when = self._told.get(id, ("", 0.0))
            if state == before and not message and done != total and now - when < _INTERVAL_S:
                return
            self._told[id] = (state, now)
            self._progress(Transfer(id, state, done, total, message))


def short(digest: str) -> str:
    """A digest as people are shown it."""
    return digest.removeprefix("sha256:")[:12]
