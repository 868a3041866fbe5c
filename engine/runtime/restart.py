"""When to start a container's init again, and after how long. Pure: no clock, no process."""

from __future__ import annotations

FIRST_DELAY_S = 0.1
LAST_DELAY_S = 60.0
RESET_AFTER_S = 10.0


class Restarter:
    """Decides for one container. The delay doubles from 100 ms to one minute, and starts anew after 10 s up.

    `on-failure` restarts after a non-zero exit, at most `max_retries` times (0: no bound).
    """

    __slots__ = ("count", "max_retries", "name", "next_delay_s", "stopped")

    def __init__(self, name: str, max_retries: int = 0, *, count: int = 0) -> None:
        self.name = name
        self.max_retries = max_retries
        self.count = count
        self.next_delay_s = FIRST_DELAY_S
        self.stopped = False

    def stop(self) -> None:
        """Never restart again: someone asked the container to end."""
        self.stopped = True

    def after_exit(self, exit_code: int, ran_s: float) -> float | None:
        """The delay before the next start, or None when there is none. Counts the restart."""
        if not self._wanted(exit_code):
            return None
        if ran_s >= RESET_AFTER_S:
            self.next_delay_s = FIRST_DELAY_S
        delay = self.next_delay_s
        self.next_delay_s = min(delay * 2, LAST_DELAY_S)
        self.count += 1
        return delay

    def _wanted(self, exit_code: int) -> bool:
        if self.stopped or self.name == "no":
            return False
        if self.name == "on-failure":
            return exit_code != 0 and (not self.max_retries or self.count < self.max_retries)
        return self.name in ("always", "unless-stopped")
