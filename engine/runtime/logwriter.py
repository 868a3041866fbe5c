"""Where a container's output goes. Nothing here ever raises or waits for a reader: the container comes first.

`raw`: generations of two files, `<n>.log` (the bytes as written) and `<n>.idx` (one `INDEX_RECORD` per piece). A generation that
would grow beyond `max_size_bytes` is followed by the next; the oldest beyond `max_files` are removed. Nothing is renamed, so a
reader never loses its place. `json-file`: Docker's format and names, for tools that read those. `engine.logs` reads both.
"""

from __future__ import annotations

import errno
import os
import re
import struct
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

STDOUT = 1
STDERR = 2
STREAM_NAMES = {STDOUT: b"stdout", STDERR: b"stderr"}
INDEX_RECORD = struct.Struct("<QQIB3x")
"""Time (ns since the epoch), offset and length in the generation's `.log`, stream. Never decreasing in time and offset."""
# Docker cuts longer lines into pieces of this size.
JSON_LINE_BYTES = 16 * 1024


class NoLog:
    """The `none` driver: output is read, so that the container never blocks, and dropped."""

    trouble = ""

    def write(self, stream: int, data: memoryview) -> None:
        """Take a piece of output."""

    def flush(self) -> None:
        """Write what is held back of unfinished lines."""

    def close(self) -> None:
        """Close the files. Readers that follow take this as the sign to look whether the container has ended."""


class RawLog(NoLog):
    """The native driver: bytes and an index of times.

    `trouble` says why output is being dropped at present, or is empty.
    """

    def __init__(self, directory: str, max_size_bytes: int | None, max_files: int) -> None:
        self.trouble = ""
        self._directory = directory
        self._max_size = max_size_bytes
        self._max_files = max(max_files, 1)
        self._last_ns = 0
        self._data = self._index = -1
        os.makedirs(directory, mode=0o750, exist_ok=True)
        self._open(max(generations(directory), default=1))

    def _open(self, generation: int) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        data = os.open(f"{self._directory}/{generation:08d}.log", flags, 0o640)
        try:
            index = os.open(f"{self._directory}/{generation:08d}.idx", flags, 0o640)
        except OSError:
            os.close(data)
            raise
        self.close()
        self._data, self._index, self._generation = data, index, generation
        self._mend()

    def _mend(self) -> None:
        """Go to the end of both files; give bytes that a killed monitor did not index their record."""
        self._size = os.lseek(self._data, 0, os.SEEK_END)
        index_size = os.fstat(self._index).st_size // INDEX_RECORD.size * INDEX_RECORD.size
        indexed = 0
        if index_size:
            record = os.pread(self._index, INDEX_RECORD.size, index_size - INDEX_RECORD.size)
            self._last_ns, offset, length, _ = INDEX_RECORD.unpack(record)
            indexed = offset + length
        os.ftruncate(self._index, index_size)
        os.lseek(self._index, index_size, os.SEEK_SET)
        self._index_size = index_size
        if indexed < self._size:
            self._note(indexed, self._size - indexed, STDOUT)

    def write(self, stream: int, data: memoryview) -> None:
        try:
            if self._max_size and self._size and self._size + len(data) > self._max_size:
                self._rotate()
            written = os.write(self._data, data)
            offset = self._size
            self._size += written
            self._note(offset, written, stream)
            self.trouble = _dropped("no space") if written < len(data) else ""
        except OSError as error:
            self.trouble = _dropped(os.strerror(error.errno or errno.EIO))

    def _note(self, offset: int, length: int, stream: int) -> None:
        self._last_ns = max(time.time_ns(), self._last_ns)
        record = INDEX_RECORD.pack(self._last_ns, offset, length, stream)
        try:
            if os.write(self._index, record) == len(record):
                self._index_size += len(record)
                return
        except OSError as error:
            self.trouble = _dropped(os.strerror(error.errno or errno.EIO))
        # Bytes without a record would be counted to the next piece: take both back.
        os.ftruncate(self._index, self._index_size)
        os.lseek(self._index, self._index_size, os.SEEK_SET)
        os.ftruncate(self._data, offset)
        self._size = os.lseek(self._data, 0, os.SEEK_END)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _rotate(self) -> None:
        self._open(self._generation + 1)
        for generation in generations(self._directory):
            if generation <= self._generation - self._max_files:
                os.unlink(f"{self._directory}/{generation:08d}.idx")
                os.unlink(f"{self._directory}/{generation:08d}.log")

    def close(self) -> None:
        for fd in (self._data, self._index):
            if fd >= 0:
                os.close(fd)
        self._data = self._index = -1


class JsonLog(NoLog):
    """Docker's json-file: one JSON object per line of output, `<id>-json.log`, rotated to `.1`, `.2`…"""

    def __init__(self, directory: str, container_id: str, max_size_bytes: int | None, max_files: int) -> None:
        self.trouble = ""
        self._path = f"{directory}/{container_id}-json.log"
        self._max_size = max_size_bytes
        self._max_files = max(max_files, 1)
        self._tails = {STDOUT: b"", STDERR: b""}
        self._fd = -1
        os.makedirs(directory, mode=0o750, exist_ok=True)
        self._open()

    def _open(self) -> None:
        self.close()
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self._fd = os.open(self._path, flags, 0o640)
        self._size = os.fstat(self._fd).st_size

    def write(self, stream: int, data: memoryview) -> None:
        body = self._tails[stream] + data
        end = body.rfind(b"\n") + 1
        self._tails[stream] = body[end:]
        if end:
            self._put(json_lines(body[: end - 1], stream))
        while len(self._tails[stream]) >= JSON_LINE_BYTES:
            piece, self._tails[stream] = self._tails[stream][:JSON_LINE_BYTES], self._tails[stream][JSON_LINE_BYTES:]
            self._put(json_piece(piece, stream))

    def flush(self) -> None:
        for stream, tail in self._tails.items():
            if tail:
                self._put(json_piece(tail, stream))
            self._tails[stream] = b""

    def _put(self, data: bytes) -> None:
        try:
            if self._max_size and self._size and self._size + len(data) > self._max_size:
                self._rotate()
            written = os.write(self._fd, data)
            if written < len(data):
                # Half a line would spoil the file for its readers.
                os.ftruncate(self._fd, self._size)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            self._size += written
            self.trouble = ""
        except OSError as error:
            self.trouble = _dropped(os.strerror(error.errno or errno.EIO))

    def _rotate(self) -> None:
        if self._max_files == 1:
            os.ftruncate(self._fd, 0)
            self._size = 0
            return
        for number in range(self._max_files - 1, 0, -1):
            older = f"{self._path}.{number - 1}" if number > 1 else self._path
            if os.path.lexists(older):
                os.rename(older, f"{self._path}.{number}")
        self._open()

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1


def open_log(config: dict[str, Any], container_id: str) -> NoLog:
    """Open the log that `monitor.json` asks for."""
    size, files = config.get("max_size_bytes"), config.get("max_files") or 1
    if config["driver"] == "none":
        return NoLog()
    if config["driver"] == "json-file":
        return JsonLog(config["dir"], container_id, size, files)
    return RawLog(config["dir"], size, files)


def generations(directory: str) -> list[int]:
    """The generations of a raw log, oldest first."""
    return sorted(int(name[:-4]) for name in os.listdir(directory) if name.endswith(".log") and name[:-4].isdigit())


_SPECIAL = re.compile(rb'[\x00-\x1f\x7f"\\]')
_NEED_ESCAPE = bytes([*range(10), *range(11, 32), 34, 92, 127])
_ESCAPES = {byte: b"\\u%04x" % byte for byte in (*range(32), 127)}
_ESCAPES |= {9: b"\\t", 13: b"\\r", 10: b"\n", 34: b'\\"', 92: b"\\\\"}


def _escape(text: bytes) -> bytes:
    """Escape for JSON, all but the new lines. Fast where there is nothing to do, which is the rule."""
    if len(text.translate(None, _NEED_ESCAPE)) != len(text):
        text = _SPECIAL.sub(lambda match: _ESCAPES[match.group()[0]], text)
    if not text.isascii():
        text = text.decode("utf-8", "replace").encode()
    return text


def _ending(stream: int) -> bytes:
    now = time.time_ns()
    seconds, nanoseconds = divmod(now, 1_000_000_000)
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return b'","stream":"%s","time":"%s.%09dZ"}\n' % (STREAM_NAMES[stream], stamp.encode(), nanoseconds)


def json_lines(body: bytes, stream: int) -> bytes:
    """Docker's JSON for whole lines; `body` is without the last new line."""
    ending = b"\\n" + _ending(stream)
    return b"".join((b'{"log":"', _escape(body).replace(b"\n", ending + b'{"log":"'), ending))


def json_piece(body: bytes, stream: int) -> bytes:
    """Docker's JSON for a piece of a line that does not end here."""
    return b"".join((b'{"log":"', _escape(body), _ending(stream)))


def _dropped(why: str) -> str:
    return f"cannot write the container's log, output is being dropped: {why.lower()}"
