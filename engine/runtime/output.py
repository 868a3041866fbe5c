"""A container's standard streams, seen from its monitor: FIFOs or a pty on one side, the log on the other.

The container's side of each FIFO is opened read-write (fifo(7)), so that a monitor that is killed leaves the container a
pipe with a reader: it goes on, and the next monitor reads what was written meanwhile.
"""

from __future__ import annotations

import fcntl
import os

from engine.runtime.attached import Attached
from engine.runtime.logwriter import STDERR, STDOUT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.runtime.logwriter import NoLog
    from engine.runtime.loop import Loop, Timer

READ_BYTES = 64 * 1024
PIPE_BYTES = 256 * 1024
# Processes that outlive init may hold the pipes open for ever: after init's end, they are read this long.
DRAIN_S = 0.1
_STREAMS = {STDOUT: "stdout", STDERR: "stderr"}


class Output:
    """Reads what the container writes, piece by piece so that a flood starves nothing, and hands it to the log."""

    def __init__(self, loop: Loop, run: str, log: NoLog, on_trouble: Callable[[str], object]) -> None:
        self._loop = loop
        self._run = run
        self._log = log
        self._on_trouble = on_trouble
        self._trouble = ""
        self._buffer = memoryview(bytearray(READ_BYTES))
        self._readers: dict[int, int] = {}
        self._attached: list[Attached] = []
        self._is_waiting = False
        self._stdin_writer = -1
        self._drained: Callable[[], object] | None = None
        self._drain_timer: Timer | None = None

    def open(self, *, stdin_open: bool, stdin_once: bool = False) -> tuple[int, int, int]:
        """Make the FIFOs and start reading; return the container's ends of stdin, stdout and stderr, to be closed by the caller.

        An input of `stdin_once` ends with `end_stdin`; any other never does.
        """
        ends = [self._stdin(stdin_open, stdin_once)]
        try:
            for stream, name in _STREAMS.items():
                ends.append(os.open(self._fifo(name), os.O_RDWR | os.O_CLOEXEC))
                self._widen(ends[-1])
                self._listen(self._open_reader(name), stream)
        except OSError:
            for fd in ends:
                os.close(fd)
            raise
        return ends[0], ends[1], ends[2]

    def _stdin(self, is_open: bool, once: bool) -> int:
        if not is_open:
            return os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        path = self._fifo("stdin")
        if not once:
            return os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self.end_stdin()
        reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        os.set_blocking(reader, True)
        self._stdin_writer = self.open_stdin()
        return reader

    def open_stdin(self) -> int:
        """A client's end of the container's input, not blocking."""
        return os.open(f"{self._run}/stdin", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)

    def end_stdin(self) -> None:
        """Let the container see the end of its input, once its clients have closed their ends too."""
        if self._stdin_writer >= 0:
            os.close(self._stdin_writer)
            self._stdin_writer = -1

    def _fifo(self, name: str) -> str:
        path = f"{self._run}/{name}"
        try:
            os.mkfifo(path, 0o600)
        except FileExistsError:
            pass
        return path

    def _widen(self, fd: int) -> None:
        try:
            fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        except OSError:
            pass

    def _open_reader(self, name: str) -> int:
        return os.open(f"{self._run}/{name}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)

    def resume(self) -> None:
        """Go on reading the FIFOs of a container whose monitor died."""
        for stream, name in _STREAMS.items():
            try:
                self._listen(self._open_reader(name), stream)
            except FileNotFoundError:
                continue

    def follow_console(self, console_fd: int) -> None:
        """Read a pty's master instead: one stream, as a terminal has. The descriptor becomes ours."""
        os.set_blocking(console_fd, False)
        self._listen(console_fd, STDOUT)

    def attach(self, stdout: int, stderr: int, *, lossless: bool) -> Attached:
        """Pass what is written from now on to a client too. The descriptors become ours."""
        client = Attached(self._loop, stdout, stderr, lossless=lossless, on_ready=self._client_ready)
        self._attached.append(client)
        return client

    def detach(self, client: Attached) -> None:
        """A client has gone."""
        if client in self._attached:
            self._attached.remove(client)
        client.close()
        self._client_ready()

    def _client_ready(self) -> None:
        """A client can take more: read on if the container was held up for its sake."""
        if any(client.is_full for client in self._attached):
            return
        if self._is_waiting:
            self._is_waiting = False
            for fd in self._readers:
                self._listen(fd, self._readers[fd])
        if self._drained and not any(client.is_behind for client in self._attached):
            self._await_drain()

    def _listen(self, fd: int, stream: int) -> None:
        self._readers[fd] = stream
        self._loop.add_reader(fd, lambda: self._read(fd))

    def _read(self, fd: int) -> None:
        try:
            length = os.readv(fd, [self._buffer])
        except BlockingIOError:
            return
        except OSError:
            # EIO is how a pty says that its last slave has been closed.
            length = 0
        if not length:
            self._close_reader(fd)
            return
        stream, data = self._readers[fd], self._buffer[:length]
        for client in self._attached:
            client.write(stream, data)
        self._log.write(stream, data)
        if any(client.is_full for client in self._attached):
            self._is_waiting = True
            for reader in self._readers:
                self._loop.remove_reader(reader)
        if self._log.trouble != self._trouble:
            self._trouble = self._log.trouble
            self._on_trouble(self._trouble)

    def _close_reader(self, fd: int) -> None:
        del self._readers[fd]
        self._loop.remove(fd)
        os.close(fd)
        if not self._readers and self._drained:
            self._finish_drain()

    def drain(self, done: Callable[[], object]) -> None:
        """Init has ended: call `done` when all it wrote has been read, or after 100 ms; later if a client must have it first."""
        self._drained = done
        self._await_drain()

    def _await_drain(self) -> None:
        self._loop.cancel(self._drain_timer)
        if self._readers:
            self._drain_timer = self._loop.call_later(DRAIN_S, self._finish_drain)
        else:
            self._finish_drain()

    def _finish_drain(self) -> None:
        if self._is_waiting or any(client.is_behind for client in self._attached):
            return
        done, self._drained = self._drained, None
        self._loop.cancel(self._drain_timer)
        self.end_stdin()
        for client in self._attached:
            client.close()
        self._attached.clear()
        self.stop()
        self._log.flush()
        if done:
            done()

    def stop(self) -> None:
        """Close the reading side."""
        self._drained = None
        for fd in list(self._readers):
            self._close_reader(fd)
