"""A project in a temporary directory on a fake engine: write the file, plan, bring it up."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

from compose.desired import Desired
from compose.orchestrator import Orchestrator
from compose.plan import Plan
from compose.spec.discover import LoadOptions
from compose.spec.load import load
from compose.verdicts import UpOptions
from engine.events import Event
from tests.unit.compose.fake_engine import FakeEngine


class FakeStack:
    """`events` are those told since it was made; `calls` what the engine was asked to do in the last `up` or `down`."""

    def __init__(self, directory: Path, engine: FakeEngine | None = None) -> None:
        self.directory = directory
        self.engine = engine or FakeEngine(str(directory))
        self.events: list[Event] = []
        self.orchestrator = Orchestrator(self.engine, self.events.append)  # type: ignore[arg-type]

    def write(self, text: str) -> FakeStack:
        (self.directory / "compose.yaml").write_text(textwrap.dedent(text))
        return self

    def edit(self, old: str, new: str) -> FakeStack:
        path = self.directory / "compose.yaml"
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))
        return self

    def desired(self, **given: Any) -> Desired:
        path = str(self.directory / "compose.yaml")
        options = LoadOptions(files=(path,), project_name="p", environment={}, **given)
        return self.orchestrator.desired(load(options))

    def plan(self, *services: str, **options: Any) -> Plan:
        return self.orchestrator.plan(self.desired(), UpOptions(services=services, **options))

    def up(self, *services: str, wait_timeout_s: float | None = 5.0, **options: Any) -> Plan:
        self.engine.calls.clear()
        return self.orchestrator.up(
            self.desired(), UpOptions(services=services, **options), wait_timeout_s=wait_timeout_s
        )

    def down(self, **options: Any) -> Plan:
        self.engine.calls.clear()
        return self.orchestrator.down("p", **options)

    def states(self) -> dict[str, str]:
        return {container.name: container.status.state for container in self.engine.containers()}

    def told(self) -> list[str]:
        """`name state` for each event about containers, networks and volumes."""
        return [f"{e.name} {e.state}" for e in self.events if e.kind in ("container", "network", "volume")]


def steps(plan: Plan) -> list[str]:
    """A plan as lines of text."""
    return str(plan).splitlines()
