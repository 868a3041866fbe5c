"""A monitor's control socket: one JSON message per packet, descriptors beside it (unix(7), SCM_RIGHTS).

A client that does not read never holds up the monitor: it is sent the latest status when it can take one.
"""

from __future__ import annotations

import array
import fcntl
import json
import os
import select
import socket
import struct
import termios

from engine.runtime.services import ServiceError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Protocol

    from engine.runtime.loop import Loop

    class Process(Protocol):
        """A process started in the container (`engine.runtime.exec.Entered`)."""

        pid: int
        pidfd: int
        console_fd: int | None

    class Container(Protocol):
        """What the socket's operations act on: the monitor."""

        loop: Loop

        def status(self) -> dict[str, Any]: ...
        def stop(
            self, timeout_s: float | None, signal: int | None, done: Callable[[dict[str, Any]], object]
        ) -> None: ...
        def kill(self, signal: int) -> None: ...
        def pause(self) -> None: ...
        def unpause(self) -> None: ...
        def rename(self, name: str) -> None: ...
        def resize(self, rows: int, columns: int) -> None: ...
        def execute(
            self, request: dict[str, Any], stdio: tuple[int, int, int] | None, ended: Callable[[int], object]
        ) -> Process: ...
        def attach(
            self, stdout: int, stderr: int, *, stdin: bool, lossless: bool, ended: Callable[[int], object]
        ) -> Attachment: ...

    class Attachment(Protocol):
        """A client of the container's own input and output. `input_fd` is -1 where it has no input."""

        input_fd: int
        tty: bool

        def forget_input(self) -> None: ...
        def close_stdin(self) -> None: ...
        def close(self) -> None: ...


SOCKET = "control.sock"
MESSAGE_BYTES = 256 * 1024
MAX_FDS = 3


class ControlServer:
    """Listens on `<run>/control.sock` and serves any number of clients."""

    def __init__(self, container: Container, run: str) -> None:
        self._container = container
        self._run = run
        self._connections: set[Connection] = set()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        self._bind()
        self._socket.listen(64)
        container.loop.add_reader(self._socket.fileno(), self._accept)

    def _bind(self) -> None:
        # Through /proc/self/fd, as the path of a UNIX socket is limited to 107 bytes.
        directory = os.open(self._run, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            try:
                os.unlink(SOCKET, dir_fd=directory)
            except FileNotFoundError:
                pass
            self._socket.bind(f"/proc/self/fd/{directory}/{SOCKET}")
            os.chmod(f"{self._run}/{SOCKET}", 0o600)
        finally:
            os.close(directory)

    def _accept(self) -> None:
        try:
            client, _ = self._socket.accept()
        except OSError:
            return
        client.setblocking(False)
        self._connections.add(Connection(client, self._container, self._connections.discard))

    def await_client(self, timeout_s: float) -> None:
        """Serve the first request of the next client before anything else; go on without one after the time."""
        poll = select.poll()
        poll.register(self._socket.fileno(), select.POLLIN)
        if not poll.poll(timeout_s * 1000):
            return
        before = set(self._connections)
        self._accept()
        for connection in self._connections - before:
            connection.serve_first(timeout_s)

    def publish(self, status: dict[str, Any]) -> None:
        """Tell all that watch."""
        for connection in list(self._connections):
            connection.tell(status)

    def close_listener(self) -> None:
        """Take the socket away, so that the next monitor may make its own; connections go on."""
        self._container.loop.remove(self._socket.fileno())
        self._socket.close()
        try:
            os.unlink(f"{self._run}/{SOCKET}")
        except FileNotFoundError:
            pass

    def close(self) -> None:
        """End all connections. What they have not yet read stays readable to them."""
        for connection in list(self._connections):
            connection.close()


class Connection:
    """One client. It may ask several things, one after the other."""

    def __init__(self, client: socket.socket, container: Container, closed: Callable[[Connection], object]) -> None:
        self._socket = client
        self._container = container
        self._closed = closed
        self._watching = False
        self._news: dict[str, Any] | None = None
        self._outbox: list[tuple[bytes, int]] = []
        self._process: Process | None = None
        self._attachment: Attachment | None = None
        self._holds = False
        """Whether the container is paused for as long as this client is there, so that a killed one leaves nothing frozen."""
        self._fds: list[int] = []
        container.loop.add_reader(client.fileno(), self._receive)

    def serve_first(self, timeout_s: float) -> None:
        """Wait for the client's request and serve it."""
        poll = select.poll()
        poll.register(self._socket.fileno(), select.POLLIN)
        if poll.poll(timeout_s * 1000):
            self._receive()

    def _receive(self) -> None:
        fds: list[int] = []
        try:
            data, ancillary, flags, _ = self._socket.recvmsg(
                MESSAGE_BYTES, socket.CMSG_SPACE(MAX_FDS * 4), socket.MSG_CMSG_CLOEXEC
            )
            fds = _descriptors(ancillary)
            if data and not flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
                self._fds = fds
                self._serve(json.loads(data))
                return
        except BlockingIOError:
            return
        except (OSError, ValueError, AttributeError):
            pass
        finally:
            for fd in fds:
                os.close(fd)
        self.close()

    def _serve(self, request: dict[str, Any]) -> None:
        operation = _OPERATIONS.get(request.get("op", ""))
        try:
            if operation is None:
                raise ServiceError("invalid", f"unknown operation {request.get('op')!r}")
            operation(self, request)
        except ServiceError as error:
            self._refuse(error.kind, error.message, error.hint, error.exit_code)
        except (KeyError, TypeError, ValueError) as error:
            self._refuse("invalid", f"malformed request: {error!r}")
        except OSError as error:
            self._refuse("kernel", str(error))

    def _refuse(self, kind: str, message: str, hint: str | None = None, exit_code: int = 1) -> None:
        self.send({"ok": False, "kind": kind, "message": message, "hint": hint, "exit_code": exit_code})

    def _status(self, _: dict[str, Any]) -> None:
        self.send(self._container.status())

    def _watch(self, _: dict[str, Any]) -> None:
        self._watching = True
        self.tell(self._container.status())

    def _stop(self, request: dict[str, Any]) -> None:
        self._container.stop(request.get("timeout_s"), request.get("signal"), self.send)

    def _kill(self, request: dict[str, Any]) -> None:
        self._container.kill(int(request["signal"]))
        self.send({"ok": True})

    def _pause(self, request: dict[str, Any]) -> None:
        self._container.pause()
        self._holds = bool(request.get("hold"))
        self.send({"ok": True})

    def _unpause(self, _: dict[str, Any]) -> None:
        self._holds = False
        self._container.unpause()
        self.send({"ok": True})

    def _rename(self, request: dict[str, Any]) -> None:
        self._container.rename(str(request["name"]))
        self.send({"ok": True})

    def _execute(self, request: dict[str, Any]) -> None:
        if self._process:
            raise ServiceError("conflict", "this connection has a process already", "open one connection per process")
        if not request.get("tty") and len(self._fds) != MAX_FDS:
            raise ServiceError("invalid", f"exec needs stdin, stdout and stderr, got {len(self._fds)} descriptors")
        stdio = None if request.get("tty") else (self._fds[0], self._fds[1], self._fds[2])
        process = self._process = self._container.execute(request, stdio, self.process_ended)
        if process.console_fd is not None:
            set_size(process.console_fd, request.get("rows", 0), request.get("cols", 0))
        self.send({"ok": True, "pid": process.pid}, process.console_fd)

    def process_ended(self, exit_code: int) -> None:
        """Tell the client that the process it started has ended."""
        self._process = None
        self.send({"exit_code": exit_code})

    def _attach(self, request: dict[str, Any]) -> None:
        if self._process or self._attachment:
            raise ServiceError("conflict", "this connection is in use already", "open one connection per client")
        if len(self._fds) != 2:
            raise ServiceError("invalid", f"attach needs stdout and stderr, got {len(self._fds)} descriptors")
        attachment = self._attachment = self._container.attach(
            os.dup(self._fds[0]),
            os.dup(self._fds[1]),
            stdin=bool(request.get("stdin")),
            lossless=bool(request.get("lossless")),
            ended=self._attachment_ended,
        )
        self.send({"ok": True, "tty": attachment.tty}, attachment.input_fd if attachment.input_fd >= 0 else None)
        attachment.forget_input()

    def _attachment_ended(self, exit_code: int) -> None:
        self._attachment = None
        self.send({"exit_code": exit_code})

    def _close_stdin(self, _: dict[str, Any]) -> None:
        if self._attachment:
            self._attachment.close_stdin()

    def _resize(self, request: dict[str, Any]) -> None:
        if self._attachment is not None:
            # Unanswered, so that the exit code is the only message that follows the first.
            self._container.resize(int(request["rows"]), int(request["cols"]))
        elif self._process is None:
            self._container.resize(int(request["rows"]), int(request["cols"]))
            self.send({"ok": True})
        elif self._process.console_fd is not None:
            # Unanswered, so that the exit code is the only message that follows the first.
            set_size(self._process.console_fd, int(request["rows"]), int(request["cols"]))

    def tell(self, status: dict[str, Any]) -> None:
        """Send the status if the client watches; only the latest is kept for one that is slow."""
        if self._watching:
            self._news = status
            self._flush()

    def send(self, message: dict[str, Any], fd: int | None = None) -> None:
        """Send a message, and a descriptor with it, as soon as the client can take it."""
        self._outbox.append((json.dumps(message, separators=(",", ":")).encode(), -1 if fd is None else os.dup(fd)))
        self._flush()

    def _flush(self) -> None:
        if self._socket.fileno() < 0:
            self._drop_outbox()
            return
        try:
            while self._outbox:
                data, fd = self._outbox[0]
                self._transmit(data, fd)
                self._outbox.pop(0)
                if fd >= 0:
                    os.close(fd)
            if self._news is not None:
                self._transmit(json.dumps(self._news, separators=(",", ":")).encode(), -1)
                self._news = None
        except BlockingIOError:
            self._container.loop.add_writer(self._socket.fileno(), self._flush)
        except OSError:
            self.close()
        else:
            self._container.loop.remove_writer(self._socket.fileno())

    def _transmit(self, data: bytes, fd: int) -> None:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))] if fd >= 0 else []
        self._socket.sendmsg([data], rights, socket.MSG_NOSIGNAL)

    def _drop_outbox(self) -> None:
        for _, fd in self._outbox:
            if fd >= 0:
                os.close(fd)
        self._outbox.clear()

    def _let_go(self) -> None:
        holds, self._holds = self._holds, False
        if holds and self._container.status()["state"] == "paused":
            self._container.unpause()

    def close(self) -> None:
        """End the connection. A process it started goes on; one on a terminal sees that hang up."""
        if self._socket.fileno() >= 0:
            self._container.loop.remove(self._socket.fileno())
            self._socket.close()
        self._watching = False
        self._let_go()
        attachment, self._attachment = self._attachment, None
        if attachment:
            attachment.close()
        process, self._process = self._process, None
        if process and process.console_fd is not None:
            os.close(process.console_fd)
            process.console_fd = None
        self._drop_outbox()
        self._closed(self)


_OPERATIONS: dict[str, Callable[[Connection, dict[str, Any]], None]] = {
    "status": Connection._status,
    "watch": Connection._watch,
    "stop": Connection._stop,
    "kill": Connection._kill,
    "rename": Connection._rename,
    "pause": Connection._pause,
    "unpause": Connection._unpause,
    "exec": Connection._execute,
    "attach": Connection._attach,
    "close_stdin": Connection._close_stdin,
    "resize": Connection._resize,
}


def _descriptors(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    fds = array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    return list(fds)


def set_size(console_fd: int, rows: int, columns: int) -> None:
    """Set a terminal's size; nothing where it is not known."""
    if rows > 0 and columns > 0:
        fcntl.ioctl(console_fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
