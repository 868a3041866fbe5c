"""Write a container's OCI runtime bundle (`config.json`) and what its monitor needs beside it (`monitor.json`).

The bundle is made anew at each start, from the recorded specification, by the process that asks for the start.
OCI runtime-spec: config.md, config-linux.md.
"""

from __future__ import annotations

import json
import os
import signal
import stat
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any

from engine.errors import InvalidInput, NotFound, Unsupported
from engine.frozen import frozen
from engine.kernel import capabilities
from engine.paths import Paths
from engine.runtime import cgroup, runtimes, users
from engine.types import ContainerSpec, DeviceLimit, EndpointInfo, Healthcheck, ImageConfig, Resources

OCI_VERSION = "1.1.0"
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DEFAULT_SHM_BYTES = 64 << 20
CPU_PERIOD_US = 100_000

# What Docker gives every container (moby, oci/caps/defaults.go names the same set).
DEFAULT_CAPABILITIES = (
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
)

MASKED_PATHS = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
)
READONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")

# Devices every container may use: rule text "type major:minor access" (runc, specconv).
DEFAULT_DEVICE_RULES = (
    "c *:* m",
    "b *:* m",
    "c 1:3 rwm",
    "c 1:5 rwm",
    "c 1:7 rwm",
    "c 1:8 rwm",
    "c 1:9 rwm",
    "c 5:0 rwm",
    "c 5:2 rwm",
    "c 136:* rwm",
)

# Docker's defaults where neither the request nor the image says (moby, container/container.go).
HEALTH_INTERVAL_S = 30.0
HEALTH_TIMEOUT_S = 30.0
HEALTH_RETRIES = 3
STOP_TIMEOUT_S = 10.0


@frozen
class Inputs:
    """All that a bundle is made from. `layer_dirs` are lowest first; `rootfs` is monitor.json's, highest first."""

    id: str
    name: str
    spec: ContainerSpec
    image: ImageConfig
    argv: tuple[str, ...]
    layer_dirs: Sequence[str]
    rootfs: Mapping[str, Any]
    mounts: Sequence[Mapping[str, Any]]
    endpoints: Sequence[EndpointInfo]
    netns: Mapping[str, Any]
    services: Sequence[Mapping[str, Any]]
    resolv_conf: str
    passwd: bytes = b""
    group: bytes = b""
    namespaces: Mapping[str, str] = field(default_factory=dict)
    """Namespaces that are not the container's own: type → path to join, or "" for the host's."""


def write(paths: Paths, inputs: Inputs) -> str:
    """Write both files and the container's own /etc files; return the path of monitor.json."""
    run, bundle = paths.container_run(inputs.id), paths.container(inputs.id)
    os.makedirs(f"{run}/rootfs", mode=0o700, exist_ok=True)
    os.makedirs(bundle, mode=0o710, exist_ok=True)
    _write_text(f"{run}/hostname", hostname(inputs) + "\n")
    _write_text(f"{run}/hosts", hosts(inputs))
    _write_text(f"{run}/resolv.conf", inputs.resolv_conf)
    _write_text(f"{bundle}/config.json", json.dumps(config(run, inputs)), mode=0o600)
    path = f"{bundle}/monitor.json"
    _write_text(path, json.dumps(monitor(paths, inputs)), mode=0o600)
    return path


def _write_text(path: str, text: str, mode: int = 0o644) -> None:
    """Replace a file's content in place: a running container holds the /etc files by inode."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
    with open(fd, "w", encoding="utf-8") as file:
        file.write(text)


def effective_argv(spec: ContainerSpec, image: ImageConfig) -> tuple[str, ...]:
    """The command line: an entrypoint in the request clears the image's command, as in Docker."""
    if spec.entrypoint is not None:
        entrypoint, command = spec.entrypoint, spec.command or ()
    else:
        entrypoint = image.entrypoint or ()
        command = spec.command if spec.command is not None else image.cmd or ()
    argv = (*entrypoint, *command)
    if not argv or not argv[0]:
        raise InvalidInput(
            f'cannot create container "{spec.name}": neither it nor its image names a command',
            hint="set command or entrypoint",
        )
    return tuple(argv)


def hostname(inputs: Inputs) -> str:
    """The container's host name: the one asked for, else the short ID."""
    if inputs.namespaces.get("uts") == "":
        return os.uname().nodename
    return inputs.spec.hostname or inputs.id[:12]


def hosts(inputs: Inputs) -> str:
    """The text of /etc/hosts."""
    lines = [
        "127.0.0.1\tlocalhost",
        "::1\tlocalhost ip6-localhost ip6-loopback",
        "fe00::0\tip6-localnet",
        "ff00::0\tip6-mcastprefix",
        "ff02::1\tip6-allnodes",
        "ff02::2\tip6-allrouters",
    ]
    name = hostname(inputs)
    names = f"{name}.{inputs.spec.domainname} {name}" if inputs.spec.domainname else name
    lines += [f"{endpoint.ipv4_address}\t{names}" for endpoint in inputs.endpoints]
    lines += [_extra_host(entry, inputs) for entry in inputs.spec.extra_hosts]
    return "\n".join(lines) + "\n"


def _extra_host(entry: str, inputs: Inputs) -> str:
    separator = "=" if "=" in entry else ":"
    name, _, address = entry.partition(separator)
    if not name or not address or any(character.isspace() for character in entry):
        raise InvalidInput(f'cannot read the extra host "{entry}"', hint="write it as name:address")
    if address == "host-gateway":
        gateways = [endpoint.gateway for endpoint in inputs.endpoints if endpoint.gateway]
        address = gateways[0] if gateways else "127.0.0.1"
    return f"{address.strip('[]')}\t{name}"


# -------------------------------------------------------------------------------------- config.json


def config(run: str, inputs: Inputs) -> dict[str, Any]:
    """The OCI runtime configuration."""
    spec = inputs.spec
    return {
        "ociVersion": OCI_VERSION,
        "process": _process(inputs),
        "root": {"path": f"{run}/rootfs", "readonly": spec.read_only},
        "hostname": hostname(inputs) if inputs.namespaces.get("uts") != "" else "",
        "domainname": spec.domainname or "",
        "mounts": [*_system_mounts(spec), *_etc_mounts(run, inputs), *inputs.mounts],
        "linux": _linux(inputs),
        "annotations": {"io.umiak.init": "1"} if spec.init else {},
    }


def _process(inputs: Inputs) -> dict[str, Any]:
    spec = inputs.spec
    uid, gid, groups, home = _user(inputs)
    names = capability_names(spec)
    held = dict.fromkeys(("bounding", "effective", "permitted"), names)
    return {
        "terminal": spec.tty,
        "user": {"uid": uid, "gid": gid, "additionalGids": groups},
        "args": list(inputs.argv),
        "env": environment(inputs, home),
        "cwd": spec.working_dir or inputs.image.working_dir or "/",
        "capabilities": {**held, "inheritable": [], "ambient": []},
        "rlimits": [
            {"type": f"RLIMIT_{limit.name.upper()}", "soft": limit.soft, "hard": limit.hard} for limit in spec.ulimits
        ],
        "noNewPrivileges": _security_flag(spec, "no-new-privileges"),
        "oomScoreAdj": spec.oom_score_adj or 0,
    }


def _user(inputs: Inputs) -> tuple[int, int, list[int], str]:
    wanted = inputs.spec.user or inputs.image.user or "0"
    try:
        uid, gid, groups, home = users.resolve(wanted, inputs.passwd, inputs.group)
        extra = users.find_groups(list(inputs.spec.group_add), inputs.group)
    except users.UserError as error:
        raise InvalidInput(f'cannot start "{inputs.name}": {error.message}', hint=error.hint) from error
    return uid, gid, [*groups, *(number for number in extra if number not in groups)], home


def environment(inputs: Inputs, home: str) -> list[str]:
    """The process's environment: the image's, under the request's; a null value removes the image's."""
    merged: dict[str, str | None] = {"PATH": DEFAULT_PATH, "HOSTNAME": hostname(inputs), "HOME": home}
    if inputs.spec.tty:
        merged["TERM"] = "xterm"
    for item in inputs.image.env:
        key, _, value = item.partition("=")
        merged[key] = value
    merged.update(inputs.spec.environment)
    return [f"{key}={value}" for key, value in merged.items() if value is not None]


def capability_names(spec: ContainerSpec) -> list[str]:
    """The capabilities the process may hold, as `CAP_…`: what is asked for and the host has to give."""
    held = set(capabilities.to_names(capabilities.bounding_set()))
    known = set(capabilities.NUMBERS)
    wanted = set(known) if spec.privileged else {f"CAP_{name}" for name in DEFAULT_CAPABILITIES}
    if not spec.privileged:
        add, drop = _capability_set(spec.cap_add, known), _capability_set(spec.cap_drop, known)
        everything_dropped = drop == known
        wanted = (add if everything_dropped else wanted | add) - (set() if everything_dropped else drop)
    return sorted(wanted & held, key=capabilities.NUMBERS.__getitem__)


def _capability_set(names: Sequence[str], known: set[str]) -> set[str]:
    found: set[str] = set()
    for name in names:
        full = name.upper() if name.upper().startswith("CAP_") else f"CAP_{name.upper()}"
        if full == "CAP_ALL":
            return set(known)
        if full not in known:
            raise InvalidInput(f'unknown capability "{name}"', hint="see capabilities(7) for the names")
        found.add(full)
    return found


def _security_options(spec: ContainerSpec) -> dict[str, str]:
    options: dict[str, str] = {}
    for entry in spec.security_opt:
        separator = "=" if "=" in entry else ":"
        key, _, value = entry.partition(separator)
        options[key] = value
    return options


def _security_flag(spec: ContainerSpec, name: str) -> bool:
    value = _security_options(spec).get(name)
    return value is not None and value.lower() not in ("false", "0")


def _system_mounts(spec: ContainerSpec) -> list[dict[str, Any]]:
    guarded = ["nosuid", "noexec", "nodev"]
    shm = spec.shm_size_bytes or DEFAULT_SHM_BYTES
    sys_access = "rw" if spec.privileged else "ro"
    return [
        {"destination": "/proc", "type": "proc", "source": "proc", "options": guarded},
        {
            "destination": "/dev",
            "type": "tmpfs",
            "source": "tmpfs",
            "options": ["nosuid", "strictatime", "mode=755", "size=65536k"],
        },
        {
            "destination": "/dev/pts",
            "type": "devpts",
            "source": "devpts",
            "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        },
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": [*guarded, sys_access]},
        {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": [*guarded, sys_access]},
        {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": guarded},
        {
            "destination": "/dev/shm",
            "type": "tmpfs",
            "source": "shm",
            "options": [*guarded, "mode=1777", f"size={shm}"],
        },
    ]


def _etc_mounts(run: str, inputs: Inputs) -> list[dict[str, Any]]:
    taken = {mount["destination"] for mount in inputs.mounts}
    return [
        {
            "destination": f"/etc/{name}",
            "type": "bind",
            "source": f"{run}/{name}",
            "options": ["bind", "rprivate", "rw"],
        }
        for name in ("hosts", "hostname", "resolv.conf")
        if f"/etc/{name}" not in taken
    ]


def _linux(inputs: Inputs) -> dict[str, Any]:
    spec = inputs.spec
    open_paths = spec.privileged or _security_options(spec).get("systempaths") == "unconfined"
    return {
        "namespaces": _namespaces(inputs),
        "maskedPaths": [] if open_paths else list(MASKED_PATHS),
        "readonlyPaths": [] if open_paths else list(READONLY_PATHS),
        "seccomp": _seccomp(spec),
        "resources": {**resources(spec.resources), "devices": _device_rules(spec)},
        "devices": _devices(spec),
        "sysctl": _sysctls(inputs),
        "cgroupsPath": f"{spec.cgroup_parent or cgroup.DEFAULT_PARENT}/{inputs.id}",
        "rootfsPropagation": "rprivate",
    }


def _namespaces(inputs: Inputs) -> list[dict[str, str]]:
    own: list[dict[str, str]] = []
    for kind in ("pid", "ipc", "uts", "mount", "cgroup"):
        path = inputs.namespaces.get(kind)
        if path == "":
            continue
        own.append({"type": kind, "path": path} if path else {"type": kind})
    mode, pin = inputs.netns["mode"], inputs.netns.get("pin")
    if mode != "host":
        own.append({"type": "network", "path": str(pin)})
    return own


def _seccomp(spec: ContainerSpec) -> dict[str, Any] | None:
    profile = _security_options(spec).get("seccomp")
    if profile == "unconfined" or (spec.privileged and profile is None):
        return None
    if profile is None:
        return {"umiakProfile": "default"}
    text = profile
    if not profile.lstrip().startswith("{"):
        try:
            with open(profile, encoding="utf-8") as file:
                text = file.read()
        except OSError as error:
            raise NotFound(f"cannot read the seccomp profile {profile}: {error.strerror}") from error
    try:
        loaded: dict[str, Any] = json.loads(text)
    except ValueError as error:
        raise InvalidInput(f"the seccomp profile {profile[:80]} is not JSON: {error}") from error
    return loaded


def _device_rules(spec: ContainerSpec) -> list[dict[str, Any]]:
    if spec.privileged:
        return [{"allow": True, "access": "rwm"}]
    rules: list[dict[str, Any]] = [{"allow": False, "access": "rwm"}]
    texts = [*DEFAULT_DEVICE_RULES, *spec.device_cgroup_rules]
    for device in _devices(spec):
        texts.append(f"{device['type']} {device['major']}:{device['minor']} {device['access']}")
    return [*rules, *(_device_rule(text) for text in texts)]


def _device_rule(text: str) -> dict[str, Any]:
    try:
        kind, numbers, access = text.split()
        major, minor = (None if part == "*" else int(part) for part in numbers.split(":"))
    except ValueError as error:
        raise InvalidInput(f'cannot read the device rule "{text}"', hint='write it as "c 1:3 rwm"') from error
    if kind not in ("a", "b", "c") or not access or set(access) - set("rwm"):
        raise InvalidInput(f'cannot read the device rule "{text}"', hint='write it as "c 1:3 rwm"')
    return {"allow": True, "type": kind, "major": major, "minor": minor, "access": access}


def _devices(spec: ContainerSpec) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for text in spec.devices:
        source, target, access = _device_parts(text)
        try:
            info = os.stat(source)
        except OSError as error:
            raise NotFound(f"cannot give {source} to the container: {error.strerror}") from error
        kind = "c" if stat.S_ISCHR(info.st_mode) else "b" if stat.S_ISBLK(info.st_mode) else ""
        if not kind:
            raise InvalidInput(f"cannot give {source} to the container: it is not a device")
        found.append(
            {
                "path": target,
                "source": source,
                "type": kind,
                "major": os.major(info.st_rdev),
                "minor": os.minor(info.st_rdev),
                "fileMode": stat.S_IMODE(info.st_mode),
                "uid": info.st_uid,
                "gid": info.st_gid,
                "access": access,
            }
        )
    return found


def _device_parts(text: str) -> tuple[str, str, str]:
    parts = text.split(":")
    source = parts[0]
    if len(parts) == 2 and parts[1] and not parts[1].startswith("/"):
        return source, source, parts[1]
    target = parts[1] if len(parts) > 1 and parts[1] else source
    return source, target, parts[2] if len(parts) > 2 else "rwm"


def _sysctls(inputs: Inputs) -> dict[str, str]:
    """Docker lets every container with a network of its own bind low ports and send pings without privileges."""
    defaults: dict[str, str] = {}
    if inputs.netns["mode"] == "private":
        defaults = {"net.ipv4.ip_unprivileged_port_start": "0", "net.ipv4.ping_group_range": "0 2147483647"}
    return {**defaults, **inputs.spec.sysctls}


def resources(wanted: Resources) -> dict[str, Any]:
    """Limits in the OCI form (config-linux.md, "Control groups"); nothing for what was not asked."""
    memory = {
        "limit": wanted.memory_bytes,
        "swap": wanted.memory_swap_bytes,
        "reservation": wanted.memory_reservation_bytes,
        "disableOOMKiller": wanted.oom_kill_disable or None,
        "swappiness": wanted.memory_swappiness,
    }
    quota, period = wanted.cpu_quota_us, wanted.cpu_period_us
    if wanted.cpus:
        quota, period = int(wanted.cpus * CPU_PERIOD_US), CPU_PERIOD_US
    cpu = {"shares": wanted.cpu_shares, "quota": quota, "period": period, "cpus": wanted.cpuset}
    pids = {"limit": wanted.pids if wanted.pids and wanted.pids > 0 else None}
    block_io = {"weight": wanted.block_io_weight, **_device_limits(wanted.block_io_devices)}
    parts: dict[str, dict[str, Any]] = {"memory": memory, "cpu": cpu, "pids": pids, "blockIO": block_io}
    kept = {name: {key: value for key, value in part.items() if value is not None} for name, part in parts.items()}
    return {name: part for name, part in kept.items() if part}


def _device_limits(limits: Sequence[DeviceLimit]) -> dict[str, list[dict[str, int]]]:
    """Block I/O limits by OCI key. A partition has none of its own: the kernel refuses it and says so."""
    found: dict[str, list[dict[str, int]]] = {}
    for limit in limits:
        try:
            info = os.stat(limit.path)
        except OSError as error:
            raise NotFound(
                f"cannot limit block I/O of {limit.path}: {error.strerror}", hint="see lsblk for the host's devices"
            ) from error
        if not stat.S_ISBLK(info.st_mode):
            raise InvalidInput(
                f"cannot limit block I/O of {limit.path}: it is not a block device",
                hint="name a whole disk as lsblk does, such as /dev/sda",
            )
        value = {"weight" if limit.kind == "weightDevice" else "rate": limit.value}
        entry = {"major": os.major(info.st_rdev), "minor": os.minor(info.st_rdev), **value}
        found.setdefault(limit.kind, []).append(entry)
    return found


# ------------------------------------------------------------------------------------- monitor.json


def monitor(paths: Paths, inputs: Inputs) -> dict[str, Any]:
    """What the monitor needs beside the OCI configuration."""
    spec, image = inputs.spec, inputs.image
    timeout = STOP_TIMEOUT_S if spec.stop_timeout_s is None else spec.stop_timeout_s
    bundle = paths.container(inputs.id)
    return {
        "v": 1,
        "id": inputs.id,
        "name": inputs.name,
        "bundle": bundle,
        "run": paths.container_run(inputs.id),
        "rootfs": dict(inputs.rootfs),
        "tty": spec.tty,
        "stdin_open": spec.stdin_open,
        "stdin_once": spec.stdin_once,
        "init": spec.init,
        "runtime": runtimes.program_of(spec.runtime),
        "stop_signal": signal_number(spec.stop_signal or image.stop_signal or "SIGTERM"),
        "stop_timeout_s": timeout,
        "restart": {"name": spec.restart.name, "max_retries": spec.restart.max_retries},
        "health": health(spec.healthcheck, image.healthcheck, image.shell, spec.strict_intervals),
        "log": {
            "driver": "raw" if spec.log.driver == "local" else spec.log.driver,
            "dir": f"{bundle}/log",
            "max_size_bytes": spec.log.max_size_bytes,
            "max_files": spec.log.max_files,
        },
        "journal": {"dir": paths.events, "attributes": event_attributes(inputs.name, spec)} if spec.image else None,
        "netns": dict(inputs.netns),
        "endpoints": [_endpoint(paths, inputs, position) for position in range(len(inputs.endpoints))],
        "services": [dict(service) for service in inputs.services],
        "cgroup": {
            "parent": spec.cgroup_parent or cgroup.DEFAULT_PARENT,
            "name": inputs.id,
            "resources": {**resources(spec.resources), "devices": _device_rules(spec)},
        },
    }


def event_attributes(name: str, spec: ContainerSpec) -> dict[str, str]:
    """What every event about a container says of it, as Docker's do."""
    return {**spec.labels, "image": spec.image, "name": name}


def _endpoint(paths: Paths, inputs: Inputs, position: int) -> dict[str, Any]:
    endpoint = inputs.endpoints[position]
    first_gateway = next((index for index, each in enumerate(inputs.endpoints) if each.gateway), None)
    return {
        "network": endpoint.network,
        "network_id": endpoint.network_id,
        "bridge": f"um-{endpoint.network_id[:10]}",
        "link": endpoint.link,
        "ifname": endpoint.ifname,
        "ipv4_address": endpoint.ipv4_address,
        "prefix_length": endpoint.prefix_length,
        "gateway": endpoint.gateway,
        "mac_address": endpoint.mac_address,
        "default_route": position == first_gateway,
        "names": endpoint_names(inputs.name, inputs.id, endpoint),
        "names_dir": paths.network_run(endpoint.network_id),
    }


def endpoint_names(name: str, container_id: str, endpoint: EndpointInfo) -> list[str]:
    """What others on the network may call the container: its name, short ID and aliases."""
    return list(dict.fromkeys((name, container_id[:12], *endpoint.aliases)))


def health(
    asked: Healthcheck | None, image: Healthcheck | None, shell: Sequence[str] | None, strict: bool
) -> dict[str, Any] | None:
    """The health test in force: the request's fields over the image's over Docker's defaults. None: no test."""
    asked, image = asked or Healthcheck(), image or Healthcheck()
    test = asked.test or image.test
    if not test or test[0] == "NONE":
        return None
    if test[0] == "CMD-SHELL" and len(test) > 1:
        test = ("CMD", *(shell or ("/bin/sh", "-c")), test[1])

    def value(name: str, default: float | None) -> Any:
        for source in (asked, image):
            found = getattr(source, name)
            if found:
                return found
        return default

    return {
        "test": list(test),
        "interval_s": value("interval_s", HEALTH_INTERVAL_S),
        "timeout_s": value("timeout_s", HEALTH_TIMEOUT_S),
        "retries": value("retries", HEALTH_RETRIES),
        "start_period_s": value("start_period_s", 0.0),
        "start_interval_s": value("start_interval_s", None),
        "strict": strict,
    }


def signal_number(name: str) -> int:
    """The number of a signal given as `SIGTERM`, `TERM`, `15` or `SIGRTMIN+3`."""
    text = name.strip().upper()
    if text.isdigit() and 0 < int(text) <= signal.SIGRTMAX:
        return int(text)
    text = text if text.startswith("SIG") else f"SIG{text}"
    base, plus, offset = text.partition("+")
    try:
        number = int(signal.Signals[base]) + (int(offset) if plus else 0)
    except (KeyError, ValueError) as error:
        raise InvalidInput(f'unknown signal "{name}"', hint="see signal(7) for the names") from error
    if number > signal.SIGRTMAX:
        raise Unsupported(f'signal "{name}" is out of range')
    return number
