"""What the database says of networks and leases: the tables `networks` and `leases` of `engine.state`.

A network's row is written before anything of it is made in the kernel, and deleted after all of it is gone. A removal
first marks the row, which also frees the name.
"""

from __future__ import annotations

import json
import os
import re
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import asdict

from engine.errors import Conflict, InvalidInput, NotFound, Unsupported
from engine.state import State
from engine.types import EndpointInfo, EndpointRequest, NetworkInfo, NetworkSpec
from networking import ipam, resolver

DEFAULT_NETWORK = "bridge"
RESERVED_NAMES = frozenset((DEFAULT_NETWORK, "host", "none", "default"))
NAME_PATTERN = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")
MTU_OPTION = "com.docker.network.driver.mtu"
MTU_RANGE = range(68, 65536)


class Records:
    """Networks and leases of one state directory. Transactions nest in the caller's."""

    def __init__(self, state: State) -> None:
        self._state = state

    def networks(self, *, removing: bool = False) -> list[NetworkInfo]:
        """The networks that are there, or those on their way out."""
        return [_network(row) for row in self._state.rows("SELECT * FROM networks WHERE removing = ?", (removing,))]

    def add(self, spec: NetworkSpec) -> NetworkInfo:
        """Record a network, with a subnet that overlaps neither another network nor a route of the host."""
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
            network = NetworkInfo(
                id=network_id,
                spec=spec,
                created_at=time.time(),
                subnet=str(plan.subnet),
                gateway=ipam.to_text(plan.gateway),
                link=f"um-{network_id[:10]}",
            )
            self._state.execute(
                "INSERT INTO networks (id, name, created_at, spec, subnet, gateway, link) VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    *(network.id, spec.name, network.created_at, json.dumps(asdict(spec))),
                    *(network.subnet, network.gateway, network.link),
                ),
            )
        return network

    def add_default(self) -> NetworkInfo:
        """The engine's own network, recorded if it was not."""
        with self._state.transaction():
            for network in self.networks():
                if network.spec.name == DEFAULT_NETWORK:
                    return network
            return self.add(NetworkSpec(DEFAULT_NETWORK))

    def mark_removing(self, network: NetworkInfo) -> None:
        """Take a network out of sight and free its name. Raise Conflict while containers are on it."""
        with self._state.transaction():
            if holders := self._leased(network.id).values():
                raise Conflict(
                    f"cannot remove network {network.spec.name}: in use by {', '.join(holders)}",
                    hint="remove these containers first",
                )
            self._state.execute("UPDATE networks SET removing = 1, name = id WHERE id = ?", (network.id,))

    def forget(self, network: NetworkInfo) -> None:
        """Delete the row of a network of which nothing is left."""
        with self._state.transaction():
            self._state.execute("DELETE FROM networks WHERE id = ?", (network.id,))

    def bridges(self) -> set[str]:
        """The bridges of all networks, those on their way out included."""
        return {row["link"] for row in self._state.rows("SELECT link FROM networks")}

    def lease(self, container_id: str, container_name: str, requests: Sequence[EndpointRequest]) -> list[EndpointInfo]:
        """One lease per request, all or none; the highest priority becomes eth0."""
        with self._state.transaction():
            for position, request in enumerate(sorted(requests, key=lambda request: -request.priority)):
                self._lease(container_id, container_name, position, request)
        return self.leases(container_id)

    def _lease(self, container_id: str, container_name: str, position: int, request: EndpointRequest) -> None:
        row = self._state.row(
            "SELECT * FROM networks WHERE removing = 0 AND (name = ? OR id = ?)", (request.network, request.network)
        )
        if row is None:
            raise NotFound(f'no network "{request.network}"', hint="create it first")
        network = _network(row)
        address = self._choose_address(network, request, row["next_host"])
        values = (
            *(container_id, network.id, position, ipam.to_text(address)),
            *(self._choose_mac_address(network, request, address), f"umv{os.urandom(5).hex()}"),
            *(f"eth{position}", json.dumps(list(request.aliases))),
        )
        try:
            self._state.execute("INSERT INTO leases VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values)
        except sqlite3.IntegrityError as error:
            raise Conflict(f"container {container_name} is on network {network.spec.name} already") from error

    def _choose_address(self, network: NetworkInfo, request: EndpointRequest, next_host: int) -> int:
        name = network.spec.name
        plan = ipam.address_plan(network.spec, network.subnet, network.gateway)
        leased = self._leased(network.id)
        if request.ipv4_address:
            return ipam.check_address(name, request.ipv4_address, plan, leased)
        address = ipam.next_address(name, plan, leased, plan.subnet.base + next_host)
        self._state.execute(
            "UPDATE networks SET next_host = ? WHERE id = ?", (address + 1 - plan.subnet.base, network.id)
        )
        return address

    def _choose_mac_address(self, network: NetworkInfo, request: EndpointRequest, address: int) -> str:
        if not request.mac_address:
            return ipam.mac_address(address)
        mac = ipam.parse_mac(request.mac_address)
        if self._state.row("SELECT 1 FROM leases WHERE network_id = ? AND mac_address = ?", (network.id, mac)):
            raise Conflict(f"mac_address {mac} is in use on network {network.spec.name}", hint="choose another one")
        return mac

    def _leased(self, network_id: str) -> dict[int, str]:
        """The addresses in use on a network, and the names of their containers."""
        rows = self._state.rows(
            "SELECT ipv4_address, COALESCE(name, substr(container_id, 1, 12)) AS holder FROM leases"
            " LEFT JOIN containers ON containers.id = container_id WHERE network_id = ? ORDER BY holder",
            (network_id,),
        )
        return {ipam.parse_address(row["ipv4_address"], "lease"): row["holder"] for row in rows}

    def leases(self, container_id: str) -> list[EndpointInfo]:
        """The endpoints of a container, eth0 first."""
        rows = self._state.rows(
            "SELECT leases.*, networks.spec AS spec, subnet, gateway FROM leases"
            " JOIN networks ON networks.id = network_id WHERE container_id = ? ORDER BY position",
            (container_id,),
        )
        return [_endpoint(row) for row in rows]

    def release(self, container_id: str) -> None:
        """Delete a container's leases."""
        with self._state.transaction():
            self._state.execute("DELETE FROM leases WHERE container_id = ?", (container_id,))

    def lost_leases(self) -> set[str]:
        """The containers that have leases but no record; a container is recorded in one transaction with its leases."""
        rows = self._state.rows(
            "SELECT DISTINCT container_id FROM leases WHERE container_id NOT IN (SELECT id FROM containers)"
        )
        return {row["container_id"] for row in rows}

    def links(self) -> set[str]:
        """The host's ends of all leased endpoints."""
        return {row["link"] for row in self._state.rows("SELECT link FROM leases")}

    def holder(self, address: str) -> str | None:
        """The ID of the container that an address is leased to."""
        row = self._state.row("SELECT container_id FROM leases WHERE ipv4_address = ?", (address,))
        return row["container_id"] if row else None


def check_spec(spec: NetworkSpec) -> None:
    """Refuse what cannot be a network."""
    if spec.driver != "bridge":
        raise Unsupported(
            f'network {spec.name}: no driver "{spec.driver}"', hint="use the driver bridge, which is the default"
        )
    if not NAME_PATTERN.fullmatch(spec.name):
        hint = "use letters, digits, '_', '.' and '-', beginning with a letter or digit"
        raise InvalidInput(f'"{spec.name}" is no network name', hint=hint)
    if spec.name in RESERVED_NAMES:
        raise InvalidInput(f"network name {spec.name} is the engine's own", hint="choose another name")
    mtu = spec.options.get(MTU_OPTION)
    if mtu is not None and not (mtu.isascii() and mtu.isdigit() and int(mtu) in MTU_RANGE):
        raise InvalidInput(
            f'network {spec.name}: {MTU_OPTION}: "{mtu}" is no MTU', hint="use a number from 68 to 65535"
        )


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
