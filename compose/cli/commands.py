"""Which commands there are, where each lives, and the options that go before them all."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from compose.cli.options import Command, Option
from engine.errors import InvalidInput, Unsupported

if TYPE_CHECKING:
    from types import ModuleType

COMMANDS = {
    "attach": "attach_",
    "boot": "boot",
    "build": "build",
    "builder": "builder",
    "commit": "commit",
    "completion": "completion",
    "config": "config",
    "container": "container",
    "convert": "config",
    "cp": "cp",
    "create": "create",
    "down": "down",
    "events": "events",
    "exec": "exec_",
    "explain": "explain",
    "explain-config": "explain_config",
    "export": "export",
    "image": "image",
    "images": "images",
    "kill": "kill",
    "login": "login",
    "logout": "logout",
    "logs": "logs",
    "ls": "ls",
    "network": "network",
    "pause": "pause",
    "plan": "plan",
    "port": "port",
    "ps": "ps",
    "pull": "pull",
    "push": "push",
    "restart": "restart",
    "rm": "rm",
    "run": "run",
    "scale": "scale",
    "start": "start",
    "stats": "stats",
    "status": "status",
    "stop": "stop",
    "system": "system",
    "top": "top",
    "unpause": "unpause",
    "up": "up",
    "version": "version",
    "volume": "volume",
    "volumes": "volumes",
    "wait": "wait",
    "watch": "watch",
}
"""Command → its module in this package."""

DOCKERS_OWN = {
    "alpha": "`umiak plan` shows the order of services, `umiak config` the project",
    "bridge": "`umiak config --format json` is the project for a converter, such as kompose",
    "publish": "`umiak config --lock-image-digests -o FILE` writes the project, resolved, into one file to pass on; "
    "`umiak push` sends the images",
}
"""Commands of Docker Compose that are not here → what to do instead."""

DRY_RUN = Option("--dry-run", help="Show what would be done, and do nothing")

GLOBAL = Command(
    "umiak",
    "Run Compose stacks without Docker.",
    options=(
        Option("-f", "--file", metavar="FILE", many=True, help="Compose file; repeat to merge several"),
        Option("-p", "--project-name", metavar="NAME", help="Project name"),
        Option("--profile", metavar="NAME", many=True, help="Profile to enable; repeatable"),
        Option("--env-file", metavar="FILE", many=True, help="File of variables instead of .env; repeatable"),
        Option("--project-directory", metavar="DIR", help="Directory that relative paths start from"),
        Option(
            "--progress",
            metavar="TYPE",
            variable="COMPOSE_PROGRESS",
            choices=("auto", "tty", "plain", "json", "quiet"),
            help="How to show progress: auto, tty, plain, json, quiet",
        ),
        Option(
            "--ansi",
            metavar="WHEN",
            choices=("never", "always", "auto"),
            help="When to use colours: never, always, auto",
        ),
        DRY_RUN,
        Option("--all-resources", help="Also networks and volumes that no service uses"),
        Option(
            "--parallel",
            metavar="N",
            variable="COMPOSE_PARALLEL_LIMIT",
            help="Most operations at a time (-1: no bound)",
        ),
        Option("--compatibility", help="Make the names of containers and images with underscores, as Compose v1 did"),
        Option("--verbose", help="Accepted for compatibility", hidden=True),
        Option("--no-ansi", help="The same as --ansi never", hidden=True),
        Option("--workdir", metavar="DIR", help="The same as --project-directory", hidden=True),
        Option("-v", "--version", help="Show the version"),
    ),
    words="COMMAND",
    stops_at_word=True,
)


def command_module(name: str) -> ModuleType:
    """Import a command's module. Raise InvalidInput, with the nearest name, where there is no such command,
    Unsupported where only Docker Compose has it.
    """
    if name in DOCKERS_OWN:
        raise Unsupported(f'umiak does not have "{name}"', hint=DOCKERS_OWN[name])
    if name not in COMMANDS:
        from difflib import get_close_matches

        near = get_close_matches(name, COMMANDS, n=1)
        raise InvalidInput(
            f'unknown command "{name}"', hint=f"did you mean {near[0]}?" if near else "see: umiak --help"
        )
    return importlib.import_module(f"compose.cli.{COMMANDS[name]}")
