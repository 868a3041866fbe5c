"""From what is wanted and what exists to a plan. Pure: it opens no file, asks no engine, starts nothing.

`verdicts` decides what is to become of each replica; this turns that into operations and says what each must wait for.

A container is replaced so that a kill at any point loses nothing: make `<old id>_<name>`, stop the old one, remove it, rename
the new one, start it. Where the new one cannot exist beside the old one (its network or volume is made anew, or its address is
fixed), the old one is stopped and retired first. What a killed replacement left (a container labelled as a successor, under
its passing name, or a retired one) is finished by the next plan. Anonymous volumes go over to the successor.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from compose import hooks, labels, pre_start
from compose.builds import add_builds
from compose.desired import Desired, DesiredService
from compose.difference import anonymous_volumes
from compose.observe import Observed
from compose.plan import (
    AwaitContainer,
    Condition,
    CreateContainer,
    CreateNetwork,
    CreateVolume,
    Plan,
    PlanBuilder,
    Provider,
    PullImage,
    RemoveContainer,
    RemoveNetwork,
    RemoveVolume,
    RenameContainer,
    RetireContainer,
    RunProvider,
)
from compose.providers import selected
from compose.pulling import is_wanted
from compose.readiness import judge
from compose.rolling import Update
from compose.updates import has_fixed_address, obstacle
from compose.verdicts import Replica, Surplus, UpOptions, decide, selection
from engine.errors import NotFound
from engine.types import RUNNING, ContainerInfo, ContainerSpec, Mount

_CONDITIONS: Mapping[str, Condition] = {
    "service_healthy": "service_healthy",
    "service_completed_successfully": "service_completed_successfully",
}
"""Conditions that need a wait; having started needs none."""


def reconcile(desired: Desired, observed: Observed, options: UpOptions) -> Plan:
    """Plan what brings the project from what is observed to what is desired.

    Raise NotFound or InvalidInput, with a place, for what can be known to fail before anything is touched.
    """
    return _Planner(desired, observed, options).plan()


class _Planner:
    def __init__(self, desired: Desired, observed: Observed, options: UpOptions) -> None:
        self.desired = desired
        self.observed = observed
        self.options = options
        self.verdicts = decide(desired, observed, options)
        self.replicas = self.verdicts.replicas
        self.builder = PlanBuilder(desired.project)
        self.built: dict[str, int] = {}
        self.providers = selected(desired.providers, options.services, selection(desired, options))
        self.provided: dict[str, int] = {}
        self.prepared: dict[str, int] = {}
        self.cleared: dict[str, int] = {}
        """Container ID → the operation that removed or retired it ahead of its turn, because its network or a volume goes."""
        self.discarded: dict[str, int] = {}
        """Name → the operation that removed the container that bore it, so that another one may."""
        self.network_made: dict[str, int | None] = {}
        self.volume_made: dict[str, int | None] = {}
        self.waits: dict[tuple[str, str], int | None] = {}

    def plan(self) -> Plan:
        """Write down the operations, each after what it waits for."""
        self._check_externals()
        self._call_providers(provider for provider in self.providers if not self._needs_containers(provider))
        self._add_images()
        self._stop_dependents()
        self._clear()
        self._add_volumes()
        self._add_networks()
        for surplus in self.verdicts.surplus:
            if surplus.container.id not in self.cleared:
                self._discard(surplus)
        for name in self.replicas:
            self._call_providers(provider for provider in self.providers if name in provider.needed_by)
            self._add_service(name)
        self._call_providers(self.providers)
        if self.options.wait:
            self._await_all()
        plan = self.builder.plan()
        return replace(plan, warnings=(*self.desired.warnings, *self.verdicts.warnings, *plan.warnings))

    def _check_externals(self) -> None:
        used_networks, used_volumes = self._used_networks(), self._used_volumes()
        for kind, external, used, present in (
            ("network", self.desired.external_networks, used_networks, self.observed.networks),
            ("volume", self.desired.external_volumes, used_volumes, self.observed.volumes),
        ):
            for key, name in external.items():
                if name in used and name not in present:
                    raise NotFound(
                        f"{kind} {name} is declared as external, but does not exist",
                        hint=f"make it first, or remove `external: true` from {kind}s.{key}",
                        place=self.desired.places.get(f"{kind}s.{key}"),
                    )

    def _services(self) -> Iterator[DesiredService]:
        """The services that shall have a container."""
        names = selection(self.desired, self.options) | set(self.replicas)
        services = (service for name, service in self.desired.services.items() if name in names)
        return (service for service in services if self.options.count(service))

    def _needs_containers(self, provider: Provider) -> bool:
        """Whether a provider is called after containers: its own needs, or those of a provider before it."""
        before = [other for other in self.providers if other.service in provider.after]
        return any(name in self.desired.services for name in provider.after) or any(map(self._needs_containers, before))

    def _call_providers(self, providers: Iterable[Provider]) -> None:
        """Add the calls of these and of those before them, each once and after the containers that it needs are ready."""
        for provider in providers:
            if provider.service in self.provided:
                continue
            self._call_providers(other for other in self.providers if other.service in provider.after)
            ready = [self._await_ready(replica) for name in provider.after for replica in self.replicas.get(name, ())]
            self.provided[provider.service] = self.builder.add(
                f"service:{provider.service}",
                RunProvider(provider, "up"),
                "not provided yet",
                after=[*(self.provided.get(name) for name in provider.after), *ready],
            )

    def _await_ready(self, replica: Replica) -> int | None:
        """The operation that waits for a container to be ready, for a provider; None where it is."""
        key = (replica.name, "ready")
        if key not in self.waits:
            self.waits[key] = None
            if self.options.start and not self._fulfils(replica, "ready"):
                action = AwaitContainer(replica.name, "ready", one_shot=replica.service.one_shot)
                self.waits[key] = self.builder.add(
                    replica.resource, action, "needed by a provider", after=[replica.started]
                )
        return self.waits[key]

    def _used_networks(self) -> set[str]:
        return {request.network for service in self._services() for request in service.template.networks}

    def _used_volumes(self) -> set[str]:
        mounts = (mount for service in self._services() for mount in service.template.mounts)
        return {mount.source for mount in mounts if mount.type == "volume" and mount.source}

    def _add_images(self) -> None:
        builds: dict[str, str] = {}
        for service in self._services():
            missing = service.image not in self.observed.images
            if self._add_pull(service, missing):
                continue
            if service.build and not self.options.no_build:
                asked = "asked for with --build" if self.options.build else "pull policy build"
                if missing:
                    builds[service.name] = "not found"
                elif self.options.build or service.pull_policy == "build":
                    builds[service.name] = f"{asked}; containers are recreated where the image becomes another one"
            elif missing and not self._is_built_by_another(service):
                raise self._missing_image(service)
        if builds:
            self.built |= add_builds(self.builder, self.desired.services, builds, self.observed.images)

    def _add_pull(self, service: DesiredService, missing: bool) -> bool:
        """Whether the service's image comes from a registry.

        One with a build section is asked for by the name that its `image` gives, and built if that fails; without one it is built.
        """
        if service.build is not None and not service.is_named:
            return False
        policy = self.options.pull or service.pull_policy or "missing"
        builds = service.build is not None and not self.options.no_build
        if not is_wanted(policy, missing=missing, age_s=self._age_s(service)) or (builds and self.options.build):
            return False
        if not builds and self._is_built_by_another(service):
            return False
        if service.image not in self.built:
            place = self.desired.places.get(f"services.{service.name}.image") or service.place
            self.built[service.image] = self.builder.add(
                f"image:{service.name}",
                PullImage(service.image, service.platform, required=not builds, place=place),
                "not found" if missing else f"pull policy {policy}",
            )
        return True

    def _age_s(self, service: DesiredService) -> float | None:
        return self.observed.image_ages_s.get(service.image)

    def _is_built_by_another(self, service: DesiredService) -> bool:
        return not self.options.no_build and any(
            other.build and other.image == service.image and other.name != service.name for other in self._services()
        )

    def _missing_image(self, service: DesiredService) -> NotFound:
        hint = "its pull policy is never: use `umiak image pull`, `umiak image load` or another policy"
        if service.build:
            hint = "run without --no-build"
        place = self.desired.places.get(f"services.{service.name}.image") or service.place
        return NotFound(
            f'image "{service.image}" of service "{service.name}" does not exist here', hint=hint, place=place
        )

    def _add_volumes(self) -> None:
        used = self._used_volumes()
        for key, spec in self.desired.volumes.items():
            if spec.name not in used:
                continue
            resource, removal, cause = f"volume:{key}", None, "not found"
            if spec.name in self.verdicts.renewed_volumes:
                cause = self.verdicts.renewed_volumes[spec.name]
                after = self.cleared.values()
                removal = self.builder.add(resource, RemoveVolume(spec.name), cause, after=after)
            if removal is not None or spec.name not in self.observed.volumes:
                self.volume_made[spec.name] = self.builder.add(resource, CreateVolume(spec), cause, after=[removal])

    def _stop_dependents(self) -> None:
        """Stop those that are to be restarted before what they depend on goes, dependents first."""
        for name in reversed(self.replicas):
            for replica in self.replicas[name]:
                if replica.verdict == "restart" and replica.existing:
                    before = self._stops_before(name)
                    replica.stopped = self._stop(replica.resource, replica.existing, replica.cause, before)

    def _stops_before(self, name: str) -> list[int | None]:
        """The early stops of a service's dependents."""
        dependents = (r for replicas in self.replicas.values() for r in replicas if name in r.service.depends_on)
        return [replica.stopped for replica in dependents]

    def _clear(self) -> None:
        """Take all containers off networks and volumes that are made anew, and remove those that nothing replaces."""
        replicas = [replica for replicas in self.replicas.values() for replica in replicas]
        replaced = {replica.existing.id for replica in replicas if replica.existing and replica.is_replaced}
        for container in self.observed.containers:
            if cause := self.verdicts.made_anew(container):
                out_of_the_way = self._retire if container.id in replaced else self._discard
                self.cleared[container.id] = out_of_the_way(Surplus(container, cause))

    def _add_networks(self) -> None:
        used = self._used_networks()
        for key, spec in self.desired.networks.items():
            if spec.name not in used:
                continue
            resource = f"network:{key}"
            if spec.name in self.verdicts.renewed_networks:
                cause = self.verdicts.renewed_networks[spec.name]
                removal = self.builder.add(resource, RemoveNetwork(spec.name), cause, after=self.cleared.values())
                self.network_made[spec.name] = self.builder.add(resource, CreateNetwork(spec), cause, after=[removal])
            elif spec.name not in self.observed.networks:
                self.network_made[spec.name] = self.builder.add(resource, CreateNetwork(spec), "not found")

    def _discard(self, surplus: Surplus, after: Iterable[int | None] = ()) -> int:
        """Stop (where it runs) and remove a container."""
        container, stop = surplus.container, None
        if container.status.state in RUNNING:
            stop = self._stop(surplus.resource, container, surplus.cause, after)
        removed = self.builder.add(surplus.resource, RemoveContainer(container.name), surplus.cause, after=[stop])
        self.discarded[container.name] = removed
        return removed

    def _retire(self, surplus: Surplus, after: Iterable[int | None] = ()) -> int:
        """Stop (where it runs) a container and take it off its networks, so that its successor can be made."""
        container, stop = surplus.container, None
        if container.status.state in RUNNING:
            stop = self._stop(surplus.resource, container, surplus.cause, after)
        volumes = tuple(sorted({*container.volumes.values()} & {*self.verdicts.renewed_volumes}))
        retire = RetireContainer(container.name, volumes)
        return self.builder.add(surplus.resource, retire, surplus.cause, after=[stop])

    def _stop(self, resource: str, container: ContainerInfo, cause: str, after: Iterable[int | None] = ()) -> int:
        return hooks.stop(self.builder, resource, container, self.options.timeout_s, cause, after)

    def _add_service(self, name: str) -> None:
        rolled = self._rolled(name)
        for replica in self.replicas[name]:
            if replica.is_replaced and replica not in rolled:
                replica.exists = self._add_container(replica)
        if rolled:
            self._update(self.desired.services[name], rolled)
        if not self.options.start:
            for one in self.desired.services[name].preparations:
                self._have_image(self.desired.services[name], one.spec.image)
        for replica in self.replicas[name] if self.options.start else []:
            if replica in rolled:
                continue
            if replica.successor and replica.successor.status.state in RUNNING:
                replica.started = replica.exists
            elif replica.verdict == "hook":
                own = replica.service.template.labels
                replica.started = hooks.run(self.builder, replica.resource, replica.name, own, replica.cause)
            elif replica.verdict != "keep":
                cause = "created" if replica.verdict in ("create", "recreate") else replica.cause
                conditions = self._conditions(replica.service)
                updated = [other.exists for other in rolled]
                after = [replica.exists, replica.stopped, *conditions, self._prepared(replica, conditions), *updated]
                replica.started = hooks.start(
                    self.builder, replica.resource, replica.name, replica.service.template.labels, cause, after
                )

    def _rolled(self, name: str) -> list[Replica]:
        """The replicas of a service that are replaced in groups; none where it has no `update_config`."""
        service = self.desired.services[name]
        if service.policies is None or not self.options.start:
            return []
        found = [r for r in self.replicas[name] if r.is_replaced and r.existing and r.existing.id not in self.cleared]
        template, warnings = service.template, self.builder.warnings
        place = f"{service.place}: " if service.place else ""
        if found and has_fixed_address(template):
            reason = "its fixed address can be held by one container only"
            warnings.append(f"{place}update_config of {name} is not acted on: {reason}")
            return []
        if found and service.policies.update.order == "start-first" and (reason := obstacle(template)):
            warnings.append(f"{place}{name} is updated stop-first, not start-first: {reason}")
        return found

    def _update(self, service: DesiredService, rolled: list[Replica]) -> None:
        """Replace containers group by group: all new ones are made first, the old ones go when all new ones are good."""
        update = Update(self.builder, service, len(rolled), self.options.timeout_s)
        created = [self._create(replica, replica.passing_name) for replica in rolled if replica.successor is None]
        ended: list[int | None] = []
        after: Iterable[int | None] = created
        for group in update.policy.groups(len(rolled)):
            after = update.pause(after) if ended else after
            conditions = self._conditions(service)
            befores = [[*after, *conditions, self._prepared(rolled[position], conditions)] for position in group]
            stops = self._stops_before(service.name)
            after = [update.replace(rolled[p], p, before, stops) for p, before in zip(group, befores, strict=True)]
            ended += after
        for replica in rolled:
            replica.exists = replica.started = update.take_place(replica, ended)

    def _add_container(self, replica: Replica) -> int:
        """The operations that put the wanted container, not started, in its place; return the last."""
        old = replica.existing
        if replica.successor is not None:
            return self._take_place(replica, replica.successor.name, replica.cause, None)
        if old is None:
            return self._create(replica, replica.name)
        # A fixed address cannot be leased to a container and to its successor at once.
        if old.id not in self.cleared and has_fixed_address(replica.service.template):
            stops = self._stops_before(replica.service.name)
            self.cleared[old.id] = self._retire(Surplus(old, replica.cause), stops)
        created = self._create(replica, replica.passing_name, after=[self.cleared.get(old.id)])
        return self._take_place(replica, replica.passing_name, f"replaced by #{created}", created)

    def _take_place(self, replica: Replica, passing_name: str, cause: str, created: int | None) -> int:
        """Let a successor take the old one's place and name."""
        old, last = replica.existing, created
        if old is not None:
            if old.status.state in RUNNING and old.id not in self.cleared:
                before = [created, *self._stops_before(replica.service.name)]
                last = self._stop(replica.resource, old, cause, before)
            last = self.builder.add(replica.resource, RemoveContainer(old.name), cause, after=[last])
        return self.builder.add(replica.resource, RenameContainer(passing_name, replica.name), cause, after=[last])

    def _create(self, replica: Replica, name: str, after: Iterable[int | None] = ()) -> int:
        service, old = replica.service, replica.existing
        spec = service.container(self.desired.project, replica.number, self.observed.images.get(service.image))
        spec = replace(spec, name=name)
        if old is not None:
            spec = replace(spec, labels={**spec.labels, labels.REPLACE: old.id})
            if not self.options.renew_anonymous_volumes:
                spec = _with_volumes_of(old, spec)
        mounted = [self.volume_made.get(mount.source) for mount in spec.mounts if mount.type == "volume"]
        joined = [self.network_made.get(request.network) for request in spec.networks]
        freed = self.discarded.get(name)
        owners = [r.exists for owner in service.shares for r in self.replicas.get(owner, ())]
        return self.builder.add(
            replica.resource,
            CreateContainer(spec, replaces=old.name if old else None),
            replica.cause,
            after=[
                *self._providers_of(service),
                self.built.get(service.image),
                *mounted,
                *joined,
                *owners,
                freed,
                *after,
            ],
            changes=replica.changes,
        )

    def _prepared(self, replica: Replica, conditions: list[int | None]) -> int | None:
        """The last of the containers that must have run to their end before a replica starts; None where they have before."""
        service, last = replica.service, None
        image_id = None if service.image in self.built else self.observed.images.get(service.image)
        definition = service.template.labels.get(labels.PRE_START)
        for one in service.preparations:
            own = replica.number if one.per_replica else 0
            witnesses = [replica] if one.per_replica else self.replicas[service.name]
            if any(pre_start.is_done(witness.existing, definition, image_id) for witness in witnesses):
                continue
            name = f"{one.spec.name}-{own}" if own else one.spec.name
            if name not in self.prepared:
                self.prepared[name] = self._run_once(replica, replace(one.spec, name=name), [last, *conditions])
            last = self.prepared[name]
        return last

    def _run_once(self, replica: Replica, spec: ContainerSpec, after: list[int | None]) -> int:
        """Run a container to its successful end and remove it; one that is left of an earlier run makes way."""
        resource, cause, name = replica.resource, "pre_start", spec.name
        left = next((one for one in self.observed.containers if one.name == name), None)
        gone = self._discard(Surplus(left, cause)) if left else None
        self._have_image(replica.service, spec.image)
        mounted = [self.volume_made.get(mount.source) for mount in spec.mounts if mount.type == "volume"]
        joined = [self.network_made.get(request.network) for request in spec.networks]
        after = [gone, self.built.get(spec.image), *mounted, *joined, *after]
        return pre_start.add(self.builder, resource, spec, after)

    def _have_image(self, service: DesiredService, image: str) -> None:
        """Pull the image of a `pre_start` where it is missing."""
        if image not in self.observed.images and image not in self.built:
            pull = PullImage(image, service.platform)
            self.built[image] = self.builder.add(f"image:{service.name}", pull, "not found")

    def _providers_of(self, service: DesiredService) -> list[int]:
        needed = {provider.service for provider in self.providers if service.name in provider.needed_by}
        return [operation for name, operation in self.provided.items() if name in needed]

    def _conditions(self, service: DesiredService) -> list[int | None]:
        """What a service's containers wait for before they start."""
        after = [replica.started for owner in service.shares for replica in self.replicas.get(owner, ())]
        for name, dependency in service.depends_on.items() if not self.options.no_deps else ():
            for replica in self.replicas.get(name, ()):
                condition = _CONDITIONS.get(dependency.condition)
                after.append(self._await(replica, condition) if condition else replica.started)
        return after

    def _await(self, replica: Replica, condition: Condition) -> int | None:
        """The operation that waits for a container to fulfil a condition; None where it does already."""
        key = (replica.name, condition)
        if key in self.waits:
            return self.waits[key]
        self.waits[key] = None
        if not self._fulfils(replica, condition):
            needing = self._needing(replica.service.name, condition)
            stays = self.options.wait and condition == "service_healthy"
            action = AwaitContainer(replica.name, condition, required=any(needing.values()), stays=stays)
            cause = f"{condition} needed by {', '.join(needing)}"
            self.waits[key] = self.builder.add(replica.resource, action, cause, after=[replica.started])
        return self.waits[key]

    def _needing(self, name: str, condition: str) -> dict[str, bool]:
        """Who waits for a condition of a service, and whether it must be fulfilled."""
        waiting = (self.desired.services[other] for other in self.replicas)
        found = {service.name: service.depends_on[name] for service in waiting if name in service.depends_on}
        return {other: need.required for other, need in found.items() if need.condition == condition}

    def _await_all(self) -> None:
        """`--wait`: at the end, wait for all of them to be ready; what a dependent has waited for is ready by then."""
        for replicas in self.replicas.values():
            for replica in replicas:
                is_awaited = any(self.waits.get((replica.name, condition)) for condition in (*_CONDITIONS, "ready"))
                if not is_awaited and not self._fulfils(replica, "ready"):
                    action = AwaitContainer(replica.name, "ready", one_shot=replica.service.one_shot, stays=True)
                    self.builder.add(replica.resource, action, "asked for with --wait", after=[replica.started])

    def _fulfils(self, replica: Replica, condition: Condition) -> bool:
        """Whether a replica that is left as it is fulfils a condition already."""
        existing, service = replica.existing, replica.service
        if existing is None or replica.started is not None:
            return False
        verdict = judge(existing.status, condition, name=replica.name, service=service.name, one_shot=service.one_shot)
        return verdict.done and not verdict.failure


def _with_volumes_of(old: ContainerInfo, spec: ContainerSpec) -> ContainerSpec:
    """A successor's specification, with the anonymous volumes of its predecessor where it does not mount something else."""
    inherited = anonymous_volumes(old)
    mounts = []
    for mount in spec.mounts:
        volume = inherited.pop(mount.target, None)
        takes_over = volume and mount.type == "volume" and not mount.source
        mounts.append(_inherited(mount, volume) if volume and takes_over else mount)
    mounts += [_inherited(Mount("volume", target), volume) for target, volume in inherited.items()]
    return replace(spec, mounts=tuple(mounts))


def _inherited(mount: Mount, volume: str) -> Mount:
    return replace(mount, source=volume, options={**mount.options, "inherited": True})
