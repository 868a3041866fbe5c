"""What may be handed out, and what is wrong with what was asked for."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import Conflict, InvalidInput, UmiakError, Unavailable, Unsupported
from engine.types import NetworkSpec
from networking import ipam
from networking.ipam import Route, Subnet, next_address, parse_address, parse_mac, parse_subnet, plan

ROUTES = """Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0
eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
tun0\t0000000A\t0100A8C0\t0003\t0\t0\t0\t000000FF\t0\t0\t0
tun0\t00000080\t0100A8C0\t0003\t0\t0\t0\t00000080\t0\t0\t0
"""


def route(subnet: str, *, direct: bool = True) -> Route:
    return Route(parse_subnet(subnet, "route"), "eth0", direct)


def spec(subnet: str | None = None, *, ip_range: str | None = None, gateway: str | None = None) -> NetworkSpec:
    return NetworkSpec("net", subnet=subnet, ip_range=ip_range, gateway=gateway)


@pytest.fixture
def proc_net_route(tmp_path: Path) -> str:
    path = tmp_path / "route"
    path.write_text(ROUTES)
    return str(path)


def test_routes_are_read_without_those_that_lead_outside(proc_net_route: str) -> None:
    assert ipam.host_routes(proc_net_route) == [
        Route(parse_subnet("192.0.2.0/24", ""), "eth0", True),
        Route(parse_subnet("10.0.0.0/8", ""), "tun0", False),
    ]
    assert ipam.default_route_device(proc_net_route) == "eth0"


def test_the_first_network_gets_the_first_subnet() -> None:
    planned = plan(spec(), [], [])
    assert str(planned.subnet) == "172.17.0.0/24"
    assert ipam.to_text(planned.gateway) == "172.17.0.1"


def test_routes_networks_and_name_servers_are_avoided() -> None:
    recorded = [("a", "172.17.1.0/24")]
    planned = plan(spec(), recorded, [route("172.17.0.0/25")], [parse_address("172.17.2.53", "")])
    assert str(planned.subnet) == "172.17.3.0/24"


def test_pools_can_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ipam.POOLS_VARIABLE, "10.99.0.0/28:29, 10.98.0.0/24")
    recorded: list[tuple[str, str]] = []
    for expected in ("10.99.0.0/29", "10.99.0.8/29", "10.98.0.0/24"):
        subnet = str(plan(spec(), recorded, []).subnet)
        assert subnet == expected
        recorded.append((subnet, subnet))
    with pytest.raises(Unavailable, match="no free subnet"):
        plan(spec(), recorded, [])


@pytest.mark.parametrize("pools", ["10.0.0.0/16:8", "10.0.0.0/16:31", "10.0.0.0/16:x", "10.0.0.0", "fd00::/8"])
def test_pools_that_cannot_be_read_are_refused(pools: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ipam.POOLS_VARIABLE, pools)
    with pytest.raises(UmiakError, match=ipam.POOLS_VARIABLE):
        plan(spec(), [], [])


@pytest.mark.parametrize(
    ("wished", "error", "message"),
    [
        (spec("172.28.0.0"), InvalidInput, 'cannot read "172.28.0.0" as a subnet'),
        (spec("172.28.0.0/33"), InvalidInput, "as a subnet"),
        (spec("172.28.0.1/16"), InvalidInput, "has host bits set"),
        (spec("nonsense/16"), InvalidInput, 'cannot read "nonsense" as an IPv4 address'),
        (spec("fd00::/64"), Unsupported, "IPv6"),
        (spec("172.28.0.0/31"), InvalidInput, "no room"),
        (spec("127.0.0.0/16"), InvalidInput, "cannot be used"),
        (spec("224.0.0.0/16"), InvalidInput, "cannot be used"),
        (spec("0.0.0.0/0"), InvalidInput, "cannot be used"),
        (spec("172.30.4.0/22"), Conflict, "overlaps 172.30.5.0/24 of network other"),
        (spec("192.0.2.0/25"), Conflict, "overlaps 192.0.2.0/24, which the host reaches by eth0"),
        (spec("10.1.0.0/16", gateway="10.2.0.1"), InvalidInput, "gateway 10.2.0.1 is no host address of 10.1.0.0/16"),
        (spec("10.1.0.0/16", gateway="10.1.0.0"), InvalidInput, "gateway"),
        (spec("10.1.0.0/16", ip_range="10.2.0.0/24"), InvalidInput, "does not lie in"),
        (spec("10.1.0.0/16", ip_range="10.0.0.0/8"), InvalidInput, "does not lie in"),
        (spec(gateway="10.1.0.1"), InvalidInput, "need a subnet"),
        (spec(ip_range="10.1.0.0/24"), InvalidInput, "need a subnet"),
    ],
)
def test_wrong_wishes_are_refused_with_the_reason(wished: NetworkSpec, error: type[UmiakError], message: str) -> None:
    with pytest.raises(error) as caught:
        plan(wished, [("other", "172.30.5.0/24")], [route("192.0.2.0/24")])
    assert message in caught.value.message
    assert caught.value.message.startswith("network net:")


def test_a_subnet_may_lie_in_what_the_host_reaches_by_a_gateway() -> None:
    assert str(plan(spec("10.1.0.0/16"), [], [route("10.0.0.0/8", direct=False)]).subnet) == "10.1.0.0/16"


def test_an_ip_range_bounds_what_is_leased() -> None:
    planned = plan(spec("10.1.0.0/16", ip_range="10.1.5.0/30", gateway="10.1.5.1"), [], [])
    leased = {next_address("net", planned, set(), 0)}
    for _ in range(2):
        leased.add(next_address("net", planned, leased, planned.first))
    assert sorted(map(ipam.to_text, leased)) == ["10.1.5.0", "10.1.5.2", "10.1.5.3"]
    with pytest.raises(Unavailable, match=r"no free address left in 10\.1\.5\.0-10\.1\.5\.3"):
        next_address("net", planned, leased, planned.first)


def test_an_address_given_back_is_not_handed_out_next() -> None:
    planned = plan(spec("10.1.0.0/29"), [], [])
    start, order = planned.first, []
    for _ in range(6):
        address = next_address("net", planned, set(), start)
        start = address + 1
        order.append(address - planned.subnet.base)
    assert order == [2, 3, 4, 5, 6, 2]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        *((text, InvalidInput) for text in ("10.1.0.0", "10.1.0.255", "10.2.0.5", "x")),
        *((text, Conflict) for text in ("10.1.0.1", "10.1.0.9")),
    ],
)
def test_wished_addresses_are_checked(text: str, error: type[UmiakError]) -> None:
    planned = plan(spec("10.1.0.0/24"), [], [])
    assert ipam.check_address("net", "10.1.0.5", planned, {}) == planned.subnet.base + 5
    with pytest.raises(error):
        ipam.check_address("net", text, planned, {planned.subnet.base + 9: "web"})


def test_mac_addresses() -> None:
    assert ipam.mac_address(parse_address("172.17.0.2", "")) == "02:42:ac:11:00:02"
    assert parse_mac("02-42-AC-11-00-02") == "02:42:ac:11:00:02"
    for wrong in (
        "",
        "02:42:ac:11:00",
        "02:42:ac:11:00:0g",
        "01:42:ac:11:00:02",
        "00:00:00:00:00:00",
        "2:42:ac:11:0:2",
    ):
        with pytest.raises(InvalidInput):
            parse_mac(wrong)


subnets = st.builds(
    lambda base, length: Subnet(base & ~(0xFFFFFFFF >> length), length), st.integers(0, 2**32 - 1), st.integers(8, 32)
)


@given(st.lists(subnets, max_size=40))
def test_a_chosen_subnet_overlaps_nothing(busy: list[Subnet]) -> None:
    try:
        chosen = plan(spec(), [], [Route(subnet, "eth0", False) for subnet in busy]).subnet
    except Unavailable:
        return
    assert not any(chosen.overlaps(subnet) for subnet in busy)


@given(subnets)
def test_subnets_read_back_as_written(subnet: Subnet) -> None:
    assert parse_subnet(str(subnet), "x") == subnet
    assert subnet.holds(subnet.base)
    assert subnet.holds(subnet.last)


@given(st.text(max_size=20))
def test_any_text_is_a_subnet_or_an_error_of_ours(text: str) -> None:
    for read in (lambda: parse_subnet(text, "x"), lambda: parse_address(text, "x"), lambda: parse_mac(text)):
        try:
            read()
        except UmiakError:
            continue
