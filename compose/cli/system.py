"""`umiak system`: what the engine keeps on this host, what can go, and what the host is like."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from compose.cli.context import Context
from compose.cli.disk_usage import DF, df
from compose.cli.group import confirmed, run_group
from compose.cli.options import Args, Command, Option
from compose.cli.view.template import Template
from compose.cli.view.units import human_size

if TYPE_CHECKING:
    from engine.facade import Engine

COMMAND = Command(
    "system",
    "Show disk usage and the host, remove what nothing uses",
    words="df|prune|info|install-unit [ARG...]",
    stops_at_word=True,
    can_run_dry=False,
)
PRUNE = Command(
    "system prune",
    "Remove stopped containers, unused networks, untagged images and the build cache",
    options=[
        Option("-a", "--all", help="All images that no container uses, not only untagged ones"),
        Option("--volumes", help="Anonymous volumes too"),
        Option("-f", "--force", help="Do not ask"),
        Option("--filter", metavar="FILTER", many=True, help="until=, label= or label!=; repeatable"),
    ],
)
INFO = Command(
    "system info",
    "Show the engine and its host",
    options=[Option("-f", "--format", metavar="FORMAT", help="json or a Go template")],
)

INSTALL_UNIT = Command(
    "system install-unit",
    "Write the systemd unit that starts containers after a reboot (umiak boot)",
    options=[
        Option("--root", metavar="DIR", default="/", help="Write below this directory"),
        Option("--print", help="Print the unit and write nothing"),
    ],
)


def run(context: Context, args: Args) -> int:
    """Run the sub-command."""
    return run_group(context, args, "system", _TABLE)


def _prune(engine: Engine, args: Args) -> int:
    filters, everything = args.many("filter"), args.flag("all")
    images = "all images that no container uses" if everything else "all dangling images"
    volumes = "all anonymous volumes that no container uses, " if args.flag("volumes") else ""
    warning = f"This will remove all stopped containers, all unused networks, {volumes}{images} and the build cache."
    if not confirmed(args, warning):
        return 1
    freed = 0
    for title, prune in _steps(engine, everything, filters, with_volumes=args.flag("volumes")):
        removed, freed_bytes = prune()
        freed += freed_bytes
        if removed:
            print(f"Deleted {title}:")
            print("".join(f"{line}\n" for line in removed))
    if not filters:
        freed += engine.prune_build_cache()
    print(f"Total reclaimed space: {human_size(freed)}")
    return 0


def _steps(
    engine: Engine, everything: bool, filters: list[str], *, with_volumes: bool
) -> list[tuple[str, Callable[[], tuple[tuple[str, ...], int]]]]:
    """In the order in which one frees what the next may take."""

    def result(pruned: Any) -> tuple[tuple[str, ...], int]:
        return pruned.removed, pruned.freed_bytes

    own = [text for text in filters if not text.startswith("until=")]
    steps: list[tuple[str, Callable[[], tuple[tuple[str, ...], int]]]] = [
        ("Containers", lambda: result(engine.prune_containers(filters=filters))),
        ("Networks", lambda: result(engine.prune_networks(filters=filters))),
        ("Images", lambda: result(engine.prune_images(everything=everything, filters=filters))),
    ]
    if with_volumes:
        steps.insert(2, ("Volumes", lambda: result(engine.prune_volumes(filters=own))))
    return steps


def _info(engine: Engine, args: Args) -> None:
    found = _facts(engine)
    format = args.text("format")
    if format:
        print(Template("{{json .}}" if format == "json" else format).render(found))
    else:
        print("".join(f"{key}: {value}\n" for key, value in found.items()), end="")


def _facts(engine: Engine) -> dict[str, Any]:
    from compose.version import VERSION
    from engine.images.config import host_architecture

    states = [info.status.state for info in engine.containers()]
    return {
        "ServerVersion": VERSION,
        "Containers": len(states),
        "ContainersRunning": states.count("running"),
        "ContainersPaused": states.count("paused"),
        "ContainersStopped": sum(state in ("created", "exited", "dead") for state in states),
        "Images": len(engine.images.all()),
        "Driver": "overlay2",
        "DockerRootDir": engine.paths.root,
        "RunDir": engine.paths.run,
        "CgroupVersion": "2" if os.path.exists("/sys/fs/cgroup/cgroup.controllers") else "1",
        "KernelVersion": platform.release(),
        "OSType": "linux",
        "Architecture": host_architecture(),
        "NCPU": os.cpu_count() or 1,
        "MemTotal": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "PythonVersion": platform.python_version(),
        "Name": platform.node(),
    }


def _install_unit(_engine: Engine, args: Args) -> None:
    from compose.cli import unit

    if args.flag("print"):
        print(unit.unit(), end="")
        return
    print(f"wrote {unit.install(args.text('root') or '/')}")
    print("to have it run at each start of the machine: systemctl daemon-reload && systemctl enable umiak.service")


_TABLE = {
    "df": (DF, df),
    "prune": (PRUNE, _prune),
    "info": (INFO, _info),
    "install-unit": (INSTALL_UNIT, _install_unit),
}

SUBCOMMANDS = (DF, PRUNE, INFO, INSTALL_UNIT)
"""For the reference."""
