"""Run a build's commands in containers of the engine: same limits, filter and network as any other container."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence

from engine.containers import OWNER_LABEL, Containers, Rootfs, this_process
from engine.errors import Conflict, NotFound, UmiakError, Unavailable
from engine.types import ContainerSpec, EndpointRequest, LogRecord, Mount, StepOptions

_NOT_FOUND = 127
"""What a shell, and Docker, exit with where there is no such command."""

_NETWORK_MODES = {"default": "bridge", "none": "none", "host": "host"}


class StepRunner:
    """Implements `engine.ports.BuildRunner`. A step's container dies with the process that asked for it."""

    def __init__(self, containers: Containers, logs: Callable[..., Iterator[LogRecord]]) -> None:
        self._containers = containers
        self._logs = logs
        self._running: set[str] = set()
        self._stopped = False

    def __call__(
        self,
        *,
        layer_dirs: Sequence[str],
        upper: str,
        work: str,
        argv: Sequence[str],
        env: Sequence[str],
        cwd: str,
        user: str,
        output: Callable[[bytes], None],
        mounts: Sequence[Mount] = (),
        options: StepOptions | None = None,
    ) -> int:
        """Run one command; return its exit code. See `BuildRunner`."""
        options = options or StepOptions()
        spec = ContainerSpec(
            name=f"build-{os.urandom(6).hex()}",
            image="",
            entrypoint=tuple(argv),
            environment=dict(item.partition("=")[::2] for item in env),
            labels={OWNER_LABEL: this_process()},
            working_dir=cwd or "/",
            user=user or None,
            mounts=tuple(mounts),
            privileged=options.privileged,
            extra_hosts=options.extra_hosts,
            shm_size_bytes=options.shm_size_bytes,
            ulimits=options.ulimits,
            network_mode=_NETWORK_MODES.get(options.network, "networks"),
            networks=() if options.network in _NETWORK_MODES else (EndpointRequest(options.network),),
        )
        info = self._containers.create(spec, Rootfs(tuple(layer_dirs), upper, work))
        try:
            self._start(info.id)
            self._running.add(info.id)
            if self._stopped:
                self.stop()
            for record in self._logs(info.id, follow=True):
                output(record.data)
            return self._exit_code(info.id)
        finally:
            self._running.discard(info.id)
            self._containers.remove(info.id, force=True, volumes=True)

    def _start(self, container_id: str) -> None:
        try:
            self._containers.start(container_id)
        except UmiakError as error:
            if error.exit_code == _NOT_FOUND:
                error.hint = (
                    "check the words of the RUN and the stages above it; a shell form needs a shell in the image"
                )
            raise

    def stop(self) -> None:
        """End the commands that run, and those that would start, from another thread. Their calls return as after any SIGKILL."""
        self._stopped = True
        for container_id in tuple(self._running):
            try:
                self._containers.kill(container_id, "SIGKILL")
            except (Conflict, NotFound, Unavailable):
                continue  # it has just ended

    def _exit_code(self, container_id: str) -> int:
        code: int | None = None
        for status in self._containers.watch(container_id):
            code = status.exit_code
        return -1 if code is None else code
