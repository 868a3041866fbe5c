"""An engine in memory that behaves as the facade promises. What a service's program does is told by `programs`."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from engine.errors import Conflict, NotFound, UmiakError, Unavailable
from engine.paths import Paths
from engine.types import (
    RETIRED,
    RUNNING,
    ContainerInfo,
    ContainerSpec,
    ContainerStatus,
    EndpointInfo,
    Health,
    Image,
    ImageConfig,
    LogRecord,
    NetworkInfo,
    NetworkSpec,
    ProbeResult,
    VolumeInfo,
    VolumeSpec,
)

SERVICE = "com.docker.compose.service"


class FakeImages:
    def __init__(self, references: Sequence[str]) -> None:
        self.ids = {reference: f"sha256:{reference.encode().hex():0<64.64}" for reference in references}
        self.seen: dict[str, float] = {}

    def resolve(self, reference: str) -> Image:
        for tag, image_id in self.ids.items():
            if reference in (tag, image_id):
                return Image(image_id, (tag,), 0.0, 1, "amd64", "linux", ImageConfig(), ())
        raise NotFound(f"no image {reference}")

    def seen_at(self, image_id: str, reference: str) -> float:
        return self.seen.get(reference, 0.0)

    def remove(self, reference: str) -> list[str]:
        del self.ids[reference]
        return [reference]


class FakeEngine:
    """`programs` maps a service to what its process does: "run" (default), "healthy", "unhealthy", "exit N", "cannot start"."""

    def __init__(self, directory: str = "/nonexistent", images: Sequence[str] = ("app", "db", "busybox")) -> None:
        self.paths = Paths(f"{directory}/root", f"{directory}/run")
        self.images = FakeImages(images)
        self.programs: dict[str, str] = {}
        self.program_of: Callable[[ContainerInfo], str] | None = None
        """What a container's process does, where that is not the same for all of a service."""
        self.registry: dict[str, str] = {}
        """What can be pulled: reference → image ID."""
        self.calls: list[str] = []
        self.fail_at: int | None = None
        self._numbers = itertools.count(1)
        self._containers: dict[str, ContainerInfo] = {}
        self._networks: dict[str, NetworkInfo] = {}
        self._volumes: dict[str, VolumeInfo] = {}
        self._released: set[tuple[str, str]] = set()
        self._changed = threading.Condition()

    def _call(self, call: str) -> None:
        if self.fail_at is not None and len(self.calls) >= self.fail_at:
            raise KeyboardInterrupt
        self.calls.append(call)

    def _id(self) -> str:
        return f"{next(self._numbers):06x}".ljust(64, "0")

    def _set(self, info: ContainerInfo) -> None:
        with self._changed:
            self._containers[info.id] = info
            self._changed.notify_all()

    def set_status(self, ref: str, **changes: Any) -> None:
        """Change a container's status from outside, as its process would."""
        info = self.container(ref)
        self._set(replace(info, status=replace(info.status, **changes)))

    def pull(self, reference: str, **_: Any) -> Image:
        if reference not in self.registry:
            raise Unavailable(f"cannot pull {reference}: no registry", hint="bootstrap it")
        self._call(f"pull {reference}")
        self.images.ids[reference] = self.registry[reference]
        return self.images.resolve(reference)

    # ------------------------------------------------------------------------------------ containers

    def create_container(self, spec: ContainerSpec) -> ContainerInfo:
        self._call(f"create {spec.name}")
        image = self.images.resolve(spec.image)
        if any(info.name == spec.name for info in self._containers.values()):
            raise Conflict(f'the name "{spec.name}" is in use')
        volumes = {}
        for mount in spec.mounts:
            if mount.type == "volume":
                name = mount.source or self._id()
                self._volumes.setdefault(name, VolumeInfo(VolumeSpec(name), 0.0, "", anonymous=not mount.source))
                volumes[mount.target] = name
        endpoints = tuple(
            EndpointInfo(
                request.network, self.network(request.network).id, "10.0.0.2", 24, "10.0.0.1", "", (), "eth0", "veth"
            )
            for request in spec.networks
        )
        info = ContainerInfo(
            id=self._id(),
            name=spec.name,
            created_at=0.0,
            image_id=image.id,
            labels=spec.labels,
            spec=spec,
            argv=spec.command or ("true",),
            status=ContainerStatus("created"),
            endpoints=endpoints,
            ports=(),
            volumes=volumes,
            desired="created",
        )
        self._set(info)
        return info

    def start_container(self, ref: str) -> ContainerInfo:
        info = self.container(ref)
        self._call(f"start {info.name}")
        if info.desired == RETIRED:
            raise Conflict(f"{info.name} waits to be replaced")
        program = self.programs.get(info.labels.get(SERVICE, ""), "run")
        program = self.program_of(info) if self.program_of else program
        if program == "cannot start":
            raise Conflict("cannot publish port 80: already used by nginx")
        self._set(replace(info, status=self._status_of(program), desired="running"))
        return self.container(ref)

    def _status_of(self, program: str) -> ContainerStatus:
        if program.startswith("exit "):
            return ContainerStatus("exited", started_at=1.0, finished_at=2.0, exit_code=int(program[5:]))
        running = ContainerStatus("running", pid=1, started_at=1.0)
        if program in ("healthy", "unhealthy", "starting"):
            probe = ProbeResult(1.0, 1.1, 0 if program == "healthy" else 1, "probed")
            return replace(running, health=Health(program, 0, (probe,)))
        return running

    def stop_container(self, ref: str, *, timeout_s: float | None = None) -> ContainerStatus:
        info = self.container(ref)
        self._call(f"stop {info.name}")
        if info.status.state in RUNNING:
            self.set_status(info.id, state="exited", exit_code=0, pid=0, health=None)
        if info.desired != RETIRED:
            self._set(replace(self.container(ref), desired="stopped"))
        return self.container(ref).status

    def kill_container(self, ref: str, signal: str = "SIGKILL") -> None:
        self._call(f"kill {self.container(ref).name}")
        self.set_status(ref, state="exited", exit_code=137, pid=0)

    def remove_container(self, ref: str, *, force: bool = False, volumes: bool = False) -> None:
        info = self.container(ref)
        self._call(f"remove {info.name}")
        if info.status.state == "running" and not force:
            raise Conflict(f"{info.name} is running")
        with self._changed:
            del self._containers[info.id]
            self._changed.notify_all()
        for name in info.volumes.values():
            if volumes and self._volumes[name].anonymous and not self._users(name):
                del self._volumes[name]

    def retire_container(self, ref: str, *, volumes: Sequence[str] = ()) -> None:
        info = self.container(ref)
        self._call(f"retire {info.name}")
        if info.status.state in RUNNING:
            raise Conflict(f"{info.name} is running")
        self._released |= {(info.id, volume) for volume in volumes}
        self._set(replace(info, endpoints=(), desired=RETIRED))

    def rename_container(self, ref: str, name: str) -> None:
        info = self.container(ref)
        self._call(f"rename {info.name} {name}")
        if any(other.name == name for other in self._containers.values()):
            raise Conflict(f'the name "{name}" is in use')
        self._set(replace(info, name=name, spec=replace(info.spec, name=name)))

    def containers(self, labels: Mapping[str, str | None] | None = None) -> list[ContainerInfo]:
        found = (info for info in self._containers.values() if _carries(info.labels, labels))
        return sorted(found, key=lambda info: info.name)

    def container(self, ref: str) -> ContainerInfo:
        for info in self._containers.values():
            if ref in (info.name, info.id):
                return info
        raise NotFound(f"no container {ref}")

    def watch(self, ref: str, *, until: float | None = None) -> Iterator[ContainerStatus]:
        container_id = self.container(ref).id
        seen: ContainerStatus | None = None
        while True:
            with self._changed:
                if container_id not in self._containers:
                    return
                status = self._containers[container_id].status
                if until is not None and time.monotonic() >= until:
                    return
                if status == seen:
                    self._changed.wait(5 if until is None else max(until - time.monotonic(), 0))
                    continue
            seen = status
            yield status
            if status.state in ("created", "exited"):
                return

    def logs(self, ref: str, **options: Any) -> Iterator[LogRecord]:
        self.container(ref)
        yield LogRecord(1.0, "stdout", b"first line\nlast words\n")

    # ----------------------------------------------------------------------------- networks, volumes

    def create_network(self, spec: NetworkSpec) -> NetworkInfo:
        self._call(f"create network {spec.name}")
        info = NetworkInfo(self._id(), spec, 0.0, "10.0.0.0/24", "10.0.0.1", "um-0")
        self._networks[spec.name] = info
        return info

    def remove_network(self, name: str) -> None:
        self._call(f"remove network {name}")
        if any(end.network == name for info in self._containers.values() for end in info.endpoints):
            raise Conflict(f"network {name} is in use")
        if name not in self._networks:
            raise NotFound(name)
        del self._networks[name]

    def networks(self, labels: Mapping[str, str | None] | None = None) -> list[NetworkInfo]:
        return [info for info in self._networks.values() if _carries(info.spec.labels, labels)]

    def network(self, name: str) -> NetworkInfo:
        if name not in self._networks:
            raise NotFound(f"no network {name}")
        return self._networks[name]

    def create_volume(self, spec: VolumeSpec) -> VolumeInfo:
        self._call(f"create volume {spec.name}")
        info = VolumeInfo(spec, 0.0, f"/volumes/{spec.name}")
        self._volumes[spec.name] = info
        return info

    def remove_volume(self, name: str) -> None:
        self._call(f"remove volume {name}")
        if self._users(name):
            raise Conflict(f"volume {name} is in use")
        del self._volumes[name]

    def volumes(self, labels: Mapping[str, str | None] | None = None) -> list[VolumeInfo]:
        return [info for info in self._volumes.values() if _carries(info.spec.labels, labels)]

    def _users(self, volume: str) -> list[str]:
        users = (info for info in self._containers.values() if volume in info.volumes.values())
        return [info.name for info in users if (info.id, volume) not in self._released]

    def build(self, request: Any, progress: Any) -> Image:
        self._call(f"build {request.tags[0]}")
        if request.dockerfile_inline == "broken":
            raise UmiakError("the build failed")
        for tag in request.tags:
            content = request.dockerfile_inline or tag
            self.images.ids[tag] = f"sha256:{content.encode().hex():0<64.64}"
        return self.images.resolve(request.tags[0])


def _carries(labels: Mapping[str, str], wanted: Mapping[str, str | None] | None) -> bool:
    return all(key in labels and value in (None, labels[key]) for key, value in (wanted or {}).items())
