"""The engine: one object through which every front end works. Each method is one thing a user can ask for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from engine import events, logs
from engine.containers import Containers
from engine.errors import NotFound, Unsupported
from engine.paths import Paths
from engine.ports import BuildRunner, NetworkDriver, VolumeDriver
from engine.runtime import journal
from engine.runtime.client import Zygote
from engine.state import State
from engine.types import (
    ContainerInfo,
    ContainerSpec,
    ContainerStatus,
    Image,
    LogRecord,
    NetworkInfo,
    NetworkSpec,
    VolumeInfo,
    VolumeSpec,
)

if TYPE_CHECKING:
    from engine.diskusage import Usage as DiskUsage
    from engine.events import Record
    from engine.images.build.builder import BuildRequest
    from engine.images.build.events import BuildEvent
    from engine.images.registry.events import Transfer
    from engine.images.registry.push import Pushed
    from engine.images.store import ImageStore
    from engine.prune import Pruned
    from engine.runtime.client import AttachSession, ExecSession
    from engine.transfer import Tree
    from engine.usage import Process, Usage


class Engine:
    """Images, containers, networks and volumes of one root directory. Safe to share between threads."""

    def __init__(self, paths: Paths, state: State, networks: NetworkDriver, volumes: VolumeDriver) -> None:
        self.paths = paths
        self.state = state
        self._images: ImageStore | None = None
        self._images_lock = threading.Lock()
        self._networks = networks
        self._volumes = volumes
        self._zygote: Zygote | None = None
        self._zygote_lock = threading.Lock()
        self._containers = Containers(paths, state, lambda: self.images, networks, volumes, self.zygote)

    @property
    def images(self) -> ImageStore:
        """The image store, opened on first use: what only looks at containers does without its modules."""
        with self._images_lock:
            if self._images is None:
                from engine.images.store import ImageStore

                self._images = ImageStore(self.paths, self.state)
            return self._images

    def zygote(self) -> Zygote:
        """The process that makes monitors, started on first use."""
        with self._zygote_lock:
            if self._zygote is None:
                self._zygote = Zygote.spawn()
            return self._zygote

    def close(self) -> None:
        """Let the zygote go and close the database. Running containers stay."""
        with self._zygote_lock:
            if self._zygote is not None:
                self._zygote.close()
                self._zygote = None
        self._networks.close()
        with self._images_lock:
            if self._images is not None:
                self._images.close()
        self.state.close()

    # --------------------------------------------------------------------------------- containers

    def create_container(self, spec: ContainerSpec) -> ContainerInfo:
        """Record a container with its leases and volumes; no process yet."""
        return self._containers.create(spec)

    def start_container(self, ref: str) -> ContainerInfo:
        """Start a container; return when its process has been executed."""
        return self._containers.start(ref)

    def stop_container(self, ref: str, *, timeout_s: float | None = None) -> ContainerStatus:
        """Stop a container: its stop signal, then SIGKILL after `timeout_s` (None: its own grace period)."""
        return self._containers.stop(ref, timeout_s)

    def kill_container(self, ref: str, signal: str = "SIGKILL") -> None:
        """Send a signal to a container's process."""
        self._containers.kill(ref, signal)

    def remove_container(self, ref: str, *, force: bool = False, volumes: bool = False) -> None:
        """Remove a container; with `force` also a running one, with `volumes` its anonymous volumes too."""
        self.state.make_room()
        self._containers.remove(ref, force=force, volumes=volumes)

    def retire_container(self, ref: str, *, volumes: Sequence[str] = ()) -> None:
        """Take a stopped container off its networks and off the named volumes, so that these can be removed before it is.

        All else it keeps, its anonymous volumes among it, for the one that is to replace it. It cannot be started any more.
        """
        self._containers.retire(ref, volumes)

    def rename_container(self, ref: str, name: str) -> None:
        """Give a container another name."""
        self._containers.rename(ref, name)

    def pause_container(self, ref: str) -> None:
        """Freeze all processes of a container."""
        self._containers.monitor(ref).pause()

    def unpause_container(self, ref: str) -> None:
        """Let a frozen container go on."""
        self._containers.monitor(ref).unpause()

    def attach_container(self, ref: str, *, start: bool = False, stdin: bool = True) -> AttachSession:
        """Take part in a container's own output, and with `stdin` its input, from now on.

        With `start` it is started first and nothing is missed: the container then waits for a reader that is slow.
        """
        if start:
            self._containers.start(ref, hold=True)
        return self._containers.monitor(ref).attach(stdin=stdin, lossless=start)

    def usage(self, ref: str) -> Usage:
        """What a running container uses at this moment. Raise Conflict if it does not run."""
        from engine.usage import measure

        return measure(self._containers.cgroup(ref), self.container(ref).endpoints)

    def processes(self, ref: str) -> list[Process]:
        """The processes of a running container as this host sees them, by PID. Raise Conflict if it does not run."""
        from engine.usage import processes

        return list(processes(self._containers.cgroup(ref).pids()))

    def files(self, ref: str, *, writable: bool = False) -> AbstractContextManager[Tree]:
        """A container's files for `engine.transfer`, whether or not it runs; `writable` where something is to be copied in."""
        return self._containers.tree(ref, writable=writable)

    def export_container(self, ref: str, write: Callable[[bytes], object]) -> None:
        """Write a container's root file system, without its mounts, as a tar."""
        from engine.transfer import pack

        with self._containers.root(ref) as tree:
            for piece in pack(tree, "/", ""):
                write(piece)

    def events(
        self, *, since: float | None = None, until: float | None = None, follow: bool = False
    ) -> Iterator[Record]:
        """What happened to containers, networks and volumes. Without `since`, following starts with what comes next."""
        return events.records(self.paths.events, since=since, until=until, follow=follow)

    def containers(self, labels: Mapping[str, str | None] | None = None) -> list[ContainerInfo]:
        """Containers that carry all the labels (None: any value), by name, as they are now."""
        return self._containers.all(labels)

    def container(self, ref: str) -> ContainerInfo:
        """One container by name, ID or unique ID prefix."""
        return self._containers.one(ref)

    def watch(self, ref: str, *, until: float | None = None) -> Iterator[ContainerStatus]:
        """A container's status now and after each change; ends after its last one, or at `until` on the monotonic clock."""
        return self._containers.watch(ref, until)

    def logs(
        self,
        ref: str,
        *,
        follow: bool = False,
        tail: int | None = None,
        since: float | None = None,
        until: float | None = None,
    ) -> Iterator[LogRecord]:
        """A container's output. `tail` is in lines, `since` and `until` in seconds since the epoch."""
        info = self.container(ref)
        if info.spec.log.driver == "none":
            raise Unsupported(f'container "{info.name}" keeps no log', hint="its logging driver is none")
        directory = f"{self.paths.container(info.id)}/log"
        return logs.read(directory, follow=follow, tail=tail, since=since, until=until, ended=self._ended(info.id))

    def _ended(self, container_id: str) -> Callable[[], bool]:
        def ended() -> bool:
            try:
                return self.container(container_id).status.state in ("created", "exited", "dead")
            except NotFound:
                return True

        return ended

    def exec(
        self,
        ref: str,
        argv: Sequence[str],
        *,
        env: Sequence[str] = (),
        cwd: str | None = None,
        user: str | None = None,
        tty: bool = False,
        privileged: bool = False,
        detach: bool = False,
    ) -> ExecSession:
        """Run a command in a running container; with `detach` its input and output are /dev/null."""
        monitor = self._containers.monitor(ref)
        return monitor.exec(argv, env=env, cwd=cwd, user=user, tty=tty, privileged=privileged, detach=detach)

    # ------------------------------------------------------------------------- networks and volumes

    def expect_networks(self, names: Collection[str] | None = None) -> None:
        """Get ready to make networks soon, unless there are networks of all these names already. None: names are not known yet."""
        if names is None or not {network.spec.name for network in self._networks.all()} >= set(names):
            self._networks.prepare()

    def create_network(self, spec: NetworkSpec) -> NetworkInfo:
        """Make a network."""
        network = self._networks.create(spec)
        self._note("network", "create", network.id, spec.name, spec.labels)
        return network

    def remove_network(self, name: str) -> None:
        """Remove a network. Raise Conflict while containers are on it."""
        self.state.make_room()
        network = self.network(name)
        self._networks.remove(network)
        self._note("network", "destroy", network.id, network.spec.name, network.spec.labels)

    def _note(self, kind: str, action: str, subject: str, name: str, labels: Mapping[str, str]) -> None:
        journal.append(self.paths.events, kind, action, subject, {**labels, "name": name})

    def networks(self, labels: Mapping[str, str | None] | None = None) -> list[NetworkInfo]:
        """Networks that carry all the labels, by name."""
        found = (network for network in self._networks.all() if _carries(network.spec.labels, labels))
        return sorted(found, key=lambda network: network.spec.name)

    def network(self, name: str) -> NetworkInfo:
        """One network by name or ID."""
        for network in self._networks.all():
            if name in (network.spec.name, network.id):
                return network
        raise NotFound(f'no network "{name}"')

    def create_volume(self, spec: VolumeSpec) -> VolumeInfo:
        """Make a volume, or return the one of that name."""
        volume = self._volumes.create(spec)
        self._note("volume", "create", spec.name, spec.name, spec.labels)
        return volume

    def remove_volume(self, name: str) -> None:
        """Remove a volume and its content."""
        self.state.make_room()
        self._volumes.remove(name)
        self._note("volume", "destroy", name, name, {})

    def volumes(self, labels: Mapping[str, str | None] | None = None) -> list[VolumeInfo]:
        """Volumes that carry all the labels, by name."""
        return [volume for volume in self._volumes.all() if _carries(volume.spec.labels, labels)]

    # -------------------------------------------------------------------------------------- images

    def build(self, request: BuildRequest, progress: Callable[[BuildEvent], None]) -> Image:
        """Build an image from a Dockerfile. Base images that are missing here are pulled."""
        from engine.images.build.builder import build
        from engine.images.build.pulls import told

        def pull(reference: str) -> Image:
            with told(reference, progress) as transfer:
                return self.pull(reference, progress=transfer, on_cancel=request.cancellation.on_cancel)

        self._containers.remove_orphans()
        return build(self.images, self.build_runner(), request, progress, pull=pull)

    def bootstrap(
        self,
        reference: str,
        *,
        suite: str | None = None,
        arch: str | None = None,
        packages: Sequence[str] = (),
        progress: Callable[[str, int, int], None] | None = None,
    ) -> Image:
        """Make a Debian base image from the archive that the host's apt is configured for."""
        from engine.images.bootstrap import bootstrap

        return bootstrap(
            self.images, self.build_runner(), reference, suite=suite, arch=arch, packages=packages, progress=progress
        )

    def pull(
        self,
        reference: str,
        *,
        platform: str | None = None,
        progress: Callable[[Transfer], None] | None = None,
        on_cancel: Callable[[Callable[[], None]], None] | None = None,
    ) -> Image:
        """Fetch an image from its registry. `on_cancel` is given a function that gives the pull up from another thread."""
        from engine.images.registry.pull import pull

        return pull(self.images, reference, platform=platform, progress=progress, on_cancel=on_cancel)

    def push(
        self,
        reference: str,
        *,
        tags: Sequence[str] = (),
        compression: str = "gzip",
        progress: Callable[[Transfer], None] | None = None,
    ) -> Pushed:
        """Send an image to the registry that its name begins with, under further tags too."""
        from engine.images.registry.push import push

        return push(self.images, reference, tags=tags, compression=compression, progress=progress)

    def save(self, references: Sequence[str], write: Callable[[bytes], object], *, format: str = "docker") -> None:
        """Write images as one archive, "docker" (read by all) or "oci" (as stored)."""
        from engine.images.save import save

        save(self.images, references, write, format=format)

    def commit(
        self,
        ref: str,
        reference: str | None = None,
        *,
        author: str = "",
        message: str = "",
        changes: Sequence[str] = (),
        pause: bool = True,
    ) -> Image:
        """Make an image of what a container is now."""
        from engine.commit import commit

        return commit(
            self._containers,
            self.images,
            ref,
            reference=reference,
            author=author,
            message=message,
            changes=changes,
            pause=pause,
        )

    # ------------------------------------------------------------------------------------- cleaning up

    def disk_usage(self) -> list[DiskUsage]:
        """What is on disk, kind by kind, and how much of it nothing uses."""
        from engine import diskusage

        return diskusage.usage(self)

    def prune_images(self, *, everything: bool = False, filters: Sequence[str] = ()) -> Pruned:
        """Remove images that no container uses: untagged ones, or all with `everything`."""
        from engine import prune

        return prune.images(self.images, everything=everything, filters=filters)

    def remove_stray_containers(self) -> list[str]:
        """End and remove what is left of containers that a lost database knew; return their IDs."""
        return self._containers.remove_strays()

    def prune_containers(self, *, filters: Sequence[str] = ()) -> Pruned:
        """Remove containers that do not run."""
        from engine import prune

        return prune.containers(self, filters=filters)

    def prune_networks(self, *, filters: Sequence[str] = ()) -> Pruned:
        """Remove networks that no container is on."""
        from engine import prune

        return prune.networks(self, filters=filters)

    def prune_volumes(self, *, everything: bool = False, filters: Sequence[str] = ()) -> Pruned:
        """Remove volumes that no container uses: anonymous ones, or all with `everything`."""
        from engine import prune

        return prune.volumes(self, everything=everything, filters=filters)

    def prune_build_cache(
        self, *, everything: bool = True, keep_bytes: int | None = None, before: float | None = None
    ) -> int:
        """Remove what builds keep, see `engine.images.build.prune`; return the bytes freed."""
        from engine.images.build.prune import prune

        return prune(self.images, everything=everything, keep_bytes=keep_bytes, before=before)[1]

    def build_runner(self) -> BuildRunner:
        """What runs the commands of builds: containers of this engine."""
        from engine import runner

        return runner.StepRunner(self._containers, self.logs)


def _carries(labels: Mapping[str, str], wanted: Mapping[str, str | None] | None) -> bool:
    return all(key in labels and value in (None, labels[key]) for key, value in (wanted or {}).items())
