"""Giving up a build from another thread: Ctrl-C in the front end, or a stage that failed beside others."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol, runtime_checkable

from engine.errors import UmiakError


class Cancelled(UmiakError):
    """The build was given up. Nothing of the unfinished step is left."""


@runtime_checkable
class Stoppable(Protocol):
    """A `BuildRunner` whose running commands another thread can end."""

    def stop(self) -> None:
        """End them for good: their calls return an exit code soon, and so do calls that come later."""


class Cancellation:
    """A switch that is thrown once. What was registered is called when it is thrown, or at once if it has been."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thrown = False
        self._callbacks: list[Callable[[], None]] = []

    def cancel(self) -> None:
        """Throw the switch, from any thread. Doing it again does nothing."""
        with self._lock:
            callbacks = [] if self._thrown else self._callbacks
            self._thrown = True
        for callback in callbacks:
            callback()

    def on_cancel(self, callback: Callable[[], None]) -> None:
        """Have a function called, in the thread that cancels."""
        with self._lock:
            self._callbacks.append(callback)
            thrown = self._thrown
        if thrown:
            callback()

    def check(self) -> None:
        """Raise Cancelled if the switch was thrown."""
        if self._thrown:
            raise Cancelled("the build was cancelled")
