"""`umiak build`: build the images of services."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from compose.cli.context import Context, print_plan
from compose.cli.errors import warn
from compose.cli.options import Args, Command, Option

if TYPE_CHECKING:
    from collections.abc import Sequence

    from compose.desired import Desired, DesiredService
    from compose.plan import Plan
    from engine.facade import Engine

COMMAND = Command(
    "build",
    "Build images",
    words="[SERVICE...]",
    options=[
        Option("--no-cache", help="Do not use the build cache"),
        Option("--pull", help="Look for newer base images"),
        Option("--build-arg", metavar="KEY=VALUE", many=True, help="Set a build argument; repeatable"),
        Option("--no-cache-filter", metavar="STAGE", many=True, help="Stage to build without the cache; repeatable"),
        Option(
            "--ssh",
            metavar="ID",
            many=True,
            help="SSH agent or keys for RUN: default, NAME=SOCKET or NAME=KEY,…; repeatable",
        ),
        Option("--with-dependencies", help="Build the services that these depend on too"),
        Option("--push", help="Push the images to their registries afterwards"),
        Option("--check", help="Check the Dockerfiles, and build nothing"),
        Option("--print", help="Print the builds as a bake file, and build nothing"),
        Option("-q", "--quiet", help="Show nothing"),
        Option("--builder", metavar="NAME", help="Accepted, and changes nothing: there is one builder"),
        Option("-m", "--memory", metavar="SIZE", help="Accepted, and changes nothing, as with BuildKit"),
        Option("--provenance", metavar="VALUE", help="Accepted with a warning: images have no attestations"),
        Option("--sbom", metavar="VALUE", help="Accepted with a warning: images have no attestations"),
        Option("--progress", metavar="TYPE", help="The same as before the command", hidden=True),
    ],
)


def run(context: Context, args: Args) -> int:
    """Build them."""
    quiet = args.flag("quiet")
    context.take_progress(args)
    with context.view("build", quiet=quiet) as view, context.orchestrator(view=view, warm=True) as orchestrator:
        desired = _with_options(context.desired(orchestrator, args.words), args)
        services = _with_dependencies(desired, args.words) if args.flag("with-dependencies") else args.words
        if args.flag("print"):
            return _print(desired, services)
        from compose.cli.build_image import warn_of_attestations

        warn_of_attestations(args)
        if args.flag("check"):
            return _check(desired, services)
        plan = orchestrator.build(desired, services)
        if args.flag("push") and not context.dry_run:
            _push(orchestrator.engine, plan)
    if not plan:
        warn("no service here has a build section")
    elif context.dry_run:
        print_plan(plan)
    return 0


def _with_dependencies(desired: Desired, services: Sequence[str]) -> list[str]:
    found = list(services)
    for name in found:
        service = desired.services.get(name)
        found += [other for other in (service.depends_on if service else ()) if other not in found]
    return found


def _print(desired: Desired, services: Sequence[str]) -> int:
    from compose.cli.bake import bake_file

    chosen = [s for name, s in desired.services.items() if not services or name in services]
    print(bake_file([service.build for service in chosen if service.build]))
    return 0


def _check(desired: Desired, services: Sequence[str]) -> int:
    from compose.cli.build_image import show_findings
    from compose.execute import build_request
    from engine.images.build.cache import Session

    results = [
        show_findings(build_request(service.build, Session()))
        for name, service in desired.services.items()
        if service.build and (not services or name in services)
    ]
    return max(results, default=0)


def _push(engine: Engine, plan: Plan) -> None:
    from compose.plan import BuildImage

    for operation in plan:
        if isinstance(operation.action, BuildImage):
            build = operation.action.build
            for reference in (build.reference, *build.tags):
                engine.push(reference)


def _with_options(desired: Desired, args: Args) -> Desired:
    from compose.cli.build_image import argument, ssh_agent

    given = dict(argument(text) for text in args.many("build-arg"))
    agents = dict(map(ssh_agent, args.many("ssh")))

    def with_options(service: DesiredService) -> DesiredService:
        build = service.build
        if build is None:
            return service
        build = replace(
            build,
            args={**build.args, **given},
            ssh={**build.ssh, **agents},
            no_cache_filter=(*build.no_cache_filter, *args.many("no-cache-filter")),
            no_cache=build.no_cache or args.flag("no-cache"),
            pull=build.pull or args.flag("pull"),
        )
        return replace(service, build=build)

    return replace(desired, services={name: with_options(service) for name, service in desired.services.items()})
