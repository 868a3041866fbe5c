"""The network driver: networks and leases in the database (`records`), bridges and firewall elements in the kernel.

Whatever is left of an operation that was killed half-way is found from its row. The containers' side (veth, address,
names, published ports) is their monitors' work; here is what must be undone when a monitor could not.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import sys
import threading
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from engine.errors import KernelError, UmiakError, Unsupported
from engine.kernel import conntrack
from engine.kernel.netlink import NetlinkError, RouteNetlink
from engine.paths import Paths
from engine.runtime import liveness
from engine.state import State
from engine.types import EndpointInfo, EndpointRequest, NetworkInfo, NetworkSpec, PortBinding
from networking import ipam, resolver
from networking.firewall import NO_NF_TABLES, Firewall
from networking.links import Bridge, Links, LinkWorker, PyrouteLinks, remove_bridge
from networking.records import DEFAULT_NETWORK, MTU_OPTION, Records, check_spec

TABLE_VARIABLE = "UMIAK_NFT_TABLE"
SYSTEM_ROOT = "/var/lib/umiak"
DEFAULT_MTU = 1500


class BridgeNetworks:
    """Implements `engine.ports.NetworkDriver` with Linux bridges. Safe to share between threads.

    `links` makes bridges; without one, a worker is started when the first is to be made. `warnings` says what this host
    cannot do (NAT, for one), for whoever wants to show it.
    """

    def __init__(self, paths: Paths, state: State, links: Links | None = None) -> None:
        self._paths = paths
        self._records = Records(state)
        self._links = links
        self._links_lock = threading.Lock()
        self._host = HostLock()
        self.firewall = Firewall(table_name(paths.root))
        self.warnings: list[str] = []

    def close(self) -> None:
        """End the worker, if there is one."""
        with self._links_lock:
            if self._links is not None:
                self._links.close()
                self._links = None

    def prepare(self) -> None:
        """Have pyroute2 imported by the time a bridge is to be made: by a worker, unless this process has it already."""
        self._link_maker()

    def create(self, spec: NetworkSpec) -> NetworkInfo:
        """Make a network: record it, then its bridge, firewall elements and run directory."""
        check_spec(spec)
        with self._host.held():
            self._finish_removals()
            network = self._records.add(spec)
            try:
                self._make(network)
            except BaseException as error:
                try:
                    self._unmake(network)
                except (UmiakError, OSError) as second:
                    error.add_note(f"and could not take back what was made: {second}")
                raise
        return network

    def ensure(self, network: NetworkInfo) -> None:
        """Bring back what is missing of a network in the kernel."""
        bridge = self._bridge(network)
        if bridge.is_right() and self._is_known_to_firewall(network) and os.path.isdir(self._run_directory(network)):
            return
        with self._host.held():
            self._make(network)

    def ensure_default(self) -> NetworkInfo:
        """Record the engine's own network if need be. It is made when a container starts on it."""
        return self._records.add_default()

    def remove(self, network: NetworkInfo) -> None:
        """Remove a network that no container is on."""
        self._records.mark_removing(network)
        self._finish_removals()

    def all(self) -> list[NetworkInfo]:
        """All networks that are not on their way out. A removal that was killed half-way is finished first."""
        if self._records.networks(removing=True):
            with self._host.held(wait=False) as is_held:
                if is_held:  # else whoever holds it is removing it
                    self._finish_removals()
        return self._records.networks()

    def lease(self, container_id: str, container_name: str, requests: Sequence[EndpointRequest]) -> list[EndpointInfo]:
        """Reserve one endpoint per request; the highest priority becomes eth0."""
        return self._records.lease(container_id, container_name, requests)

    def leases(self, container_id: str) -> list[EndpointInfo]:
        """The endpoints of a container, eth0 first."""
        return self._records.leases(container_id)

    def release(self, container_id: str) -> None:
        """Give back a container's leases. The default network goes with the last of its own."""
        endpoints = self.leases(container_id)
        if not endpoints:
            return
        self.withdraw(container_id)
        self._records.release(container_id)
        if any(endpoint.network == DEFAULT_NETWORK for endpoint in endpoints):
            self._drop_default()

    def withdraw(self, container_id: str) -> None:
        """Drop the names and published ports that a dead monitor left. Leases stay."""
        endpoints = self.leases(container_id)
        for endpoint in endpoints:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{self._paths.network_run(endpoint.network_id)}/{container_id}")
        addresses = {endpoint.ipv4_address for endpoint in endpoints}
        with _tolerating_no_nf_tables():
            for address in addresses if addresses and self.firewall.withdraw(addresses) else ():
                conntrack.forget(address)

    def services(
        self,
        container_id: str,
        endpoints: Sequence[EndpointInfo],
        ports: Sequence[PortBinding],
        *,
        dns: Sequence[str],
        dns_search: Sequence[str],  # noqa: ARG002
        dns_opt: Sequence[str],  # noqa: ARG002
    ) -> list[dict[str, Any]]:
        """The name server of a container on networks, and its published ports if one of them leads outside."""
        if not endpoints:
            return []
        way_out = next((endpoint for endpoint in endpoints if endpoint.gateway), None)
        networks = [
            {
                "name": endpoint.network,
                "names_dir": self._paths.network_run(endpoint.network_id),
                "subnet": f"{endpoint.ipv4_address}/{endpoint.prefix_length}",
            }
            for endpoint in endpoints
        ]
        names: dict[str, Any] = {"networks": networks, "servers": resolver.servers(dns) if way_out else []}
        services = [{"module": "networking.dns", "config": names}]
        if ports and way_out:
            published = {
                "table": self.firewall.table,
                "address": way_out.ipv4_address,
                "containers": os.path.dirname(self._paths.container(container_id)),
                "ports": [asdict(port) for port in ports],
            }
            services.append({"module": "networking.publish", "config": published})
        return services

    def resolv_conf(
        self,
        endpoints: Sequence[EndpointInfo],
        *,
        dns: Sequence[str],
        dns_search: Sequence[str],
        dns_opt: Sequence[str],
    ) -> str:
        """/etc/resolv.conf: our name server where there is one, else the host's."""
        return resolver.resolv_conf(bool(endpoints), dns, dns_search, dns_opt)

    def repair(self, live: Mapping[str, bool]) -> None:
        """Drop leases, names, ports and links that belong to nobody recorded in this state directory.

        Each step looks at the kernel or the disk first and at the records after that, so that what another command
        is just making is not taken for lost.
        """
        for container_id in self._records.lost_leases() - set(live):
            self.release(container_id)
        self._drop_default()
        self._finish_removals()
        running = {container_id for container_id, is_running in live.items() if is_running}
        self._drop_lost_names(running)
        self._drop_lost_ports(running)
        self._drop_lost_links()

    def _drop_lost_names(self, running: set[str]) -> None:
        for network in self._records.networks():
            directory = self._run_directory(network)
            with contextlib.suppress(FileNotFoundError):
                for name in os.listdir(directory):
                    if not name.startswith(".") and not self._is_running(name, running):
                        with contextlib.suppress(FileNotFoundError):
                            os.unlink(f"{directory}/{name}")

    def _drop_lost_ports(self, running: set[str]) -> None:
        def is_wanted(address: str) -> bool:
            holder = self._records.holder(address)
            return holder is not None and self._is_running(holder, running)

        with _tolerating_no_nf_tables():
            self.firewall.keep_only(is_wanted)
            for bridge in self.firewall.networks() - self._records.bridges():
                with self._host.held():
                    self.firewall.remove_network(bridge)

    def _drop_lost_links(self) -> None:
        with RouteNetlink() as netlink:
            links = netlink.links()
            recorded, leased = self._records.bridges(), self._records.links()
            ours = {link.index: link for link in links if link.name in recorded or link.alias == self._alias}
            lost = [link for link in ours.values() if link.name not in recorded]
            lost += [link for link in links if link.master in ours and link.kind == "veth" and link.name not in leased]
            for link in lost:
                netlink.delete_link(link.name)
                with contextlib.suppress(NetlinkError):  # gone meanwhile: its namespace was dying
                    netlink.flush()

    def _is_running(self, container_id: str, running: set[str]) -> bool:
        """Whether a container runs: known to, or started since and its monitor holds the lock."""
        return container_id in running or liveness.monitor_alive(self._paths.container_run(container_id))

    def _drop_default(self) -> None:
        """Remove the default network if no container is on it."""
        for network in self._records.networks():
            if network.spec.name == DEFAULT_NETWORK:
                with contextlib.suppress(UmiakError):  # still in use
                    self._records.mark_removing(network)
                    self._finish_removals()

    def _finish_removals(self) -> None:
        for network in self._records.networks(removing=True):
            with self._host.held():
                self._unmake(network)

    def _make(self, network: NetworkInfo) -> None:
        os.makedirs(self._run_directory(network), mode=0o755, exist_ok=True)
        bridge = self._bridge(network)
        self._link_maker().ensure_bridge(bridge if bridge.mtu else replace(bridge, mtu=_outside_mtu()))
        try:
            self.firewall.add_network(network.link, internal=network.spec.internal)
        except OSError as error:
            self._warn_or_raise(network, error)

    def _unmake(self, network: NetworkInfo) -> None:
        """Take away what there is of a network; the row goes last."""
        with _tolerating_no_nf_tables():
            self.firewall.remove_network(network.link)
        (self._links.remove_bridge if self._links else remove_bridge)(network.link)
        directory = self._run_directory(network)
        with contextlib.suppress(FileNotFoundError):
            for name in os.listdir(directory):
                os.unlink(f"{directory}/{name}")
            os.rmdir(directory)
        self._records.forget(network)

    def _warn_or_raise(self, network: NetworkInfo, error: OSError) -> None:
        if error.errno not in NO_NF_TABLES and error.errno != errno.EROFS:
            message = f"cannot set up NAT for network {network.spec.name}: {error}"
            raise KernelError(message, errno=error.errno or 0) from error
        if network.spec.internal:
            raise Unsupported(
                f"network {network.spec.name}: this host cannot keep an internal network closed ({error})",
                hint="load the kernel module nf_tables, or drop 'internal: true'",
            ) from error
        warning = (
            f"no NAT on this host ({error}): containers reach each other and published ports work,"
            " but containers cannot reach the outside"
        )
        if warning not in self.warnings:
            self.warnings.append(warning)

    def _is_known_to_firewall(self, network: NetworkInfo) -> bool:
        try:
            return network.link in self.firewall.networks()
        except OSError:
            return False

    def _bridge(self, network: NetworkInfo) -> Bridge:
        gateway = ipam.parse_address(network.gateway, network.spec.name)
        return Bridge(
            name=network.link,
            address=network.gateway,
            prefix_length=ipam.parse_subnet(network.subnet, network.spec.name).prefix_length,
            mac_address=ipam.mac_address(gateway),
            mtu=int(network.spec.options.get(MTU_OPTION) or 0),
            alias=self._alias,
        )

    @property
    def _alias(self) -> str:
        return f"umiak {self._paths.root}"

    def _run_directory(self, network: NetworkInfo) -> str:
        return self._paths.network_run(network.id)

    def _link_maker(self) -> Links:
        with self._links_lock:
            if self._links is None:
                self._links = PyrouteLinks() if "pyroute2" in sys.modules else LinkWorker.spawn()
            return self._links


class HostLock:
    """One holder at a time on this network stack, whatever its state directory: flock on the network namespace itself.

    A first or last network (table, forwarding) and the choice of a subnet concern them all. Threads may nest it.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._depth = 0
        self._fd = -1

    @contextlib.contextmanager
    def held(self, *, wait: bool = True) -> Iterator[bool]:
        """Hold it for a block. Without `wait`, the block learns whether it has it."""
        if not self._lock.acquire(blocking=wait):
            yield False
            return
        try:
            if self._depth == 0 and not self._acquire(wait):
                yield False
                return
            self._depth += 1
            try:
                yield True
            finally:
                self._depth -= 1
                if self._depth == 0:
                    fcntl.flock(self._fd, fcntl.LOCK_UN)  # a process forked meanwhile shares the descriptor
                    os.close(self._fd)
        finally:
            self._lock.release()

    def _acquire(self, wait: bool) -> bool:
        self._fd = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            os.close(self._fd)
            return False
        return True


def table_name(root: str) -> str:
    """The nf_tables table of a state directory: `umiak`, or one of its own for another directory than the system's."""
    if name := os.environ.get(TABLE_VARIABLE):
        return name
    if root == SYSTEM_ROOT:
        return "umiak"
    return f"umiak-{zlib.crc32(os.fsencode(root)):08x}"


def _outside_mtu() -> int:
    """The MTU of the way out, so that what a container sends need not be cut on it."""
    device = ipam.default_route_device()
    with RouteNetlink() as netlink:
        link = netlink.link(device) if device else None
    return link.mtu if link else DEFAULT_MTU


@contextlib.contextmanager
def _tolerating_no_nf_tables() -> Iterator[None]:
    """Where the kernel has no nf_tables there is nothing of ours in it."""
    try:
        yield
    except OSError as error:
        if error.errno not in NO_NF_TABLES:
            raise KernelError(f"cannot change the table of NAT rules: {error}", errno=error.errno or 0) from error
