"""`umiak port`: where a port of a service is published."""

from __future__ import annotations

from compose.cli.context import Context
from compose.cli.options import Args, Command, Option
from engine.errors import InvalidInput, NotFound

COMMAND = Command(
    "port",
    "Show where a port is published",
    words="SERVICE PORT",
    options=[
        Option("--protocol", metavar="NAME", choices=("tcp", "udp"), default="tcp", help="tcp or udp"),
        Option("--index", metavar="N", help="Of the replica with this number"),
    ],
)


def run(context: Context, args: Args) -> int:
    """Print `address:port`; a port that is not published is an error."""
    if len(args.words) != 2:
        raise InvalidInput("port needs a service and a port", hint="for example: umiak port web 80")
    service, text = args.words
    number, _, protocol = text.partition("/")
    protocol = protocol or args.text("protocol") or "tcp"
    if not number.isdecimal():
        raise InvalidInput(f'cannot read "{text}" as a port', hint="for example: 80 or 53/udp")
    with context.orchestrator() as orchestrator:
        container = orchestrator.replica(context.project_name(), service, args.number("index"))
    for port in container.ports:
        if (port.container_port, port.protocol) == (int(number), protocol):
            host = port.host_ip or "0.0.0.0"
            print(f"[{host}]:{port.host_port}" if ":" in host else f"{host}:{port.host_port}")
            return 0
    there = ", ".join(f"{port.container_port}/{port.protocol}" for port in container.ports)
    raise NotFound(
        f"no port {number}/{protocol} of {container.name} is published", hint=f"published are: {there or 'none'}"
    )
