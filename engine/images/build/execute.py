"""Carry out what the cache does not have: each needed stage from its last cached step on, independent stages in parallel."""

from __future__ import annotations

import os
import stat
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from engine.errors import InvalidInput, NotFound, UmiakError
from engine.images.build import addtar
from engine.images.build.cache import BuildCache, Built, Made
from engine.images.build.cancel import Cancellation, Cancelled, Stoppable
from engine.images.build.context import Context, Match, Tree, explained, has_wildcard
from engine.images.build.copy import Copier, CopyOptions
from engine.images.build.events import BuildEvent, BuildEventKind
from engine.images.build.parse import located
from engine.images.build.rootfs import mounted
from engine.images.build.work import (
    CopyWork,
    FromContext,
    FromStage,
    MakeDirectoryWork,
    RunWork,
    SolvedStage,
    Step,
)
from engine.images.build.workspace import Workspace, date_back, remove_mount_points, workspace
from engine.images.config import timestamp

if TYPE_CHECKING:
    from engine.ports import BuildRunner

LAST_LINES = 20
_LAST_BYTES = 16 << 10


class BuildFailed(UmiakError):
    """A RUN command ended with something else than 0. `output` is the end of what it wrote."""

    def __init__(self, message: str, *, output: str, hint: str | None = None, place: str | None = None) -> None:
        super().__init__(message, hint=hint, place=place)
        self.output = output


class Executor:
    """Carries out solved stages. `epoch` is SOURCE_DATE_EPOCH, the time that everything made is dated to.

    A cancelled build stops before its next step, at the next output, and at once where the runner is `Stoppable`.
    """

    def __init__(
        self,
        stages: dict[int, SolvedStage],
        cache: BuildCache,
        runner: BuildRunner,
        context: Context,
        directory: str,
        progress: Callable[[BuildEvent], None],
        epoch: int | None,
        cancellation: Cancellation,
    ) -> None:
        self.stages = stages
        self.cache = cache
        self.runner = runner
        self.context = context
        self.directory = directory
        self.progress = progress
        self.epoch = epoch
        self._results: dict[int, Future[Built]] = {}
        self._told: set[tuple[object, str]] = set()
        self._key_locks: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()
        self._cancellation = cancellation
        if isinstance(runner, Stoppable):
            cancellation.on_cancel(runner.stop)

    def run(self, target: int) -> Built:
        """Carry out a stage and what it needs."""
        known = self.cache.known(step.key for stage in self.stages.values() for step in stage.steps)
        needed = self._needed(target, known)
        if len(needed) == 1:
            return self._build(target)
        self._results = {index: Future() for index in needed}
        with ThreadPoolExecutor(min(len(needed), os.cpu_count() or 1), thread_name_prefix="build") as pool:
            running = [pool.submit(self._fill, index) for index in needed]
            try:
                wait(running)
            except BaseException:
                self._cancellation.cancel()
                raise
        return self._outcome(needed, target)

    def _needed(self, target: int, known: dict[str, str]) -> list[int]:
        """The stages in which something is left to do, in the file's order, which is one of dependency."""
        found: set[int] = set()
        pending = [target]
        while pending:
            index = pending.pop()
            if index in found:
                continue
            found.add(index)
            for step in self.stages[index].steps[self._first_unknown(self.stages[index], known) :]:
                if isinstance(step.work, CopyWork) and isinstance(step.work.source, FromStage):
                    pending.append(step.work.source.stage)
        return sorted(found)

    @staticmethod
    def _first_unknown(stage: SolvedStage, known: dict[str, str]) -> int:
        """The index of the step to go on with."""
        for index in range(len(stage.steps), 0, -1):
            if stage.steps[index - 1].work is not None and stage.steps[index - 1].key in known:
                return index
        return 0

    def _fill(self, index: int) -> None:
        """Build one stage in a thread of the pool. A failure stops the other threads."""
        try:
            self._results[index].set_result(self._build(index))
        except BaseException as error:
            self._cancellation.cancel()
            self._results[index].set_exception(error)

    def _outcome(self, needed: Sequence[int], target: int) -> Built:
        errors = [error for index in needed if (error := self._results[index].exception()) is not None]
        for error in errors:
            if not isinstance(error, Cancelled):
                raise error
        return self._results[target].result()

    def _build(self, index: int) -> Built:
        stage = self.stages[index]
        built, position = self._cached(stage)
        for step in stage.steps[:position]:
            if step.work is not None:
                self._tell(step, "cached", once=True)
        for step in stage.steps[position:]:
            if step.work is not None:
                with located(step.place):
                    built = self._once(step, built)
        return built

    def _cached(self, stage: SolvedStage) -> tuple[Built, int]:
        """The result of the last cached step, and the index of the step after it."""
        known = self.cache.known(step.key for step in stage.steps if step.work is not None)
        while known:
            position = self._first_unknown(stage, known)
            if position == 0:
                break
            key = stage.steps[position - 1].key
            built = self.cache.load(known.pop(key))
            if built is not None:
                return built, position
        return Built(stage.base.layers if stage.base else (), ()), 0

    def _once(self, step: Step, before: Built) -> Built:
        """Carry out a step unless another stage has just done the same one."""
        with self._lock:
            lock = self._key_locks.setdefault(step.key, threading.Lock())
        with lock:
            image_id = self.cache.fresh(step.key)
            built = self.cache.load(image_id) if image_id else None
            if built is not None:
                self._tell(step, "cached", once=True)
                return built
            return self._timed(step, before)

    def _timed(self, step: Step, before: Built) -> Built:
        self._cancellation.check()
        self._tell(step, "started")
        start = time.monotonic()
        try:
            layers = self._work(step, before.layers)
        except BaseException:
            self._tell(step, "failed", seconds=time.monotonic() - start)
            raise
        made = Made(
            timestamp(time.time() if self.epoch is None else self.epoch), step.created_by, layers != before.layers
        )
        built = Built(layers, (*before.made, made))
        self.cache.add(step.key, built)
        self._tell(step, "done", seconds=time.monotonic() - start)
        return built

    def _work(self, step: Step, layers: tuple[str, ...]) -> tuple[str, ...]:
        """Do what a step says in a fresh upper directory, and make a layer of it if anything was written."""
        lower = self._layer_dirs(layers)
        with _explained(step), workspace(self.directory, lower) as space:
            match step.work:
                case RunWork():
                    self._run(step, step.work, lower, space)
                    remove_mount_points(space.upper, lower)
                case CopyWork():
                    self._copy(step.work, lower, space)
                case MakeDirectoryWork():
                    self._make_directory(step.work, lower, space)
            if not os.listdir(space.upper):
                return layers
            if self.epoch is not None:
                date_back(space.upper, self.epoch)
            return (*layers, self.cache.adopt(space.upper))

    def _layer_dirs(self, layers: Sequence[str]) -> list[str]:
        """The layers' directories, lowest first. Of one that occurs twice the upper counts; overlayfs would refuse both."""
        distinct = list(dict.fromkeys(reversed(layers)))
        return [self.cache.store.layer_dir(diff_id) for diff_id in reversed(distinct)]

    def _run(self, step: Step, work: RunWork, lower: list[str], space: Workspace) -> None:
        tail: deque[bytes] = deque()
        size = 0

        def output(piece: bytes) -> None:
            # An empty piece is the runner asking whether to go on.
            nonlocal size
            self._cancellation.check()
            if piece:
                tail.append(piece)
                size += len(piece)
                while size - len(tail[0]) > _LAST_BYTES:
                    size -= len(tail.popleft())
                self._tell(step, "output", output=piece)

        code = self.runner(
            layer_dirs=lower or [space.empty],
            upper=space.upper,
            work=space.work,
            argv=work.argv,
            env=work.env,
            cwd=work.cwd,
            user=work.user,
            output=output,
        )
        self._cancellation.check()
        if code != 0:
            raise _run_failed(step, code, b"".join(tail))

    def _copy(self, work: CopyWork, lower: list[str], space: Workspace) -> None:
        with ExitStack() as stack:
            root = Tree(stack.enter_context(mounted(lower, space.empty, space.upper, space.work)))
            source, matches = self._source(work, space, stack)
            owner = None if work.chown is None else owner_in(root, work.chown)
            copier = stack.enter_context(Copier(root, CopyOptions(owner, work.mode)))
            if len(matches) > 1 and not work.into_directory:
                _refuse_several(root, work.destination, source, matches)
            for match in matches:
                if work.unpacks and addtar.is_archive(source, match.path):
                    addtar.unpack(source, match.path, copier, work.destination)
                else:
                    copier.copy(source, match, work.destination, into_directory=work.into_directory)
            for name, text in work.texts:
                copier.write_file(text.encode(), work.destination, name, into_directory=work.into_directory)

    def _source(self, work: CopyWork, space: Workspace, stack: ExitStack) -> tuple[Tree, list[Match]]:
        """The tree to copy from, mounted if it is one of layers, and what to copy of it."""
        if isinstance(work.source, FromContext):
            return self.context, list(work.source.matches)
        if isinstance(work.source, FromStage):
            layers = self._stage(work.source.stage).layers
            name = f"stage {self.stages[work.source.stage].name}"
        else:
            layers = work.source.image.layers
            name = f"image {(*work.source.image.tags, work.source.image.id)[0]}"
        tree = Tree(stack.enter_context(mounted(self._layer_dirs(layers), space.empty)))
        matches: list[Match] = []
        for pattern in work.source.patterns:
            found = [match for match in tree.matches(pattern) if tree.lstat(match.path) is not None]
            if not found and not has_wildcard(pattern):
                raise NotFound(
                    f"COPY {pattern}: no such file in {name}", hint="paths count from the root of that file system"
                )
            matches += found
        return tree, matches

    def _stage(self, index: int) -> Built:
        """The result of another stage, awaited. One whose cache entry has just been removed by another command is built here."""
        return self._results[index].result() if index in self._results else self._build(index)

    def _make_directory(self, work: MakeDirectoryWork, lower: list[str], space: Workspace) -> None:
        with mounted(lower, space.empty, space.upper, space.work) as fd:
            root = Tree(fd)
            owner = owner_in(root, work.user) if work.user else None
            with Copier(root, CopyOptions(owner)) as copier:
                copier.make_directories(root.follow(work.path))

    def _tell(
        self, step: Step, kind: BuildEventKind, *, seconds: float = 0.0, output: bytes = b"", once: bool = False
    ) -> None:
        with self._lock:
            key = (step.place, step.key)
            if once and key in self._told:
                return
            self._told.add(key)
            self.progress(
                BuildEvent(kind, step.stage, step.number, step.total, step.text, str(step.place), seconds, output)
            )


@contextmanager
def _explained(step: Step) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise explained(error, f"cannot carry out {step.text}") from error


def _run_failed(step: Step, code: int, tail: bytes) -> BuildFailed:
    lines = tail.decode("utf-8", "replace").splitlines()[-LAST_LINES:]
    hint = None
    if code == 127:
        hint = "127 means that the command was not found in the image"
    elif code == 137:
        hint = "137 means that it was killed, perhaps for want of memory"
    shown = "".join(f"\n  {line}" for line in lines)
    return BuildFailed(
        f"{step.text}: exit code {code}{shown}", output="\n".join(lines), hint=hint, place=str(step.place)
    )


def _refuse_several(root: Tree, destination: str, source: Tree, matches: Sequence[Match]) -> None:
    """Several files cannot go into one that is not a directory: each would replace the one before."""
    target = root.lstat(root.follow(destination))
    if target is not None and stat.S_ISDIR(target.st_mode):
        return
    found = [source.lstat(match.path) for match in matches]
    if any(item is not None and not stat.S_ISDIR(item.st_mode) for item in found):
        raise InvalidInput(
            f"{len(matches)} files match, and the destination {destination} is not a directory",
            hint=f"end it with a slash: {destination}/",
        )


def owner_in(root: Tree, text: str) -> tuple[int, int]:
    """The numbers of `user[:group]`, looked up in the root's /etc/passwd and /etc/group. A bare number is both."""
    from engine.runtime import users

    try:
        uid, gid, *_ = users.resolve(text, _read(root, "etc/passwd"), _read(root, "etc/group"))
    except users.UserError as error:
        raise InvalidInput(error.message, hint=error.hint) from error
    return uid, uid if text.isascii() and text.isdigit() else gid


def _read(root: Tree, path: str) -> bytes:
    try:
        fd = root.open(root.follow(path))
    except (FileNotFoundError, NotADirectoryError):
        return b""
    with os.fdopen(fd, "rb") as file:
        return file.read(16 << 20)
