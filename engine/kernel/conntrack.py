"""Connection tracking over nfnetlink: forget the flows of an address that has gone.

A client that keeps sending UDP from one port stays in its flow, and is led to the old address for as long as it sends.
"""

from __future__ import annotations

import errno
import socket
import struct

from engine.kernel.netlink import NLM_F_ACK, NLM_F_DUMP, NetlinkError, attribute, attributes, open_socket
from engine.kernel.nfnetlink import NETLINK_NETFILTER, ask, message, nested

NFNL_SUBSYS_CTNETLINK = 1
IPCTNL_MSG_CT_GET = 1
IPCTNL_MSG_CT_DELETE = 2
CTA_TUPLE_ORIG, CTA_TUPLE_REPLY, CTA_ID, CTA_ZONE, CTA_FILTER = 1, 2, 12, 18, 25
CTA_TUPLE_IP, CTA_IP_V4_SRC = 1, 1
CTA_FILTER_REPLY_FLAGS = 2
FILTER_BY_SOURCE = 1 << 0


def forget(address: str) -> None:
    """Drop all flows that are answered from an IPv4 address. Raise NetlinkError where the kernel tracks none.

    They are listed and dropped one by one: only newer kernels than Debian 12's 6.1 drop by a filter. Kernels before 5.8
    list all flows, so what is listed is looked at once more.
    """
    source = socket.inet_aton(address)
    answered = nested(CTA_TUPLE_REPLY, nested(CTA_TUPLE_IP, attribute(CTA_IP_V4_SRC, source)))
    by_source = attribute(CTA_FILTER_REPLY_FLAGS, struct.pack("=I", FILTER_BY_SOURCE))
    with open_socket(NETLINK_NETFILTER) as sock:
        flows = _ask(sock, IPCTNL_MSG_CT_GET, NLM_F_DUMP, answered + nested(CTA_FILTER, by_source))
        for flow in flows:
            fields = dict(attributes(flow))
            if _source_of(fields.get(CTA_TUPLE_REPLY, b"")) != source:
                continue
            # The identity keeps a flow that took the place of this one meanwhile.
            identity = b"".join(attribute(kind, fields[kind]) for kind in (CTA_ZONE, CTA_ID) if kind in fields)
            try:
                _ask(sock, IPCTNL_MSG_CT_DELETE, NLM_F_ACK, nested(CTA_TUPLE_ORIG, fields[CTA_TUPLE_ORIG]) + identity)
            except NetlinkError as error:
                if error.errno != errno.ENOENT:  # else it has ended by itself
                    raise


def _source_of(tuple_: bytes) -> bytes:
    return dict(attributes(dict(attributes(tuple_)).get(CTA_TUPLE_IP, b""))).get(CTA_IP_V4_SRC, b"")


def _ask(sock: socket.socket, command: int, flags: int, content: bytes) -> list[bytes]:
    return ask(sock, message(NFNL_SUBSYS_CTNETLINK, command, socket.AF_INET, content, flags), "conntrack")
