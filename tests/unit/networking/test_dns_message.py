"""Reading and writing DNS messages, whatever comes."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from networking import dns_message
from networking.dns_message import Malformed, Query


def query(name: str, kind: int = 1, extra: bytes = b"") -> bytes:
    labels = dns_message.write_name(name)
    return struct.pack(">6H", 7, 0x0100, 1, 0, 0, 1 if extra else 0) + labels + struct.pack(">2H", kind, 1) + extra


def opt(size: int) -> bytes:
    return b"\0" + struct.pack(">HHIH", dns_message.TYPE_OPT, size, 0, 0)


def test_a_name_is_read_in_lower_case() -> None:
    read = Query(query("Web.Example.ORG"))
    assert (read.name, read.kind, read.is_standard) == ("web.example.org", 1, True)


def test_an_answer_repeats_question_and_identifier() -> None:
    asked = Query(query("Web"))
    message = asked.answer([dns_message.address_record("10.0.0.1", 5)])
    assert dns_message.answers(message, 7, asked.raw)
    assert not dns_message.answers(message, 8, asked.raw)
    assert not dns_message.answers(message, 7, Query(query("other")).raw)
    assert message.endswith(b"\xc0\x0c\0\x01\0\x01\0\0\0\x05\0\x04\x0a\0\0\x01")


def test_a_long_answer_is_cut_to_what_the_client_takes() -> None:
    records = [dns_message.address_record("10.0.0.1", 5)] * 40
    assert dns_message.is_truncated(Query(query("web")).datagram(records))
    assert not dns_message.is_truncated(Query(query("web", extra=opt(1232))).datagram(records))
    assert dns_message.is_truncated(Query(query("web", extra=opt(65535))).datagram(records * 3))
    assert Query(query("web", extra=opt(1232))).answer([]).endswith(opt(dns_message.MAX_UDP_BYTES))


def test_reverse_names_give_addresses() -> None:
    assert Query(query("2.0.17.172.in-addr.arpa", 12)).reverse_address() == "172.17.0.2"
    for name in ("x.0.17.172.in-addr.arpa", "17.172.in-addr.arpa", "web", "in-addr.arpa"):
        assert Query(query(name, 12)).reverse_address() is None
    assert Query(query("2.0.17.172.in-addr.arpa", 1)).reverse_address() is None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        query("web")[:11],
        query("web")[:-1],
        query("web")[:12] + b"\xc0\x0c\0\1\0\1",
        query("web")[:12] + b"\x3f" * 300,
        query("web")[:4] + b"\0\2" + query("web")[6:],
        Query(query("web")).answer([]),
    ],
)
def test_what_is_no_query_is_malformed(data: bytes) -> None:
    with pytest.raises(Malformed):
        Query(data)


@given(st.binary(max_size=600))
def test_any_bytes_are_a_query_or_malformed(data: bytes) -> None:
    try:
        read = Query(data)
    except Malformed:
        return
    assert len(read.datagram([dns_message.address_record("10.0.0.1", 5)] * 100)) <= dns_message.MAX_UDP_BYTES
    read.reverse_address()


@given(st.binary(min_size=13, max_size=300))
def test_any_body_after_a_good_header_is_read_or_malformed(data: bytes) -> None:
    try:
        read = Query(struct.pack(">6H", 1, 0x0100, 1, 0, 0, 1) + data)
    except Malformed:
        return
    assert dns_message.answers(read.answer([]), 1, read.raw)
