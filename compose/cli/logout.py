"""`umiak logout`: forget the login to a registry."""

from __future__ import annotations

from compose.cli.context import Context
from compose.cli.options import Args, Command
from engine.errors import InvalidInput

COMMAND = Command("logout", "Log out from a registry", words="[REGISTRY]", can_run_dry=False)


def run(_: Context, args: Args) -> int:
    """Log out."""
    from engine.images.registry.login import logout, registry_name

    if len(args.words) > 1:
        raise InvalidInput("logout takes one registry")
    registry = args.words[0] if args.words else ""
    name = registry_name(registry)
    print(f"Logged out from {name}" if logout(registry) else f"Not logged in to {name}")
    return 0
