"""Plans made from labels alone: down, stop, start, restart, kill. No Compose file is read, so they work on whatever is there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from compose import hooks, labels, pre_start
from compose.plan import (
    AwaitContainer,
    Condition,
    PauseContainer,
    Plan,
    PlanBuilder,
    Provider,
    RemoveContainer,
    RemoveImage,
    RemoveNetwork,
    RemoveVolume,
    RunProvider,
    UnpauseContainer,
)
from engine.types import RUNNING, ContainerInfo, ContainerSpec, NetworkInfo, VolumeInfo

_CONDITIONS: Mapping[str, Condition] = {
    "service_healthy": "service_healthy",
    "service_completed_successfully": "service_completed_successfully",
}


@dataclass(frozen=True, slots=True)
class Remains:
    """All that carries a project's label."""

    project: str
    containers: Sequence[ContainerInfo] = ()
    networks: Sequence[NetworkInfo] = ()
    volumes: Sequence[VolumeInfo] = ()
    images: Sequence[str] = ()
    """References to remove, where images were asked for."""
    providers: Sequence[Provider] = ()
    """Programs that stand in for services and were called."""

    def of_services(self, services: Sequence[str]) -> Remains:
        """The part of it that some services alone account for."""
        going = [one for one in self.containers if one.labels.get(labels.SERVICE) in services]
        staying = [one for one in self.containers if one not in going]
        networks = {name for one in going for name in _networks_of(one)} - {
            name for one in staying for name in _networks_of(one)
        }
        volumes = {name for one in going for name in one.volumes.values()} - {
            name for one in staying for name in one.volumes.values()
        }
        return Remains(
            self.project,
            going,
            [network for network in self.networks if network.spec.name in networks],
            [volume for volume in self.volumes if volume.spec.name in volumes],
            [image for image in self.images if image not in {one.spec.image for one in staying}],
            [provider for provider in self.providers if provider.service in services],
        )


def _networks_of(container: ContainerInfo) -> set[str]:
    return {request.network for request in container.spec.networks}


@dataclass(slots=True)
class _Services:
    """Containers by service, and programs that stand in for services; each comes after those it needs."""

    containers: dict[str, list[ContainerInfo]] = field(default_factory=dict)
    providers: dict[str, Provider] = field(default_factory=dict)

    @classmethod
    def of(cls, containers: Iterable[ContainerInfo], providers: Iterable[Provider] = ()) -> _Services:
        found = cls(providers={provider.service: provider for provider in providers})
        for container in containers:
            found.containers.setdefault(container.labels.get(labels.SERVICE, ""), []).append(container)
        for name in found.providers:
            found.containers.setdefault(name, [])
        ordered: dict[str, list[ContainerInfo]] = {}
        for name in found.containers:
            found._visit(name, ordered, set())
        return cls(ordered, found.providers)

    def _visit(self, name: str, ordered: dict[str, list[ContainerInfo]], path: set[str]) -> None:
        """Depth first. Labels can lie, so a circle is cut where it closes."""
        if name in ordered or name in path or name not in self.containers:
            return
        for needed in self.needs(name):
            self._visit(needed, ordered, path | {name})
        ordered[name] = self.containers[name]

    def needs(self, service: str) -> dict[str, str]:
        """Service → condition, for all that any container of the service was made to need."""
        provider = self.providers.get(service)
        merged: dict[str, str] = dict.fromkeys(provider.after, "service_started") if provider else {}
        for container in self.containers.get(service, ()):
            merged |= labels.dependencies(container.labels)
        return merged


def tear_down(remains: Remains, *, volumes: bool = False, timeout_s: float | None = None) -> Plan:
    """Stop and remove everything: dependents before what they depend on, all else at once; then networks, volumes, images."""
    builder = PlanBuilder(remains.project)
    known = _Services.of(remains.containers, remains.providers)
    stops = dict(_stop_each(builder, known, timeout_s, "down", "down"))
    removals = [
        builder.add(_resource(one), RemoveContainer(one.name, volumes=volumes), "down", after=[stops.get(one.name)])
        for containers in reversed(known.containers.values())
        for one in containers
    ]
    networks = [
        builder.add(
            f"network:{_key(n.spec.labels, labels.NETWORK)}", RemoveNetwork(n.spec.name), "down", after=removals
        )
        for n in remains.networks
    ]
    for volume in remains.volumes if volumes else ():
        resource = f"volume:{_key(volume.spec.labels, labels.VOLUME)}"
        builder.add(resource, RemoveVolume(volume.spec.name), "down --volumes", after=removals)
    for reference in remains.images:
        builder.add(f"image:{reference}", RemoveImage(reference), "down --rmi", after=[*removals, *networks])
    return builder.plan()


def stop(
    project: str,
    containers: Iterable[ContainerInfo],
    *,
    timeout_s: float | None = None,
    providers: Iterable[Provider] = (),
) -> Plan:
    """Stop what runs, dependents before what they depend on; `providers` are those that can stop what they provide."""
    builder = PlanBuilder(project)
    dict(_stop_each(builder, _Services.of(containers, providers), timeout_s, "asked for", "stop"))
    return builder.plan()


def pause(project: str, containers: Iterable[ContainerInfo]) -> Plan:
    """Freeze what runs, all at once."""
    builder = PlanBuilder(project)
    for one in containers:
        if one.status.state == "running":
            builder.add(_resource(one), PauseContainer(one.name), "asked for")
    return builder.plan()


def unpause(project: str, containers: Iterable[ContainerInfo]) -> Plan:
    """Let what is frozen go on, all at once."""
    builder = PlanBuilder(project)
    for one in containers:
        if one.status.state == "paused":
            builder.add(_resource(one), UnpauseContainer(one.name), "asked for")
    return builder.plan()


def remove(project: str, containers: Iterable[ContainerInfo], *, stop: bool = False, volumes: bool = False) -> Plan:
    """Remove what does not run; with `stop` also what does, dependents before what they depend on."""
    builder = PlanBuilder(project)
    known = _Services.of(containers)
    stops = dict(_stop_each(builder, known, None, "asked for")) if stop else {}
    for name in reversed(known.containers):
        for one in known.containers[name]:
            if one.name in stops or one.status.state not in RUNNING:
                after = [stops.get(one.name)]
                builder.add(_resource(one), RemoveContainer(one.name, volumes=volumes), "asked for", after=after)
    return builder.plan()


def start(
    project: str,
    containers: Iterable[ContainerInfo],
    services: Sequence[str] = (),
    *,
    wait: bool = False,
    left: Iterable[ContainerInfo] = (),
) -> Plan:
    """Start what does not run, what is needed before what needs it, waiting for the conditions that they were made with.

    What ran to its end successfully, and is needed for just that, is not run again. With `wait` all of them must become ready.
    What must run before a first start is run; `left` are containers of an earlier run of that, which make way.
    """
    builder = PlanBuilder(project)
    known = _Services.of(containers)
    wanted = _with_needs(known, services) if services else set(known.containers)
    awaited = {name for s in wanted for name, c in known.needs(s).items() if c == "service_completed_successfully"}
    first = _FirstStarts(builder, project, known, {one.name: one for one in left})
    started = _start_all(builder, known, wanted, awaited - set(services), stopped={}, first=first)
    for container, operation in started if wait else []:
        action = AwaitContainer(container.name, "ready", one_shot=_may_end(container), stays=True)
        builder.add(_resource(container), action, "asked for with --wait", after=[operation])
    return builder.plan()


def _may_end(container: ContainerInfo) -> bool:
    """Whether ending with 0 is as good as running: nothing restarts it, reaches it or tests it."""
    spec = container.spec
    return spec.restart.name == "no" and not spec.ports and container.status.health is None


def boot(project: str, containers: Iterable[ContainerInfo]) -> Plan:
    """Start what its restart policy asks for after a reboot, what is needed before what needs it.

    Each waits for those of its conditions that concern what runs or is started too. A condition that cannot be fulfilled is
    a warning: nobody sits before a machine that boots, and a service with a restart policy copes better than one that is absent.
    """
    builder = PlanBuilder(project)
    known = _Services.of(one for one in containers if one.status.state in RUNNING or _is_due_at_boot(one))
    _start_all(builder, known, set(known.containers), set(), stopped={}, cause="restart policy", required=False)
    return builder.plan()


def _is_due_at_boot(container: ContainerInfo) -> bool:
    """Whether a container that does not run shall run: `always` even if a user stopped it, as with Docker."""
    policy, desired = container.spec.restart.name, container.desired
    if policy == "always":
        return desired != "created"
    if policy == "on-failure" and container.status.exit_code == 0:
        return False
    return policy != "no" and desired == "running"


def restart(project: str, containers: Iterable[ContainerInfo], *, timeout_s: float | None = None) -> Plan:
    """Stop and start again, in the order of dependencies both ways."""
    builder = PlanBuilder(project)
    known = _Services.of(containers)
    stopped = dict(_stop_each(builder, known, timeout_s, "asked for"))
    _start_all(builder, known, set(known.containers), set(), stopped)
    return builder.plan()


def with_restarted_dependents(containers: Sequence[ContainerInfo], services: Sequence[str]) -> list[ContainerInfo]:
    """The containers of services, and those that run and, directly or not, depend on them with `restart: true`."""
    wanted = set(services)
    found: list[ContainerInfo] = []
    while found != (found := [one for one in containers if _goes_along(one, wanted)]):
        wanted |= {one.labels.get(labels.SERVICE, "") for one in found}
    return found


def _goes_along(container: ContainerInfo, services: set[str]) -> bool:
    if container.labels.get(labels.SERVICE, "") in services:
        return True
    return container.status.state in RUNNING and not services.isdisjoint(labels.restarted_with(container.labels))


def _start_all(
    builder: PlanBuilder,
    known: _Services,
    wanted: set[str],
    awaited: set[str],
    stopped: Mapping[str, int],
    *,
    cause: str = "asked for",
    required: bool = True,
    first: _FirstStarts | None = None,
) -> list[tuple[ContainerInfo, int | None]]:
    """Add the starts; return all the containers wanted, each with its operation where there is one."""
    started: dict[str, list[tuple[ContainerInfo, int | None]]] = {}
    for name, containers in known.containers.items():
        if name not in wanted:
            continue
        up = {one.name for one in containers if one.name not in stopped and _is_up(one, name in awaited)}
        waits: list[int | None] = []
        for needed, condition in known.needs(name).items() if len(up) < len(containers) else ():
            for container, operation in started.get(needed, ()):
                awaits = _CONDITIONS.get(condition)
                if awaits is None or (operation is None and container.status.state not in RUNNING):
                    waits.append(operation)
                    continue
                resource, action = _resource(container), AwaitContainer(container.name, awaits, required)
                waits.append(builder.add(resource, action, f"{condition} needed by {name}", after=[operation]))
        started[name] = [
            (one, None if one.name in up else _start_one(builder, one, [*waits, stopped.get(one.name)], cause, first))
            for one in containers
        ]
    return [pair for pairs in started.values() for pair in pairs]


def _is_up(container: ContainerInfo, awaited: bool) -> bool:
    """Whether there is nothing to start: it runs, or has ended with 0 and is `awaited` for just that."""
    return container.status.state in RUNNING or (awaited and container.status.exit_code == 0)


def _start_one(
    builder: PlanBuilder,
    container: ContainerInfo,
    after: list[int | None],
    cause: str,
    first: _FirstStarts | None = None,
) -> int:
    if first is not None:
        after = [*after, first.prepare(container, after)]
    return hooks.start(builder, _resource(container), container.name, container.labels, cause, after)


def _stop_each(
    builder: PlanBuilder,
    known: _Services,
    timeout_s: float | None,
    cause: str,
    verb: Literal["down", "stop"] = "stop",
) -> Iterator[tuple[str, int]]:
    """Add the stops, dependents first; yield each container's name with its operation. Providers get the `verb`."""
    stops: dict[str, list[int]] = {}
    for name in reversed(known.containers):
        dependents = [other for other in stops if name in known.needs(other)]
        after = [operation for other in dependents for operation in stops[other]]
        stops[name] = []
        if provider := known.providers.get(name):
            stops[name] = [builder.add(f"service:{name}", RunProvider(provider, verb), cause, after=after)]
        for container in known.containers[name]:
            if container.status.state in RUNNING:
                operation = hooks.stop(builder, _resource(container), container, timeout_s, cause, after)
                stops[name].append(operation)
                yield container.name, operation
        # What was not running lets those before it through to those after it.
        stops[name] = stops[name] or after


class _FirstStarts:
    """What must have run before containers start for the first time: `pre_start`, from their labels."""

    def __init__(self, builder: PlanBuilder, project: str, known: _Services, left: Mapping[str, ContainerInfo]) -> None:
        self._builder = builder
        self._project = project
        self._known = known
        self._left = left
        self._prepared: dict[str, int] = {}

    def prepare(self, container: ContainerInfo, after: list[int | None]) -> int | None:
        """The last operation of what must run before a container starts; None where there is nothing, or it has been run."""
        service, definition, last = (
            container.labels.get(labels.SERVICE, ""),
            container.labels.get(labels.PRE_START),
            None,
        )
        for one in pre_start.preparations(self._project, service, container.spec) if definition else ():
            witnesses = [container] if one.per_replica else self._known.containers[service]
            if any(pre_start.is_done(witness, definition, container.image_id) for witness in witnesses):
                continue
            name = f"{one.spec.name}-{labels.number(container.labels)}" if one.per_replica else one.spec.name
            if name not in self._prepared:
                self._prepared[name] = self._run(container, replace(one.spec, name=name), [last, *after])
            last = self._prepared[name]
        return last

    def _run(self, container: ContainerInfo, spec: ContainerSpec, after: list[int | None]) -> int:
        resource = _resource(container)
        if spec.name in self._left:
            after = [*after, self._builder.add(resource, RemoveContainer(spec.name, volumes=True), "pre_start")]
        return pre_start.add(self._builder, resource, spec, after)


def _with_needs(known: _Services, services: Sequence[str]) -> set[str]:
    found: set[str] = set()
    waiting = list(services)
    while waiting:
        name = waiting.pop()
        if name not in found and name in known.containers:
            found.add(name)
            waiting += known.needs(name)
    return found


def _resource(container: ContainerInfo) -> str:
    return f"service:{container.labels.get(labels.SERVICE, '')}:{labels.number(container.labels)}"


def _key(found: Mapping[str, str], label: str) -> str:
    return found.get(label, "")
