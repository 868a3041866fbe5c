"""What is going to be done, decided but not yet done: operations, what each waits for, and why each is there.

A plan prints, and the same text serves `umiak plan`, `--dry-run`, debug output and tests:

    [] -> #1 network:default, CreateNetwork, not found
    [1] -> #2 service:web:1, CreateContainer, no existing container
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import field, replace
from typing import TYPE_CHECKING, Any, Literal

from engine.frozen import frozen

if TYPE_CHECKING:
    from engine.types import ContainerSpec, NetworkSpec, StepOptions, VolumeSpec

Condition = Literal["service_started", "service_healthy", "service_completed_successfully", "ready"]
"""What a wait is for. The first three are `depends_on` conditions; "ready" is what `up --wait` means: running, healthy where
there is a health check, or ended with 0 where `one_shot` says that the service is meant to end."""

HookPoint = Literal["post_start", "pre_stop"]


@frozen
class BuildSecret:
    """What a build secret holds: a file, or its text."""

    file: str | None
    text: str | None = field(default=None, repr=False)


@frozen
class Build:
    """What to build an image from, as the Compose file says it; `reference` is the tag that it gets.

    `needs` names the services whose images must be there first: they are among the `contexts`.
    """

    service: str
    reference: str
    context: str
    dockerfile: str | None = None
    dockerfile_inline: str | None = None
    args: Mapping[str, str | None] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    target: str | None = None
    no_cache: bool = False
    no_cache_filter: tuple[str, ...] = ()
    pull: bool = False
    platforms: tuple[str, ...] = ()
    contexts: Mapping[str, str] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    secrets: Mapping[str, BuildSecret] = field(default_factory=dict)
    ssh: Mapping[str, str] = field(default_factory=dict)
    entitlements: tuple[str, ...] = ()
    options: StepOptions | None = None
    cache_from: tuple[str, ...] = ()
    cache_to: tuple[str, ...] = ()
    place: str | None = None


@frozen
class Provider:
    """A program that stands in for a service: `compose.providers`. `needed_by` are the services that get what it sets."""

    service: str
    type: str
    options: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    directory: str = ""
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    needed_by: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    place: str | None = None
    answers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """What it set when it was last called."""

    @property
    def definition(self) -> tuple[str, str, str]:
        """What makes it another one when it changes."""
        return self.service, self.type, str(sorted(self.options.items()))


@frozen
class RunProvider:
    """Call the program that stands in for a service."""

    provider: Provider
    verb: Literal["up", "down", "stop"]


@frozen
class BuildImage:
    """Build an image and tag it."""

    build: Build


@frozen
class PullImage:
    """Fetch an image from its registry. Where it is not `required`, it can be built instead."""

    reference: str
    platform: str | None = None
    required: bool = True
    place: str | None = None


@frozen
class PushImage:
    """Send an image to its registry. Where it is not `required`, a failure is only a warning."""

    reference: str
    required: bool = True


@frozen
class CreateNetwork:
    """Make a network."""

    spec: NetworkSpec


@frozen
class RemoveNetwork:
    """Remove a network."""

    name: str


@frozen
class CreateVolume:
    """Make a named volume."""

    spec: VolumeSpec


@frozen
class RemoveVolume:
    """Remove a volume with its content."""

    name: str


@frozen
class RemoveImage:
    """Remove an image's tag, and the image with its last one."""

    reference: str


@frozen
class CreateContainer:
    """Make a container, not started. `replaces` names the one whose place it takes (and whose anonymous volumes it holds)."""

    spec: ContainerSpec
    replaces: str | None = None


@frozen
class StartContainer:
    """Start a container that exists by then. One that is `hooked` has post_start hooks, which follow."""

    name: str
    hooked: bool = False


@frozen
class StopContainer:
    """Stop a container; None leaves the time to its own grace period."""

    name: str
    timeout_s: float | None = None


@frozen
class RunHook:
    """Run a command inside a running container, as its service's `post_start` or `pre_stop` says; `last` after all others."""

    name: str
    point: HookPoint
    command: tuple[str, ...]
    user: str | None = None
    privileged: bool = False
    working_dir: str | None = None
    environment: tuple[str, ...] = ()
    last: bool = False


@frozen
class PauseContainer:
    """Freeze a container's processes."""

    name: str


@frozen
class UnpauseContainer:
    """Let a frozen container go on."""

    name: str


@frozen
class RetireContainer:
    """Take a stopped container off its networks and off `volumes`, before its successor can exist.

    It keeps its name and its anonymous volumes till then, and cannot be started any more.
    """

    name: str
    volumes: tuple[str, ...] = ()


@frozen
class RemoveContainer:
    """Remove a stopped container, with its anonymous volumes if `volumes`."""

    name: str
    volumes: bool = False


@frozen
class RenameContainer:
    """Give a container another name."""

    name: str
    to: str


@frozen
class AwaitContainer:
    """Wait until a container fulfils a condition. Where it is not `required`, a failure is only a warning.

    With `monitor_s` a new container is on trial: it must stay so for as many seconds, and a restart is a failure too. Of a
    service, `tolerated` such failures are only warnings. One that `stays` must be so until all of the plan is done.
    """

    name: str
    condition: Condition
    required: bool = True
    one_shot: bool = False
    monitor_s: float | None = None
    tolerated: int = 0
    stays: bool = False


@frozen
class Delay:
    """Let some time pass."""

    seconds: float


Action = (
    BuildImage
    | RunProvider
    | PullImage
    | PushImage
    | CreateNetwork
    | RemoveNetwork
    | CreateVolume
    | RemoveVolume
    | RemoveImage
    | CreateContainer
    | StartContainer
    | StopContainer
    | RunHook
    | PauseContainer
    | UnpauseContainer
    | RetireContainer
    | RemoveContainer
    | RenameContainer
    | AwaitContainer
    | Delay
)


@frozen
class Change:
    """One field that differs: `environment.X: "a" → "b"`. None stands for absent."""

    field: str
    before: Any
    after: Any

    def __str__(self) -> str:
        return f"{self.field}: {_quoted(self.before)} → {_quoted(self.after)}"


@frozen
class Operation:
    """One step of a plan. `resource` is what it is about in the file's terms (`service:web:1`); `after` holds the steps it waits for."""

    id: int
    resource: str
    action: Action
    cause: str
    after: tuple[int, ...] = ()
    changes: tuple[Change, ...] = ()

    @property
    def kind(self) -> str:
        """The action's name, as printed."""
        return type(self.action).__name__

    @property
    def subject(self) -> str:
        """The name of the container, network, volume or image that it acts on; "" where it acts on none."""
        action: Any = self.action
        if isinstance(action, (CreateNetwork, CreateVolume, CreateContainer)):
            return action.spec.name
        if isinstance(action, BuildImage):
            return action.build.reference
        return getattr(action, "name", getattr(action, "reference", ""))

    @property
    def service(self) -> str:
        """The service it is about, or ""."""
        parts = self.resource.split(":")
        return parts[1] if parts[0] == "service" else ""

    def __str__(self) -> str:
        after = ",".join(map(str, self.after))
        return f"[{after}] -> #{self.id} {self.resource}, {self.kind}, {self.cause}"


@frozen
class Plan:
    """Operations in an order in which each comes after what it waits for."""

    project: str
    operations: tuple[Operation, ...] = ()
    warnings: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.operations)

    def __iter__(self) -> Iterator[Operation]:
        return iter(self.operations)

    def __str__(self) -> str:
        return "\n".join(map(str, self.operations))

    @property
    def changes_something(self) -> bool:
        """Whether it does more than wait."""
        return any(not isinstance(operation.action, AwaitContainer) for operation in self.operations)

    def only(self, keep: Callable[[Operation], bool]) -> Plan:
        """The operations that `keep` accepts; what waited for one that is left out waits for what that one waited for."""
        kept: list[Operation] = []
        stands_for: dict[int, frozenset[int]] = {}
        for operation in self.operations:
            after = frozenset[int]().union(*(stands_for[number] for number in operation.after))
            if keep(operation):
                kept.append(replace(operation, after=tuple(sorted(after))))
                after = frozenset((operation.id,))
            stands_for[operation.id] = after
        return replace(self, operations=tuple(kept))

    def as_json(self) -> dict[str, Any]:
        """The plan for `umiak plan --format json`."""
        return {
            "v": 1,
            "project": self.project,
            "operations": [
                {
                    "id": operation.id,
                    "after": list(operation.after),
                    "resource": operation.resource,
                    "action": operation.kind,
                    "name": operation.subject,
                    "cause": operation.cause,
                    "changes": [{"field": c.field, "before": c.before, "after": c.after} for c in operation.changes],
                }
                for operation in self.operations
            ],
            "warnings": list(self.warnings),
        }


class PlanBuilder:
    """Collects operations and numbers them in the order of their adding."""

    def __init__(self, project: str) -> None:
        self._project = project
        self._operations: list[Operation] = []
        self.warnings: list[str] = []

    def add(
        self,
        resource: str,
        action: Action,
        cause: str,
        *,
        after: Iterable[int | None] = (),
        changes: Iterable[Change] = (),
    ) -> int:
        """Add an operation that waits for those in `after` (None ones are skipped); return its number."""
        number = len(self._operations) + 1
        waits = tuple(sorted({other for other in after if other is not None}))
        self._operations.append(Operation(number, resource, action, cause, waits, tuple(changes)))
        return number

    def plan(self) -> Plan:
        """The plan so far."""
        return Plan(self._project, tuple(self._operations), tuple(self.warnings))


def _quoted(value: Any) -> str:
    if value is None:
        return "(none)"
    import json

    return json.dumps(value, ensure_ascii=False, default=str)
