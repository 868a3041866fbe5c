"""What goes wrong with a registry, told apart by whether trying again can help; and the trying."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from engine.errors import TimedOut, UmiakError, Unavailable
from engine.images.parallel import Cancelled
from engine.images.registry.settings import Settings

NO_REGISTRY_HINT = (
    "without a registry: `umiak image bootstrap debian:bookworm-slim` makes a Debian base,"
    " `umiak image load` takes an archive, `umiak build` builds; proxies are read from HTTPS_PROXY and NO_PROXY"
)

_SLOWEST_BYTES_PER_S = 64

T = TypeVar("T")


class Unreachable(Unavailable):
    """No connection could be made at all: no such host, nobody listening, no route, an untrusted certificate."""


class NotTls(Unreachable):
    """Something listens that does not speak TLS."""


class Broken(Unavailable):
    """A connection that ended early, or a server that could not answer now. Trying again may help."""


class Throttled(Unavailable):
    """The registry asks for patience (429). `retry_after_s` is how much, where it says so."""

    def __init__(self, message: str, *, retry_after_s: float | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.retry_after_s = retry_after_s


class Stalled(TimedOut):
    """A connection over which nothing came for too long. Trying again may help."""


class Pace:
    """Notices a server that sends, but so little that it might as well have stalled."""

    def __init__(self, host: str, timeout_s: float, position: int = 0) -> None:
        self._host = host
        self._timeout_s = timeout_s
        self._window = (time.monotonic(), position)

    def at(self, position: int) -> None:
        """Take note of how many bytes have come. Raise Stalled where they were too few for too long."""
        now, (since, before) = time.monotonic(), self._window
        if now - since <= self._timeout_s:
            return
        if position - before < _SLOWEST_BYTES_PER_S * (now - since):
            raise Stalled(f"{self._host} hardly sends anything")
        self._window = (now, position)


PASSING = (Broken, Throttled, Stalled)
"""What may be different next time."""


class Patience:
    """How often and how long to try again; shared by all parts of one transfer, so that `cancel()` ends all of them."""

    def __init__(self, settings: Settings, told: Callable[[str], None]) -> None:
        self._settings = settings
        self._told = told
        self._cancelled = threading.Event()
        self._watched: set[Callable[[], None]] = set()
        self._lock = threading.Lock()

    def cancel(self) -> None:
        """Let everything that waits or tries again end."""
        self._cancelled.set()
        with self._lock:
            watched = tuple(self._watched)
        for stop in watched:
            stop()

    @contextmanager
    def watching(self, stop: Callable[[], None]) -> Iterator[None]:
        """Within the block `cancel()` calls `stop`, which ends what the block waits for."""
        with self._lock:
            self._watched.add(stop)
        try:
            yield
        finally:
            with self._lock:
                self._watched.discard(stop)

    def check(self) -> None:
        """Raise Cancelled where the transfer was given up."""
        if self._cancelled.is_set():
            raise Cancelled("given up")

    def retry(self, act: Callable[[], T]) -> T:
        """Do something until it succeeds, fails for good, or has failed too often."""
        attempt = 0
        while True:
            self.check()
            try:
                return act()
            except PASSING as error:
                attempt += 1
                self.wait(error, attempt)

    def wait(self, error: UmiakError, attempt: int) -> None:
        """Wait before another attempt after `attempt` failed ones; raise the error where there is to be none."""
        pause_s = getattr(error, "retry_after_s", None)
        if pause_s is None:
            pause_s = self._settings.backoff_s * 2 ** (attempt - 1) * random.uniform(0.75, 1.25)
        if attempt >= self._settings.attempts or pause_s > self._settings.longest_wait_s:
            raise error
        self._told(f"{error.message}; trying again in {pause_s:.1f} s")
        self._cancelled.wait(pause_s)
        self.check()
