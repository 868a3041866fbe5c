"""Rolling updates: a service with an `update_config` has its containers replaced in groups, and goes back where a new one fails.

A new container is made beside the old one, under its passing name, and must prove itself: be ready, and stay so for `monitor`.
The old ones are only stopped, and are removed when all new ones have proved themselves; so going back is to start them again. A
kill at any point leaves pairs of old and new, which the next `up` goes on with.

`Update` adds the steps to a plan; `settle` makes the plan for what a failed `up` left under way.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from compose import hooks, labels
from compose.plan import AwaitContainer, Delay, Plan, PlanBuilder, RemoveContainer, RenameContainer
from compose.readiness import judge
from compose.updates import Policy, obstacle
from engine.types import RUNNING

if TYPE_CHECKING:
    from compose.desired import Desired, DesiredService
    from compose.observe import Observed
    from compose.verdicts import Replica
    from engine.types import ContainerInfo

Waits = Iterable[int | None]


class Update:
    """The steps of one service's update, added to a plan as the groups follow each other."""

    def __init__(self, builder: PlanBuilder, service: DesiredService, count: int, timeout_s: float | None) -> None:
        assert service.policies is not None
        self._builder = builder
        self._service = service
        self._count = count
        self._timeout_s = timeout_s
        self.policy = _possible(service, service.policies.update)

    def replace(self, replica: Replica, position: int, after: Waits, before_stop: Waits) -> int | None:
        """Let a new container stand in for the old one, or beside it first; return what the next group waits for."""
        cause = f"update {position + 1} of {self._count}, {self.policy.order}"
        if self.policy.order == "start-first":
            proved = self._prove(replica, cause, after)
            return self._stop(replica, cause, [proved, *before_stop]) or proved
        stopped = self._stop(replica, cause, [*after, *before_stop])
        return self._prove(replica, cause, [stopped] if stopped else after)

    def pause(self, after: Waits) -> Waits:
        """The `delay` between two groups, where there is one."""
        return _delay(self._builder, self._service, self.policy, "update_config.delay", after)

    def take_place(self, replica: Replica, after: Waits) -> int:
        """Remove an old container and give its name to the new one."""
        assert replica.existing is not None
        cause = f"all of {self._service.name} is updated"
        removed = self._builder.add(replica.resource, RemoveContainer(replica.existing.name), cause, after=after)
        rename = RenameContainer(replica.passing_name, replica.name)
        return self._builder.add(replica.resource, rename, cause, after=[removed])

    def _stop(self, replica: Replica, cause: str, after: Waits) -> int | None:
        old = replica.existing
        if old is None or old.status.state not in RUNNING:
            return None
        return hooks.stop(self._builder, replica.resource, old, self._timeout_s, cause, after)

    def _prove(self, replica: Replica, cause: str, after: Waits) -> int:
        """Start the new container, where that has not been done before a kill, and see whether it is good."""
        policy = self.policy
        if replica.successor is None or replica.successor.status.state not in RUNNING:
            own = self._service.template.labels
            after = [hooks.start(self._builder, replica.resource, replica.passing_name, own, cause, after)]
        gate = AwaitContainer(
            replica.passing_name,
            "ready",
            required=policy.failure_action != "continue",
            one_shot=self._service.one_shot,
            monitor_s=policy.monitor_s,
            tolerated=int(policy.max_failure_ratio * self._count),
        )
        stays = f" and stay so for {policy.monitor_s:g}s" if policy.monitor_s else ""
        told = f"must be ready{stays}, else {policy.failure_action}"
        return self._builder.add(replica.resource, gate, told, after=after)


@dataclass(frozen=True, slots=True)
class Pair:
    """An old container and the new one that was on its way to take its place. `name` stays with one of them."""

    name: str
    resource: str
    old: ContainerInfo
    new: ContainerInfo

    @property
    def is_good(self) -> bool:
        """Whether the new one has become ready and is so still."""
        verdict = judge(self.new.status, "ready", name=self.new.name, service="", is_on_trial=True)
        return verdict.done and not verdict.failure


def under_way(desired: Desired, observed: Observed, services: Iterable[str]) -> dict[str, list[Pair]]:
    """The updates that have begun and not come to their end: service → its pairs by number."""
    found: dict[str, list[Pair]] = {}
    by_id = {container.id: container for container in observed.containers}
    for new in sorted(observed.containers, key=lambda container: labels.number(container.labels)):
        old = by_id.get(new.labels.get(labels.REPLACE, ""))
        service = desired.services.get(new.labels.get(labels.SERVICE, ""))
        if old is None or service is None or service.policies is None or service.name not in services:
            continue
        number = labels.number(new.labels)
        name = service.container(desired.project, number).name
        found.setdefault(service.name, []).append(Pair(name, f"service:{service.name}:{number}", old, new))
    return found


def settle(desired: Desired, updates: dict[str, list[Pair]], timeout_s: float | None) -> Plan:
    """What becomes of the updates that were under way when `up` failed, for each service as its `failure_action` says.

    `rollback`: all go back. Else new containers that are ready take the place of the old ones, and the others go back.
    """
    builder = PlanBuilder(desired.project)
    for name, pairs in updates.items():
        service = desired.services[name]
        assert service.policies is not None
        goes_back = service.policies.update.failure_action == "rollback"
        for pair in pairs:
            if pair.is_good and not goes_back:
                _finish(builder, pair, timeout_s)
        _go_back(builder, service, [pair for pair in pairs if goes_back or not pair.is_good], timeout_s)
    return builder.plan()


def outcome(desired: Desired, updates: dict[str, list[Pair]]) -> str:
    """What `settle` does, in words."""
    told = []
    for name, pairs in updates.items():
        policies = desired.services[name].policies
        is_rollback = policies is not None and policies.update.failure_action == "rollback"
        new = sum(pair.is_good for pair in pairs) if not is_rollback else 0
        words = f"{new} of {len(pairs)} containers are new, the others are again what they were" if new else ""
        told.append(f"{name}: {words or 'rolled back to the former containers'}")
    return "; ".join(told)


def _finish(builder: PlanBuilder, pair: Pair, timeout_s: float | None) -> None:
    cause, last = "its new container is good", None
    if pair.old.status.state in RUNNING:
        last = hooks.stop(builder, pair.resource, pair.old, timeout_s, cause)
    last = builder.add(pair.resource, RemoveContainer(pair.old.name), cause, after=[last])
    builder.add(pair.resource, RenameContainer(pair.new.name, pair.name), cause, after=[last])


def _go_back(builder: PlanBuilder, service: DesiredService, pairs: Sequence[Pair], timeout_s: float | None) -> None:
    """Remove the new containers; old ones that do not run are started, group by group, as `rollback_config` says."""
    assert service.policies is not None
    policy = _possible(service, service.policies.rollback)
    resting = [pair for pair in pairs if pair.old.status.state not in RUNNING]
    for pair in pairs:
        if pair not in resting:
            _remove_new(builder, pair, timeout_s)
    after: Waits = ()
    for group in policy.groups(len(resting)):
        after = _delay(builder, service, policy, "rollback_config.delay", after) if after else ()
        after = [_return(builder, policy, resting[position], timeout_s, after) for position in group]


def _return(builder: PlanBuilder, policy: Policy, pair: Pair, timeout_s: float | None, after: Waits) -> int:
    """Start an old container again, after the new one has gone or before; return what the next group waits for."""
    cause = "roll back"
    if policy.order == "stop-first":
        after = [_remove_new(builder, pair, timeout_s, after)]
    started = hooks.start(builder, pair.resource, pair.old.name, pair.old.labels, cause, after)
    gate = AwaitContainer(
        pair.old.name, "ready", policy.failure_action != "continue", one_shot=True, monitor_s=policy.monitor_s
    )
    proved = builder.add(pair.resource, gate, cause, after=[started])
    if policy.order == "start-first":
        _remove_new(builder, pair, timeout_s, [proved])
    return proved


def _remove_new(builder: PlanBuilder, pair: Pair, timeout_s: float | None, after: Waits = ()) -> int:
    cause = "roll back"
    if pair.new.status.state in RUNNING:
        after = [hooks.stop(builder, pair.resource, pair.new, timeout_s, cause, after)]
    return builder.add(pair.resource, RemoveContainer(pair.new.name), cause, after=after)


def _delay(builder: PlanBuilder, service: DesiredService, policy: Policy, cause: str, after: Waits) -> Waits:
    if not policy.delay_s:
        return after
    return [builder.add(f"service:{service.name}", Delay(policy.delay_s), f"{cause} {policy.delay_s:g}s", after=after)]


def _possible(service: DesiredService, policy: Policy) -> Policy:
    """The policy with the order that the service allows."""
    return replace(policy, order="stop-first") if obstacle(service.template) else policy
