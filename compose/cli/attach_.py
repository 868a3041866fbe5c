"""`umiak attach`: take part in a container's own input and output. Ctrl-p Ctrl-q, or other keys, leave it."""

from __future__ import annotations

from compose.cli.context import Context, would
from compose.cli.options import Args, Command, Option
from engine.errors import InvalidInput

COMMAND = Command(
    "attach",
    "Take part in a container's input and output",
    words="SERVICE",
    options=[
        Option("--index", metavar="N", help="Of the replica with this number"),
        Option("--no-stdin", help="Only its output"),
        Option("--sig-proxy", default="true", help="Pass signals on to it; --sig-proxy=false for not"),
        Option("--detach-keys", metavar="KEYS", default="ctrl-p,ctrl-q", help="What to press to leave it running"),
    ],
)


def run(context: Context, args: Args) -> int:
    """Stay until it ends, and end with its exit code."""
    from compose.cli.proxy import signals_to
    from compose.cli.terminal import join, read_keys

    if len(args.words) != 1:
        raise InvalidInput("attach needs a service", hint="for example: umiak attach web")
    keys = read_keys(args.text("detach-keys") or "ctrl-p,ctrl-q")
    proxies = not args.given("sig-proxy") or args.flag("sig-proxy")
    with context.orchestrator() as orchestrator:
        container = orchestrator.replica(context.project_name(), args.words[0], args.number("index"))
        if context.dry_run:
            return would(f"attach to {container.name}")
        stdin = not args.flag("no-stdin")
        session = orchestrator.engine.attach_container(container.id, stdin=stdin)
        with signals_to(orchestrator.engine, container.id, wanted=proxies):
            return join(session, stdin=stdin, keys=keys) or 0
