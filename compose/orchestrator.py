"""What a front end can ask of a project: the table of contents. Each method is a few calls in one order:

load (done by the caller) → desired → observe → reconcile → plan → execute → engine → events.

`down`, `ps`, `logs`, `exec`, `stop`… work from labels alone and need no Compose file. Modules are imported by the method that
needs them, so that a quick command stays quick.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from compose import labels
from engine.errors import Conflict, NotFound, UmiakError
from engine.events import Event, Sink, discard
from engine.types import RUNNING

if TYPE_CHECKING:
    from compose.desired import Desired
    from compose.lifecycle import Remains
    from compose.model.project import Project
    from compose.oneoff import RunOptions
    from compose.output import Line, Span
    from compose.plan import Plan, Provider
    from compose.verdicts import UpOptions
    from engine.facade import Engine
    from engine.runtime.client import ExecSession
    from engine.types import ContainerInfo


class Orchestrator:
    """Runs projects on an engine and tells a sink what happens. With `dry_run` it plans and changes nothing."""

    def __init__(
        self, engine: Engine, sink: Sink = discard, *, parallel: int | None = None, dry_run: bool = False
    ) -> None:
        self.engine = engine
        self.sink = sink
        self.parallel = parallel
        self.dry_run = dry_run

    # ------------------------------------------------------------------------- from the Compose file

    def desired(self, project: Project, *, strict_intervals: bool = False) -> Desired:
        """What a project asks of the engine."""
        from compose.desired import desired
        from compose.private_files import directory

        private_dir = directory(self.engine.paths.root, project.name)
        return desired(project, private_dir=private_dir, strict_intervals=strict_intervals)

    def plan(self, desired: Desired, options: UpOptions) -> Plan:
        """What `up` would do, and why. Changes nothing."""
        from compose.observe import observe
        from compose.reconcile import reconcile

        images = [service.image for service in desired.services.values()]
        images += [one.spec.image for service in desired.services.values() for one in service.preparations]
        observed = observe(self.engine, desired.project, images)
        if desired.providers:
            from compose.provider_calls import recorded
            from compose.providers import assumed

            desired = assumed(desired, recorded(self.engine.paths.root, desired.project))
        return reconcile(desired, observed, options)

    def up(self, desired: Desired, options: UpOptions, *, wait_timeout_s: float | None = None) -> Plan:
        """Bring a project to what is desired; return what was done. Raise the first failure, with nothing left half-made."""
        with self._locked(desired.project):
            if desired.providers and not self.dry_run:
                desired = self._provide(desired, options)
            return self._apply(desired, options, wait_timeout_s)

    def _apply(self, desired: Desired, options: UpOptions, wait_timeout_s: float | None = None) -> Plan:
        plan = self._plan_with_images(desired, options)
        self._warn(plan)
        self._write_private_files(desired)
        try:
            self._execute(plan, desired, timeout_s=wait_timeout_s)
        except UmiakError as error:
            self._settle_updates(desired, plan, options, error)
            raise
        if options.wait and not self.dry_run:
            self._check_ready(desired, options)
        self._forget_private_files(desired.project, desired)
        return plan

    def _check_ready(self, desired: Desired, options: UpOptions) -> None:
        """Raise NotReady where a container that was ready has failed while others were waited for."""
        from compose.failure import not_ready
        from compose.readiness import judge
        from compose.verdicts import selection

        for name in selection(desired, options):
            service = desired.services[name]
            for one in self.engine.containers({labels.PROJECT: desired.project, labels.SERVICE: name}):
                verdict = judge(one.status, "ready", name=one.name, service=name, one_shot=service.one_shot)
                if verdict.failure and one.labels.get(labels.ONEOFF) != "True":
                    raise not_ready(self.engine, one.name, f"{verdict.failure} after it had been ready")

    def _settle_updates(self, desired: Desired, plan: Plan, options: UpOptions, error: UmiakError) -> None:
        """Take the updates that a failure interrupted to an end, as each service's `failure_action` says; add that to the error."""
        from compose import rolling
        from compose.observe import observe

        services = {operation.service for operation in plan}
        updates = rolling.under_way(desired, observe(self.engine, desired.project), services)
        if not updates:
            return
        outcome = rolling.outcome(desired, updates)
        self._say(desired.project, f"update failed: {error.message}")
        try:
            self._execute(rolling.settle(desired, updates, options.timeout_s), desired)
        except UmiakError as second:
            error.message += f"; and the way back failed too: {second.message}"
        else:
            error.message += f"; {outcome}"
        error.hint = "mend what made the new container fail, then run `umiak up` again"

    def build(self, desired: Desired, services: Sequence[str] = ()) -> Plan:
        """Build the images of services that have a build section; return what was built."""
        from compose.builds import add_builds
        from compose.plan import PlanBuilder
        from compose.verdicts import check_service

        for name in services:
            check_service(desired, name)
        builder = PlanBuilder(desired.project)
        asked = [name for name, s in desired.services.items() if s.build and (not services or name in services)]
        add_builds(builder, desired.services, dict.fromkeys(asked, "asked for"))
        plan = builder.plan()
        self._execute(plan, desired)
        return plan

    def _provide(self, desired: Desired, options: UpOptions) -> Desired:
        """Call the providers first: what they set decides about the containers of their dependents."""
        from dataclasses import replace

        from compose.plan import PlanBuilder, RunProvider
        from compose.provider_calls import record, recorded
        from compose.providers import provided, selected
        from compose.turns import turns
        from compose.verdicts import selection

        chosen = selected(desired.providers, options.services, selection(desired, options))
        root, names = self.engine.paths.root, {provider.service for provider in chosen}
        others = [one for one in recorded(root, desired.project) if one.service not in names]
        record(root, desired.project, [*others, *chosen])
        answers: dict[str, dict[str, str]] = {}
        for group, needed in turns(desired, chosen):
            if needed:
                self._apply(
                    provided(desired, answers), replace(options, services=needed, wait=True, remove_orphans=False)
                )
            builder = PlanBuilder(desired.project)
            for one in group:
                builder.add(f"service:{one.service}", RunProvider(one, "up"), "asked for")
            self._execute(builder.plan(), desired, provided=answers)
        answered = (replace(one, answers=answers[one.service]) for one in chosen)
        record(root, desired.project, [*others, *answered])
        return provided(desired, answers)

    def _plan_with_images(self, desired: Desired, options: UpOptions) -> Plan:
        """Pull and build first what is to be: whether an image really changed decides about containers.

        What could not be pulled and can be built is built.
        """
        from dataclasses import replace

        from compose.plan import BuildImage, PullImage

        plan = self.plan(desired, options)
        if self.dry_run:
            return plan
        pulls = plan.only(lambda operation: isinstance(operation.action, PullImage))
        if pulls:
            self._execute(pulls, desired)
            plan = self.plan(desired, replace(options, pull="never"))
        builds = plan.only(lambda operation: isinstance(operation.action, BuildImage))
        if not builds:
            return plan
        self._execute(builds, desired)
        later = self.plan(desired, replace(options, pull="never"))
        return later.only(lambda operation: not isinstance(operation.action, BuildImage))

    def _execute(
        self,
        plan: Plan,
        desired: Desired | None = None,
        *,
        timeout_s: float | None = None,
        provided: dict[str, dict[str, str]] | None = None,
    ) -> None:
        from compose.execute import PARALLEL, execute

        if not plan or self.dry_run:
            return
        places = desired.places if desired else {}
        begun = time.monotonic()
        execute(
            self.engine,
            plan,
            self.sink,
            places=places,
            timeout_s=timeout_s,
            parallel=self.parallel or PARALLEL,
            provided=provided,
        )
        self.sink(Event("summary", "done", project=plan.project, data={"seconds": round(time.monotonic() - begun, 4)}))

    def _warn(self, plan: Plan) -> None:
        for warning in plan.warnings:
            self._say(plan.project, warning)

    def _say(self, project: str, warning: str) -> None:
        self.sink(Event("plan", "warning", project=project, data={"message": warning}))

    # --------------------------------------------------------------------------------- from labels alone

    def down(
        self,
        project: str,
        services: Sequence[str] = (),
        *,
        volumes: bool = False,
        timeout_s: float | None = None,
        images: str | None = None,
    ) -> Plan:
        """Remove all that carries the project's label: what the file of today says does not matter.

        With services only their containers, and the networks and volumes that none but these use.
        """
        from compose.lifecycle import tear_down
        from compose.provider_calls import record, recorded

        with self._locked(project):
            remains = self._remains(project, volumes=volumes, images=images)
            remains = remains.of_services(services) if services else remains
            plan = tear_down(remains, volumes=volumes, timeout_s=timeout_s)
            self._execute(plan)
            self._forget_private_files(project)
            if not self.dry_run:
                kept = recorded(self.engine.paths.root, project) if services else []
                record(self.engine.paths.root, project, [one for one in kept if one.service not in services])
        return plan

    def _remains(self, project: str, *, volumes: bool, images: str | None) -> Remains:
        from compose.lifecycle import Remains
        from compose.provider_calls import recorded

        of_project = {labels.PROJECT: project}
        containers = self.engine.containers(of_project)
        return Remains(
            project,
            containers,
            self.engine.networks(of_project),
            self.engine.volumes(of_project) if volumes else (),
            self._images_to_remove(project, containers, images),
            recorded(self.engine.paths.root, project),
        )

    def _images_to_remove(self, project: str, containers: Sequence[ContainerInfo], which: str | None) -> list[str]:
        """`all`: what containers use; `local`: those of them that were built without a name of their own."""
        if which is None:
            return []
        used = {container.spec.image: container.labels.get(labels.SERVICE, "") for container in containers}
        own = {f"{project}{separator}{service}" for service in used.values() for separator in "-_"}
        return [image for image in used if which == "all" or image in own]

    def stop(self, project: str, services: Sequence[str] = (), *, timeout_s: float | None = None) -> Plan:
        """Stop containers, dependents first."""
        from compose import lifecycle

        with self._locked(project):
            providers = self._stoppable(project, services)
            named = [name for name in services if name not in providers]
            found = self.containers(project, named) if named or not services else []
            plan = lifecycle.stop(project, found, timeout_s=timeout_s, providers=providers.values())
            self._execute(plan)
        return plan

    def _stoppable(self, project: str, services: Sequence[str]) -> dict[str, Provider]:
        """The programs that stand in for services and can stop what they provide, by service."""
        from compose.provider_calls import can_stop, recorded

        found = recorded(self.engine.paths.root, project)
        return {one.service: one for one in found if (not services or one.service in services) and can_stop(one)}

    def start(
        self,
        project: str,
        services: Sequence[str] = (),
        *,
        wait: bool = False,
        wait_timeout_s: float | None = None,
    ) -> Plan:
        """Start containers that exist, in the order and under the conditions that they were made with; `wait` until they are ready."""
        from compose import lifecycle

        with self._locked(project):
            self.containers(project, services, stopped=True)
            found = self.containers(project, stopped=True, one_off=True)
            left = [one for one in found if labels.HOOK in one.labels]
            found = [one for one in found if one.labels.get(labels.ONEOFF) != "True"]
            plan = lifecycle.start(project, found, services, wait=wait, left=left)
            self._execute(plan, timeout_s=wait_timeout_s)
        return plan

    def boot(self, project: str) -> Plan:
        """Start what a project's restart policies ask for after a reboot; what runs is left alone."""
        from compose import lifecycle

        with self._locked(project):
            plan = lifecycle.boot(project, self.containers(project, stopped=True, one_off=True))
            self._execute(plan)
        return plan

    def restart(
        self,
        project: str,
        services: Sequence[str] = (),
        *,
        timeout_s: float | None = None,
        dependents: bool = True,
    ) -> Plan:
        """Stop and start containers, with `dependents` also those whose `depends_on` says `restart: true`."""
        from compose import lifecycle

        with self._locked(project):
            found = self.containers(project, services, stopped=True)
            if dependents and services:
                found = lifecycle.with_restarted_dependents(self.containers(project, stopped=True), services)
            plan = lifecycle.restart(project, found, timeout_s=timeout_s)
            self._execute(plan)
        return plan

    def kill(self, project: str, services: Sequence[str] = (), *, signal: str = "SIGKILL") -> list[str]:
        """Send a signal to all running containers at once, in no order; return their names. With `dry_run` send nothing."""
        killed = []
        for container in self.containers(project, services):
            killed.append(container.name)
            if self.dry_run:
                continue
            try:
                self.engine.kill_container(container.id, signal)
            except (Conflict, NotFound):
                killed.pop()  # it ended just now
                continue
            service = container.labels.get(labels.SERVICE, "")
            self.sink(Event("container", "killed", container.name, project, service, {"signal": signal}))
        return killed

    def pause(self, project: str, services: Sequence[str] = ()) -> Plan:
        """Freeze what runs."""
        from compose import lifecycle

        with self._locked(project):
            plan = lifecycle.pause(project, self.containers(project, services))
            self._execute(plan)
        return plan

    def unpause(self, project: str, services: Sequence[str] = ()) -> Plan:
        """Let what is frozen go on."""
        from compose import lifecycle

        with self._locked(project):
            plan = lifecycle.unpause(project, self.containers(project, services))
            self._execute(plan)
        return plan

    def remove(self, project: str, services: Sequence[str] = (), *, stop: bool = False, volumes: bool = False) -> Plan:
        """Remove containers that do not run; with `stop` also those that do, with `volumes` their anonymous volumes too."""
        from compose import lifecycle

        with self._locked(project):
            found = self.containers(project, services, stopped=True)
            plan = lifecycle.remove(project, found, stop=stop, volumes=volumes)
            self._execute(plan)
        return plan

    def pull(
        self,
        desired: Desired,
        services: Sequence[str] = (),
        *,
        include_deps: bool = False,
        ignore_failures: bool = False,
        ignore_buildable: bool = False,
        policy: str = "always",
    ) -> Plan:
        """Fetch the images of services from their registries; `policy` "missing" leaves out those that are here."""
        from compose.registry import pulls

        chosen = self._chosen(desired, services, include_deps=include_deps)
        plan = pulls(
            desired,
            chosen,
            here=frozenset(self._images_here(desired, chosen)) if policy == "missing" else frozenset(),
            ignore_failures=ignore_failures,
            ignore_buildable=ignore_buildable,
        )
        self._execute(plan, desired)
        return plan

    def push(
        self,
        desired: Desired,
        services: Sequence[str] = (),
        *,
        include_deps: bool = False,
        ignore_failures: bool = False,
    ) -> Plan:
        """Send the images that services build to their registries."""
        from compose.registry import pushes

        chosen = self._chosen(desired, services, include_deps=include_deps)
        plan = pushes(desired, chosen, ignore_failures=ignore_failures)
        self._execute(plan, desired)
        return plan

    def create_one_off(
        self,
        desired: Desired,
        service: str,
        options: RunOptions,
        *,
        no_deps: bool = False,
        build: bool = False,
        pull: str | None = None,
        remove_orphans: bool = False,
    ) -> ContainerInfo:
        """Bring up what a service needs, wait for it as its `depends_on` says, and make a container of its own for one run."""
        from compose import oneoff
        from compose.verdicts import UpOptions, check_service

        check_service(desired, service)
        if not no_deps:
            self.up_needs(desired, service, remove_orphans=remove_orphans)
        with self._locked(desired.project):
            if any(service in provider.needed_by for provider in desired.providers):
                desired = self._provide(desired, UpOptions(services=(service,), no_deps=True))
            wanted = desired.services[service]
            if not no_deps:
                self._execute(oneoff.waits(desired, wanted, self.containers(desired.project, stopped=True)), desired)
            self._have_image(desired, service, build=build, pull=pull)
            self._write_private_files(desired)
            image_id = self.engine.images.resolve(wanted.image).id
            spec = oneoff.specification(desired.project, wanted, options, image_id)
            networks = [network.spec.name for network in self.engine.networks()]
            volumes = [volume.spec.name for volume in self.engine.volumes()]
            self._execute(oneoff.surroundings(desired, spec, networks, volumes), desired)
            return self.engine.create_container(spec)

    def up_needs(self, desired: Desired, service: str, *, remove_orphans: bool = False) -> Plan:
        """Bring up what a service depends on, and not the service itself; return what was done."""
        from compose.plan import Plan
        from compose.verdicts import UpOptions, check_service

        check_service(desired, service)
        wanted = desired.services[service]
        needed = tuple(name for name in (*wanted.depends_on, *wanted.shares) if name in desired.services)
        if not needed:
            return Plan(desired.project)
        return self.up(desired, UpOptions(services=needed, remove_orphans=remove_orphans))

    def _have_image(self, desired: Desired, service: str, *, build: bool, pull: str | None) -> None:
        """Pull or build the image of a service where it is missing or that was asked for."""
        from compose.pulling import is_wanted

        wanted = desired.services[service]
        if wanted.build and build:
            self.build(desired, [service])
            return
        missing = wanted.image not in self._images_here(desired, [service])
        has_name = wanted.is_named or not wanted.build
        if has_name and is_wanted(pull or wanted.pull_policy or "missing", missing=missing):
            self.pull(desired, [service])
        if wanted.build and wanted.image not in self._images_here(desired, [service]):
            self.build(desired, [service])

    def _chosen(self, desired: Desired, services: Sequence[str], *, include_deps: bool) -> list[str]:
        """The services named (none: all), with `include_deps` also what they need, in the file's order."""
        from compose.verdicts import check_service, with_dependencies

        for name in services:
            check_service(desired, name)
        wanted = with_dependencies(desired, services) if include_deps else set(services)
        return [name for name in desired.services if not services or name in wanted]

    def _images_here(self, desired: Desired, services: Sequence[str]) -> Iterator[str]:
        for name in services:
            reference = desired.services[name].image
            try:
                self.engine.images.resolve(reference)
            except NotFound:
                continue
            yield reference

    def containers(
        self, project: str, services: Sequence[str] = (), *, stopped: bool = False, one_off: bool = False
    ) -> list[ContainerInfo]:
        """A project's containers by name. Raise NotFound for a service of which there is none at all."""
        found = self.engine.containers({labels.PROJECT: project})
        known = {container.labels.get(labels.SERVICE, "") for container in found}
        for service in services:
            if service not in known:
                raise NotFound(f"no such service: {service}", hint=f"there are: {', '.join(sorted(known)) or 'none'}")
        return [
            container
            for container in found
            if (not services or container.labels.get(labels.SERVICE) in services)
            and (stopped or container.status.state in RUNNING)
            and (one_off or container.labels.get(labels.ONEOFF) != "True")
        ]

    def replica(self, project: str, service: str, index: int | None = None) -> ContainerInfo:
        """One running container of a service: the one with that number, or the first; where none of `up`'s runs, one of `run`'s.

        Raise Conflict where none runs at all.
        """
        running = [
            container
            for container in self.engine.containers({labels.PROJECT: project, labels.SERVICE: service})
            if container.status.state in RUNNING and (index is None or container.labels.get(labels.ONEOFF) != "True")
        ]
        running.sort(key=lambda one: (one.labels.get(labels.ONEOFF) == "True", labels.number(one.labels)))
        for container in running:
            if index in (None, labels.number(container.labels)):
                return container
        what = f'service "{service}"' if index is None else f'container {index} of service "{service}"'
        raise Conflict(f"{what} is not running", hint=f"see how it ended: umiak -p {project} ps -a")

    def logs(self, project: str, services: Sequence[str], span: Span) -> Iterator[Line]:
        """What a project's containers have written, in the order of time."""
        from compose.output import written

        return written(self.engine, self.containers(project, services, stopped=True), span)

    def exec(
        self,
        container: ContainerInfo,
        argv: Sequence[str],
        *,
        environment: Sequence[str] = (),
        working_dir: str | None = None,
        user: str | None = None,
        tty: bool = False,
        privileged: bool = False,
        detach: bool = False,
    ) -> ExecSession:
        """Run a command in a container."""
        return self.engine.exec(
            container.id,
            argv,
            env=environment,
            cwd=working_dir,
            user=user,
            tty=tty,
            privileged=privileged,
            detach=detach,
        )

    # ------------------------------------------------------------------------------------------ keeping

    @contextmanager
    def _locked(self, project: str) -> Iterator[None]:
        from compose.lock import project_lock

        if self.dry_run:
            yield
            return

        def waiting() -> None:
            message = f"another command is changing project {project}: waiting for it to end"
            self.sink(Event("plan", "warning", project=project, data={"message": message}))

        with project_lock(self.engine.paths.run, project, waiting):
            yield

    def _write_private_files(self, desired: Desired) -> None:
        for file in desired.files if not self.dry_run else ():
            file.write()

    def _forget_private_files(self, project: str, desired: Desired | None = None) -> None:
        """Forget contents that are not desired and that no container was made with."""
        from compose.private_files import directory, forget, kept

        place = directory(self.engine.paths.root, project)
        wanted = {file.path for file in desired.files} if desired else set()
        if self.dry_run or not kept(place) - wanted:
            return
        containers = self.engine.containers({labels.PROJECT: project})
        forget(place, wanted | {m.source for one in containers for m in one.spec.mounts if m.type == "file"})
