"""Published ports of one container: a monitor service.

The host's port is bound first, so that a port in use is an exact error before anything runs. Clients on this host are
served by `proxy`; clients from elsewhere are led by NAT, where there is any, so that the container sees their address;
where there is none, they reach the bound socket and are served by `proxy` too. Standard library only.
"""

from __future__ import annotations

import errno
import os
import socket

from engine.kernel import conntrack
from engine.runtime.services import ServiceError
from networking import port_owner
from networking.firewall import NO_NF_TABLES, Firewall
from networking.proxy import Proxy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from engine.runtime.services import Host

BACKLOG = 4096
ANY = "0.0.0.0"
KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}


def create(config: Mapping[str, Any], host: Host) -> PublishedPorts:
    """Make the service of a `monitor.json` entry."""
    return PublishedPorts(config, host)


class PublishedPorts:
    """Implements `engine.runtime.services.Service`."""

    def __init__(self, config: Mapping[str, Any], host: Host) -> None:
        self._host = host
        self._address: str = config["address"]
        self._containers: str = config["containers"]
        self._wanted: list[Mapping[str, Any]] = config["ports"]
        self._firewall = Firewall(config["table"])
        self._proxy: Proxy | None = None
        self._published: list[dict[str, Any]] = []

    def acquire(self) -> None:
        """Bind all ports, serve them, and lead outside clients to the container."""
        self._proxy = Proxy(self._host)
        try:
            for wanted in self._wanted:
                self._publish(self._proxy, wanted)
            self._lead_outside_clients()
        except BaseException:
            self.release()
            raise

    def ports(self) -> list[dict[str, Any]]:
        """The ports as really published."""
        return self._published

    def release(self) -> None:
        """Close everything and take the NAT elements away."""
        if self._proxy is None:
            return
        self._proxy.close()
        self._proxy = None
        self._published = []
        try:
            self._firewall.withdraw({self._address})
            conntrack.forget(self._address)
        except OSError as error:
            if error.errno not in NO_NF_TABLES:
                raise

    def _publish(self, proxy: Proxy, wanted: Mapping[str, Any]) -> None:
        protocol, inner = wanted["protocol"], wanted["container_port"]
        host_ip = wanted.get("host_ip") or ANY
        sockets = self._bind_first_free(wanted, protocol, host_ip)
        port = sockets[0].getsockname()[1]
        if not wanted.get("host_ip"):
            sockets += _also_on_ipv6(protocol, port)
        serve = proxy.serve_tcp if protocol == "tcp" else proxy.serve_udp
        for sock in sockets:
            serve(sock, self._address, inner)
        self._published.append(
            {"host_ip": host_ip, "host_port": port, "container_port": inner, "protocol": protocol},
        )

    def _bind_first_free(self, wanted: Mapping[str, Any], protocol: str, host_ip: str) -> list[socket.socket]:
        for port in self._candidates(wanted):
            try:
                return [_bind(protocol, host_ip, port)]
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise _bind_error(error, protocol, host_ip, port) from error
        raise self._in_use(wanted, protocol, host_ip)

    def _candidates(self, wanted: Mapping[str, Any]) -> Iterable[int]:
        first = wanted.get("host_port")
        if first is not None:
            return range(first, (wanted.get("host_port_last") or first) + 1)
        # A monitor that takes over from a killed one keeps the port that clients know.
        return [*self._ports_led_here(wanted["protocol"], wanted["container_port"]), 0]

    def _ports_led_here(self, protocol: str, inner: int) -> list[int]:
        try:
            return self._firewall.ports_of(protocol, self._address, inner)
        except OSError:
            return []

    def _in_use(self, wanted: Mapping[str, Any], protocol: str, host_ip: str) -> ServiceError:
        first, last = wanted["host_port"], wanted.get("host_port_last") or wanted["host_port"]
        if last > first:
            return ServiceError(
                "conflict",
                f"cannot publish port {wanted['container_port']}/{protocol} on {host_ip}: all ports of {first}-{last} are in use",
                "change 'ports' to a wider range",
            )
        owner = port_owner.find(protocol, first, self._containers)
        message = f"cannot publish port {first}/{protocol} on {host_ip}: already"
        if owner is None:
            return ServiceError("conflict", f"{message} in use", "change 'ports' or stop what uses that port")
        return ServiceError("conflict", f"{message} used by {owner}", owner.hint)

    def _lead_outside_clients(self) -> None:
        try:
            self._firewall.publish(
                (
                    *("" if port["host_ip"] == ANY else port["host_ip"], port["protocol"], port["host_port"]),
                    *(self._address, port["container_port"]),
                )
                for port in self._published
                if ":" not in port["host_ip"] and not port["host_ip"].startswith("127.")
            )
        except OSError as error:
            if error.errno not in NO_NF_TABLES:
                raise


def _bind(protocol: str, host_ip: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host_ip else socket.AF_INET
    sock = socket.socket(family, KINDS[protocol] | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if protocol == "tcp":
            # Connections of an earlier container in TIME_WAIT do not count. For UDP it would let two share the port.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host_ip, port))
        if protocol == "tcp":
            sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def _also_on_ipv6(protocol: str, port: int) -> list[socket.socket]:
    """The same port for clients that take `localhost` for ::1, where the host has IPv6 and nobody has that port."""
    try:
        return [_bind(protocol, "::", port)]
    except OSError:
        return []


def _bind_error(error: OSError, protocol: str, host_ip: str, port: int) -> ServiceError:
    what = f"cannot publish port {port}/{protocol} on {host_ip}"
    if error.errno == errno.EADDRNOTAVAIL:
        return ServiceError("invalid", f"{what}: this host has no such address", "use an address of this host, or none")
    if error.errno in (errno.EACCES, errno.EPERM):
        return ServiceError("denied", f"{what}: not permitted", "use a port from 1024 up, or run as root")
    return ServiceError("kernel", f"{what}: {os.strerror(error.errno or 0)}")
