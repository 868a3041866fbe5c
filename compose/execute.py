"""Carry out a plan: each operation in a thread of its own as soon as those it waits for are done. Decides nothing.

At the first failure nothing new begins, what runs is let finish, and what this run made but could not complete is undone:
containers that it created and that never started, then networks and volumes that it made and that nothing is on. A container
that did start is kept, whatever became of it, because its log tells why; so is one that took over from another.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from compose import hooks
from compose.builds import told
from compose.failure import hook_failed, not_ready, restarted
from compose.plan import (
    AwaitContainer,
    BuildImage,
    CreateContainer,
    CreateNetwork,
    CreateVolume,
    Delay,
    Operation,
    PauseContainer,
    Plan,
    PullImage,
    PushImage,
    RemoveContainer,
    RemoveImage,
    RemoveNetwork,
    RemoveVolume,
    RenameContainer,
    RetireContainer,
    RunHook,
    RunProvider,
    StartContainer,
    StopContainer,
    UnpauseContainer,
)
from compose.readiness import WAIT, Readiness, exit_reason, judge
from engine.errors import Conflict, NotFound, TimedOut, UmiakError, Unavailable
from engine.events import Event, Kind, Sink

if TYPE_CHECKING:
    from compose.plan import Build
    from engine.facade import Engine
    from engine.images.build.cache import Session
    from engine.images.build.cancel import Cancellation
    from engine.images.build.events import BuildEvent
    from engine.images.build.request import BuildRequest
    from engine.images.registry.events import Transfer
    from engine.types import ContainerStatus, ProbeResult

PARALLEL = 32
"""Most operations at a time that do something; waits and hooks do not count."""

REWATCH_S = 0.05

SETTLE_S = 0.5
"""How long what has no health check must have run before it is ready: what cannot start has ended by then."""

MAX_RESTARTS = 5
"""So often may it be restarted before it stays up for that long."""

PATIENT = (AwaitContainer, RunHook, Delay)
"""Actions that wait for what goes on in a container: they hold up no others, and are given up where the rest has failed."""

BRIEF = (CreateContainer, RenameContainer, StartContainer)
"""Actions that make a container run. They are never given up half way."""


def execute(
    engine: Engine,
    plan: Plan,
    sink: Sink,
    *,
    places: Mapping[str, str] | None = None,
    timeout_s: float | None = None,
    parallel: int = PARALLEL,
    provided: dict[str, dict[str, str]] | None = None,
) -> None:
    """Carry out a plan. Raise the first failure, after what was left half-made has been undone.

    `places` maps `services.web`, `services.web.ports`… to their place in the file, for errors. What providers set
    for their dependents is put into `provided`, by service. After `timeout_s` seconds raise TimedOut.
    """
    run = _Run(engine, plan, sink, places or {}, timeout_s, parallel)
    run.provided = {} if provided is None else provided
    run.run()


class _Run:
    def __init__(
        self, engine: Engine, plan: Plan, sink: Sink, places: Mapping[str, str], timeout_s: float | None, parallel: int
    ) -> None:
        self.engine = engine
        self.plan = plan
        self.sink = sink
        self.places = places
        self.deadline = None if timeout_s is None else time.monotonic() + timeout_s
        self.timeout_s = timeout_s
        self.parallel = parallel if parallel > 0 else len(plan.operations)
        self.finished: SimpleQueue[tuple[Operation, BaseException | None]] = SimpleQueue()
        self.missing = {operation.id: set(operation.after) for operation in plan}
        self.waiting = list(plan.operations)
        self.active: dict[int, Operation] = {}
        self.done: set[int] = set()
        self.begun: dict[int, Operation] = {}
        self.is_giving_up = False
        self.changed = threading.Condition()
        self.failure: BaseException | None = None
        self.builds: list[Cancellation] = []
        self.session: Session | None = None
        self.session_lock = threading.Lock()
        self.pulls: list[Callable[[], None]] = []
        self.provided: dict[str, dict[str, str]] = {}
        self.failed_trials: Counter[str] = Counter()

    def run(self) -> None:
        """Start what can start, take in what finished, until all is done or one failed."""
        try:
            while self.waiting or self.active:
                self._start_ready()
                operation, error = self._next_finished()
                self._take_in(operation, error)
                if self.failure is not None:
                    raise self.failure
        except BaseException as error:
            if isinstance(error, UmiakError):
                self.sink(
                    Event("error", data={"message": error.message, "hint": error.hint}, project=self.plan.project)
                )
            self._drain()
            self._undo()
            raise

    def _start_ready(self) -> None:
        busy = sum(not isinstance(operation.action, PATIENT) for operation in self.active.values())
        for operation in [one for one in self.waiting if not self.missing[one.id]]:
            if not isinstance(operation.action, PATIENT):
                if busy >= self.parallel:
                    continue
                busy += 1
            self.waiting.remove(operation)
            self.active[operation.id] = operation
            # Daemons, because a wait that is given up must not keep the command from ending.
            thread = threading.Thread(target=self._perform, args=(operation,), daemon=True, name=str(operation))
            try:
                thread.start()
            except RuntimeError as error:
                raise Unavailable(
                    f"cannot begin {operation.resource}: {error}",
                    hint="see `ulimit -u` and the pids.max of this cgroup; --parallel 4 needs less",
                ) from error

    def _next_finished(self) -> tuple[Operation, BaseException | None]:
        if self.deadline is None:
            return self.finished.get()
        try:
            return self.finished.get(timeout=max(self.deadline - time.monotonic(), 0.0))
        except Empty:
            raise self._timed_out() from None

    def _take_in(self, operation: Operation, error: BaseException | None) -> None:
        self.active.pop(operation.id, None)
        if error is None:
            for missing in self.missing.values():
                missing.discard(operation.id)
        elif self.failure is None:
            self.failure = self._with_place(operation, error)

    def _with_place(self, operation: Operation, error: BaseException) -> BaseException:
        if isinstance(error, UmiakError) and error.place is None and operation.service:
            error.place = self.places.get(f"services.{operation.service}{_aspect(operation, error)}")
        return error

    def _timed_out(self) -> UmiakError:
        waits = [one.action for one in self.active.values() if isinstance(one.action, AwaitContainer)]
        message = f"application not healthy after {self.timeout_s:g}s"
        if not waits:
            return TimedOut(message)
        return not_ready(self.engine, waits[0].name, f"{message}: still waiting for {', '.join(w.name for w in waits)}")

    def _drain(self) -> None:
        """Let the operations that do something come to their end; waits, hooks, builds and pulls are given up.

        Ctrl-C may have come between any two steps of the main thread, so only what the threads noted themselves counts.
        """
        for build in self.builds:
            build.cancel()
        for give_up in self.pulls:
            give_up()
        with self.changed:
            self.is_giving_up = True
            try:
                self.changed.wait_for(lambda: all(isinstance(one.action, PATIENT) for one in self.begun.values()))
            except KeyboardInterrupt:
                # Asked a second time. Who is to stop what has been started needs to find it, though.
                self.changed.wait_for(lambda: not any(isinstance(one.action, BRIEF) for one in self.begun.values()))
                raise

    def _perform(self, operation: Operation) -> None:
        with self.changed:
            if self.is_giving_up:
                return
            self.begun[operation.id] = operation
        failure: BaseException | None = None
        try:
            _ACTIONS[type(operation.action)](self, operation, operation.action)
        except BaseException as error:
            failure = error
        with self.changed:
            del self.begun[operation.id]
            if failure is None:
                self.done.add(operation.id)
            self.changed.notify_all()
        self.finished.put((operation, failure))

    def tell(self, operation: Operation, kind: Kind, name: str, state: str, **data: Any) -> None:
        """Send an event about what an operation does."""
        self.sink(Event(kind, state, name, self.plan.project, operation.service, data))

    def step(
        self,
        operation: Operation,
        kind: Kind,
        name: str,
        doing: str,
        did: str,
        act: Callable[[], object],
        *,
        required: bool = True,
        **about: Any,
    ) -> None:
        """Act, between the two events that say so, the first with what it is `about`.

        The failure of what is not `required` is told as a warning.
        """
        self.tell(operation, kind, name, doing, **about)
        begun = time.monotonic()
        try:
            act()
        except BaseException as error:
            soft = not required and isinstance(error, UmiakError)
            self.tell(operation, kind, name, "warning" if soft else "error", message=str(error))
            raise
        self.tell(operation, kind, name, did, seconds=round(time.monotonic() - begun, 4))

    # ------------------------------------------------------------------------------------- the actions

    def _build_session(self) -> Session:
        from engine.images.build.cache import Session

        with self.session_lock:
            self.session = self.session or Session()
            return self.session

    def build(self, operation: Operation, action: BuildImage) -> None:
        build = action.build
        request = build_request(action.build, self._build_session())
        self.builds.append(request.cancellation)

        def progress(event: BuildEvent) -> None:
            state, data = told(event)
            self.tell(operation, "build", build.reference, state, **data)

        def act() -> None:
            self.engine.build(request, progress)

        try:
            self.step(operation, "build", build.reference, "building", "built", act)
        except UmiakError as error:
            error.place = error.place or build.place
            raise

    def pull(self, operation: Operation, action: PullImage) -> None:
        def progress(transfer: Transfer) -> None:
            if transfer.state == "warning":
                self.tell(operation, "pull", action.reference, "warning", message=transfer.message)
            else:
                data = {"layer": transfer.id, "done": transfer.done, "total": transfer.total, "text": transfer.message}
                self.tell(operation, "pull", action.reference, f"step {transfer.state}", **data)

        def act() -> None:
            self.engine.pull(action.reference, platform=action.platform, progress=progress, on_cancel=self.pulls.append)

        try:
            self.step(operation, "pull", action.reference, "pulling", "pulled", act, required=action.required)
        except UmiakError as error:
            error.place = error.place or action.place
            if action.required or self.failure is not None:
                raise

    def push(self, operation: Operation, action: PushImage) -> None:
        def progress(transfer: Transfer) -> None:
            data = {"layer": transfer.id, "done": transfer.done, "total": transfer.total, "text": transfer.message}
            self.tell(operation, "push", action.reference, f"step {transfer.state}", **data)

        def act() -> None:
            self.engine.push(action.reference, progress=progress)

        try:
            self.step(operation, "push", action.reference, "pushing", "pushed", act, required=action.required)
        except UmiakError:
            if action.required or self.failure is not None:
                raise

    def run_provider(self, operation: Operation, action: RunProvider) -> None:
        from compose.provider_calls import call

        name, words = action.provider.service, _PROVIDING[action.verb]

        def tell(message: str) -> None:
            self.tell(operation, "provider", name, words[0], message=message)

        def act() -> None:
            self.provided[name] = call(action.provider, self.plan.project, action.verb, tell)

        self.step(operation, "provider", name, *words, act)

    def create_network(self, operation: Operation, action: CreateNetwork) -> None:
        name = action.spec.name
        self.step(operation, "network", name, "creating", "created", lambda: self.engine.create_network(action.spec))

    def remove_network(self, operation: Operation, action: RemoveNetwork) -> None:
        act = _unless_gone(self.engine.remove_network, action.name)
        self.step(operation, "network", action.name, "removing", "removed", act)

    def create_volume(self, operation: Operation, action: CreateVolume) -> None:
        name = action.spec.name
        self.step(operation, "volume", name, "creating", "created", lambda: self.engine.create_volume(action.spec))

    def remove_volume(self, operation: Operation, action: RemoveVolume) -> None:
        act = _unless_gone(self.engine.remove_volume, action.name)
        self.step(operation, "volume", action.name, "removing", "removed", act)

    def remove_image(self, operation: Operation, action: RemoveImage) -> None:
        act = _unless_gone(self.engine.images.remove, action.reference)
        self.step(operation, "build", action.reference, "removing", "removed", act)

    def create_container(self, operation: Operation, action: CreateContainer) -> None:
        name, words = action.spec.name, ("creating", "created")
        if action.replaces is not None and action.replaces != name:
            name, words = action.replaces, ("recreate", "prepared")
        self.step(operation, "container", name, *words, lambda: self.engine.create_container(action.spec))

    def rename_container(self, operation: Operation, action: RenameContainer) -> None:
        self.engine.rename_container(action.name, action.to)
        self.tell(operation, "container", action.to, "recreated")

    def start_container(self, operation: Operation, action: StartContainer) -> None:
        def act() -> None:
            if action.hooked:
                hooks.expect(self.engine.paths, self.engine.container(action.name).id)
            self.engine.start_container(action.name)

        self.step(operation, "container", action.name, "starting", "started", act)

    def stop_container(self, operation: Operation, action: StopContainer) -> None:
        act = _unless_gone(self.engine.stop_container, action.name, timeout_s=action.timeout_s)
        self.step(operation, "container", action.name, "stopping", "stopped", act)

    def run_hook(self, operation: Operation, action: RunHook) -> None:
        def act() -> None:
            try:
                session = self.engine.exec(
                    action.name,
                    action.command,
                    env=action.environment,
                    cwd=action.working_dir,
                    user=action.user,
                    privileged=action.privileged,
                )
            except (Conflict, NotFound):
                if action.point == "pre_stop":
                    return  # it has ended by itself, and so is as good as stopped
                raise not_ready(
                    self.engine, action.name, f"cannot run {action.point} in {action.name}: it has ended"
                ) from None
            code, output = hooks.outcome(session)
            if code != 0:
                raise hook_failed(action, code, output)
            if action.last:
                hooks.forget(self.engine.paths, self.engine.container(action.name).id)

        self.step(operation, "container", action.name, f"running {action.point}", f"ran {action.point}", act)

    def pause_container(self, operation: Operation, action: PauseContainer) -> None:
        act = lambda: self.engine.pause_container(action.name)  # noqa: E731
        self.step(operation, "container", action.name, "pausing", "paused", act)

    def unpause_container(self, operation: Operation, action: UnpauseContainer) -> None:
        act = lambda: self.engine.unpause_container(action.name)  # noqa: E731
        self.step(operation, "container", action.name, "unpausing", "unpaused", act)

    def retire_container(self, operation: Operation, action: RetireContainer) -> None:
        act = _unless_gone(self.engine.retire_container, action.name, volumes=action.volumes)
        self.step(operation, "container", action.name, "retiring", "retired", act)

    def remove_container(self, operation: Operation, action: RemoveContainer) -> None:
        act = _unless_gone(self.engine.remove_container, action.name, volumes=action.volumes)
        self.step(operation, "container", action.name, "removing", "removed", act)

    def await_container(self, operation: Operation, action: AwaitContainer) -> None:
        self.tell(operation, "container", action.name, "waiting", condition=action.condition)
        begun = time.monotonic()
        probes = _Probes(self, operation)
        verdict = self._watch_until(operation, action, probes)
        failure = verdict.failure
        data = {"seconds": round(time.monotonic() - begun, 4)} | ({"probes": probes.count} if probes.count else {})
        if not failure:
            self.tell(operation, "container", action.name, verdict.state, **data)
            if action.stays:
                threading.Thread(target=self._guard, args=(operation, action, probes), daemon=True).start()
        elif self._is_tolerated(operation, action):
            self.tell(operation, "container", action.name, "not required", message=failure)
        else:
            self.tell(operation, "container", action.name, "error", message=failure)
            is_dependency = action.condition == "service_healthy"
            message = f"dependency failed to start: {failure}" if is_dependency else failure
            raise not_ready(self.engine, action.name, message, verdict.hint)

    def _guard(self, operation: Operation, action: AwaitContainer, probes: _Probes) -> None:
        """Follow a container that is ready for as long as others are waited for; its failure is one of the whole."""
        if failure := self._follow(operation, action, probes, stays=True).failure:
            self.finished.put((operation, not_ready(self.engine, action.name, f"{failure} after it had been ready")))

    def _is_tolerated(self, operation: Operation, action: AwaitContainer) -> bool:
        """Whether a failure is only a warning."""
        if action.monitor_s is None:
            return not action.required
        with self.changed:
            self.failed_trials[operation.service] += 1
            return not action.required or self.failed_trials[operation.service] <= action.tolerated

    def delay(self, operation: Operation, action: Delay) -> None:
        def act() -> None:
            with self.changed:
                self.changed.wait_for(lambda: self.is_giving_up, action.seconds)

        self.step(operation, "delay", operation.service, "waiting", "waited", act, message=operation.cause)

    def _watch_until(self, operation: Operation, action: AwaitContainer, probes: _Probes) -> Readiness:
        """Follow a container until the condition is met or cannot be met any more; on trial go on for as long as it must stay so."""
        verdict = self._follow(operation, action, probes)
        if action.condition == "ready" and verdict.state == "running" and action.monitor_s is None:
            return self._settle(operation, action, probes)
        if verdict.failure or verdict.state == "exited" or not action.monitor_s:
            return verdict
        return self._follow(operation, action, probes, stays=True, until=time.monotonic() + action.monitor_s)

    def _settle(self, operation: Operation, action: AwaitContainer, probes: _Probes) -> Readiness:
        """Follow a container that has no health check until it has run for a moment, or cannot."""
        while True:
            status = self.engine.container(action.name).status
            is_up = status.state in ("running", "paused")
            # Not longer than that, even where the clock has been set back since.
            left_s = min(SETTLE_S, SETTLE_S - (time.time() - status.started_at))
            if is_up and left_s <= 0:
                return Readiness(True, "running")
            if not is_up and status.restart_count >= MAX_RESTARTS:
                told = f"does not stay up: {exit_reason(status)}, {status.restart_count} restarts"
                return Readiness(True, failure=f"container {action.name} {told}")
            until = time.monotonic() + left_s if is_up else None
            verdict = self._follow(operation, action, probes, stays=is_up, until=until)
            if verdict.failure or verdict.state == "exited":
                return verdict

    def _follow(
        self,
        operation: Operation,
        action: AwaitContainer,
        probes: _Probes,
        *,
        stays: bool = False,
        until: float | None = None,
    ) -> Readiness:
        """Follow a container until something is certain; where it `stays`, until a failure, its end or the moment `until`."""
        while True:
            state, verdict = "gone", WAIT
            try:
                for status in self.engine.watch(action.name, until=until):
                    state = status.state
                    probes.tell(status)
                    verdict = self._judge(operation, action, status)
                    if verdict.failure or (verdict.done and (not stays or state == "exited")):
                        return verdict
            except NotFound:
                state = "gone"
            if state not in ("running", "restarting", "paused"):
                return Readiness(True, failure=f"container {action.name} is {state}")
            if until is not None and time.monotonic() >= until:
                return verdict
            # Its monitor went away and another one took over; watch that one.
            time.sleep(REWATCH_S)

    def _judge(self, operation: Operation, action: AwaitContainer, status: ContainerStatus) -> Readiness:
        return judge(
            status,
            action.condition,
            name=action.name,
            service=operation.service,
            one_shot=action.one_shot,
            is_on_trial=action.monitor_s is not None,
        )

    # ------------------------------------------------------------------------------------------- undo

    def _undo(self) -> None:
        """Take back what this run made and could not complete. A failure here is told and does not hide the first one."""
        actions = [operation.action for operation in self.plan if operation.id in self.done]
        started = {action.name for action in actions if isinstance(action, StartContainer)}
        for operation in self.plan:
            action = operation.action
            if operation.id not in self.done or not isinstance(action, CreateContainer) or action.replaces is not None:
                continue
            if action.spec.name not in started:
                self._take_back(
                    operation,
                    "container",
                    action.spec.name,
                    _unless_gone(self.engine.remove_container, action.spec.name, force=True, volumes=True),
                )
        for operation in self.plan:
            action = operation.action
            if operation.id not in self.done:
                continue
            if isinstance(action, CreateNetwork):
                act = _unless_gone(self.engine.remove_network, action.spec.name)
                self._take_back(operation, "network", action.spec.name, act)
            elif isinstance(action, CreateVolume):
                act = _unless_gone(self.engine.remove_volume, action.spec.name)
                self._take_back(operation, "volume", action.spec.name, act)

    def _take_back(self, operation: Operation, kind: Kind, name: str, act: Callable[[], object]) -> None:
        try:
            act()
        except Conflict:
            return  # in use by a container that did start
        except (UmiakError, OSError) as error:
            self.tell(operation, kind, name, "warning", message=f"cannot undo: {error}")
        else:
            self.tell(operation, kind, name, "removed", undone=True)


class _Probes:
    """Tells each run of a health test once, and each restart while something is waited for."""

    def __init__(self, run: _Run, operation: Operation) -> None:
        self.run = run
        self.operation = operation
        self.count = 0
        self.told: tuple[ProbeResult, ...] = ()
        self.restarts = 0

    def tell(self, status: ContainerStatus) -> None:
        if status.restart_count > self.restarts:
            self.restarts = status.restart_count
            message = f"{exit_reason(status)}, {restarted(status)}"
            self.run.tell(self.operation, "container", _name(self.operation), "waiting", message=message)
        log = status.health.log if status.health else ()
        for probe in log:
            if probe not in self.told:
                self.count += 1
                data = {"exit": probe.exit_code, "ms": round((probe.end - probe.start) * 1000), "output": probe.output}
                self.run.tell(self.operation, "probe", _name(self.operation), "", probe=data, number=self.count)
        self.told = tuple(log)


def _aspect(operation: Operation, error: UmiakError) -> str:
    """The attribute of the service that a failure is most likely about, as a suffix of its path."""
    if isinstance(operation.action, AwaitContainer):
        return ".healthcheck" if operation.action.condition == "service_healthy" else ""
    if isinstance(operation.action, RunHook):
        return f".{operation.action.point}"
    if not isinstance(operation.action, StartContainer):
        return ""
    if error.exit_code in (126, 127):
        return ".command"
    return ".ports" if isinstance(error, Conflict) else ""


def build_request(build: Build, session: Session) -> BuildRequest:
    """What the engine is asked, for a build section. Builds of one run share their steps through `session`."""
    from engine.images.build.request import BuildRequest
    from engine.images.build.secrets import Secret
    from engine.types import StepOptions

    return BuildRequest(
        context=build.context,
        dockerfile=build.dockerfile,
        dockerfile_inline=build.dockerfile_inline,
        args=build.args,
        labels=build.labels,
        tags=(build.reference, *build.tags),
        target=build.target,
        no_cache=build.no_cache,
        no_cache_filter=build.no_cache_filter,
        pull=build.pull,
        platforms=build.platforms,
        named_contexts=build.contexts,
        secrets={name: Secret(secret.file, secret.text) for name, secret in build.secrets.items()},
        ssh=build.ssh,
        entitlements=build.entitlements,
        options=build.options or StepOptions(),
        cache_from=build.cache_from,
        cache_to=build.cache_to,
        session=session,
    )


def _name(operation: Operation) -> str:
    return operation.action.name if isinstance(operation.action, AwaitContainer) else ""


def _unless_gone(act: Callable[..., object], *args: Any, **options: Any) -> Callable[[], None]:
    """An act on something that may have gone already, which is as good."""

    def run() -> None:
        try:
            act(*args, **options)
        except NotFound:
            pass

    return run


_PROVIDING = {"up": ("providing", "provided"), "down": ("removing", "removed"), "stop": ("stopping", "stopped")}

_ACTIONS: Mapping[type, Callable[[_Run, Operation, Any], None]] = {
    BuildImage: _Run.build,
    PullImage: _Run.pull,
    PushImage: _Run.push,
    RunProvider: _Run.run_provider,
    CreateNetwork: _Run.create_network,
    RemoveNetwork: _Run.remove_network,
    CreateVolume: _Run.create_volume,
    RemoveVolume: _Run.remove_volume,
    RemoveImage: _Run.remove_image,
    CreateContainer: _Run.create_container,
    RenameContainer: _Run.rename_container,
    RetireContainer: _Run.retire_container,
    StartContainer: _Run.start_container,
    StopContainer: _Run.stop_container,
    RunHook: _Run.run_hook,
    PauseContainer: _Run.pause_container,
    UnpauseContainer: _Run.unpause_container,
    RemoveContainer: _Run.remove_container,
    AwaitContainer: _Run.await_container,
    Delay: _Run.delay,
}
