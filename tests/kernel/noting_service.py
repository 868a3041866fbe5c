"""A monitor service that writes down what is asked of it."""

from __future__ import annotations

from typing import Any

from engine.runtime.services import ServiceError


class Noting:
    def __init__(self, config: dict[str, Any]) -> None:
        self._config = config

    def _note(self, what: str) -> None:
        with open(self._config["journal"], "a") as file:
            file.write(f"{what}\n")

    def acquire(self) -> None:
        if refusal := self._config.get("refuse"):
            raise ServiceError("conflict", refusal, "stop what holds it")
        self._note("acquired")

    def ports(self) -> list[dict[str, Any]]:
        return [{"host_port": 1}]

    def release(self) -> None:
        self._note("released")


def create(config: dict[str, Any], host: object) -> Noting:
    return Noting(config)
