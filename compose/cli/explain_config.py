"""`umiak explain-config web.environment`: where each value of a service comes from."""

from __future__ import annotations

from compose.cli.context import Context
from compose.cli.options import Args, Command
from engine.errors import InvalidInput

COMMAND = Command("explain-config", "Show where each value of a service comes from", words="SERVICE[.PATH]...")


def run(context: Context, args: Args) -> int:
    """Print one line for each value: its path, the value, and its origin."""
    from compose.errors import dotted
    from compose.origins import origins

    if not args.words:
        raise InvalidInput("explain-config needs a service", hint="for example: umiak explain-config web.environment")
    for word in args.words:
        found = origins(context.load_options(all_resources=True), word)
        rows = [(dotted(origin.path[1:]), str(origin.value), origin.place, origin.how) for origin in found]
        width = max((len(path) for path, *_ in rows), default=0)
        for path, value, place, how in rows:
            print(f"{path.ljust(width)}  {value}  ({f'{place}: ' if place else ''}{how})")
    return 0
