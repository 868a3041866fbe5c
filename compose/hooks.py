"""Commands that run inside a container after its start and before its stop: `post_start` and `pre_stop`.

A container carries them as a label, so that `start`, `stop` and `down` know them without a file, and a changed hook is a changed
definition.
"""

from __future__ import annotations

import json
import os
import select
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from compose import labels
from compose.plan import HookPoint, PlanBuilder, RunHook, StartContainer, StopContainer

if TYPE_CHECKING:
    from compose.model.service import Service
    from engine.paths import Paths
    from engine.runtime.client import ExecSession
    from engine.types import ContainerInfo

OUTPUT_BYTES = 64 << 10
"""How much of a hook's last output is kept."""


def labelled(service: Service) -> dict[str, str]:
    """The label that carries a service's hooks; nothing where it has none."""
    points = {"post_start": service.post_start, "pre_stop": service.pre_stop}
    found = {
        point: [hook.model_dump(exclude_defaults=True) for hook in hooks] for point, hooks in points.items() if hooks
    }
    return {labels.HOOKS: json.dumps(found, sort_keys=True)} if found else {}


def start(
    builder: PlanBuilder, resource: str, name: str, own: Mapping[str, str], cause: str, after: Iterable[int | None] = ()
) -> int:
    """Start a container that carries the labels `own`, then run its hooks one after the other; return the last operation."""
    hooked = any(_hooks(name, "post_start", own))
    last = builder.add(resource, StartContainer(name, hooked), cause, after=after)
    return run(builder, resource, name, own, "post_start", last) or last


def run(
    builder: PlanBuilder, resource: str, name: str, own: Mapping[str, str], cause: str, after: int | None = None
) -> int | None:
    """Run the `post_start` hooks of a container one after the other; return the last operation."""
    hooks = list(_hooks(name, "post_start", own))
    for position, hook in enumerate(hooks, start=1):
        after = builder.add(resource, replace(hook, last=position == len(hooks)), cause, after=[after])
    return after


def expect(paths: Paths, container_id: str) -> None:
    """Note that a container is about to be started and its hooks have not been run, for the case that we are killed."""
    os.makedirs(paths.container_run(container_id), mode=0o711, exist_ok=True)
    with open(_note(paths, container_id), "w"):
        pass


def forget(paths: Paths, container_id: str) -> None:
    """Note that a container's hooks have been run."""
    with suppress(FileNotFoundError):
        os.unlink(_note(paths, container_id))


def are_due(paths: Paths, container: ContainerInfo) -> bool:
    """Whether a container was started and its hooks have not been run to their end."""
    return labels.HOOKS in container.labels and os.path.exists(_note(paths, container.id))


def _note(paths: Paths, container_id: str) -> str:
    return f"{paths.container_run(container_id)}/post_start"


def stop(
    builder: PlanBuilder,
    resource: str,
    container: ContainerInfo,
    timeout_s: float | None,
    cause: str,
    after: Iterable[int | None] = (),
) -> int:
    """Run a container's hooks one after the other (a frozen one cannot run any), then stop it; return the last operation."""
    if container.status.state == "running":
        for hook in _hooks(container.name, "pre_stop", container.labels):
            after = [builder.add(resource, hook, "pre_stop", after=after)]
    return builder.add(resource, StopContainer(container.name, timeout_s), cause, after=after)


def _hooks(name: str, point: HookPoint, own: Mapping[str, str]) -> Iterator[RunHook]:
    for hook in json.loads(own.get(labels.HOOKS, "{}")).get(point, ()):
        environment = (f"{key}={value}" for key, value in hook.get("environment", {}).items() if value is not None)
        yield RunHook(
            name,
            point,
            command=tuple(hook.get("command") or ()),
            user=hook.get("user"),
            privileged=hook.get("privileged", False),
            working_dir=hook.get("working_dir"),
            environment=tuple(environment),
        )


def outcome(session: ExecSession) -> tuple[int, str]:
    """Wait for a command to end; return its exit code and the last that it wrote. What it left running is not waited for."""
    output = bytearray()
    os.close(session.stdin)
    streams = {session.stdout, session.stderr} - {-1}
    poll = select.poll()
    for descriptor in (*streams, session.fileno()):
        poll.register(descriptor, select.POLLIN)
    ended = False
    try:
        while streams:
            ready = {descriptor for descriptor, _ in poll.poll(0 if ended else None)}
            if ended and not ready & streams:
                break
            for descriptor in ready & streams:
                piece = os.read(descriptor, OUTPUT_BYTES)
                output[:] = (output + piece)[-OUTPUT_BYTES:]
                if not piece:
                    poll.unregister(descriptor)
                    streams.discard(descriptor)
                    os.close(descriptor)
            if session.fileno() in ready:
                poll.unregister(session.fileno())
                ended = True
        return session.wait(), output.decode(errors="replace")
    finally:
        for descriptor in streams:
            os.close(descriptor)
