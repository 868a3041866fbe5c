"""`develop.watch`: what a change of a file on this host asks of the services, and doing it.

`Rule` tells whether a path concerns it; `due` turns a batch of changed paths into what each service needs (pure); `Watcher` does
it. An error is told and ends nothing: the next change is a new chance.
"""

from __future__ import annotations

import itertools
import os
import posixpath
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import TYPE_CHECKING

from engine.errors import InvalidInput, NotFound, UmiakError
from engine.events import Event
from engine.images.build.context import ignore_rules
from engine.images.build.ignore import IgnoreRules, compile_rules

if TYPE_CHECKING:
    from watchfiles.main import FileChange

    from compose.desired import Desired
    from compose.model.deploy import Hook, Trigger
    from compose.model.project import Project
    from compose.model.service import Service
    from compose.orchestrator import Orchestrator
    from engine.types import ContainerInfo

DEBOUNCE_MS = 200
"""Changes that come within this time of each other are one batch."""

QUIET_MS = 100
"""After this time without a change we hear that there was none: the first time we so learn that watching has begun."""

TEMPORARY = (
    *("**/.git", "**/.idea", "**/*~", "**/.*.swp", "**/.*.swx", "**/4913", "**/.#*", "**/#*#"),
    *("**/.*.kate-swp", "**/___jb_old___", "**/___jb_tmp___", "**/*-go-tmp-umask"),
)
"""What is never of interest: git's own files and those that editors make while they save."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of a service: what it is about and what it asks for."""

    service: str
    path: str
    action: str
    target: str = ""
    exec: Hook | None = None
    initial_sync: bool = False
    ignored: IgnoreRules = field(default_factory=IgnoreRules)
    included: IgnoreRules = field(default_factory=IgnoreRules)
    context: str = ""
    """Directory that `.dockerignore` is relative to."""
    dockerignore: IgnoreRules = field(default_factory=IgnoreRules)

    @property
    def syncs(self) -> bool:
        """Whether changed files are copied into containers."""
        return self.action.startswith("sync")

    def concerns(self, path: str) -> bool:
        """Whether a change of the path is of interest."""
        below = _below(self.path, path)
        if below is None or self.ignored.ignores(below):
            return False
        in_context = _below(self.context, path) if self.context else None
        if in_context is not None and self.dockerignore.ignores(in_context):
            return False
        return not self.included.patterns or self.included.ignores(below)

    def inside(self, path: str) -> str:
        """Where a path goes in a container."""
        return posixpath.normpath(posixpath.join(self.target, _below(self.path, path) or "."))


@dataclass(slots=True)
class Due:
    """What a batch of changes asks of one service: files by their place in the container, and what follows."""

    rebuild: bool = False
    restart: bool = False
    files: dict[str, str] = field(default_factory=dict)
    execs: list[Hook] = field(default_factory=list)


def due(rules: Iterable[Rule], paths: Collection[str]) -> dict[str, Due]:
    """What changed paths ask of each service. A rebuild makes all else needless."""
    found: dict[str, Due] = {}
    for rule in rules:
        concerned = sorted(path for path in paths if rule.concerns(path))
        if not concerned:
            continue
        wanted = found.setdefault(rule.service, Due())
        wanted.rebuild |= rule.action == "rebuild"
        wanted.restart |= rule.action in ("restart", "sync+restart")
        if rule.syncs:
            wanted.files |= {rule.inside(path): path for path in concerned}
        if rule.action == "sync+exec" and rule.exec is not None and rule.exec not in wanted.execs:
            wanted.execs.append(rule.exec)
    return found


def rules_of(project: Project, services: Sequence[str], warn: Callable[[str], None]) -> list[Rule]:
    """The rules of the services named (none: all). Raise InvalidInput where there is none, or one cannot be followed."""
    found = [
        rule
        for name, service in project.services.items()
        if service.develop and (not services or name in services)
        for position, trigger in enumerate(service.develop.watch)
        for rule in _rules(project, service, position, trigger, warn)
    ]
    if not found:
        which = f"none of {', '.join(services)}" if services else "no service"
        raise InvalidInput(f"{which} says what to watch", hint="add a develop.watch section to a service")
    return found


def _rules(
    project: Project, service: Service, position: int, trigger: Trigger, warn: Callable[[str], None]
) -> Iterator[Rule]:
    place = str(project.place(("services", service.name, "develop", "watch", position)) or "")
    if trigger.action == "rebuild" and service.build is None:
        raise InvalidInput(
            f'cannot watch {trigger.path}: service "{service.name}" has nothing to rebuild',
            hint="give it a build section, or use action sync or restart",
            place=place,
        )
    if not os.path.exists(trigger.path):
        raise NotFound(f"cannot watch {trigger.path}: no such file or directory", hint="create it first", place=place)
    if trigger.action.startswith("sync") and (bind := _bind_over(service, trigger.path)):
        warn(f"{place}: {trigger.path} is not watched: it is in the containers already, by the bind mount of {bind}")
        return
    build = service.build
    context = build.context if build and build.context and os.path.isdir(build.context) else ""
    dockerfile = os.path.join(context, (build.dockerfile if build else None) or "Dockerfile")
    if trigger.action == "rebuild" and os.path.isfile(dockerfile):
        yield Rule(service.name, dockerfile, "rebuild")
    yield Rule(
        service=service.name,
        path=trigger.path.rstrip("/") or "/",
        action=trigger.action,
        target=trigger.target or "",
        exec=trigger.exec if trigger.action == "sync+exec" else None,
        initial_sync=trigger.initial_sync and trigger.action in ("sync", "sync+restart"),
        ignored=compile_rules((place, pattern) for pattern in (*TEMPORARY, *trigger.ignore)),
        included=compile_rules((place, pattern) for pattern in trigger.include),
        context=context,
        dockerignore=ignore_rules(context, dockerfile) if context else IgnoreRules(),
    )


def _bind_over(service: Service, path: str) -> str:
    """The source of a bind mount that shows the path in the containers anyway, or ""."""
    binds = (volume.source for volume in service.volumes if volume.type == "bind" and volume.source)
    return next((source for source in binds if _below(source, path) is not None), "")


def _below(directory: str, path: str) -> str | None:
    """A path as seen from a directory: "." for itself, None where it is outside."""
    if path == directory:
        return "."
    prefix = directory.rstrip("/") + "/"
    return path.removeprefix(prefix) if path.startswith(prefix) else None


class Watcher:
    """Waits for changes and does what they ask for, until `stop`.

    `renewed` is told of each service that was started anew. With `prune` the image that a rebuild replaced is removed. When one
    of the `files` that the project is made of changes, `reload` gives what they say now, and the services named are brought to that.
    """

    def __init__(
        self,
        orchestrator: Orchestrator,
        desired: Desired,
        rules: Sequence[Rule],
        *,
        services: Sequence[str] = (),
        files: Collection[str] = (),
        reload: Callable[[], tuple[Desired, list[Rule]]] | None = None,
        renewed: Callable[[str], None] = lambda _service: None,
    ) -> None:
        self._orchestrator = orchestrator
        self._desired = desired
        self._rules = rules
        self._services = services
        self._files = frozenset(files)
        self._reload = reload
        self.prune = True
        self.renewed = renewed
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Let `run` return, soon; safe in a signal handler."""
        self._stopped.set()

    def run(self) -> None:
        """Sync what is to be synced at once; then follow changes, batch by batch."""
        following = _Following(self._rules, self._files, self._stopped)
        try:
            self._begin()
            while self._take_until_redefined(following):
                # The new one begins before the old one ends, so that no change is missed in between.
                before, following = following, _Following(self._rules, self._files, self._stopped)
                late = before.end()
                self._bring_up()
                self._begin()
                self.take(late)
        finally:
            following.end()

    def _begin(self) -> None:
        self._initial_sync()
        self._tell("enabled", "Watch enabled")

    def _take_until_redefined(self, following: _Following) -> bool:
        """Do what changes ask for, until the project says something else (True) or `stop`."""
        for paths in following:
            if paths & self._files and self._take_definition():
                return True
            self.take(paths)
        return False

    def _take_definition(self) -> bool:
        """Read the project again; False, with an error told, where it cannot be read."""
        if self._reload is None:
            return False
        try:
            self._desired, self._rules = self._reload()
        except (UmiakError, OSError) as error:
            self._tell("error", f"the project as it is now cannot be read: {error}")
            return False
        return True

    def _bring_up(self) -> None:
        """Bring the services to what the project says now."""
        from compose.verdicts import UpOptions

        try:
            plan = self._orchestrator.up(self._desired, UpOptions(services=tuple(self._services)))
        except (UmiakError, OSError) as error:
            self._tell("error", f"the project as it is now cannot be brought up: {error}")
            return
        for service in dict.fromkeys(operation.service for operation in plan if operation.kind == "StartContainer"):
            self.renewed(service)
        self._tell("reloaded", "the project has changed: watching it as it is now")

    def take(self, paths: Collection[str]) -> None:
        """Do what a batch of changes asks for, a service at a time."""
        for service, wanted in due(self._rules, paths).items():
            self._safely(service, lambda service=service, wanted=wanted: self._do(service, wanted))  # type: ignore[misc]

    def _initial_sync(self) -> None:
        for rule in self._rules:
            if rule.initial_sync:
                files = {rule.inside(path): path for path in files_below(rule.path) if rule.concerns(path)}
                self._safely(rule.service, lambda rule=rule, files=files: self._sync(rule.service, files))  # type: ignore[misc]

    def _safely(self, service: str, act: Callable[[], None]) -> None:
        try:
            act()
        except (UmiakError, OSError) as error:
            hint = getattr(error, "hint", None)
            self._tell("error", f"{service}: {error}{f' ({hint})' if hint else ''}", service)

    def _do(self, service: str, wanted: Due) -> None:
        if wanted.rebuild:
            self._rebuild(service)
            return
        if wanted.files:
            self._sync(service, wanted.files)
        for hook in wanted.execs:
            self._exec(service, hook)
        if wanted.restart:
            self._orchestrator.restart(self._desired.project, [service])
            self.renewed(service)
            self._tell("restarted", f"{service} restarted", service)

    def _rebuild(self, service: str) -> None:
        """Build the image and replace the containers; the image that was, where nothing else needs it, is removed."""
        from compose.verdicts import UpOptions

        self._tell("rebuilding", f"{service}: rebuilding", service)
        before = {container.image_id for container in self._replicas(service)}
        self._orchestrator.up(self._desired, UpOptions(services=(service,), build=True, no_deps=True))
        after = self._replicas(service)
        self.renewed(service)
        for image_id in before - {container.image_id for container in after} if self.prune else ():
            self._remove_if_dangling(image_id)
        self._tell("rebuilt", f"{service} rebuilt", service)

    def _remove_if_dangling(self, image_id: str) -> None:
        images = self._orchestrator.engine.images
        try:
            if not images.resolve(image_id).tags:
                images.remove(image_id)
        except UmiakError:
            return  # it has gone already, or something else uses it

    def _sync(self, service: str, files: Mapping[str, str]) -> None:
        from engine.transfer import Tree, remove, send

        present = {inside: path for inside, path in files.items() if os.path.lexists(path)}
        if not files:
            return
        for container in self._replicas(service):
            with (
                Tree.of_host() as host,
                self._orchestrator.engine.files(container.id, writable=True) as tree,
            ):
                for inside in files.keys() - present.keys():
                    remove(tree, inside)
                send(host, _leaves(present), tree, owner=(0, 0))
        number = len(files)
        self._tell("synced", f"{service}: synced {number} {'path' if number == 1 else 'paths'}", service, paths=number)

    def _exec(self, service: str, hook: Hook) -> None:
        from compose.hooks import outcome

        environment = [f"{key}={value}" for key, value in hook.environment.items() if value is not None]
        for container in self._replicas(service):
            session = self._orchestrator.exec(
                container,
                hook.command or (),
                environment=environment,
                working_dir=hook.working_dir,
                user=hook.user,
                privileged=hook.privileged,
            )
            code, output = outcome(session)
            if code != 0:
                last = output.strip().rpartition("\n")[2]
                message = f"{container.name}: {' '.join(hook.command or ())} exited with code {code}: {last}"
                self._tell("error", message, service)
        self._tell("executed", f"{service}: {' '.join(hook.command or ())} done", service)

    def _replicas(self, service: str) -> list[ContainerInfo]:
        return self._orchestrator.containers(self._desired.project, [service])

    def _tell(self, state: str, message: str, service: str = "", **data: int) -> None:
        event = Event("watch", state, project=self._desired.project, service=service, data={"message": message, **data})
        self._orchestrator.sink(event)


class _Following:
    """Follows what rules are about, and single `files`, from the moment that it is made to its `end` or until `stopped`.

    An iteration gives the changed paths, batch by batch; a batch may be empty.
    """

    def __init__(self, rules: Sequence[Rule], files: Collection[str], stopped: threading.Event) -> None:
        import watchfiles

        directories = _outermost({rule.path for rule in rules if os.path.isdir(rule.path)})
        self._alone = _Files({*files, *(rule.path for rule in rules if not os.path.isdir(rule.path))})
        self._changes = watchfiles.watch(
            *(directories or self._alone.directories),
            recursive=bool(directories),
            watch_filter=lambda _change, path: bool(directories) and any(rule.concerns(path) for rule in rules),
            debounce=DEBOUNCE_MS,
            stop_event=stopped,
            raise_interrupt=False,
            ignore_permission_denied=True,
            rust_timeout=QUIET_MS,
            yield_on_timeout=True,
        )
        self._alone.begin()
        self._first = next(self._changes, set())  # from here on no change is missed

    def __iter__(self) -> Iterator[set[str]]:
        for batch in itertools.chain((self._first,), self._changes):
            yield self._paths(batch)

    def end(self) -> set[str]:
        """Stop; return what has changed since the last batch."""
        last = self._paths(next(self._changes, set()))
        self._changes.close()
        self._alone.end()
        return last

    def _paths(self, batch: set[FileChange]) -> set[str]:
        added = (path for change, path in batch if change.name == "added")
        # What was written into a new directory before it was followed is told by nobody.
        return self._alone.changed().union((path for _, path in batch), *(files_below(path) for path in added))


def _outermost(directories: Collection[str]) -> list[str]:
    """The directories to follow with all that is in them."""
    return sorted(path for path in directories if not any(_below(o, path) not in (None, ".") for o in directories))


class _Files:
    """Follows single files, by their directories but not what is in these, because editors put another file in a file's place."""

    def __init__(self, paths: Collection[str]) -> None:
        self.directories = sorted({os.path.dirname(path) for path in paths})
        self._paths = frozenset(paths)
        self._over = threading.Event()
        self._begun = threading.Event()
        self._changed: SimpleQueue[str] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def begin(self) -> None:
        """Follow them; return once no change is missed any more."""
        if self._paths:
            self._thread.start()
            self._begun.wait()

    def end(self) -> None:
        """Stop following."""
        self._over.set()
        if self._paths:
            self._thread.join()

    def changed(self) -> set[str]:
        """The files that have changed since the last time."""
        return {self._changed.get_nowait() for _ in range(self._changed.qsize())}

    def _run(self) -> None:
        import watchfiles

        try:
            for batch in watchfiles.watch(
                *self.directories,
                recursive=False,
                watch_filter=lambda _change, path: path in self._paths,
                debounce=DEBOUNCE_MS,
                stop_event=self._over,
                raise_interrupt=False,
                rust_timeout=QUIET_MS,
                yield_on_timeout=True,
            ):
                self._begun.set()
                for _, path in batch:
                    self._changed.put(path)
        finally:
            self._begun.set()


def files_below(path: str) -> Iterator[str]:
    """All files and links below a path, or the path itself where it is one."""
    if not os.path.isdir(path) or os.path.islink(path):
        yield path
    for directory, folders, files in os.walk(path):
        links = (name for name in folders if os.path.islink(f"{directory}/{name}"))
        yield from (f"{directory}/{name}" for name in (*files, *links))


def _leaves(present: Mapping[str, str]) -> list[tuple[str, str]]:
    """Host path and place inside of what can be sent by itself: a directory comes with the files in it."""
    return [(path, inside) for inside, path in present.items() if os.path.islink(path) or not os.path.isdir(path)]
