"""`umiak up`: bring the project up; in the foreground show what its containers write until they end or Ctrl-C."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from compose.cli import signals
from compose.cli.context import Context, print_plan, timeout_of
from compose.cli.errors import warn
from compose.cli.options import Args, Command, Option, is_true
from engine.errors import InvalidInput

if TYPE_CHECKING:
    from compose.cli.attach import Attachment
    from compose.desired import Desired
    from compose.orchestrator import Orchestrator
    from compose.verdicts import UpOptions
    from compose.watch import Watcher

REMOVE_ORPHANS = Option(
    "--remove-orphans",
    variable="COMPOSE_REMOVE_ORPHANS",
    help="Remove containers of services that are not in the file",
)
QUIET = (
    Option("--quiet-pull", help="Show no progress of pulls"),
    Option("--quiet-build", help="Show no progress of builds"),
)

PLANNING = (
    Option("--build", help="Build images before starting containers"),
    Option("--no-build", help="Do not build an image, even if it is missing"),
    Option(
        "--pull", metavar="POLICY", help="When to pull images: always, missing, never; instead of the file's policies"
    ),
    Option("--force-recreate", help="Recreate containers even if nothing changed"),
    Option("--no-recreate", help="Leave containers that exist as they are"),
    Option("--always-recreate-deps", help="Recreate what the services named depend on, too"),
    Option("-V", "--renew-anon-volumes", help="Give recreated containers new anonymous volumes"),
    Option("--no-deps", help="Leave out what the services named depend on"),
    REMOVE_ORPHANS,
    Option("--scale", metavar="SERVICE=N", many=True, help="Number of containers of a service; repeatable"),
    Option("-t", "--timeout", metavar="SECONDS", help="How long a container may take to stop"),
    Option("--no-start", help="Only create containers"),
    Option("-y", "--yes", help="Make volumes whose definition changed anew; what is in them is lost"),
    Option("--rerun", help="Run services again that have done their work and ended with 0"),
)
"""Options that decide what there is to do; `plan` and `create` take them too."""

COMMAND = Command(
    "up",
    "Create and start containers",
    words="[SERVICE...]",
    options=[
        Option("-d", "--detach", help="Let containers run in the background"),
        *PLANNING,
        Option(
            "--wait", help="Return when services are running, or healthy where they have a health check; implies -d"
        ),
        Option("--wait-timeout", metavar="SECONDS", help="How long to wait for the whole project at most"),
        Option("--strict-intervals", help="Probe health only as often as the file says, also while starting"),
        Option("--abort-on-container-exit", help="Stop all containers when one ends"),
        Option("--abort-on-container-failure", help="Stop all containers when one ends with an error"),
        Option(
            "--exit-code-from", metavar="SERVICE", help="Exit with the code of that service; stops all when one ends"
        ),
        Option("--timestamps", help="Show when each line was written"),
        Option("--no-log-prefix", help="Do not begin lines with the container's name"),
        Option("--no-color", help="Show no colours"),
        Option("--attach", metavar="SERVICE", many=True, help="Show only the output of these services; repeatable"),
        Option(
            "--no-attach", metavar="SERVICE", many=True, help="Do not show the output of these services; repeatable"
        ),
        Option("--attach-dependencies", help="Show the output of what the services named depend on, too"),
        Option(
            "-w", "--watch", help="Watch the files that services are made from, and update containers when they change"
        ),
        *QUIET,
        Option("--menu", help="Accepted, and changes nothing: there is no menu"),
    ],
)


def run(context: Context, args: Args) -> int:
    """Bring the project up."""
    _check_options(args)
    with context.view("up", mutes=muted(args)) as view, context.orchestrator(warm=True, view=view) as orchestrator:
        desired = context.desired(orchestrator, args.words, strict_intervals=args.flag("strict-intervals"))
        _check_services(desired, args)
        begun, ticking = time.time(), time.monotonic()
        is_attached = not any(args.flag(key) for key in ("detach", "wait", "no-start")) and not context.dry_run
        attachment = _attachment(context, orchestrator, desired, args) if is_attached else None
        try:
            with signals.raising_hangups():
                plan = orchestrator.up(desired, plan_options(args), wait_timeout_s=timeout_of(args, "wait-timeout"))
                view.close()
                if context.dry_run or not plan:
                    print_plan(plan)
                if attachment is None:
                    return 0
                if not plan and not orchestrator.containers(desired.project):
                    print("All services have completed; --rerun runs them again", file=sys.stderr)
                with context.view("up", lines=True) as lines:
                    if args.flag("watch"):
                        orchestrator.sink = lines.sink
                    # However the clock was set meanwhile, nothing is left out.
                    return attachment.run(since=min(begun, time.time() - (time.monotonic() - ticking)))
        except KeyboardInterrupt:
            if attachment is not None:
                attachment.stop_all()
            raise


def _attachment(context: Context, orchestrator: Orchestrator, desired: Desired, args: Args) -> Attachment:
    """What `up` in the foreground shows, and what it stops at its end."""
    from compose.cli.attach import Attachment, Ending
    from compose.cli.view.lines import Style
    from compose.verdicts import selection

    chosen = selection(desired, plan_options(args))
    quiet = [name for name, service in desired.services.items() if not service.attach]
    return Attachment(
        orchestrator,
        desired.project,
        stops=chosen,
        follows=chosen if args.flag("attach-dependencies") else args.words,
        shows=args.many("attach"),
        hides=[*args.many("no-attach"), *quiet],
        spares=[name for name, service in desired.services.items() if service.awaited],
        ending=Ending(
            on_exit=args.flag("abort-on-container-exit") or args.given("exit-code-from"),
            on_failure=args.flag("abort-on-container-failure"),
            code_from=args.text("exit-code-from"),
            timeout_s=timeout_of(args),
        ),
        style=Style(
            prefix=not args.flag("no-log-prefix"),
            timestamps=args.flag("timestamps"),
            colour=not args.flag("no-color"),
        ),
        watcher=_watcher(context, orchestrator, desired, args) if args.flag("watch") else None,
    )


def _watcher(context: Context, orchestrator: Orchestrator, desired: Desired, args: Args) -> Watcher:
    from compose.cli.watch import make_watcher

    return make_watcher(context, orchestrator, context.project(args.words), desired, args.words)


def plan_options(args: Args) -> UpOptions:
    """The planner's options from the command line."""
    from compose.pulling import check_policy
    from compose.verdicts import UpOptions

    return UpOptions(
        services=tuple(args.words),
        build=args.flag("build"),
        pull=check_policy(args.text("pull")),
        no_build=args.flag("no-build"),
        force_recreate=args.flag("force-recreate"),
        no_recreate=args.flag("no-recreate"),
        always_recreate_deps=args.flag("always-recreate-deps"),
        renew_anonymous_volumes=args.flag("renew-anon-volumes"),
        renew_volumes=args.flag("yes"),
        no_deps=args.flag("no-deps"),
        remove_orphans=args.flag("remove-orphans"),
        ignore_orphans=is_true("COMPOSE_IGNORE_ORPHANS"),
        scale=dict(map(_scale, args.many("scale"))),
        timeout_s=timeout_of(args),
        start=not args.flag("no-start"),
        # Whoever asks how a run ends wants it to run.
        rerun=any(map(args.flag, ("rerun", "abort-on-container-exit", "abort-on-container-failure"))),
        rerun_services=(*args.words, (args.given("exit-code-from") and args.text("exit-code-from")) or ""),
        wait=args.given("wait") and args.flag("wait"),
    )


def _scale(text: str) -> tuple[str, int]:
    service, _, count = text.partition("=")
    if not service or not count.isdecimal():
        raise InvalidInput(f'cannot read "{text}" as a scale', hint="for example --scale web=3")
    return service, int(count)


def muted(args: Args) -> list[str]:
    """The kinds of events that are not to be shown."""
    return [kind for kind in ("pull", "build") if args.flag(f"quiet-{kind}")]


def check_planning(args: Args) -> None:
    """Refuse what cannot go together. Raise InvalidInput."""
    pairs = [("force-recreate", "no-recreate"), ("always-recreate-deps", "no-recreate"), ("build", "no-build")]
    _check_pairs(args, pairs)
    if args.flag("remove-orphans") and is_true("COMPOSE_IGNORE_ORPHANS"):
        raise InvalidInput(
            "COMPOSE_IGNORE_ORPHANS and --remove-orphans exclude each other", hint="unset the variable for this command"
        )


def _check_pairs(args: Args, pairs: Sequence[tuple[str, str]]) -> None:
    for one, other in pairs:
        if args.given(one) and args.given(other):
            raise InvalidInput(f"--{one} and --{other} exclude each other")


def _check_services(desired: Desired, args: Args) -> None:
    """Refuse options that name a service which is not there."""
    from compose.verdicts import check_service

    code_from = args.text("exit-code-from")
    for name in (*args.many("attach"), *([code_from] if code_from else [])):
        check_service(desired, name)


def _check_options(args: Args) -> None:
    check_planning(args)
    stops = [
        key for key in ("abort-on-container-exit", "abort-on-container-failure", "exit-code-from") if args.given(key)
    ]
    pairs = [
        ("no-start", "wait"),
        *(("watch", detach) for detach in ("detach", "wait", "no-start")),
        *((stop, detach) for stop in stops for detach in ("detach", "wait")),
    ]
    _check_pairs(args, pairs)
    if args.given("wait-timeout") and not args.given("wait"):
        warn("--wait-timeout has no effect without --wait")
