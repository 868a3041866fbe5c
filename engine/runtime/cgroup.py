"""The cgroup of one container, on hosts with v1, hybrid or v2 hierarchies. `open_cgroup` looks which it is.

On a hybrid host the controllers are v1's, so v1 is used. Every container is `<hierarchy>/<parent>/<id>`; nothing outside of
the parent is touched, except that v2's ancestors are asked to hand their controllers down.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import sys
import time

from engine.kernel import bpf, process
from engine.kernel.bpf import DeviceRule
from engine.kernel.procfs import start_time
from engine.runtime import cgroupfs
from engine.runtime.steps import LaunchError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any

DEFAULT_PARENT = "/umiak"
"""What the cgroups of containers that ask for no other parent lie in; `engine.runtime.scope` has another where systemd runs."""
_V1_CONTROLLERS = ("memory", "cpu", "cpuacct", "cpuset", "pids", "devices", "freezer", "blkio")
_V2_CONTROLLERS = ("cpuset", "cpu", "io", "memory", "pids")
_NO_INTERNAL_PROCESSES = (errno.EBUSY, errno.EOPNOTSUPP)  # cgroups(7)
_cannot_clone_into: list[int] = []  # what the kernel said when it was asked, once
_V1_THROTTLES = {
    "throttleReadBpsDevice": "read_bps_device",
    "throttleWriteBpsDevice": "write_bps_device",
    "throttleReadIOPSDevice": "read_iops_device",
    "throttleWriteIOPSDevice": "write_iops_device",
}
_V2_THROTTLES = {
    "throttleReadBpsDevice": "rbps",
    "throttleWriteBpsDevice": "wbps",
    "throttleReadIOPSDevice": "riops",
    "throttleWriteIOPSDevice": "wiops",
}
_NO_WEIGHTS = "no I/O scheduler of this host knows weights: none is set"
_REMOVE_TIMEOUT_S = 5.0
_FREEZE_TIMEOUT_S = 10.0

# What every container may use, besides making any node. OCI runtime-spec, config-linux.md, "Default Devices".
_DEFAULT_RULES = (
    ("c", None, None, "m"),
    ("b", None, None, "m"),
    ("c", 1, 3, "rwm"),
    ("c", 1, 5, "rwm"),
    ("c", 1, 7, "rwm"),
    ("c", 1, 8, "rwm"),
    ("c", 1, 9, "rwm"),
    ("c", 5, 0, "rwm"),
    ("c", 5, 2, "rwm"),
    ("c", 136, None, "rwm"),
)


def device_rules(entries: Sequence[Mapping[str, Any]] | None) -> list[DeviceRule]:
    """Read OCI `linux.resources.devices`; a rule that denies everything is followed by what every container may use.

    Without any entry the container gets just that.
    """
    rules: list[DeviceRule] = []
    for entry in ({"allow": False},) if entries is None else entries:
        major, minor = (None if number in (None, -1) else number for number in (entry.get("major"), entry.get("minor")))
        rule = DeviceRule(
            bool(entry["allow"]), str(entry.get("type") or "a"), major, minor, str(entry.get("access") or "rwm")
        )
        rules.append(rule)
        if not rule.allow and rule.type == "a" and major is None and minor is None:
            rules += [DeviceRule(True, *default) for default in _DEFAULT_RULES]
    return rules


class Hierarchies:
    """Where the cgroup file systems are mounted: v1 by controllers ("cpu,cpuacct") or `named` without any, v2 once."""

    __slots__ = ("named", "unified", "v1")

    def __init__(self, mountinfo: str) -> None:
        """Read the text of /proc/self/mountinfo; of several mounts of one hierarchy the first is taken. See proc(5)."""
        self.v1: dict[str, str] = {}
        self.named: list[str] = []
        self.unified: str | None = None
        for line in mountinfo.splitlines():
            fields, _, rest = line.partition(" - ")
            kind, *_, options = rest.split(" ")
            path = fields.split(" ")[4].encode().decode("unicode_escape")
            if kind == "cgroup2" and self.unified is None:
                self.unified = path
            elif kind == "cgroup":
                controllers = [option for option in options.split(",") if option in _V1_CONTROLLERS]
                if controllers:
                    self.v1.setdefault(",".join(controllers), path)
                else:
                    self.named.append(path)

    @classmethod
    def of_host(cls) -> Hierarchies:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            return cls(file.read())


def open_cgroup(parent: str, name: str, hierarchies: Hierarchies | None = None) -> Cgroup:
    """Return the cgroup `<parent>/<name>` of this host, whether it exists yet or not."""
    found = hierarchies or Hierarchies.of_host()
    place = f"{parent.strip('/')}/{name}"
    if not parent.strip("/") or "/" in name or ".." in place.split("/"):
        raise LaunchError("Cgroup", errno.EINVAL, f'cannot use "{place}" as a cgroup', kind="invalid")
    if found.v1:
        return CgroupV1(place, found.v1, found.named)
    if found.unified is not None:
        return CgroupV2(place, found.unified)
    hint = "mount one: mount -t cgroup2 none /sys/fs/cgroup"
    raise LaunchError("Cgroup", errno.ENOSYS, "this host has no cgroup file system", hint=hint, kind="unsupported")


class Cgroup:
    """What both versions share. `warnings` collects limits that the host could not set and that do no harm to miss."""

    __slots__ = ("_oom_kills_seen", "place", "warnings")

    def __init__(self, place: str) -> None:
        self.place = place
        self.warnings: list[str] = []
        self._oom_kills_seen = 0

    def hierarchies(self) -> list[tuple[str, str]]:
        """Return (controllers, directory) of each hierarchy that the container is in; ("", directory) on v2."""
        raise NotImplementedError

    def create(self, resources: Mapping[str, Any]) -> None:
        """Make the cgroup with the limits of OCI `linux.resources`; on a LaunchError nothing of it is left."""
        try:
            self._make()
            self._apply(resources)
        except OSError as error:
            self._undo()
            message = f"cannot set up the cgroup {self.place}: {error.strerror}"
            if error.filename:
                message += f" ({os.path.basename(str(error.filename))})"
            raise LaunchError("Cgroup", error.errno or 0, message) from error
        except BaseException:
            self._undo()
            raise

    def clone(self, flags: int) -> tuple[int, int]:
        """Fork as `process.clone3` does; on v2 the child is born in the cgroup. Everywhere else `attach` brings it there."""
        return process.clone3(flags)

    def attach(self, pid: int) -> None:
        """Move a process into the cgroup, unless it is there already."""
        raise NotImplementedError

    def close(self) -> None:
        """Let go of descriptors; the cgroup itself stays."""

    def exists(self) -> bool:
        return any(os.path.isdir(path) for _, path in self.hierarchies())

    def oom_killed(self) -> bool:
        """Tell whether the kernel's OOM killer has struck here since the last time this was asked."""
        count = self._oom_kills()
        struck = count > self._oom_kills_seen
        self._oom_kills_seen = count
        return struck

    def open_oom_events(self) -> tuple[int, bool]:
        """Return a descriptor for `Loop.add_reader`, and whether `urgent`: an event says that `oom_killed` may have news.

        Take the event with `take_oom_event`. The descriptor is -1 where the host has no such events.
        """
        raise NotImplementedError

    def pids(self) -> list[int]:
        """Return the processes in the cgroup and in those that the container made below it."""
        raise NotImplementedError

    def freeze(self) -> None:
        """Stop every process and return when all have stopped; TimeoutError, and nothing stopped, if one does not."""
        raise NotImplementedError

    def thaw(self) -> None:
        raise NotImplementedError

    def kill(self) -> None:
        """Send SIGKILL to every process, frozen ones included."""
        raise NotImplementedError

    def stats(self) -> dict[str, int | None]:
        """Return usage: `memory_*_bytes`, `cpu_usage_ns`, `pids_*`, `io_*_bytes`; None where the host does not tell.

        On v2 also `cpu_`, `memory_` and `io_pressure_us`: how long some process had to wait for it.
        """
        raise NotImplementedError

    def remove(self) -> None:
        """Remove the cgroup, waiting a little for processes that are just ending; then its parents, if we made them and it was the last."""
        for _, path in self.hierarchies():
            cgroupfs.remove_tree(path, time.monotonic() + _REMOVE_TIMEOUT_S)
            cgroupfs.remove_unused(os.path.dirname(path))

    def _make(self) -> None:
        for _, path in self.hierarchies():
            cgroupfs.make_directories(path)

    def _undo(self) -> None:
        try:
            self.remove()
        except OSError:
            pass  # the error that led here says more

    def _apply(self, resources: Mapping[str, Any]) -> None:
        raise NotImplementedError

    def _oom_kills(self) -> int:
        raise NotImplementedError


class CgroupV1(Cgroup):
    """A directory of the same name in each v1 hierarchy."""

    __slots__ = ("_mounts", "_named")

    def __init__(self, place: str, mounts: Mapping[str, str], named: Sequence[str] = ()) -> None:
        super().__init__(place)
        self._mounts = mounts
        self._named = named

    def hierarchies(self) -> list[tuple[str, str]]:
        # A cpuset constrains even when it is not asked for, so it is joined only if it is.
        return [
            (controllers, f"{mount}/{self.place}")
            for controllers, mount in self._mounts.items()
            if controllers != "cpuset" or os.path.isdir(f"{mount}/{self.place}")
        ]

    def attach(self, pid: int) -> None:
        for _, path in self.hierarchies():
            cgroupfs.write(f"{path}/cgroup.procs", str(pid))

    def remove(self) -> None:
        ours = [path for _, path in self.hierarchies()]
        made = max(map(cgroupfs.made_above, ours), default=0)
        super().remove()
        if self._has_siblings():
            return
        # crun and runc are in every hierarchy, and take away but their container's own directory.
        for path in (f"{mount}/{self.place}" for mount in (*self._mounts.values(), *self._named)):
            for level in range(1, made + 1 if path not in ours else 0):
                cgroupfs.remove_empty(path.rsplit("/", level)[0])

    def _has_siblings(self) -> bool:
        """Whether the directory above serves other containers."""
        return any(os.path.isdir(os.path.dirname(path)) for _, path in self.hierarchies())

    def _path(self, controller: str) -> str | None:
        for controllers, mount in self._mounts.items():
            if controller in controllers.split(","):
                return f"{mount}/{self.place}"
        return None

    def _needed(self, controller: str, what: str) -> str:
        path = self._path(controller)
        if path is None:
            raise _missing(controller, what)
        return path

    def _apply(self, resources: Mapping[str, Any]) -> None:
        self._apply_memory(resources.get("memory") or {})
        self._apply_cpu(resources.get("cpu") or {})
        limit = (resources.get("pids") or {}).get("limit")
        if limit:
            cgroupfs.write(f"{self._needed('pids', 'a pids limit')}/pids.max", _or_max(limit))
        self._apply_block_io(resources.get("blockIO") or {})
        for file in resources.get("unified") or {}:
            self.warnings.append(f"{file} is a setting of cgroup v2, which does not control this host: it is not set")
        if "devices" in resources or self._path("devices"):
            self._apply_devices(device_rules(resources.get("devices")))

    def _apply_block_io(self, block_io: Mapping[str, Any]) -> None:
        for key, file in _V1_THROTTLES.items():
            for entry in block_io.get(key) or ():
                path = f"{self._needed('blkio', 'a limit of block I/O')}/blkio.throttle.{file}"
                cgroupfs.write(path, f"{entry['major']}:{entry['minor']} {entry['rate']}")
        for device, weight in _weights(block_io):
            path = f"{self._needed('blkio', 'a weight of block I/O')}/blkio.bfq.weight{'_device' if device else ''}"
            if os.path.exists(path):
                cgroupfs.write(path, f"{device} {weight}".strip())
            else:
                self.warnings.append(_NO_WEIGHTS)

    def _apply_memory(self, memory: Mapping[str, Any]) -> None:
        limit, swap = memory.get("limit"), memory.get("swap")
        if limit is not None:
            cgroupfs.write(f"{self._needed('memory', 'a memory limit')}/memory.limit_in_bytes", str(limit))
        if swap is not None:
            path = f"{self._needed('memory', 'a swap limit')}/memory.memsw.limit_in_bytes"
            if os.path.exists(path):
                cgroupfs.write(path, str(swap))
            else:
                self.warnings.append("the kernel does not account for swap: no swap limit is set")
        if memory.get("reservation") is not None:
            cgroupfs.write(
                f"{self._needed('memory', 'a memory reservation')}/memory.soft_limit_in_bytes",
                str(memory["reservation"]),
            )
        if memory.get("swappiness") is not None:
            cgroupfs.write(f"{self._needed('memory', 'swappiness')}/memory.swappiness", str(memory["swappiness"]))
        if memory.get("disableOOMKiller"):
            cgroupfs.write(f"{self._needed('memory', 'the OOM killer')}/memory.oom_control", "1")

    def _apply_cpu(self, cpu: Mapping[str, Any]) -> None:
        files = {"shares": "cpu.shares", "period": "cpu.cfs_period_us", "quota": "cpu.cfs_quota_us", "idle": "cpu.idle"}
        for key, file in files.items():
            if cpu.get(key):
                cgroupfs.write(f"{self._needed('cpu', 'a CPU limit')}/{file}", str(cpu[key]))
        if cpu.get("cpus") or cpu.get("mems"):
            path = self._needed("cpuset", "a choice of CPUs")
            cgroupfs.make_directories(path)
            self._inherit_cpuset(os.path.dirname(path))
            self._inherit_cpuset(path)
            for key in ("mems", "cpus"):
                if cpu.get(key):
                    cgroupfs.write(f"{path}/cpuset.{key}", str(cpu[key]))

    def _inherit_cpuset(self, path: str) -> None:
        """Copy the parent's sets where a new cpuset has none: nothing can be attached to an empty one. cpuset(7)."""
        for name in ("cpuset.mems", "cpuset.cpus"):
            if not cgroupfs.read(f"{path}/{name}").strip():
                cgroupfs.write(f"{path}/{name}", cgroupfs.read(f"{os.path.dirname(path)}/{name}").strip())

    def _apply_devices(self, rules: Sequence[DeviceRule]) -> None:
        path = self._needed("devices", "device rules")
        for rule in rules:
            file = f"{path}/devices.{'allow' if rule.allow else 'deny'}"
            if rule.type == "a" and rule.major is None and rule.minor is None:
                cgroupfs.write(file, "a")
                continue
            for type_ in "bc" if rule.type == "a" else rule.type:
                numbers = ":".join("*" if number is None else str(number) for number in (rule.major, rule.minor))
                cgroupfs.write(file, f"{type_} {numbers} {rule.access}")

    def _oom_kills(self) -> int:
        path = self._path("memory")
        return cgroupfs.table(f"{path}/memory.oom_control").get("oom_kill", 0) if path else 0

    def open_oom_events(self) -> tuple[int, bool]:
        path = self._path("memory")
        try:
            control = os.open(f"{path}/memory.oom_control", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return -1, False
        fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        try:
            cgroupfs.write(f"{path}/cgroup.event_control", f"{fd} {control}")
        finally:
            os.close(control)
        return fd, False

    def pids(self) -> list[int]:
        found: set[int] = set()
        for _, path in self.hierarchies():
            found.update(cgroupfs.pids_below(path))
        return sorted(found)

    def freeze(self) -> None:
        path = f"{self._needed('freezer', 'pausing')}/freezer.state"
        deadline = time.monotonic() + _FREEZE_TIMEOUT_S
        while True:
            # Written again each time: a process forked meanwhile keeps the state at FREEZING.
            cgroupfs.write(path, "FROZEN")
            if cgroupfs.read(path).strip() == "FROZEN":
                return
            if time.monotonic() > deadline:
                cgroupfs.write(path, "THAWED")
                raise TimeoutError(errno.ETIMEDOUT, "a process of the container does not stop", path)
            time.sleep(0.001)

    def thaw(self) -> None:
        cgroupfs.write(f"{self._needed('freezer', 'pausing')}/freezer.state", "THAWED")

    def kill(self) -> None:
        deadline = time.monotonic() + _REMOVE_TIMEOUT_S
        while pids := self.pids():
            _kill_all(pids)
            path = self._path("freezer")
            if path and os.path.exists(f"{path}/freezer.state"):
                self.thaw()  # a frozen process does not even die
            if time.monotonic() > deadline:
                return
            time.sleep(0.002)

    def stats(self) -> dict[str, int | None]:
        memory, cpu, pids, blkio = (self._path(name) for name in ("memory", "cpuacct", "pids", "blkio"))
        read, written = cgroupfs.v1_io(f"{blkio}/blkio.throttle.io_service_bytes")
        return {
            "memory_usage_bytes": cgroupfs.number(f"{memory}/memory.usage_in_bytes"),
            "memory_limit_bytes": cgroupfs.number(f"{memory}/memory.limit_in_bytes"),
            "memory_peak_bytes": cgroupfs.number(f"{memory}/memory.max_usage_in_bytes"),
            "memory_cache_bytes": cgroupfs.table(f"{memory}/memory.stat").get("total_inactive_file"),
            "cpu_usage_ns": cgroupfs.number(f"{cpu}/cpuacct.usage"),
            "pids_current": cgroupfs.number(f"{pids}/pids.current"),
            "pids_limit": cgroupfs.number(f"{pids}/pids.max"),
            "io_read_bytes": read,
            "io_write_bytes": written,
        }


class CgroupV2(Cgroup):
    """One directory of the unified hierarchy."""

    __slots__ = ("_fd", "_refused", "_root", "path")

    def __init__(self, place: str, mount: str) -> None:
        super().__init__(place)
        self._root = mount
        self._refused: dict[str, str] = {}  # controller → the ancestor that could not hand it down
        self._fd: int | None = None
        self.path = f"{mount}/{place}"

    def hierarchies(self) -> list[tuple[str, str]]:
        return [("", self.path)]

    def clone(self, flags: int) -> tuple[int, int]:
        if _cannot_clone_into:
            return process.clone3(flags)
        try:
            return process.clone3(flags, cgroup_fd=self._directory())
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.E2BIG):  # before Linux 5.7
                _cannot_clone_into.append(error.errno)
            elif error.errno not in _NO_INTERNAL_PROCESSES:
                raise
        return process.clone3(flags)

    def attach(self, pid: int) -> None:
        # A write waits for an RCU grace period, several milliseconds, even when it changes nothing.
        if pid in cgroupfs.pids_below(self.path):
            return
        try:
            cgroupfs.write(f"{self.path}/cgroup.procs", str(pid))
        except OSError as error:
            if error.errno not in _NO_INTERNAL_PROCESSES:
                raise
            # The container, a systemd say, has shared its controllers out among its own cgroups: the process goes to init's.
            cgroupfs.write(f"{self._home_of_init()}/cgroup.procs", str(pid))

    def _home_of_init(self) -> str:
        """Return the cgroup of the oldest process."""
        homes = {pid: path for path in cgroupfs.below(self.path) for pid in cgroupfs.pids_of(path)}
        if not homes:
            raise OSError(errno.EBUSY, "the cgroup has children with controllers, and no process yet", self.path)
        return homes[min(homes, key=lambda pid: start_time(pid) or sys.maxsize)]

    def _directory(self) -> int:
        if self._fd is None:
            self._fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        return self._fd

    def close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def remove(self) -> None:
        self.close()
        try:
            self._await_event(b"populated 0", _REMOVE_TIMEOUT_S)
        except FileNotFoundError:
            pass  # it is gone already
        super().remove()

    def _make(self) -> None:
        super()._make()
        directory = self._root
        for name in self.place.split("/"):
            self._hand_down(directory)
            directory = f"{directory}/{name}"

    def _hand_down(self, directory: str) -> None:
        """Let the children of `directory` have its controllers. Some may refuse; a limit that needs one of them will say so.

        A cgroup with processes of its own cannot: cgroups(7), "no internal processes".
        """
        # Also those that show as handed down already: another may be doing it, and the write waits until they are there.
        available = cgroupfs.read(f"{directory}/cgroup.controllers").split()
        wanted = [name for name in _V2_CONTROLLERS if name in available]
        # All at once: a cgroup with processes would take the cpu controller alone, and make its children threads' cgroups.
        try:
            cgroupfs.write(f"{directory}/cgroup.subtree_control", " ".join(f"+{name}" for name in wanted))
            return
        except OSError as error:
            if error.errno in _NO_INTERNAL_PROCESSES:
                self._refused |= dict.fromkeys(wanted, directory)
                return
        for name in wanted:
            try:
                cgroupfs.write(f"{directory}/cgroup.subtree_control", f"+{name}")
            except OSError:
                continue

    def _apply(self, resources: Mapping[str, Any]) -> None:
        self._apply_memory(resources.get("memory") or {})
        self._apply_cpu(resources.get("cpu") or {})
        limit = (resources.get("pids") or {}).get("limit")
        if limit:
            self._set("pids.max", _or_max(limit), "a pids limit")
        self._apply_block_io(resources.get("blockIO") or {})
        for file, value in (resources.get("unified") or {}).items():
            if not file.partition(".")[2] or "/" in file:
                raise LaunchError("Cgroup", errno.EINVAL, f'"{file}" is no file of a cgroup', kind="invalid")
            self._set(file, str(value), file)
        self._apply_devices(device_rules(resources.get("devices")))

    def _apply_block_io(self, block_io: Mapping[str, Any]) -> None:
        for key, name in _V2_THROTTLES.items():
            for entry in block_io.get(key) or ():
                limit = f"{entry['major']}:{entry['minor']} {name}={entry['rate'] or 'max'}"
                self._set("io.max", limit, "a limit of block I/O")
        for device, weight in _weights(block_io):
            # BFQ takes the numbers as they are; io.weight, 1 to 10000, is of the iocost controller. 100 is everyone's default.
            for file, value in (("io.bfq.weight", weight), ("io.weight", io_weight(weight))):
                if os.path.exists(f"{self.path}/{file}"):
                    cgroupfs.write(f"{self.path}/{file}", f"{device or 'default'} {value}")
                    break
            else:
                self.warnings.append(_NO_WEIGHTS)

    def _set(self, file: str, value: str, what: str) -> None:
        path = f"{self.path}/{file}"
        if not os.path.exists(path):
            controller = file.partition(".")[0]
            raise (
                _occupied(self._refused[controller], what)
                if controller in self._refused
                else _missing(controller, what)
            )
        cgroupfs.write(path, value)

    def _apply_memory(self, memory: Mapping[str, Any]) -> None:
        limit, swap = memory.get("limit"), memory.get("swap")
        if limit is not None:
            self._set("memory.max", _or_max(limit), "a memory limit")
        if swap is not None:
            if os.path.exists(f"{self.path}/memory.swap.max"):
                # OCI counts memory and swap together, v2 swap alone.
                self._set(
                    "memory.swap.max", "max" if swap < 0 else str(max(0, swap - max(0, limit or 0))), "a swap limit"
                )
            else:
                self.warnings.append("the kernel does not account for swap: no swap limit is set")
        if memory.get("reservation") is not None:
            self._set("memory.low", str(memory["reservation"]), "a memory reservation")
        for key, what in (("swappiness", "swappiness"), ("disableOOMKiller", "switching the OOM killer off")):
            if memory.get(key) is not None:
                self.warnings.append(f"cgroup v2 does not know {what}: it is not set")

    def _apply_cpu(self, cpu: Mapping[str, Any]) -> None:
        if cpu.get("idle"):
            self._set("cpu.idle", str(cpu["idle"]), "CPU idleness")
        elif cpu.get("shares"):
            self._set("cpu.weight", str(weight_from_shares(cpu["shares"])), "CPU shares")
        if cpu.get("quota") or cpu.get("period"):
            quota = cpu.get("quota") or -1
            self._set("cpu.max", f"{'max' if quota < 0 else quota} {cpu.get('period') or 100000}", "a CPU limit")
        for key in ("mems", "cpus"):
            if cpu.get(key):
                self._set(f"cpuset.{key}", str(cpu[key]), "a choice of CPUs")

    def _apply_devices(self, rules: Sequence[DeviceRule]) -> None:
        program_fd = bpf.load_device_program(bpf.device_program(rules))
        try:
            bpf.attach_device_program(self._directory(), program_fd)
        finally:
            os.close(program_fd)

    def _oom_kills(self) -> int:
        return cgroupfs.table(f"{self.path}/memory.events").get("oom_kill", 0)

    def open_oom_events(self) -> tuple[int, bool]:
        try:
            fd = os.open(f"{self.path}/memory.events", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return -1, True
        take_oom_event(fd)  # what has changed until now is no event
        return fd, True

    def pids(self) -> list[int]:
        return sorted(cgroupfs.pids_below(self.path))

    def freeze(self) -> None:
        cgroupfs.write(f"{self.path}/cgroup.freeze", "1")
        if not self._await_event(b"frozen 1", _FREEZE_TIMEOUT_S):
            self.thaw()
            raise TimeoutError(errno.ETIMEDOUT, "a process of the container does not stop", self.path)

    def _await_event(self, wanted: bytes, timeout_s: float) -> bool:
        """Wait until `cgroup.events` says so, of the cgroup and all below it; False if it does not in time. cgroups(7)"""
        fd = os.open(f"{self.path}/cgroup.events", os.O_RDONLY)
        try:
            poll = select.poll()
            poll.register(fd, select.POLLPRI)
            deadline = time.monotonic() + timeout_s
            while wanted not in os.pread(fd, 4096, 0):
                remaining_s = deadline - time.monotonic()
                if remaining_s <= 0:
                    return False
                poll.poll(remaining_s * 1000)
            return True
        finally:
            os.close(fd)

    def thaw(self) -> None:
        cgroupfs.write(f"{self.path}/cgroup.freeze", "0")

    def kill(self) -> None:
        try:
            cgroupfs.write(f"{self.path}/cgroup.kill", "1")
        except FileNotFoundError:  # before Linux 5.14, or there is no cgroup
            _kill_all(self.pids())

    def stats(self) -> dict[str, int | None]:
        usage_us = cgroupfs.table(f"{self.path}/cpu.stat").get("usage_usec")
        read, written = cgroupfs.v2_io(f"{self.path}/io.stat")
        return {
            "memory_usage_bytes": cgroupfs.number(f"{self.path}/memory.current"),
            "memory_limit_bytes": cgroupfs.number(f"{self.path}/memory.max"),
            "memory_peak_bytes": cgroupfs.number(f"{self.path}/memory.peak"),
            "memory_cache_bytes": cgroupfs.table(f"{self.path}/memory.stat").get("inactive_file"),
            "cpu_usage_ns": None if usage_us is None else usage_us * 1000,
            "pids_current": cgroupfs.number(f"{self.path}/pids.current"),
            "pids_limit": cgroupfs.number(f"{self.path}/pids.max"),
            "io_read_bytes": read,
            "io_write_bytes": written,
            **{
                f"{name}_pressure_us": cgroupfs.pressure(f"{self.path}/{name}.pressure")
                for name in ("cpu", "memory", "io")
            },
        }


def take_oom_event(fd: int) -> bool:
    """Take an event of `open_oom_events`, so that the next one will be told. True if a kill may be yet to come.

    v2 tells of a kill that it has counted; v1 of a group that has run out of memory, just before the kill.
    """
    try:
        os.pread(fd, 4096, 0)  # kernfs tells of changes since the last read from the start
    except OSError as error:
        if error.errno != errno.ESPIPE:
            raise
        os.read(fd, 8)  # an eventfd
        return True
    return False


def weight_from_shares(shares: int) -> int:
    """Convert v1's cpu.shares (2 to 262144) into v2's cpu.weight (1 to 10000)."""
    return 1 + (min(max(shares, 2), 262144) - 2) * 9999 // 262142


def _missing(controller: str, what: str) -> LaunchError:
    message = f"cannot set {what}: the cgroup controller '{controller}' is not available on this host"
    return LaunchError(
        "Cgroup", errno.ENOENT, message, hint="drop that limit, or enable the controller", kind="unsupported"
    )


def _occupied(directory: str, what: str) -> LaunchError:
    message = f"cannot set {what}: processes live in {directory} itself, and so its children get no controllers"
    hint = "move them into a cgroup below it, or give the container another cgroup_parent"
    return LaunchError("Cgroup", errno.EBUSY, message, hint=hint, kind="unsupported")


def io_weight(weight: int) -> int:
    """Convert OCI's weight of block I/O (10 to 1000) into v2's io.weight (1 to 10000), as runc and crun do."""
    return 1 + (min(max(weight, 10), 1000) - 10) * 9999 // 990


def _weights(block_io: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """Yield (device or "", weight)."""
    if block_io.get("weight"):
        yield "", block_io["weight"]
    for entry in block_io.get("weightDevice") or ():
        yield f"{entry['major']}:{entry['minor']}", entry["weight"]


def _or_max(value: int) -> str:
    return "max" if value < 0 else str(value)


def _kill_all(pids: Sequence[int]) -> None:
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
