"""Look at each replica of a project and decide what is to become of it, and why. Pure.

The verdict of one replica may depend on those of the services it needs, so services are judged in dependency order.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from compose import graph, labels
from compose.desired import Desired, DesiredService
from compose.difference import changes_between, differences
from compose.observe import Observed
from compose.plan import Change
from engine.errors import InvalidInput, NotFound
from engine.frozen import frozen
from engine.types import (
    RETIRED,
    RUNNING,
    ContainerInfo,
    ContainerSpec,
    NetworkInfo,
    NetworkSpec,
    VolumeInfo,
    VolumeSpec,
)

Verdict = Literal["keep", "start", "hook", "restart", "create", "recreate", "finish"]
"""`finish` completes a replacement that a kill interrupted; `restart` is stop and start because a dependency is replaced; `hook`
runs the post_start of one that runs already."""


@frozen
class UpOptions:
    """What `up`, `create` and `plan` can be told."""

    services: tuple[str, ...] = ()
    build: bool = False
    pull: str | None = None
    """Stands in for every service's `pull_policy`."""
    no_build: bool = False
    force_recreate: bool = False
    no_recreate: bool = False
    always_recreate_deps: bool = False
    renew_anonymous_volumes: bool = False
    renew_volumes: bool = False
    """Make named volumes whose definition changed anew; what is in them is lost."""
    no_deps: bool = False
    remove_orphans: bool = False
    ignore_orphans: bool = False
    """Do not warn of containers that no service in the file accounts for."""
    scale: Mapping[str, int] = field(default_factory=dict)
    timeout_s: float | None = None
    start: bool = True
    wait: bool = False
    rerun: bool = False
    """Run what has completed again, as if it had not."""
    rerun_services: tuple[str, ...] = ()
    """The same for these services only."""

    def count(self, service: DesiredService) -> int:
        """How many replicas a service shall have."""
        return self.scale.get(service.name, service.replicas)


@dataclass(slots=True)
class Replica:
    """One replica: what there is of it, and what is to become of it.

    `existing` is its container, `successor` the one that was on its way to replace it. The planner notes its operations in
    `stopped` (ahead of its turn, because a dependency goes), `exists` (from then on the wanted container bears the name) and
    `started`; None: nothing of that kind to wait for.
    """

    service: DesiredService
    number: int
    name: str
    existing: ContainerInfo | None = None
    successor: ContainerInfo | None = None
    verdict: Verdict = "create"
    cause: str = "no existing container"
    changes: tuple[Change, ...] = ()
    stopped: int | None = None
    exists: int | None = None
    started: int | None = None

    @property
    def resource(self) -> str:
        """What plans call it."""
        return f"service:{self.service.name}:{self.number}"

    @property
    def passing_name(self) -> str:
        """What the container that is to replace the existing one is called until it does."""
        if self.successor is not None:
            return self.successor.name
        return f"{self.existing.id[:12]}_{self.name}" if self.existing is not None else self.name

    @property
    def is_replaced(self) -> bool:
        """Whether another container will stand in its place."""
        return self.verdict in ("create", "recreate", "finish")

    @property
    def is_running(self) -> bool:
        """Whether there is a container and it runs."""
        return self.existing is not None and self.existing.status.state in RUNNING


@frozen
class Surplus:
    """A container that has to go."""

    container: ContainerInfo
    cause: str

    @property
    def resource(self) -> str:
        """What plans call it."""
        own = self.container.labels
        return f"service:{own.get(labels.SERVICE, '')}:{labels.number(own)}"


@dataclass(slots=True)
class Verdicts:
    """What was decided: replicas by service in dependency order, containers to remove, networks and volumes to make anew with
    the cause."""

    replicas: dict[str, list[Replica]] = field(default_factory=dict)
    surplus: list[Surplus] = field(default_factory=list)
    renewed_networks: dict[str, str] = field(default_factory=dict)
    renewed_volumes: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def made_anew(self, container: ContainerInfo) -> str:
        """Why a container must go before its network or volume can be made anew; "" where neither is."""
        names = [endpoint.network for endpoint in container.endpoints]
        causes = [self.renewed_networks.get(name, "") for name in names]
        causes += [self.renewed_volumes.get(name, "") for name in container.volumes.values()]
        return next(filter(None, causes), "")


def decide(desired: Desired, observed: Observed, options: UpOptions) -> Verdicts:
    """Judge all replicas of the services asked for, and of those that are affected by what happens to these."""
    return _Judge(desired, observed, options).decide()


def dependency_order(desired: Desired) -> list[str]:
    """The services, each after those it needs, be it by way of a provider."""
    needs = {name: (*service.depends_on, *service.shares) for name, service in desired.services.items()}
    for provider in desired.providers:
        needs[provider.service] = provider.after
        needs |= {name: (*needs[name], provider.service) for name in provider.needed_by if name in desired.services}
    places = {name: desired.places[path] for name in needs if (path := f"services.{name}") in desired.places}
    return [name for name in graph.order(needs, places) if name in desired.services]


def with_dependencies(desired: Desired, services: Sequence[str]) -> set[str]:
    """The services named and all that they need. Raise NotFound for one that the project does not have."""
    found: set[str] = set()
    waiting = list(services)
    for name in services:
        check_service(desired, name)
    while waiting:
        name = waiting.pop()
        if name in found or name not in desired.services:
            continue
        found.add(name)
        waiting += [*desired.services[name].depends_on, *desired.services[name].shares]
    return found


def selection(desired: Desired, options: UpOptions) -> set[str]:
    """The services that a command is about."""
    if not options.services:
        return set(desired.services)
    if not options.no_deps:
        return with_dependencies(desired, options.services)
    for name in options.services:
        check_service(desired, name)
    return set(options.services)


def check_service(desired: Desired, name: str) -> None:
    """Raise NotFound, with the nearest name, unless the project has the service."""
    check_names([name], desired.services, desired.disabled)


def check_names(names: Iterable[str], services: Collection[str], disabled: Collection[str]) -> None:
    """Raise NotFound for the first name that is no service; say so where only its profile is missing."""
    for name in names:
        if name in services:
            continue
        from difflib import get_close_matches

        near = get_close_matches(name, services, n=1)
        hint = f"did you mean {near[0]}?" if near else f"the services are: {', '.join(services)}"
        if name in disabled:
            hint = "enable its profile with --profile"
        raise NotFound(f"no such service: {name}", hint=hint)


class _Judge:
    def __init__(self, desired: Desired, observed: Observed, options: UpOptions) -> None:
        self.desired = desired
        self.observed = observed
        self.options = options
        self.selected = selection(desired, options)
        self.by_service = self._containers_by_service()
        self.verdicts = Verdicts()

    def decide(self) -> Verdicts:
        """Judge in dependency order; then what follows for dependents."""
        self._check_scale()
        self.verdicts.renewed_networks = self._renewed_networks()
        self.verdicts.renewed_volumes = self._renewed_volumes()
        for name in dependency_order(self.desired):
            if name in self.selected or self._is_affected(name):
                self.verdicts.replicas[name] = self._judge_service(self.desired.services[name])
        for replicas in self.verdicts.replicas.values():
            for replica in replicas:
                self._restart_with_dependency(replica)
        self._judge_orphans()
        return self.verdicts

    def _containers_by_service(self) -> dict[str, list[ContainerInfo]]:
        found: dict[str, list[ContainerInfo]] = {}
        for container in self.observed.containers:
            if container.labels.get(labels.ONEOFF, "False") != "True":
                found.setdefault(container.labels.get(labels.SERVICE, ""), []).append(container)
        return found

    def _check_scale(self) -> None:
        for name, count in self.options.scale.items():
            check_service(self.desired, name)
            if count < 0:
                raise InvalidInput(f"cannot scale {name} to {count}")
            if count > 1 and self.desired.services[name].template.name:
                raise InvalidInput(
                    f'service "{name}" cannot have {count} replicas: it sets container_name',
                    hint="remove container_name, or keep to one replica",
                    place=self.desired.places.get(f"services.{name}"),
                )

    def _renewed_networks(self) -> dict[str, str]:
        """Name → cause for the project's own networks whose definition changed."""
        used = {r.network for template in self._templates() for r in template.networks}
        causes = {}
        for key, name, changes in self._changed("network", self.desired.networks, self.observed.networks, used):
            if self.options.no_recreate:
                told = f"network {name} has changed ({changes}), and is kept because of --no-recreate"
                self.verdicts.warnings.append(told)
            else:
                causes[name] = f"network {key} changed: {changes}"
        return causes

    def _renewed_volumes(self) -> dict[str, str]:
        """Name → cause for the project's own volumes whose definition changed and that are to be made anew; others are warned of."""
        used = {mount.source for template in self._templates() for mount in template.mounts if mount.type == "volume"}
        causes = {}
        for key, name, changes in self._changed("volume", self.desired.volumes, self.observed.volumes, used):
            if self.options.renew_volumes and not self.options.no_recreate:
                causes[name] = f"volume {key} changed: {changes}"
            else:
                self.verdicts.warnings.append(
                    f"volume {name} is kept as it is although its definition changed ({changes}):"
                    " `umiak up --yes` makes it anew, and what is in it is lost"
                )
        return causes

    def _templates(self) -> list[ContainerSpec]:
        """Those of the services that are to have containers."""
        services = (self.desired.services[name] for name in self.selected)
        return [service.template for service in services if self.options.count(service)]

    def _changed(
        self,
        kind: str,
        wanted: Mapping[str, NetworkSpec | VolumeSpec],
        existing: Mapping[str, NetworkInfo | VolumeInfo],
        used: Collection[str],
    ) -> Iterator[tuple[str, str, str]]:
        """Key, name and changes of the project's own that are used and exist with another definition; warn of those of others."""
        for key, spec in wanted.items():
            found = existing.get(spec.name)
            if found is None or spec.name not in used:
                continue
            if found.spec.labels.get(labels.PROJECT) != self.desired.project:
                self.verdicts.warnings.append(f"{kind} {spec.name} was not made by this project and is used as it is")
            elif found.spec.labels.get(labels.CONFIG_HASH) != spec.labels[labels.CONFIG_HASH]:
                yield key, spec.name, changes_between(found.spec, spec)

    def _is_affected(self, name: str) -> bool:
        """Whether a service that was not asked for has containers that lose their network, a volume or the owner of a namespace."""
        containers = self.by_service.get(name, [])
        owners = [replica for owner in self.desired.services[name].shares for replica in self._replicas(owner)]
        return any(map(self.verdicts.made_anew, containers)) or (
            bool(containers) and any(replica.is_replaced for replica in owners)
        )

    def _replicas(self, service: str) -> list[Replica]:
        return self.verdicts.replicas.get(service, [])

    def _judge_service(self, service: DesiredService) -> list[Replica]:
        """Match what there is of a service with the replicas that it shall have, and judge each."""
        current, successors = self._split(service)
        count = self.options.count(service)
        numbers = self._numbers_to_keep(service, current, successors, count)
        for number, container in sorted(current.items()):
            if number not in numbers:
                self._give_up(container, f"scaled down to {count}")
        for number, container in sorted(successors.items()):
            if number not in numbers:
                self._give_up(container, "left by an interrupted replacement")
        return [self._judge(service, number, current.get(number), successors.get(number)) for number in numbers]

    def _give_up(self, container: ContainerInfo, cause: str) -> None:
        self.verdicts.surplus.append(Surplus(container, cause))

    def _split(self, service: DesiredService) -> tuple[dict[int, ContainerInfo], dict[int, ContainerInfo]]:
        """A service's containers by number: those that are, and those that were on their way to replace one."""
        current: dict[int, ContainerInfo] = {}
        successors: dict[int, ContainerInfo] = {}
        for container in self.by_service.get(service.name, ()):
            number = labels.number(container.labels)
            replaced = container.labels.get(labels.REPLACE)
            passing = replaced is not None and container.name.startswith(f"{replaced[:12]}_")
            kept = successors if passing else current
            if number in kept:
                self._give_up(container, f"a second container with number {number}")
            else:
                kept[number] = container
        return current, successors

    def _numbers_to_keep(
        self,
        service: DesiredService,
        current: Mapping[int, ContainerInfo],
        successors: Mapping[int, ContainerInfo],
        count: int,
    ) -> list[int]:
        """The numbers of the replicas to have: existing ones first, obsolete and high ones being given up; then the lowest free."""
        existing = sorted(
            {*current, *successors},
            key=lambda number: (number in current and self._is_obsolete(service, current[number]), number),
        )
        kept = existing[:count]
        free = (number for number in range(1, count + len(existing) + 1) if number not in existing)
        return sorted([*kept, *(number for number, _ in zip(free, range(count - len(kept)), strict=False))])

    def _is_obsolete(self, service: DesiredService, container: ContainerInfo) -> bool:
        return container.labels.get(labels.CONFIG_HASH) != service.config_hash

    def _judge(
        self, service: DesiredService, number: int, existing: ContainerInfo | None, successor: ContainerInfo | None
    ) -> Replica:
        name = service.container_name(self.desired.project, number)
        replica = Replica(service, number, name, existing)
        if successor is not None:
            cause, changes = self._outdated(service, number, successor)
            if not cause:
                replica.successor = successor
                replica.verdict, replica.cause = "finish", "finish an interrupted replacement"
                return replica
            if existing is None:
                # The one it was to replace is gone, so it stands for that one; it still holds its anonymous volumes.
                replica.existing, replica.verdict, replica.cause, replica.changes = (
                    successor,
                    "recreate",
                    cause,
                    changes,
                )
                return replica
            self._give_up(successor, "left by an interrupted replacement")
        if existing is None:
            return replica
        cause, changes = self._asked_for(service), ()
        if not cause:
            cause, changes = self._outdated(service, number, existing)
        is_unusable = existing.desired == RETIRED or self.verdicts.made_anew(existing)
        if cause and (is_unusable or not self.options.no_recreate):
            replica.verdict, replica.cause, replica.changes = "recreate", cause, changes
        else:
            replica.verdict, replica.cause = self._judge_state(service, existing)
        return replica

    def _judge_state(self, service: DesiredService, existing: ContainerInfo) -> tuple[Verdict, str]:
        """Whether an up-to-date container must be started."""
        status = existing.status
        if status.state == "running" and existing.id in self.observed.hooks_due and self.options.start:
            return "hook", "post_start has not been run to its end"
        if status.state in RUNNING or not self.options.start:
            return "keep", ""
        if status.state == "created":
            return "start", "not started yet"
        if self._has_completed(service, existing):
            return "keep", ""
        return "start", f"exited ({status.exit_code})" if status.exit_code is not None else "not running"

    def _has_completed(self, service: DesiredService, container: ContainerInfo) -> bool:
        """Whether a one-shot ended with 0 by itself. One that was told to stop has not come to its end."""
        if self.options.rerun or service.name in self.options.rerun_services:
            return False
        return service.one_shot and container.status.exit_code == 0 and container.desired != "stopped"

    def _asked_for(self, service: DesiredService) -> str:
        """Why the user wants another container whatever this one is like."""
        named = service.name in self.options.services or not self.options.services
        if self.options.force_recreate and named:
            return "asked for with --force-recreate"
        if self.options.always_recreate_deps and not named:
            return "asked for with --always-recreate-deps"
        return ""

    def _outdated(
        self, service: DesiredService, number: int, container: ContainerInfo
    ) -> tuple[str, tuple[Change, ...]]:
        """Why a container is not the wanted one, and the fields that differ; "" if it is."""
        if self._is_obsolete(service, container):
            changes = differences(container, service.container(self.desired.project, number))
            return "; ".join(map(str, changes)) or "definition changed", changes
        image_id = self.observed.images.get(service.image)
        if image_id and image_id != container.image_id:
            change = Change("image id", _short(container.image_id), _short(image_id))
            return f"image {service.image} changed: {change.before} → {change.after}", (change,)
        return self._outdated_surroundings(service, container), ()

    def _outdated_surroundings(self, service: DesiredService, container: ContainerInfo) -> str:
        """Why a container of the right definition is in the wrong place."""
        if container.desired == RETIRED:
            return "left by an interrupted replacement"
        if cause := self.verdicts.made_anew(container):
            return cause
        for request in service.template.networks:
            network = self.observed.networks.get(request.network)
            endpoints = [endpoint for endpoint in container.endpoints if endpoint.network == request.network]
            if network is None or any(endpoint.network_id != network.id for endpoint in endpoints):
                return f"network {request.network} is made anew"
        for owner in service.shares:
            if any(replica.is_replaced for replica in self._replicas(owner)):
                return f"shares what belongs to {owner}, which is replaced"
        return "dead" if container.status.state == "dead" else ""

    def _restart_with_dependency(self, replica: Replica) -> None:
        """`restart: true`: a dependent that would be kept is restarted when its dependency is replaced."""
        if replica.verdict != "keep" or not replica.is_running or not self.options.start:
            return
        for name, dependency in replica.service.depends_on.items():
            others = self._replicas(name)
            if dependency.restart and any(r.verdict in ("recreate", "finish", "restart") for r in others):
                replica.verdict, replica.cause = "restart", f"{name} is replaced (depends_on restart: true)"

    def _judge_orphans(self) -> None:
        orphans = [container for container in self.observed.containers if self._is_orphan(container)]
        if self.options.remove_orphans:
            for container in orphans:
                self._give_up(container, "orphan: its service is not in the file")
        elif orphans and not self.options.ignore_orphans:
            names = " ".join(sorted(container.name for container in orphans))
            self.verdicts.warnings.append(
                f"found orphan containers ({names}) of this project; --remove-orphans removes what renamed or removed services left"
            )

    def _is_orphan(self, container: ContainerInfo) -> bool:
        if container.labels.get(labels.ONEOFF) == "True":
            return self.options.remove_orphans and container.status.state not in RUNNING
        service = container.labels.get(labels.SERVICE, "")
        return service not in self.desired.services and service not in self.desired.disabled


def _short(image_id: str) -> str:
    return image_id.removeprefix("sha256:")[:12]
