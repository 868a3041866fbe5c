"""`up` in the foreground: what containers write, merged, until all have ended; Ctrl-C stops them, twice kills them."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from compose import labels
from compose.cli import signals
from compose.cli.context import short_name
from compose.cli.view.lines import LinePrinter, Style
from compose.output import Ended, Follower, Interrupted, Renewed, Span
from engine.errors import UmiakError

if TYPE_CHECKING:
    from compose.orchestrator import Orchestrator
    from compose.watch import Watcher

_GRACEFULLY = "Gracefully stopping... (press Ctrl+C again to force)"


@dataclass(frozen=True, slots=True)
class Ending:
    """When one container's end ends all, whose exit code counts, and how long stopping may take."""

    on_exit: bool = False
    on_failure: bool = False
    code_from: str | None = None
    timeout_s: float | None = None


class Attachment:
    """Follows the containers of services and stops them together.

    `follows` names the services whose end is waited for (none: all), `stops` those that are stopped at the end; of what is
    followed, `shows` (none: all) but not `hides` is shown. `spares` names the services that others wait for to complete: their
    successful end ends nothing. With a `watcher` it goes on until interrupted.
    """

    def __init__(
        self,
        orchestrator: Orchestrator,
        project: str,
        *,
        stops: Collection[str],
        follows: Collection[str],
        shows: Collection[str],
        hides: Collection[str],
        spares: Collection[str] = (),
        ending: Ending,
        style: Style,
        watcher: Watcher | None = None,
    ) -> None:
        self._orchestrator = orchestrator
        self._project = project
        self._stops = stops
        self._follows = follows
        self._shows = shows
        self._hides = hides
        self._spares = spares
        self._ending = ending
        self._style = style
        self._watcher = watcher
        self._services: dict[str, str] = {}
        self._names: dict[str, str] = {}
        self._followed: set[str] = set()
        self._codes: dict[str, int] = {}
        self._first_code: int | None = None
        self._stopping = False
        self._interrupts: list[int] = []

    def run(self, *, since: float) -> int:
        """Show what is written from then on, until all followed containers have ended; return the exit code."""
        found = self._orchestrator.containers(self._project, stopped=True)
        followed = [c for c in found if not self._follows or c.labels.get(labels.SERVICE) in self._follows]
        self._services = {container.name: container.labels.get(labels.SERVICE, "") for container in followed}
        self._names = {container.name: short_name(container) for container in followed}
        shown = [name for name, service in self._services.items() if self._is_shown(service)]
        printer = LinePrinter(self._names, self._style)
        print(f"Attaching to {', '.join(self._names[name] for name in shown)}", flush=True)
        follower = Follower(self._orchestrator.engine)
        for container in followed:
            self._followed.add(container.id)
            follower.follow(container, Span(since=since))
        if self._watcher is not None:
            self._watch(self._watcher, follower)
        # The handler only leaves a note in the queue (SimpleQueue.put is reentrant), so that no line is lost to an exception.
        with signals.on_interrupt(lambda number: follower.post(Interrupted(number))):
            for item in follower:
                if isinstance(item, Interrupted):
                    self._interrupt(item.number)
                elif isinstance(item, Ended):
                    self._take_end(item)
                    self._followed.discard(item.id)
                    self._follow_again(follower, self._services[item.container], since)
                elif isinstance(item, Renewed):
                    self._follow_again(follower, item.service, since)
                elif item.container in shown:
                    printer.print(item)
        return self._exit_code()

    def stop_all(self) -> None:
        """Stop what `up` was about, at once; for an `up` that was interrupted before it could follow anything. Another signal kills."""
        print(_GRACEFULLY, file=sys.stderr, flush=True)
        try:
            if self._to_stop():
                self._stop()
        except KeyboardInterrupt:
            self._kill()
            raise

    def _watch(self, watcher: Watcher, follower: Follower) -> None:
        """Watch beside what is shown, and show what the containers write that come of it."""
        watcher.renewed = lambda service: follower.post(Renewed(service))

        def run() -> None:
            try:
                watcher.run()
            except (UmiakError, OSError) as error:
                print(f"error: {error}", file=sys.stderr)
            finally:
                follower.release()

        follower.hold()
        threading.Thread(target=run, daemon=True).start()

    def _follow_again(self, follower: Follower, service: str, since: float) -> None:
        """Follow what a watcher started anew, from where it last ended; what goes on being followed is left alone."""
        if self._watcher is None or self._stopping:
            return
        for container in self._orchestrator.containers(self._project):
            is_known = container.labels.get(labels.SERVICE) == service and container.name in self._services
            if is_known and container.id not in self._followed:
                self._followed.add(container.id)
                ended_at = min(container.status.finished_at, time.time())
                follower.follow(container, Span(since=max(ended_at, since)))

    def _is_shown(self, service: str) -> bool:
        return (not self._shows or service in self._shows) and service not in self._hides

    def _take_end(self, ended: Ended) -> None:
        code = -1 if ended.exit_code is None else ended.exit_code
        self._codes[ended.container] = code
        print(f"{self._names[ended.container]} exited with code {code}", flush=True)
        if self._stopping or not (self._ending.on_exit or (self._ending.on_failure and code != 0)):
            return
        if code == 0 and self._services[ended.container] in self._spares:
            return
        self._first_code = code
        self._stopping = True
        if len(self._codes) < len(self._services):
            print("Aborting on container exit...", flush=True)
            self._in_background(self._stop)

    def _interrupt(self, number: int) -> None:
        self._interrupts.append(number)
        self._stopping = True
        if self._watcher is not None:
            self._watcher.stop()
        if len(self._interrupts) == 1:
            print(_GRACEFULLY, file=sys.stderr, flush=True)
            self._in_background(self._stop)
        else:
            self._in_background(self._kill)

    def _stop(self) -> None:
        self._orchestrator.stop(self._project, self._to_stop(), timeout_s=self._ending.timeout_s)

    def _kill(self) -> None:
        self._orchestrator.kill(self._project, self._to_stop())

    def _to_stop(self) -> list[str]:
        known = {c.labels.get(labels.SERVICE, "") for c in self._orchestrator.containers(self._project, stopped=True)}
        return sorted(known.intersection(self._stops))

    def _in_background(self, act: Callable[[], object]) -> None:
        """Act while output goes on being shown; a failure is told and ends nothing."""

        def run() -> None:
            try:
                act()
            except UmiakError as error:
                print(f"error: {error}", file=sys.stderr)

        threading.Thread(target=run, daemon=True).start()

    def _exit_code(self) -> int:
        if self._interrupts:
            return 128 + self._interrupts[0]
        if self._ending.code_from:
            codes = [code for name, code in self._codes.items() if self._services[name] == self._ending.code_from]
            return next((code for code in codes if code), codes[0] if codes else 1)
        return self._first_code or 0
