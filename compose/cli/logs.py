"""`umiak logs`: what containers have written, merged in the order of time."""

from __future__ import annotations

import re
import select
import sys
import threading
import time

from compose import labels
from compose.cli.context import Context, check_services, short_name
from compose.cli.options import Args, Command, Option
from compose.cli.view.lines import LinePrinter, Style
from compose.output import Follower, Interrupted, Line, Span, written
from engine.errors import InvalidInput, NotFound
from engine.types import ContainerInfo

COMMAND = Command(
    "logs",
    "Show what containers have written",
    words="[SERVICE...]",
    options=[
        Option("-f", "--follow", help="Go on showing what is written"),
        Option("-n", "--tail", metavar="LINES", default="all", help="Only the last lines of each container"),
        Option("-t", "--timestamps", help="Show when each line was written"),
        Option("--since", metavar="TIME", help="Only what was written since then: 2026-11-24T03:02:41Z, or 5m ago"),
        Option("--until", metavar="TIME", help="Only what was written before then"),
        Option("--no-log-prefix", help="Do not begin lines with the container's name"),
        Option("--no-color", help="Show no colours"),
        Option("--index", metavar="N", help="Only that replica"),
    ],
)

_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_PART = re.compile(r"([0-9.]+)(ms|[smhd])")


def run(context: Context, args: Args) -> int:
    """Print the lines."""
    project = context.project_name()
    now = time.time()
    span = Span(_tail(args), moment(args, "since", now), moment(args, "until", now))
    with context.engine() as engine:
        found = engine.containers({labels.PROJECT: project})
        services = check_services(context, [c.labels.get(labels.SERVICE, "") for c in found], args.words)
        chosen = [c for c in found if not args.words or c.labels.get(labels.SERVICE) in services]
        if (index := args.number("index")) is not None:
            chosen = [c for c in chosen if labels.number(c.labels) == index]
            if args.words and not chosen:
                raise NotFound(
                    f'there is no container {index} of service "{args.words[0]}"', hint="`umiak ps -a` lists them"
                )
        printer = _printer(chosen, args)
        if not args.flag("follow"):
            for line in written(engine, chosen, span):
                printer.print(line)
            return 0
        follower = Follower(engine)
        for container in chosen:
            follower.follow(container, span)
        threading.Thread(target=_notice_reader_gone, args=(follower,), daemon=True).start()
        for item in follower:
            if isinstance(item, Line):
                printer.print(item)
            elif isinstance(item, Interrupted):
                raise BrokenPipeError
    return 0


def _notice_reader_gone(follower: Follower) -> None:
    """Post a note once nobody reads stdout any more (`logs -f | head`), even if no container writes again."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    poll.poll()
    follower.post(Interrupted())


def _printer(containers: list[ContainerInfo], args: Args) -> LinePrinter:
    style = Style(
        prefix=not args.flag("no-log-prefix"),
        timestamps=args.flag("timestamps"),
        colour=not args.flag("no-color"),
    )
    return LinePrinter({container.name: short_name(container) for container in containers}, style)


def _tail(args: Args) -> int | None:
    text = args.text("tail")
    if text in (None, "all", "-1"):
        return None
    if not text.isdecimal():
        raise InvalidInput(f'option --tail cannot be "{text}"', hint="use a number of lines, or all")
    return int(text)


def moment(args: Args, key: str, now: float) -> float | None:
    """A point in time: seconds since the epoch, RFC 3339, or a length of time before now."""
    text = args.text(key)
    if text is None:
        return None
    try:
        return float(text)
    except ValueError:
        pass
    if "".join(number + unit for number, unit in _PART.findall(text)) == text:
        return now - sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))
    from datetime import datetime

    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        raise InvalidInput(
            f'option --{key} cannot be "{text}"', hint="use 2026-11-24T03:02:41Z, seconds since 1970, or 5m"
        ) from None
