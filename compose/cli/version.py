"""`umiak version`."""

from __future__ import annotations

import json

from compose.cli.context import Context
from compose.cli.options import Args, Command, Option
from compose.version import VERSION

COMMAND = Command(
    "version",
    "Show the version",
    options=[
        Option("-f", "--format", metavar="FORMAT", choices=("pretty", "json"), default="pretty", help="pretty or json"),
        Option("--short", help="Only the number"),
    ],
)


def plugin_metadata() -> int:
    """Print what Docker's command line asks of a plugin, so that a link in ~/.docker/cli-plugins makes `docker compose` umiak."""
    about = {
        "SchemaVersion": "0.1.0",
        "Vendor": "umiak",
        "Version": VERSION,
        "ShortDescription": "Compose stacks without Docker",
    }
    print(json.dumps(about))
    return 0


def run(_context: Context, args: Args) -> int:
    """Print the version."""
    if args.text("format") == "json":
        print(json.dumps({"version": VERSION}, separators=(",", ":")))
    else:
        print(VERSION if args.flag("short") else f"umiak version {VERSION}")
    return 0
