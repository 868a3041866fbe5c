"""The name server of one container: a monitor service that answers at 127.0.0.11 in its network namespace.

Names of the container's networks come from `names`, all else is forwarded by `dns_forward` from the host's side. The
sockets sit on a high port and NAT inside the namespace leads port 53 there, so that a program in the container may have
port 53 for itself. Where the kernel has no nf_tables they sit on port 53. Standard library only.
"""

from __future__ import annotations

import socket
import struct

from engine.kernel import nftables as nft
from networking import dns_message
from networking.dns_forward import Forwarder
from networking.firewall import NO_NF_TABLES
from networking.names import Names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from engine.runtime.loop import Timer
    from engine.runtime.services import Host

ADDRESS = "127.0.0.11"
PORT = 53
TABLE = "umiak-dns"
TTL_S = 5
"""Short, since containers come and go; long enough to spare a client that asks before each connection."""
BIND_ATTEMPTS = 20
TURN_DATAGRAMS = 64
DATAGRAM_BYTES = 4096
MAX_CONNECTIONS = 64
CONNECTION_IDLE_S = 10.0
MAX_UNSENT_BYTES = 1 << 20


def create(config: Mapping[str, Any], host: Host) -> NameServer:
    """Make the service of a `monitor.json` entry."""
    return NameServer(config, host)


class NameServer:
    """Implements `engine.runtime.services.Service`."""

    def __init__(self, config: Mapping[str, Any], host: Host) -> None:
        self._host = host
        self._names = Names(config["networks"])
        self._forwarder = Forwarder(host.loop, config["servers"])
        self._udp: socket.socket | None = None
        self._tcp: socket.socket | None = None
        self._connections: set[Connection] = set()

    def acquire(self) -> None:
        """Open the sockets in the namespace and lead port 53 to them."""
        try:
            with self._host.in_netns():
                self._udp, self._tcp = _bind(0)
                try:
                    _redirect(self._udp.getsockname()[1])
                except OSError as error:
                    if error.errno not in NO_NF_TABLES:
                        raise
                    self._close_sockets()
                    self._udp, self._tcp = _bind(PORT)
        except BaseException:
            self.release()
            raise
        self._host.loop.add_reader(self._udp.fileno(), self._on_datagrams)
        self._host.loop.add_reader(self._tcp.fileno(), self._on_client)

    def ports(self) -> list[dict[str, Any]]:
        """A name server publishes nothing."""
        return []

    def release(self) -> None:
        """Close everything. The rule goes with the namespace, or is replaced by the next monitor's."""
        for connection in list(self._connections):
            connection.close()
        self._close_sockets()
        self._forwarder.close()

    def _close_sockets(self) -> None:
        for sock in (self._udp, self._tcp):
            if sock is not None and sock.fileno() >= 0:
                self._host.loop.remove(sock.fileno())
                sock.close()
        self._udp = self._tcp = None

    def _on_datagrams(self) -> None:
        for _ in range(TURN_DATAGRAMS):
            if self._udp is None:
                return
            try:
                data, client = self._udp.recvfrom(DATAGRAM_BYTES)
            except OSError:
                return
            self._answer_datagram(data, client)

    def _answer_datagram(self, data: bytes, client: Any) -> None:
        def reply(message: bytes) -> None:
            if self._udp is not None:
                try:
                    self._udp.sendto(message, client)
                except OSError:
                    pass  # The client has gone, or its queue is full: it will ask again.

        self.answer(data, reply, by_tcp=False)

    def _on_client(self) -> None:
        if self._tcp is None:
            return
        try:
            client, _ = self._tcp.accept()
        except OSError:
            return
        if len(self._connections) >= MAX_CONNECTIONS:
            client.close()
            return
        self._connections.add(Connection(self, self._host, client))

    def forget(self, connection: Connection) -> None:
        """A client's connection has ended."""
        self._connections.discard(connection)

    def answer(self, data: bytes, reply: Callable[[bytes], None], *, by_tcp: bool) -> None:
        """Answer one message, now or later. What is no query gets no answer."""
        try:
            query = dns_message.Query(data)
        except dns_message.Malformed:
            return
        records = self._records(query)
        if records is not None:
            reply(query.answer(records) if by_tcp else query.datagram(records))
        elif not self._forwarder.servers or self._names.holds(query.reverse_address() or "0.0.0.0"):
            reply(query.answer([], dns_message.NXDOMAIN))
        else:

            def forwarded(message: bytes | None) -> None:
                reply(message or query.answer([], dns_message.SERVFAIL))

            self._forwarder.ask(query, forwarded, by_tcp=by_tcp)

    def _records(self, query: dns_message.Query) -> list[bytes] | None:
        """The records of a name or address of ours; none for a type that it has not. None: not ours."""
        if not query.is_standard:
            return None
        if address := query.reverse_address():
            name = self._names.name_of(address)
            return [dns_message.pointer_record(name, TTL_S)] if name else None
        addresses = self._names.addresses(query.name)
        if not addresses:
            return None
        if query.kind not in (dns_message.TYPE_A, dns_message.TYPE_ANY):
            return []
        return [dns_message.address_record(each, TTL_S) for each in addresses]


class Connection:
    """A client that asks by TCP: messages with their length in front (RFC 1035, 4.2.2)."""

    def __init__(self, server: NameServer, host: Host, sock: socket.socket) -> None:
        self._server = server
        self._loop = host.loop
        self._socket = sock
        self._received = b""
        self._unsent = b""
        self._timer: Timer | None = None
        sock.setblocking(False)
        self._loop.add_reader(sock.fileno(), self._on_readable)
        self._restart_clock()

    def _restart_clock(self) -> None:
        self._loop.cancel(self._timer)
        self._timer = self._loop.call_later(CONNECTION_IDLE_S, self.close)

    def _on_readable(self) -> None:
        try:
            data = self._socket.recv(DATAGRAM_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        self._restart_clock()
        self._received += data
        while len(self._received) >= 2:
            (length,) = struct.unpack_from(">H", self._received)
            if len(self._received) < 2 + length:
                return
            message, self._received = self._received[2 : 2 + length], self._received[2 + length :]
            self._server.answer(message, self._reply, by_tcp=True)

    def _reply(self, message: bytes) -> None:
        if self._socket.fileno() < 0:
            return
        self._unsent += struct.pack(">H", len(message)) + message
        self._flush()

    def _flush(self) -> None:
        try:
            self._unsent = self._unsent[self._socket.send(self._unsent) :]
        except BlockingIOError:
            pass
        except OSError:
            self._unsent = b""
        if len(self._unsent) > MAX_UNSENT_BYTES:
            self.close()
        elif self._unsent:
            self._loop.add_writer(self._socket.fileno(), self._flush)
        else:
            self._loop.remove_writer(self._socket.fileno())

    def close(self) -> None:
        """End the connection. May be repeated."""
        self._loop.cancel(self._timer)
        if self._socket.fileno() >= 0:
            self._loop.remove(self._socket.fileno())
            self._socket.close()
        self._server.forget(self)


def _bind(port: int) -> tuple[socket.socket, socket.socket]:
    """A UDP and a TCP socket on the same port; 0: one that is free for both."""
    for attempt in range(BIND_ATTEMPTS):
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            udp.bind((ADDRESS, port))
            tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tcp.bind(udp.getsockname())
            tcp.listen(MAX_CONNECTIONS)
            return udp, tcp
        except OSError:
            udp.close()
            tcp.close()
            if port or attempt == BIND_ATTEMPTS - 1:
                raise
    raise AssertionError("unreachable")


def _redirect(port: int) -> None:
    """Lead what is sent to 127.0.0.11:53 in the present namespace to our port; replaces an earlier monitor's rule."""
    batch = nft.Batch(TABLE)
    batch.add_table()
    batch.delete_table()
    batch.add_table()
    batch.add_chain("output", "nat", nft.HOOK_OUTPUT, nft.PRIORITY_DSTNAT)
    first = nft.REGISTERS
    for number in (socket.IPPROTO_UDP, socket.IPPROTO_TCP):
        batch.add_rule(
            "output",
            *(nft.load_destination(), nft.equal(nft.ipv4(ADDRESS))),
            *(nft.load_meta(nft.META_L4PROTO), nft.equal(bytes((number,)))),
            *(nft.load_destination_port(), nft.equal(struct.pack(">H", PORT))),
            *(nft.load_constant(nft.ipv4(ADDRESS), first), nft.load_constant(nft.port(port), first + 1)),
            nft.dnat(first, first + 1),
        )
    batch.send()
