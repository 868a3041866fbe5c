"""Leases: what the driver records. Nothing here touches the kernel."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import Conflict, InvalidInput, NotFound, Unavailable, Unsupported
from engine.paths import Paths
from engine.state import State
from engine.types import EndpointInfo, EndpointRequest, NetworkInfo, NetworkSpec, PortBinding
from networking.driver import BridgeNetworks, table_name
from networking.links import Bridge
from networking.records import check_spec


class RecordedLinks:
    """Makes no bridges."""

    def ensure_bridge(self, bridge: Bridge) -> None:
        pass

    def remove_bridge(self, name: str) -> None:
        pass

    def close(self) -> None:
        pass


class Unplugged(BridgeNetworks):
    """The driver without a kernel: networks are only recorded."""

    def __init__(self, paths: Paths, state: State) -> None:
        super().__init__(paths, state, RecordedLinks())
        self.state = state

    def create(self, spec: NetworkSpec) -> NetworkInfo:
        check_spec(spec)
        return self._records.add(spec)


def open_driver(directory: str) -> Unplugged:
    paths = Paths(f"{directory}/root", f"{directory}/run")
    return Unplugged(paths, State(paths.database))


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[Unplugged]:
    made = open_driver(str(tmp_path))
    made.create(NetworkSpec("front", subnet="10.201.0.0/24"))
    made.create(NetworkSpec("back", subnet="10.202.0.0/24", internal=True))
    yield made
    made.state.close()


def container(number: int) -> str:
    return f"{number:064x}"


def test_the_highest_priority_is_eth0_and_order_decides_between_equals(driver: Unplugged) -> None:
    driver.create(NetworkSpec("third", subnet="10.203.0.0/24"))
    requests = [EndpointRequest("front"), EndpointRequest("back"), EndpointRequest("third", priority=5)]
    leased = driver.lease(container(1), "web", requests)
    assert [(each.ifname, each.network) for each in leased] == [("eth0", "third"), ("eth1", "front"), ("eth2", "back")]
    assert driver.leases(container(1)) == leased


def test_a_lease_says_all_that_the_monitor_needs(driver: Unplugged) -> None:
    network = next(network for network in driver.all() if network.spec.name == "front")
    (leased,) = driver.lease(container(1), "web", [EndpointRequest("front", ("www",))])
    assert leased == EndpointInfo(
        network="front",
        network_id=network.id,
        ipv4_address="10.201.0.2",
        prefix_length=24,
        gateway="10.201.0.1",
        mac_address="02:42:0a:c9:00:02",
        aliases=("www",),
        ifname="eth0",
        link=leased.link,
    )
    assert leased.link.startswith("umv")
    assert len(leased.link) < 16


def test_an_internal_network_gives_no_gateway(driver: Unplugged) -> None:
    assert driver.lease(container(1), "web", [EndpointRequest("back")])[0].gateway == ""


@pytest.mark.parametrize(
    ("request_", "error", "message"),
    [
        (EndpointRequest("nowhere"), NotFound, 'no network "nowhere"'),
        (EndpointRequest("front", ipv4_address="10.201.0.9"), Conflict, "in use by container 000000000000"),
        (EndpointRequest("front", ipv4_address="10.9.0.9"), InvalidInput, "no host address of network front"),
        (
            EndpointRequest("front", mac_address="02:00:00:00:00:01"),
            Conflict,
            "mac_address 02:00:00:00:00:01 is in use",
        ),
    ],
)
def test_a_wish_that_cannot_be_met_leases_nothing(
    driver: Unplugged, request_: EndpointRequest, error: type[Exception], message: str
) -> None:
    driver.lease(
        container(1), "first", [EndpointRequest("front", ipv4_address="10.201.0.9", mac_address="02:00:00:00:00:01")]
    )
    with pytest.raises(error, match=message):
        driver.lease(container(2), "web", [EndpointRequest("back"), request_])
    assert driver.leases(container(2)) == []


def test_a_network_twice_is_refused(driver: Unplugged) -> None:
    with pytest.raises(Conflict, match="container web is on network front already"):
        driver.lease(container(1), "web", [EndpointRequest("front"), EndpointRequest("front")])


def test_a_full_network_says_so(driver: Unplugged) -> None:
    driver.create(NetworkSpec("small", subnet="10.204.0.0/30"))
    driver.lease(container(1), "web", [EndpointRequest("small")])
    with pytest.raises(Unavailable, match="network small has no free address left"):
        driver.lease(container(2), "web-2", [EndpointRequest("small")])


def test_a_network_in_use_is_not_removed_and_names_its_containers(driver: Unplugged) -> None:
    network = driver.all()[0]
    driver.lease(container(0xABC << 208), "web", [EndpointRequest(network.spec.name)])
    with pytest.raises(
        Conflict, match=f"cannot remove network {network.spec.name}: in use by {container(0xABC << 208)[:12]}"
    ):
        driver.remove(network)
    assert network in driver.all()


def test_a_network_on_its_way_out_frees_its_name_and_takes_no_leases(driver: Unplugged) -> None:
    network = next(network for network in driver.all() if network.spec.name == "front")
    driver._records.mark_removing(network)
    with pytest.raises(NotFound):
        driver.lease(container(1), "web", [EndpointRequest("front")])
    assert driver.create(NetworkSpec("front", subnet="10.205.0.0/24")).id != network.id


@pytest.mark.parametrize(
    ("spec", "error"),
    [
        (NetworkSpec("front"), Conflict),
        (NetworkSpec("bridge"), InvalidInput),
        (NetworkSpec("host"), InvalidInput),
        (NetworkSpec("a b"), InvalidInput),
        (NetworkSpec("../x"), InvalidInput),
        (NetworkSpec("x", driver="overlay"), Unsupported),
        (NetworkSpec("x", options={"com.docker.network.driver.mtu": "big"}), InvalidInput),
    ],
)
def test_wrong_networks_are_refused(driver: Unplugged, spec: NetworkSpec, error: type[Exception]) -> None:
    with pytest.raises(error):
        driver.create(spec)


def test_services_follow_from_networks_and_ports(driver: Unplugged) -> None:
    wish = {"dns": ("192.0.2.53",), "dns_search": (), "dns_opt": ()}
    ports = [PortBinding(80, host_port=8080)]
    both = driver.lease(container(1), "web", [EndpointRequest("back", priority=1), EndpointRequest("front")])
    dns, publish = driver.services(container(1), both, ports, **wish)
    assert dns["config"]["servers"] == ["192.0.2.53"]
    assert [network["name"] for network in dns["config"]["networks"]] == ["back", "front"]
    assert publish["config"]["address"] == both[1].ipv4_address  # the one with a way out
    closed = driver.lease(container(2), "db", [EndpointRequest("back")])
    (dns,) = driver.services(container(2), closed, ports, **wish)
    assert dns["config"]["servers"] == []
    assert driver.services(container(3), [], ports, **wish) == []


def test_the_table_is_the_systems_or_one_per_state_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("UMIAK_NFT_TABLE", raising=False)
    assert table_name("/var/lib/umiak") == "umiak"
    assert table_name("/tmp/a") != table_name("/tmp/b")
    monkeypatch.setenv("UMIAK_NFT_TABLE", "mine")
    assert table_name("/tmp/a") == "mine"


@settings(max_examples=25, deadline=None)
@given(st.lists(st.one_of(st.integers(0, 12), st.integers(1, 16).map(lambda host: f"10.201.0.{host}")), max_size=30))
def test_an_address_is_never_handed_out_twice(steps: list[int | str]) -> None:
    """A number takes a lease for that container or gives it back; an address asks for exactly that one."""
    with tempfile.TemporaryDirectory() as directory:
        driver = open_driver(directory)
        driver.create(NetworkSpec("small", subnet="10.201.0.0/28"))
        held: dict[str, str] = {}
        for step, wish in enumerate(steps):
            name = container(wish if isinstance(wish, int) else 100 + step)
            if name in held:
                driver.state.execute("DELETE FROM leases WHERE container_id = ?", (name,))
                del held[name]
                continue
            request = EndpointRequest("small", ipv4_address=wish if isinstance(wish, str) else None)
            try:
                (leased,) = driver.lease(name, name, [request])
            except (Conflict, Unavailable, InvalidInput):
                continue
            assert leased.ipv4_address not in held.values()
            held[name] = leased.ipv4_address
        rows = driver.state.rows("SELECT ipv4_address FROM leases")
        assert sorted(row[0] for row in rows) == sorted(held.values())
        driver.state.close()
    assert not os.path.exists(directory)


def test_leases_taken_at_once_by_many_are_all_different(tmp_path: Path) -> None:
    first = open_driver(str(tmp_path))
    first.create(NetworkSpec("front", subnet="10.201.0.0/24"))
    drivers = [first, open_driver(str(tmp_path))]

    def take(number: int) -> str:
        (leased,) = drivers[number % 2].lease(container(number), f"web-{number}", [EndpointRequest("front")])
        return leased.ipv4_address

    with ThreadPoolExecutor(8) as pool:
        taken = list(pool.map(take, range(100)))
    assert len(set(taken)) == 100
    for each in drivers:
        each.state.close()
