"""`umiak events`: what happens to a project's containers."""

from __future__ import annotations

import json
import time

from compose import labels
from compose.cli.context import Context
from compose.cli.logs import moment
from compose.cli.options import Args, Command, Option
from engine.events import Record

COMMAND = Command(
    "events",
    "Show what happens to containers",
    words="[SERVICE...]",
    options=[
        Option("--json", help="One JSON object a line"),
        Option("--since", metavar="TIME", help="What has happened since then: 2026-11-24T03:02:41Z, or 5m ago"),
        Option("--until", metavar="TIME", help="Only until then"),
    ],
)


def run(context: Context, args: Args) -> int:
    """Print what comes, until Ctrl-C or --until."""
    project, now = context.project_name(), time.time()
    since, until = moment(args, "since", now), moment(args, "until", now)
    with context.engine() as engine:
        for record in engine.events(since=since, until=until, follow=until is None or until > now):
            if _is_wanted(record, project, args.words):
                print(as_json(record) if args.flag("json") else as_text(record), flush=True)
    return 0


def _is_wanted(record: Record, project: str, services: list[str]) -> bool:
    """Containers of the project, one-off ones left out as Docker Compose does."""
    found = record.attributes
    return (
        record.type == "container"
        and found.get(labels.PROJECT) == project
        and found.get(labels.ONEOFF) != "True"
        and (not services or found.get(labels.SERVICE) in services)
    )


def as_json(record: Record) -> str:
    """One line of `events --json`."""
    shown = {
        "action": record.action,
        "attributes": _attributes(record),
        "id": record.id,
        "service": record.attributes.get(labels.SERVICE, ""),
        "time": f"{_stamp(record.time, 'T')}Z",
        "type": record.type,
    }
    return json.dumps(shown, separators=(",", ":"), ensure_ascii=False)


def as_text(record: Record) -> str:
    """`2026-11-24 03:02:41.332983 container die 5ac0… (exitCode=0, image=alpine, name=p-web-1)`."""
    attributes = ", ".join(f"{key}={value}" for key, value in sorted(_attributes(record).items()))
    return f"{_stamp(record.time, ' ')} {record.type} {record.action} {record.id} ({attributes})"


def _attributes(record: Record) -> dict[str, str]:
    return {key: value for key, value in record.attributes.items() if not key.startswith(labels.PREFIX)}


def _stamp(seconds: float, between: str) -> str:
    whole = int(seconds)
    clock = time.gmtime(whole) if between == "T" else time.localtime(whole)
    return time.strftime(f"%Y-%m-%d{between}%H:%M:%S", clock) + f".{int((seconds - whole) * 1e6):06d}"
