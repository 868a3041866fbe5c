"""`umiak builder`: what builds keep to be faster next time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from compose.cli.context import Context
from compose.cli.group import confirmed, run_group
from compose.cli.options import Args, Command, Option
from compose.cli.view.units import human_size
from engine.errors import InvalidInput

if TYPE_CHECKING:
    from engine.facade import Engine

COMMAND = Command(
    "builder",
    "Clear the build cache",
    words="prune [ARG...]",
    stops_at_word=True,
    can_run_dry=False,
)
PRUNE = Command(
    "builder prune",
    "Remove results of build steps, cache mounts and downloads",
    options=[
        Option("-a", "--all", help="Also results whose layers images have: their next build runs all steps"),
        Option("-f", "--force", help="Do not ask"),
        Option("--keep-storage", metavar="SIZE", help="Keep the latest used up to this much, such as 10GB"),
        Option("--filter", metavar="FILTER", many=True, help="until=24h: only what was not used since"),
    ],
)


def run(context: Context, args: Args) -> int:
    """Run the sub-command."""
    return run_group(context, args, "builder", _TABLE)


def _prune(engine: Engine, args: Args) -> int:
    from engine.images.build.mounts import size_bytes

    everything = args.flag("all")
    before = _before(args.many("filter"))
    keep_bytes = size_bytes(args.text("keep-storage"), "--keep-storage")
    if not confirmed(args, f"This will remove {'all' if everything else 'the unused'} build cache."):
        return 1
    freed = engine.prune_build_cache(everything=everything, keep_bytes=keep_bytes, before=before)
    print(f"Total reclaimed space: {human_size(freed)}")
    return 0


def _before(filters: list[str]) -> float | None:
    """The time (seconds since the epoch) of `until=` or `unused-for=`."""
    from engine.images.select import moment

    before = None
    for text in filters:
        key, _, value = text.partition("=")
        if key not in ("until", "unused-for"):
            raise InvalidInput(f"cannot prune the build cache by {text!r}", hint="use until=24h")
        before = moment(value)
    return before


_TABLE = {"prune": (PRUNE, _prune)}

SUBCOMMANDS = (PRUNE,)
"""For the reference."""
