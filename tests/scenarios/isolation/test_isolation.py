"""Services meet on the networks that they share and nowhere else."""

from __future__ import annotations

from tests.stack import Stack

FETCH = "timeout 2 wget -q -O - http://{}/"


def test_services_on_one_network_reach_each_other_by_name(stack: Stack) -> None:
    stack.up()
    for service, other in [("front", "both"), ("both", "front"), ("both", "back"), ("back", "both")]:
        assert stack.sh(service, FETCH.format(other)) == "page"


def test_services_without_a_common_network_cannot_reach_each_other(stack: Stack) -> None:
    stack.up()
    address = stack.address("back")
    assert stack.exec("front", "nslookup", "back", exit_code=None).returncode != 0
    assert stack.exec("front", "sh", "-c", FETCH.format(address), exit_code=None).returncode != 0
    assert stack.exec("front", "ping", "-c", "1", "-W", "1", address, exit_code=None).returncode != 0


def test_a_container_with_no_network_has_only_loopback(stack: Stack) -> None:
    stack.up()
    assert stack.sh("alone", "ls /sys/class/net") == "lo"
    assert stack.exec("alone", "ping", "-c", "1", "-W", "1", "127.0.0.1").returncode == 0
