"""DNS messages (RFC 1035): as much as a name server for containers reads and writes. Input is hostile; standard library only."""

from __future__ import annotations

import socket
import struct

HEADER_BYTES = 12
QR, AA, TC, RD, RA = 0x8000, 0x0400, 0x0200, 0x0100, 0x0080
OPCODE_MASK = 0x7800
RCODE_MASK = 0x000F
NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED = range(6)
TYPE_A, TYPE_PTR, TYPE_AAAA, TYPE_OPT, TYPE_ANY = 1, 12, 28, 41, 255
CLASS_IN, CLASS_ANY = 1, 255

UDP_BYTES = 512
MAX_UDP_BYTES = 1232
"""What we send at most in a datagram, whatever the client offers: it fits any path's MTU (DNS flag day 2020)."""
MAX_NAME_BYTES = 255
POINTER_TO_QUESTION = b"\xc0\x0c"
REVERSE_SUFFIX = ".in-addr.arpa"


class Malformed(ValueError):
    """Not a DNS query."""


class Query:
    """A question as it came. `name` is in lower case without the final dot; `raw` is the question section."""

    __slots__ = ("data", "flags", "identifier", "kind", "name", "offered_bytes", "raw", "record_class")

    def __init__(self, data: bytes) -> None:
        if len(data) < HEADER_BYTES:
            raise Malformed("shorter than a header")
        self.data = data
        self.identifier, self.flags, questions, answers, authorities, extras = struct.unpack_from(">6H", data)
        if self.flags & QR or questions != 1:
            raise Malformed("not one question")
        self.name, end = _read_name(data, HEADER_BYTES)
        if len(data) < end + 4:
            raise Malformed("the question is cut off")
        self.kind, self.record_class = struct.unpack_from(">2H", data, end)
        self.raw = data[HEADER_BYTES : end + 4]
        self.offered_bytes = 0
        if not answers and not authorities and extras == 1:
            self.offered_bytes = _offered_bytes(data, end + 4)

    @property
    def is_standard(self) -> bool:
        """Whether it is a plain query in the internet class."""
        return not self.flags & OPCODE_MASK and self.record_class in (CLASS_IN, CLASS_ANY)

    def reverse_address(self) -> str | None:
        """The address that a PTR question is about."""
        if self.kind != TYPE_PTR or not self.name.endswith(REVERSE_SUFFIX):
            return None
        address = ".".join(reversed(self.name.removesuffix(REVERSE_SUFFIX).split(".")))
        try:
            return socket.inet_ntoa(socket.inet_pton(socket.AF_INET, address))
        except (OSError, ValueError):
            return None

    def answer(self, records: list[bytes], code: int = NOERROR) -> bytes:
        """The whole answer."""
        flags = QR | AA | RA | (self.flags & (OPCODE_MASK | RD)) | code
        extra = b""
        if self.offered_bytes:
            extra = b"\0" + struct.pack(">HHIH", TYPE_OPT, MAX_UDP_BYTES, 0, 0)
        counts = (1, len(records), 0, 1 if extra else 0)
        return struct.pack(">6H", self.identifier, flags, *counts) + self.raw + b"".join(records) + extra

    def datagram(self, records: list[bytes], code: int = NOERROR) -> bytes:
        """The answer as it fits a datagram: too long a one becomes empty and says so, and the client asks by TCP."""
        message = self.answer(records, code)
        if len(message) <= max(UDP_BYTES, min(self.offered_bytes, MAX_UDP_BYTES)):
            return message
        empty = self.answer([], code)
        return empty[:2] + struct.pack(">H", struct.unpack_from(">H", empty, 2)[0] | TC) + empty[4:]


def address_record(address: str, ttl_s: int) -> bytes:
    """An A record for the question's name."""
    return POINTER_TO_QUESTION + struct.pack(">HHIH", TYPE_A, CLASS_IN, ttl_s, 4) + socket.inet_aton(address)


def pointer_record(name: str, ttl_s: int) -> bytes:
    """A PTR record for the question's name."""
    target = write_name(name)
    return POINTER_TO_QUESTION + struct.pack(">HHIH", TYPE_PTR, CLASS_IN, ttl_s, len(target)) + target


def write_name(name: str) -> bytes:
    """A name as labels; labels that do not fit are cut."""
    labels = [label.encode()[:63] for label in name.split(".") if label]
    return b"".join(bytes((len(label),)) + label for label in labels) + b"\0"


def response_code(message: bytes) -> int:
    """The RCODE of an answer."""
    return int(struct.unpack_from(">H", message, 2)[0]) & RCODE_MASK


def is_truncated(message: bytes) -> bool:
    """Whether an answer says that it is not whole."""
    return bool(struct.unpack_from(">H", message, 2)[0] & TC)


def answers(message: bytes, identifier: int, question: bytes) -> bool:
    """Whether a message is an answer to this question: the identifier and the question must both be ours."""
    if len(message) < HEADER_BYTES + len(question):
        return False
    found, flags, questions = struct.unpack_from(">3H", message)
    same = message[HEADER_BYTES : HEADER_BYTES + len(question)].lower() == question.lower()
    return found == identifier and bool(flags & QR) and questions == 1 and same


def _read_name(data: bytes, offset: int) -> tuple[str, int]:
    labels: list[str] = []
    start = offset
    while True:
        if offset >= len(data) or offset - start > MAX_NAME_BYTES:
            raise Malformed("the name has no end")
        length = data[offset]
        offset += 1
        if not length:
            return ".".join(labels).lower(), offset
        if length > 63:
            raise Malformed("a question's name must not be compressed")
        labels.append(data[offset : offset + length].decode("latin-1"))
        offset += length


def _offered_bytes(data: bytes, offset: int) -> int:
    if len(data) < offset + 11 or data[offset]:
        return 0
    kind, size = struct.unpack_from(">2H", data, offset + 1)
    return max(int(size), UDP_BYTES) if kind == TYPE_OPT else 0
