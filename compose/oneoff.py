"""One-off containers: what `run` makes of a service, beside the replicas that `up` keeps."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from compose import labels
from compose.plan import AwaitContainer, Condition, CreateNetwork, CreateVolume, Plan, PlanBuilder
from engine.containers import AUTO_REMOVE_LABEL, this_process
from engine.errors import InvalidInput
from engine.types import ContainerSpec, EndpointRequest, Mount, PortBinding, RestartPolicy

if TYPE_CHECKING:
    from compose.desired import Desired, DesiredService
    from engine.types import ContainerInfo

_AWAITED: tuple[Condition, ...] = ("service_healthy", "service_completed_successfully")


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How a one-off container differs from its service's own."""

    command: tuple[str, ...] | None = None
    entrypoint: tuple[str, ...] | None = None
    name: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    user: str | None = None
    working_dir: str | None = None
    mounts: tuple[Mount, ...] = ()
    ports: tuple[PortBinding, ...] = ()
    service_ports: bool = False
    use_aliases: bool = False
    tty: bool = False
    interactive: bool = False
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    auto_remove: bool = False


def specification(project: str, service: DesiredService, options: RunOptions, image_id: str | None) -> ContainerSpec:
    """The container of one `run`: no restart policy, no published ports and no service name unless asked for."""
    own = service.container(project, 1, image_id)
    slug = secrets.token_hex(6)
    targets = {mount.target for mount in options.mounts}
    command = own.command
    if options.command is not None:
        command = options.command
    elif options.entrypoint is not None:
        command = ()
    kept = {key: value for key, value in own.labels.items() if key != labels.HOOKS}
    return replace(
        own,
        name=options.name or service.separator.join((project, service.name, "run", slug)),
        command=command,
        entrypoint=own.entrypoint if options.entrypoint is None else options.entrypoint,
        environment={**own.environment, **options.environment},
        labels={**kept, **options.labels, **own_labels(options), labels.SLUG: slug},
        user=options.user or own.user,
        working_dir=options.working_dir or own.working_dir,
        mounts=(*(mount for mount in own.mounts if mount.target not in targets), *options.mounts),
        ports=(*(own.ports if options.service_ports else ()), *options.ports),
        networks=own.networks if options.use_aliases else tuple(map(_without_names, own.networks)),
        restart=RestartPolicy(),
        tty=options.tty,
        stdin_open=options.interactive,
        stdin_once=options.interactive,
        cap_add=(*own.cap_add, *options.cap_add),
        cap_drop=(*own.cap_drop, *options.cap_drop),
    )


def own_labels(options: RunOptions) -> dict[str, str]:
    """The labels by which the containers of this very command are found again."""
    removed = {AUTO_REMOVE_LABEL: this_process()} if options.auto_remove else {}
    return {labels.ONEOFF: "True", **removed}


def _without_names(request: EndpointRequest) -> EndpointRequest:
    """The same network without the service's names and address, which belong to its replicas."""
    return replace(request, aliases=(), ipv4_address=None, mac_address=None)


def surroundings(desired: Desired, spec: ContainerSpec, networks: Sequence[str], volumes: Sequence[str]) -> Plan:
    """Make what the container needs and is not there: networks and volumes of the project. The last two are those that exist."""
    builder = PlanBuilder(desired.project)
    wanted = {request.network for request in spec.networks}
    for key, network in desired.networks.items():
        if network.name in wanted and network.name not in networks:
            builder.add(f"network:{key}", CreateNetwork(network), "not found")
    used = {mount.source for mount in spec.mounts if mount.type == "volume"}
    for key, volume in desired.volumes.items():
        if volume.name in used and volume.name not in volumes:
            builder.add(f"volume:{key}", CreateVolume(volume), "not found")
    return builder.plan()


def waits(desired: Desired, service: DesiredService, containers: Sequence[ContainerInfo]) -> Plan:
    """Wait until what the service needs fulfils the conditions that its `depends_on` sets."""
    builder = PlanBuilder(desired.project)
    for needed, dependency in service.depends_on.items():
        for condition in _AWAITED:
            if dependency.condition != condition:
                continue
            for one in containers:
                if one.labels.get(labels.SERVICE) == needed and one.labels.get(labels.ONEOFF) != "True":
                    action = AwaitContainer(one.name, condition, required=dependency.required)
                    resource = f"service:{needed}:{labels.number(one.labels)}"
                    builder.add(resource, action, f"{condition} needed by {service.name}")
    return builder.plan()


def read_mount(text: str) -> Mount:
    """`-v SOURCE:TARGET[:ro]` or `-v TARGET`."""
    parts = text.split(":")
    if len(parts) > 3 or not parts[-1] or not all(parts):
        raise InvalidInput(f'cannot read "{text}" as a volume', hint="for example: ./data:/data or cache:/cache:ro")
    if len(parts) == 1:
        return Mount("volume", text)
    source, target, *mode = parts
    is_path = source.startswith(("/", ".", "~"))
    place = os.path.abspath(os.path.expanduser(source)) if is_path else source
    options = {"create_host_path": True} if is_path else {}
    return Mount("bind" if is_path else "volume", target, place, "ro" in ",".join(mode).split(","), options)


def read_port(text: str) -> PortBinding:
    """`-p [[ADDRESS:]HOST:]CONTAINER[/PROTOCOL]`."""
    numbers, _, protocol = text.partition("/")
    *before, container = numbers.rsplit(":", 2)
    host = before.pop() if before else ""
    address = before.pop().strip("[]") if before else ""
    if not container.isdecimal() or not (host or "0").isdecimal() or protocol not in ("", "tcp", "udp"):
        raise InvalidInput(f'cannot read "{text}" as a port', hint="for example: 8080:80 or 127.0.0.1:5353:53/udp")
    kind: Literal["tcp", "udp"] = "udp" if protocol == "udp" else "tcp"
    return PortBinding(int(container), kind, address, int(host) if host else None)
