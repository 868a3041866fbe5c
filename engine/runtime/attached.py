"""A client of a container's output: what the container writes is passed on to the client's pipes as it comes.

A client that does not read never holds up the monitor. One that must not miss anything (`lossless`) holds up the container
instead, as a pipe between the two would; for any other, what it could not take is left out and counted.
"""

from __future__ import annotations

import os

from engine.runtime.logwriter import STDERR, STDOUT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.runtime.loop import Loop

PENDING_BYTES = 1 << 20


class Attached:
    """Writes to the client's ends of its pipes, which it owns. `on_ready` is called when all that was pending is written."""

    __slots__ = ("_fds", "_loop", "_on_ready", "_pending", "_size", "_skipped", "lossless")

    def __init__(self, loop: Loop, stdout: int, stderr: int, *, lossless: bool, on_ready: Callable[[], object]) -> None:
        self._loop = loop
        self._fds = {STDOUT: stdout, STDERR: stderr}
        self.lossless = lossless
        self._on_ready = on_ready
        self._pending: list[tuple[int, bytes]] = []
        self._size = 0
        self._skipped = 0
        for fd in self._fds.values():
            os.set_blocking(fd, False)

    @property
    def is_full(self) -> bool:
        """Whether the container must wait for the client."""
        return self.lossless and self._size > PENDING_BYTES

    @property
    def is_behind(self) -> bool:
        """Whether something is still to be written that must not be lost."""
        return self.lossless and bool(self._pending)

    def write(self, stream: int, data: memoryview) -> None:
        """Pass a piece of output on, or keep it until the client can take it."""
        if stream not in self._fds:
            return
        if self._size > PENDING_BYTES and not self.lossless:
            self._skipped += len(data)
            return
        self._pending.append((stream, bytes(data)))
        self._size += len(data)
        if len(self._pending) == 1:
            self._flush()

    def _flush(self) -> None:
        while self._pending:
            stream, data = self._pending[0]
            fd = self._fds.get(stream, -1)
            try:
                written = os.write(fd, data) if fd >= 0 else len(data)
            except BlockingIOError:
                self._loop.add_writer(fd, self._flush)
                return
            except OSError:
                # The client has gone, or reads only the other stream.
                self._drop(stream)
                continue
            self._size -= written
            if written < len(data):
                self._pending[0] = (stream, data[written:])
            else:
                self._pending.pop(0)
            self._loop.remove_writer(fd)
        self._tell_skipped()
        self._on_ready()

    def _tell_skipped(self) -> None:
        if self._skipped:
            note = f"\n[umiak: {self._skipped} bytes left out, as they were not read in time]\n".encode()
            self._skipped = 0
            self.write(STDOUT, memoryview(note))

    def _drop(self, stream: int) -> None:
        fd = self._fds.pop(stream)
        self._loop.remove(fd)
        os.close(fd)
        self._pending = [piece for piece in self._pending if piece[0] != stream]
        self._size = sum(len(data) for _, data in self._pending)

    def close(self) -> None:
        """Let the client see the end of the output."""
        for stream in list(self._fds):
            self._drop(stream)
