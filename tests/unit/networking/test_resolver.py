"""/etc/resolv.conf, read and written."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.errors import InvalidInput
from networking import resolver

HOST = """# made by hand
nameserver 192.0.2.53   ; the first
nameserver fe80::1%eth0
nameserver nonsense
search corp.example lan
options timeout:2 edns0
"""


@pytest.fixture
def path(tmp_path: Path) -> str:
    (tmp_path / "resolv.conf").write_text(HOST)
    return str(tmp_path / "resolv.conf")


def test_on_a_network_it_names_our_server_and_keeps_the_hosts_search(path: str) -> None:
    expected = "nameserver 127.0.0.11\nsearch corp.example lan\noptions timeout:2 edns0 ndots:0\n"
    assert resolver.resolv_conf(True, (), (), (), path) == expected


def test_off_networks_it_is_the_hosts(path: str) -> None:
    text = resolver.resolv_conf(False, (), (), (), path)
    expected = "nameserver 192.0.2.53\nnameserver fe80::1%eth0\nsearch corp.example lan\noptions timeout:2 edns0\n"
    assert text == expected


def test_wishes_replace_the_hosts(path: str) -> None:
    assert resolver.resolv_conf(True, ("9.9.9.9",), (".",), ("ndots:2",), path) == (
        "nameserver 127.0.0.11\noptions ndots:2\n"
    )
    assert resolver.resolv_conf(False, ("9.9.9.9",), ("a.example",), ("rotate",), path) == (
        "nameserver 9.9.9.9\nsearch a.example\noptions rotate\n"
    )


def test_servers_are_those_asked_for_or_the_hosts(path: str) -> None:
    assert resolver.servers((), path) == ["192.0.2.53", "fe80::1%eth0"]
    assert resolver.servers(("9.9.9.9",), path) == ["9.9.9.9"]
    with pytest.raises(InvalidInput, match='dns: "x" is no address'):
        resolver.servers(("x",), path)


def test_no_file_is_no_server(tmp_path: Path) -> None:
    assert resolver.servers((), str(tmp_path / "none")) == []
    assert resolver.resolv_conf(True, (), (), (), str(tmp_path / "none")) == "nameserver 127.0.0.11\noptions ndots:0\n"
