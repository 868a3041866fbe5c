"""`umiak exec`: run a command in a container of a service, and end with its exit code."""

from __future__ import annotations

import os
import shlex
import sys

from compose.cli.context import Context, would
from compose.cli.options import Args, Command, Option
from engine.errors import InvalidInput, UmiakError

COMMAND = Command(
    "exec",
    "Run a command in a running container",
    words="SERVICE COMMAND [ARG...]",
    stops_at_word=True,
    options=[
        Option("-T", "--no-tty", help="Allocate no terminal, even if there is one here"),
        Option("-d", "--detach", help="Do not wait for the command"),
        Option("-e", "--env", metavar="KEY=VALUE", many=True, help="Set a variable; repeatable"),
        Option("-u", "--user", metavar="USER", help="Run as this user (name|uid[:gid])"),
        Option("-w", "--workdir", metavar="DIR", help="Run in this directory"),
        Option("--index", metavar="N", help="In the replica with this number"),
        Option("--privileged", help="With all privileges"),
        Option("-i", "--interactive", help="Accepted for compatibility", hidden=True),
        Option("-t", "--tty", help="Accepted for compatibility", hidden=True),
    ],
)


def run(context: Context, args: Args) -> int:
    """Run the command; 126 and 127 where it cannot be executed or is not found."""
    from compose.cli.terminal import attach

    if len(args.words) < 2:
        raise InvalidInput("exec needs a service and a command", hint="for example: umiak exec web sh")
    service, *argv = args.words
    with context.orchestrator() as orchestrator:
        container = orchestrator.replica(context.project_name(), service, args.number("index"))
        if context.dry_run:
            return would(f"run {shlex.join(argv)} in {container.name}")
        tty = not args.flag("no-tty") and not args.flag("detach") and sys.stdin.isatty() and sys.stdout.isatty()
        try:
            session = orchestrator.exec(
                container,
                argv,
                environment=[environment(text) for text in args.many("env")],
                working_dir=args.text("workdir"),
                user=args.text("user"),
                tty=tty,
                privileged=args.flag("privileged"),
                detach=args.flag("detach"),
            )
        except UmiakError as error:
            from compose.cli.errors import report

            return max(report(error), error.exit_code)
        if args.flag("detach"):
            session.close()
            return 0
        return attach(session)


def environment(text: str) -> str:
    """`KEY=VALUE`, or `KEY` with the value that it has here."""
    return text if "=" in text else f"{text}={os.environ.get(text, '')}"
