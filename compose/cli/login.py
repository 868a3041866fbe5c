"""`umiak login`: try a name and password at a registry and keep them."""

from __future__ import annotations

import sys

from compose.cli.context import Context
from compose.cli.errors import warn
from compose.cli.options import Args, Command, Option
from engine.errors import InvalidInput

COMMAND = Command(
    "login",
    "Log in to a registry",
    words="[REGISTRY]",
    options=[
        Option("-u", "--username", metavar="NAME", help="User name"),
        Option(
            "-p", "--password", metavar="TEXT", help="Password; other users of this machine can see it while it runs"
        ),
        Option("--password-stdin", help="Read the password from standard input"),
    ],
    can_run_dry=False,
)


def run(_: Context, args: Args) -> int:
    """Log in."""
    from engine.images.registry.login import login, registry_name

    if len(args.words) > 1:
        raise InvalidInput("login takes one registry")
    registry = args.words[0] if args.words else ""
    name = registry_name(registry)
    username = args.text("username") or _ask(f"User name for {name}: ", "--username")
    kept = login(registry, username, _password(args, name), warn=warn)
    print(f"Logged in to {name} as {username}; kept in {kept}")
    return 0


def _password(args: Args, name: str) -> str:
    if args.flag("password-stdin"):
        if args.given("password"):
            raise InvalidInput("--password and --password-stdin exclude each other")
        return sys.stdin.read().rstrip("\r\n")
    given = args.text("password")
    if given is not None:
        return given
    if not sys.stdin.isatty():
        raise InvalidInput("no password was given", hint="use --password-stdin")
    from getpass import getpass

    return getpass(f"Password for {name}: ")


def _ask(question: str, option: str) -> str:
    if not sys.stdin.isatty():
        raise InvalidInput("no user name was given", hint=f"use {option}")
    print(question, end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip()
