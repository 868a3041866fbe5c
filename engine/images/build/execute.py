"""Carry out what the cache does not have: each needed stage from its last cached step on, independent stages in parallel."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from threading import Lock

from engine.errors import NotFound
from engine.images.build.cache import BuildCache, Built, Made
from engine.images.build.cancel import Cancelled, Stoppable
from engine.images.build.context import explained
from engine.images.build.events import BuildEvent, BuildEventKind
from engine.images.build.graph import stages_in_order
from engine.images.build.parse import located
from engine.images.build.perform import Performer, Tools
from engine.images.build.work import CopyWork, FromContext, FromStage, SolvedStage, Source, Step
from engine.images.build.workspace import date_back, workspace
from engine.images.config import timestamp

_TURN_POLL_S = 0.1


class Executor:
    """Carries out solved stages.

    A cancelled build stops before its next step, at the next output, and at once where the runner is `Stoppable`.
    """

    def __init__(
        self,
        stages: dict[int, SolvedStage],
        cache: BuildCache,
        tools: Tools,
        progress: Callable[[BuildEvent], None],
    ) -> None:
        self.stages = stages
        self.cache = cache
        self.tools = tools
        self.progress = progress
        self._performer = Performer(
            tools, self._layers_of, lambda step, piece: self._tell(step, "output", output=piece)
        )
        self._results: dict[int, Future[Built]] = {}
        self._told: set[tuple[object, str]] = set()
        self._lock = Lock()
        self._cancellation = tools.cancellation
        if isinstance(tools.runner, Stoppable):
            self._cancellation.on_cancel(tools.runner.stop)

    def run(self, target: int) -> Built:
        """Carry out a stage and what it needs."""
        steps = [step for stage in self.stages.values() for step in stage.steps]
        self.cache.import_steps(steps)
        known = self.cache.known(steps)
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
        """The stages in which something is left to do, each after those that it uses."""
        uses = {index: self._used(stage, known) for index, stage in self.stages.items()}
        return stages_in_order(uses, target)

    def _used(self, stage: SolvedStage, known: dict[str, str]) -> set[int]:
        """The stages that the steps still to be done of a stage use."""
        left = stage.steps[self._first_unknown(stage, known) :]
        return {used for step in left for used in step.stages_used}

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
        known = self.cache.known(step for step in stage.steps if step.work is not None)
        while known:
            position = self._first_unknown(stage, known)
            if position == 0:
                break
            key = stage.steps[position - 1].key
            built = self.cache.load(known.pop(key))
            is_last = all(step.work is None for step in stage.steps[position:])
            if built is not None and (is_last or self._pinned(built)):
                return built, position
        built = Built(stage.base.layers if stage.base else (), ())
        if any(step.work is not None for step in stage.steps):
            self.cache.refs(built.layers)
        return built, 0

    def _pinned(self, built: Built) -> bool:
        """Pin the layers that the next step is carried out on; False where one has just been removed."""
        try:
            self.cache.refs(built.layers)
        except NotFound:
            return False
        return True

    def _once(self, step: Step, before: Built) -> Built:
        """Carry out a step unless another stage, or another build of the same session, has just done the same one."""
        with self._turn(step.key):
            image_id = self.cache.fresh(step.key)
            built = self.cache.load(image_id) if image_id else None
            if built is not None and self._pinned(built):
                self._tell(step, "cached", once=True)
                return built
            return self._timed(step, before)

    @contextmanager
    def _turn(self, key: str) -> Iterator[None]:
        lock = self.cache.session.lock(key)
        while not lock.acquire(timeout=_TURN_POLL_S):
            self._cancellation.check()
        try:
            yield
        finally:
            lock.release()

    def _timed(self, step: Step, before: Built) -> Built:
        self._cancellation.check()
        self._tell(step, "started")
        start = time.monotonic()
        try:
            with _explained(step):
                layers = self._layers_after(step, before.layers)
        except BaseException:
            self._tell(step, "failed", seconds=time.monotonic() - start)
            raise
        built = Built(layers, (*before.made, self._made(step, layers != before.layers)))
        self.cache.add(step.key, built)
        self._tell(step, "done", seconds=time.monotonic() - start)
        return built

    def _made(self, step: Step, has_layer: bool) -> Made:
        epoch = self.tools.epoch
        return Made(timestamp(time.time() if epoch is None else epoch), step.created_by, has_layer)

    def _layers_after(self, step: Step, layers: tuple[str, ...]) -> tuple[str, ...]:
        if isinstance(step.work, CopyWork) and step.work.link_key is not None:
            return (*layers, *self._linked(step, step.work.link_key, layers))
        return (*layers, *self._layer(step, self._layer_dirs(layers)))

    def _linked(self, step: Step, key: str, layers: tuple[str, ...]) -> tuple[str, ...]:
        """The layer of a `--link`: made on nothing, so that it serves on top of whatever lies below."""
        with self._turn(key):
            image_id = self.cache.find(key, refresh=step.refresh)
            built = self.cache.load(image_id) if image_id else None
            if built is None or not self._pinned(built):
                made = self._layer(step, [], self._layer_dirs(layers))
                built = Built(made, (self._made(step, bool(made)),))
                self.cache.add(key, built)
        return built.layers

    def _layer(self, step: Step, lower: list[str], owners: list[str] | None = None) -> tuple[str, ...]:
        """Do what a step says in a fresh upper directory, and make a layer of it if anything was written."""
        with workspace(self.tools.directory, lower) as space:
            self._performer.perform(step, lower, space, owners)
            if not os.listdir(space.upper):
                return ()
            if self.tools.epoch is not None:
                date_back(space.upper, self.tools.epoch)
            return (self.cache.adopt(space.upper),)

    def _layer_dirs(self, layers: Sequence[str]) -> list[str]:
        """The layers' directories, lowest first. Of one that occurs twice the upper counts; overlayfs would refuse both."""
        distinct = list(dict.fromkeys(reversed(layers)))
        return [self.cache.store.layer_dir(diff_id) for diff_id in reversed(distinct)]

    def _layers_of(self, source: Source) -> tuple[list[str], str]:
        """The layer directories of a stage or an image, and what to call it."""
        assert not isinstance(source, FromContext)
        if isinstance(source, FromStage):
            layers, name = self._stage(source.stage).layers, f"stage {self.stages[source.stage].name}"
        else:
            layers, name = source.image.layers, f"image {(*source.image.tags, source.image.id)[0]}"
        self.cache.refs(layers)
        return self._layer_dirs(layers), name

    def _stage(self, index: int) -> Built:
        """The result of another stage, awaited. One whose cache entry has just been removed by another command is built here."""
        return self._results[index].result() if index in self._results else self._build(index)

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
