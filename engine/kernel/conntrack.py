"""Connection tracking over nfnetlink: forget the flows of an address that has gone.

A client that keeps sending UDP from one port stays in its flow, and is led to the old address for as long as it sends.
"""

from __future__ import annotations

import socket
import struct

from engine.kernel.netlink import (
    NLM_F_ACK,
    NLM_F_REQUEST,
    NLMSG_ERROR,
    RECEIVE_BYTES,
    NetlinkError,
    attribute,
    failure,
    messages,
    open_socket,
)

NETLINK_NETFILTER = 12
NFNL_SUBSYS_CTNETLINK = 1
IPCTNL_MSG_CT_DELETE = 2
NLA_F_NESTED = 0x8000
CTA_TUPLE_REPLY, CTA_FILTER = 2, 25
CTA_TUPLE_IP, CTA_IP_V4_SRC = 1, 1
CTA_FILTER_REPLY_FLAGS = 2
FILTER_BY_SOURCE = 1 << 0


def forget(address: str) -> None:
    """Drop all flows that are answered from an IPv4 address. Raise NetlinkError where the kernel cannot (before 5.9)."""
    source = attribute(CTA_IP_V4_SRC, socket.inet_aton(address))
    reply = attribute(CTA_TUPLE_REPLY | NLA_F_NESTED, attribute(CTA_TUPLE_IP | NLA_F_NESTED, source))
    by_source = attribute(CTA_FILTER_REPLY_FLAGS, struct.pack("=I", FILTER_BY_SOURCE))
    body = struct.pack(">BBH", socket.AF_INET, 0, 0) + reply + attribute(CTA_FILTER | NLA_F_NESTED, by_source)
    kind = NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_DELETE
    header = struct.pack("=IHHII", 16 + len(body), kind, NLM_F_REQUEST | NLM_F_ACK, 1, 0)
    with open_socket(NETLINK_NETFILTER) as sock:
        sock.send(header + body)
        for answer, flags, _, content in messages(sock.recv(RECEIVE_BYTES)):
            if answer == NLMSG_ERROR:
                code, words = failure(flags, content)
                if code:
                    raise NetlinkError(code, f"forget the flows of {address}: {words}", 0)
