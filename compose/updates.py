"""How a service's containers are replaced by new ones: `deploy.update_config` and `rollback_config`, read with Swarm's defaults."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Literal

from engine.errors import InvalidInput
from engine.frozen import frozen

if TYPE_CHECKING:
    from compose.model.deploy import UpdateConfig
    from compose.model.service import Service
    from engine.types import ContainerSpec

Order = Literal["stop-first", "start-first"]
FailureAction = Literal["pause", "continue", "rollback"]

MONITOR_S = 5.0
"""How long a new container without a health check is watched where the file does not say; Swarm's default."""

_ORDERS: dict[str, Order] = {"stop-first": "stop-first", "start-first": "start-first"}
_ACTIONS: dict[str, FailureAction] = {"pause": "pause", "continue": "continue", "rollback": "rollback"}


@frozen
class Policy:
    """`update_config` or `rollback_config`. `parallelism` 0 is all at once; `monitor_s` counts from the moment of being ready."""

    parallelism: int = 1
    delay_s: float = 0.0
    order: Order = "stop-first"
    failure_action: FailureAction = "pause"
    monitor_s: float = 0.0
    max_failure_ratio: float = 0.0

    def groups(self, count: int) -> Iterator[range]:
        """The positions of those that are replaced at the same time."""
        size = self.parallelism or max(count, 1)
        return (range(first, min(first + size, count)) for first in range(0, count, size))


@frozen
class Policies:
    """How a service is updated, and how an update that failed is taken back."""

    update: Policy
    rollback: Policy


def policies(service: Service, place: Callable[..., str | None]) -> Policies | None:
    """What `deploy` says of updates; None where it has no `update_config`. Raise InvalidInput for a word that means nothing."""
    deploy = service.deploy
    if deploy is None or deploy.update_config is None:
        return None

    def read(key: str, config: UpdateConfig | None, monitor_s: float) -> Policy:
        path = ("services", service.name, "deploy", key)
        return _policy(config, monitor_s, lambda name: place(*path, name)) if config else Policy(monitor_s=monitor_s)

    update = read("update_config", deploy.update_config, 0.0 if _is_checked(service) else MONITOR_S)
    return Policies(update, read("rollback_config", deploy.rollback_config, 0.0))


def obstacle(template: ContainerSpec) -> str:
    """What forbids that an old and a new container run side by side; "" where nothing does."""
    for port in template.ports:
        if port.host_port and not port.host_port_last:
            return f"it publishes port {port.host_port} of the host, which only one container can hold"
    return "it sets container_name, which only one container can bear" if template.name else ""


def has_fixed_address(template: ContainerSpec) -> bool:
    """Whether an old and a new container cannot even exist at the same time: an address is leased as long as its container is."""
    return any(request.ipv4_address for request in template.networks)


def _is_checked(service: Service) -> bool:
    check = service.healthcheck
    return check is not None and not check.disable and bool(check.test) and check.test != ("NONE",)


def _policy(config: UpdateConfig, monitor_s: float, place: Callable[[str], str | None]) -> Policy:
    order, action = config.order or "stop-first", config.failure_action or "pause"
    for name, word, known in (("order", order, _ORDERS), ("failure_action", action, _ACTIONS)):
        if word not in known:
            raise InvalidInput(f'"{word}" is no {name}', hint=f"use {' or '.join(known)}", place=place(name))
    return Policy(
        parallelism=1 if config.parallelism is None else config.parallelism,
        delay_s=config.delay.seconds,
        order=_ORDERS[order],
        failure_action=_ACTIONS[action],
        monitor_s=config.monitor.seconds or monitor_s,
        max_failure_ratio=config.max_failure_ratio,
    )
