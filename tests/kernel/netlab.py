"""A host of its own for a network test: a new network namespace with a way out, bridges, containers' namespaces, an outside.

Nothing here touches the machine's own network: bridges, rules and `ip_forward` are those of the new namespace.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from engine.kernel.process import CLONE_NEWNET, setns, unshare
from engine.paths import Paths
from engine.runtime import endpoints as attachment
from engine.runtime.loop import Loop
from engine.runtime.netns import Visit
from engine.runtime.services import create
from engine.state import State
from engine.types import EndpointInfo, EndpointRequest, PortBinding
from networking.driver import BridgeNetworks
from networking.links import PyrouteLinks
from tests.patience import PATIENCE

T = TypeVar("T")

HOST, OUTSIDE = "198.51.100.1", "198.51.100.2"
PATIENCE_S = 5.0 * PATIENCE


class Namespace:
    """A network namespace kept alive by its descriptor."""

    def __init__(self) -> None:
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        unshare(CLONE_NEWNET)
        self.fd = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        setns(home, CLONE_NEWNET)
        os.close(home)

    def do(self, action: Callable[[], T]) -> T:
        """Do something inside."""
        with Visit(self.fd):
            return action()

    def connect(self, address: str, port: int) -> socket.socket:
        """A TCP connection from inside."""
        return self.do(lambda: socket.create_connection((address, port), timeout=PATIENCE_S))

    def can_connect(self, address: str, port: int) -> bool:
        """Whether a connection comes about soon."""
        try:
            self.do(lambda: socket.create_connection((address, port), timeout=0.5)).close()
            return True
        except OSError:
            return False

    def ask_udp(self, address: str, port: int, data: bytes, timeout_s: float = PATIENCE_S) -> bytes:
        """One datagram there and back, from a connected socket, so only the very peer's answer counts."""
        with self.do(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sock:
            sock.settimeout(timeout_s)
            sock.connect((address, port))
            sock.send(data)
            return sock.recv(65535)

    def close(self) -> None:
        os.close(self.fd)


class Host:
    """What a monitor offers its services, with the loop in a thread."""

    def __init__(self, container_id: str, netns_fd: int) -> None:
        self.id = container_id
        self.netns_fd = netns_fd
        self.errors: list[BaseException] = []
        self.loop = Loop(self.errors.append)
        self._thread: threading.Thread | None = None
        self._is_stopping = False

    def in_netns(self) -> Visit:
        return Visit(self.netns_fd)

    def start(self) -> None:
        self._is_stopping = False
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        # Not `loop.run`: a loop that was stopped stays so, and a test that plays a new monitor starts again.
        while not self._is_stopping:
            self.loop.step()

    def stop(self) -> None:
        if self._thread is not None:
            reader, writer = os.pipe()
            self.loop.add_reader(reader, self._stop_serving)
            os.write(writer, b"x")
            self._thread.join(PATIENCE_S)
            self.loop.remove(reader)
            os.close(reader)
            os.close(writer)
            self._thread = None

    def _stop_serving(self) -> None:
        self._is_stopping = True


class Container(Namespace):
    """A container without a process: its namespace, attached, with the services of its monitor running."""

    def __init__(self, lab: Lab, name: str, networks: list[EndpointRequest], ports: list[PortBinding]) -> None:
        super().__init__()
        self._lab = lab
        self.id = (name.encode().hex() + "0" * 64)[:64]
        self.name = name
        run = Path(lab.paths.container_run(self.id))
        run.mkdir(parents=True)
        self.endpoints = lab.driver.lease(self.id, name, networks)
        attachment.attach(self.fd, [self._entry(endpoint) for endpoint in self.endpoints])
        self.host = Host(self.id, self.fd)
        wanted = lab.driver.services(self.id, self.endpoints, ports, dns=lab.dns, dns_search=(), dns_opt=())
        self.services = [create(each, self.host) for each in wanted]
        try:
            for service in self.services:
                service.acquire()
        except BaseException:
            self.close()
            raise
        for endpoint in self.endpoints:
            self.publish_names(endpoint)
        self.host.start()

    def _entry(self, endpoint: EndpointInfo) -> dict[str, Any]:
        with_gateway = [each for each in self.endpoints if each.gateway]
        return {
            **{name: getattr(endpoint, name) for name in ("network", "ipv4_address", "prefix_length", "gateway")},
            **{name: getattr(endpoint, name) for name in ("mac_address", "ifname", "link")},
            "bridge": f"um-{endpoint.network_id[:10]}",
            "default_route": bool(with_gateway) and endpoint is with_gateway[0],
        }

    def publish_names(self, endpoint: EndpointInfo) -> None:
        directory = Path(self._lab.paths.network_run(endpoint.network_id))
        record = {"ip": endpoint.ipv4_address, "names": [self.name, self.id[:12], *endpoint.aliases]}
        (directory / f".{self.id}").write_text(json.dumps(record))
        (directory / f".{self.id}").rename(directory / self.id)

    @property
    def address(self) -> str:
        return self.endpoints[0].ipv4_address

    @property
    def published(self) -> list[dict[str, Any]]:
        return [port for service in self.services for port in service.ports()]

    def serve(self, port: int, kind: str = "tcp") -> None:
        """Answer each client with its own address and what it sent; TCP until it has sent all."""
        serve(self.do(lambda: listen(port, kind)), kind)

    def stop(self) -> None:
        """What the monitor does at its container's final exit."""
        self.host.stop()
        for service in self.services:
            service.release()
        for endpoint in self.endpoints:
            Path(self._lab.paths.network_run(endpoint.network_id), self.id).unlink(missing_ok=True)

    def close(self) -> None:
        self.stop()
        super().close()


class Lab:
    """The host. While it is open the calling thread is in its namespace."""

    def __init__(self, base: Path) -> None:
        self._home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        unshare(CLONE_NEWNET)
        Path("/proc/sys/net/ipv4/ip_forward").write_text("0")  # a new namespace inherits the machine's
        self.paths = Paths(str(base / "root"), str(base / "run"))
        self.dns: tuple[str, ...] = ("127.0.0.99",)  # where nobody listens
        self.outside = Namespace()
        self._make_way_out()
        self.state = State(self.paths.database)
        self.driver = BridgeNetworks(self.paths, self.state, PyrouteLinks())
        self.containers: list[Container] = []

    def _make_way_out(self) -> None:
        from pyroute2 import IPRoute

        with IPRoute() as route:
            route.link("set", index=1, state="up")
            route.link("add", ifname="out0", kind="veth", peer={"ifname": "out1", "net_ns_fd": self.outside.fd})
            index = route.link_lookup(ifname="out0")[0]
            route.addr("add", index=index, address=HOST, prefixlen=24)
            route.link("set", index=index, state="up")
            route.route("add", dst="default", gateway=OUTSIDE)
        self.outside.do(self._configure_outside)

    @staticmethod
    def _configure_outside() -> None:
        from pyroute2 import IPRoute

        with IPRoute() as route:
            index = route.link_lookup(ifname="out1")[0]
            route.addr("add", index=index, address=OUTSIDE, prefixlen=24)
            for each in (1, index):
                route.link("set", index=each, state="up")

    def container(
        self, name: str, *networks: str | EndpointRequest, ports: list[PortBinding] | None = None
    ) -> Container:
        requests = [
            EndpointRequest(each, (name.split("-")[0],)) if isinstance(each, str) else each for each in networks
        ]
        made = Container(self, name, requests, ports or [])
        self.containers.append(made)
        return made

    def close(self) -> None:
        for container in self.containers:
            with contextlib.suppress(OSError):
                container.close()
        self.driver.close()
        self.state.close()
        self.outside.close()
        setns(self._home, CLONE_NEWNET)
        os.close(self._home)


def listen(port: int, kind: str = "tcp", address: str = "0.0.0.0") -> socket.socket:
    """A bound socket in the present namespace."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((address, port))
    if kind == "tcp":
        sock.listen(2048)
    return sock


def serve(sock: socket.socket, kind: str = "tcp") -> None:
    """Answer clients from a thread: their address, a space, what they sent."""

    def converse(client: socket.socket, peer: Any) -> None:
        with client, contextlib.suppress(OSError):
            client.sendall(f"{peer[0]} ".encode())
            while data := client.recv(1 << 16):
                client.sendall(data)

    def accept() -> None:
        while True:
            client, peer = sock.accept()
            threading.Thread(target=converse, args=(client, peer), daemon=True).start()

    def echo() -> None:
        while True:
            data, peer = sock.recvfrom(65535)
            sock.sendto(f"{peer[0]} ".encode() + data, peer)

    threading.Thread(target=accept if kind == "tcp" else echo, daemon=True).start()


def converse(sock: socket.socket, data: bytes) -> bytes:
    """Send all, close that direction, read all."""
    received = []
    sender = send_all(sock, data)
    with sock:
        while piece := sock.recv(1 << 16):
            received.append(piece)
        sender.join(PATIENCE_S)
    return b"".join(received)


def send_all(sock: socket.socket, data: bytes) -> threading.Thread:
    """Send from a thread, then close that direction."""

    def send() -> None:
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)

    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    return sender


def question(name: str, kind: int = 1, identifier: int = 0x1234) -> bytes:
    """A DNS query."""
    labels = b"".join(bytes((len(label),)) + label.encode() for label in name.split("."))
    return struct.pack(">6H", identifier, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">2H", kind, 1)


def addresses(message: bytes) -> list[str]:
    """The addresses in an answer whose records all point to its question."""
    flags, _, count = struct.unpack_from(">3H", message, 2)
    assert flags & 0x8000
    offset = 12
    while message[offset]:
        offset += message[offset] + 1
    offset += 5
    found = []
    for _ in range(count):
        length = struct.unpack_from(">H", message, offset + 10)[0]
        found.append(socket.inet_ntoa(message[offset + 12 : offset + 12 + length]))
        offset += 12 + length
    return found


def code(message: bytes) -> int:
    """The RCODE of an answer."""
    return message[3] & 0xF
