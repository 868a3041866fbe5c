"""What a build tells while it runs."""

from __future__ import annotations

from typing import Literal

from engine.frozen import frozen

BuildEventKind = Literal["started", "output", "cached", "done", "failed", "warning", "pulling", "transfer", "pulled"]


@frozen
class BuildEvent:
    """One piece of news about step `step` of `steps` in `stage`.

    `text` is the step as written (or the warning), `place` its `file:line:column`. `seconds` counts for done and failed,
    `output` (bytes as the command wrote them) for output only. Events of different stages interleave. A base image that is fetched
    is `pulling`, then `transfer` some times a second, then `pulled` with its `seconds`; its text is all there is to it.
    """

    kind: BuildEventKind
    stage: str
    step: int
    steps: int
    text: str
    place: str
    seconds: float = 0.0
    output: bytes = b""
