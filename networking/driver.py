"""The network driver: networks and leases in the database, bridges and firewall elements in the kernel.

A network's row is written before anything is made in the kernel, and deleted after all of it is gone; so whatever is
left of an operation killed half-way is found from its row. A removal first marks the row `removing`, which also frees
the name; one that was killed after that is finished by the next command that makes a network, or by `repair`.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import re
import sqlite3
import threading
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from engine.errors import Conflict, InvalidInput, KernelError, NotFound, Unsupported
from engine.kernel import conntrack
from engine.kernel.netlink import NetlinkError, RouteNetlink
from engine.paths import Paths
from engine.state import State
from engine.types import EndpointInfo, EndpointRequest, NetworkInfo, NetworkSpec, PortBinding
from networking import ipam, resolver
from networking.firewall import NO_NF_TABLES, Firewall
from networking.links import Bridge, Links, LinkWorker, remove_bridge

DEFAULT_NETWORK = "bridge"
RESERVED_NAMES = frozenset((DEFAULT_NETWORK, "host", "none", "default"))
TABLE_VARIABLE = "UMIAK_NFT_TABLE"
SYSTEM_ROOT = "/var/lib/umiak"
NAME_PATTERN = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")
MTU_OPTION = "com.docker.network.driver.mtu"
DEFAULT_MTU = 1500


class BridgeNetworks:
    """Implements `engine.ports.NetworkDriver` with Linux bridges. Safe to share between threads.

    `links` makes bridges; without one, a worker is started when the first is to be made. `warnings` says what this host
    cannot do (NAT, for one), for whoever wants to show it.
    """

    def __init__(self, paths: Paths, state: State, links: Links | None = None) -> None:
        self._paths = paths
        self._state = state
        self._links = links
        self._links_lock = threading.Lock()
        self._host = _HostLock()
        self.firewall = Firewall(table_name(paths.root))
        self.warnings: list[str] = []

    def close(self) -> None:
        """End the worker, if there is one."""
        with self._links_lock:
            if self._links is not None:
                self._links.close()
                self._links = None

    # Networks

    def create(self, spec: NetworkSpec) -> NetworkInfo:
        """Make a network: record it, then its bridge, firewall elements and run directory."""
        _check_spec(spec)
        with self._host.held():
            self._finish_removals()
            network = self._record(spec)
            try:
                self._make(network)
            except BaseException:
                self._unmake(network)
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
        with self._state.transaction():
            for network in self.all():
                if network.spec.name == DEFAULT_NETWORK:
                    return network
            return self._record(NetworkSpec(DEFAULT_NETWORK))

    def remove(self, network: NetworkInfo) -> None:
        """Remove a network that no container is on."""
        with self._state.transaction():
            if holders := self._holders(network.id):
                raise Conflict(
                    f"cannot remove network {network.spec.name}: in use by {', '.join(holders)}",
                    hint="remove or disconnect these containers first",
                )
            self._mark_removing(network.id)
        with self._host.held():
            self._unmake(network)

    def all(self) -> list[NetworkInfo]:
        """All networks that are not on their way out."""
        return [_network(row) for row in self._state.rows("SELECT * FROM networks WHERE removing = 0")]

    # Endpoints

    def lease(self, container_id: str, container_name: str, requests: Sequence[EndpointRequest]) -> list[EndpointInfo]:
        """Reserve one endpoint per request; the highest priority becomes eth0."""
        ordered = sorted(requests, key=lambda request: -request.priority)
        with self._state.transaction():
            for position, request in enumerate(ordered):
                self._lease_one(container_id, container_name, position, request)
        return self.leases(container_id)

    def leases(self, container_id: str) -> list[EndpointInfo]:
        """The endpoints of a container, eth0 first."""
        rows = self._state.rows(
            "SELECT leases.*, networks.name AS network, networks.spec AS spec, subnet, gateway FROM leases"
            " JOIN networks ON networks.id = network_id WHERE container_id = ? ORDER BY position",
            (container_id,),
        )
        return [_endpoint(row) for row in rows]

    def release(self, container_id: str) -> None:
        """Give back a container's leases. The default network goes with the last of its own."""
        endpoints = self.leases(container_id)
        if not endpoints:
            return
        self.withdraw(container_id)
        with self._state.transaction():
            self._state.execute("DELETE FROM leases WHERE container_id = ?", (container_id,))
        if any(endpoint.network == DEFAULT_NETWORK for endpoint in endpoints):
            self._drop_default()

    def withdraw(self, container_id: str) -> None:
        """Drop the names and published ports that a dead monitor left. Leases stay."""
        endpoints = self.leases(container_id)
        for endpoint in endpoints:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{self._paths.network_run(endpoint.network_id)}/{container_id}")
        if endpoints:
            with _tolerating_no_nf_tables():
                addresses = {endpoint.ipv4_address for endpoint in endpoints}
                for address in addresses if self.firewall.withdraw(addresses) else ():
                    conntrack.forget(address)

    # What a container's monitor and file system get

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
        servers = resolver.servers(dns) if way_out else []
        services: list[dict[str, Any]] = [
            {"module": "networking.dns", "config": {"networks": networks, "servers": servers}}
        ]
        if ports and way_out:
            config = {
                "table": self.firewall.table,
                "address": way_out.ipv4_address,
                "containers": os.path.dirname(self._paths.container(container_id)),
                "ports": [asdict(port) for port in ports],
            }
            services.append({"module": "networking.publish", "config": config})
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

    # Repair

    def repair(self, live: Mapping[str, bool]) -> None:
        """Drop leases, names, ports and links that belong to nobody recorded in this state directory."""
        self._drop_lost_leases(live)
        self._finish_removals()
        if not self._state.row(
            "SELECT 1 FROM leases JOIN networks ON id = network_id WHERE name = ?", (DEFAULT_NETWORK,)
        ):
            self._drop_default()
        running = {container_id for container_id, is_running in live.items() if is_running}
        self._drop_lost_names(running)
        self._drop_lost_elements(running)
        self._drop_lost_links()

    def _drop_lost_leases(self, live: Mapping[str, bool]) -> None:
        with self._state.transaction():
            known = {row["id"] for row in self._state.rows("SELECT id FROM containers")} | set(live)
            lost = {row["container_id"] for row in self._state.rows("SELECT DISTINCT container_id FROM leases")} - known
        for container_id in lost:
            self.release(container_id)

    def _drop_lost_names(self, running: set[str]) -> None:
        for row in self._state.rows("SELECT id FROM networks"):
            directory = self._paths.network_run(row["id"])
            with contextlib.suppress(FileNotFoundError):
                for name in os.listdir(directory):
                    if name not in running and not name.startswith(".") and not self._is_held(name):
                        with contextlib.suppress(FileNotFoundError):
                            os.unlink(f"{directory}/{name}")

    def _drop_lost_elements(self, running: set[str]) -> None:
        rows = self._state.rows("SELECT container_id, ipv4_address FROM leases")
        owners = {row["ipv4_address"]: row["container_id"] for row in rows}

        def is_wanted(address: str) -> bool:
            owner = owners.get(address)
            return owner is not None and (owner in running or self._is_held(owner))

        with _tolerating_no_nf_tables():
            self.firewall.keep_only(is_wanted)
            recorded = {row["link"] for row in self._state.rows("SELECT link FROM networks")}
            if lost := self.firewall.networks() - recorded:
                with self._host.held():
                    for bridge in lost:
                        self.firewall.remove_network(bridge)

    def _drop_lost_links(self) -> None:
        recorded = {row["link"] for row in self._state.rows("SELECT link FROM networks")}
        leased = {row["link"] for row in self._state.rows("SELECT link FROM leases")}
        with RouteNetlink() as netlink:
            links = netlink.links()
            ours = {link.index for link in links if link.name in recorded or link.alias == self._alias}
            lost = [
                link for link in links if link.kind == "bridge" and link.index in ours and link.name not in recorded
            ]
            lost += [link for link in links if link.kind == "veth" and link.master in ours and link.name not in leased]
            for link in lost:
                netlink.delete_link(link.name)
                with contextlib.suppress(NetlinkError):  # gone meanwhile: its namespace was dying
                    netlink.flush()

    def _is_held(self, container_id: str) -> bool:
        """Whether a monitor of the container lives: it holds the lock. `live` may be older than its start."""
        try:
            fd = os.open(f"{self._paths.container_run(container_id)}/lock", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
        return False

    # Making and unmaking

    def _record(self, spec: NetworkSpec) -> NetworkInfo:
        routes = ipam.host_routes()
        nameservers = resolver.host_nameserver_addresses()
        network_id = os.urandom(32).hex()
        with self._state.transaction():
            rows = self._state.rows("SELECT name, subnet, link FROM networks")
            if any(row["name"] == spec.name for row in rows):
                raise Conflict(f"network {spec.name} exists already", hint="remove it first, or choose another name")
            links = {row["link"] for row in rows}
            others = [route for route in routes if route.device not in links]
            plan = ipam.plan(spec, [(row["name"], row["subnet"]) for row in rows], others, nameservers)
            self._state.execute(
                "INSERT INTO networks (id, name, created_at, spec, subnet, gateway, link) VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    *(network_id, spec.name, time.time(), json.dumps(asdict(spec))),
                    *(str(plan.subnet), ipam.to_text(plan.gateway), f"um-{network_id[:10]}"),
                ),
            )
            row = self._state.row("SELECT * FROM networks WHERE id = ?", (network_id,))
        assert row is not None
        return _network(row)

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
        with self._state.transaction():
            self._state.execute("DELETE FROM networks WHERE id = ?", (network.id,))

    def _warn_or_raise(self, network: NetworkInfo, error: OSError) -> None:
        if error.errno not in NO_NF_TABLES and error.errno != errno.EROFS:
            raise KernelError(
                f"cannot set up NAT for network {network.spec.name}: {error}", errno=error.errno or 0
            ) from error
        if network.spec.internal:
            raise Unsupported(
                f"network {network.spec.name}: this host cannot keep an internal network closed ({error})",
                hint="load the kernel module nf_tables, or drop 'internal: true'",
            ) from error
        warning = (
            f"no NAT on this host ({error}): containers reach each other and published ports work from here,"
            " but they cannot reach the outside"
        )
        if warning not in self.warnings:
            self.warnings.append(warning)

    def _is_known_to_firewall(self, network: NetworkInfo) -> bool:
        try:
            return network.link in self.firewall.networks()
        except OSError:
            return False

    def _mark_removing(self, network_id: str) -> None:
        self._state.execute("UPDATE networks SET removing = 1, name = id WHERE id = ?", (network_id,))

    def _finish_removals(self) -> None:
        for row in self._state.rows("SELECT * FROM networks WHERE removing = 1"):
            with self._host.held():
                self._unmake(_network(row))

    def _drop_default(self) -> None:
        with self._state.transaction():
            row = self._state.row(
                "SELECT * FROM networks WHERE name = ? AND id NOT IN (SELECT network_id FROM leases)",
                (DEFAULT_NETWORK,),
            )
            if row:
                self._mark_removing(row["id"])
        if row:
            with self._host.held():
                self._unmake(_network(row))

    # Rows and what they mean

    def _lease_one(self, container_id: str, container_name: str, position: int, request: EndpointRequest) -> None:
        row = self._state.row(
            "SELECT * FROM networks WHERE removing = 0 AND (name = ? OR id = ?)", (request.network, request.network)
        )
        if row is None:
            raise NotFound(f'no network "{request.network}"', hint="create it first")
        network = _network(row)
        plan = ipam.address_plan(network.spec, network.subnet, network.gateway)
        leased = self._leased(network.id)
        if request.ipv4_address:
            address = ipam.check_address(network.spec.name, request.ipv4_address, plan, leased)
        else:
            address = ipam.next_address(network.spec.name, plan, leased, plan.subnet.base + row["next_host"])
            self._state.execute(
                "UPDATE networks SET next_host = ? WHERE id = ?", (address + 1 - plan.subnet.base, network.id)
            )
        mac = self._mac_address(network, request, address)
        values = (
            *(container_id, network.id, position, ipam.to_text(address), mac),
            *(f"umv{os.urandom(5).hex()}", f"eth{position}", json.dumps(list(request.aliases))),
        )
        try:
            self._state.execute("INSERT INTO leases VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values)
        except sqlite3.IntegrityError as error:
            raise Conflict(f"container {container_name} is on network {network.spec.name} already") from error

    def _mac_address(self, network: NetworkInfo, request: EndpointRequest, address: int) -> str:
        if not request.mac_address:
            return ipam.mac_address(address)
        mac = ipam.parse_mac(request.mac_address)
        if self._state.row("SELECT 1 FROM leases WHERE network_id = ? AND mac_address = ?", (network.id, mac)):
            raise Conflict(f"mac_address {mac} is in use on network {network.spec.name}", hint="choose another one")
        return mac

    def _leased(self, network_id: str) -> dict[int, str]:
        rows = self._state.rows(
            "SELECT ipv4_address, COALESCE(name, substr(container_id, 1, 12)) AS holder FROM leases"
            " LEFT JOIN containers ON containers.id = container_id WHERE network_id = ? ORDER BY holder",
            (network_id,),
        )
        return {ipam.parse_address(row["ipv4_address"], "lease"): row["holder"] for row in rows}

    def _holders(self, network_id: str) -> list[str]:
        return list(self._leased(network_id).values())

    def _bridge(self, network: NetworkInfo) -> Bridge:
        subnet = ipam.parse_subnet(network.subnet, network.spec.name)
        return Bridge(
            name=network.link,
            address=network.gateway,
            prefix_length=subnet.prefix_length,
            mac_address=ipam.mac_address(ipam.parse_address(network.gateway, network.spec.name)),
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
                self._links = LinkWorker.spawn()
            return self._links


class _HostLock:
    """One holder at a time on this network stack, whatever its state directory: flock on the network namespace itself.

    A first or last network (table, forwarding) and the choice of a subnet concern them all. Threads may nest it.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._depth = 0
        self._fd = -1

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        with self._lock:
            if self._depth == 0:
                self._fd = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
                fcntl.flock(self._fd, fcntl.LOCK_EX)
            self._depth += 1
            try:
                yield
            finally:
                self._depth -= 1
                if self._depth == 0:
                    os.close(self._fd)


def table_name(root: str) -> str:
    """The nf_tables table of a state directory: `umiak`, or one of its own for another directory than the system's."""
    if name := os.environ.get(TABLE_VARIABLE):
        return name
    if root == SYSTEM_ROOT:
        return "umiak"
    return f"umiak-{zlib.crc32(os.fsencode(root)):08x}"


def _check_spec(spec: NetworkSpec) -> None:
    if spec.driver != "bridge":
        raise Unsupported(
            f'network {spec.name}: no driver "{spec.driver}"', hint="use the driver bridge, which is the default"
        )
    if not NAME_PATTERN.fullmatch(spec.name):
        raise InvalidInput(
            f'"{spec.name}" is no network name',
            hint="use letters, digits, '_', '.' and '-', beginning with a letter or digit",
        )
    if spec.name in RESERVED_NAMES:
        raise InvalidInput(f"network name {spec.name} is the engine's own", hint="choose another name")
    mtu = spec.options.get(MTU_OPTION, str(DEFAULT_MTU))
    if not (mtu.isascii() and mtu.isdigit() and 68 <= int(mtu) <= 65535):
        raise InvalidInput(
            f'network {spec.name}: {MTU_OPTION}: "{mtu}" is no MTU', hint="use a number from 68 to 65535"
        )


def _outside_mtu() -> int:
    """The MTU of the way out, so that what a container sends need not be cut on it."""
    device = ipam.default_route_device()
    with RouteNetlink() as netlink:
        link = netlink.link(device) if device else None
    return link.mtu if link else DEFAULT_MTU


def _network(row: sqlite3.Row) -> NetworkInfo:
    spec = NetworkSpec(**json.loads(row["spec"]))
    return NetworkInfo(row["id"], spec, row["created_at"], row["subnet"], row["gateway"], row["link"])


def _endpoint(row: sqlite3.Row) -> EndpointInfo:
    spec = json.loads(row["spec"])
    return EndpointInfo(
        network=spec["name"],
        network_id=row["network_id"],
        ipv4_address=row["ipv4_address"],
        prefix_length=int(row["subnet"].partition("/")[2]),
        gateway="" if spec["internal"] else row["gateway"],
        mac_address=row["mac_address"],
        aliases=tuple(json.loads(row["aliases"])),
        ifname=row["ifname"],
        link=row["link"],
    )


@contextlib.contextmanager
def _tolerating_no_nf_tables() -> Iterator[None]:
    """Where the kernel has no nf_tables there is nothing of ours in it."""
    try:
        yield
    except OSError as error:
        if error.errno not in NO_NF_TABLES:
            raise KernelError(f"cannot change the table of NAT rules: {error}", errno=error.errno or 0) from error
