"""Connection tracking over nfnetlink: forget the flows of an address that has gone.

A client that keeps sending UDP from one port stays in its flow, and is led to the old address for as long as it sends.
"""

from __future__ import annotations

import errno
import socket
import struct

from engine.kernel.netlink import (
    NLM_F_ACK,
    NLM_F_DUMP,
    NLM_F_REQUEST,
    NLMSG_DONE,
    NLMSG_ERROR,
    RECEIVE_BYTES,
    NetlinkError,
    attribute,
    attributes,
    failure,
    messages,
    open_socket,
)

NETLINK_NETFILTER = 12
NFNL_SUBSYS_CTNETLINK = 1
IPCTNL_MSG_CT_GET = 1
IPCTNL_MSG_CT_DELETE = 2
NLA_F_NESTED = 0x8000
CTA_TUPLE_ORIG, CTA_TUPLE_REPLY, CTA_ID, CTA_ZONE, CTA_FILTER = 1, 2, 12, 18, 25
CTA_TUPLE_IP, CTA_IP_V4_SRC = 1, 1
CTA_FILTER_REPLY_FLAGS = 2
FILTER_BY_SOURCE = 1 << 0
_HEADER_BYTES = 4  # struct nfgenmsg


def forget(address: str) -> None:
    """Drop all flows that are answered from an IPv4 address. Raise NetlinkError where the kernel tracks none.

    They are listed and dropped one by one: only newer kernels than Debian 12's 6.1 drop by a filter. Kernels before 5.8
    list all flows, so what is listed is looked at once more.
    """
    source = socket.inet_aton(address)
    answered = _nested(CTA_TUPLE_REPLY, _nested(CTA_TUPLE_IP, attribute(CTA_IP_V4_SRC, source)))
    by_source = attribute(CTA_FILTER_REPLY_FLAGS, struct.pack("=I", FILTER_BY_SOURCE))
    with open_socket(NETLINK_NETFILTER) as sock:
        flows = _ask(sock, IPCTNL_MSG_CT_GET, NLM_F_DUMP, answered + _nested(CTA_FILTER, by_source))
        for flow in flows:
            fields = dict(attributes(flow, _HEADER_BYTES))
            if _source_of(fields.get(CTA_TUPLE_REPLY, b"")) != source:
                continue
            # The identity keeps a flow that took the place of this one meanwhile.
            identity = b"".join(attribute(kind, fields[kind]) for kind in (CTA_ZONE, CTA_ID) if kind in fields)
            try:
                _ask(sock, IPCTNL_MSG_CT_DELETE, NLM_F_ACK, _nested(CTA_TUPLE_ORIG, fields[CTA_TUPLE_ORIG]) + identity)
            except NetlinkError as error:
                if error.errno != errno.ENOENT:  # else it has ended by itself
                    raise


def _source_of(tuple_: bytes) -> bytes:
    return dict(attributes(dict(attributes(tuple_)).get(CTA_TUPLE_IP, b""))).get(CTA_IP_V4_SRC, b"")


def _nested(kind: int, content: bytes) -> bytes:
    return attribute(kind | NLA_F_NESTED, content)


def _ask(sock: socket.socket, command: int, flags: int, content: bytes) -> list[bytes]:
    """Send one request and return the bodies of what is answered."""
    body = struct.pack(">BBH", socket.AF_INET, 0, 0) + content
    kind = NFNL_SUBSYS_CTNETLINK << 8 | command
    sock.send(struct.pack("=IHHII", 16 + len(body), kind, NLM_F_REQUEST | flags, 1, 0) + body)
    found: list[bytes] = []
    while True:
        for answer, answer_flags, _, answer_body in messages(sock.recv(RECEIVE_BYTES)):
            if answer == NLMSG_DONE:
                return found
            if answer == NLMSG_ERROR:
                code, words = failure(answer_flags, answer_body)
                if code:
                    raise NetlinkError(code, f"conntrack: {words}", 0)
                return found
            found.append(answer_body)
