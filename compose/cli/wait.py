"""`umiak wait`: wait until the containers of services have ended, and end with the exit code of the last."""

from __future__ import annotations

import json
from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING

from compose.cli.context import Context, would
from compose.cli.labelled import containers_of
from compose.cli.options import Args, Command, Option
from engine.errors import InvalidInput, NotFound, UmiakError

if TYPE_CHECKING:
    from engine.facade import Engine
    from engine.types import ContainerInfo

COMMAND = Command(
    "wait",
    "Wait until containers have ended",
    words="SERVICE...",
    options=[Option("--down-project", help="Take the project down once the first has ended")],
)


def run(context: Context, args: Args) -> int:
    """Print each end as it comes."""
    if not args.words:
        raise InvalidInput("wait needs a service", hint="for example: umiak wait migrate")
    with context.view("wait") as view, context.orchestrator(view=view) as orchestrator:
        project = context.project_name()
        found = containers_of(context, orchestrator, args.words)
        if not found:
            raise NotFound(f'no containers for project "{project}"', hint="none of those services runs")
        if context.dry_run:
            then = ", then take the project down" if args.flag("down-project") else ""
            return would(f"wait for {', '.join(one.name for one in found)}{then}")
        ends: SimpleQueue[tuple[str, int]] = SimpleQueue()
        for one in found:
            Thread(target=_follow, args=(orchestrator.engine, one, ends), daemon=True).start()
        code = 0
        for _ in found:
            name, code = ends.get()
            print(f"container {json.dumps(name)} exited with status code {code}", flush=True)
            if args.flag("down-project"):
                orchestrator.down(project)
                break
    return code


def _follow(engine: Engine, container: ContainerInfo, ends: SimpleQueue[tuple[str, int]]) -> None:
    code: int | None = None
    try:
        for status in engine.watch(container.id):
            code = status.exit_code
            if status.state not in ("running", "paused"):
                break
    except UmiakError:
        pass  # it was removed; what was seen last counts
    ends.put((container.id, -1 if code is None else code))
