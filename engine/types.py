"""The engine's vocabulary: frozen values that cross between its parts and its callers.

Durations are seconds (`_s`), sizes are bytes (`_bytes`), CPU is in cores. `None` means "not asked for", so the
image's or the engine's default applies. Paths in a container are POSIX strings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any, Literal

from engine.frozen import frozen

ContainerState = Literal["created", "running", "paused", "restarting", "exited", "dead"]
RUNNING: tuple[ContainerState, ...] = ("running", "paused", "restarting")
"""The states of a container that is to be stopped before it is removed."""
RETIRED = "retired"
"""What `desired` says of a container that has given up its networks and waits to be replaced. It cannot be started."""
HealthState = Literal["none", "starting", "healthy", "unhealthy"]


# ------------------------------------------------------------------------------------------- asked for


@frozen
class Healthcheck:
    """How to tell that a container works. `test` is `["CMD", …]`, `["CMD-SHELL", line]` or `["NONE"]`.

    Fields left None are taken from the image's HEALTHCHECK, then from Docker's defaults
    (interval 30 s, timeout 30 s, retries 3, start period 0 s).
    """

    test: tuple[str, ...] | None = None
    interval_s: float | None = None
    timeout_s: float | None = None
    retries: int | None = None
    start_period_s: float | None = None
    start_interval_s: float | None = None


@frozen
class RestartPolicy:
    """What the monitor does when init ends. `max_retries` counts only for `on-failure` (0: no bound)."""

    name: Literal["no", "always", "on-failure", "unless-stopped"] = "no"
    max_retries: int = 0


@frozen
class DeviceLimit:
    """What holds for block I/O of one device of the host. `kind` is the OCI key: `weightDevice`, `throttleReadBpsDevice`…

    `value` is a weight (10 to 1000), bytes per second or operations per second, as the kind says.
    """

    kind: str
    path: str
    value: int


@frozen
class Resources:
    """cgroup limits; None leaves the host's default in force. `memory_swap_bytes` is memory plus swap, -1 unlimited.

    `memory_swappiness` is 0 to 100 and `block_io_weight` 10 to 1000.
    """

    memory_bytes: int | None = None
    memory_swap_bytes: int | None = None
    memory_reservation_bytes: int | None = None
    cpus: float | None = None
    cpu_shares: int | None = None
    cpu_quota_us: int | None = None
    cpu_period_us: int | None = None
    cpuset: str | None = None
    pids: int | None = None
    oom_kill_disable: bool = False
    memory_swappiness: int | None = None
    block_io_weight: int | None = None
    block_io_devices: tuple[DeviceLimit, ...] = ()


@frozen
class Mount:
    """One thing mounted into a container.

    `source` is a host path for "bind", a volume name for "volume" ("" makes an anonymous one), unused for "tmpfs"; for "file" it
    is a host file of which each start mounts a fresh copy, with the owner and mode that `options` name.
    `options` are extra: `{"size": bytes, "mode": int, "uid": int, "gid": int}` for tmpfs, all but size for file, `propagation`,
    `create_host_path` (bool), `recursive` for bind, `nocopy` (bool), `subpath` for volume.
    """

    type: Literal["bind", "volume", "tmpfs", "file"]
    target: str
    source: str = ""
    read_only: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)


@frozen
class PortBinding:
    """A published port. `host_port` None asks for any free one; a range gives the bounds to pick from, inclusive."""

    container_port: int
    protocol: Literal["tcp", "udp"] = "tcp"
    host_ip: str = ""
    host_port: int | None = None
    host_port_last: int | None = None


@frozen
class EndpointRequest:
    """A container's wish to be on a network. The highest `priority` becomes eth0 and the default route."""

    network: str
    aliases: tuple[str, ...] = ()
    ipv4_address: str | None = None
    mac_address: str | None = None
    priority: int = 0


@frozen
class LogOptions:
    """`driver` is "raw" (native), "json-file", "local" (= raw) or "none"; rotation at `max_size_bytes`, keeping `max_files`."""

    driver: str = "raw"
    max_size_bytes: int | None = None
    max_files: int = 1


@frozen
class Ulimit:
    """A resource limit by its `RLIMIT_` name in lower case (`nofile`); -1 is unlimited."""

    name: str
    soft: int
    hard: int


RUNTIMES = ("umiak", "crun", "runc")
"""What can start a container: our own runtime first, then OCI runtimes that the host may have. `docs/runtime.md` compares them."""


@frozen
class ContainerSpec:
    """All that a caller can ask of a container. `image` is a reference or an image ID."""

    name: str
    image: str
    command: tuple[str, ...] | None = None
    entrypoint: tuple[str, ...] | None = None
    environment: Mapping[str, str | None] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    working_dir: str | None = None
    user: str | None = None
    group_add: tuple[str, ...] = ()
    hostname: str | None = None
    domainname: str | None = None
    tty: bool = False
    stdin_open: bool = False
    stdin_once: bool = False
    """The input ends when its first client leaves, as `run` wants it; otherwise it stays open for the next one."""
    init: bool = False
    stop_signal: str | None = None
    stop_timeout_s: float | None = None
    restart: RestartPolicy = RestartPolicy()
    healthcheck: Healthcheck | None = None
    strict_intervals: bool = False
    mounts: tuple[Mount, ...] = ()
    volumes_from: tuple[str, ...] = ()
    """Containers, by name or ID, whose volumes and binds are mounted too where nothing else is; `:ro` after one makes them read-only."""
    shm_size_bytes: int | None = None
    read_only: bool = False
    privileged: bool = False
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    security_opt: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    device_cgroup_rules: tuple[str, ...] = ()
    ulimits: tuple[Ulimit, ...] = ()
    sysctls: Mapping[str, str] = field(default_factory=dict)
    oom_score_adj: int | None = None
    resources: Resources = Resources()
    network_mode: str = "networks"
    """"networks" (use `networks`), "none", "host", "bridge" (the engine's own default network) or "container:<id or name>"."""
    networks: tuple[EndpointRequest, ...] = ()
    ports: tuple[PortBinding, ...] = ()
    extra_hosts: tuple[str, ...] = ()
    """`name:address` each; the address may be `host-gateway`."""
    dns: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    dns_opt: tuple[str, ...] = ()
    pid_mode: str = ""
    """"" (private), "host" or "container:<id or name>"; likewise `ipc_mode` ("private", "shareable"), `uts_mode`, `cgroup_mode`."""
    ipc_mode: str = ""
    uts_mode: str = ""
    cgroup_mode: str = ""
    cgroup_parent: str | None = None
    runtime: str | None = None
    """What starts the container: one of `RUNTIMES`; None is our own."""
    log: LogOptions = LogOptions()


@frozen
class StepOptions:
    """How the command of a build runs. `network` is "default" (the engine's own), "none", "host" or a network's name."""

    network: str = "default"
    privileged: bool = False
    extra_hosts: tuple[str, ...] = ()
    shm_size_bytes: int | None = None
    ulimits: tuple[Ulimit, ...] = ()


@frozen
class NetworkSpec:
    """All that a caller can ask of a network. `subnet` and `gateway` None: the engine picks one that no route overlaps."""

    name: str
    driver: str = "bridge"
    internal: bool = False
    attachable: bool = False
    subnet: str | None = None
    ip_range: str | None = None
    gateway: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)


@frozen
class VolumeSpec:
    """All that a caller can ask of a named volume. `options` are the local driver's type, o and device."""

    name: str
    driver: str = "local"
    labels: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)


# ------------------------------------------------------------------------------------------- observed


@frozen
class ProbeResult:
    """One run of a health test. Times are seconds since the epoch; `exit_code` -1 means that it timed out or could not start."""

    start: float
    end: float
    exit_code: int
    output: str


@frozen
class Health:
    """What is known of a container's health. `failing_streak` counts failures in a row; `log` is oldest first, at most 5."""

    state: HealthState
    failing_streak: int = 0
    log: tuple[ProbeResult, ...] = ()


@frozen
class ContainerStatus:
    """A container's changing side, as its monitor last wrote it and the kernel confirms it.

    `exit_code` is None while it has never ended, and -1 where it ended unseen (its monitor had been killed).
    A process ended by signal N has exit code 128 + N. `pid` is 0 unless running. Times are seconds since the epoch, 0: never.
    """

    state: ContainerState
    pid: int = 0
    started_at: float = 0.0
    finished_at: float = 0.0
    exit_code: int | None = None
    oom_killed: bool = False
    error: str = ""
    restart_count: int = 0
    health: Health | None = None


@frozen
class EndpointInfo:
    """One container on one network, as leased. `ifname` is the name inside the container, `link` the veth on the host."""

    network: str
    network_id: str
    ipv4_address: str
    prefix_length: int
    gateway: str
    mac_address: str
    aliases: tuple[str, ...]
    ifname: str
    link: str


@frozen
class PublishedPort:
    """A port as really published."""

    host_ip: str
    host_port: int
    container_port: int
    protocol: str


@frozen
class ContainerInfo:
    """One container: what was asked (`spec`), what it is called, and how it is now (`status`)."""

    id: str
    name: str
    created_at: float
    image_id: str
    labels: Mapping[str, str]
    spec: ContainerSpec
    argv: tuple[str, ...]
    status: ContainerStatus
    endpoints: tuple[EndpointInfo, ...]
    ports: tuple[PublishedPort, ...]
    volumes: Mapping[str, str]
    """target in the container → volume name, anonymous ones included."""
    desired: str = "running"
    """What was last asked for: "created", "running" or "stopped"; or RETIRED, for good. One that ended by itself is still to be
    "running"."""


@frozen
class NetworkInfo:
    """One network as it exists. `link` is the bridge's interface name."""

    id: str
    spec: NetworkSpec
    created_at: float
    subnet: str
    gateway: str
    link: str


@frozen
class VolumeInfo:
    """One volume as it exists. `mountpoint` is the host path of its content."""

    spec: VolumeSpec
    created_at: float
    mountpoint: str
    anonymous: bool = False


@frozen
class ImageConfig:
    """The part of an OCI image configuration that a container inherits (OCI image-spec, config.md)."""

    env: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] | None = None
    cmd: tuple[str, ...] | None = None
    working_dir: str = ""
    user: str = ""
    exposed_ports: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    stop_signal: str | None = None
    healthcheck: Healthcheck | None = None
    shell: tuple[str, ...] | None = None


@frozen
class Image:
    """An image in the store. `id` is `sha256:<hex>` of its configuration; `layers` are diff IDs, lowest first."""

    id: str
    tags: tuple[str, ...]
    created_at: float
    size_bytes: int
    architecture: str
    os: str
    config: ImageConfig
    layers: tuple[str, ...]


@frozen
class LogRecord:
    """A piece of a container's output: bytes as written, without cutting lines that span records."""

    time: float
    stream: Literal["stdout", "stderr"]
    data: bytes
