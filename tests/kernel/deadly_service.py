"""A monitor service in whose acquisition the monitor dies, as if killed."""

from __future__ import annotations

import os
import signal
from typing import Any


class Deadly:
    def acquire(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def ports(self) -> list[dict[str, Any]]:
        return []

    def release(self) -> None:
        pass


def create(config: dict[str, Any], host: object) -> Deadly:
    return Deadly()
