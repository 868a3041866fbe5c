"""What containers write, as whole lines of several containers in the order of time. Bytes pass through as they are."""

from __future__ import annotations

import heapq
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from math import inf
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, NamedTuple

from engine.errors import NotFound, UmiakError

if TYPE_CHECKING:
    from engine.facade import Engine
    from engine.types import ContainerInfo, LogRecord

WINDOW_S = 0.04
"""Lines that arrive within this time of each other are put in the order in which they were written."""

MAX_LINE_BYTES = 64 * 1024


class Line(NamedTuple):
    """One line of a container's output, without its line end."""

    time: float
    container: str
    stream: str
    data: bytes


class Ended(NamedTuple):
    """A followed container has ended for good."""

    container: str
    exit_code: int | None
    id: str = ""


class Interrupted(NamedTuple):
    """A note of the caller's own among what is followed: the number of a signal."""

    number: int = 0


class Renewed(NamedTuple):
    """A note that a service's containers were started anew."""

    service: str


class Released(NamedTuple):
    """Whoever held a follower is done."""


Item = Line | Ended | Interrupted | Renewed


class Span(NamedTuple):
    """Which part of the output: the last `tail` lines of each container, and times in seconds since the epoch."""

    tail: int | None = None
    since: float | None = None
    until: float | None = None


def lines(container: str, records: Iterable[LogRecord]) -> Iterator[Line]:
    """Cut records into lines. A line is dated by its first byte; one without an end comes when the output ends."""
    begun: dict[str, tuple[float, bytes]] = {}
    for record in records:
        started, rest = begun.pop(record.stream, (record.time, b""))
        *whole, rest = (rest + record.data).split(b"\n")
        for data in whole:
            yield Line(started, container, record.stream, data.removesuffix(b"\r"))
            started = record.time
        if len(rest) > MAX_LINE_BYTES:
            yield Line(started, container, record.stream, rest)
        elif rest:
            begun[record.stream] = (started, rest)
    for stream, (started, data) in sorted(begun.items()):
        yield Line(started, container, stream, data)


def written(engine: Engine, containers: Sequence[ContainerInfo], span: Span) -> Iterator[Line]:
    """What the containers have written so far."""
    each = (lines(container.name, _records(engine, container, span, follow=False)) for container in containers)
    return heapq.merge(*each, key=lambda line: line.time)


class Follower:
    """Follows containers, each in a thread, into one queue: their lines, and at its end each one's `Ended`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._queue: SimpleQueue[Item | Released] = SimpleQueue()
        self._following = 0

    def follow(self, container: ContainerInfo, span: Span) -> None:
        """Follow one more container."""
        self._following += 1
        threading.Thread(target=self._run, args=(container, span), daemon=True).start()

    def hold(self) -> None:
        """Go on even where nothing is followed, until `release`."""
        self._following += 1

    def release(self) -> None:
        """End what `hold` began."""
        self._queue.put(Released())

    def post(self, note: Interrupted | Renewed) -> None:
        """Put a note among the lines; safe in a signal handler."""
        self._queue.put(note)

    def __iter__(self) -> Iterator[Item]:
        """Lines in the order of time as far as a short window allows; ends when all containers have."""
        while self._following:
            batch = self._batch()
            batch.sort(key=lambda item: item.time if isinstance(item, Line) else inf)
            for item in batch:
                if isinstance(item, (Ended, Released)):
                    self._following -= 1
                if not isinstance(item, Released):
                    yield item

    def _batch(self) -> list[Item | Released]:
        batch = [self._queue.get()]
        closes = time.monotonic() + WINDOW_S
        while (left := closes - time.monotonic()) > 0:
            try:
                batch.append(self._queue.get(timeout=left))
            except Empty:
                break
        return batch

    def _run(self, container: ContainerInfo, span: Span) -> None:
        try:
            for line in lines(container.name, _records(self._engine, container, span, follow=True)):
                self._queue.put(line)
        except (UmiakError, OSError) as error:
            self._queue.put(Line(time.time(), container.name, "stderr", f"umiak: output lost: {error}".encode()))
        self._queue.put(Ended(container.name, self._exit_code(container), container.id))

    def _exit_code(self, container: ContainerInfo) -> int | None:
        """How it ended; of one that another command has removed meanwhile, what the events say."""
        try:
            return self._engine.container(container.id).status.exit_code
        except UmiakError:
            ends = (
                one.attributes["exitCode"]
                for one in self._engine.events(since=container.created_at)
                if one.id == container.id and one.action == "die"
            )
            last = deque(ends, maxlen=1)
            return int(last[0]) if last else None


def _records(engine: Engine, container: ContainerInfo, span: Span, *, follow: bool) -> Iterator[LogRecord]:
    """A container's records; none where it was removed meanwhile."""
    read: Callable[..., Iterator[LogRecord]] = engine.logs
    try:
        yield from read(container.id, follow=follow, tail=span.tail, since=span.since, until=span.until)
    except NotFound:
        return
