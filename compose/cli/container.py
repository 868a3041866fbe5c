"""`umiak container`: all containers on this host, whatever project they belong to."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from compose.cli.context import Context
from compose.cli.group import confirmed, each, needs_words, run_group
from compose.cli.options import Args, Command, Option
from compose.cli.view.template import inspected, listing
from compose.cli.view.units import human_size, iso_time, local_time, short_id
from engine.errors import InvalidInput
from engine.types import RUNNING

if TYPE_CHECKING:
    from engine.facade import Engine
    from engine.types import ContainerInfo, Image

COMMAND = Command(
    "container",
    "List, show, commit and remove containers",
    words="ls|inspect|commit|rm|prune [ARG...]",
    stops_at_word=True,
    can_run_dry=False,
)
LS = Command(
    "container ls",
    "List containers",
    options=[
        Option("-a", "--all", help="Also those that do not run"),
        Option("-q", "--quiet", help="Only IDs"),
        Option("--no-trunc", help="Do not shorten"),
        Option(
            "-f", "--filter", metavar="FILTER", many=True, help="name=, id=, label=, status= or ancestor=; repeatable"
        ),
        Option("--format", metavar="FORMAT", default="table", help="table, json or a Go template"),
    ],
)
INSPECT = Command(
    "container inspect",
    "Show containers as JSON",
    words="CONTAINER...",
    options=[Option("-f", "--format", metavar="FORMAT", help="json or a Go template")],
)
COMMIT_OPTIONS = (
    Option("-a", "--author", metavar="NAME", default="", help="Who made it"),
    Option("-m", "--message", metavar="TEXT", default="", help="A line about it"),
    Option("-c", "--change", metavar="INSTRUCTION", many=True, help="Dockerfile instruction to apply; repeatable"),
    Option("-p", "--pause", default="true", help="Let the container stand still meanwhile; --pause=false for not"),
)
COMMIT = Command(
    "container commit",
    "Make an image of what a container is now",
    words="CONTAINER [REFERENCE]",
    options=COMMIT_OPTIONS,
)
RM = Command(
    "container rm",
    "Remove containers",
    words="CONTAINER...",
    options=[
        Option("-f", "--force", help="Also running ones"),
        Option("-v", "--volumes", help="Their anonymous volumes too"),
    ],
)
PRUNE = Command(
    "container prune",
    "Remove containers that do not run",
    options=[
        Option("-f", "--force", help="Do not ask"),
        Option("--filter", metavar="FILTER", many=True, help="until=, label= or label!=; repeatable"),
    ],
)


def run(context: Context, args: Args) -> int:
    """Run the sub-command."""
    return run_group(context, args, "container", _TABLE)


def _ls(engine: Engine, args: Args) -> None:
    filters = args.many("filter")
    everything = args.flag("all") or any(text.startswith("status=") for text in filters)
    names = {image.id: next(iter(image.tags), short_id(image.id)) for image in engine.images.all()}
    found = [
        info
        for info in sorted(engine.containers(), key=lambda info: -info.created_at)
        if (everything or info.status.state in RUNNING) and all(_passes(info, text, engine) for text in filters)
    ]
    rows = [_row(info, args, names) for info in found]
    if args.flag("quiet"):
        print("".join(f"{row['ID']}\n" for row in rows), end="")
        return
    shown = {
        "CONTAINER ID": "ID",
        "IMAGE": "Image",
        "COMMAND": "Command",
        "CREATED": "RunningFor",
        "STATUS": "Status",
        "PORTS": "Ports",
        "NAMES": "Names",
    }
    print("".join(f"{line}\n" for line in listing(rows, shown, args.text("format") or "table")), end="")


def rows_of(engine: Engine, args: Args) -> dict[str, dict[str, Any]]:
    """The fields that `container ls` shows, by container ID, the newest first."""
    names = {image.id: next(iter(image.tags), short_id(image.id)) for image in engine.images.all()}
    found = sorted(engine.containers(), key=lambda info: -info.created_at)
    return {info.id: _row(info, args, names) for info in found}


def _passes(info: ContainerInfo, text: str, engine: Engine) -> bool:
    from engine.images.select import carries

    key, _, value = text.partition("=")
    tests = {
        "name": lambda: value in info.name,
        "id": lambda: info.id.startswith(value),
        "label": lambda: carries(dict(info.labels), [value]),
        "status": lambda: info.status.state == value,
        "ancestor": lambda: info.image_id == engine.images.resolve(value).id,
    }
    if key not in tests:
        raise InvalidInput(f"cannot read the filter {text!r}", hint=f"use one of: {', '.join(tests)}")
    return tests[key]()


def _row(info: ContainerInfo, args: Args, names: dict[str, str]) -> dict[str, Any]:
    from compose.cli.view import listing as shown

    full, now = args.flag("no-trunc"), time.time()
    return {
        "Command": shown.command(info, full=full),
        "CreatedAt": local_time(info.created_at),
        "ID": info.id if full else short_id(info.id),
        "Image": info.spec.image
        if not info.spec.image.startswith("sha256:")
        else names.get(info.image_id, info.image_id),
        "Labels": ",".join(f"{key}={value}" for key, value in sorted(info.labels.items())),
        "Names": info.name,
        "Networks": ",".join(endpoint.network for endpoint in info.endpoints),
        "Ports": shown.ports(info.ports),
        "RunningFor": shown.ago(now - info.created_at),
        "State": info.status.state,
        "Status": shown.status(info.status, now),
    }


def _inspect(engine: Engine, args: Args) -> int:
    found: list[dict[str, Any]] = []
    code = each(needs_words(args, INSPECT, "a container"), lambda ref: found.append(_described(engine.container(ref))))
    print(inspected(found, args.text("format")))
    return code


def _described(info: ContainerInfo) -> dict[str, Any]:
    """The parts of Docker's inspection that scripts ask for most, and the whole request below `Spec`."""
    status, spec = info.status, info.spec
    networks = {
        endpoint.network: {
            "NetworkID": endpoint.network_id,
            "IPAddress": endpoint.ipv4_address,
            "IPPrefixLen": endpoint.prefix_length,
            "Gateway": endpoint.gateway,
            "MacAddress": endpoint.mac_address,
            "Aliases": list(endpoint.aliases),
        }
        for endpoint in info.endpoints
    }
    ports: dict[str, list[dict[str, str]]] = {}
    for port in info.ports:
        binding = {"HostIp": port.host_ip, "HostPort": str(port.host_port)}
        ports.setdefault(f"{port.container_port}/{port.protocol}", []).append(binding)
    state: dict[str, Any] = {
        "Status": status.state,
        "Running": status.state in ("running", "paused"),
        "Paused": status.state == "paused",
        "Restarting": status.state == "restarting",
        "OOMKilled": status.oom_killed,
        "Pid": status.pid,
        "ExitCode": status.exit_code or 0,
        "Error": status.error,
        "StartedAt": iso_time(status.started_at),
        "FinishedAt": iso_time(status.finished_at),
    }
    if status.health:
        state["Health"] = {"Status": status.health.state, "FailingStreak": status.health.failing_streak}
    return {
        "Id": info.id,
        "Created": iso_time(info.created_at),
        "Path": info.argv[0],
        "Args": list(info.argv[1:]),
        "State": state,
        "Image": info.image_id,
        "Name": f"/{info.name}",
        "RestartCount": status.restart_count,
        "Config": {"Image": spec.image, "Labels": dict(info.labels), "Cmd": list(info.argv)},
        "NetworkSettings": {"Networks": networks, "Ports": ports},
        "Spec": asdict(spec),
    }


def _commit(engine: Engine, args: Args) -> None:
    words = needs_words(args, COMMIT, "a container")
    if len(words) > 2:
        raise InvalidInput("container commit takes a container and one name")
    print(commit(engine, words[0], words[1] if len(words) == 2 else None, args).id)


def commit(engine: Engine, ref: str, reference: str | None, args: Args) -> Image:
    """Make an image of a container as COMMIT_OPTIONS say."""
    return engine.commit(
        ref,
        reference,
        author=args.text("author") or "",
        message=args.text("message") or "",
        changes=args.many("change"),
        pause=not args.given("pause") or args.flag("pause"),
    )


def _rm(engine: Engine, args: Args) -> int:
    def remove(ref: str) -> None:
        engine.remove_container(ref, force=args.flag("force"), volumes=args.flag("volumes"))
        print(ref)

    return each(needs_words(args, RM, "a container"), remove)


def _prune(engine: Engine, args: Args) -> int:
    if not confirmed(args, "This will remove all containers that do not run."):
        return 1
    pruned = engine.prune_containers(filters=args.many("filter"))
    if pruned.removed:
        print("Deleted Containers:")
        print("".join(f"{container}\n" for container in pruned.removed))
    print(f"Total reclaimed space: {human_size(pruned.freed_bytes)}")
    return 0


_TABLE = {
    "ls": (LS, _ls),
    "list": (LS, _ls),
    "ps": (LS, _ls),
    "inspect": (INSPECT, _inspect),
    "commit": (COMMIT, _commit),
    "rm": (RM, _rm),
    "prune": (PRUNE, _prune),
}

SUBCOMMANDS = (LS, INSPECT, COMMIT, RM, PRUNE)
"""For the reference."""
