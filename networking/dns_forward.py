"""Forward DNS questions to the host's name servers, from the host's side. Nothing here blocks. Standard library only.

Each question goes out from a socket of its own, so from a random port and with a random identifier; an answer must come
from the server asked and repeat both identifier and question. A server that does not answer is followed by the next.
"""

from __future__ import annotations

import os
import socket
import struct

from networking import dns_message

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from engine.runtime.loop import Loop, Timer

    Reply = Callable[[bytes | None], None]

PORT = 53
PATIENCE_S = 1.5
"""How long one server may take. Three times this is less than the 5 s that clients wait."""
ATTEMPTS = 3
MAX_IN_FLIGHT = 256
MESSAGE_BYTES = 65535
UNHELPFUL = (dns_message.SERVFAIL, dns_message.NOTIMP, dns_message.REFUSED)


class Forwarder:
    """Asks servers in turn, beginning with the one that answered last."""

    def __init__(self, loop: Loop, servers: Sequence[str], port: int = PORT) -> None:
        self.loop = loop
        self.servers = list(servers)
        self.port = port
        self.first = 0
        self._in_flight: set[_Exchange] = set()

    def ask(self, query: dns_message.Query, reply: Reply, *, by_tcp: bool = False) -> None:
        """Call `reply` once with the answer, or with None when no server gave one."""
        if not self.servers or len(self._in_flight) >= MAX_IN_FLIGHT:
            reply(None)
            return
        kind = _TcpExchange if by_tcp else _UdpExchange
        exchange = kind(self, query, reply)
        self._in_flight.add(exchange)
        exchange.try_next()

    def forget(self, exchange: _Exchange) -> None:
        """An exchange has come to its end."""
        self._in_flight.discard(exchange)

    def close(self) -> None:
        """Give up on what is in flight, without replies."""
        for exchange in list(self._in_flight):
            exchange.drop_socket()
        self._in_flight.clear()


class _Exchange:
    """One question on its way: which server is asked, with which identifier, and until when."""

    kind = socket.SOCK_DGRAM

    def __init__(self, forwarder: Forwarder, query: dns_message.Query, reply: Reply) -> None:
        self._forwarder = forwarder
        self._query = query
        self._reply = reply
        count = len(forwarder.servers)
        order = [(forwarder.first + step) % count for step in range(count)]
        self._left = (order * ATTEMPTS)[:ATTEMPTS] if count < ATTEMPTS else order[:ATTEMPTS]
        self._server = 0
        self._identifier = 0
        self._socket: socket.socket | None = None
        self._timer: Timer | None = None
        self._last_answer: bytes | None = None

    def try_next(self) -> None:
        """Ask the next server; without one left, reply with what there is."""
        while self._left:
            self.drop_socket()
            self._server = self._left.pop(0)
            self._identifier = int.from_bytes(os.urandom(2), "big")
            try:
                self._send(self._connect(self._forwarder.servers[self._server]))
            except OSError:
                self._avoid_server()
                continue
            self._timer = self._forwarder.loop.call_later(PATIENCE_S, self.try_next)
            return
        self._finish(self._last_answer)

    def _connect(self, server: str) -> socket.socket:
        family = socket.AF_INET6 if ":" in server else socket.AF_INET
        self._socket = sock = socket.socket(family, self.kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            sock.connect(_socket_address(server, self._forwarder.port))
        except BlockingIOError:
            pass
        return sock

    def _message(self) -> bytes:
        return struct.pack(">H", self._identifier) + self._query.data[2:]

    def _avoid_server(self) -> None:
        self._left = [index for index in self._left if index != self._server]

    def _receive(self, message: bytes) -> None:
        if not dns_message.answers(message, self._identifier, self._query.raw):
            return
        answer = self._query.data[:2] + message[2:]
        if dns_message.response_code(message) in UNHELPFUL:
            self._last_answer = answer
            self._avoid_server()
            self.try_next()
            return
        self._forwarder.first = self._server
        self._finish(answer)

    def _finish(self, answer: bytes | None) -> None:
        self.drop_socket()
        self._forwarder.forget(self)
        self._reply(answer)

    def drop_socket(self) -> None:
        """Close the socket and stop the clock."""
        self._forwarder.loop.cancel(self._timer)
        if self._socket is not None:
            self._forwarder.loop.remove(self._socket.fileno())
            self._socket.close()
            self._socket = None

    def _send(self, sock: socket.socket) -> None:
        raise NotImplementedError


class _UdpExchange(_Exchange):
    def _send(self, sock: socket.socket) -> None:
        sock.send(self._message())
        self._forwarder.loop.add_reader(sock.fileno(), self._on_readable)

    def _on_readable(self) -> None:
        if self._socket is None:
            return
        try:
            message = self._socket.recv(MESSAGE_BYTES)
        except BlockingIOError:
            return
        except OSError:  # Nobody listens there.
            self._avoid_server()
            self.try_next()
            return
        self._receive(message)


class _TcpExchange(_Exchange):
    kind = socket.SOCK_STREAM

    def _send(self, sock: socket.socket) -> None:
        message = self._message()
        self._unsent = struct.pack(">H", len(message)) + message
        self._received = b""
        self._forwarder.loop.add_writer(sock.fileno(), self._on_writable)

    def _on_writable(self) -> None:
        if self._socket is None:
            return
        try:
            self._unsent = self._unsent[self._socket.send(self._unsent) :]
        except BlockingIOError:
            return
        except OSError:
            self._avoid_server()
            self.try_next()
            return
        if not self._unsent:
            self._forwarder.loop.remove(self._socket.fileno())
            self._forwarder.loop.add_reader(self._socket.fileno(), self._on_readable)

    def _on_readable(self) -> None:
        if self._socket is None:
            return
        try:
            data = self._socket.recv(MESSAGE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._received += data
        if len(self._received) >= 2:
            (length,) = struct.unpack_from(">H", self._received)
            if len(self._received) >= 2 + length:
                self._receive(self._received[2 : 2 + length])
                return
        if not data:
            self._avoid_server()
            self.try_next()


def _socket_address(server: str, port: int) -> tuple[str, int] | tuple[str, int, int, int]:
    if ":" not in server:
        return server, port
    address, _, zone = server.partition("%")
    return address, port, 0, socket.if_nametoindex(zone) if zone else 0
