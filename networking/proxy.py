"""Carry published TCP connections and UDP datagrams from the host's sockets into a container's namespace.

The sockets towards the container are made inside its namespace and connect to the container's own address, so no route,
rule or forwarding of the host is needed. TCP goes by splice(2) through a pipe, without a copy to this process.

A `Proxy` has an epoll instance of its own, nested in the monitor's loop, and does a bounded amount of work each time
that it is called, so that a busy port does not keep the monitor from its other duties. Standard library only.
"""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import select
import socket
import struct
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from engine.runtime.loop import Timer
    from engine.runtime.services import Host

    Handler = Callable[[int], None]

IN, OUT = select.EPOLLIN, select.EPOLLOUT
SPLICE_FLAGS = 1 | 2
"""SPLICE_F_MOVE | SPLICE_F_NONBLOCK: the pipe's side must not block either."""
F_SETPIPE_SZ = 1031
PIPE_BYTES = 1 << 18
CHUNK_BYTES = 1 << 18
TURN_BYTES = 1 << 20
"""What one connection may move before others have their turn."""
TURN_EVENTS = 128
TURN_ACCEPTS = 64
SPARE_PIPES = 8
RESERVED_FDS = 64
FDS_PER_CONNECTION = 3
RETRY_S = 0.1

DATAGRAM_BYTES = 65535
SESSION_IDLE_S = 90.0
SESSION_SWEEP_S = 30.0
MAX_SESSIONS = 1024
TURN_DATAGRAMS = 64
IP_PKTINFO = 8
RESET_ON_CLOSE = struct.pack("ii", 1, 0)
"""For SO_LINGER: close() sends RST, as the container's kernel would have done."""

NO_DESCRIPTOR = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))


class Proxy:
    """All published ports of one container. `close` ends every connection."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.pipes = PipePool()
        self._epoll = select.epoll()
        self._handlers: dict[int, Handler] = {}
        self._masks: dict[int, int] = {}
        self._doomed: list[socket.socket] = []
        self._parts: list[TcpListener | UdpRelay] = []
        self.connections: set[Connection] = set()
        host.loop.add_reader(self._epoll.fileno(), self._serve)

    def serve_tcp(self, listener: socket.socket, address: str, port: int) -> None:
        """Accept on `listener` and connect each client to the container."""
        self._parts.append(TcpListener(self, listener, address, port))

    def serve_udp(self, sock: socket.socket, address: str, port: int) -> None:
        """Relay the datagrams of `sock`, each client from a socket of its own."""
        self._parts.append(UdpRelay(self, sock, address, port))

    def close(self) -> None:
        """Close all sockets. May be repeated."""
        if self._epoll.closed:
            return
        for part in self._parts:
            part.close()
        for connection in list(self.connections):
            connection.close()
        self.bury()
        self.pipes.close()
        self.host.loop.remove(self._epoll.fileno())
        self._epoll.close()

    def watch(self, sock: socket.socket, mask: int, handler: Handler) -> None:
        """Call `handler` with the events of `sock`; a mask of 0 forgets it, so that a hang-up does not keep us busy."""
        fd = sock.fileno()
        before = self._masks.get(fd, 0)
        if mask == before:
            return
        if not mask:
            del self._masks[fd], self._handlers[fd]
            self._epoll.unregister(fd)
            return
        (self._epoll.modify if before else self._epoll.register)(fd, mask)
        self._masks[fd] = mask
        self._handlers[fd] = handler

    def discard(self, sock: socket.socket) -> None:
        """Forget and close a socket, at the end of this turn: its number must not be another's while events are served."""
        self.watch(sock, 0, _ignore)
        self._doomed.append(sock)

    def socket_inside(self, kind: socket.SocketKind) -> socket.socket:
        """A socket in the container's network namespace."""
        with self.host.in_netns():
            return socket.socket(socket.AF_INET, kind | socket.SOCK_NONBLOCK)

    def has_room(self) -> bool:
        """Whether another connection may be accepted, with descriptors left for the monitor's other work."""
        wanted = (len(self.connections) + 1) * FDS_PER_CONNECTION + RESERVED_FDS
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if wanted > soft and soft < hard:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
        return wanted <= soft

    def resume(self) -> None:
        """Accept again where it was put off for want of descriptors."""
        for part in self._parts:
            part.resume()

    def _serve(self) -> None:
        for fd, events in self._epoll.poll(0, TURN_EVENTS):
            if handler := self._handlers.get(fd):
                handler(events)
        self.bury()

    def bury(self) -> None:
        """Close what was discarded."""
        doomed, self._doomed = self._doomed, []
        for sock in doomed:
            sock.close()
        if doomed:
            self.resume()


class PipePool:
    """Empty pipes. A flow holds one only while the other side does not take its data, so an idle connection has none."""

    def __init__(self) -> None:
        self._spare: list[tuple[int, int]] = []

    def take(self) -> tuple[int, int]:
        """An empty pipe."""
        if self._spare:
            return self._spare.pop()
        pipe = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            fcntl.fcntl(pipe[1], F_SETPIPE_SZ, PIPE_BYTES)
        except OSError:
            pass  # The user's pipe memory is used up: the default size does it too.
        return pipe

    def give_back(self, pipe: tuple[int, int], *, is_empty: bool = True) -> None:
        """Keep a pipe for the next flow, or close it."""
        if is_empty and len(self._spare) < SPARE_PIPES:
            self._spare.append(pipe)
        else:
            os.close(pipe[0])
            os.close(pipe[1])

    def close(self) -> None:
        """Close the spare pipes."""
        while self._spare:
            self.give_back(self._spare.pop(), is_empty=False)


class TcpListener:
    """One listening socket of the host and the container's port behind it."""

    def __init__(self, proxy: Proxy, listener: socket.socket, address: str, port: int) -> None:
        self._proxy = proxy
        self._listener = listener
        self._target = (address, port)
        self._timer: Timer | None = None
        proxy.watch(listener, IN, self._accept)

    def _accept(self, _: int) -> None:
        for _attempt in range(TURN_ACCEPTS):
            if not self._proxy.has_room():
                return self._proxy.watch(self._listener, 0, self._accept)
            try:
                client, _address = self._listener.accept()
            except BlockingIOError:
                return None
            except OSError as error:
                if error.errno in NO_DESCRIPTOR:
                    return self._put_off()
                continue  # The client has gone: accept(2) lists a dozen ways.
            self._connect(client)
        return None

    def _connect(self, client: socket.socket) -> None:
        client.setblocking(False)
        try:
            backend = self._proxy.socket_inside(socket.SOCK_STREAM)
        except OSError:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            client.close()
            return self._put_off()
        for sock in (client, backend):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        Connection(self._proxy, client, backend).start(self._target)
        return None

    def _put_off(self) -> None:
        """Out of descriptors, and not all of them are ours: look again soon."""
        self._proxy.watch(self._listener, 0, self._accept)
        if self._timer is None:
            self._timer = self._proxy.host.loop.call_later(RETRY_S, self._look_again)

    def _look_again(self) -> None:
        self._timer = None
        self.resume()

    def resume(self) -> None:
        """Accept again, unless the listener is closed or there is still no room."""
        if self._listener.fileno() >= 0 and self._timer is None and self._proxy.has_room():
            self._proxy.watch(self._listener, IN, self._accept)

    def close(self) -> None:
        """Stop listening at once; connections are the proxy's."""
        self._proxy.host.loop.cancel(self._timer)
        if self._listener.fileno() >= 0:
            self._proxy.watch(self._listener, 0, self._accept)
            self._listener.close()


class Flow:
    """One direction of a connection. `pending` bytes are in `pipe`, because the destination did not take them yet."""

    __slots__ = ("destination", "is_done", "is_read", "pending", "pipe", "source")

    def __init__(self, source: socket.socket, destination: socket.socket) -> None:
        self.source = source
        self.destination = destination
        self.pipe: tuple[int, int] | None = None
        self.pending = 0
        self.is_read = False
        self.is_done = False

    def pump(self, pipes: PipePool) -> None:
        """Move what can be moved now. OSError: a side is gone."""
        moved = 0
        while not self.is_done and moved < TURN_BYTES:
            if not self.pending and not self._fill(pipes):
                return
            if self.pending:
                try:
                    count = os.splice(self._pipe_end(0), self.destination.fileno(), self.pending, flags=SPLICE_FLAGS)
                except BlockingIOError:
                    return
                self.pending -= count
                moved += count
                if not self.pending:
                    self.drop_pipe(pipes)
            elif self.is_read:
                self.is_done = True
                self.destination.shutdown(socket.SHUT_WR)

    def _fill(self, pipes: PipePool) -> bool:
        if self.is_read:
            return True
        self.pipe = pipes.take()
        try:
            self.pending = os.splice(self.source.fileno(), self.pipe[1], CHUNK_BYTES, flags=SPLICE_FLAGS)
        except OSError as error:
            self.drop_pipe(pipes)
            if isinstance(error, BlockingIOError):
                return False
            raise
        if not self.pending:
            self.is_read = True
            self.drop_pipe(pipes)
        return True

    def _pipe_end(self, side: int) -> int:
        assert self.pipe is not None
        return self.pipe[side]

    def drop_pipe(self, pipes: PipePool) -> None:
        """Give the pipe back."""
        if self.pipe is not None:
            pipes.give_back(self.pipe, is_empty=not self.pending)
            self.pipe = None


class Connection:
    """A client and its connection into the container."""

    __slots__ = ("_backend", "_client", "_inward", "_is_connecting", "_outward", "_proxy")

    def __init__(self, proxy: Proxy, client: socket.socket, backend: socket.socket) -> None:
        self._proxy = proxy
        self._client = client
        self._backend = backend
        self._inward = Flow(client, backend)
        self._outward = Flow(backend, client)
        self._is_connecting = True
        proxy.connections.add(self)

    def start(self, target: tuple[str, int]) -> None:
        """Begin to connect to the container."""
        code = self._backend.connect_ex(target)
        if code not in (0, errno.EINPROGRESS):
            return self.close()
        return self._proxy.watch(self._backend, OUT, self._handle)

    def _handle(self, _: int) -> None:
        if self._is_connecting:
            if self._backend.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                return self.close()
            self._is_connecting = False
        try:
            self._inward.pump(self._proxy.pipes)
            self._outward.pump(self._proxy.pipes)
        except OSError:
            return self.close()
        if self._inward.is_done and self._outward.is_done:
            return self.close(reset=False)
        self._watch(self._client, self._inward, self._outward)
        return self._watch(self._backend, self._outward, self._inward)

    def _watch(self, sock: socket.socket, read: Flow, written: Flow) -> None:
        """Wait for what can change something only: data if there is room for it, room if there is data."""
        mask = (IN if not read.is_read and not read.pending else 0) | (OUT if written.pending else 0)
        self._proxy.watch(sock, mask, self._handle)

    def close(self, *, reset: bool = True) -> None:
        """End both sides; with `reset` the peers learn that it was not an orderly end."""
        self._proxy.connections.discard(self)
        for flow in (self._inward, self._outward):
            flow.drop_pipe(self._proxy.pipes)
        for sock in (self._client, self._backend):
            if reset:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            self._proxy.discard(sock)


class Session:
    """The datagrams of one client: whom to answer, and from which address of the host."""

    __slots__ = ("address", "backend", "control", "key", "used_at")

    def __init__(self, key: Any, address: Any, control: list[Any], backend: socket.socket) -> None:
        self.key = key
        self.address = address
        self.control = control
        self.backend = backend
        self.used_at = time.monotonic()


class UdpRelay:
    """One UDP socket of the host; a socket inside per client, so that answers find their way."""

    def __init__(self, proxy: Proxy, sock: socket.socket, address: str, port: int) -> None:
        self._proxy = proxy
        self._socket = sock
        self._target = (address, port)
        self._sessions: dict[Any, Session] = {}
        self._timer: Timer | None = None
        if sock.family == socket.AF_INET:
            sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
        else:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        proxy.watch(sock, IN, self._receive)

    def _receive(self, _: int) -> None:
        for _attempt in range(TURN_DATAGRAMS):
            try:
                data, control, _flags, address = self._socket.recvmsg(DATAGRAM_BYTES, 128)
                self._session(address, _reply_control(control)).backend.send(data)
            except BlockingIOError:
                return
            except OSError:
                continue  # Lost, as datagrams are: nobody listens inside, or no descriptor is left.

    def _session(self, address: Any, control: list[Any]) -> Session:
        key = (address, control[0][2] if control else b"")
        session = self._sessions.pop(key, None)
        if session is None:
            if len(self._sessions) >= MAX_SESSIONS:
                self._end(next(iter(self._sessions.values())))
            backend = self._proxy.socket_inside(socket.SOCK_DGRAM)
            backend.connect(self._target)
            session = Session(key, address, control, backend)
            self._proxy.watch(backend, IN, lambda _: self._answer(session))
        session.used_at = time.monotonic()
        self._sessions[key] = session  # Last in order: the first is the one to go when there are too many.
        if self._timer is None:
            self._timer = self._proxy.host.loop.call_later(SESSION_SWEEP_S, self._sweep)
        return session

    def _answer(self, session: Session) -> None:
        for _attempt in range(TURN_DATAGRAMS):
            try:
                data = session.backend.recv(DATAGRAM_BYTES)
                session.used_at = time.monotonic()
                self._socket.sendmsg([data], session.control, 0, session.address)
            except BlockingIOError:
                return
            except OSError:
                continue

    def _sweep(self) -> None:
        self._timer = None
        oldest = time.monotonic() - SESSION_IDLE_S
        for session in [each for each in self._sessions.values() if each.used_at < oldest]:
            self._end(session)
        self._proxy.bury()
        if self._sessions:
            self._timer = self._proxy.host.loop.call_later(SESSION_SWEEP_S, self._sweep)

    def _end(self, session: Session) -> None:
        self._sessions.pop(session.key, None)
        self._proxy.discard(session.backend)

    def resume(self) -> None:
        """Datagrams are never put off."""

    def close(self) -> None:
        """Close the socket and all sessions."""
        self._proxy.host.loop.cancel(self._timer)
        for session in list(self._sessions.values()):
            self._end(session)
        if self._socket.fileno() >= 0:
            self._proxy.watch(self._socket, 0, _ignore)
            self._socket.close()


def _ignore(_: int) -> None:
    pass


def _reply_control(control: list[Any]) -> list[Any]:
    """The ancillary data that makes an answer leave from the address that the question came to (ip(7), ipv6(7))."""
    for level, kind, data in control:
        if level == socket.IPPROTO_IP and kind == IP_PKTINFO:
            return [(level, kind, bytes(4) + data[4:8] + bytes(4))]
        if level == socket.IPPROTO_IPV6 and kind == socket.IPV6_PKTINFO:
            return [(level, kind, bytes(data))]
    return []
