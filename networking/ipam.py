"""Subnets and addresses: what may be handed out, and what is wrong with what was asked for. Pure; `driver` records it."""

from __future__ import annotations

import os
import socket
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from engine.errors import Conflict, InvalidInput, Unavailable, Unsupported
from engine.frozen import frozen
from engine.types import NetworkSpec

POOLS_VARIABLE = "UMIAK_ADDRESS_POOLS"
DEFAULT_POOLS = " ".join(
    [*(f"172.{second}.0.0/16:24" for second in range(17, 32)), "192.168.0.0/16:24", "10.0.0.0/8:24"],
)
SHORTEST_ROUTE = 8
"""A route with a shorter prefix leads to the outside as the default route does; every pool would overlap it."""
LONGEST_SUBNET = 30


@dataclass(frozen=True, slots=True, order=True)
class Subnet:
    """An IPv4 network. `base` is its first address as a number."""

    base: int
    prefix_length: int

    def __str__(self) -> str:
        return f"{to_text(self.base)}/{self.prefix_length}"

    @property
    def last(self) -> int:
        """The broadcast address."""
        return self.base | (0xFFFFFFFF >> self.prefix_length)

    def holds(self, address: int) -> bool:
        """Whether the address lies in it."""
        return self.base <= address <= self.last

    def overlaps(self, other: Subnet) -> bool:
        """Whether the two have an address in common."""
        return self.base <= other.last and other.base <= self.last


@frozen
class Route:
    """A route of the host. `is_direct`: without a gateway, so the subnet is on a wire of the host itself."""

    subnet: Subnet
    device: str
    is_direct: bool


@frozen
class Pool:
    """Where subnets are cut from, each with `prefix_length`."""

    subnet: Subnet
    prefix_length: int

    def subnets(self) -> Iterator[Subnet]:
        """All of them, lowest first."""
        for base in range(self.subnet.base, self.subnet.last + 1, 1 << (32 - self.prefix_length)):
            yield Subnet(base, self.prefix_length)


@frozen
class AddressPlan:
    """The addresses of a network: its subnet, its gateway, and the first and last address that may be leased."""

    subnet: Subnet
    gateway: int
    first: int
    last: int


def to_text(address: int) -> str:
    """An address in dotted notation."""
    return socket.inet_ntoa(address.to_bytes(4, "big"))


def parse_address(text: str, what: str) -> int:
    """Read a dotted address. `what` names the field in the error."""
    if ":" in text:
        raise Unsupported(
            f"{what}: {text} is an IPv6 address; networks have IPv4 only so far", hint="use an IPv4 address"
        )
    try:
        return int.from_bytes(socket.inet_pton(socket.AF_INET, text), "big")
    except (OSError, ValueError) as error:
        raise InvalidInput(f'{what}: cannot read "{text}" as an IPv4 address') from error


def parse_subnet(text: str, what: str) -> Subnet:
    """Read `address/prefix length`; the address must be the network's own."""
    address_text, slash, length_text = text.partition("/")
    address = parse_address(address_text, what)
    if not slash or not length_text.isascii() or not length_text.isdigit() or int(length_text) > 32:
        raise InvalidInput(f'{what}: cannot read "{text}" as a subnet', hint="write it like 172.28.0.0/16")
    length = int(length_text)
    base = address & ~(0xFFFFFFFF >> length)
    if base != address:
        raise InvalidInput(f"{what}: {text} has host bits set", hint=f"write {Subnet(base, length)}")
    return Subnet(base, length)


def mac_address(address: int) -> str:
    """The MAC address that goes with an IPv4 address, so that a neighbour's ARP entry stays true when it is leased again."""
    return "02:42:" + address.to_bytes(4, "big").hex(":")


def parse_mac(text: str) -> str:
    """Read a unicast MAC address; return it in lower case with colons."""
    octets = text.lower().replace("-", ":").split(":")
    if len(octets) != 6 or not all(len(octet) == 2 and set(octet) <= set("0123456789abcdef") for octet in octets):
        raise InvalidInput(
            f'mac_address: cannot read "{text}" as a MAC address', hint="write it like 02:42:ac:11:00:02"
        )
    if int(octets[0], 16) & 1 or set(octets) == {"00"}:
        raise InvalidInput(f"mac_address: {text} is no address of a single interface", hint="let it begin with 02")
    return ":".join(octets)


def pools() -> list[Pool]:
    """The pools that subnets are cut from: `UMIAK_ADDRESS_POOLS` (`10.99.0.0/16:24 …`), else private ranges."""
    found = []
    for entry in (os.environ.get(POOLS_VARIABLE) or DEFAULT_POOLS).replace(",", " ").split():
        subnet_text, _, length_text = entry.partition(":")
        subnet = parse_subnet(subnet_text, POOLS_VARIABLE)
        length = int(length_text) if length_text.isascii() and length_text.isdigit() else 24 if not length_text else 0
        if not subnet.prefix_length <= length <= LONGEST_SUBNET:
            raise InvalidInput(
                f'{POOLS_VARIABLE}: cannot cut "{entry}" into subnets',
                hint="write pool:length like 10.99.0.0/16:24",
            )
        found.append(Pool(subnet, length))
    return found


def host_routes(path: str = "/proc/net/route") -> list[Route]:
    """The host's IPv4 routes, without those that lead to the outside as a whole."""
    found = []
    with open(path) as file:
        for line in file.read().splitlines()[1:]:
            fields = line.split()
            if len(fields) < 8:
                continue
            device, destination, gateway, mask = fields[0], *(_kernel_number(fields[index]) for index in (1, 2, 7))
            length = mask.bit_count()
            if length >= SHORTEST_ROUTE:
                found.append(Route(Subnet(destination, length), device, gateway == 0))
    return found


def _kernel_number(text: str) -> int:
    # /proc/net/route prints the four bytes of network order as one number of the host's order.
    return socket.ntohl(int(text, 16))


def default_route_device(path: str = "/proc/net/route") -> str | None:
    """The interface of the default route."""
    with open(path) as file:
        for line in file.read().splitlines()[1:]:
            fields = line.split()
            if len(fields) >= 8 and fields[1] == fields[7] == "00000000":
                return fields[0]
    return None


def plan(
    spec: NetworkSpec,
    recorded: Iterable[tuple[str, str]],
    routes: Iterable[Route],
    nameservers: Iterable[int] = (),
) -> AddressPlan:
    """Choose or check the addresses of a new network.

    `recorded` are the names and subnets of the networks that exist, `nameservers` the host's, which must stay in reach.
    """
    taken = {parse_subnet(subnet, name): name for name, subnet in recorded}
    asked = asked_for(spec)
    if asked is None:
        busy = [*taken, *(route.subnet for route in routes), *(Subnet(address, 32) for address in nameservers)]
        subnet = _free_subnet(busy)
        return AddressPlan(subnet, subnet.base + 1, subnet.base + 1, subnet.last - 1)
    _check_overlaps(spec.name, asked.subnet, taken, routes)
    return asked


def asked_for(spec: NetworkSpec) -> AddressPlan | None:
    """The addresses that a network is to have; None if any will do. Raise InvalidInput if none could have them."""
    if spec.subnet is None:
        if spec.ip_range or spec.gateway:
            raise InvalidInput(
                f"network {spec.name}: gateway and ip_range need a subnet", hint="set the subnet that they lie in"
            )
        return None
    subnet = parse_subnet(spec.subnet, f"network {spec.name}: subnet")
    _check_subnet(spec.name, subnet)
    return _explicit_plan(spec, subnet)


def _free_subnet(busy: Collection[Subnet]) -> Subnet:
    for pool in pools():
        in_the_way = [other for other in busy if other.overlaps(pool.subnet)]
        for subnet in pool.subnets():
            if not any(subnet.overlaps(other) for other in in_the_way):
                return subnet
    raise Unavailable(
        "no free subnet is left for another network",
        hint=f"remove networks that are not used, or widen {POOLS_VARIABLE}",
    )


def _check_subnet(name: str, subnet: Subnet) -> None:
    if subnet.prefix_length > LONGEST_SUBNET:
        raise InvalidInput(
            f"network {name}: {subnet} has no room for a gateway and a container", hint="use a prefix of at most 30"
        )
    if Subnet(0x7F000000, 8).overlaps(subnet) or Subnet(0xE0000000, 3).overlaps(subnet) or subnet.prefix_length < 8:
        raise InvalidInput(
            f"network {name}: {subnet} cannot be used for containers",
            hint="use a part of 10/8, 172.16/12 or 192.168/16",
        )


def _check_overlaps(name: str, subnet: Subnet, taken: dict[Subnet, str], routes: Iterable[Route]) -> None:
    for other, owner in taken.items():
        if subnet.overlaps(other):
            raise Conflict(
                f"network {name}: subnet {subnet} overlaps {other} of network {owner}", hint="choose another subnet"
            )
    for route in routes:
        if route.is_direct and subnet.overlaps(route.subnet):
            raise Conflict(
                f"network {name}: subnet {subnet} overlaps {route.subnet}, which the host reaches by {route.device}",
                hint="choose another subnet",
            )


def _explicit_plan(spec: NetworkSpec, subnet: Subnet) -> AddressPlan:
    first, last = subnet.base + 1, subnet.last - 1
    gateway = first
    if spec.gateway:
        gateway = parse_address(spec.gateway, f"network {spec.name}: gateway")
        if not first <= gateway <= last:
            raise InvalidInput(f"network {spec.name}: gateway {spec.gateway} is no host address of {subnet}")
    if spec.ip_range:
        part = parse_subnet(spec.ip_range, f"network {spec.name}: ip_range")
        if part.prefix_length < subnet.prefix_length or not subnet.holds(part.base):
            raise InvalidInput(f"network {spec.name}: ip_range {part} does not lie in subnet {subnet}")
        first, last = max(first, part.base), min(last, part.last)
    return AddressPlan(subnet, gateway, first, last)


def address_plan(spec: NetworkSpec, subnet: str, gateway: str) -> AddressPlan:
    """The plan of a recorded network."""
    planned = _explicit_plan(spec, parse_subnet(subnet, spec.name))
    return AddressPlan(planned.subnet, parse_address(gateway, spec.name), planned.first, planned.last)


def next_address(network: str, plan: AddressPlan, leased: Collection[int], start: int) -> int:
    """The first free address from `start` on, going round, so that one given back is not handed out again at once."""
    if not plan.first <= start <= plan.last:
        start = plan.first
    for candidates in (range(start, plan.last + 1), range(plan.first, start)):
        for address in candidates:
            if address != plan.gateway and address not in leased:
                return address
    raise Unavailable(
        f"network {network} has no free address left in {to_text(plan.first)}-{to_text(plan.last)}",
        hint="remove containers from it, or give it a larger subnet",
    )


def check_address(network: str, text: str, plan: AddressPlan, leased: dict[int, str]) -> int:
    """Read a wished address. `leased` maps the addresses in use to the containers that have them."""
    address = parse_address(text, f"network {network}: ipv4_address")
    if not plan.subnet.base < address < plan.subnet.last:
        raise InvalidInput(
            f"ipv4_address {text} is no host address of network {network}",
            hint=f"choose one in {plan.subnet}",
        )
    if address == plan.gateway:
        raise Conflict(f"ipv4_address {text} is the gateway of network {network}", hint="choose another address")
    if address in leased:
        raise Conflict(
            f"ipv4_address {text} on network {network} is in use by container {leased[address]}",
            hint="choose another address, or remove that container",
        )
    return address
