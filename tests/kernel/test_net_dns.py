"""The name server at 127.0.0.11, as programs in a container meet it."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine.types import EndpointRequest, NetworkSpec
from networking import dns, dns_forward, dns_message
from tests.kernel.netlab import HOST, OUTSIDE, Container, Lab, addresses, code, listen, question
from tests.patience import PATIENCE

pytestmark = pytest.mark.needs("root", "netns")

SERVER = "127.0.0.11"


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    made = Lab(tmp_path)
    made.driver.create(NetworkSpec("proj_front"))
    yield made
    made.close()


def ask(container: Container, name: str, kind: int = 1, timeout_s: float = 5.0 * PATIENCE) -> bytes:
    return container.ask_udp(SERVER, 53, question(name, kind), timeout_s)


def ask_by_tcp(container: Container, message: bytes) -> bytes:
    with container.connect(SERVER, 53) as sock:
        sock.sendall(struct.pack(">H", len(message)) + message)
        return receive_by_tcp(sock)


def receive_by_tcp(sock: socket.socket) -> bytes:
    received = b""
    while len(received) < 2 or len(received) < 2 + struct.unpack_from(">H", received)[0]:
        piece = sock.recv(65535)
        assert piece
        received += piece
    return received[2:]


def resolver(lab: Lab, address: str, answer: Callable[[bytes], bytes | None]) -> None:
    """A name server outside, by UDP and TCP."""
    udp, tcp = lab.outside.do(lambda: (listen(53, "udp", address), listen(53, "tcp", address)))

    def by_udp() -> None:
        while True:
            data, peer = udp.recvfrom(4096)
            if message := answer(data):
                udp.sendto(message, peer)

    def by_tcp() -> None:
        while True:
            client, _ = tcp.accept()
            with client, contextlib.suppress(OSError, AssertionError):
                if message := answer(receive_by_tcp(client)):
                    client.sendall(struct.pack(">H", len(message)) + message)

    for each in (by_udp, by_tcp):
        threading.Thread(target=each, daemon=True).start()


def says(address: str) -> Callable[[bytes], bytes]:
    return lambda data: dns_message.Query(data).answer([dns_message.address_record(address, 60)])


def fails_with(rcode: int) -> Callable[[bytes], bytes]:
    return lambda data: dns_message.Query(data).answer([], rcode)


def test_a_service_name_gives_all_replicas_in_rotation(lab: Lab) -> None:
    replicas = [lab.container(f"web-{number}", "proj_front") for number in range(3)]
    client = lab.container("client", "proj_front")
    answers = [addresses(ask(client, "web")) for _ in range(3)]
    assert all(sorted(answer) == sorted(replica.address for replica in replicas) for answer in answers)
    assert {answer[0] for answer in answers} == {replica.address for replica in replicas}


def test_names_are_found_by_container_name_short_id_alias_and_with_the_network(lab: Lab) -> None:
    web = lab.container("web-1", EndpointRequest("proj_front", ("web", "www.example.test")))
    client = lab.container("client", "proj_front")
    for name in ("web-1", "WEB", web.id[:12], "www.example.test", "web.proj_front", "web-1.PROJ_front"):
        assert addresses(ask(client, name)) == [web.address]


def test_names_of_other_networks_are_not_found(lab: Lab) -> None:
    lab.driver.create(NetworkSpec("proj_back"))
    lab.container("db", "proj_back")
    client = lab.container("client", "proj_front")
    assert addresses(ask(client, "db")) == []


def test_other_types_of_a_known_name_are_empty_and_no_error(lab: Lab) -> None:
    lab.container("web", "proj_front")
    client = lab.container("client", "proj_front")
    for kind in (28, 15, 65):
        answer = ask(client, "web", kind)
        assert (code(answer), addresses(answer)) == (dns_message.NOERROR, [])


def test_an_address_of_ours_has_a_name(lab: Lab) -> None:
    web, client = lab.container("web", "proj_front"), lab.container("client", "proj_front")
    reverse = ".".join(reversed(web.address.split("."))) + ".in-addr.arpa"
    assert b"\x03web\x0aproj_front\x00" in ask(client, reverse, 12)


def test_an_address_of_ours_without_a_name_is_not_asked_for_elsewhere(lab: Lab) -> None:
    lab.dns = (OUTSIDE,)
    client = lab.container("client", "proj_front")
    reverse = ".".join(reversed(client.endpoints[0].gateway.split("."))) + ".in-addr.arpa"
    assert code(ask(client, reverse, 12)) == dns_message.NXDOMAIN


def test_changes_are_seen_at_once(lab: Lab) -> None:
    client = lab.container("client", "proj_front")
    for _ in range(5):
        web = lab.container("web", "proj_front")
        assert addresses(ask(client, "web")) == [web.address]
        web.stop()
        assert addresses(ask(client, "web")) == []
        lab.driver.release(web.id)
        os.rmdir(lab.paths.container_run(web.id))


def test_many_replicas_come_by_tcp(lab: Lab) -> None:
    client = lab.container("client", "proj_front")
    directory = Path(lab.paths.network_run(lab.driver.all()[0].id))
    for number in range(100):
        (directory / f"{number}").write_text(f'{{"ip": "10.0.0.{number}", "names": ["many"]}}')
    short = ask(client, "many")
    assert struct.unpack_from(">H", short, 2)[0] & dns_message.TC
    assert len(addresses(ask_by_tcp(client, question("many")))) == 100


def test_a_program_may_have_port_53_itself(lab: Lab) -> None:
    web, client = lab.container("web", "proj_front"), lab.container("client", "proj_front")
    held = client.do(lambda: (listen(53), listen(53, "udp")))
    assert addresses(ask(client, "web")) == [web.address]
    assert addresses(ask_by_tcp(client, question("web"))) == [web.address]
    for sock in held:
        sock.close()


def test_without_nf_tables_it_sits_on_port_53(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: int) -> None:
        raise OSError(95, "no nf_tables")

    monkeypatch.setattr(dns, "_redirect", refuse)
    web, client = lab.container("web", "proj_front"), lab.container("client", "proj_front")
    assert addresses(ask(client, "web")) == [web.address]
    assert addresses(ask_by_tcp(client, question("web"))) == [web.address]


def test_the_rest_is_forwarded_by_udp_and_tcp(lab: Lab) -> None:
    resolver(lab, OUTSIDE, says("203.0.113.7"))
    lab.dns = (OUTSIDE,)
    client = lab.container("client", "proj_front")
    assert addresses(ask(client, "example.org")) == ["203.0.113.7"]
    assert addresses(ask_by_tcp(client, question("example.org"))) == ["203.0.113.7"]


def test_a_resolver_on_the_hosts_loopback_works(lab: Lab) -> None:
    sock = listen(53, "udp", "127.0.0.53")

    def answer() -> None:
        while True:
            data, peer = sock.recvfrom(512)
            sock.sendto(says("203.0.113.8")(data), peer)

    threading.Thread(target=answer, daemon=True).start()
    lab.dns = ("127.0.0.53",)
    assert addresses(ask(lab.container("client", "proj_front"), "example.org")) == ["203.0.113.8"]


def test_a_server_that_refuses_or_is_not_there_is_followed_by_the_next_at_once(lab: Lab) -> None:
    resolver(lab, "127.0.0.1", fails_with(dns_message.REFUSED))
    resolver(lab, OUTSIDE, says("203.0.113.7"))
    for first in (HOST, "127.0.0.1"):
        lab.dns = (first, OUTSIDE)
        client = lab.container(f"client-{first}", "proj_front")
        began = time.monotonic()
        assert addresses(ask(client, "example.org")) == ["203.0.113.7"]
        assert addresses(ask_by_tcp(client, question("example.org"))) == ["203.0.113.7"]
        assert time.monotonic() - began < 1


def test_a_silent_server_is_followed_by_the_next(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dns_forward, "PATIENCE_S", 0.5)
    resolver(lab, "127.0.0.9", says("203.0.113.9"))
    resolver(lab, OUTSIDE, lambda data: None)
    silent = listen(53, "udp", "127.0.0.10")
    serve_answers(listen(53, "udp", "127.0.0.9"), says("203.0.113.9"))
    lab.dns = ("127.0.0.10", "127.0.0.9")
    client = lab.container("client", "proj_front")
    assert addresses(ask(client, "example.org")) == ["203.0.113.9"]
    silent.close()


def serve_answers(sock: socket.socket, answer: Callable[[bytes], bytes]) -> None:
    def serve() -> None:
        while True:
            data, peer = sock.recvfrom(512)
            sock.sendto(answer(data), peer)

    threading.Thread(target=serve, daemon=True).start()


def test_no_server_that_answers_is_a_failure_and_not_silence(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dns_forward, "PATIENCE_S", 0.1)
    silent = listen(53, "udp", "127.0.0.10")
    lab.dns = ("127.0.0.10",)
    client = lab.container("client", "proj_front")
    assert code(ask(client, "example.org")) == dns_message.SERVFAIL
    silent.close()


def test_an_answer_with_another_identifier_or_question_is_not_taken(lab: Lab) -> None:
    def forge(data: bytes) -> bytes:
        return says("203.0.113.66")(bytes((data[0] ^ 1,)) + data[1:])

    sock = listen(53, "udp", "127.0.0.10")

    def serve() -> None:
        while True:
            data, peer = sock.recvfrom(512)
            sock.sendto(forge(data), peer)
            sock.sendto(
                says("203.0.113.67")(question("other.test", identifier=struct.unpack_from(">H", data)[0])), peer
            )
            sock.sendto(says("203.0.113.1")(data), peer)

    threading.Thread(target=serve, daemon=True).start()
    lab.dns = ("127.0.0.10",)
    client = lab.container("client", "proj_front")
    assert addresses(ask(client, "example.org")) == ["203.0.113.1"]


def test_nothing_is_forwarded_from_an_internal_network(lab: Lab) -> None:
    lab.driver.create(NetworkSpec("closed", internal=True))
    lab.dns = (OUTSIDE,)
    client = lab.container("client", "closed")
    assert code(ask(client, "example.org")) == dns_message.NXDOMAIN


def test_what_is_no_query_is_ignored(lab: Lab) -> None:
    web, client = lab.container("web", "proj_front"), lab.container("client", "proj_front")
    good = question("web")
    bad = [b"", b"x", good[:11], good[:-1], good[:2] + b"\x81\x80" + good[4:], good[:12] + b"\xc0\x0c\0\1\0\1"]
    bad += [good[:12] + b"\x3f" * 300, good[:4] + b"\0\2" + good[6:], os.urandom(400)]
    with client.do(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sock:
        for message in bad:
            sock.sendto(message, (SERVER, 53))
    with client.connect(SERVER, 53) as sock:
        sock.sendall(b"".join(struct.pack(">H", len(message)) + message for message in bad) + b"\xff\xffshort")
    assert addresses(ask(client, "web")) == [web.address]
    assert client.host.errors == []


def test_several_questions_on_one_connection(lab: Lab) -> None:
    web, client = lab.container("web", "proj_front"), lab.container("client", "proj_front")
    message = question("web")
    with client.connect(SERVER, 53) as sock:
        for piece in (
            struct.pack(">H", len(message))[:1],
            struct.pack(">H", len(message))[1:] + message[:5],
            message[5:],
        ):
            sock.sendall(piece)
            time.sleep(0.01)
        assert addresses(receive_by_tcp(sock)) == [web.address]
        sock.sendall(struct.pack(">H", len(message)) + message)
        assert addresses(receive_by_tcp(sock)) == [web.address]


def test_a_monitor_that_takes_over_replaces_the_rule(lab: Lab) -> None:
    web, client = lab.container("web", "proj_front"), lab.container("client", "proj_front")
    client.host.stop()
    client.services[0].release()
    client.services[0].acquire()
    client.host.start()
    assert addresses(ask(client, "web")) == [web.address]
