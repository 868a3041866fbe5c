"""rtnetlink: links, addresses and routes, many requests in one message (rtnetlink(7), netlink(7)).

A request is built with `struct`, queued, and sent with all others by `flush`; the kernel answers each with an
acknowledgement. One round trip costs less than one netlink call of a general library, and needs no import of one.
"""

from __future__ import annotations

import errno
import os
import socket
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

SOL_NETLINK = 270
NETLINK_EXT_ACK = 11
NETLINK_CAP_ACK = 10
NETLINK_GET_STRICT_CHK = 12

NLMSG_ERROR = 2
NLMSG_DONE = 3
NLM_F_REQUEST = 0x1
NLM_F_ACK = 0x4
NLM_F_EXCL = 0x200
NLM_F_CREATE = 0x400
NLM_F_DUMP = 0x300
NLM_F_CAPPED = 0x100
NLM_F_ACK_TLVS = 0x200
NLA_TYPE_MASK = 0x3FFF
NLMSGERR_ATTR_MSG = 1

RTM_NEWLINK = 16
RTM_DELLINK = 17
RTM_GETLINK = 18
RTM_NEWADDR = 20
RTM_GETADDR = 22
RTM_NEWROUTE = 24

IFLA_ADDRESS = 1
IFLA_IFNAME = 3
IFLA_MTU = 4
IFLA_MASTER = 10
IFLA_LINKINFO = 18
IFLA_IFALIAS = 20
IFLA_NET_NS_FD = 28
IFLA_EXT_MASK = 29
IFLA_INFO_KIND = 1
IFLA_INFO_DATA = 2
VETH_INFO_PEER = 1
IFLA_BR_FORWARD_DELAY = 1
IFLA_BR_STP_STATE = 5
RTEXT_FILTER_SKIP_STATS = 1 << 3

IFA_ADDRESS = 1
IFA_LOCAL = 2
IFA_BROADCAST = 4
RTA_GATEWAY = 5
RTA_OIF = 4
RT_TABLE_MAIN = 254
RTPROT_BOOT = 3
RT_SCOPE_UNIVERSE = 0
RTN_UNICAST = 1

IFF_UP = 1
IFNAMSIZ = 16
RECEIVE_BYTES = 1 << 18


class NetlinkError(OSError):
    """A request that the kernel refused. `position` counts the requests of the batch from 0."""

    def __init__(self, code: int, message: str, position: int) -> None:
        super().__init__(code, message)
        self.position = position


class Link:
    """A network interface as RTM_GETLINK shows it. `master` is the index of the bridge it is a port of, or 0."""

    __slots__ = ("address", "alias", "forward_delay", "index", "is_up", "kind", "master", "mtu", "name", "stp")

    def __init__(self, index: int, flags: int) -> None:
        self.index = index
        self.is_up = bool(flags & IFF_UP)
        self.name = self.kind = self.alias = self.address = ""
        self.master = self.mtu = self.stp = self.forward_delay = 0


def attribute(kind: int, data: bytes) -> bytes:
    """One netlink attribute, padded to four bytes."""
    return struct.pack("=HH", 4 + len(data), kind) + data + b"\0" * (-len(data) % 4)


def attributes(data: bytes, offset: int = 0) -> Iterator[tuple[int, bytes]]:
    """The attributes in `data` from `offset` on; ends at the first that does not fit."""
    while offset + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, offset)
        if length < 4:
            return
        yield kind & NLA_TYPE_MASK, data[offset + 4 : offset + length]
        offset += (length + 3) & ~3


def messages(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """The netlink messages in one datagram as (type, flags, sequence number, body)."""
    offset = 0
    while offset + 16 <= len(data):
        length, kind, flags, sequence, _ = struct.unpack_from("=IHHII", data, offset)
        if length < 16:
            return
        yield kind, flags, sequence, data[offset + 16 : offset + length]
        offset += (length + 3) & ~3


def failure(flags: int, body: bytes) -> tuple[int, str]:
    """The errno of an NLMSG_ERROR (0: an acknowledgement) and the kernel's own explanation, if it gave one."""
    code = -struct.unpack_from("=i", body)[0]
    if not code or not flags & NLM_F_ACK_TLVS:
        return code, ""
    request_bytes = 16 if flags & NLM_F_CAPPED else struct.unpack_from("=I", body, 4)[0]
    for kind, value in attributes(body, 4 + ((request_bytes + 3) & ~3)):
        if kind == NLMSGERR_ATTR_MSG:
            return code, value.rstrip(b"\0").decode(errors="replace")
    return code, ""


def open_socket(protocol: int) -> socket.socket:
    """A netlink socket in the present network namespace that gets extended acknowledgements."""
    sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
    try:
        sock.bind((0, 0))
        for option in (NETLINK_EXT_ACK, NETLINK_CAP_ACK):
            try:
                sock.setsockopt(SOL_NETLINK, option, 1)
            except OSError:
                pass  # Older kernels: errors then come without words.
    except BaseException:
        sock.close()
        raise
    return sock


class RouteNetlink:
    """One rtnetlink socket, in the network namespace it was opened in. Queue requests, then `flush`."""

    def __init__(self) -> None:
        self._socket = open_socket(socket.NETLINK_ROUTE)
        try:
            self._socket.setsockopt(SOL_NETLINK, NETLINK_GET_STRICT_CHK, 1)
        except OSError:
            pass
        self._sequence = 0
        self._queue: list[tuple[bytes, str]] = []

    def __enter__(self) -> RouteNetlink:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket; what is queued is forgotten."""
        self._socket.close()

    def queue(self, kind: int, body: bytes, flags: int, what: str) -> None:
        """Add one request. `what` says in words what it does, for the error."""
        self._sequence += 1
        header = struct.pack(
            "=IHHII", 16 + len(body), kind, NLM_F_REQUEST | NLM_F_ACK | flags, self._sequence & 0xFFFFFFFF, 0
        )
        self._queue.append((header + body + b"\0" * (-len(body) % 4), what))

    def flush(self) -> None:
        """Send all queued requests at once. Raise NetlinkError for the first refused one; the others still took effect."""
        queued, self._queue = self._queue, []
        if not queued:
            return
        first = self._sequence - len(queued) + 1
        self._socket.send(b"".join(message for message, _ in queued))
        error: NetlinkError | None = None
        pending = len(queued)
        while pending:
            for kind, flags, sequence, body in messages(self._socket.recv(RECEIVE_BYTES)):
                position = sequence - first
                if kind != NLMSG_ERROR or not 0 <= position < len(queued):
                    continue
                pending -= 1
                code, words = failure(flags, body)
                if code and error is None:
                    error = NetlinkError(code, f"{queued[position][1]}: {words or os.strerror(code)}", position)
        if error:
            raise error

    def dump(self, kind: int, body: bytes, flags: int = NLM_F_DUMP) -> list[tuple[int, bytes]]:
        """Ask for objects; return (type, body) of each. Without NLM_F_DUMP it is a question for one object."""
        self._sequence += 1
        header = struct.pack("=IHHII", 16 + len(body), kind, NLM_F_REQUEST | flags, self._sequence & 0xFFFFFFFF, 0)
        self._socket.send(header + body)
        found: list[tuple[int, bytes]] = []
        while True:
            for answer, answer_flags, sequence, content in messages(self._socket.recv(RECEIVE_BYTES)):
                if sequence != self._sequence:
                    continue
                if answer == NLMSG_DONE:
                    return found
                if answer == NLMSG_ERROR:
                    code, words = failure(answer_flags, content)
                    raise NetlinkError(code, words or os.strerror(code), 0)
                found.append((answer, content))
                if not flags & NLM_F_DUMP:
                    return found

    # What is there

    def links(self) -> list[Link]:
        """All interfaces of the namespace."""
        body = _link_header() + attribute(IFLA_EXT_MASK, struct.pack("=I", RTEXT_FILTER_SKIP_STATS))
        return [_parse_link(content) for kind, content in self.dump(RTM_GETLINK, body) if kind == RTM_NEWLINK]

    def link(self, name: str) -> Link | None:
        """One interface by name, None if there is none."""
        try:
            answers = self.dump(RTM_GETLINK, _link_header() + _name_attribute(name), 0)
        except NetlinkError as error:
            if error.errno == errno.ENODEV:
                return None
            raise
        return _parse_link(answers[0][1])

    def addresses(self, index: int) -> list[tuple[str, int]]:
        """The IPv4 addresses of an interface, each with its prefix length."""
        found = []
        for _, content in self.dump(RTM_GETADDR, struct.pack("=BBBBi", socket.AF_INET, 0, 0, 0, index)):
            _, prefix_length, _, _, owner = struct.unpack_from("=BBBBi", content)
            local = dict(attributes(content, 8)).get(IFA_LOCAL)
            if owner == index and local:
                found.append((socket.inet_ntoa(local), prefix_length))
        return found

    # What to do

    def add_veth(
        self, name: str, peer_name: str, peer_netns_fd: int, peer_address: bytes, master: int, mtu: int
    ) -> None:
        """Queue a veth pair: `name` here as a port of `master` and up, its peer made directly in another namespace."""
        peer = (
            _link_header()
            + _name_attribute(peer_name)
            + attribute(IFLA_NET_NS_FD, struct.pack("=I", peer_netns_fd))
            + attribute(IFLA_ADDRESS, peer_address)
            + attribute(IFLA_MTU, struct.pack("=I", mtu))
        )
        info = attribute(IFLA_INFO_KIND, b"veth") + attribute(IFLA_INFO_DATA, attribute(VETH_INFO_PEER, peer))
        body = (
            _link_header(flags=IFF_UP, change=IFF_UP)
            + _name_attribute(name)
            + attribute(IFLA_MTU, struct.pack("=I", mtu))
            + attribute(IFLA_MASTER, struct.pack("=I", master))
            + attribute(IFLA_LINKINFO, info)
        )
        self.queue(RTM_NEWLINK, body, NLM_F_CREATE | NLM_F_EXCL, f"add veth {name}")

    def set_up(self, index: int) -> None:
        """Queue setting an interface up."""
        self.queue(RTM_NEWLINK, _link_header(index, IFF_UP, IFF_UP), 0, f"set link {index} up")

    def add_address(self, index: int, address: str, prefix_length: int) -> None:
        """Queue an IPv4 address with its broadcast address."""
        packed = socket.inet_aton(address)
        broadcast = int.from_bytes(packed, "big") | (0xFFFFFFFF >> prefix_length)
        body = (
            struct.pack("=BBBBi", socket.AF_INET, prefix_length, 0, RT_SCOPE_UNIVERSE, index)
            + attribute(IFA_LOCAL, packed)
            + attribute(IFA_ADDRESS, packed)
            + attribute(IFA_BROADCAST, broadcast.to_bytes(4, "big"))
        )
        self.queue(RTM_NEWADDR, body, NLM_F_CREATE | NLM_F_EXCL, f"add address {address}/{prefix_length}")

    def add_default_route(self, gateway: str, index: int) -> None:
        """Queue the default route, by `gateway` on interface `index`."""
        header = struct.pack(
            "=BBBBBBBBI",
            *(socket.AF_INET, 0, 0, 0, RT_TABLE_MAIN, RTPROT_BOOT, RT_SCOPE_UNIVERSE, RTN_UNICAST, 0),
        )
        body = header + attribute(RTA_GATEWAY, socket.inet_aton(gateway)) + attribute(RTA_OIF, struct.pack("=I", index))
        self.queue(RTM_NEWROUTE, body, NLM_F_CREATE | NLM_F_EXCL, f"add default route by {gateway}")

    def delete_link(self, name: str) -> None:
        """Queue the removal of an interface. The kernel waits for a grace period: tens of milliseconds."""
        self.queue(RTM_DELLINK, _link_header() + _name_attribute(name), 0, f"delete link {name}")


def _link_header(index: int = 0, flags: int = 0, change: int = 0) -> bytes:
    return struct.pack("=BxHiII", socket.AF_UNSPEC, 0, index, flags, change)


def _name_attribute(name: str) -> bytes:
    encoded = name.encode()
    if not 0 < len(encoded) < IFNAMSIZ:
        raise OSError(errno.EINVAL, f"interface name {name!r} must have 1 to {IFNAMSIZ - 1} bytes")
    return attribute(IFLA_IFNAME, encoded + b"\0")


def _parse_link(content: bytes) -> Link:
    _, _, index, flags, _ = struct.unpack_from("=BxHiII", content)
    link = Link(index, flags)
    for kind, value in attributes(content, 16):
        if kind == IFLA_IFNAME:
            link.name = _text(value)
        elif kind == IFLA_IFALIAS:
            link.alias = _text(value)
        elif kind == IFLA_ADDRESS:
            link.address = value.hex(":")
        elif kind == IFLA_MTU:
            link.mtu = _number(value)
        elif kind == IFLA_MASTER:
            link.master = _number(value)
        elif kind == IFLA_LINKINFO:
            _parse_link_info(link, value)
    return link


def _parse_link_info(link: Link, content: bytes) -> None:
    info = dict(attributes(content))
    link.kind = _text(info.get(IFLA_INFO_KIND, b""))
    if link.kind == "bridge":
        data = dict(attributes(info.get(IFLA_INFO_DATA, b"")))
        link.stp = _number(data.get(IFLA_BR_STP_STATE))
        link.forward_delay = _number(data.get(IFLA_BR_FORWARD_DELAY))


def _number(value: bytes | None) -> int:
    return int(struct.unpack("=I", value)[0]) if value else 0


def _text(value: bytes) -> str:
    return value.rstrip(b"\0").decode(errors="replace")
