"""A container as `docker compose ps` shows it: one row of a table, or one JSON object with keys in alphabetical order."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

from compose import labels
from compose.cli.view.table import columns
from engine.types import ContainerInfo, ContainerStatus, PublishedPort

COMMAND_WIDTH = 20
MOUNT_WIDTH = 15
HEADINGS = {
    "NAME": "Name",
    "IMAGE": "Image",
    "COMMAND": "Command",
    "SERVICE": "Service",
    "CREATED": "RunningFor",
    "STATUS": "Status",
    "PORTS": "Ports",
}
"""Heading → the field of a `record` that stands below it."""


def table(containers: Sequence[ContainerInfo], *, full: bool = False) -> list[str]:
    """The lines of the table, the heading first."""
    now = time.time()
    rows = [tuple(HEADINGS)]
    for container in containers:
        rows.append(
            (
                container.name,
                container.spec.image,
                command(container, full=full),
                container.labels.get(labels.SERVICE, ""),
                ago(now - container.created_at),
                status(container.status, now),
                ports(container.ports),
            )
        )
    return columns(rows)


def record(container: ContainerInfo, project: str, *, full: bool = False) -> dict[str, Any]:
    """What `ps --format json` and templates show of a container; with `full` nothing is shortened."""
    now = time.time()
    health = container.status.health
    named = [mount for mount in container.spec.mounts if mount.type != "tmpfs"]
    return {
        "Command": command(container, full=full),
        "CreatedAt": time.strftime("%Y-%m-%d %H:%M:%S +0000 UTC", time.gmtime(container.created_at)),
        "ExitCode": container.status.exit_code if container.status.state not in ("running", "created") else 0,
        "Health": health.state if health and health.state != "none" else "",
        "ID": container.id if full else container.id[:12],
        "Image": container.spec.image,
        "Labels": ",".join(f"{key}={value}" for key, value in container.labels.items()),
        "LocalVolumes": str(len(container.volumes)),
        "Mounts": ",".join(
            shortened(container.volumes.get(mount.target, mount.source), MOUNT_WIDTH, full=full) for mount in named
        ),
        "Name": container.name,
        "Names": container.name,
        "Networks": ",".join(endpoint.network for endpoint in container.endpoints),
        "Ports": ports(container.ports),
        "Project": project,
        "Publishers": [publisher(port) for port in container.ports],
        "RunningFor": ago(now - container.created_at),
        "Service": container.labels.get(labels.SERVICE, ""),
        "Size": "0B",
        "State": container.status.state,
        "Status": status(container.status, now),
    }


def publisher(port: PublishedPort) -> dict[str, Any]:
    """One entry of `Publishers`."""
    return {
        "URL": port.host_ip or "0.0.0.0",
        "TargetPort": port.container_port,
        "PublishedPort": port.host_port,
        "Protocol": port.protocol,
    }


def command(container: ContainerInfo, *, full: bool = False) -> str:
    """The command in double quotes, cut to twenty characters; words that hold a space are in single ones, as Docker has them."""
    path, *words = container.argv or ("",)
    text = " ".join([path, *(f"'{word}'" if " " in word else word for word in words)])
    return json.dumps(shortened(text, COMMAND_WIDTH, full=full), ensure_ascii=False)


def shortened(text: str, width: int, *, full: bool = False) -> str:
    """The text, cut to so many characters and an ellipsis; whole with `full`."""
    return text if full or len(text) <= width else text[: width - 1] + "…"


def ports(published: Sequence[PublishedPort]) -> str:
    """`0.0.0.0:8080->80/tcp, …`."""
    shown = [f"{_host(port.host_ip)}:{port.host_port}->{port.container_port}/{port.protocol}" for port in published]
    return ", ".join(dict.fromkeys(shown))


def status(found: ContainerStatus, now: float) -> str:
    """`Up 3 seconds (health: starting)`, `Exited (0) 2 minutes ago`, `Created`."""
    if found.state == "created":
        return "Created"
    code = 0 if found.exit_code is None else found.exit_code
    if found.state == "restarting":
        return f"Restarting ({code}) {ago(now - found.finished_at)}"
    if found.state in ("exited", "dead"):
        return f"Exited ({code}) {ago(now - found.finished_at)}" if found.state == "exited" else "Dead"
    up = f"Up {duration(now - found.started_at)}"
    if found.state == "paused":
        return f"{up} (Paused)"
    if found.health and found.health.state != "none":
        return f"{up} ({'health: starting' if found.health.state == 'starting' else found.health.state})"
    return up


def ago(seconds: float) -> str:
    """`3 seconds ago`."""
    return f"{duration(seconds)} ago"


def duration(seconds: float) -> str:
    """A length of time in the words of Docker (go-units, HumanDuration)."""
    whole = int(seconds)
    if whole < 1:
        return "Less than a second"
    if whole == 1:
        return "1 second"
    if whole < 60:
        return f"{whole} seconds"
    minutes = whole // 60
    if minutes == 1:
        return "About a minute"
    if minutes < 60:
        return f"{minutes} minutes"
    hours = int(seconds / 3600 + 0.5)
    if hours == 1:
        return "About an hour"
    for unit, length, bound in (
        ("hours", 1, 48),
        ("days", 24, 24 * 14),
        ("weeks", 24 * 7, 24 * 60),
        ("months", 24 * 30, 24 * 365 * 2),
    ):
        if hours < bound:
            return f"{hours // length} {unit}"
    return f"{hours // (24 * 365)} years"


def _host(address: str) -> str:
    if not address:
        return "0.0.0.0"
    return f"[{address}]" if ":" in address else address
