"""`up` in the foreground: what containers write, merged, until all have ended; Ctrl-C stops them, twice kills them."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from compose import labels
from compose.cli import signals
from compose.cli.context import short_name
from compose.cli.view.lines import LinePrinter
from compose.output import Ended, Follower, Interrupted, Line, Span
from engine.errors import UmiakError

if TYPE_CHECKING:
    from compose.orchestrator import Orchestrator
    from engine.types import ContainerInfo


@dataclass(frozen=True, slots=True)
class Ending:
    """When one container's end ends all, and whose exit code counts."""

    on_exit: bool = False
    on_failure: bool = False
    code_from: str | None = None


class Attachment:
    """Follows a project's containers and stops them together."""

    def __init__(
        self,
        orchestrator: Orchestrator,
        project: str,
        services: Sequence[str],
        ending: Ending,
        *,
        timeout_s: float | None,
        shown: Sequence[str] = (),
        hidden: Sequence[str] = (),
        prefix: bool = True,
        timestamps: bool = False,
        colour: bool = True,
    ) -> None:
        self._orchestrator = orchestrator
        self._project = project
        self._ending = ending
        self._timeout_s = timeout_s
        found = orchestrator.containers(project, stopped=True)
        self._containers = {c.name: c for c in found if not services or self._is_of(c, services)}
        self._shown = {name for name, c in self._containers.items() if not shown or self._is_of(c, shown)}
        self._shown -= {name for name, c in self._containers.items() if self._is_of(c, hidden)}
        names = {name: short_name(container) for name, container in self._containers.items()}
        self._printer = LinePrinter(names, prefix=prefix, timestamps=timestamps, colour=colour)
        self._codes: dict[str, int] = {}
        self._first_code: int | None = None
        self._stopping = False
        self._interrupted = 0

    def run(self, *, since: float) -> int:
        """Show what was written since then, until all containers have ended; return the exit code."""
        follower = Follower(self._orchestrator.engine)
        names = ", ".join(short_name(self._containers[name]) for name in sorted(self._shown))
        print(f"Attaching to {names}", flush=True)
        for container in self._containers.values():
            follower.follow(container, Span(since=since))
        # The handler only leaves a note in the queue (SimpleQueue.put is reentrant), so that no line is lost to an exception.
        with signals.on_interrupt(lambda: follower.post(Interrupted())):
            for item in follower:
                self._take(item)
        return self._exit_code()

    def _take(self, item: Line | Ended | Interrupted) -> None:
        if isinstance(item, Interrupted):
            self._interrupt()
        elif isinstance(item, Ended):
            self._take_end(item)
        elif item.container in self._shown:
            self._printer.print(item)

    def _take_end(self, ended: Ended) -> None:
        code = -1 if ended.exit_code is None else ended.exit_code
        self._codes[ended.container] = code
        print(f"{short_name(self._containers[ended.container])} exited with code {code}", flush=True)
        if self._stopping or not (self._ending.on_exit or (self._ending.on_failure and code != 0)):
            return
        self._first_code = code
        if len(self._codes) < len(self._containers):
            print("Aborting on container exit...", flush=True)
        self._stop()

    def _interrupt(self) -> None:
        self._interrupted += 1
        if self._interrupted == 1:
            print("Gracefully stopping... (press Ctrl+C again to force)", file=sys.stderr, flush=True)
            self._stop()
        else:
            self._kill()

    def _stop(self) -> None:
        self._stopping = True
        services = self._services()
        self._in_background(lambda: self._orchestrator.stop(self._project, services, timeout_s=self._timeout_s))

    def _kill(self) -> None:
        self._in_background(lambda: self._orchestrator.kill(self._project, self._services()))

    def _in_background(self, act: Callable[[], object]) -> None:
        """Act while output goes on being shown; a failure is told and ends nothing."""

        def run() -> None:
            try:
                act()
            except UmiakError as error:
                print(f"error: {error}", file=sys.stderr)

        threading.Thread(target=run, daemon=True).start()

    def _services(self) -> list[str]:
        return sorted({container.labels.get(labels.SERVICE, "") for container in self._containers.values()})

    def _exit_code(self) -> int:
        if self._interrupted:
            return 130
        if self._ending.code_from:
            codes = [
                code
                for name, code in self._codes.items()
                if self._is_of(self._containers[name], [self._ending.code_from])
            ]
            return next((code for code in codes if code), codes[0] if codes else 1)
        return self._first_code or 0

    @staticmethod
    def _is_of(container: ContainerInfo, services: Sequence[str]) -> bool:
        return container.labels.get(labels.SERVICE) in services
