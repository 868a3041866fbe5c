"""A container's life: create, start, stop, remove; and the truth about it, whatever was killed in between.

`create` is metadata only. `start` writes the bundle and asks the zygote for a monitor, which makes the process. What a
crash left is repaired by whoever looks next: every look at the containers goes through `Containers.observe`.
"""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from engine import records, snapshots
from engine.errors import Conflict, InvalidInput, NotFound, Unavailable
from engine.frozen import frozen
from engine.kernel import procfs
from engine.paths import Paths
from engine.ports import NetworkDriver, VolumeDriver
from engine.runtime import bundle, client, journal, liveness, netns, runtimes, status
from engine.runtime.cgroup import DEFAULT_PARENT, Cgroup, open_cgroup
from engine.state import State
from engine.types import (
    RETIRED,
    RUNNING,
    ContainerInfo,
    ContainerSpec,
    ContainerStatus,
    EndpointInfo,
    EndpointRequest,
    Image,
    ImageConfig,
    Mount,
    VolumeSpec,
)

if TYPE_CHECKING:
    from engine.images.store import ImageStore
    from engine.transfer import Tree

OWNER_LABEL = "io.umiak.owner"
"""Ties a container to a process (`pid:start time`): when that process is gone, so is the container."""

AUTO_REMOVE_LABEL = "io.umiak.auto-remove"
"""Names a process in the same way: when it is gone and the container has ended, the container is removed."""


@frozen
class Rootfs:
    """A root file system that is not an image's: layers (lowest first) under an upper directory of the caller's."""

    layer_dirs: tuple[str, ...]
    upper: str
    work: str


def this_process() -> str:
    """This process as those labels name it."""
    return f"{os.getpid()}:{procfs.start_time(os.getpid())}"


def _read_process(text: str) -> tuple[int, int]:
    """The process ID and the start time in what `this_process` wrote."""
    pid, _, start_time = text.partition(":")
    return int(pid), int(start_time)


def _watch_of_owner(spec: ContainerSpec) -> list[dict[str, Any]]:
    """The monitor's service that ends a container with its owner, for one that has such."""
    owner = spec.labels.get(OWNER_LABEL)
    if owner is None:
        return []
    pid, start_time = _read_process(owner)
    return [{"module": "engine.runtime.owner", "config": {"pid": pid, "start_time": start_time}}]


class Containers:
    """All containers of one root directory."""

    def __init__(
        self,
        paths: Paths,
        state: State,
        images: Callable[[], ImageStore],
        networks: NetworkDriver,
        volumes: VolumeDriver,
        zygote: Callable[[], client.Zygote],
    ) -> None:
        self._paths = paths
        self._state = state
        self._images = images
        self._networks = networks
        self._volumes = volumes
        self._zygote = zygote
        self._ensured: set[str] = set()
        self._ensuring = threading.Lock()

    # ------------------------------------------------------------------------------------ looking

    def find(self, ref: str) -> sqlite3.Row:
        """The record of a container by name, ID or unique ID prefix. Raise NotFound, or InvalidInput if several match."""
        name = ref.removeprefix("/")
        row = self._state.row("SELECT * FROM containers WHERE (name = ? OR id = ?) AND NOT removing", (name, name))
        if row is not None:
            return row
        rows = []
        if name and not set(name) - set("0123456789abcdef"):
            rows = self._state.rows(
                "SELECT * FROM containers WHERE id >= ? AND id < ? AND NOT removing", (name, name + "g")
            )
        if len(rows) > 1:
            raise InvalidInput(f'"{ref}" is the beginning of {len(rows)} container IDs', hint="give more of the ID")
        if not rows:
            raise NotFound(f'no container "{ref}"', hint="`umiak ps -a` lists them")
        return rows[0]

    def all(self, labels: Mapping[str, str | None] | None = None) -> list[ContainerInfo]:
        """Containers that carry all given labels (value None: any value), by name, repaired where need be."""
        self._finish_removals()
        self.remove_orphans()
        rows = self._state.rows("SELECT * FROM containers WHERE NOT removing ORDER BY name")
        self._networks.repair({row["id"]: self._is_live(row["id"]) for row in rows})
        if labels:
            ids = self._ids_with(labels)
            rows = [row for row in rows if row["id"] in ids]
        return [self._info(row) for row in rows]

    def one(self, ref: str) -> ContainerInfo:
        """One container, repaired where need be."""
        return self._info(self.find(ref))

    def _ids_with(self, labels: Mapping[str, str | None]) -> set[str]:
        sets = []
        for key, value in labels.items():
            where, parameters = ("key = ?", [key]) if value is None else ("key = ? AND value = ?", [key, value])
            rows = self._state.rows(f"SELECT container_id FROM container_labels WHERE {where}", parameters)
            sets.append({row["container_id"] for row in rows})
        return set.intersection(*sets)

    def _info(self, row: sqlite3.Row) -> ContainerInfo:
        observed = self.observe(row["id"])
        spec = records.container_spec(json.loads(row["spec"]))
        return ContainerInfo(
            id=row["id"],
            name=row["name"],
            created_at=row["created_at"],
            image_id=row["image_id"],
            labels=spec.labels,
            spec=spec,
            argv=tuple(json.loads(row["argv"])),
            status=records.container_status(observed),
            endpoints=tuple(self._networks.leases(row["id"])),
            ports=records.published_ports(observed),
            volumes=json.loads(row["volumes"]),
            desired=row["desired"],
        )

    def observe(self, container_id: str) -> dict[str, Any]:
        """The container's status as the kernel confirms it; a lost monitor is replaced, a lost container is cleared away."""
        run, directory = self._paths.container_run(container_id), self._paths.container(container_id)
        observed = _look(run, directory)
        if not _needs_care(observed, run):
            return observed
        with self._operation(container_id):
            observed = _look(run, directory)
            if not _needs_care(observed, run):
                return observed
            liveness.end_unreachable_monitor(observed, container_id)
            if liveness.init_alive(observed):
                self._zygote().launch(container_id, f"{directory}/monitor.json", op="reattach")
                return liveness.observe(run, directory)
            self._clear_runtime(container_id)
            for place in (directory, run):
                status.write(place, observed)
            return observed

    # ----------------------------------------------------------------------------------- changing

    def create(self, spec: ContainerSpec, rootfs: Rootfs | None = None) -> ContainerInfo:
        """Record a container with its leases and volumes. Raise Conflict if the name is taken."""
        records.check_container_name(spec.name)
        bundle.capability_names(spec)
        runtimes.program_of(spec.runtime)
        container_id = os.urandom(32).hex()
        with self._state.transaction():
            spec = self._with_volumes_from(spec)
            # In the transaction, so that nobody removes the image in between.
            image = None if rootfs else self._images().resolve(spec.image)
            config = image.config if image else ImageConfig()
            argv = bundle.effective_argv(spec, config)
            bundle.signal_number(spec.stop_signal or config.stop_signal or "SIGTERM")
            mounts_by_target = self._record_volumes(container_id, spec, config)
            self._insert(container_id, spec, image.id if image else "", argv, mounts_by_target, rootfs)
            requests = self._endpoint_requests(spec)
            if requests:
                self._networks.lease(container_id, spec.name, requests)
        if rootfs is None:
            self._note("create", container_id, spec.name, spec)
        return self.one(container_id)

    def _with_volumes_from(self, spec: ContainerSpec) -> ContainerSpec:
        """The specification with the mounts that it takes over from other containers, their anonymous volumes among them."""
        mounts = {os.path.normpath(mount.target): mount for mount in spec.mounts}
        for entry in spec.volumes_from:
            name, _, mode = entry.partition(":")
            row = self.find(name)
            taken = {m.target: m for m in records.container_spec(json.loads(row["spec"])).mounts if m.type == "bind"}
            taken |= {target: Mount("volume", target, volume) for target, volume in json.loads(row["volumes"]).items()}
            for target, mount in taken.items():
                taken_over = replace(mount, read_only=mode == "ro", options={**mount.options, "from": name})
                mounts.setdefault(os.path.normpath(target), taken_over)
        return replace(spec, mounts=tuple(mounts.values()))

    def _note(self, action: str, container_id: str, name: str, spec: ContainerSpec, **more: str) -> None:
        """Record what a command did to a container. What happens by itself is recorded by its monitor."""
        attributes = bundle.event_attributes(name, spec) | more
        journal.append(self._paths.events, "container", action, container_id, attributes)

    def note(self, action: str, row: sqlite3.Row, **more: str) -> None:
        """Record what a command did to the container of a record; a build's own containers are nobody's business."""
        if not row["rootfs"]:
            spec = records.container_spec(json.loads(row["spec"]))
            self._note(action, row["id"], row["name"], spec, **more)

    def _insert(
        self,
        container_id: str,
        spec: ContainerSpec,
        image_id: str,
        argv: Sequence[str],
        volumes: Mapping[str, str],
        rootfs: Rootfs | None,
    ) -> None:
        row = (
            container_id,
            spec.name,
            time.time(),
            image_id,
            json.dumps(asdict(spec)),
            json.dumps(list(argv)),
            json.dumps(dict(volumes)),
            json.dumps(asdict(rootfs)) if rootfs else "",
        )
        try:
            self._state.execute(
                "INSERT INTO containers (id, name, created_at, image_id, desired, spec, argv, volumes, rootfs)"
                " VALUES (?, ?, ?, ?, 'created', ?, ?, ?, ?)",
                row,
            )
        except sqlite3.IntegrityError as error:
            raise Conflict(
                f'cannot create container "{spec.name}": the name is in use',
                hint="remove or rename the other container, or choose another name",
            ) from error
        for key, value in spec.labels.items():
            self._state.execute("INSERT INTO container_labels VALUES (?, ?, ?)", (container_id, key, value))

    def _record_volumes(self, container_id: str, spec: ContainerSpec, config: ImageConfig) -> dict[str, str]:
        """Name a volume for each volume mount, making anonymous ones for the request and for the image's VOLUMEs."""
        by_target: dict[str, str] = {}
        targets = {os.path.normpath(mount.target) for mount in spec.mounts}
        wanted = [mount for mount in spec.mounts if mount.type == "volume"]
        wanted += [Mount("volume", target) for target in config.volumes if os.path.normpath(target) not in targets]
        for mount in wanted:
            name = mount.source or os.urandom(32).hex()
            self._volumes.create(VolumeSpec(name), anonymous=not mount.source)
            self._state.execute("INSERT OR IGNORE INTO volume_uses VALUES (?, ?)", (name, container_id))
            by_target[os.path.normpath(mount.target)] = name
        return by_target

    def _endpoint_requests(self, spec: ContainerSpec) -> list[EndpointRequest]:
        if spec.network_mode == "bridge":
            return [EndpointRequest(self._networks.ensure_default().spec.name)]
        if spec.network_mode != "networks":
            return []
        return list(spec.networks)

    def start(self, ref: str, *, hold: bool = False) -> ContainerInfo:
        """Start a container; return when its process has been executed. Does nothing if it runs.

        With `hold` its output waits for a client to attach, for some seconds at most.
        """
        row = self.find(ref)
        container_id = row["id"]
        with self._operation(container_id):
            if self._is_live(container_id):
                return self._info(row)
            row = self.find(container_id)
            if row["desired"] == RETIRED:
                raise Conflict(
                    f'cannot start container "{row["name"]}": an interrupted update has taken it off its networks',
                    hint="`umiak up` replaces it, with the anonymous volumes that it still holds",
                )
            path = bundle.write(self._paths, self._inputs(row))
            self._zygote().launch(container_id, path, hold=hold)
            self._set_desired(container_id, "running")
        return self.one(container_id)

    def _is_live(self, container_id: str) -> bool:
        observed = liveness.observe(self._paths.container_run(container_id), self._paths.container(container_id))
        return bool(observed["monitored"]) or liveness.init_alive(observed)

    def stop(self, ref: str, timeout_s: float | None) -> ContainerStatus:
        """Ask a container to end, kill it after its timeout; return its last status."""
        row = self.find(ref)
        container_id = row["id"]
        # On a full disk it is stopped all the same: only what is to be after a reboot is not recorded.
        with suppress(Unavailable):
            self._set_desired(container_id, "stopped")
        observed = self.observe(container_id)
        if observed["monitored"]:
            observed = self._monitor(container_id).stop(timeout_s=timeout_s)["status"]
            self.note("stop", row)
        return records.container_status(observed)

    def kill(self, ref: str, signal: str) -> None:
        """Send a signal to a container's process. Raise Conflict if it does not run."""
        row = self.find(ref)
        number = bundle.signal_number(signal)
        if not self.observe(row["id"])["monitored"]:
            raise Conflict(f'cannot signal container "{row["name"]}": it is not running')
        self._monitor(row["id"]).kill(number)

    def remove(self, ref: str, *, force: bool, volumes: bool) -> None:
        """Remove a container and its writable layer; with `volumes` its anonymous volumes too."""
        row = self.find(ref)
        container_id = row["id"]
        if self._is_live(container_id):
            if not force:
                raise Conflict(
                    f'cannot remove container "{row["name"]}": it is running', hint="stop it first, or force it"
                )
            self.observe(container_id)
            self._monitor(container_id).stop(timeout_s=0)
        with self._operation(container_id):
            self._state.execute("UPDATE containers SET removing = ? WHERE id = ?", (2 if volumes else 1, container_id))
            self._erase(container_id, volumes=volumes)

    def retire(self, ref: str, volumes: Sequence[str]) -> None:
        """Take a stopped container off its networks and off these volumes, for good. Raise Conflict if it runs."""
        row = self.find(ref)
        container_id = row["id"]
        with self._operation(container_id):
            if self._is_live(container_id):
                raise Conflict(f'cannot retire container "{row["name"]}": it is running', hint="stop it first")
            self._set_desired(container_id, RETIRED)
            self._disconnect(container_id)
            with self._state.transaction():
                for name in volumes:
                    uses = (container_id, name)
                    self._state.execute("DELETE FROM volume_uses WHERE container_id = ? AND volume_name = ?", uses)

    def rename(self, ref: str, name: str) -> None:
        """Give a container another name. Raise Conflict if it is taken."""
        row = self.find(ref)
        records.check_container_name(name)
        spec = {**json.loads(row["spec"]), "name": name}
        try:
            self._state.execute(
                "UPDATE containers SET name = ?, spec = ? WHERE id = ?", (name, json.dumps(spec), row["id"])
            )
        except sqlite3.IntegrityError as error:
            raise Conflict(f'cannot rename "{row["name"]}" to "{name}": the name is in use') from error
        self._note("rename", row["id"], name, records.container_spec(spec), oldName=row["name"])
        if self.observe(row["id"])["monitored"]:
            try:
                self._monitor(row["id"]).rename(name)
            except Unavailable:
                return  # it has just ended, and its next start reads the new name

    @contextmanager
    def tree(self, ref: str, *, writable: bool = False) -> Iterator[Tree]:
        """A container's files, its mounts among them, whether or not it runs. One that does not run cannot start meanwhile."""
        from engine.transfer import Tree

        row = self.find(ref)
        container_id = row["id"]
        observed = self.observe(container_id)
        if observed["pid"]:
            root = self._living_root(row)
            with Tree({"/": root}) as tree:
                yield tree
            return
        with self._operation(container_id):
            if self._is_live(container_id):
                raise Conflict(f'cannot use the files of container "{row["name"]}" now: it is just being started')
            with Tree(self._resting_roots(row, writable=writable)) as tree:
                yield tree

    def _living_root(self, row: sqlite3.Row) -> int:
        observed = self.observe(row["id"])
        try:
            root = os.open(f"/proc/{observed['pid']}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise Conflict(f'cannot use the files of container "{row["name"]}": it has just ended') from error
        # Asked once the root is open: had the number gone to another process, it would be that one's root.
        if not liveness.init_alive(observed):
            os.close(root)
            raise Conflict(f'cannot use the files of container "{row["name"]}": it has just ended')
        return root

    def _resting_roots(self, row: sqlite3.Row, *, writable: bool) -> dict[str, int]:
        layer_dirs, rootfs, _ = self._root(row)
        roots = {
            "/": snapshots.open_writable(rootfs) if writable else snapshots.open_view([*layer_dirs, rootfs["upperdir"]])
        }
        spec = records.container_spec(json.loads(row["spec"]))
        places = {os.path.normpath(mount.target): mount.source for mount in spec.mounts if mount.type == "bind"}
        for target, name in json.loads(row["volumes"]).items():
            places[target] = self._volumes.get(name).mountpoint
        for target, place in places.items():
            try:
                roots[target] = os.open(place, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            except (FileNotFoundError, NotADirectoryError):
                continue
        return roots

    @contextmanager
    def root(self, ref: str) -> Iterator[Tree]:
        """A container's root file system without its mounts, to be read: its image's layers and what it wrote over them."""
        from engine.transfer import Tree

        layer_dirs, rootfs, _ = self._root(self.find(ref))
        with Tree({"/": snapshots.open_view([*layer_dirs, rootfs["upperdir"]])}) as tree:
            yield tree

    def cgroup(self, ref: str) -> Cgroup:
        """The cgroup of a running container. Raise Conflict if it does not run."""
        row = self.find(ref)
        if not self.observe(row["id"])["pid"]:
            raise Conflict(f'container "{row["name"]}" is not running', hint="start it first")
        return self._cgroup(row["id"])

    def _cgroup(self, container_id: str) -> Cgroup:
        """Where a container's last monitor has put it."""
        directory = self._paths.container(container_id)
        wanted = (_read_json(f"{directory}/monitor.json") or {}).get("cgroup", {}).get("parent", DEFAULT_PARENT)
        found = liveness.observe(self._paths.container_run(container_id), directory)
        return open_cgroup(found["cgroup"] or wanted, container_id)

    def paused(self, ref: str) -> AbstractContextManager[None]:
        """Freeze a running container for a block, and no longer than this process lives."""
        return self.monitor(ref).paused()

    def upper(self, ref: str) -> str:
        """The directory with what a container wrote over its image; made where it has never run."""
        _, rootfs, _ = self._root(self.find(ref))
        return str(rootfs["upperdir"])

    def watch(self, ref: str, until: float | None = None) -> Iterator[ContainerStatus]:
        """The status now and after each change; ends with the last one, or the one at `until` on the monotonic clock."""
        container_id = self.find(ref)["id"]
        observed = self.observe(container_id)
        if not observed["monitored"]:
            yield records.container_status(observed)
            return
        for changed in self._monitor(container_id).watch(until):
            yield records.container_status(changed)
        yield records.container_status(self.observe(container_id))

    def monitor(self, ref: str) -> client.MonitorClient:
        """The monitor of a running container. Raise Conflict if it does not run."""
        row = self.find(ref)
        if not self.observe(row["id"])["monitored"]:
            raise Conflict(f'container "{row["name"]}" is not running', hint="start it first")
        return self._monitor(row["id"])

    def _monitor(self, container_id: str) -> client.MonitorClient:
        return client.MonitorClient(self._paths.container_run(container_id))

    def _set_desired(self, container_id: str, desired: str) -> None:
        self._state.execute(
            "UPDATE containers SET desired = ? WHERE id = ? AND desired != ?", (desired, container_id, RETIRED)
        )

    # ------------------------------------------------------------------------------ start's inputs

    def _inputs(self, row: sqlite3.Row) -> bundle.Inputs:
        spec = records.container_spec(json.loads(row["spec"]))
        layer_dirs, rootfs, config = self._root(row)
        endpoints = self._networks.leases(row["id"])
        self._ensure_networks(endpoints)
        resolving = self._networks.leases(self._network_owner(row["id"], spec))
        dns = {"dns": spec.dns, "dns_search": spec.dns_search, "dns_opt": spec.dns_opt}
        return bundle.Inputs(
            id=row["id"],
            name=row["name"],
            spec=spec,
            image=config,
            argv=tuple(json.loads(row["argv"])),
            layer_dirs=layer_dirs,
            rootfs=rootfs,
            mounts=self._mounts(row["id"], spec, json.loads(row["volumes"]), layer_dirs),
            endpoints=endpoints,
            netns=self._netns(row["id"], spec),
            services=[*self._networks.services(row["id"], endpoints, spec.ports, **dns), *_watch_of_owner(spec)],
            resolv_conf=self._networks.resolv_conf(resolving, **dns),
            passwd=snapshots.read_file(layer_dirs, "etc", "passwd"),
            group=snapshots.read_file(layer_dirs, "etc", "group"),
            namespaces=self._shared_namespaces(spec),
        )

    def _root(self, row: sqlite3.Row) -> tuple[list[str], dict[str, Any], ImageConfig]:
        if row["rootfs"]:
            given = json.loads(row["rootfs"])
            lowest_first = given["layer_dirs"]
            rootfs = {
                "lowerdirs": lowest_first[::-1],
                "upperdir": given["upper"],
                "workdir": given["work"],
                "volatile": True,
            }
            return lowest_first, rootfs, ImageConfig()
        image: Image = self._images().resolve(row["image_id"])
        layer_dirs = self._images().layer_dirs(image)
        return layer_dirs, snapshots.prepare(self._paths, row["id"], layer_dirs), image.config

    def _ensure_networks(self, endpoints: Sequence[EndpointInfo]) -> None:
        """Bring back networks that a reboot took; each is looked at once by one process, however many containers start."""
        with self._ensuring:
            wanted = {endpoint.network_id for endpoint in endpoints} - self._ensured
            for network in self._networks.all() if wanted else []:
                if network.id in wanted:
                    self._networks.ensure(network)
                    self._ensured.add(network.id)

    def _mounts(
        self, container_id: str, spec: ContainerSpec, volumes: Mapping[str, str], layer_dirs: Sequence[str]
    ) -> list[dict[str, Any]]:
        """The requested mounts and the image's volumes, parents before what lies in them."""
        prepared: dict[str, dict[str, Any]] = {}
        private_dir = f"{self._paths.container_run(container_id)}/files"
        for mount in spec.mounts:
            target = os.path.normpath(mount.target)
            source = volumes.get(target, mount.source) if mount.type == "volume" else mount.source
            named = Mount(mount.type, target, source, mount.read_only, mount.options)
            prepared[target] = self._volumes.prepare(named, layer_dirs, private_dir=private_dir)
        for target, name in volumes.items():
            if target not in prepared:
                prepared[target] = self._volumes.prepare(Mount("volume", target, name), layer_dirs)
        return [prepared[target] for target in sorted(prepared, key=lambda path: path.count("/"))]

    def _network_owner(self, container_id: str, spec: ContainerSpec) -> str:
        """The container whose network namespace this one is in: itself, or through `container:` another."""
        if not spec.network_mode.startswith("container:"):
            return container_id
        other = self.find(spec.network_mode.removeprefix("container:"))
        return self._network_owner(other["id"], records.container_spec(json.loads(other["spec"])))

    def _netns(self, container_id: str, spec: ContainerSpec) -> dict[str, Any]:
        owner = self.find(self._network_owner(container_id, spec))
        if records.container_spec(json.loads(owner["spec"])).network_mode == "host":
            return {"mode": "host"}
        pin = self._paths.netns(owner["id"])
        if owner["id"] == container_id:
            return {"mode": "private", "pin": pin}
        if not netns.is_pinned(pin):
            raise Conflict(
                f'cannot share the network of container "{owner["name"]}": it has not been started',
                hint="start it first",
            )
        return {"mode": "shared", "pin": pin}

    def _shared_namespaces(self, spec: ContainerSpec) -> dict[str, str]:
        modes = {"pid": spec.pid_mode, "ipc": spec.ipc_mode, "uts": spec.uts_mode, "cgroup": spec.cgroup_mode}
        shared: dict[str, str] = {}
        for kind, mode in modes.items():
            if mode == "host":
                shared[kind] = ""
            elif mode.startswith("container:"):
                other = self.one(mode.removeprefix("container:"))
                if not other.status.pid:
                    raise Conflict(f'cannot share the {kind} namespace of container "{other.name}": it is not running')
                shared[kind] = f"/proc/{other.status.pid}/ns/{kind}"
        if spec.network_mode == "host" and not spec.hostname:
            shared.setdefault("uts", "")
        return shared

    # ---------------------------------------------------------------------------------- clearing

    @contextmanager
    def _operation(self, container_id: str) -> Iterator[None]:
        """Hold the container's own lock: starts, removals and repairs of one container happen one after the other."""
        directory = f"{self._paths.run}/operations"
        os.makedirs(directory, mode=0o700, exist_ok=True)
        path = f"{directory}/{container_id}"
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            if not self._state.row("SELECT 1 FROM containers WHERE id = ?", (container_id,)):
                _unlink(path)
            os.close(lock)

    def _finish_removals(self) -> None:
        for row in self._state.rows("SELECT id, removing FROM containers WHERE removing"):
            with self._operation(row["id"]):
                self._erase(row["id"], volumes=row["removing"] == 2)

    def remove_orphans(self) -> None:
        """Remove containers whose owner process is gone, and those that were to be removed at their end by one that is gone."""
        owned = self._state.rows(
            "SELECT container_id, key, value FROM container_labels WHERE key IN (?, ?)",
            (OWNER_LABEL, AUTO_REMOVE_LABEL),
        )
        for row in owned:
            if procfs.is_alive(*_read_process(row["value"])):
                continue
            if row["key"] == AUTO_REMOVE_LABEL and self._is_live(row["container_id"]):
                continue
            try:
                self.remove(row["container_id"], force=True, volumes=True)
            except NotFound:
                continue  # removed by someone else

    def _clear_runtime(self, container_id: str) -> None:
        """Take back what a killed monitor left of a container that no longer runs."""
        for endpoint in self._networks.leases(container_id):
            _unlink(f"{self._paths.network_run(endpoint.network_id)}/{container_id}")
        self._cgroup(container_id).remove()
        self._networks.withdraw(container_id)

    def _disconnect(self, container_id: str) -> None:
        """Give back what a container that does not run has of networks."""
        self._clear_runtime(container_id)
        netns.drop_pin(self._paths.netns(container_id))
        self._networks.release(container_id)

    def _erase(self, container_id: str, *, volumes: bool) -> None:
        """The steps of a removal, each safe to repeat; the record goes last."""
        row = self._state.row("SELECT * FROM containers WHERE id = ?", (container_id,))
        self._disconnect(container_id)
        snapshots.remove(self._paths.container_run(container_id))
        snapshots.remove(self._paths.container(container_id))
        used = [row["volume_name"] for row in self._volume_uses(container_id)]
        with self._state.transaction():
            self._state.execute("DELETE FROM volume_uses WHERE container_id = ?", (container_id,))
        if volumes:
            self._remove_anonymous(used)
        if self._state.execute("DELETE FROM containers WHERE id = ?", (container_id,)) and row:
            self.note("destroy", row)

    def remove_strays(self) -> list[str]:
        """End and remove what is left of containers that the database does not know, since it was lost; return their IDs."""
        # Not those in the run directory alone: another root's containers may have theirs there.
        found = _names_in(self._paths.container(""))
        strays = set(found) - {row["id"] for row in self._state.rows("SELECT id FROM containers")}
        for container_id in strays:
            with self._operation(container_id):
                observed = liveness.observe(
                    self._paths.container_run(container_id), self._paths.container(container_id)
                )
                liveness.end_unreachable_monitor(observed, container_id)
                liveness.kill_init(observed)
                self._erase(container_id, volumes=False)
        return sorted(strays)

    def _volume_uses(self, container_id: str) -> list[sqlite3.Row]:
        return self._state.rows("SELECT volume_name FROM volume_uses WHERE container_id = ?", (container_id,))

    def _remove_anonymous(self, names: Sequence[str]) -> None:
        for name in names:
            try:
                if self._volumes.get(name).anonymous:
                    self._volumes.remove(name)
            except (NotFound, Conflict):
                continue  # removed by someone else, or carried over to another container


def _names_in(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except FileNotFoundError:
        return []


def _look(run: str, directory: str) -> dict[str, Any]:
    """The status, from the monitor itself where what is on disk does not fit that there is one."""
    observed = liveness.observe(run, directory)
    if observed["monitored"] and observed["state"] not in RUNNING:
        return {**observed, **client.MonitorClient(run).told()}
    return observed


def _needs_care(observed: Mapping[str, Any], run: str) -> bool:
    """Whether a container that runs, or says so, has no monitor or one that nobody can reach any more."""
    if observed["monitored"]:
        return observed["state"] in RUNNING and not os.path.exists(f"{run}/{client.CONTROL_SOCKET}")
    written = status.read(run) or observed
    return written["state"] in RUNNING


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def _read_json(path: str) -> dict[str, Any] | None:
    try:
        with open(path, encoding="utf-8") as file:
            loaded: dict[str, Any] = json.load(file)
            return loaded
    except (FileNotFoundError, ValueError):
        return None
