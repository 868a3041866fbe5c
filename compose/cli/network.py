"""`umiak network`: the networks on this host."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from compose.cli.context import Context
from compose.cli.group import confirmed, each, needs_words, run_group
from compose.cli.options import Args, Command, Option
from compose.cli.view.template import inspected, listing
from compose.cli.view.units import iso_time, short_id
from engine.errors import InvalidInput

if TYPE_CHECKING:
    from engine.facade import Engine
    from engine.types import NetworkInfo

COMMAND = Command(
    "network",
    "List, show and remove networks",
    words="create|ls|inspect|rm|prune [ARG...]",
    stops_at_word=True,
    can_run_dry=False,
)
CREATE = Command(
    "network create",
    "Make a network",
    words="NAME",
    options=[
        Option("--subnet", metavar="CIDR", help="Its addresses; default any that nothing uses"),
        Option("--ip-range", metavar="CIDR", help="The part of the subnet that containers get addresses of"),
        Option("--gateway", metavar="ADDRESS", help="The bridge's own address"),
        Option("--internal", help="Without a way out"),
        Option("--label", metavar="KEY=VALUE", many=True, help="Label; repeatable"),
    ],
)
LS = Command(
    "network ls",
    "List networks",
    options=[
        Option("-q", "--quiet", help="Only IDs"),
        Option("--no-trunc", help="Do not shorten"),
        Option("-f", "--filter", metavar="FILTER", many=True, help="name=, id=, label= or driver=; repeatable"),
        Option("--format", metavar="FORMAT", default="table", help="table, json or a Go template"),
    ],
)
INSPECT = Command(
    "network inspect",
    "Show networks as JSON",
    words="NETWORK...",
    options=[Option("-f", "--format", metavar="FORMAT", help="json or a Go template")],
)
RM = Command("network rm", "Remove networks", words="NETWORK...")
PRUNE = Command(
    "network prune",
    "Remove networks that no container is on",
    options=[
        Option("-f", "--force", help="Do not ask"),
        Option("--filter", metavar="FILTER", many=True, help="until=, label= or label!=; repeatable"),
    ],
)


def run(context: Context, args: Args) -> int:
    """Run the sub-command."""
    return run_group(context, args, "network", _TABLE)


def _create(engine: Engine, args: Args) -> None:
    from engine.types import NetworkSpec

    if len(args.words) != 1:
        raise InvalidInput("network create needs one name")
    spec = NetworkSpec(
        args.words[0],
        internal=args.flag("internal"),
        subnet=args.text("subnet"),
        ip_range=args.text("ip-range"),
        gateway=args.text("gateway"),
        labels={key: value for key, _, value in (text.partition("=") for text in args.many("label"))},
    )
    print(engine.create_network(spec).id)


def _ls(engine: Engine, args: Args) -> None:
    found = [info for info in engine.networks() if all(_passes(info, text) for text in args.many("filter"))]
    rows = [_row(info, args) for info in found]
    if args.flag("quiet"):
        print("".join(f"{row['ID']}\n" for row in rows), end="")
        return
    shown = {"NETWORK ID": "ID", "NAME": "Name", "DRIVER": "Driver", "SCOPE": "Scope"}
    print("".join(f"{line}\n" for line in listing(rows, shown, args.text("format") or "table")), end="")


def _passes(info: NetworkInfo, text: str) -> bool:
    from engine.images.select import carries

    key, _, value = text.partition("=")
    tests = {
        "name": lambda: value in info.spec.name,
        "id": lambda: info.id.startswith(value),
        "label": lambda: carries(dict(info.spec.labels), [value]),
        "driver": lambda: info.spec.driver == value,
    }
    if key not in tests:
        raise InvalidInput(f"cannot read the filter {text!r}", hint="use name=, id=, label= or driver=")
    return tests[key]()


def _row(info: NetworkInfo, args: Args) -> dict[str, Any]:
    return {
        "CreatedAt": iso_time(info.created_at),
        "Driver": info.spec.driver,
        "ID": info.id if args.flag("no-trunc") else short_id(info.id),
        "Internal": str(info.spec.internal).lower(),
        "Labels": ",".join(f"{key}={value}" for key, value in sorted(info.spec.labels.items())),
        "Name": info.spec.name,
        "Scope": "local",
    }


def _inspect(engine: Engine, args: Args) -> int:
    containers = engine.containers()
    found: list[dict[str, Any]] = []

    def describe(name: str) -> None:
        info = engine.network(name)
        on_it = {
            container.id: {
                "Name": container.name,
                "MacAddress": endpoint.mac_address,
                "IPv4Address": f"{endpoint.ipv4_address}/{endpoint.prefix_length}",
            }
            for container in containers
            for endpoint in container.endpoints
            if endpoint.network_id == info.id
        }
        found.append({**_described(info), "Containers": on_it})

    code = each(needs_words(args, INSPECT, "a network"), describe)
    print(inspected(found, args.text("format")))
    return code


def _described(info: NetworkInfo) -> dict[str, Any]:
    return {
        "Name": info.spec.name,
        "Id": info.id,
        "Created": iso_time(info.created_at),
        "Scope": "local",
        "Driver": info.spec.driver,
        "IPAM": {"Driver": "default", "Config": [{"Subnet": info.subnet, "Gateway": info.gateway}]},
        "Internal": info.spec.internal,
        "Attachable": info.spec.attachable,
        "Options": {**info.spec.options, "com.docker.network.bridge.name": info.link},
        "Labels": dict(info.spec.labels),
    }


def _rm(engine: Engine, args: Args) -> int:
    def remove(name: str) -> None:
        engine.remove_network(name)
        print(name)

    return each(needs_words(args, RM, "a network"), remove)


def _prune(engine: Engine, args: Args) -> int:
    if not confirmed(args, "This will remove all networks that no container is on."):
        return 1
    pruned = engine.prune_networks(filters=args.many("filter"))
    if pruned.removed:
        print("Deleted Networks:")
        print("".join(f"{name}\n" for name in pruned.removed))
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
