"""Everything that happens. `Event` is what a command tells of its own doing, as one versioned stream that the views render;
`Record` is what the engine keeps of all that any command, and each monitor, did: `umiak events` and its like read that.

A sink takes events from any thread and must not raise. The set of kinds is closed: a reader may switch over it.
"""

from __future__ import annotations

import json
import os
import select
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import field
from typing import Any, Literal, get_args

from engine.frozen import frozen
from engine.runtime.journal import CURRENT, PREVIOUS

VERSION = 1

Kind = Literal[
    "plan",
    "pull",
    "push",
    "build",
    "network",
    "volume",
    "container",
    "provider",
    "delay",
    "probe",
    "health",
    "log",
    "exit",
    "restart",
    "watch",
    "error",
    "summary",
]
KINDS: frozenset[str] = frozenset(get_args(Kind))


@frozen
class Event:
    """One thing that happened to one subject.

    `name` is what the subject is called (a container, network, volume or image); `state` is its new state in Compose's
    words (`creating`, `created`, `healthy`, `exited`…); `data` holds what only this kind has, ready for JSON.
    """

    kind: Kind
    state: str = ""
    name: str = ""
    project: str = ""
    service: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)
    time: float = field(default_factory=time.time)

    def record(self, seq: int) -> dict[str, Any]:
        """The event as one object of the JSON stream; `seq` is its position there."""
        fixed: dict[str, Any] = {"v": VERSION, "ts": round(self.time, 6), "seq": seq, "kind": self.kind}
        named = {"project": self.project, "service": self.service, self._name_key: self.name, "state": self.state}
        return fixed | {key: value for key, value in named.items() if value} | dict(self.data)

    @property
    def _name_key(self) -> str:
        """The key that `name` gets in JSON: what the subject is."""
        if self.kind in ("network", "volume"):
            return self.kind
        if self.kind in ("provider", "delay"):
            return self.kind
        return "image" if self.kind in ("build", "pull", "push") else "container"


Sink = Callable[[Event], None]


def discard(_event: Event) -> None:
    """A sink that forgets everything."""


@frozen
class Record:
    """Something that happened to a container, network or volume, in Docker's words.

    `type` is what it happened to, `id` its ID (a volume's name), `action` what it was: `create`, `start`, `die`, `oom`,
    `health_status: healthy`… `attributes` holds labels, `image` and `name`, and what belongs to the action (`exitCode`).
    """

    time: float
    type: str
    action: str
    id: str
    attributes: Mapping[str, str]


def records(
    directory: str, *, since: float | None = None, until: float | None = None, follow: bool = False
) -> Iterator[Record]:
    """What is on record from `since` (None: only what comes from now on, where that is followed) to `until`, oldest first.

    With `follow` it goes on, without polling, until `until` or for ever.
    """
    begun = time.time()
    deadline = None if until is None else time.monotonic() + until - begun
    with _Tail(directory) as tail:
        if since is None and follow:
            tail.skip()
        while True:
            for line in tail.lines():
                record = _parse(line)
                if record is None or (since is not None and record.time < since):
                    continue
                if until is not None and record.time > until:
                    return
                yield record
            left = None if deadline is None else deadline - time.monotonic()
            if not follow or (left is not None and left <= 0):
                return
            if since is not None and since <= begun:
                since = None  # What comes from now on is later, even where the clock is set back.
            tail.wait(left)


class _Tail:
    """Reads the record's files as they grow and follow each other. See `engine.runtime.journal`."""

    def __init__(self, directory: str) -> None:
        from engine.kernel import inotify

        self._directory = directory
        os.makedirs(directory, mode=0o700, exist_ok=True)
        self._inotify = inotify.Inotify()
        self._inotify.add(directory, inotify.IN_MODIFY | inotify.IN_CREATE | inotify.IN_MOVED_FROM)
        self._fd = -1
        self._rest = b""
        self._older = self._open(PREVIOUS)

    def __enter__(self) -> _Tail:
        return self

    def __exit__(self, *_: object) -> None:
        self._inotify.close()
        for fd in (self._fd, self._older):
            if fd >= 0:
                os.close(fd)

    def _open(self, name: str) -> int:
        try:
            return os.open(f"{self._directory}/{name}", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return -1

    def skip(self) -> None:
        """Leave out what is there already."""
        for _ in self.lines():
            pass

    def lines(self) -> Iterator[bytes]:
        """All whole lines that have not been read yet."""
        if self._older >= 0:
            yield from self._read(self._older)
            os.close(self._older)
            self._older = -1
        while True:
            if self._fd < 0:
                self._fd = self._open(CURRENT)
            if self._fd < 0:
                return
            # Asked before the last look at it, so that nothing that was written before the change is missed.
            replaced = self._is_replaced()
            yield from self._read(self._fd)
            if not replaced:
                return
            os.close(self._fd)
            self._fd = -1

    def _is_replaced(self) -> bool:
        try:
            return not os.path.samestat(os.fstat(self._fd), os.stat(f"{self._directory}/{CURRENT}"))
        except FileNotFoundError:
            return False

    def _read(self, fd: int) -> Iterator[bytes]:
        while data := os.read(fd, 1 << 16):
            *whole, self._rest = (self._rest + data).split(b"\n")
            yield from whole

    def wait(self, timeout_s: float | None) -> None:
        """Wait until something changes, or the time is over."""
        poll = select.poll()
        poll.register(self._inotify.fd, select.POLLIN)
        poll.poll(None if timeout_s is None else timeout_s * 1000)
        self._inotify.read()


def _parse(line: bytes) -> Record | None:
    """A line of the record; None for one that a full disk cut short."""
    try:
        found = json.loads(line)
        return Record(found["time"], found["type"], found["action"], found["id"], found["attributes"])
    except (ValueError, KeyError, TypeError):
        return None
