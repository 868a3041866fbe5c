"""What every command needs: the global options, the project they name, the engine, and the view of what happens."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from compose.cli.options import Args
from engine.errors import InvalidInput

if TYPE_CHECKING:
    from compose.cli.view.base import View
    from compose.desired import Desired
    from compose.model.project import Project
    from compose.orchestrator import Orchestrator
    from compose.plan import Plan
    from compose.recollection import Recollections
    from compose.spec.discover import LoadOptions
    from engine.facade import Engine
    from engine.types import ContainerInfo


class Context:
    """One invocation of the command line: its global options, and what they stand for, made when asked."""

    def __init__(self, options: Args) -> None:
        self.options = options
        self._starts_containers = False
        self.parallel = options.number("parallel")
        if ansi := "never" if options.flag("no-ansi") else options.text("ansi"):
            os.environ["COMPOSE_ANSI"] = ansi

    # -------------------------------------------------------------------------------- the project

    def load_options(self, **more: Any) -> LoadOptions:
        """What the global options say about the project, as the loader takes it."""
        from compose.spec.discover import LoadOptions

        more.setdefault("all_resources", self.options.flag("all-resources"))
        more.setdefault("compatibility", self.options.flag("compatibility"))
        return LoadOptions(
            files=tuple(self.options.many("file")),
            project_name=self.options.text("project-name"),
            project_directory=self.options.text("project-directory") or self.options.text("workdir"),
            profiles=tuple(self.options.many("profile")),
            env_files=tuple(self.options.many("env-file")),
            **more,
        )

    def load(self, options: LoadOptions) -> Project:
        """Load the project and print what the loader warns of."""
        from compose.cli.errors import warn
        from compose.spec.load import load

        project = load(options)
        for warning in project.warnings:
            warn(str(warning))
        return project

    def project(self, services: Sequence[str] = (), **more: Any) -> Project:
        """The project that the options and the environment name. Naming a service enables its profiles."""
        from dataclasses import replace

        options = self.load_options(**more)
        project = self.load(options)
        hidden = [project.disabled_services[name] for name in services if name in project.disabled_services]
        if not hidden:
            return project
        profiles = (*project.profiles, *(profile for service in hidden for profile in service.profiles[:1]))
        return self.load(replace(options, profiles=profiles))

    def desired(
        self, orchestrator: Orchestrator, services: Sequence[str] = (), *, strict_intervals: bool = False
    ) -> Desired:
        """What the project asks of the engine: as the last command loaded it, where nothing has changed since, else loaded anew."""
        from dataclasses import replace

        from compose.cli.errors import warn
        from compose.recollection import Recollections

        engine = orchestrator.engine
        memory = Recollections(engine.paths.run)
        options = replace(self.load_options(), environment={})  # it counts anyway, and is not to be printed
        view = (engine.paths.root, options, tuple(services), strict_intervals)
        found = memory.recall(*view)
        if self._starts_containers:
            engine.expect_networks([network.name for network in found.desired.networks.values()] if found else None)
        if found is None:
            return self._loaded(orchestrator, services, strict_intervals, memory, view)
        for warning in found.warnings:
            warn(warning)
        return found.desired

    def _loaded(
        self,
        orchestrator: Orchestrator,
        services: Sequence[str],
        strict_intervals: bool,
        memory: Recollections,
        view: tuple[object, ...],
    ) -> Desired:
        """Load it, and keep that for the next command."""
        from compose.recollection import Recollection
        from compose.spec import source

        with source.noting() as looks:
            project = self.project(services)
            desired = orchestrator.desired(project, strict_intervals=strict_intervals)
        if not self.dry_run:
            memory.keep(Recollection(desired, tuple(map(str, project.warnings)), looks), *view)
        return desired

    def project_name(self) -> str:
        """The project's name, by the shortest way: no file is read for it where it is given, else hardly any."""
        from compose.spec.discover import discover

        return discover(self.load_options()).name

    # --------------------------------------------------------------------------- the engine, the view

    @property
    def dry_run(self) -> bool:
        """Whether nothing may be changed."""
        return self.options.flag("dry-run")

    @contextmanager
    def engine(self, *, warm: bool = False) -> Iterator[Engine]:
        """The engine, closed at the end; `warm` where containers are going to be started."""
        from compose.wiring import open_engine

        engine = open_engine(warm=warm)
        try:
            yield engine
        finally:
            engine.close()

    @contextmanager
    def orchestrator(self, *, warm: bool = False, view: View | None = None) -> Iterator[Orchestrator]:
        """The orchestrator on the engine, its events going to the view."""
        from compose.orchestrator import Orchestrator
        from engine.events import discard

        self._starts_containers = warm and not self.dry_run
        with self.engine(warm=self._starts_containers) as engine:
            sink = view.sink if view else discard
            yield Orchestrator(engine, sink, parallel=self.parallel, dry_run=self.dry_run)

    def take_progress(self, args: Args) -> None:
        """Let `--progress` after the command stand for the one before it; BuildKit's word for JSON is another."""
        if progress := args.text("progress"):
            os.environ["COMPOSE_PROGRESS"] = "json" if progress == "rawjson" else progress

    @contextmanager
    def view(
        self, title: str, *, quiet: bool = False, lines: bool = False, mutes: Sequence[str] = ()
    ) -> Iterator[View]:
        """How progress is shown, by --progress and by what stderr is; with `lines` never as a live region.

        Of the kinds of events in `mutes` only warnings are shown.
        """
        from compose.cli.view.base import Muted
        from compose.cli.view.choose import choose_view

        wanted = "quiet" if quiet else self.options.text("progress") or "auto"
        view = choose_view("plain" if lines and wanted in ("auto", "tty") else wanted, title)
        view = Muted(view, mutes) if mutes else view
        try:
            yield view
        finally:
            view.close()


def check_services(context: Context, known: Sequence[str], services: Sequence[str]) -> list[str]:
    """The services named of which there is a container. One that the project does not have at all is an error.

    Where only a project name was given no file is read, and a service without containers is simply not there.
    """
    missing = [service for service in services if service not in known]
    if missing and not (context.options.given("project-name") and not context.options.given("file")):
        from compose.verdicts import check_names

        project = context.project(all_resources=True)
        check_names(missing, project.services, project.disabled_services)
    return [service for service in services if service in known]


def print_plan(plan: Plan) -> None:
    """Print a plan as text."""
    print(plan if plan else f"{plan.project}: nothing to do, all is as the file asks")


def would(what: str) -> int:
    """Print what a command that has no plan would do (--dry-run); return the exit code."""
    print(f"would {what}")
    return 0


def timeout_of(args: Args, key: str = "timeout") -> float | None:
    """A time in seconds from an option, None where it was not given."""
    text = args.text(key)
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < 1e9:
        raise InvalidInput(f'option --{key} cannot be "{text}"', hint="use a number of seconds")
    return seconds


def short_name(container: ContainerInfo) -> str:
    """How a container's lines begin: its name without the project's, `web-1`."""
    from compose import labels

    project = container.labels.get(labels.PROJECT, "")
    service = container.labels.get(labels.SERVICE, "")
    number = str(labels.number(container.labels))
    is_made = container.name in (separator.join((project, service, number)) for separator in "-_")
    return container.name[len(project) + 1 :] if is_made else container.name
