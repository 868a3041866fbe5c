"""`pre_start`: containers that run to their end before the service's own start, once for the service or for each replica. The
service's containers carry what to run as a label, so that `start` knows it without a file.

That they have is told by the service's containers: one that was ever started, with the same definition and image, was started after
them. One that failed is kept, for its log; the next `up` takes its place.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from compose import labels
from compose.plan import AwaitContainer, CreateContainer, PlanBuilder, RemoveContainer, StartContainer, StopContainer
from engine.frozen import frozen
from engine.types import ContainerSpec, Healthcheck, RestartPolicy

if TYPE_CHECKING:
    from compose.model.service import Service
    from engine.types import ContainerInfo


@frozen
class Preparation:
    """One such container, named without the number of a replica."""

    spec: ContainerSpec
    per_replica: bool


def labelled(service: Service) -> dict[str, str]:
    """The label that carries what there is to run; nothing where a service has none."""
    found = [hook.model_dump(exclude_defaults=True) for hook in service.pre_start]
    return {labels.PRE_START: json.dumps(found, sort_keys=True)} if found else {}


def preparations(project: str, service: str, template: ContainerSpec) -> tuple[Preparation, ...]:
    """The containers that the label of a service's own ones asks for: like those, but nobody's to reach or to watch."""
    own = {labels.PROJECT: project, labels.SERVICE: service, labels.ONEOFF: "True", labels.HOOK: "pre_start"}
    common = replace(
        template,
        labels=own,
        ports=(),
        networks=tuple(replace(n, aliases=(), ipv4_address=None, mac_address=None) for n in template.networks),
        restart=RestartPolicy(),
        healthcheck=Healthcheck(("NONE",)),
    )
    hooks: list[dict[str, Any]] = json.loads(template.labels.get(labels.PRE_START, "[]"))
    return tuple(
        Preparation(
            _specification(common, hook, f"{project}-{service}-pre-start-{position}"), bool(hook.get("per_replica"))
        )
        for position, hook in enumerate(hooks, 1)
    )


def _specification(common: ContainerSpec, hook: Mapping[str, Any], name: str) -> ContainerSpec:
    """One container. With an image of its own it has nothing of the service's command, user and directory."""
    image = hook.get("image")
    command = tuple(hook.get("command") or ()) or None
    return replace(
        common,
        name=name,
        image=image or common.image,
        entrypoint=None if image else common.entrypoint,
        command=command or (None if image else common.command),
        user=hook.get("user") or (None if image else common.user),
        privileged=hook.get("privileged", False) or common.privileged,
        working_dir=hook.get("working_dir") or (None if image else common.working_dir),
        environment={**common.environment, **hook.get("environment", {})},
    )


def add(builder: PlanBuilder, resource: str, spec: ContainerSpec, after: Iterable[int | None]) -> int:
    """Run one to its successful end and remove it; return the last operation."""
    cause = "pre_start"
    created = builder.add(resource, CreateContainer(spec), cause, after=after)
    started = builder.add(resource, StartContainer(spec.name), cause, after=[created])
    ended = builder.add(resource, AwaitContainer(spec.name, "service_completed_successfully"), cause, after=[started])
    # It has ended; its monitor may need a moment more, which a stop waits for.
    stopped = builder.add(resource, StopContainer(spec.name), cause, after=[ended])
    return builder.add(resource, RemoveContainer(spec.name, volumes=True), cause, after=[stopped])


def is_done(container: ContainerInfo | None, definition: str | None, image_id: str | None) -> bool:
    """Whether a container of the service shows that its `pre_start` has been run, as it is defined and with this image."""
    if container is None or not container.status.started_at:
        return False
    return container.labels.get(labels.PRE_START) == definition and container.image_id == image_id
