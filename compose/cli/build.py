"""`umiak build`: build the images of services."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from compose.cli import signals
from compose.cli.context import Context, print_plan
from compose.cli.errors import warn
from compose.cli.options import Args, Command, Option
from engine.errors import InvalidInput

if TYPE_CHECKING:
    from compose.desired import Desired, DesiredService

COMMAND = Command(
    "build",
    "Build images",
    words="[SERVICE...]",
    options=[
        Option("--no-cache", help="Do not use the build cache"),
        Option("--pull", help="Look for newer base images"),
        Option("--build-arg", metavar="KEY=VALUE", many=True, help="Set a build argument; repeatable"),
        Option("-q", "--quiet", help="Show nothing"),
    ],
)


def run(context: Context, args: Args) -> int:
    """Build them."""
    quiet = args.flag("quiet")
    with context.view("build", quiet=quiet) as view, context.orchestrator(view=view, warm=True) as orchestrator:
        project = context.project(args.words)
        desired = _with_options(orchestrator.desired(project), args)
        with signals.interruptible():
            plan = orchestrator.build(desired, args.words)
    if not plan:
        warn("no service here has a build section")
    elif context.dry_run:
        print_plan(plan)
    return 0


def _with_options(desired: Desired, args: Args) -> Desired:
    given = dict(_argument(text) for text in args.many("build-arg"))

    def with_options(service: DesiredService) -> DesiredService:
        build = service.build
        if build is None:
            return service
        build = replace(
            build,
            args={**build.args, **given},
            no_cache=build.no_cache or args.flag("no-cache"),
            pull=build.pull or args.flag("pull"),
        )
        return replace(service, build=build)

    return replace(desired, services={name: with_options(service) for name, service in desired.services.items()})


def _argument(text: str) -> tuple[str, str | None]:
    import os

    key, equals, value = text.partition("=")
    if not key:
        raise InvalidInput(f'cannot read "{text}" as a build argument', hint="for example --build-arg VERSION=3")
    return key, value if equals else os.environ.get(key)
