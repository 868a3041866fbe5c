"""`umiak run`: a container of its own for one command of a service, ended with that command's exit code."""

from __future__ import annotations

import os
import shlex
import sys
from typing import TYPE_CHECKING

from compose.cli.context import Context, print_plan, would
from compose.cli.exec_ import environment
from compose.cli.options import Args, Command, Option
from compose.cli.up import QUIET, REMOVE_ORPHANS, muted
from engine.errors import InvalidInput, NotFound, UmiakError

if TYPE_CHECKING:
    from compose.desired import Desired
    from compose.oneoff import RunOptions
    from compose.orchestrator import Orchestrator
    from engine.facade import Engine
    from engine.runtime.client import AttachSession
    from engine.types import ContainerInfo

COMMAND = Command(
    "run",
    "Run a one-off command of a service",
    words="SERVICE [COMMAND] [ARG...]",
    stops_at_word=True,
    options=[
        Option("--rm", help="Remove the container when it ends"),
        Option("-d", "--detach", help="Do not wait for it, and print its ID"),
        Option("-e", "--env", metavar="KEY=VALUE", many=True, help="Set a variable; repeatable"),
        Option("--env-from-file", metavar="FILE", many=True, help="Set the variables of a file; repeatable"),
        Option("-u", "--user", metavar="USER", help="Run as this user (name|uid[:gid])"),
        Option("-w", "--workdir", metavar="DIR", help="Run in this directory"),
        Option("-v", "--volume", metavar="SOURCE:TARGET", many=True, help="Mount a path or volume; repeatable"),
        Option("-p", "--publish", metavar="PORT", many=True, help="Publish a port; repeatable"),
        Option("-P", "--service-ports", help="Publish the service's ports"),
        Option("--name", metavar="NAME", help="Name of the container"),
        Option("--entrypoint", metavar="COMMAND", help="Instead of the image's entrypoint"),
        Option("-l", "--label", metavar="KEY=VALUE", many=True, help="Set a label; repeatable"),
        Option("--no-deps", help="Leave out what the service needs"),
        Option("-T", "--no-TTY", help="Allocate no terminal, even if there is one here"),
        Option("-i", "--interactive", default="true", help="Pass the input on; --interactive=false for not"),
        Option("--build", help="Build the image first"),
        Option("--pull", metavar="POLICY", choices=("always", "missing", "never"), help="always, missing or never"),
        Option("--use-aliases", help="Answer to the service's names on its networks"),
        Option("--cap-add", metavar="CAPABILITY", many=True, help="Add a capability; repeatable"),
        Option("--cap-drop", metavar="CAPABILITY", many=True, help="Drop a capability; repeatable"),
        Option("-q", "--quiet", help="Show no progress"),
        *QUIET,
        REMOVE_ORPHANS,
        Option("-t", "--tty", help="Accepted for compatibility", hidden=True),
    ],
)


def run(context: Context, args: Args) -> int:
    """Start what the service needs, then run the command."""
    if not args.words:
        raise InvalidInput("run needs a service", hint="for example: umiak run --rm web sh")
    service = args.words[0]
    view_quiet = args.flag("quiet")
    with (
        context.view("run", quiet=view_quiet, mutes=muted(args)) as view,
        context.orchestrator(warm=True, view=view) as orchestrator,
    ):
        desired = context.desired(orchestrator, [service])
        options = _options(args)
        if context.dry_run:
            return _run_dry(orchestrator, desired, service, args)
        try:
            container = orchestrator.create_one_off(
                desired,
                service,
                options,
                no_deps=args.flag("no-deps"),
                build=args.flag("build"),
                pull=args.text("pull"),
                remove_orphans=args.flag("remove-orphans"),
            )
            view.close()
            return _run_it(orchestrator, container, args)
        except KeyboardInterrupt:
            if args.flag("rm"):
                _remove_own(orchestrator, options)
            raise


def _run_dry(orchestrator: Orchestrator, desired: Desired, service: str, args: Args) -> int:
    """Print what would be brought up for it, and what would be run."""
    from compose.verdicts import check_service

    check_service(desired, service)
    if not args.flag("no-deps") and (plan := orchestrator.up_needs(desired, service)):
        print_plan(plan)
    command = shlex.join(args.words[1:]) or "its command"
    return would(f"run {command} in a new container of {service}")


def _run_it(orchestrator: Orchestrator, container: ContainerInfo, args: Args) -> int:
    from compose.cli.errors import report
    from compose.cli.proxy import signals_to
    from compose.cli.terminal import join

    engine = orchestrator.engine
    try:
        if args.flag("detach"):
            engine.start_container(container.id)
            print(container.id)
            return 0
        session = _start(engine, container)
        with signals_to(engine, container.id):
            code = join(session, stdin=container.spec.stdin_open)
    except UmiakError as error:
        _remove(orchestrator, container, args)
        return max(report(error), error.exit_code)
    if code is not None:  # else the user has left it, and it goes on
        _remove(orchestrator, container, args)
    return code or 0


def _start(engine: Engine, container: ContainerInfo) -> AttachSession:
    """Start it and join it. A signal that comes meanwhile ends it, as there is nobody in it yet to pass it on to."""
    try:
        return engine.attach_container(container.id, start=True, stdin=container.spec.stdin_open)
    except KeyboardInterrupt:
        engine.stop_container(container.id, timeout_s=0)
        raise


def _remove(orchestrator: Orchestrator, container: ContainerInfo, args: Args) -> None:
    if args.flag("rm"):
        try:
            orchestrator.engine.remove_container(container.id, force=True, volumes=True)
        except NotFound:
            pass


def _remove_own(orchestrator: Orchestrator, options: RunOptions) -> None:
    """Remove what this command made, or was about to make, for its run."""
    from compose.oneoff import own_labels

    for container in orchestrator.engine.containers(own_labels(options)):
        try:
            orchestrator.engine.remove_container(container.id, force=True, volumes=True)
        except NotFound:
            continue


def _options(args: Args) -> RunOptions:
    from compose.oneoff import RunOptions, read_mount, read_port

    _, *command = args.words
    entrypoint = args.text("entrypoint")
    is_detached = args.flag("detach")
    interactive = (not args.given("interactive") or args.flag("interactive")) and not is_detached
    tty = interactive and not args.flag("no-TTY") and sys.stdin.isatty() and sys.stdout.isatty()
    return RunOptions(
        command=tuple(command) or None,
        entrypoint=None if entrypoint is None else tuple(shlex.split(entrypoint)),
        name=args.text("name"),
        environment=_environment(args),
        labels=dict(text.partition("=")[::2] for text in args.many("label")),
        user=args.text("user"),
        working_dir=args.text("workdir"),
        mounts=tuple(map(read_mount, args.many("volume"))),
        ports=tuple(map(read_port, args.many("publish"))),
        service_ports=args.flag("service-ports"),
        use_aliases=args.flag("use-aliases"),
        tty=tty,
        interactive=interactive,
        cap_add=tuple(args.many("cap-add")),
        cap_drop=tuple(args.many("cap-drop")),
        auto_remove=args.flag("rm"),
    )


def _environment(args: Args) -> dict[str, str]:
    found: dict[str, str] = {}
    if files := args.many("env-from-file"):
        from compose.spec.dotenv import load_files

        found |= load_files(files, os.environ, [])
    given = (environment(text).partition("=") for text in args.many("env"))
    return found | {key: value for key, _, value in given}
