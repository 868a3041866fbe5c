"""A service: what its containers run and how."""

from __future__ import annotations

from compose.model.base import Bool, Bytes, Count, Extensible, Float, Int, Model
from compose.model.build import Build, Ulimit
from compose.model.deploy import Deploy, Develop, DeviceRequest, Hook, PreStart
from compose.model.files import FileReference
from compose.model.units import Duration


class Dependency(Extensible):
    """One entry of `depends_on`."""

    condition: str = "service_started"
    """`service_started`, `service_healthy` or `service_completed_successfully`; default `service_started`."""
    restart: Bool = False
    """Restart this service after the dependency was recreated or restarted; default false."""
    required: Bool = True
    """False: carry on with a warning when the dependency is disabled or fails; default true."""


class Healthcheck(Extensible):
    """How to tell whether a container is healthy; what is unset comes from the image, then from the engine."""

    test: tuple[str, ...] | None = None
    """`CMD` and arguments, `CMD-SHELL` and a line, or `NONE`; default the image's."""
    timeout: Duration | None = None
    """How long one probe may take; default 30s."""
    interval: Duration | None = None
    """Time between probes; default 30s."""
    retries: Count | None = None
    """Failures in a row that make it unhealthy; default 3."""
    start_period: Duration | None = None
    """Time at the start in which failures do not count; default 0s."""
    start_interval: Duration | None = None
    """Time between probes in the start period; a duration, default 5s."""
    disable: Bool = False
    """No health check, not even the image's; default false."""


class Port(Extensible):
    """One published port."""

    name: str | None = None
    """Name of the port, for people; default none."""
    mode: str | None = None
    """`ingress` (default) or `host` (swarm)."""
    host_ip: str | None = None
    """Address of the host to bind; default all."""
    target: Count = 0
    """Port number in the container; required."""
    published: str | None = None
    """Port of the host, or a range `a-b` of which the engine takes a free one; None and `0` mean any; default a free one."""
    protocol: str = "tcp"
    """`tcp`, `udp` or `sctp`; default `tcp`."""
    app_protocol: str | None = None
    """Protocol spoken over it, such as `http`; default none."""


class BindOptions(Extensible):
    """Options of a mount of type `bind`."""

    selinux: str | None = None
    """`z` for a shared label, `Z` for a private one; default no label."""
    propagation: str | None = None
    """`rprivate` (default), `private`, `rshared`, `shared`, `rslave` or `slave`."""
    create_host_path: Bool | None = None
    """Create the source as a directory where it is missing; None is the default, true."""
    recursive: str | None = None
    """What of mounts below the source: `enabled`, `disabled`, `writable`, `readonly`; default `enabled`."""


class VolumeOptions(Extensible):
    """Options of a mount of type `volume`."""

    labels: dict[str, str] = {}
    """Labels of an anonymous volume; default none."""
    nocopy: Bool = False
    """Do not fill an empty volume from the image; default false."""
    subpath: str | None = None
    """Directory within the volume to mount; default its root."""


class TmpfsOptions(Extensible):
    """Options of a mount of type `tmpfs`."""

    size: Bytes = 0
    """Size in bytes; default 0, which is half the memory."""
    mode: Count = 0
    """Permission bits of its root; 0 is the default 1777."""


class ImageOptions(Extensible):
    """Options of a mount of type `image`."""

    subpath: str | None = None
    """Directory within the image to mount; default its root."""


class ServiceVolume(Extensible):
    """One mount of a service."""

    type: str = "volume"
    """`bind`, `volume`, `tmpfs`, `image`, `npipe` or `cluster`; default `volume`."""
    source: str | None = None
    """Absolute host path, key of a top-level volume, or image; None is an anonymous volume; default none."""
    target: str | None = None
    """Path in the container; required."""
    read_only: Bool = False
    """Mount read-only; default false."""
    consistency: str | None = None
    """Consistency wanted (macOS); without effect; default none."""
    bind: BindOptions | None = None
    """Options of a bind; default none."""
    volume: VolumeOptions | None = None
    """Options of a volume; default none."""
    tmpfs: TmpfsOptions | None = None
    """Options of a tmpfs; default none."""
    image: ImageOptions | None = None
    """Options of an image mount; default none."""

    @property
    def creates_host_path(self) -> bool:
        """Whether a missing source of a bind is created as a directory."""
        return self.type == "bind" and (self.bind is None or self.bind.create_host_path is not False)


class ServiceNetwork(Extensible):
    """How a service joins a network."""

    aliases: tuple[str, ...] = ()
    """Further names on that network; default none."""
    driver_opts: dict[str, str] = {}
    """Options of the network's driver for this endpoint; default none."""
    gw_priority: Int = 0
    """A number; the network with the highest one gives the default route. Default 0."""
    interface_name: str | None = None
    """Name of the interface in the container; default `eth<n>`."""
    ipv4_address: str | None = None
    """Fixed IPv4 address; default a free one."""
    ipv6_address: str | None = None
    """Fixed IPv6 address; default a free one."""
    link_local_ips: tuple[str, ...] = ()
    """Further link-local addresses; default none."""
    mac_address: str | None = None
    """MAC address of the interface; default one of the engine's."""
    priority: Int = 0
    """A number; networks are joined from the highest one down, the first being the primary one. Default 0."""


class EnvFile(Model):
    """One entry of `env_file`, as written; its variables are merged into `environment`."""

    path: str
    """Absolute path of the file; required."""
    required: Bool = True
    """False: skip the file when it is missing; default true."""
    format: str | None = None
    """`raw`, or None for the Compose grammar; default none."""


class Device(Extensible):
    """A device of the host in the container."""

    source: str | None = None
    """Device on the host, or a CDI name; required."""
    target: str | None = None
    """Device in the container; default the source."""
    permissions: str | None = None
    """Any of `r`, `w`, `m`; default `rwm`."""


class WeightDevice(Model):
    """Block I/O weight of one device."""

    path: str = ""
    """The device; required."""
    weight: Count = 0
    """A weight from 10 to 1000; required."""


class ThrottleDevice(Model):
    """Block I/O limit of one device."""

    path: str = ""
    """The device; required."""
    rate: Bytes = 0
    """Bytes or operations per second; required."""


class BlkioConfig(Model):
    """Block I/O weights and limits."""

    weight: Count = 0
    """A weight from 10 to 1000; 0 is unset."""
    weight_device: tuple[WeightDevice, ...] = ()
    """Weights by device; default none."""
    device_read_bps: tuple[ThrottleDevice, ...] = ()
    """Bytes read per second, by device; default none."""
    device_read_iops: tuple[ThrottleDevice, ...] = ()
    """Reads per second, by device; default none."""
    device_write_bps: tuple[ThrottleDevice, ...] = ()
    """Bytes written per second, by device; default none."""
    device_write_iops: tuple[ThrottleDevice, ...] = ()
    """Writes per second, by device; default none."""


class CredentialSpec(Extensible):
    """Windows credentials of a managed service account."""

    config: str | None = None
    """Config that holds the specification; default none."""
    file: str | None = None
    """File that holds the specification; default none."""
    registry: str | None = None
    """Registry value that holds the specification; default none."""


class Logging(Extensible):
    """Where a container's output goes."""

    driver: str | None = None
    """Logging driver; default the engine's."""
    options: dict[str, str] = {}
    """Options of the driver, such as `max-size`; default none."""


class Provider(Extensible):
    """An external program that stands in for the service."""

    type: str = ""
    """Name of the program; required."""
    options: dict[str, tuple[str, ...]] = {}
    """Its options; each may be repeated; default none."""


class ServiceModel(Extensible):
    """How a service is told of a language model."""

    endpoint_var: str | None = None
    """Variable that gets the endpoint; default `<KEY>_URL`."""
    model_var: str | None = None
    """Variable that gets the model's name; default `<KEY>_MODEL`."""


class Service(Extensible):
    """A service in canonical form: long syntaxes only, paths absolute, variables resolved."""

    name: str
    """Key of the service in the file; required."""
    profiles: tuple[str, ...] = ()
    """Profiles that enable it; none means always enabled; default none."""
    annotations: dict[str, str] = {}
    """OCI annotations of the container; default none."""
    attach: Bool | None = None
    """Show its output in `up`; default true."""
    build: Build | None = None
    """How to build the image; default none."""
    develop: Develop | None = None
    """Rules for `watch`; default none."""
    blkio_config: BlkioConfig | None = None
    """Block I/O weights and limits; default none."""
    cap_add: tuple[str, ...] = ()
    """Capabilities to add; default none."""
    cap_drop: tuple[str, ...] = ()
    """Capabilities to drop; default none."""
    cgroup_parent: str | None = None
    """Parent cgroup; default the engine's."""
    cgroup: str | None = None
    """Cgroup namespace: `host` or `private`; default `private`."""
    cpu_count: Int = 0
    """Number of CPUs (Windows); 0 is unset."""
    cpu_percent: Float = 0.0
    """Share of the CPUs in percent (Windows); 0 is unset."""
    cpu_period: Int = 0
    """CFS period in microseconds; 0 is unset."""
    cpu_quota: Int = 0
    """CFS quota in microseconds per period; 0 is unset."""
    cpu_rt_period: Int = 0
    """Real-time period in microseconds; 0 is unset."""
    cpu_rt_runtime: Int = 0
    """Real-time budget in microseconds per period; 0 is unset."""
    cpus: Float = 0.0
    """Number of CPUs that may be used; 0 is unset."""
    cpuset: str | None = None
    """CPUs to run on, such as `0-2,4`; default all."""
    cpu_shares: Int = 0
    """Relative CPU weight, 1024 being normal; 0 is unset."""
    command: tuple[str, ...] | None = None
    """Arguments; None keeps the image's, () clears them; default the image's."""
    configs: tuple[FileReference, ...] = ()
    """Configs to mount; default none."""
    container_name: str | None = None
    """Name of the one container; excludes more than one replica; default `<project>-<service>-<n>`."""
    credential_spec: CredentialSpec | None = None
    """Windows credentials; default none."""
    depends_on: dict[str, Dependency] = {}
    """Services that must come first, and until when to wait; default none."""
    deploy: Deploy | None = None
    """Replicas, resources, restart policy and update order; default none."""
    device_cgroup_rules: tuple[str, ...] = ()
    """Rules for the device cgroup, such as `c 1:3 mr`; default none."""
    devices: tuple[Device, ...] = ()
    """Devices of the host; default none."""
    dns: tuple[str, ...] = ()
    """Name servers; default the host's."""
    dns_opt: tuple[str, ...] = ()
    """Resolver options; default the host's."""
    dns_search: tuple[str, ...] = ()
    """Search domains; default the host's."""
    domainname: str | None = None
    """NIS domain name; default none."""
    entrypoint: tuple[str, ...] | None = None
    """Program and first arguments; None keeps the image's, () clears it; default the image's."""
    provider: Provider | None = None
    """External program that stands in for the service; default none."""
    environment: dict[str, str | None] = {}
    """Variables of the container, env files included; None unsets the image's; default the image's."""
    env_file: tuple[EnvFile, ...] = ()
    """The files that went into `environment`, in order; default none."""
    expose: tuple[str, ...] = ()
    """Ports that the container listens on, not published; default none."""
    external_links: tuple[str, ...] = ()
    """Links to containers outside the project; default none."""
    extra_hosts: dict[str, tuple[str, ...]] = {}
    """Further lines of /etc/hosts: name to addresses; `host-gateway` is the host; default none."""
    group_add: tuple[str, ...] = ()
    """Further groups, by name or ID; default none."""
    gpus: tuple[DeviceRequest, ...] = ()
    """GPUs; count -1 is all; default none."""
    hostname: str | None = None
    """Host name; default the short container ID."""
    healthcheck: Healthcheck | None = None
    """Health check; default the image's."""
    image: str | None = None
    """Image to run; default `<project>-<service>` for a built one."""
    init: Bool | None = None
    """Run a small init as PID 1; default false."""
    ipc: str | None = None
    """IPC namespace: `host`, `none`, `private`, `shareable`, `service:`, `container:`; default `private`."""
    isolation: str | None = None
    """Isolation technology (Windows); default the engine's."""
    labels: dict[str, str] = {}
    """Labels of the containers, label files included; default none."""
    label_file: tuple[str, ...] = ()
    """Absolute paths of the files that went into `labels`; default none."""
    links: tuple[str, ...] = ()
    """`service[:alias]`: a dependency, and its name here; default none."""
    logging: Logging | None = None
    """Where output goes; default the engine's."""
    mem_limit: Bytes = 0
    """Memory limit in bytes; 0 is unset."""
    mem_reservation: Bytes = 0
    """Soft memory limit in bytes; 0 is unset."""
    memswap_limit: Bytes = 0
    """Memory and swap in bytes; -1 is unlimited, 0 unset."""
    mem_swappiness: Bytes = 0
    """How readily to swap, 0 to 100 percent; default the kernel's."""
    mac_address: str | None = None
    """MAC address on the primary network; default one of the engine's."""
    models: dict[str, ServiceModel | None] = {}
    """Language models used; default none."""
    network_mode: str | None = None
    """`none`, `host`, `bridge`, `service:x` or `container:y`; excludes `networks`; default the networks."""
    networks: dict[str, ServiceNetwork | None] = {}
    """Networks joined, by top-level key; default the network `default`."""
    oom_kill_disable: Bool = False
    """Do not kill when out of memory; default false."""
    oom_score_adj: Int = 0
    """Score from -1000 to 1000, the highest being killed first; default 0."""
    pid: str | None = None
    """PID namespace: `host`, `service:`, `container:`; default a private one."""
    pids_limit: Int = 0
    """Number of processes; -1 is unlimited, 0 unset."""
    platform: str | None = None
    """`os[/arch[/variant]]`; default the host's."""
    ports: tuple[Port, ...] = ()
    """Published ports; default none."""
    privileged: Bool = False
    """All capabilities, all devices, nothing masked; default false."""
    pull_policy: str | None = None
    """`always`, `never`, `missing` (default), `build`, `daily`, `weekly`, `every_<duration>`."""
    read_only: Bool = False
    """Root file system read-only; default false."""
    restart: str | None = None
    """`no` (default), `always`, `on-failure[:n]` or `unless-stopped`."""
    runtime: str | None = None
    """OCI runtime; default the embedded one."""
    scale: Int | None = None
    """Number of containers as the file gives it; `replicas` is the effective number; default 1."""
    secrets: tuple[FileReference, ...] = ()
    """Secrets to mount; default none."""
    security_opt: tuple[str, ...] = ()
    """`no-new-privileges`, `seccomp=`, `apparmor=`, `label=`, `systempaths=`; default none."""
    shm_size: Bytes = 0
    """Size of /dev/shm in bytes; default 0, which is 64 MiB."""
    stdin_open: Bool = False
    """Keep standard input open; default false."""
    stop_grace_period: Duration | None = None
    """Time between the stop signal and SIGKILL; default 10s."""
    stop_signal: str | None = None
    """Signal that stops it; default the image's, then SIGTERM."""
    storage_opt: dict[str, str] = {}
    """Options of the writable layer, such as `size`; default none."""
    sysctls: dict[str, str] = {}
    """Kernel parameters of its namespaces; default none."""
    tmpfs: tuple[str, ...] = ()
    """`path[:options]` of in-memory file systems; default none."""
    tty: Bool = False
    """Allocate a terminal; default false."""
    ulimits: dict[str, Ulimit] = {}
    """Resource limits; default the host's."""
    use_api_socket: Bool = False
    """Mount the engine's API socket and credentials; default false."""
    user: str | None = None
    """`user[:group]`, by name or ID; default the image's."""
    userns_mode: str | None = None
    """User namespace: `host`; default the engine's."""
    uts: str | None = None
    """UTS namespace: `host`; default a private one."""
    volumes: tuple[ServiceVolume, ...] = ()
    """Mounts; default none."""
    volumes_from: tuple[str, ...] = ()
    """`service[:ro|rw]` or `container:name[:ro|rw]` whose mounts to share; default none."""
    working_dir: str | None = None
    """Directory in which the command runs; default the image's."""
    post_start: tuple[Hook, ...] = ()
    """Commands to run after the start; default none."""
    pre_stop: tuple[Hook, ...] = ()
    """Commands to run before the stop; default none."""
    pre_start: tuple[PreStart, ...] = ()
    """Containers to run to completion before the start; default none."""

    @property
    def replicas(self) -> int:
        """How many containers the service has: `scale`, else `deploy.replicas`, else 1."""
        if self.scale is not None:
            return self.scale
        if self.deploy is not None and self.deploy.replicas is not None:
            return self.deploy.replicas
        return 1

    def image_name(self, project: str, separator: str = "-") -> str:
        """The image its containers run: `image`, or `<project>-<service>` for a service that is only built."""
        return self.image or f"{project}{separator}{self.name}"
