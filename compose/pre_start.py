"""`pre_start`: containers that run to their end before the service's own start, once for the service or for each replica.

That they have is told by the service's containers: one that was ever started, with the same definition and image, was started after
them. One that failed is kept, for its log; the next `up` takes its place.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from compose import labels
from engine.types import ContainerSpec, Healthcheck, RestartPolicy

if TYPE_CHECKING:
    from compose.model.service import Service
    from engine.types import ContainerInfo


@dataclass(frozen=True, slots=True)
class Preparation:
    """One such container, named without the number of a replica."""

    spec: ContainerSpec
    per_replica: bool


def labelled(service: Service) -> dict[str, str]:
    """The label that makes another definition another one to run; nothing where a service has none."""
    text = "\n".join(hook.model_dump_json(exclude_defaults=True) for hook in service.pre_start)
    return {labels.PRE_START: hashlib.sha256(text.encode()).hexdigest()} if text else {}


def preparations(project: str, service: Service, template: ContainerSpec) -> tuple[Preparation, ...]:
    """The containers of a service's `pre_start`: like its own, but nobody's to reach or to watch."""
    own = {labels.PROJECT: project, labels.SERVICE: service.name, labels.ONEOFF: "True", labels.HOOK: "pre_start"}
    common = replace(
        template,
        labels=own,
        ports=(),
        networks=tuple(replace(n, aliases=(), ipv4_address=None, mac_address=None) for n in template.networks),
        restart=RestartPolicy(),
        healthcheck=Healthcheck(("NONE",)),
    )
    return tuple(
        Preparation(
            replace(
                common,
                name=f"{project}-{service.name}-pre-start-{position}",
                image=hook.image or template.image,
                entrypoint=None if hook.image else template.entrypoint,
                command=hook.command or (None if hook.image else template.command),
                user=hook.user or (None if hook.image else template.user),
                privileged=hook.privileged or template.privileged,
                working_dir=hook.working_dir or (None if hook.image else template.working_dir),
                environment={**template.environment, **hook.environment},
            ),
            hook.per_replica,
        )
        for position, hook in enumerate(service.pre_start, 1)
    )


def is_done(container: ContainerInfo | None, definition: str | None, image_id: str | None) -> bool:
    """Whether a container of the service shows that its `pre_start` has been run, as it is defined and with this image."""
    if container is None or not container.status.started_at:
        return False
    return container.labels.get(labels.PRE_START) == definition and container.image_id == image_id
