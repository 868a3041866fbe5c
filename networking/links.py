"""Bridges. pyroute2 makes, inspects and removes them, in this process or in a worker that imports it ahead of time.

Importing pyroute2 takes a fifth of a second. A command that will want a bridge spawns a `LinkWorker` first of all and
reads its files meanwhile. Whether a bridge is as it should be already is one netlink question that needs neither.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import socket
import sys
import threading
from dataclasses import asdict
from typing import Any, Protocol

from engine.errors import KernelError, Unsupported
from engine.frozen import frozen
from engine.kernel.netlink import NetlinkError, RouteNetlink

MESSAGE_BYTES = 1 << 16
SOCKET_FD = 3


@frozen
class Bridge:
    """A bridge as it should be. `alias` tells whose it is (`ip link` shows it)."""

    name: str
    address: str
    prefix_length: int
    mac_address: str
    mtu: int
    alias: str

    def is_right(self) -> bool:
        """Whether the kernel has it so: a bridge of that name that is up and has the address."""
        with RouteNetlink() as netlink:
            link = netlink.link(self.name)
            if link is None or link.kind != "bridge" or not link.is_up:
                return False
            return (self.address, self.prefix_length) in netlink.addresses(link.index)


class Links(Protocol):
    """What makes and removes bridges."""

    def ensure_bridge(self, bridge: Bridge) -> None:
        """Make the bridge, or make an existing one right."""

    def remove_bridge(self, name: str) -> None:
        """Remove a bridge, whatever is still plugged into it. One that is gone is fine."""

    def close(self) -> None:
        """Give back what was held."""


class PyrouteLinks:
    """pyroute2 in this process."""

    def ensure_bridge(self, bridge: Bridge) -> None:
        if not bridge.is_right():
            with _kernel_errors(f"cannot make bridge {bridge.name}"):
                _make(bridge)
            _disable_ipv6(bridge.name)

    def remove_bridge(self, name: str) -> None:
        from pyroute2 import IPRoute

        with _kernel_errors(f"cannot remove bridge {name}"), IPRoute() as route:
            for index in route.link_lookup(ifname=name, kind="bridge"):
                route.link("del", index=index)

    def inspect(self, name: str) -> dict[str, Any] | None:
        """What pyroute2 says of a bridge: state, mtu, addresses, ports, forward delay and STP; None if there is none."""
        from pyroute2 import IPRoute

        with _kernel_errors(f"cannot inspect bridge {name}"), IPRoute() as route:
            for index in route.link_lookup(ifname=name, kind="bridge"):
                return _describe(route, index)
        return None

    def close(self) -> None:
        """Nothing is held between calls."""


class LinkWorker:
    """pyroute2 in a process of its own, which imports it while the caller does other things. Safe to share between threads.

    Where no import is needed none is waited for: a bridge that is right is left alone, and removing one is a single
    message that this process sends itself.
    """

    def __init__(self, pid: int, sock: socket.socket) -> None:
        self._pid = pid
        self._socket = sock
        self._lock = threading.Lock()
        self._is_closed = False

    @classmethod
    def spawn(cls) -> LinkWorker:
        """Start the worker; returns at once. It ends when this process closes it or ends itself."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            project = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
            code = (
                f"import sys; sys.path.insert(0, {project!r}); from networking.links import serve; serve({SOCKET_FD})"
            )
            # Of the caller's descriptors it keeps none: a pipe that the caller's reader waits on must not stay open in it.
            null = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in (0, 1, 2)]
            actions = [*null, (os.POSIX_SPAWN_DUP2, theirs.fileno(), SOCKET_FD)]
            environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8"}
            # A process group of its own, so that Ctrl-C reaches the command only.
            pid = os.posix_spawn(
                sys.executable, [sys.executable, "-I", "-c", code], environment, file_actions=actions, setpgroup=0
            )
        return cls(pid, ours)

    def ensure_bridge(self, bridge: Bridge) -> None:
        if not bridge.is_right():
            self._ask({"op": "ensure_bridge", "bridge": asdict(bridge)})

    def remove_bridge(self, name: str) -> None:
        remove_bridge(name)

    def _ask(self, request: dict[str, Any]) -> None:
        with self._lock:
            try:
                self._socket.send(json.dumps(request).encode())
                answer = self._socket.recv(MESSAGE_BYTES)
            except OSError:
                answer = b""
        if not answer:
            raise KernelError("the process that makes bridges has ended", hint="run the command again")
        result = json.loads(answer)
        if result.get("kind") == "unsupported":
            raise Unsupported(result["message"], hint=result.get("hint"))
        if result.get("kind"):
            raise KernelError(result["message"], errno=result.get("errno", 0))

    def close(self) -> None:
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
            self._socket.close()
            # It may still be importing; there is nothing in it to be saved.
            with contextlib.suppress(OSError):
                os.kill(self._pid, signal.SIGKILL)
                os.waitpid(self._pid, 0)


def remove_bridge(name: str) -> None:
    """Remove a bridge, whatever is still plugged into it, by one message of our own: `down` need not wait for an import."""
    with RouteNetlink() as netlink:
        netlink.delete_link(name)
        try:
            netlink.flush()
        except NetlinkError as error:
            if error.errno != errno.ENODEV:
                raise KernelError(f"cannot remove bridge {name}: {error.strerror}", errno=error.errno or 0) from error


def serve(fd: int) -> None:
    """Be the worker: answer requests on a socket until it is closed."""
    links = PyrouteLinks()
    with socket.socket(fileno=fd) as sock:
        failure: dict[str, Any] | None = None
        try:
            import pyroute2  # noqa: F401
        except ImportError as error:
            failure = {"kind": "unsupported", "message": f"cannot make bridges: {error}", "hint": "install pyroute2"}
        while request := sock.recv(MESSAGE_BYTES):
            sock.send(json.dumps(failure or _answer(links, json.loads(request))).encode())
    os._exit(0)


def _answer(links: PyrouteLinks, request: dict[str, Any]) -> dict[str, Any]:
    try:
        links.ensure_bridge(Bridge(**request["bridge"]))
    except KernelError as error:
        return {"kind": "kernel", "message": error.message, "errno": error.errno}
    except Exception as error:
        return {"kind": "kernel", "message": f"cannot make bridges: {error!r}"}
    return {}


def _make(bridge: Bridge) -> None:
    from pyroute2 import IPRoute

    with IPRoute() as route:
        existing = route.link_lookup(ifname=bridge.name)
        if not existing:
            # Its own MAC address: else it takes the lowest of its ports', and neighbours' ARP entries go wrong when that goes.
            options = {"br_forward_delay": 0, "br_stp_state": 0, "address": bridge.mac_address, "mtu": bridge.mtu}
            route.link("add", ifname=bridge.name, kind="bridge", **options)
            existing = route.link_lookup(ifname=bridge.name)
        index = existing[0]
        with RouteNetlink() as netlink:
            has_address = (bridge.address, bridge.prefix_length) in netlink.addresses(index)
        if not has_address:
            route.addr("add", index=index, address=bridge.address, prefixlen=bridge.prefix_length)
        route.link("set", index=index, state="up", ifalias=bridge.alias)


def _describe(route: Any, index: int) -> dict[str, Any]:
    link = route.get_links(index)[0]
    data = link.get_nested("IFLA_LINKINFO", "IFLA_INFO_DATA")
    ports = [port for port in route.get_links() if port.get_attr("IFLA_MASTER") == index]
    addresses = route.get_addr(index=index, family=socket.AF_INET)
    return {
        "state": link["state"],
        "mtu": link.get_attr("IFLA_MTU"),
        "mac_address": link.get_attr("IFLA_ADDRESS"),
        "alias": link.get_attr("IFLA_IFALIAS"),
        "addresses": [f"{each.get_attr('IFA_ADDRESS')}/{each['prefixlen']}" for each in addresses],
        "ports": sorted(port.get_attr("IFLA_IFNAME") for port in ports),
        "forward_delay": data.get_attr("IFLA_BR_FORWARD_DELAY"),
        "stp_state": data.get_attr("IFLA_BR_STP_STATE"),
    }


def _disable_ipv6(name: str) -> None:
    with contextlib.suppress(OSError), open(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6", "w") as file:
        file.write("1")


@contextlib.contextmanager
def _kernel_errors(what: str) -> Any:
    from pyroute2.netlink.exceptions import NetlinkError as PyrouteError

    try:
        yield
    except PyrouteError as error:
        raise KernelError(f"{what}: {os.strerror(error.code)}", errno=error.code) from error
    except OSError as error:
        raise KernelError(f"{what}: {error.strerror}", errno=error.errno or 0) from error
