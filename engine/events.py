"""Everything that happens, as one versioned stream of records. Terminal, plain and JSON outputs are renderers of it.

A sink takes events from any thread and must not raise. The set of kinds is closed: a reader may switch over it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

if TYPE_CHECKING:
    from engine.state import State

VERSION = 1

Kind = Literal[
    "plan",
    "pull",
    "build",
    "network",
    "volume",
    "container",
    "probe",
    "health",
    "log",
    "exit",
    "restart",
    "watch",
    "error",
    "summary",
]
KINDS: frozenset[str] = frozenset(get_args(Kind))


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened to one subject.

    `name` is what the subject is called (a container, network, volume or image); `state` is its new state in Compose's
    words (`creating`, `created`, `healthy`, `exited`…); `data` holds what only this kind has, ready for JSON.
    """

    kind: Kind
    state: str = ""
    name: str = ""
    project: str = ""
    service: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)
    time: float = field(default_factory=time.time)

    def record(self, seq: int) -> dict[str, Any]:
        """The event as one object of the JSON stream; `seq` is its position there."""
        fixed: dict[str, Any] = {"v": VERSION, "ts": round(self.time, 6), "seq": seq, "kind": self.kind}
        named = {"project": self.project, "service": self.service, self._name_key: self.name, "state": self.state}
        return fixed | {key: value for key, value in named.items() if value} | dict(self.data)

    @property
    def _name_key(self) -> str:
        """The key that `name` gets in JSON: what the subject is."""
        if self.kind in ("network", "volume"):
            return self.kind
        return "image" if self.kind in ("build", "pull") else "container"


Sink = Callable[[Event], None]


def discard(_event: Event) -> None:
    """A sink that forgets everything."""


def append(state: State, event: Event) -> None:
    """Add an event to the engine's own record, where `umiak events` finds it."""
    data = event.record(0)
    for key in ("v", "ts", "seq", "kind"):
        del data[key]
    state.execute(
        "INSERT INTO events (time, kind, data) VALUES (?, ?, ?)",
        (event.time, event.kind, json.dumps(data, separators=(",", ":"))),
    )
