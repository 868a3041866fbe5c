"""Between stored JSON and the engine's types."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from engine.errors import InvalidInput
from engine.types import (
    RUNNING,
    ContainerSpec,
    ContainerStatus,
    DeviceLimit,
    EndpointRequest,
    Health,
    Healthcheck,
    LogOptions,
    Mount,
    PortBinding,
    ProbeResult,
    PublishedPort,
    Resources,
    RestartPolicy,
    Ulimit,
)

NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+")


def check_container_name(name: str) -> None:
    """Raise InvalidInput unless Docker would accept the name."""
    if not NAME.fullmatch(name):
        raise InvalidInput(
            f'invalid container name "{name}"',
            hint='use letters, digits, "_", "." and "-", at least two, not starting with a sign',
        )


def container_spec(data: Mapping[str, Any]) -> ContainerSpec:
    """A specification as it was recorded with `dataclasses.asdict`."""
    fields: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in data.items()}
    fields["restart"] = RestartPolicy(**data["restart"])
    limits = tuple(DeviceLimit(**limit) for limit in data["resources"].get("block_io_devices", ()))
    fields["resources"] = Resources(**{**data["resources"], "block_io_devices": limits})
    fields["log"] = LogOptions(**data["log"])
    if data["healthcheck"] is not None:
        test = data["healthcheck"]["test"]
        fields["healthcheck"] = Healthcheck(**{**data["healthcheck"], "test": None if test is None else tuple(test)})
    fields["mounts"] = tuple(Mount(**mount) for mount in data["mounts"])
    fields["ulimits"] = tuple(Ulimit(**limit) for limit in data["ulimits"])
    fields["ports"] = tuple(PortBinding(**port) for port in data["ports"])
    fields["networks"] = tuple(
        EndpointRequest(**{**request, "aliases": tuple(request["aliases"])}) for request in data["networks"]
    )
    return ContainerSpec(**fields)


def container_status(data: Mapping[str, Any]) -> ContainerStatus:
    """A status as the monitor writes it."""
    return ContainerStatus(
        state=data["state"],
        pid=data["pid"] if data["state"] in ("running", "paused") else 0,
        started_at=data["started_at"],
        finished_at=data["finished_at"],
        exit_code=data["exit_code"],
        oom_killed=data["oom_killed"],
        error=data["error"],
        restart_count=data["restart_count"],
        health=_health(data.get("health")),
    )


def _health(data: Mapping[str, Any] | None) -> Health | None:
    if data is None:
        return None
    log = tuple(ProbeResult(probe["start"], probe["end"], probe["exit_code"], probe["output"]) for probe in data["log"])
    return Health(data["state"], data["failing_streak"], log)


def published_ports(data: Mapping[str, Any]) -> tuple[PublishedPort, ...]:
    """The ports that a running container's monitor reports as published."""
    if data["state"] not in RUNNING:
        return ()
    return tuple(
        PublishedPort(port["host_ip"], port["host_port"], port["container_port"], port["protocol"])
        for port in data.get("ports", ())
    )
