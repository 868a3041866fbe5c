"""nf_tables over nfnetlink: tables, chains, sets, maps and rules in one transaction, without the nft program.

A `Batch` is all or nothing: the kernel applies every command or none. Expressions are built by small functions that
follow the names nft(8) gives them; the layout is that of linux/netfilter/nf_tables.h. Numbers are big-endian.
"""

from __future__ import annotations

import errno
import os
import socket
import struct

from engine.kernel.netlink import (
    NLM_F_ACK,
    NLM_F_CREATE,
    NLM_F_DUMP,
    NLM_F_EXCL,
    NLMSG_ERROR,
    RECEIVE_BYTES,
    NetlinkError,
    attribute,
    attributes,
    failure,
    messages,
    open_socket,
)
from engine.kernel.nfnetlink import NETLINK_NETFILTER, ask, message, nested

NFNL_SUBSYS_NFTABLES = 10
NFNL_MSG_BATCH_BEGIN = 16
NFNL_MSG_BATCH_END = 17
NLM_F_APPEND = 0x800

NEWTABLE, GETTABLE, DELTABLE, NEWCHAIN, NEWRULE, NEWSET, NEWSETELEM, GETSETELEM, DELSETELEM = (
    0,
    1,
    2,
    3,
    6,
    9,
    12,
    13,
    14,
)

NFPROTO_IPV4 = 2
HOOK_PREROUTING, HOOK_FORWARD, HOOK_OUTPUT, HOOK_POSTROUTING = 0, 2, 3, 4
PRIORITY_DSTNAT, PRIORITY_FILTER, PRIORITY_SRCNAT = -100, 0, 100

NFT_SET_MAP = 0x8
NFT_REG_VERDICT = 0
REGISTERS = 8
"""The first of the 4-byte registers: a concatenation is loaded into neighbours."""

TYPE_IPV4, TYPE_PROTOCOL, TYPE_PORT, TYPE_IFNAME = 7, 12, 13, 41
"""What nft(8) calls the types, so that `nft list` shows the elements as what they are."""

ACCEPT, DROP, RETURN = 1, 0, -5
META_L4PROTO, META_IIFNAME, META_OIFNAME = 16, 6, 7
CT_STATE, CT_STATUS = 0, 2
CT_ESTABLISHED, CT_RELATED = 2, 4
IPS_DST_NAT = 1 << 5
FIB_RESULT_ADDRTYPE, FIB_DADDR, RTN_LOCAL = 3, 2, 2
IFNAME_BYTES = 16
ATTEMPTS = 20


def text(kind: int, value: str) -> bytes:
    """A string attribute."""
    return attribute(kind, value.encode() + b"\0")


def number(kind: int, value: int) -> bytes:
    """A 32-bit attribute."""
    return attribute(kind, struct.pack(">I", value & 0xFFFFFFFF))


def concatenation(*types: int) -> int:
    """The type number of a concatenation of types."""
    joined = 0
    for each in types:
        joined = joined << 6 | each
    return joined


# Keys and values, each padded to whole registers


def ipv4(address: str) -> bytes:
    """An address as the registers hold it."""
    return socket.inet_aton(address)


def port(value: int) -> bytes:
    """A port as the registers hold it."""
    return struct.pack(">H2x", value)


def protocol(value: int) -> bytes:
    """A layer 4 protocol number as the registers hold it."""
    return struct.pack("B3x", value)


def ifname(name: str) -> bytes:
    """An interface name as the registers hold it."""
    return name.encode().ljust(IFNAME_BYTES, b"\0")


class Batch:
    """Commands on one table, applied together by `send`."""

    def __init__(self, table: str, family: int = NFPROTO_IPV4) -> None:
        self._table = table
        self._family = family
        self._commands: list[bytes] = []
        self._words: list[str] = []

    def _add(self, command: int, body: bytes, flags: int, what: str) -> None:
        self._commands.append(message(NFNL_SUBSYS_NFTABLES, command, self._family, body, flags | NLM_F_ACK))
        self._words.append(what)

    def add_table(self, comment: str = "", *, exclusive: bool = False) -> None:
        """Make the table; one that exists stays as it is, unless `exclusive`. The comment is shown by `nft list`."""
        body = text(1, self._table)
        if comment:
            encoded = comment.encode()[:126] + b"\0"
            body += attribute(6, bytes((0, len(encoded))) + encoded)
        flags = NLM_F_CREATE | (NLM_F_EXCL if exclusive else 0)
        self._add(NEWTABLE, body, flags, f"add table {self._table}")

    def delete_table(self) -> None:
        """Delete the table with all that is in it."""
        self._add(DELTABLE, text(1, self._table), 0, f"delete table {self._table}")

    def add_chain(self, name: str, kind: str, hook: int, priority: int) -> None:
        """Make a base chain of type `filter` or `nat` that accepts what no rule decides on."""
        place = nested(4, number(1, hook), number(2, priority))
        body = text(1, self._table) + text(3, name) + place + number(5, ACCEPT) + text(7, kind)
        self._add(NEWCHAIN, body, NLM_F_CREATE, f"add chain {self._table} {name}")

    def add_rule(self, chain: str, *expressions: bytes) -> None:
        """Append a rule: expressions in the order in which the kernel evaluates them."""
        body = text(1, self._table) + text(2, chain) + nested(4, *(nested(1, each) for each in expressions))
        self._add(NEWRULE, body, NLM_F_CREATE | NLM_F_APPEND, f"add rule {self._table} {chain}")

    def add_set(self, name: str, key_type: int, key_bytes: int, data_type: int = 0, data_bytes: int = 0) -> None:
        """Make a set, or a map if there is a data type."""
        # A set made in the same transaction is referred to by this number as well as by name.
        identity = len(self._commands) + 1
        body = text(1, self._table) + text(2, name) + number(3, NFT_SET_MAP if data_bytes else 0)
        body += number(4, key_type) + number(5, key_bytes)
        if data_bytes:
            body += number(6, data_type) + number(7, data_bytes)
        body += number(10, identity)
        if key_type == TYPE_IFNAME:
            body += attribute(13, struct.pack("=BBI", 0, 4, 1))  # for nft(8): the key is in the host's byte order
        self._add(NEWSET, body, NLM_F_CREATE, f"add set {self._table} {name}")

    def add_element(self, name: str, key: bytes, data: bytes = b"") -> None:
        """Put an element into a set or map. One that is there with the same data is fine; with other data: EBUSY or EEXIST."""
        self._add(NEWSETELEM, self._element(name, key, data), NLM_F_CREATE, f"add element {self._table} {name}")

    def delete_element(self, name: str, key: bytes) -> None:
        """Take an element out. ENOENT if it is not there."""
        self._add(DELSETELEM, self._element(name, key), 0, f"delete element {self._table} {name}")

    def _element(self, name: str, key: bytes, data: bytes = b"") -> bytes:
        parts = [nested(1, attribute(1, key))]
        if data:
            parts.append(nested(2, attribute(1, data)))
        return text(1, self._table) + text(2, name) + nested(3, nested(1, *parts))

    def send(self) -> None:
        """Apply all commands. Raise NetlinkError for the first refused one; then none has taken effect."""
        for attempt in range(ATTEMPTS if self._commands else 0):
            try:
                self._send_once()
                return
            except NetlinkError as error:
                # Another transaction came between, or the kernel had to load a module first: the batch is to be repeated.
                if error.errno not in (errno.EAGAIN, errno.EINTR, errno.ERESTART) or attempt == ATTEMPTS - 1:
                    raise

    def _send_once(self) -> None:
        frames = [
            message(0, NFNL_MSG_BATCH_BEGIN, 0, b"", 0, NFNL_SUBSYS_NFTABLES),
            *self._commands,
            message(0, NFNL_MSG_BATCH_END, 0, b"", 0, NFNL_SUBSYS_NFTABLES),
        ]
        with open_socket(NETLINK_NETFILTER) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
            sock.send(b"".join(_numbered(frame, position) for position, frame in enumerate(frames)))
            pending = len(self._commands)
            while pending:
                for kind, flags, sequence, body in messages(sock.recv(RECEIVE_BYTES)):
                    if kind != NLMSG_ERROR:
                        continue
                    code, words = failure(flags, body)
                    if code:
                        what = self._words[sequence - 1] if 0 < sequence <= len(self._words) else "nf_tables"
                        raise NetlinkError(code, f"{what}: {words or os.strerror(code)}", sequence - 1)
                    pending -= 1


def tables(family: int = NFPROTO_IPV4) -> dict[str, str]:
    """The tables of a family, each with its comment. Raise NetlinkError where the kernel has no nf_tables."""
    found = {}
    for content in _dump(GETTABLE, family, b""):
        fields = dict(attributes(content))
        userdata = fields.get(6, b"")
        comment = userdata[2 : 2 + userdata[1]] if len(userdata) > 2 and userdata[0] == 0 else b""
        found[_string(fields[1])] = _string(comment)
    return found


def elements(table: str, name: str, family: int = NFPROTO_IPV4) -> dict[bytes, bytes]:
    """The elements of a set (data is empty) or map. Nothing if the table or set does not exist."""
    found = {}
    try:
        contents = _dump(GETSETELEM, family, text(1, table) + text(2, name))
    except NetlinkError as error:
        if error.errno == errno.ENOENT:
            return {}
        raise
    for content in contents:
        for _, element in attributes(dict(attributes(content)).get(3, b"")):
            fields = dict(attributes(element))
            found[_value(fields.get(1, b""))] = _value(fields.get(2, b""))
    return found


def _value(content: bytes) -> bytes:
    return dict(attributes(content)).get(1, b"")


def _string(content: bytes) -> str:
    return content.rstrip(b"\0").decode(errors="replace")


def _numbered(frame: bytes, sequence: int) -> bytes:
    return frame[:8] + struct.pack("=I", sequence) + frame[12:]


def _dump(command: int, family: int, body: bytes) -> list[bytes]:
    with open_socket(NETLINK_NETFILTER) as sock:
        return ask(sock, message(NFNL_SUBSYS_NFTABLES, command, family, body, NLM_F_DUMP), "nf_tables")


# Expressions


def expression(name: str, *parts: bytes) -> bytes:
    """One expression of a rule."""
    return text(1, name) + nested(2, *parts)


def load_meta(key: int, register: int = REGISTERS) -> bytes:
    """`meta …` into a register."""
    return expression("meta", number(1, register), number(2, key))


def load_ct(key: int, register: int = REGISTERS) -> bytes:
    """`ct …` into a register."""
    return expression("ct", number(1, register), number(2, key))


def load_destination(register: int = REGISTERS) -> bytes:
    """`ip daddr` into a register."""
    return _payload(1, 16, 4, register)


def load_destination_port(register: int = REGISTERS) -> bytes:
    """`th dport` into a register."""
    return _payload(2, 2, 2, register)


def _payload(base: int, offset: int, length: int, register: int) -> bytes:
    return expression("payload", number(1, register), number(2, base), number(3, offset), number(4, length))


def load_destination_type(register: int = REGISTERS) -> bytes:
    """`fib daddr type` into a register."""
    return expression("fib", number(1, register), number(2, FIB_RESULT_ADDRTYPE), number(3, FIB_DADDR))


def load_constant(data: bytes, register: int) -> bytes:
    """A constant into a register."""
    return expression("immediate", number(1, register), nested(2, attribute(1, data)))


def equal(data: bytes, register: int = REGISTERS) -> bytes:
    """Go on if the register holds `data`."""
    return expression("cmp", number(1, register), number(2, 0), nested(3, attribute(1, data)))


def different(data: bytes, register: int = REGISTERS) -> bytes:
    """Go on if the register does not hold `data`."""
    return expression("cmp", number(1, register), number(2, 1), nested(3, attribute(1, data)))


def any_bit(mask: int, register: int = REGISTERS) -> tuple[bytes, bytes]:
    """Go on if any bit of `mask` is set in a register that holds a number in host order."""
    bits = struct.pack("=I", mask)
    cut = expression(
        "bitwise",
        *(number(1, register), number(2, register), number(3, 4)),
        *(nested(4, attribute(1, bits)), nested(5, attribute(1, bytes(4)))),
    )
    return cut, different(bytes(4), register)


def in_set(name: str, register: int = REGISTERS, *, inverted: bool = False) -> bytes:
    """Go on if the register's value is (not) in a set."""
    return expression("lookup", text(1, name), number(2, register), number(5, 1 if inverted else 0))


def look_up(name: str, key_register: int = REGISTERS, data_register: int = REGISTERS) -> bytes:
    """Load what a map holds for the key; go on only if it holds it."""
    return expression("lookup", text(1, name), number(2, key_register), number(3, data_register))


def verdict(code: int) -> bytes:
    """`accept`, `drop` or `return`."""
    return expression("immediate", number(1, NFT_REG_VERDICT), nested(2, nested(2, number(1, code))))


def dnat(address_register: int, port_register: int) -> bytes:
    """Rewrite the destination to the address and port in two registers."""
    return expression(
        "nat", number(1, 1), number(2, NFPROTO_IPV4), number(3, address_register), number(5, port_register)
    )


def masquerade() -> bytes:
    """Rewrite the source to the address of the interface that the packet leaves by."""
    return expression("masq")
