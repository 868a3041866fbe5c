"""Docker's own engine and client in the place of umiak's, so that the scenarios tell whether they are right about Compose.

    UMIAK_TEST_COMPOSE=path/to/docker-compose DOCKER_HOST=unix://… pytest tests/scenarios

A test that uses a command or an option of umiak's own is skipped, and says so; one that is about umiak in another way carries
`@pytest.mark.umiak("why")`.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from compose.cli.commands import GLOBAL
from compose.cli.options import parse
from tests.images import busybox_rootfs_tar
from tests.stack import Host

OPTIONS: dict[str, dict[str, Any]] = json.loads((Path(__file__).parent / "options.json").read_text())
"""Command → Docker Compose's options of it."""


class DockerHost(Host):
    """A dockerd, reached as DOCKER_HOST says, with `docker compose` in the place of `umiak`."""

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """The environment for a command: nothing of the caller's Compose settings but which dockerd."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith("COMPOSE_")}
        return {**kept, "NO_COLOR": "1", "TERM": "dumb", **(extra or {})}

    def check(self, arguments: Sequence[str]) -> None:
        """Skip the test where Docker Compose has no such command or option."""
        options = parse(GLOBAL, list(arguments))
        name, *words = options.words or [""]
        if name not in OPTIONS:
            pytest.skip(f"{name} is a command of umiak's own")
        for word in words if name not in ("run", "exec") else ():
            if word.startswith("--") and (own := word.partition("=")[0]) not in OPTIONS[name]:
                pytest.skip(f"{name} {own} is an option of umiak's own")

    def import_busybox(self, reference: str) -> None:
        """Have the small image."""
        tar = busybox_rootfs_tar(self.base / "busybox.tar")
        subprocess.run(["docker", "import", tar, reference], check=True, capture_output=True)

    def bootstrap(self, reference: str) -> None:
        """Skip: it is umiak that makes a Debian image."""
        pytest.skip(f"{reference} is made by umiak")

    def status(self, container_id: str) -> dict[str, Any]:
        """What dockerd knows of a container, in the words of umiak's status file."""
        done = subprocess.run(["docker", "inspect", container_id], check=True, capture_output=True, text=True)
        [inspected] = json.loads(done.stdout)
        state, health = inspected["State"], inspected["State"].get("Health")
        return {
            "state": state["Status"],
            "pid": state["Pid"],
            "exit_code": state["ExitCode"],
            "started_at": _seconds(state["StartedAt"]),
            "finished_at": _seconds(state["FinishedAt"]),
            "oom_killed": state["OOMKilled"],
            "restart_count": inspected["RestartCount"],
            "health": health and _health(health),
        }


def _health(health: Mapping[str, Any]) -> dict[str, Any]:
    log = [{"exit_code": one["ExitCode"], "output": one["Output"]} for one in health.get("Log") or ()]
    return {"state": health["Status"], "failing_streak": health["FailingStreak"], "log": log}


def _seconds(text: str) -> float:
    """RFC 3339 with nanoseconds as seconds since 1970; Docker's zero time is 0."""
    if text.startswith("0001"):
        return 0.0
    whole, _, fraction = text.removesuffix("Z").partition(".")
    return datetime.fromisoformat(f"{whole}+00:00").timestamp() + float(f"0.{fraction or 0}")
