"""What a project asks of the engine: its services as container specifications, its networks, its volumes.

Pure translation. What an engine of today does not act on is said in `warnings`, never dropped in silence.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, field, fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from compose import hooks, labels, pre_start
from compose.builds import build_of
from compose.errors import dotted
from compose.mounts import mounts_of, private_files
from compose.plan import Build, Provider
from compose.private_files import PrivateFile
from compose.providers import providers_of
from compose.updates import Policies, policies
from compose.version import VERSION
from engine.errors import InvalidInput, UmiakError, Unsupported
from engine.frozen import frozen
from engine.types import (
    RUNTIMES,
    ContainerSpec,
    DeviceLimit,
    EndpointRequest,
    Healthcheck,
    LogOptions,
    NetworkSpec,
    PortBinding,
    Resources,
    RestartPolicy,
    Ulimit,
    VolumeSpec,
)

if TYPE_CHECKING:
    from compose.model.project import Project
    from compose.model.service import BlkioConfig, Port, Service
    from networking.ipam import AddressPlan

_RESTARTS: Mapping[str, Literal["no", "always", "on-failure", "unless-stopped"]] = {
    "no": "no",
    "always": "always",
    "on-failure": "on-failure",
    "unless-stopped": "unless-stopped",
}
_RESTART_OF_CONDITION = {"none": "no", "on-failure": "on-failure", "any": "always"}
_LOG_DRIVERS = ("raw", "json-file", "local", "none")


@frozen
class Need:
    """One entry of `depends_on`, as `compose.model.service.Dependency` has it."""

    condition: str = "service_started"
    restart: bool = False
    required: bool = True


@frozen
class DesiredService:
    """One service: `template` is the specification of its containers but for their number.

    `shares` names the services whose containers its own refer to (network_mode, pid, ipc, volumes_from): they are recreated
    together.
    `one_shot` says that ending with 0 may be what the service is for; `awaited` that some service waits for just that.
    """

    name: str
    template: ContainerSpec
    replicas: int
    depends_on: Mapping[str, Need]
    config_hash: str
    place: str | None = None
    shares: tuple[str, ...] = ()
    build: Build | None = None
    is_named: bool = True
    """Whether the file gives its image a name; the one of an image that is only built is at no registry."""
    pull_policy: str | None = None
    platform: str | None = None
    one_shot: bool = False
    awaited: bool = False
    attach: bool = True
    """Whether `up` in the foreground shows what it writes."""
    preparations: tuple[pre_start.Preparation, ...] = ()
    policies: Policies | None = None
    """How its containers are replaced; None: all at once, without a way back."""
    separator: str = "-"
    """What stands between the parts of its containers' names."""

    def container(self, project: str, number: int, image_id: str | None = None) -> ContainerSpec:
        """The specification of the replica with that number."""
        own = {labels.NUMBER: str(number)} | ({labels.IMAGE: image_id} if image_id else {})
        return replace(self.template, name=self.container_name(project, number), labels={**self.template.labels, **own})

    def container_name(self, project: str, number: int) -> str:
        """The name of the replica with that number."""
        return self.template.name or container_name(project, self.name, number, self.separator)

    def with_environment(self, more: Mapping[str, str]) -> DesiredService:
        """The same with further variables, which win over its own."""
        if not more:
            return self
        template = replace(self.template, environment={**self.template.environment, **more})
        own = {key: value for key, value in template.labels.items() if not key.startswith(labels.PREFIX)}
        digest = config_hash(replace(template, labels=own))
        template = replace(template, labels={**template.labels, labels.CONFIG_HASH: digest})
        return replace(self, template=template, config_hash=digest)

    @property
    def image(self) -> str:
        """Reference of the image that it runs."""
        return self.template.image


@frozen
class Desired:
    """All that a project asks for. Networks and volumes go by their keys in the file; external ones map to their name alone."""

    project: str
    services: Mapping[str, DesiredService]
    networks: Mapping[str, NetworkSpec]
    volumes: Mapping[str, VolumeSpec]
    external_networks: Mapping[str, str] = field(default_factory=dict)
    external_volumes: Mapping[str, str] = field(default_factory=dict)
    places: Mapping[str, str] = field(default_factory=dict)
    """`services.web`, `services.web.ports`, `networks.front`… → where it stands in the file."""
    disabled: frozenset[str] = frozenset()
    """Services that only a profile keeps away: what they left is no orphan."""
    providers: tuple[Provider, ...] = ()
    """Services that a program stands in for; they are not among `services`."""
    files: tuple[PrivateFile, ...] = ()
    """What must be written before containers can mount it."""
    warnings: tuple[str, ...] = ()


def desired(project: Project, *, private_dir: str, strict_intervals: bool = False) -> Desired:
    """Translate a project. Raise InvalidInput or Unsupported, with a place, for what no container can be made of.

    Contents of secrets and configs that are not files of the user's own are to be found below `private_dir`.
    """
    from compose.inert import inert  # it needs the models, which a `Desired` that is kept must be read without

    translation = _Translation(project, private_dir, strict_intervals)
    for path in inert(project):
        translation.warn(f"{dotted(path)} is not acted on yet", *path)
    services = {
        name: translation.service(service) for name, service in project.services.items() if not service.provider
    }
    return Desired(
        project=project.name,
        services=services,
        networks={key: translation.network(key) for key, network in project.networks.items() if not network.external},
        volumes={key: translation.volume(key) for key, volume in project.volumes.items() if not volume.external},
        external_networks={key: network.name or key for key, network in project.networks.items() if network.external},
        external_volumes={key: volume.name or key for key, volume in project.volumes.items() if volume.external},
        places=translation.places(),
        disabled=frozenset(project.disabled_services),
        providers=providers_of(project),
        files=private_files(project, private_dir),
        warnings=tuple(translation.warnings),
    )


def container_name(project: str, service: str, number: int, separator: str = "-") -> str:
    """The name of a replica whose service sets no `container_name`."""
    return separator.join((project, service, str(number)))


def config_hash(value: Any) -> str:
    """A hash of a specification that stays the same as long as the definition does: fields at their defaults do not count."""
    canonical = json.dumps(plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)
    return hashlib.sha256(canonical.encode()).hexdigest()


def plain(value: Any) -> Any:
    """A specification as JSON-like data without the fields that are at their defaults, and without bookkeeping labels."""
    if is_dataclass(value) and not isinstance(value, type):
        shown = {f.name: (plain(getattr(value, f.name)), plain(_default(f))) for f in fields(value)}
        return {name: own for name, (own, default) in shown.items() if own != default}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items() if key not in labels.BOOKKEEPING}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def _default(field_: Field[Any]) -> Any:
    return field_.default if field_.default_factory is MISSING else field_.default_factory()


class _Translation:
    """One project on its way to specifications, gathering warnings as it goes."""

    def __init__(self, project: Project, private_dir: str, strict_intervals: bool) -> None:
        self.project = project
        self.private_dir = private_dir
        self.strict_intervals = strict_intervals
        self.warnings: list[str] = []
        self.link_aliases = self._link_aliases()
        self.awaited = {
            name
            for service in project.services.values()
            for name, dependency in service.depends_on.items()
            if dependency.condition == "service_completed_successfully"
        }

    def place(self, *path: str | int) -> str | None:
        """Where a node stands, as text."""
        place = self.project.place(path)
        return str(place) if place else None

    def places(self) -> dict[str, str]:
        """Where each service, network and volume stands, and those attributes of services that errors are about."""
        sections: dict[str, Mapping[str, object]] = {
            "services": self.project.services,
            "networks": self.project.networks,
            "volumes": self.project.volumes,
        }
        found = {f"{section}.{key}": self.place(section, key) for section, keys in sections.items() for key in keys}
        found |= {
            f"services.{key}.{attribute}": self.place("services", key, attribute)
            for key in self.project.services
            for attribute in ("image", "command", "ports", "healthcheck", "post_start", "pre_stop")
        }
        return {path: place for path, place in found.items() if place}

    def warn(self, message: str, *path: str | int) -> None:
        """Note something that the user should know, with its place."""
        place = self.place(*path)
        self.warnings.append(f"{place}: {message}" if place else message)

    def service(self, service: Service) -> DesiredService:
        """Translate one service."""
        if service.container_name and service.replicas > 1:
            raise InvalidInput(
                f'service "{service.name}" cannot have {service.replicas} replicas: it sets container_name',
                hint="remove container_name, or keep to one replica",
                place=self.place("services", service.name, "container_name"),
            )
        template = self._container(service)
        # The image's reference counts, and so do labels of the user's own; see `plain` for what does not.
        digest = config_hash(template)
        preparations = pre_start.preparations(self.project.name, service.name, template)
        template = replace(template, labels={**template.labels, **self._labels(service), labels.CONFIG_HASH: digest})
        return DesiredService(
            name=service.name,
            separator=self.project.separator,
            template=template,
            replicas=service.replicas,
            depends_on={
                name: Need(d.condition, d.restart, d.required)
                for name, d in service.depends_on.items()
                if not self._is_provided(name)
            },
            config_hash=digest,
            place=self.place("services", service.name),
            shares=tuple(_shared_services(service)),
            build=build_of(self.project, service, self.warn),
            is_named=service.image is not None,
            pull_policy=service.pull_policy,
            platform=service.platform,
            one_shot=self._is_one_shot(service),
            awaited=service.name in self.awaited,
            attach=service.attach is not False,
            preparations=preparations,
            policies=policies(service, self.place),
        )

    def network(self, key: str) -> NetworkSpec:
        """Translate a network that belongs to the project."""
        if len(self.project.networks[key].ipam.config) > 1:
            self.warn(f"networks.{key}: only the first subnet is used", "networks", key, "ipam")
        self._addresses(key)
        spec = self._network_spec(key)
        return replace(spec, labels={**spec.labels, **self._owned(spec), labels.NETWORK: key})

    def _network_spec(self, key: str) -> NetworkSpec:
        network = self.project.networks[key]
        pools = network.ipam.config
        return NetworkSpec(
            name=network.name or f"{self.project.name}_{key}",
            driver=network.driver or "bridge",
            internal=network.internal,
            attachable=network.attachable,
            subnet=pools[0].subnet if pools else None,
            ip_range=pools[0].ip_range if pools else None,
            gateway=pools[0].gateway if pools else None,
            labels=network.labels,
            options=network.driver_opts,
        )

    def _addresses(self, key: str) -> AddressPlan | None:
        """The addresses that a network of the project asks for. Raise InvalidInput if no network could have them."""
        network = self.project.networks[key]
        if network.external or not network.ipam.config:
            return None
        from networking import ipam

        with self._located("networks", key, "ipam"):
            return ipam.asked_for(self._network_spec(key))

    def _check_address(self, service: Service, key: str, wanted: str) -> None:
        """Raise InvalidInput if a service's fixed address is none of its network's."""
        if asked := self._addresses(key):
            from networking import ipam

            with self._located("services", service.name, "networks", key, "ipv4_address"):
                ipam.check_address(self.network_name(key), wanted, asked, {})

    @contextlib.contextmanager
    def _located(self, *path: str | int) -> Iterator[None]:
        """Give an error meanwhile the place that it is about."""
        try:
            yield
        except UmiakError as error:
            error.place = error.place or self.place(*path)
            raise

    def volume(self, key: str) -> VolumeSpec:
        """Translate a volume that belongs to the project."""
        volume = self.project.volumes[key]
        spec = VolumeSpec(
            name=volume.name or f"{self.project.name}_{key}",
            driver=volume.driver or "local",
            labels=volume.labels,
            options=volume.driver_opts,
        )
        return replace(spec, labels={**spec.labels, **self._owned(spec), labels.VOLUME: key})

    def _owned(self, spec: NetworkSpec | VolumeSpec) -> dict[str, str]:
        return {labels.PROJECT: self.project.name, labels.CONFIG_HASH: config_hash(spec), labels.VERSION: VERSION}

    def _labels(self, service: Service) -> dict[str, str]:
        project = self.project
        depends_on = (f"{name}:{d.condition}:{str(d.restart).lower()}" for name, d in service.depends_on.items())
        own = {
            labels.PROJECT: project.name,
            labels.SERVICE: service.name,
            labels.ONEOFF: "False",
            labels.DEPENDS_ON: ",".join(depends_on),
            labels.WORKING_DIR: project.working_dir,
            labels.CONFIG_FILES: ",".join(project.compose_files),
            labels.VERSION: VERSION,
        }
        return own | ({labels.ENVIRONMENT_FILE: ",".join(project.env_files)} if project.env_files else {})

    def _container(self, service: Service) -> ContainerSpec:
        return ContainerSpec(
            name=service.container_name or "",
            image=service.image_name(self.project.name, self.project.separator),
            command=service.command,
            entrypoint=service.entrypoint,
            environment=service.environment,
            labels={**service.labels, **hooks.labelled(service), **pre_start.labelled(service)},
            working_dir=service.working_dir,
            user=service.user,
            group_add=service.group_add,
            hostname=service.hostname,
            domainname=service.domainname,
            tty=service.tty,
            stdin_open=service.stdin_open,
            init=bool(service.init),
            stop_signal=service.stop_signal,
            stop_timeout_s=_seconds(service.stop_grace_period),
            restart=self._restart(service),
            healthcheck=_healthcheck(service),
            strict_intervals=self.strict_intervals,
            mounts=mounts_of(self.project, service, self.private_dir),
            volumes_from=tuple(map(self._volumes_from, service.volumes_from)),
            shm_size_bytes=service.shm_size or None,
            read_only=service.read_only,
            privileged=service.privileged,
            cap_add=service.cap_add,
            cap_drop=service.cap_drop,
            security_opt=service.security_opt,
            devices=tuple(
                ":".join(part for part in (d.source, d.target, d.permissions) if part) for d in service.devices
            ),
            device_cgroup_rules=service.device_cgroup_rules,
            ulimits=tuple(Ulimit(name, *limit.limits) for name, limit in sorted(service.ulimits.items())),
            sysctls=service.sysctls,
            oom_score_adj=service.oom_score_adj or None,
            resources=_resources(service),
            network_mode=self._mode(service.network_mode) or "networks",
            networks=self._endpoints(service),
            ports=tuple(self._port(service, position, port) for position, port in enumerate(service.ports)),
            extra_hosts=tuple(f"{name}:{a}" for name, addresses in service.extra_hosts.items() for a in addresses),
            dns=service.dns,
            dns_search=service.dns_search,
            dns_opt=service.dns_opt,
            pid_mode=self._mode(service.pid),
            ipc_mode=self._mode(service.ipc),
            uts_mode=service.uts or "",
            cgroup_mode=service.cgroup or "",
            cgroup_parent=service.cgroup_parent,
            runtime=self._runtime(service),
            log=self._log(service),
        )

    def _is_provided(self, name: str) -> bool:
        other = self.project.services.get(name)
        return other is not None and other.provider is not None

    def _mode(self, mode: str | None) -> str:
        """A namespace mode; `service:x` becomes the first container of x."""
        if not mode or not mode.startswith("service:"):
            return mode or ""
        return f"container:{self._first_container(mode.removeprefix('service:'))}"

    def _first_container(self, service: str) -> str:
        other = self.project.services.get(service)
        own_name = other.container_name if other else None
        return own_name or container_name(self.project.name, service, 1, self.project.separator)

    def _volumes_from(self, entry: str) -> str:
        """`service[:ro]` or `container:name[:ro]` → the container's name, with `:ro` where it is so."""
        entry = entry.removesuffix(":rw")
        if entry.startswith("container:"):
            return entry.removeprefix("container:")
        name, colon, mode = entry.partition(":")
        return f"{self._first_container(name)}{colon}{mode}"

    def _endpoints(self, service: Service) -> tuple[EndpointRequest, ...]:
        if service.network_mode:
            return ()
        joined = dict(service.networks) or ({"default": None} if "default" in self.project.networks else {})
        aliases = (service.name, *self.link_aliases.get(service.name, ()))
        requests: list[EndpointRequest] = []
        for key in sorted(joined, key=lambda key: (-(n.priority if (n := joined[key]) else 0), key)):
            own = joined[key]
            if own and own.ipv4_address:
                self._check_address(service, key, own.ipv4_address)
            requests.append(
                EndpointRequest(
                    network=self.network_name(key),
                    aliases=tuple(dict.fromkeys((*aliases, *(own.aliases if own else ())))),
                    ipv4_address=own.ipv4_address if own else None,
                    mac_address=(own.mac_address if own else None) or (None if requests else service.mac_address),
                    priority=own.priority if own else 0,
                )
            )
        return tuple(requests)

    def network_name(self, key: str) -> str:
        """What a network of the file is called in the engine."""
        network = self.project.networks[key]
        return network.name or (key if network.external else f"{self.project.name}_{key}")

    def _link_aliases(self) -> dict[str, list[str]]:
        """Service → further names that links give it. A name that would mean two services is given to neither."""
        wanted: dict[str, set[str]] = {}
        for service in self.project.services.values():
            for link in service.links:
                target, _, alias = link.partition(":")
                if alias and alias != target:
                    wanted.setdefault(alias, set()).add(target)
        found: dict[str, list[str]] = {}
        for alias, targets in wanted.items():
            if len(targets) > 1 or alias in self.project.services:
                self.warnings.append(f'link alias "{alias}" means several services and is not acted on')
            else:
                found.setdefault(targets.pop(), []).append(alias)
        return found

    def _port(self, service: Service, position: int, port: Port) -> PortBinding:
        place = self.place("services", service.name, "ports", position)
        if port.protocol not in ("tcp", "udp"):
            raise Unsupported(f"cannot publish a port of protocol {port.protocol}", hint="use tcp or udp", place=place)
        first, _, last = (port.published or "").partition("-")
        try:
            host_port, host_port_last = int(first or 0), int(last or 0)
        except ValueError:
            raise InvalidInput(f'cannot read "{port.published}" as a published port', place=place) from None
        return PortBinding(
            container_port=port.target,
            protocol="udp" if port.protocol == "udp" else "tcp",
            host_ip=port.host_ip or "",
            host_port=host_port or None,
            host_port_last=host_port_last or None,
        )

    def _restart(self, service: Service) -> RestartPolicy:
        policy = service.deploy.restart_policy if service.deploy else None
        if policy and policy.condition:
            name, retries = _RESTART_OF_CONDITION.get(policy.condition, policy.condition), policy.max_attempts or 0
            path: tuple[str, ...] = ("deploy", "restart_policy", "condition")
        else:
            name, _, count = (service.restart or "no").partition(":")
            retries, path = int(count) if count.isdecimal() else 0, ("restart",)
        if name in _RESTARTS:
            return RestartPolicy(_RESTARTS[name], retries)
        raise InvalidInput(
            f'"{name}" is no restart policy',
            hint="use no, always, on-failure[:n] or unless-stopped",
            place=self.place("services", service.name, *path),
        )

    def _runtime(self, service: Service) -> str | None:
        if service.runtime and service.runtime not in RUNTIMES:
            raise InvalidInput(
                f'service {service.name}: unknown runtime "{service.runtime}"',
                hint=f"known: {', '.join(RUNTIMES)}",
                place=self.place("services", service.name, "runtime"),
            )
        return service.runtime or None

    def _log(self, service: Service) -> LogOptions:
        if service.logging is None:
            return LogOptions()
        driver = service.logging.driver or "raw"
        if driver not in _LOG_DRIVERS:
            self.warn(
                f'logging driver "{driver}" is not acted on yet: using the native one',
                "services",
                service.name,
                "logging",
            )
            driver = "raw"
        options = service.logging.options
        try:
            size = _bytes(options["max-size"]) if "max-size" in options else None
            return LogOptions(driver, size, int(options.get("max-file", "1")))
        except ValueError as error:
            raise InvalidInput(
                f"logging options: {error}", place=self.place("services", service.name, "logging", "options")
            ) from error

    def _is_one_shot(self, service: Service) -> bool:
        if service.name in self.awaited:
            return True
        check = service.healthcheck
        checked = check is not None and not check.disable and check.test != ("NONE",)
        return self._restart(service).name == "no" and not service.ports and not checked


def _shared_services(service: Service) -> Iterator[str]:
    """Services whose namespaces this one's containers enter, or whose volumes they take."""
    yield from (entry.split(":")[0] for entry in service.volumes_from if not entry.startswith("container:"))
    for mode in (service.network_mode, service.pid, service.ipc):
        if mode and mode.startswith("service:"):
            yield mode.removeprefix("service:")


def _healthcheck(service: Service) -> Healthcheck | None:
    check = service.healthcheck
    if check is None:
        return None
    return Healthcheck(
        test=("NONE",) if check.disable else check.test,
        interval_s=_seconds(check.interval),
        timeout_s=_seconds(check.timeout),
        retries=check.retries,
        start_period_s=_seconds(check.start_period),
        start_interval_s=_seconds(check.start_interval),
    )


def _resources(service: Service) -> Resources:
    deploy = service.deploy.resources if service.deploy else None
    limits = deploy.limits if deploy else None
    reservations = deploy.reservations if deploy else None
    return Resources(
        memory_bytes=service.mem_limit or (limits.memory if limits else 0) or None,
        memory_swap_bytes=service.memswap_limit or None,
        memory_reservation_bytes=service.mem_reservation or (reservations.memory if reservations else 0) or None,
        cpus=service.cpus or (limits.cpus if limits else 0) or None,
        cpu_shares=service.cpu_shares or None,
        cpu_quota_us=service.cpu_quota or None,
        cpu_period_us=service.cpu_period or None,
        cpuset=service.cpuset or None,
        pids=service.pids_limit or (limits.pids if limits else 0) or None,
        oom_kill_disable=service.oom_kill_disable,
        memory_swappiness=service.mem_swappiness or None,
        block_io_weight=(service.blkio_config.weight if service.blkio_config else 0) or None,
        block_io_devices=tuple(_device_limits(service.blkio_config)),
    )


def _device_limits(config: BlkioConfig | None) -> Iterator[DeviceLimit]:
    if config is None:
        return
    for weight in config.weight_device:
        yield DeviceLimit("weightDevice", weight.path, weight.weight)
    throttles = (
        ("throttleReadBpsDevice", config.device_read_bps),
        ("throttleWriteBpsDevice", config.device_write_bps),
        ("throttleReadIOPSDevice", config.device_read_iops),
        ("throttleWriteIOPSDevice", config.device_write_iops),
    )
    for kind, limits in throttles:
        for limit in limits:
            yield DeviceLimit(kind, limit.path, limit.rate)


def _seconds(nanoseconds: int | None) -> float | None:
    return None if nanoseconds is None else nanoseconds / 1e9


def _bytes(text: str) -> int:
    from compose.model.units import parse_bytes

    return parse_bytes(text)
