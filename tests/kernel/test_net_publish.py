"""Published ports, asked from the host, from outside, and from other containers."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import resource
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.errors import Unsupported
from engine.kernel import nftables as nft
from engine.runtime.services import ServiceError
from engine.types import NetworkSpec, PortBinding
from networking import proxy
from tests.kernel.netlab import HOST, OUTSIDE, Container, Lab, converse, listen, send_all
from tests.patience import PATIENCE

pytestmark = pytest.mark.needs("root", "netns")


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    made = Lab(tmp_path)
    made.driver.create(NetworkSpec("front"))
    yield made
    made.close()


def web(lab: Lab, *ports: PortBinding, name: str = "web") -> Container:
    made = lab.container(name, "front", ports=list(ports) or [PortBinding(80, host_port=8080)])
    made.serve(80)
    made.serve(80, "udp")
    return made


def from_host(port: int, address: str = "127.0.0.1") -> socket.socket:
    return socket.create_connection((address, port), timeout=5 * PATIENCE)


def test_a_port_answers_on_loopback_and_on_the_hosts_address(lab: Lab) -> None:
    container = web(lab)
    for address in ("127.0.0.1", HOST):
        assert converse(from_host(8080, address), b"hello") == f"{container.address} hello".encode()


def test_a_client_from_outside_is_seen_with_its_own_address(lab: Lab) -> None:
    web(lab)
    assert converse(lab.outside.connect(HOST, 8080), b"hello") == f"{OUTSIDE} hello".encode()


def test_without_nat_a_client_from_outside_is_served_all_the_same(lab: Lab) -> None:
    container = web(lab)
    lab.driver.firewall.delete()
    assert converse(lab.outside.connect(HOST, 8080), b"hello") == f"{container.address} hello".encode()


def test_other_containers_reach_it_by_the_hosts_addresses(lab: Lab) -> None:
    lab.driver.create(NetworkSpec("back"))
    container = web(lab)
    neighbour, stranger = lab.container("neighbour", "front"), lab.container("stranger", "back")
    for client in (neighbour, stranger):
        assert not (client is stranger and client.can_connect(container.address, 80))
        for address in (HOST, client.endpoints[0].gateway):
            assert converse(client.connect(address, 8080), b"x").endswith(b" x")
    assert converse(container.connect(HOST, 8080), b"x").endswith(b" x")


def test_it_answers_on_ipv6_loopback_too(lab: Lab) -> None:
    web(lab)
    assert converse(from_host(8080, "::1"), b"x").endswith(b" x")


def test_a_host_address_limits_who_reaches_it(lab: Lab) -> None:
    web(lab, PortBinding(80, host_ip="127.0.0.1", host_port=8080), PortBinding(80, host_ip=HOST, host_port=8081))
    assert converse(from_host(8080), b"x").endswith(b" x")
    assert not lab.outside.can_connect(HOST, 8080)
    assert converse(lab.outside.connect(HOST, 8081), b"x") == f"{OUTSIDE} x".encode()
    with pytest.raises(ConnectionRefusedError):
        from_host(8081)


def test_udp_answers_from_everywhere_with_the_address_that_was_asked(lab: Lab) -> None:
    container = web(lab, PortBinding(80, "udp", host_port=5353))
    for address in ("127.0.0.1", HOST, lab.driver.all()[0].gateway):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(5 * PATIENCE)
            sock.connect((address, 5353))
            for number in range(3):
                sock.send(b"%d" % number)
                assert sock.recv(100) == f"{container.address} {number}".encode()
    assert lab.outside.ask_udp(HOST, 5353, b"hello") == f"{OUTSIDE} hello".encode()
    neighbour = lab.container("neighbour", "front")
    assert neighbour.ask_udp(HOST, 5353, b"x").endswith(b" x")


def test_udp_sessions_end_when_idle_or_too_many(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy, "MAX_SESSIONS", 5)
    monkeypatch.setattr(proxy, "SESSION_SWEEP_S", 0.05)
    monkeypatch.setattr(proxy, "SESSION_IDLE_S", 0.2)
    container = web(lab, PortBinding(80, "udp", host_port=5353))
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(5 * PATIENCE)
            sock.connect(("127.0.0.1", 5353))
            sock.send(b"x")
            assert sock.recv(100)
    assert len(os.listdir("/proc/self/fd")) <= before + 5
    wait_until(lambda: len(os.listdir("/proc/self/fd")) <= before)
    assert container.host.errors == []


def wait_until(holds: object, timeout_s: float = 5.0 * PATIENCE) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_free_port_is_chosen_and_a_range_gives_its_first_free_one(lab: Lab) -> None:
    with listen(9001):
        container = web(
            lab,
            *(PortBinding(80), PortBinding(80, "udp")),
            *(
                PortBinding(80, host_port=9001, host_port_last=9003),
                PortBinding(80, host_port=9001, host_port_last=9003),
            ),
        )
    ports = [(port["protocol"], port["host_port"]) for port in container.published]
    assert ports[2:] == [("tcp", 9002), ("tcp", 9003)]
    assert converse(from_host(ports[0][1]), b"x").endswith(b" x")
    assert all(port["host_ip"] == "0.0.0.0" and port["container_port"] == 80 for port in container.published)
    with pytest.raises(ServiceError, match="all ports of 9002-9003 are in use"):
        web(lab, PortBinding(80, host_port=9002, host_port_last=9003), name="second")


def test_a_port_in_use_names_the_process(lab: Lab) -> None:
    code = "import socket; s = socket.socket(); s.bind(('0.0.0.0', 8080)); s.listen(); print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(ServiceError) as caught:
            web(lab)
        process.kill()
    comm = os.path.basename(os.path.realpath(sys.executable))[:15]
    assert caught.value.kind == "conflict"
    expected = f"cannot publish port 8080/tcp on 0.0.0.0: already used by {comm} (pid {process.pid})"
    assert caught.value.message.replace("python (", f"{comm} (") == expected
    assert caught.value.hint == "change 'ports' or stop that process (run by root)"
    assert nft.elements(lab.driver.firewall.table, "published") == {}


def test_a_port_in_use_names_the_container_that_publishes_it(lab: Lab) -> None:
    first = web(lab)
    directory = Path(lab.paths.container(first.id))
    directory.mkdir(parents=True)
    (directory / "monitor.json").write_text(json.dumps({"name": "proj-web-1"}))
    with open(f"{lab.paths.container_run(first.id)}/lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ServiceError) as caught:
            web(lab, name="second")
    assert caught.value.message == "cannot publish port 8080/tcp on 0.0.0.0: already used by container proj-web-1"
    assert converse(from_host(8080), b"x").endswith(b" x")


def test_udp_ports_are_not_shared(lab: Lab) -> None:
    web(lab, PortBinding(80, "udp", host_port=5353))
    with pytest.raises(ServiceError, match="cannot publish port 5353/udp"):
        web(lab, PortBinding(80, "udp", host_port=5353), name="second")


def test_an_address_that_the_host_has_not_is_named(lab: Lab) -> None:
    with pytest.raises(ServiceError, match=r"on 192\.0\.2\.77: this host has no such address"):
        web(lab, PortBinding(80, host_ip="192.0.2.77", host_port=8080))


def test_what_was_published_is_gone_after_the_end(lab: Lab) -> None:
    container = web(lab, PortBinding(80, host_port=8080), PortBinding(80, "udp", host_port=8080))
    assert len(nft.elements(lab.driver.firewall.table, "published")) == 2
    container.stop()
    container.stop()
    assert nft.elements(lab.driver.firewall.table, "published") == {}
    with pytest.raises(ConnectionRefusedError):
        from_host(8080)
    assert not lab.outside.can_connect(HOST, 8080)


def test_a_udp_client_that_keeps_sending_reaches_the_next_container(lab: Lab) -> None:
    ports = [PortBinding(80, "udp", host_port=5353)]
    first = web(lab, *ports)
    with lab.outside.do(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sock:
        sock.settimeout(5 * PATIENCE)
        sock.connect((HOST, 5353))
        sock.send(b"one")
        assert sock.recv(100) == f"{OUTSIDE} one".encode()
        first.stop()
        second = lab.container("second", "front", ports=ports)
        assert second.address != first.address
        with second.do(lambda: listen(80, "udp")) as inside:
            inside.settimeout(5 * PATIENCE)
            sock.send(b"two")
            assert inside.recv(100) == b"two"


def test_a_stale_element_of_a_killed_monitor_is_replaced(lab: Lab) -> None:
    lab.driver.firewall.publish([("", "tcp", 8080, "10.1.2.3", 99)])
    container = web(lab)
    assert converse(lab.outside.connect(HOST, 8080), b"x") == f"{OUTSIDE} x".encode()
    assert lab.driver.firewall.ports_of("tcp", container.address, 80) == [8080]


def test_a_monitor_that_takes_over_keeps_a_chosen_port(lab: Lab) -> None:
    container = web(lab, PortBinding(80))
    port = container.published[0]["host_port"]
    container.host.stop()
    service = container.services[1]
    service._proxy.close()  # type: ignore[attr-defined]  # killed: nothing was withdrawn
    service._published = []  # type: ignore[attr-defined]
    service.acquire()
    container.host.start()
    assert [each["host_port"] for each in container.published] == [port]
    assert converse(from_host(port), b"x").endswith(b" x")


def test_large_transfers_arrive_whole_in_both_directions(lab: Lab) -> None:
    web(lab)
    data = os.urandom(1 << 20) * 24
    assert converse(from_host(8080), data).partition(b" ")[2] == data


def test_a_slow_reader_is_waited_for(lab: Lab) -> None:
    container = web(lab)
    data = os.urandom(1 << 20) * 16
    client = from_host(8080)
    sender = send_all(client, data)
    deadline = time.monotonic() + 10 * PATIENCE
    while busy_s(0.3) > 0.15:  # it fills what buffers there are; then it waits rather than spins
        assert time.monotonic() < deadline
    received = bytearray()
    while piece := client.recv(1 << 16):
        received += piece
    sender.join(5 * PATIENCE)
    assert bytes(received).partition(b" ")[2] == data
    assert container.host.errors == []


def busy_s(interval_s: float) -> float:
    """How much of the CPU this process used in an interval."""
    before = time.process_time()
    time.sleep(interval_s)
    return time.process_time() - before


def test_a_closed_port_inside_resets_the_client(lab: Lab) -> None:
    lab.container("web", "front", ports=[PortBinding(80, host_port=8080)])
    with pytest.raises(ConnectionResetError):  # on a slow machine, before the connection is handed out
        from_host(8080).recv(1)


def test_a_reset_goes_through(lab: Lab) -> None:
    container = lab.container("web", "front", ports=[PortBinding(80, host_port=8080)])
    listener = container.do(lambda: listen(80))
    client = from_host(8080)
    inside, _ = listener.accept()
    client.sendall(b"x")
    assert inside.recv(1) == b"x"
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    with pytest.raises(ConnectionResetError):
        inside.recv(1)
    listener.close()


@pytest.mark.parametrize("limit", [None, 400])
def test_a_thousand_connections_are_served(lab: Lab, limit: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """With descriptors for all at once; or few, and they wait for their turn."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    container = web(lab)
    if limit:
        monkeypatch.setattr(resource, "getrlimit", lambda _: (limit, limit))
    clients = [from_host(8080) for _ in range(1000)]
    try:
        served = 0
        for client in clients:
            client.settimeout(10 * PATIENCE)
            client.sendall(b"x")
            client.shutdown(socket.SHUT_WR)
        for client in clients:
            with client:
                received = b""
                while piece := client.recv(100):
                    received += piece
            served += received.endswith(b" x")
        assert served == 1000
        assert container.host.errors == []
    finally:
        for client in clients:
            with contextlib.suppress(OSError):
                client.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_idle_connections_cost_two_descriptors_and_no_time(lab: Lab) -> None:
    container = lab.container("web", "front", ports=[PortBinding(80, host_port=8080)])
    listener = container.do(lambda: listen(80))
    before = len(os.listdir("/proc/self/fd"))
    pairs = [(from_host(8080), listener.accept()[0]) for _ in range(50)]
    assert len(os.listdir("/proc/self/fd")) - before <= 4 * 50 + 2 * proxy.SPARE_PIPES
    used = time.process_time()
    time.sleep(0.3)
    assert time.process_time() - used < 0.1
    for pair in pairs:
        for sock in pair:
            sock.close()
    wait_until(lambda: len(os.listdir("/proc/self/fd")) <= before + 2 * proxy.SPARE_PIPES)
    listener.close()


def test_without_nf_tables_a_host_still_serves_and_warns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: int) -> socket.socket:
        raise OSError(errno.EPROTONOSUPPORT, "Protocol not supported")

    monkeypatch.setattr(nft, "open_socket", refuse)
    lab = Lab(tmp_path)
    try:
        network = lab.driver.create(NetworkSpec("front"))
        (warning,) = lab.driver.warnings
        assert warning.startswith("no NAT on this host")
        container, client = web(lab), lab.container("client", "front")
        assert converse(client.connect(container.address, 80), b"x").endswith(b" x")
        assert converse(from_host(8080), b"x").endswith(b" x")
        assert converse(lab.outside.connect(HOST, 8080), b"x").endswith(b" x")
        with pytest.raises(Unsupported, match="cannot keep an internal network closed"):
            lab.driver.create(NetworkSpec("closed", internal=True))
        assert [each.spec.name for each in lab.driver.all()] == ["front"]
        for each in (container, client):
            each.stop()
            lab.driver.release(each.id)
        lab.driver.repair({})
        lab.driver.remove(network)
    finally:
        lab.close()
