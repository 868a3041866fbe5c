"""`services.*.deploy`, devices, and `services.*.develop`."""

from __future__ import annotations

from compose.model.base import AnyInt, Bool, Bytes, Count, Extensible, Float, Int, WholeInt
from compose.model.units import Duration


class DeviceRequest(Extensible):
    """A request for devices by capability, as GPUs are asked for."""

    capabilities: tuple[str, ...] = ()
    """What the device must be able to do, such as `gpu`; default none."""
    driver: str | None = None
    """Driver of the device, such as `nvidia`; default any."""
    count: WholeInt = 0
    """How many devices; -1 for all; default 0."""
    device_ids: tuple[str, ...] = ()
    """The very devices; excludes `count`; default none."""
    options: dict[str, str] = {}
    """Options of the driver; default none."""


class DiscreteResource(Extensible):
    """A countable resource of the user's own kind (swarm)."""

    kind: str = ""
    """Name of the kind; required."""
    value: AnyInt = 0
    """How many are needed; default 0."""


class GenericResource(Extensible):
    """One entry of `generic_resources` (swarm)."""

    discrete_resource_spec: DiscreteResource | None = None
    """The countable resource; default none."""


class Resource(Extensible):
    """An amount of resources, as a limit or a reservation."""

    cpus: Float = 0.0
    """Number of CPUs; 0 is unset."""
    memory: Bytes = 0
    """Memory in bytes; 0 is unset."""
    pids: AnyInt = 0
    """Number of processes; 0 is unset, -1 unlimited."""
    devices: tuple[DeviceRequest, ...] = ()
    """Devices to reserve; default none."""
    generic_resources: tuple[GenericResource, ...] = ()
    """User-defined resources to reserve; default none."""


class Resources(Extensible):
    """`deploy.resources`."""

    limits: Resource | None = None
    """What a container may use at most; default none."""
    reservations: Resource | None = None
    """What the host must be able to give to a container; default none."""


class UpdateConfig(Extensible):
    """`deploy.update_config` and `deploy.rollback_config`."""

    parallelism: Count | None = None
    """How many containers at a time; 0 is all; default 1."""
    delay: Duration = Duration(0)
    """Wait between groups; a duration, default 0s."""
    failure_action: str | None = None
    """What to do when an update fails: `continue`, `pause`, `rollback`; default `pause`."""
    monitor: Duration = Duration(0)
    """How long to watch a new container for failure; a duration, default 0s."""
    max_failure_ratio: Float = 0.0
    """Share of failures to tolerate, 0 to 1; default 0."""
    order: str | None = None
    """`stop-first` (default) or `start-first`."""


class RestartPolicy(Extensible):
    """`deploy.restart_policy`."""

    condition: str | None = None
    """`none`, `on-failure` or `any` (default)."""
    delay: Duration | None = None
    """Wait between attempts; a duration, default 0s."""
    max_attempts: Count | None = None
    """How often to try before giving up; default for ever."""
    window: Duration | None = None
    """How long a container must run to count as started; a duration, default 0s."""


class PlacementPreference(Extensible):
    """One placement preference (swarm)."""

    spread: str | None = None
    """Node label over whose values to spread; default none."""


class Placement(Extensible):
    """`deploy.placement` (swarm)."""

    constraints: tuple[str, ...] = ()
    """Expressions that a node must satisfy; default none."""
    preferences: tuple[PlacementPreference, ...] = ()
    """How to spread over nodes; default none."""
    max_replicas_per_node: Count = 0
    """At most so many containers per node; 0 is no limit; default 0."""


class Deploy(Extensible):
    """`services.*.deploy`."""

    mode: str | None = None
    """`replicated` (default), `global`, or the job forms of them."""
    replicas: Int | None = None
    """Number of containers; default 1."""
    labels: dict[str, str] = {}
    """Labels of the service, not of its containers (swarm); default none."""
    update_config: UpdateConfig | None = None
    """How to replace containers; default none."""
    rollback_config: UpdateConfig | None = None
    """How to go back to the former containers; default none."""
    resources: Resources = Resources.model_construct()
    """Limits and reservations; default none."""
    restart_policy: RestartPolicy | None = None
    """When to restart; overrides `restart`; default none."""
    placement: Placement = Placement.model_construct()
    """Which nodes to use (swarm); default any."""
    endpoint_mode: str | None = None
    """`vip` or `dnsrr` (swarm); default `vip`."""


class Hook(Extensible):
    """A command that runs at a point in a container's life: post_start, pre_stop, and develop.watch.exec."""

    command: tuple[str, ...] | None = None
    """What to execute; required but in `pre_start`."""
    user: str | None = None
    """User to run as; default the container's."""
    privileged: Bool = False
    """Run with all privileges; default false."""
    working_dir: str | None = None
    """Directory to run in; default the container's."""
    environment: dict[str, str | None] = {}
    """Variables added to the container's; default none."""


class PreStart(Hook):
    """A container that runs to completion before the service's own start."""

    image: str | None = None
    """Image to run; default the service's."""
    per_replica: Bool = False
    """Run once for each replica rather than once for the service; default false."""


class Trigger(Extensible):
    """One rule of `develop.watch`."""

    path: str = ""
    """Absolute path to watch; required."""
    action: str = ""
    """`rebuild`, `sync`, `restart`, `sync+restart` or `sync+exec`; required."""
    target: str | None = None
    """Where synced files go in the container; default none."""
    exec: Hook = Hook.model_construct()
    """Command for `sync+exec`; default none."""
    include: tuple[str, ...] = ()
    """Patterns of files to watch; default all."""
    ignore: tuple[str, ...] = ()
    """Patterns of files not to watch; default none."""
    initial_sync: Bool = False
    """Sync once at the start; default false."""


class Develop(Extensible):
    """`services.*.develop`."""

    watch: tuple[Trigger, ...] = ()
    """Rules for `watch`, in order; default none."""
