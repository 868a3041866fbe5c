"""`umiak cp`: copy files between containers and this host, in either direction, or as tar streams."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from compose import labels
from compose.cli.context import Context
from compose.cli.labelled import containers_of
from compose.cli.options import Args, Command, Option
from engine.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from engine.facade import Engine
    from engine.types import ContainerInfo

COMMAND = Command(
    "cp",
    "Copy files between containers and this host",
    words="SERVICE:PATH|PATH|- SERVICE:PATH|PATH|-",
    options=[
        Option("-a", "--archive", help="Keep owners and groups"),
        Option("-L", "--follow-link", help="Follow a link at the source"),
        Option("--index", metavar="N", help="Only the replica with this number"),
        Option("--all", help="Also containers that run made"),
    ],
)


def run(context: Context, args: Args) -> int:
    """Copy out of one container, or into all replicas."""
    if len(args.words) != 2:
        raise InvalidInput("cp needs a source and a target", hint="for example: umiak cp web:/etc/hosts .")
    (from_service, source), (to_service, target) = map(_split, args.words)
    if bool(from_service) == bool(to_service):
        raise InvalidInput("one side of cp must be in a container, and one on this host", hint="name it SERVICE:PATH")
    with context.orchestrator() as orchestrator:
        service = from_service or to_service
        found = containers_of(context, orchestrator, [service], stopped=True, one_off=args.flag("all"))
        chosen = _chosen(found, service, args.number("index"))
        if context.dry_run:
            for one in chosen if to_service else chosen[:1]:
                inside = f"{one.name}:{target if to_service else source}"
                print(f"{source} -> {inside}" if to_service else f"{inside} -> {target}")
        elif from_service:
            _copy_out(orchestrator.engine, chosen[0], source, target, args)
        else:
            _copy_in(orchestrator.engine, chosen, source, target, args)
    return 0


def _split(word: str) -> tuple[str, str]:
    """`web:/etc` → the service and the path; a path on this host, or `-`, has no service."""
    service, colon, path = word.partition(":")
    if not colon or "/" in service or service in ("", ".", ".."):
        return "", word
    return service, path


def _chosen(found: Sequence[ContainerInfo], service: str, index: int | None) -> list[ContainerInfo]:
    chosen = sorted(
        (one for one in found if index in (None, labels.number(one.labels))), key=lambda one: labels.number(one.labels)
    )
    if not chosen:
        which = (
            f'container {index} of service "{service}"' if index is not None else f'container of service "{service}"'
        )
        raise NotFound(f"there is no {which}", hint="`umiak ps -a` lists them")
    return chosen


def _copy_out(engine: Engine, container: ContainerInfo, source: str, target: str, args: Args) -> None:
    from engine.transfer import Tree, copy, pack

    follow = args.flag("follow-link")
    with engine.files(container.id) as files, Tree.of_host() as host:
        if target == "-":
            name = os.path.basename(os.path.normpath(source)).strip("./")
            for piece in pack(files, source, name, follow=follow):
                sys.stdout.buffer.write(piece)
            return
        copy(files, source, host, _on_host(target), follow=follow, owner=_owner(args, os.geteuid(), os.getegid()))


def _copy_in(engine: Engine, containers: Sequence[ContainerInfo], source: str, target: str, args: Args) -> None:
    from engine.transfer import Tree, copy, unpack

    owner = _owner(args, 0, 0)
    if source == "-":
        # The stream can be read only once, so it goes to one container or is kept for all.
        data = sys.stdin.buffer if len(containers) == 1 else None
        kept = b"" if data else sys.stdin.buffer.read()
        for one in containers:
            with engine.files(one.id, writable=True) as files:
                unpack(files, target, iter(lambda: data.read(1 << 18), b"") if data else [kept], owner=owner)
        return
    with Tree.of_host() as host:
        for one in containers:
            with engine.files(one.id, writable=True) as files:
                copy(host, _on_host(source), files, target, follow=args.flag("follow-link"), owner=owner)


def _owner(args: Args, uid: int, gid: int) -> tuple[int, int] | None:
    return None if args.flag("archive") else (uid, gid)


def _on_host(path: str) -> str:
    """An absolute path that keeps a "/" or "/." at its end: both mean something."""
    ending = "/." if path.endswith("/.") or path == "." else "/" if path.endswith("/") else ""
    return os.path.abspath(path) + ending
