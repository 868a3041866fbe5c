"""`umiak volume`: the volumes on this host."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from compose.cli.context import Context
from compose.cli.group import confirmed, each, needs_words, run_group
from compose.cli.options import Args, Command, Option
from compose.cli.view.template import inspected, listing
from compose.cli.view.units import human_size, iso_time
from engine.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from engine.facade import Engine
    from engine.types import VolumeInfo

COMMAND = Command(
    "volume",
    "List, show and remove volumes",
    words="create|ls|inspect|rm|prune [ARG...]",
    stops_at_word=True,
    can_run_dry=False,
)
CREATE = Command(
    "volume create",
    "Make a volume",
    words="[NAME]",
    options=[
        Option("--label", metavar="KEY=VALUE", many=True, help="Label; repeatable"),
        Option("-o", "--opt", metavar="KEY=VALUE", many=True, help="Option of the local driver; repeatable"),
    ],
)
LS = Command(
    "volume ls",
    "List volumes",
    options=[
        Option("-q", "--quiet", help="Only names"),
        Option("-f", "--filter", metavar="FILTER", many=True, help="name=, label=, dangling= or driver=; repeatable"),
        Option("--format", metavar="FORMAT", default="table", help="table, json or a Go template"),
    ],
)
INSPECT = Command(
    "volume inspect",
    "Show volumes as JSON",
    words="NAME...",
    options=[Option("-f", "--format", metavar="FORMAT", help="json or a Go template")],
)
RM = Command(
    "volume rm",
    "Remove volumes",
    words="NAME...",
    options=[Option("-f", "--force", help="A missing volume is no error")],
)
PRUNE = Command(
    "volume prune",
    "Remove volumes that no container uses",
    options=[
        Option("-a", "--all", help="Those with a name too, not only anonymous ones"),
        Option("-f", "--force", help="Do not ask"),
        Option("--filter", metavar="FILTER", many=True, help="label= or label!=; repeatable"),
    ],
)


def run(context: Context, args: Args) -> int:
    """Run the sub-command."""
    return run_group(context, args, "volume", _TABLE)


def _create(engine: Engine, args: Args) -> None:
    import secrets

    from engine.types import VolumeSpec

    name = args.words[0] if args.words else secrets.token_hex(32)
    labels, options = _pairs(args.many("label")), _pairs(args.many("opt"))
    print(engine.create_volume(VolumeSpec(name, labels=labels, options=options)).spec.name)


def _pairs(words: list[str]) -> dict[str, str]:
    return {key: value for key, _, value in (word.partition("=") for word in words)}


def _ls(engine: Engine, args: Args) -> None:
    used = {row["volume_name"] for row in engine.state.rows("SELECT DISTINCT volume_name FROM volume_uses")}
    found = [info for info in engine.volumes() if all(_passes(info, text, used) for text in args.many("filter"))]
    if args.flag("quiet"):
        print("".join(f"{info.spec.name}\n" for info in found), end="")
        return
    lines = listing([_row(info) for info in found], {"DRIVER": "Driver", "VOLUME NAME": "Name"}, _format(args))
    print("".join(f"{line}\n" for line in lines), end="")


def _format(args: Args) -> str:
    return args.text("format") or "table"


def _passes(info: VolumeInfo, text: str, used: set[str]) -> bool:
    from engine.images.select import carries

    key, _, value = text.partition("=")
    if key == "name":
        return value in info.spec.name
    if key == "label":
        return carries(dict(info.spec.labels), [value])
    if key == "driver":
        return info.spec.driver == value
    if key == "dangling" and value in ("true", "false", "1", "0"):
        return (info.spec.name not in used) == (value in ("true", "1"))
    raise InvalidInput(f"cannot read the filter {text!r}", hint="use name=, label=, driver= or dangling=true|false")


def _row(info: VolumeInfo) -> dict[str, Any]:
    return {
        "Driver": info.spec.driver,
        "Labels": ",".join(f"{key}={value}" for key, value in sorted(info.spec.labels.items())),
        "Mountpoint": info.mountpoint,
        "Name": info.spec.name,
        "Scope": "local",
    }


def _inspect(engine: Engine, args: Args) -> int:
    volumes = {info.spec.name: info for info in engine.volumes()}
    found: list[dict[str, Any]] = []

    def describe(name: str) -> None:
        if name not in volumes:
            raise NotFound(f'no volume "{name}"', hint="`umiak volume ls` lists them")
        found.append(_described(volumes[name]))

    code = each(needs_words(args, INSPECT, "a name"), describe)
    print(inspected(found, args.text("format")))
    return code


def _described(info: VolumeInfo) -> dict[str, Any]:
    return {
        "CreatedAt": iso_time(info.created_at),
        "Driver": info.spec.driver,
        "Labels": dict(info.spec.labels) or None,
        "Mountpoint": info.mountpoint,
        "Name": info.spec.name,
        "Options": dict(info.spec.options) or None,
        "Scope": "local",
    }


def _rm(engine: Engine, args: Args) -> int:
    def remove(name: str) -> None:
        try:
            engine.remove_volume(name)
        except NotFound:
            if not args.flag("force"):
                raise
        print(name)

    return each(needs_words(args, RM, "a name"), remove)


def _prune(engine: Engine, args: Args) -> int:
    what = "all volumes" if args.flag("all") else "all anonymous volumes"
    if not confirmed(args, f"This will remove {what} that no container uses."):
        return 1
    pruned = engine.prune_volumes(everything=args.flag("all"), filters=args.many("filter"))
    if pruned.removed:
        print("Deleted Volumes:")
        print("".join(f"{name}\n" for name in pruned.removed))
    print(f"Total reclaimed space: {human_size(pruned.freed_bytes)}")
    return 0


_TABLE = {
    "create": (CREATE, _create),
    "ls": (LS, _ls),
    "list": (LS, _ls),
    "inspect": (INSPECT, _inspect),
    "rm": (RM, _rm),
    "prune": (PRUNE, _prune),
}

SUBCOMMANDS = (CREATE, LS, INSPECT, RM, PRUNE)
"""For the reference."""
