"""Published ports answer on 127.0.0.1 and on the host's addresses, for TCP and UDP, for this host and for others."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.needs import SYSTEM_PATH
from tests.stack import Stack, StackMaker, wait_for

ASK = """
import socket, sys
kind, host, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
with socket.socket(socket.AF_INET, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM) as client:
    client.settimeout(3)
    client.connect((host, port))
    client.send(b"hello\\n")
    print(client.recv(2048).decode().strip())
"""


def ask(kind: str, host: str, port: int, *, within: tuple[str, ...] = ()) -> str:
    """Say hello and return the answer, from here or from where the command `within` leads."""
    done = subprocess.run(
        [*within, sys.executable, "-c", ASK, kind, host, str(port)], capture_output=True, text=True, timeout=20
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def free_port() -> int:
    with socket.create_server(("", 0)) as server:
        port: int = server.getsockname()[1]
    return port


def host_addresses() -> list[str]:
    """The addresses of this machine other than loopback."""
    listed = subprocess.run(
        ["ip", "-4", "-o", "addr", "show", "scope", "global"], capture_output=True, text=True, env={"PATH": SYSTEM_PATH}
    ).stdout
    lines = [line.split() for line in listed.splitlines()]
    return [words[3].partition("/")[0] for words in lines if not words[1].startswith("um-")]


@pytest.fixture
def published(debian: str, make_stack: StackMaker) -> Stack:
    stack = make_stack(Path(__file__).parent)
    stack.env["PORT"] = str(free_port())
    stack.up()
    wait_for(
        lambda: stack.exec("web", "bash", "-c", ": < /dev/tcp/127.0.0.1/7000", exit_code=None).returncode == 0,
        "the server",
    )
    return stack


@pytest.fixture
def elsewhere() -> Iterator[tuple[str, ...]]:
    """Another machine, as far as this one can tell: a network namespace behind a veth pair. Yields how to run there."""
    name = f"test{os.getpid()}"
    near, far = f"tn{os.getpid()}", f"tf{os.getpid()}"

    def ip(*arguments: str) -> None:
        subprocess.run(["ip", *arguments], check=True, env={"PATH": SYSTEM_PATH})

    ip("netns", "add", name)
    try:
        ip("link", "add", near, "type", "veth", "peer", "name", far, "netns", name)
        ip("addr", "add", "198.51.100.1/24", "dev", near)
        ip("link", "set", near, "up")
        for words in (("addr", "add", "198.51.100.2/24", "dev", far), ("link", "set", far, "up")):
            ip("-n", name, *words)
        ip("-n", name, "route", "add", "default", "via", "198.51.100.1")
        yield ("nsenter", f"--net=/run/netns/{name}")
    finally:
        ip("netns", "delete", name)


@pytest.mark.parametrize("kind", ["tcp", "udp"])
@pytest.mark.needs("ip")
def test_a_published_port_answers_on_loopback_and_the_hosts_addresses(published: Stack, kind: str) -> None:
    port = int(published.env["PORT"])
    for address in ["127.0.0.1", *host_addresses()]:
        assert ask(kind, address, port).endswith(": hello"), address


@pytest.mark.parametrize("kind", ["tcp", "udp"])
@pytest.mark.needs("ip", "nsenter")
def test_a_client_from_elsewhere_is_seen_with_its_own_address(
    published: Stack, kind: str, elsewhere: tuple[str, ...]
) -> None:
    port = int(published.env["PORT"])
    assert ask(kind, "198.51.100.1", port, within=elsewhere) == f"{kind} 198.51.100.2: hello"


@pytest.mark.needs("ip", "nsenter")
def test_a_port_published_on_loopback_is_closed_to_others(published: Stack, elsewhere: tuple[str, ...]) -> None:
    (port,) = [
        int(entry["PublishedPort"])
        for entry in published.container("web")["Publishers"]
        if entry["URL"] == "127.0.0.1" and entry["TargetPort"] == 7000
    ]
    assert ask("tcp", "127.0.0.1", port).endswith(": hello")
    with pytest.raises(AssertionError):
        ask("tcp", "198.51.100.1", port, within=elsewhere)


def test_many_clients_at_once_are_all_answered(published: Stack) -> None:
    port = int(published.env["PORT"])
    clients = [socket.create_connection(("127.0.0.1", port), timeout=5) for _ in range(30)]
    for number, client in enumerate(clients):
        client.sendall(f"{number}\n".encode())
        assert client.makefile().readline().endswith(f": {number}\n")
        client.close()
