"""`umiak stats`: what containers use, once or again and again."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from compose.cli import signals
from compose.cli.context import Context
from compose.cli.labelled import containers_of
from compose.cli.options import Args, Command, Option
from compose.cli.view.template import listing
from compose.cli.view.units import human_size
from engine.errors import UmiakError

if TYPE_CHECKING:
    from compose.orchestrator import Orchestrator
    from engine.facade import Engine
    from engine.types import ContainerInfo
    from engine.usage import Usage

COMMAND = Command(
    "stats",
    "Show what containers use",
    words="[SERVICE...]",
    options=[
        Option("-a", "--all", help="Also containers that do not run"),
        Option("--no-stream", help="Only once"),
        Option("--no-trunc", help="Do not shorten IDs"),
        Option("--format", metavar="FORMAT", default="table", help="table, json or a Go template"),
    ],
)
INTERVAL_S = 1.0
FIRST_INTERVAL_S = 0.5
_SHOWN = {
    "CONTAINER ID": "ID",
    "NAME": "Name",
    "CPU %": "CPUPerc",
    "MEM USAGE / LIMIT": "MemUsage",
    "MEM %": "MemPerc",
    "NET I/O": "NetIO",
    "BLOCK I/O": "BlockIO",
    "PIDS": "PIDs",
}


def run(context: Context, args: Args) -> int:
    """Print a table; on a terminal it is drawn anew each second until Ctrl-C."""
    with context.orchestrator() as orchestrator:
        before: dict[str, Usage] = {}
        found = _found(context, orchestrator, args)
        _measure(orchestrator.engine, found, before)
        pause_s = FIRST_INTERVAL_S
        try:
            while True:
                time.sleep(pause_s)
                now: dict[str, Usage] = {}
                _measure(orchestrator.engine, found, now)
                _print([_record(one, before.get(one.id), now.get(one.id), args) for one in found], args)
                if args.flag("no-stream"):
                    return 0
                before, pause_s = now, INTERVAL_S
                found = _found(context, orchestrator, args)
        except signals.Interrupt as interrupt:
            # Ctrl-C is how it ends.
            return 0 if interrupt.exit_code == 130 and not args.flag("no-stream") else interrupt.exit_code


def _found(context: Context, orchestrator: Orchestrator, args: Args) -> list[ContainerInfo]:
    return containers_of(context, orchestrator, args.words, stopped=args.flag("all"))


def _measure(engine: Engine, containers: Sequence[ContainerInfo], into: dict[str, Usage]) -> None:
    for one in containers:
        try:
            into[one.id] = engine.usage(one.id)
        except (UmiakError, OSError):
            continue  # it does not run, or has just ended


def _record(container: ContainerInfo, before: Usage | None, now: Usage | None, args: Args) -> dict[str, Any]:
    record = {
        "BlockIO": "--",
        "CPUPerc": "--",
        "Container": container.id,
        "ID": container.id if args.flag("no-trunc") else container.id[:12],
        "MemPerc": "--",
        "MemUsage": "-- / --",
        "Name": container.name,
        "NetIO": "--",
        "PIDs": "--",
    }
    if now is None:
        return record
    return record | {
        "BlockIO": f"{human_size(now.io_read_bytes)} / {human_size(now.io_written_bytes)}",
        "CPUPerc": f"{now.cpu_percent_since(before) if before else 0.0:.2f}%",
        "MemPerc": f"{now.memory_percent:.2f}%",
        "MemUsage": f"{binary_size(now.memory_bytes)} / {binary_size(now.memory_limit_bytes)}",
        "NetIO": f"{human_size(now.network_received_bytes)} / {human_size(now.network_sent_bytes)}",
        "PIDs": str(now.processes),
    }


def _print(records: list[dict[str, Any]], args: Args) -> None:
    lines = listing(records, _SHOWN, args.text("format") or "table")
    if sys.stdout.isatty() and not args.flag("no-stream"):
        # Home, each line to its end, and what is below: one write, so that nothing flickers.
        sys.stdout.write("\x1b[H" + "".join(f"{line}\x1b[K\n" for line in lines) + "\x1b[J")
    else:
        sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()


def binary_size(size_bytes: float) -> str:
    """Four digits and powers of 1024 (go-units, BytesSize)."""
    value = float(size_bytes)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if value < 1024:
            return f"{value:.4g}{unit}"
        value /= 1024
    return f"{value:.4g}PiB"
