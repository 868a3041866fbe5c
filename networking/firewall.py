"""The engine's one nf_tables table: isolation of networks, NAT to the outside, published ports.

    table ip umiak {
        set bridges          ifname: all our bridges
        set internal         ifname: those with no way out
        set pairs            ifname . ifname: each bridge with itself
        map published        protocol . port → address . port
        map published_at     host address . protocol . port → address . port
        forward      established | related | DNATed | same bridge: accept; from internal: drop; into a bridge: drop
        prerouting   not from a bridge, to an address of the host: DNAT by the two maps
        postrouting  from a bridge to elsewhere: masquerade
    }

Rules never change; adding a network or a port adds an element. The table is made with the first network, which also
switches `net.ipv4.ip_forward` on; the value found is kept as the table's comment, so that it lives exactly as long as
what needs it. The last network takes the table away and puts the value back.

Where another program's FORWARD chain drops (a Docker daemon sets that policy), its drop wins over our accept.

Standard library only: monitors use it.
"""

from __future__ import annotations

import errno
import socket
import struct

from engine.kernel import nftables as nft
from engine.kernel.netlink import NetlinkError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    Port = tuple[str, str, int, str, int]
    Key = tuple[str, bytes]

FORWARD_SWITCH = "/proc/sys/net/ipv4/ip_forward"
COMMENT = "umiak; net.ipv4.ip_forward was "
PROTOCOLS = {"tcp": socket.IPPROTO_TCP, "udp": socket.IPPROTO_UDP}

NO_NF_TABLES = frozenset(
    (errno.EPROTONOSUPPORT, errno.EOPNOTSUPP, errno.EAFNOSUPPORT, errno.EINVAL, errno.EPERM, errno.ENOENT)
)
"""How a kernel without nf_tables, or one that does not let us use it, answers."""

UPDATE_ATTEMPTS = 3
BRIDGES, INTERNAL, PAIRS, PUBLISHED, PUBLISHED_AT = "bridges", "internal", "pairs", "published", "published_at"


class Firewall:
    """The table of one state directory. All methods may be repeated. OSError means that the kernel refused."""

    def __init__(self, table: str) -> None:
        self.table = table

    def exists(self) -> bool:
        """Whether the table is there."""
        return self.table in nft.tables()

    def networks(self) -> set[str]:
        """The bridges that the table knows."""
        return {_name(key) for key in nft.elements(self.table, BRIDGES)}

    def add_network(self, bridge: str, *, internal: bool) -> None:
        """Isolate a bridge and, unless internal, let it out. Makes the table if there is none."""
        name = nft.ifname(bridge)
        batch = nft.Batch(self.table)
        if not self.exists():
            _queue_table(batch)
        batch.add_element(BRIDGES, name)
        batch.add_element(PAIRS, name + name)
        if internal:
            batch.add_element(INTERNAL, name)
        batch.send()
        _write_forwarding("1")

    def remove_network(self, bridge: str) -> None:
        """Forget a bridge. Takes the table away with the last one."""
        known = self.networks()
        if known <= {bridge}:
            self.delete()
            return
        if bridge not in known:
            return
        name = nft.ifname(bridge)
        batch = nft.Batch(self.table)
        batch.delete_element(BRIDGES, name)
        batch.delete_element(PAIRS, name + name)
        if name in nft.elements(self.table, INTERNAL):
            batch.delete_element(INTERNAL, name)
        batch.send()

    def delete(self) -> None:
        """Delete the table; put `ip_forward` back unless another state directory's table still needs it."""
        present = nft.tables()
        comment = present.pop(self.table, None)
        if comment is None:
            return
        # First, as the table is what remembers the value: a kill in between loses nothing.
        if comment.startswith(COMMENT) and not any(other.startswith(COMMENT) for other in present.values()):
            _write_forwarding(comment.removeprefix(COMMENT))
        batch = nft.Batch(self.table)
        batch.delete_table()
        batch.send()

    def publish(self, ports: Iterable[Port]) -> None:
        """Lead ports of the host to a container: (host address or "", protocol, host port, address, port) each.

        What an earlier container left under the same key is replaced.
        """
        wanted = {_key(host_ip, protocol, port): _target(ip, inner) for host_ip, protocol, port, ip, inner in ports}
        self._update(lambda key, target: wanted.get(key, target) == target, wanted)

    def ports_of(self, protocol: str, address: str, port: int) -> list[int]:
        """The host ports that lead to a container's port."""
        wanted, number = _target(address, port), nft.protocol(PROTOCOLS[protocol])
        found = [key for (_, key), target in self._published() if target == wanted and key[-8:-4] == number]
        return [int.from_bytes(key[-4:-2], "big") for key in found]

    def withdraw(self, addresses: Collection[str]) -> bool:
        """Forget all ports that lead to these container addresses. False: there were none."""
        return self.keep_only(lambda address: address not in addresses)

    def keep_only(self, is_wanted: Callable[[str], bool]) -> bool:
        """Forget all ports whose container address is not wanted any more. False: there were none."""
        return self._update(lambda _, target: is_wanted(socket.inet_ntoa(target[:4])), {})

    def _update(self, is_kept: Callable[[Key, bytes], bool], added: dict[Key, bytes]) -> bool:
        """Delete what is not to be kept and add, in one transaction; look again if another process was faster.

        Tell whether anything was deleted.
        """
        for attempt in range(UPDATE_ATTEMPTS):
            batch = nft.Batch(self.table)
            stale = [key for key, target in self._published() if not is_kept(key, target)]
            for name, key in stale:
                batch.delete_element(name, key)
            for (name, key), target in added.items():
                batch.add_element(name, key, target)
            try:
                batch.send()
                return bool(stale)
            except NetlinkError as error:
                is_race = error.errno in (errno.ENOENT, errno.EBUSY, errno.EEXIST) and (stale or added)
                if not is_race or attempt == UPDATE_ATTEMPTS - 1:
                    raise
        return False

    def _published(self) -> list[tuple[Key, bytes]]:
        return [
            ((name, key), target)
            for name in (PUBLISHED, PUBLISHED_AT)
            for key, target in nft.elements(self.table, name).items()
        ]


def _queue_table(batch: nft.Batch) -> None:
    batch.add_table(COMMENT + _original_forwarding())
    _queue_sets(batch)
    _queue_forward(batch)
    _queue_nat(batch)


def _queue_sets(batch: nft.Batch) -> None:
    pair = nft.concatenation(nft.TYPE_IFNAME, nft.TYPE_IFNAME)
    socket_type = nft.concatenation(nft.TYPE_PROTOCOL, nft.TYPE_PORT)
    target = nft.concatenation(nft.TYPE_IPV4, nft.TYPE_PORT)
    batch.add_set(BRIDGES, nft.TYPE_IFNAME, nft.IFNAME_BYTES)
    batch.add_set(INTERNAL, nft.TYPE_IFNAME, nft.IFNAME_BYTES)
    batch.add_set(PAIRS, pair, 2 * nft.IFNAME_BYTES)
    batch.add_set(PUBLISHED, socket_type, 8, target, 8)
    addressed = nft.concatenation(nft.TYPE_IPV4, nft.TYPE_PROTOCOL, nft.TYPE_PORT)
    batch.add_set(PUBLISHED_AT, addressed, 12, target, 8)


def _queue_forward(batch: nft.Batch) -> None:
    batch.add_chain("forward", "filter", nft.HOOK_FORWARD, nft.PRIORITY_FILTER)
    first = nft.REGISTERS
    load_pair = (nft.load_meta(nft.META_IIFNAME), nft.load_meta(nft.META_OIFNAME, first + 4))
    known = nft.any_bit(nft.CT_ESTABLISHED | nft.CT_RELATED)
    rules = (
        (nft.load_ct(nft.CT_STATE), *known, nft.verdict(nft.ACCEPT)),
        (nft.load_ct(nft.CT_STATUS), *nft.any_bit(nft.IPS_DST_NAT), nft.verdict(nft.ACCEPT)),
        (*load_pair, nft.in_set(PAIRS), nft.verdict(nft.ACCEPT)),
        (nft.load_meta(nft.META_IIFNAME), nft.in_set(INTERNAL), nft.verdict(nft.DROP)),
        (nft.load_meta(nft.META_OIFNAME), nft.in_set(BRIDGES), nft.verdict(nft.DROP)),
    )
    for rule in rules:
        batch.add_rule("forward", *rule)


def _queue_nat(batch: nft.Batch) -> None:
    batch.add_chain("prerouting", "nat", nft.HOOK_PREROUTING, nft.PRIORITY_DSTNAT)
    first = nft.REGISTERS
    from_inside = (nft.load_meta(nft.META_IIFNAME), nft.in_set(BRIDGES), nft.verdict(nft.RETURN))
    from_self = (nft.load_meta(nft.META_IIFNAME), nft.equal(nft.ifname("lo")), nft.verdict(nft.RETURN))
    not_for_us = (
        nft.load_destination_type(),
        nft.different(struct.pack("=I", nft.RTN_LOCAL)),
        nft.verdict(nft.RETURN),
    )
    at_address = (
        nft.load_destination(first),
        nft.load_meta(nft.META_L4PROTO, first + 1),
        nft.load_destination_port(first + 2),
        nft.look_up(PUBLISHED_AT),
        nft.dnat(first, first + 1),
    )
    anywhere = (
        nft.load_meta(nft.META_L4PROTO, first),
        nft.load_destination_port(first + 1),
        nft.look_up(PUBLISHED),
        nft.dnat(first, first + 1),
    )
    for rule in (from_inside, from_self, not_for_us, at_address, anywhere):
        batch.add_rule("prerouting", *rule)
    batch.add_chain("postrouting", "nat", nft.HOOK_POSTROUTING, nft.PRIORITY_SRCNAT)
    batch.add_rule(
        "postrouting",
        *(nft.load_meta(nft.META_IIFNAME), nft.in_set(BRIDGES)),
        *(nft.load_meta(nft.META_OIFNAME), nft.in_set(BRIDGES, inverted=True)),
        nft.masquerade(),
    )


def _name(key: bytes) -> str:
    return key.rstrip(b"\0").decode(errors="replace")


def _key(host_ip: str, protocol: str, port: int) -> tuple[str, bytes]:
    key = nft.protocol(PROTOCOLS[protocol]) + nft.port(port)
    return (PUBLISHED_AT, nft.ipv4(host_ip) + key) if host_ip else (PUBLISHED, key)


def _target(address: str, port: int) -> bytes:
    return nft.ipv4(address) + nft.port(port)


def _original_forwarding() -> str:
    """The value of ip_forward from before any of our tables; another state directory's table may know it."""
    for comment in nft.tables().values():
        if comment.startswith(COMMENT):
            return comment.removeprefix(COMMENT)
    with open(FORWARD_SWITCH) as file:
        return file.read().strip()


def _write_forwarding(value: str) -> None:
    # Written only when it changes something: a write resets other settings of the interfaces (ip-sysctl.rst).
    with open(FORWARD_SWITCH) as file:
        if file.read().strip() == value:
            return
    with open(FORWARD_SWITCH, "w") as file:
        file.write(value)
