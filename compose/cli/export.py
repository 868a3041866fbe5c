"""`umiak export`: a container's root file system as a tar."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from compose.cli.context import Context, would
from compose.cli.labelled import one_container
from compose.cli.options import Args, Command, Option
from engine.errors import InvalidInput, Unavailable

COMMAND = Command(
    "export",
    "Write a container's files as a tar",
    words="SERVICE",
    options=[
        Option("-o", "--output", metavar="FILE", help="Write to a file; default standard output"),
        Option("--index", metavar="N", help="Of the replica with this number"),
    ],
)


def run(context: Context, args: Args) -> int:
    """Write it; volumes and other mounts are left out."""
    if len(args.words) != 1:
        raise InvalidInput("export needs a service", hint="for example: umiak export -o web.tar web")
    path = args.text("output")
    if path is None and not context.dry_run and sys.stdout.isatty():
        raise InvalidInput("a tar does not go to a terminal", hint="use --output FILE, or redirect")
    with context.orchestrator() as orchestrator:
        container = one_container(context, orchestrator, args.words[0], args.number("index"))
        if context.dry_run:
            return would(f"write the files of {container.name} to {path or 'standard output'}")
        if path is None:
            orchestrator.engine.export_container(container.id, sys.stdout.buffer.write)
            return 0
        _to_file(path, lambda write: orchestrator.engine.export_container(container.id, write))
    return 0


def _to_file(path: str, export: Callable[[Callable[[bytes], object]], None]) -> None:
    """Write beside the file and rename, so that a failure leaves no half of it."""
    partial = f"{path}.partial"
    try:
        with open(partial, "wb") as file:
            export(file.write)
        os.rename(partial, path)
    except OSError as error:
        raise Unavailable(f"cannot write {path}: {error.strerror}") from error
    finally:
        if os.path.exists(partial):
            os.unlink(partial)
