"""Containers on real bridges: who reaches whom."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.kernel import nftables as nft
from engine.kernel.netlink import RouteNetlink
from engine.runtime import endpoints as attachment
from engine.types import EndpointRequest, NetworkSpec
from networking.driver import HostLock
from networking.links import LinkWorker, PyrouteLinks
from tests.kernel.netlab import HOST, OUTSIDE, Lab, converse, listen, serve

pytestmark = pytest.mark.needs("root", "netns")


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    made = Lab(tmp_path)
    yield made
    made.close()


def forwarding() -> str:
    return Path("/proc/sys/net/ipv4/ip_forward").read_text().strip()


def test_containers_of_one_network_reach_each_other_and_keep_their_addresses(lab: Lab) -> None:
    lab.driver.create(NetworkSpec("front"))
    web, client = lab.container("web", "front"), lab.container("client", "front")
    web.serve(80)
    assert converse(client.connect(web.address, 80), b"hello") == f"{client.address} hello".encode()


def test_networks_do_not_reach_each_other(lab: Lab) -> None:
    lab.driver.create(NetworkSpec("front"))
    lab.driver.create(NetworkSpec("back"))
    web, database = lab.container("web", "front"), lab.container("db", "back")
    both = lab.container("both", "front", "back")
    database.serve(5432)
    assert both.can_connect(database.address, 5432)
    assert not web.can_connect(database.address, 5432)


def test_the_outside_does_not_reach_a_container_by_its_address(lab: Lab) -> None:
    lab.driver.create(NetworkSpec("front"))
    web = lab.container("web", "front")
    web.serve(80)
    lab.outside.do(lambda: _route_by_host(web.endpoints[0].ipv4_address))
    assert not lab.outside.can_connect(web.address, 80)


def _route_by_host(address: str) -> None:
    from pyroute2 import IPRoute

    with IPRoute() as route:
        route.route("add", dst=f"{address}/32", gateway=HOST)


def test_a_container_reaches_the_outside_with_the_hosts_address(lab: Lab) -> None:
    lab.driver.create(NetworkSpec("front"))
    web = lab.container("web", "front")
    serve(lab.outside.do(lambda: listen(80)))
    assert converse(web.connect(OUTSIDE, 80), b"hello") == f"{HOST} hello".encode()


def test_an_internal_network_has_no_way_out(lab: Lab) -> None:
    lab.driver.create(NetworkSpec("closed", internal=True))
    one, two = lab.container("one", "closed"), lab.container("two", "closed")
    serve(lab.outside.do(lambda: listen(80)))
    two.serve(80)
    assert one.can_connect(two.address, 80)
    gateway = lab.driver.all()[0].gateway
    one.do(lambda: _default_route(gateway))  # even where the container makes itself a route
    assert not one.can_connect(OUTSIDE, 80)


def _default_route(gateway: str) -> None:
    from pyroute2 import IPRoute

    with IPRoute() as route:
        route.route("add", dst="default", gateway=gateway)


def test_endpoints_are_as_pyroute2_sees_them(lab: Lab) -> None:
    network = lab.driver.create(NetworkSpec("front", subnet="10.77.0.0/24"))
    web = lab.container("web", EndpointRequest("front", ipv4_address="10.77.0.9", mac_address="02:42:00:00:00:09"))

    def look() -> tuple[object, ...]:
        from pyroute2 import IPRoute

        with IPRoute() as route:
            index = route.link_lookup(ifname="eth0")[0]
            link, address = route.get_links(index)[0], route.get_addr(index=index, family=socket.AF_INET)[0]
            default = route.get_default_routes(family=socket.AF_INET)[0]
            loopback = route.get_links(1)[0]
            inet6 = list(route.get_addr(index=index, family=socket.AF_INET6))
        return (
            link.get_attr("IFLA_ADDRESS"),
            link["state"],
            f"{address.get_attr('IFA_ADDRESS')}/{address['prefixlen']}",
            address.get_attr("IFA_BROADCAST"),
            default.get_attr("RTA_GATEWAY"),
            loopback["state"],
            inet6,
        )

    expected: tuple[object, ...] = ("02:42:00:00:00:09", "up", "10.77.0.9/24", "10.77.0.255", "10.77.0.1", "up", [])
    assert web.do(look) == expected
    bridge = PyrouteLinks().inspect(network.link)
    assert bridge is not None
    assert bridge["ports"] == [web.endpoints[0].link]
    assert bridge["addresses"] == ["10.77.0.1/24"]
    assert (bridge["state"], bridge["forward_delay"], bridge["stp_state"]) == ("up", 0, 0)


def test_attaching_again_is_noticed_and_a_dying_link_of_that_name_is_replaced(lab: Lab) -> None:
    lab.driver.create(NetworkSpec("front"))
    web = lab.container("web", "front")
    entries = [web._entry(endpoint) for endpoint in web.endpoints]
    assert attachment.attached(web.fd, entries)
    again = lab.container("again")
    assert not attachment.attached(again.fd, entries)
    attachment.attach(again.fd, entries)
    assert attachment.attached(again.fd, entries)
    assert not attachment.attached(web.fd, entries)


def test_an_endpoint_whose_bridge_was_made_anew_is_plugged_in_again(lab: Lab) -> None:
    network = lab.driver.create(NetworkSpec("front"))
    web, client = lab.container("web", "front"), lab.container("client", "front")
    web.serve(80)
    PyrouteLinks().remove_bridge(network.link)
    lab.driver.ensure(network)
    for container in (web, client):
        entries = [container._entry(endpoint) for endpoint in container.endpoints]
        assert not attachment.attached(container.fd, entries)
        attachment.attach(container.fd, entries)
        assert attachment.attached(container.fd, entries)
    assert client.can_connect(web.address, 80)


def test_a_missing_bridge_is_named(lab: Lab) -> None:
    network = lab.driver.create(NetworkSpec("front"))
    lab.driver._links.remove_bridge(network.link)  # type: ignore[union-attr]
    with pytest.raises(OSError, match=f"network front has no bridge {network.link}"):
        lab.container("web", "front")


def test_the_first_network_switches_forwarding_on_and_the_last_one_puts_it_back(lab: Lab) -> None:
    assert forwarding() == "0"
    front, back = lab.driver.create(NetworkSpec("front")), lab.driver.create(NetworkSpec("back"))
    assert forwarding() == "1"
    lab.driver.remove(front)
    assert forwarding() == "1"
    lab.driver.remove(back)
    assert forwarding() == "0"
    assert nft.tables() == {}
    with RouteNetlink() as netlink:
        assert {link.name for link in netlink.links()} == {"lo", "out0"}


def test_a_kill_while_the_last_network_goes_does_not_lose_what_forwarding_was(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    front = lab.driver.create(NetworkSpec("front"))

    class Killed(BaseException):
        """Nothing of ours catches it."""

    def killed(batch: nft.Batch) -> None:
        send(batch)
        raise Killed

    send = nft.Batch.send
    with monkeypatch.context() as patched:
        patched.setattr(nft.Batch, "send", killed)
        with pytest.raises(Killed):
            lab.driver.remove(front)
    lab.driver.remove(front)
    assert (forwarding(), nft.tables()) == ("0", {})


def test_two_state_directories_share_a_host(lab: Lab, tmp_path: Path) -> None:
    from engine.paths import Paths
    from engine.state import State
    from networking.driver import BridgeNetworks

    paths = Paths(str(tmp_path / "other"), str(tmp_path / "other-run"))
    other = BridgeNetworks(paths, State(paths.database), PyrouteLinks())
    ours, theirs = lab.driver.create(NetworkSpec("front")), other.create(NetworkSpec("front"))
    assert ours.subnet != theirs.subnet
    lab.driver.repair({})
    lab.driver.remove(ours)
    assert forwarding() == "1"
    assert PyrouteLinks().inspect(theirs.link) is not None
    other.remove(theirs)
    assert forwarding() == "0"


def test_ensure_brings_back_what_a_reboot_took(lab: Lab) -> None:
    network = lab.driver.create(NetworkSpec("front"))
    PyrouteLinks().remove_bridge(network.link)
    lab.driver.firewall.delete()
    os.rmdir(lab.paths.network_run(network.id))
    lab.driver.ensure(network)
    web, client = lab.container("web", "front"), lab.container("client", "front")
    web.serve(80)
    assert client.can_connect(web.address, 80)
    assert forwarding() == "1"


def test_a_network_can_be_removed_while_dying_links_are_plugged_into_it(lab: Lab) -> None:
    network = lab.driver.create(NetworkSpec("front"))
    for number in range(3):
        container = lab.container(f"web-{number}", "front")
        lab.driver.release(container.id)
    lab.driver.remove(network)
    assert PyrouteLinks().inspect(network.link) is None


def test_repair_drops_what_belongs_to_nobody(lab: Lab) -> None:
    network = lab.driver.create(NetworkSpec("front"))
    gone, stopped = lab.container("gone", "front"), lab.container("stopped", "front")
    for container in (gone, stopped):
        lab.driver.firewall.publish([("", "tcp", 8000 + len(container.name), container.address, 80)])
    lab.driver.repair({stopped.id: False})
    assert lab.driver.leases(gone.id) == []
    assert lab.driver.leases(stopped.id) == stopped.endpoints
    assert os.listdir(lab.paths.network_run(network.id)) == []
    assert nft.elements(lab.driver.firewall.table, "published") == {}
    bridge = PyrouteLinks().inspect(network.link)
    assert bridge is not None
    assert bridge["ports"] == [stopped.endpoints[0].link]


def test_repair_finishes_a_removal_and_drops_a_bridge_that_is_not_recorded(lab: Lab) -> None:
    killed, lost = lab.driver.create(NetworkSpec("killed")), lab.driver.create(NetworkSpec("lost"))
    lab.driver._records.mark_removing(killed)
    lab.state.execute("DELETE FROM networks WHERE id = ?", (lost.id,))
    lab.driver.repair({})
    assert lab.state.rows("SELECT * FROM networks") == []
    assert nft.tables() == {}
    with RouteNetlink() as netlink:
        assert {link.name for link in netlink.links()} == {"lo", "out0"}


def test_looking_at_the_networks_finishes_a_removal_unless_its_command_is_at_it(lab: Lab) -> None:
    network = lab.driver.create(NetworkSpec("front"))
    lab.driver._records.mark_removing(network)
    with HostLock().held():
        assert lab.driver.all() == []
        assert PyrouteLinks().inspect(network.link) is not None
    assert lab.driver.all() == []
    assert PyrouteLinks().inspect(network.link) is None
    assert lab.state.rows("SELECT * FROM networks") == []


def test_the_default_network_goes_with_its_last_lease(lab: Lab) -> None:
    network = lab.driver.ensure_default()
    assert lab.driver.ensure_default() == network
    lab.driver.ensure(network)
    one, two = lab.container("one", "bridge"), lab.container("two", "bridge")
    lab.driver.release(one.id)
    assert lab.driver.all() == [network]
    lab.driver.release(two.id)
    assert lab.driver.all() == []
    assert PyrouteLinks().inspect(network.link) is None


def test_the_worker_makes_the_same_bridge(lab: Lab) -> None:
    from networking.links import Bridge

    wanted = Bridge("um-worker", "10.88.0.1", 24, "02:42:0a:58:00:01", 1400, "umiak test")
    worker = LinkWorker.spawn()
    try:
        worker.ensure_bridge(wanted)
        worker.ensure_bridge(wanted)
        bridge = PyrouteLinks().inspect("um-worker")
        assert bridge is not None
        assert (bridge["mtu"], bridge["mac_address"], bridge["alias"]) == (1400, "02:42:0a:58:00:01", "umiak test")
        worker.remove_bridge("um-worker")
        worker.remove_bridge("um-worker")
        assert PyrouteLinks().inspect("um-worker") is None
    finally:
        worker.close()
