"""Read what a container has written. `engine.runtime.logwriter` says how it is kept.

A raw log is read by its index: a time is found by bisection, the last lines by walking back, and nothing else is touched.
Following waits on inotify; it works across rotation and across monitors.
"""

from __future__ import annotations

import json
import os
import select
import struct
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import lru_cache
from typing import BinaryIO, Literal

from engine.types import LogRecord

INDEX_RECORD = struct.Struct("<QQIB3x")
"""As written by `engine.runtime.logwriter`."""
# No single read is larger, whatever an index says.
PIECE_BYTES = 1024 * 1024
_STREAMS: dict[int, Literal["stdout", "stderr"]] = {1: "stdout", 2: "stderr"}


def read(
    log_dir: str,
    *,
    follow: bool = False,
    tail: int | None = None,
    since: float | None = None,
    until: float | None = None,
    ended: Callable[[], bool] = lambda: True,
    wake_fd: int | None = None,
) -> Iterator[LogRecord]:
    """Yield the pieces of a log in order of time, from `since` to `until`, of these the last `tail` lines.

    With `follow`, go on until `ended()` is true and all has been read. It is asked whenever a writer closes the log, and once
    when `wake_fd` becomes readable.
    """
    if tail == 0 and not follow:
        return
    begun = time.time()
    deadline = None if until is None else time.monotonic() + until - begun
    source = _JsonSource(log_dir) if _json_files(log_dir) else _RawSource(log_dir)
    with closing(source), _Changes(log_dir if follow else None, wake_fd) as changes:
        yield from source.present(tail, since, until)
        # What comes from now on is new, even if the host's clock has been set back.
        if since is not None and since <= time.time():
            since = None
        while follow:
            # Asked before the last look: what was written up to the end is then seen.
            is_over = ended()
            for record in source.news():
                if until is not None and record.time > until:
                    return
                if since is None or record.time >= since:
                    yield record
            if is_over:
                return
            remaining = None if deadline is None else deadline - time.monotonic()
            if remaining is not None and remaining <= 0:
                return
            changes.wait(remaining)


class _Changes:
    """Waits for a change in the log's directory. Watching starts at once, so that no change after the first look is missed."""

    def __init__(self, log_dir: str | None, wake_fd: int | None) -> None:
        self._poll = select.poll()
        self._wake_fd = wake_fd
        self._inotify = None
        if log_dir is None:
            return
        # Loads ctypes: only for those who follow.
        from engine.kernel import inotify

        os.makedirs(log_dir, mode=0o750, exist_ok=True)
        self._inotify = inotify.Inotify()
        events = inotify.IN_MODIFY | inotify.IN_CLOSE_WRITE | inotify.IN_CREATE | inotify.IN_MOVED_TO
        self._inotify.add(log_dir, events | inotify.IN_DELETE_SELF)
        self._poll.register(self._inotify.fd, select.POLLIN)
        if wake_fd is not None:
            self._poll.register(wake_fd, select.POLLIN)

    def wait(self, timeout_s: float | None) -> None:
        """Wait for something to happen, or for the time to be over."""
        for fd, _ in self._poll.poll(None if timeout_s is None else timeout_s * 1000):
            if fd == self._wake_fd:
                self._poll.unregister(fd)
            elif self._inotify:
                self._inotify.read()

    def __enter__(self) -> _Changes:
        return self

    def __exit__(self, *_: object) -> None:
        if self._inotify:
            self._inotify.close()


class _Entry:
    """One record of the index."""

    __slots__ = ("length", "offset", "stream", "time")

    def __init__(self, record: bytes) -> None:
        nanoseconds, self.offset, self.length, self.stream = INDEX_RECORD.unpack(record)
        self.time = nanoseconds / 1e9


class _Generation:
    """One pair of `.log` and `.idx`."""

    def __init__(self, log_dir: str, number: int) -> None:
        self.number = number
        self._index = os.open(f"{log_dir}/{number:08d}.idx", os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._data = os.open(f"{log_dir}/{number:08d}.log", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            os.close(self._index)
            raise
        self.next = 0

    def count(self) -> int:
        """How many records there are now."""
        return os.fstat(self._index).st_size // INDEX_RECORD.size

    def entry(self, number: int) -> _Entry:
        return _Entry(os.pread(self._index, INDEX_RECORD.size, number * INDEX_RECORD.size))

    def first_at(self, moment: float) -> int:
        """The first record not before a moment."""
        low, high = 0, self.count()
        while low < high:
            middle = (low + high) // 2
            if self.entry(middle).time < moment:
                low = middle + 1
            else:
                high = middle
        return low

    def bytes_of(self, entry: _Entry, skip: int = 0) -> Iterator[bytes]:
        """The output that a record stands for, in pieces of bounded size."""
        start, end = entry.offset + skip, entry.offset + entry.length
        while start < end:
            data = os.pread(self._data, min(end - start, PIECE_BYTES), start)
            if not data:
                return
            yield data
            start += len(data)

    def close(self) -> None:
        os.close(self._index)
        os.close(self._data)


class _RawSource:
    """A raw log: the generations that exist, the oldest first."""

    def __init__(self, log_dir: str) -> None:
        self._dir = log_dir
        self._open: list[_Generation] = []
        self._last = 0
        self._find_more()

    def _find_more(self) -> None:
        for number in _generation_numbers(self._dir):
            if number <= self._last:
                continue
            try:
                self._open.append(_Generation(self._dir, number))
            except FileNotFoundError:
                # Removed by rotation, or its index is not there yet: then a later look finds it.
                continue
            self._last = number

    def present(self, tail: int | None, since: float | None, until: float | None) -> Iterator[LogRecord]:
        """What is there now and was asked for."""
        skip = 0
        for generation in self._open:
            generation.next = 0 if since is None else generation.first_at(since)
        if tail is not None:
            skip = self._walk_back(tail, until)
        yield from self._records(until, skip)

    def _walk_back(self, lines: int, until: float | None) -> int:
        """Set each generation's place so that `lines` lines follow; return how many bytes of the first piece belong to others."""
        unfinished = {1: True, 2: True}
        for generation in reversed(self._open):
            number = generation.count() if until is None else generation.first_at(until)
            floor, generation.next = generation.next, number
            while number > floor and lines >= 0:
                number -= 1
                entry = generation.entry(number)
                skip, lines = _cut(b"".join(generation.bytes_of(entry)), lines, unfinished, entry.stream)
                if lines < 0:
                    generation.next = number
                    self._forget_before(generation)
                    return skip
                generation.next = number
        return 0

    def _forget_before(self, generation: _Generation) -> None:
        for older in self._open[: self._open.index(generation)]:
            older.next = older.count()

    def _records(self, until: float | None, skip: int = 0) -> Iterator[LogRecord]:
        for generation in self._open:
            while generation.next < generation.count():
                entry = generation.entry(generation.next)
                if until is not None and entry.time > until:
                    return
                generation.next += 1
                for data in generation.bytes_of(entry, skip):
                    yield LogRecord(entry.time, _STREAMS.get(entry.stream, "stdout"), data)
                skip = 0

    def news(self) -> Iterator[LogRecord]:
        """What has come since the last look."""
        self._find_more()
        yield from self._records(None)
        while len(self._open) > 1:
            # A newer one was there before we read, so the writer had finished with this one.
            self._open.pop(0).close()

    def close(self) -> None:
        """Close the files."""
        for generation in self._open:
            generation.close()


def _cut(data: bytes, lines: int, unfinished: dict[int, bool], stream: int) -> tuple[int, int]:
    """Count a piece's lines off `lines`, from its end. When they are used up: where the kept part begins, and -1."""
    end = len(data)
    if unfinished[stream]:
        # The stream's last line counts as one whether or not it has been finished.
        unfinished[stream] = False
        end -= data.endswith(b"\n")
        lines -= 1
        if lines < 0:
            return len(data), -1
    while True:
        end = data.rfind(b"\n", 0, end)
        if end < 0:
            return 0, lines
        lines -= 1
        if lines < 0:
            return end + 1, -1


def _generation_numbers(log_dir: str) -> list[int]:
    try:
        names = os.listdir(log_dir)
    except FileNotFoundError:
        return []
    return sorted(int(name[:-4]) for name in names if name.endswith(".log") and name[:-4].isdigit())


class _JsonSource:
    """A log in Docker's json-file format. It has no index, so it is read from its beginning."""

    def __init__(self, log_dir: str) -> None:
        self._files = _open_json_files(log_dir)
        self._dir = log_dir

    def present(self, tail: int | None, since: float | None, until: float | None) -> Iterator[LogRecord]:
        """What is there now and was asked for."""
        if tail is not None and until is None:
            self._skip_to_last(tail)
        records = (
            record
            for record in self.news()
            if (since is None or record.time >= since) and (until is None or record.time <= until)
        )
        yield from records if tail is None else deque(records, maxlen=tail)

    def _skip_to_last(self, lines: int) -> None:
        """Go to where `lines` lines follow, looking only at the end of the log."""
        for file in reversed(self._files):
            lines -= _seek_back(file, lines)

    def news(self) -> Iterator[LogRecord]:
        """What has come since the last look."""
        while self._files:
            yield from self._rest_of(self._files[0])
            if len(self._files) == 1:
                if not self._follow_rotation():
                    return
                # The writer may have added to this one before it turned to the next.
                yield from self._rest_of(self._files[0])
            self._files.pop(0).close()

    def _rest_of(self, file: BinaryIO) -> Iterator[LogRecord]:
        if os.fstat(file.fileno()).st_size < file.tell():
            # Emptied by its writer, which keeps one file only.
            file.seek(0)
        while True:
            start = file.tell()
            line = file.readline()
            if not line.endswith(b"\n"):
                file.seek(start)
                return
            if record := _parse_json(line):
                yield record

    def _follow_rotation(self) -> bool:
        """Open the files that came after the one we read to its end; it may have been renamed meanwhile, or removed."""
        ours = os.fstat(self._files[0].fileno())
        current = _open_json_files(self._dir)
        place = [index for index, file in enumerate(current) if os.path.samestat(os.fstat(file.fileno()), ours)]
        newer = current[place[0] + 1 :] if place else current
        for file in current[: len(current) - len(newer)]:
            file.close()
        self._files += newer
        return bool(newer)

    def close(self) -> None:
        """Close the files."""
        for file in self._files:
            file.close()


def _seek_back(file: BinaryIO, lines: int) -> int:
    """Set a file's place to where at most `lines` lines follow; return how many do."""
    position = file.seek(0, os.SEEK_END)
    found = 0
    while position > 0:
        start = max(position - PIECE_BYTES, 0)
        file.seek(start)
        block = file.read(position - start)
        place = len(block)
        while (place := block.rfind(b"\n", 0, place)) >= 0:
            # Each line ends with a new line, so the one beyond the last wanted tells where they begin.
            if found == lines:
                file.seek(start + place + 1)
                return found
            found += 1
        position = start
    file.seek(0)
    return found


def _json_files(log_dir: str) -> list[str]:
    """The files of a json-file log, oldest first."""
    try:
        names = os.listdir(log_dir)
    except FileNotFoundError:
        return []
    found = [name for name in names if "-json.log" in name]
    numbers = {name: int(suffix) if (suffix := name.rpartition("-json.log")[2][1:]).isdigit() else 0 for name in found}
    return [f"{log_dir}/{name}" for name in sorted(found, key=lambda name: -numbers[name])]


def _open_json_files(log_dir: str) -> list[BinaryIO]:
    """Open all files of a json-file log, oldest first: looked at again if a rotation renamed them meanwhile."""
    while True:
        opened: list[BinaryIO] = []
        paths = _json_files(log_dir)
        try:
            opened.extend(open(path, "rb") for path in paths)
            if paths == _json_files(log_dir) and all(map(_is_still_at, opened, paths)):
                return opened
        except FileNotFoundError:
            pass
        for file in opened:
            file.close()


def _is_still_at(file: BinaryIO, path: str) -> bool:
    return os.path.samestat(os.fstat(file.fileno()), os.stat(path))


def _parse_json(line: bytes) -> LogRecord | None:
    try:
        entry = json.loads(line)
        stream: Literal["stdout", "stderr"] = "stderr" if entry["stream"] == "stderr" else "stdout"
        return LogRecord(_parse_time(entry["time"]), stream, entry["log"].encode())
    except (ValueError, KeyError, TypeError, AttributeError):
        # A line cut by a crash or written by others: the rest of the log is still worth reading.
        return None


@lru_cache(maxsize=16)
def _parse_seconds(text: str) -> int:
    import calendar  # only json-file logs have their times as text

    return calendar.timegm(time.strptime(text, "%Y-%m-%dT%H:%M:%S"))


def _parse_time(text: str) -> float:
    whole, _, fraction = text.removesuffix("Z").partition(".")
    return _parse_seconds(whole) + float(f"0.{fraction or 0}")
