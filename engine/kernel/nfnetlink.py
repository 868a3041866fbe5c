"""nfnetlink, by which the kernel's packet filter and its connection tracking are spoken to: messages, and what answers them."""

from __future__ import annotations

import os
import socket
import struct

from engine.kernel.netlink import (
    NLM_F_REQUEST,
    NLMSG_DONE,
    NLMSG_ERROR,
    RECEIVE_BYTES,
    NetlinkError,
    attribute,
    failure,
    messages,
)

NETLINK_NETFILTER = 12
NLA_F_NESTED = 0x8000
HEADER_BYTES = 4
"""The size of struct nfgenmsg, which the body of every message begins with."""


def nested(kind: int, *parts: bytes) -> bytes:
    """An attribute that holds attributes."""
    return attribute(kind | NLA_F_NESTED, b"".join(parts))


def message(subsystem: int, command: int, family: int, content: bytes, flags: int, resource: int = 0) -> bytes:
    """A request of `family`, with attributes as its content, and without a sequence number."""
    header = struct.pack("=IHHII", 20 + len(content), subsystem << 8 | command, NLM_F_REQUEST | flags, 0, 0)
    return header + struct.pack(">BBH", family, 0, resource) + content


def ask(sock: socket.socket, request: bytes, what: str) -> list[bytes]:
    """Send one request and return the contents that answer it. Raise NetlinkError, with `what` could not be done, if refused."""
    sock.send(request)
    found: list[bytes] = []
    while True:
        for kind, flags, _, body in messages(sock.recv(RECEIVE_BYTES)):
            if kind == NLMSG_DONE:
                return found
            if kind == NLMSG_ERROR:
                code, words = failure(flags, body)
                if code:
                    raise NetlinkError(code, f"{what}: {words or os.strerror(code)}", 0)
                return found
            found.append(body[HEADER_BYTES:])
