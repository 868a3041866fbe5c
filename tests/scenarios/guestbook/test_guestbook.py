"""`samples/guestbook`, built and run as its README says."""

from __future__ import annotations

import http.client
import socket
import urllib.parse
from pathlib import Path

import pytest

from tests.patience import PATIENCE
from tests.stack import Stack, StackMaker, wait_for

SAMPLE = Path(__file__).parents[3] / "samples" / "guestbook"


class Browser:
    """Speaks HTTP to the guestbook's published port."""

    def __init__(self, port: int) -> None:
        self.port = port

    def request(self, method: str, path: str, form: dict[str, str] | None = None) -> tuple[int, str, str]:
        """Status, body and who served it."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        body = urllib.parse.urlencode(form) if form else None
        headers = {"Content-Type": "application/x-www-form-urlencoded"} if form else {}
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return response.status, response.read().decode(), response.headers.get("X-Served-By", "")

    def page(self) -> str:
        status, body, _ = self.request("GET", "/")
        assert status == 200
        return body

    def sign(self, name: str, message: str) -> None:
        status, _, _ = self.request("POST", "/entries", {"name": name, "message": message})
        assert status == 303


@pytest.fixture
def guestbook(debian: str, make_stack: StackMaker) -> Stack:
    """The sample, up and healthy, on a port of its own."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
    stack = make_stack(SAMPLE, env={"GUESTBOOK_PORT": port})
    # A probe is a Python, which takes its time on a machine that is emulated.
    stack.replace("timeout: 3s", f"timeout: {3 * PATIENCE:g}s")
    stack.up("--wait", timeout_s=600)
    return stack


def browser_of(stack: Stack) -> Browser:
    return Browser(int(stack.env["GUESTBOOK_PORT"]))


def test_the_page_is_served_by_both_replicas(guestbook: Stack) -> None:
    browser = browser_of(guestbook)
    assert "No entries yet" in browser.page()
    expected = {guestbook.sh("web", "hostname", index=index) for index in (1, 2)}
    assert len(expected) == 2
    seen: set[str] = set()

    def both_answered() -> bool:
        seen.add(browser.request("GET", "/")[2])
        return seen == expected

    wait_for(both_answered, f"answers from {expected}")


def test_entries_are_kept_by_down_and_removed_by_down_v(guestbook: Stack) -> None:
    browser_of(guestbook).sign("Ada", "Hello from the first run")
    assert "Hello from the first run" in browser_of(guestbook).page()

    guestbook.down()
    guestbook.up("--wait", timeout_s=120)
    assert "Hello from the first run" in browser_of(guestbook).page()

    guestbook.down("-v")
    guestbook.up("--wait", timeout_s=120)
    assert "No entries yet" in browser_of(guestbook).page()


def test_the_migration_ended_before_the_web_application_started(guestbook: Stack) -> None:
    migration = guestbook.status("migrate")
    assert migration["exit_code"] == 0
    for index in (1, 2):
        assert migration["finished_at"] <= guestbook.status("web", index)["started_at"]


def test_the_database_cannot_be_reached_from_nginx(guestbook: Stack) -> None:
    address = guestbook.sh("db", "hostname -i").split()[0]
    connect = "timeout 2 bash -c ': < /dev/tcp/{}/5432'"
    guestbook.exec("web", "bash", "-c", connect.format("db"))
    guestbook.exec("web", "bash", "-c", connect.format(address))
    assert guestbook.exec("nginx", "bash", "-c", connect.format("db"), exit_code=None).returncode != 0
    assert guestbook.exec("nginx", "bash", "-c", connect.format(address), exit_code=None).returncode != 0


def test_limits_are_read_back_from_inside(guestbook: Stack) -> None:
    for service, mebibytes, quota, pids in [
        ("nginx", 64, 50000, 50),
        ("db", 256, 100000, 100),
        ("web", 256, 100000, 100),
    ]:
        assert guestbook.limit(service, "memory/memory.limit_in_bytes", "memory.max") == str(mebibytes << 20)
        assert guestbook.limit(service, "cpu/cpu.cfs_quota_us", "cpu.max").split()[0] == str(quota)
        assert guestbook.limit(service, "pids/pids.max", "pids.max") == str(pids)


def test_only_nginx_is_published(guestbook: Stack) -> None:
    published = {
        entry["Service"]: [port["PublishedPort"] for port in entry["Publishers"] if port["PublishedPort"]]
        for entry in guestbook.containers().values()
    }
    assert {service for service, ports in published.items() if ports} == {"nginx"}


def test_a_killed_replica_comes_back_while_the_page_goes_on(guestbook: Stack) -> None:
    browser = browser_of(guestbook)
    before = guestbook.status("web", 2)
    guestbook.host.kill(before["pid"])
    assert browser.page()
    wait_for(
        lambda: (
            (now := guestbook.status("web", 2))["pid"] not in (0, before["pid"])
            and (now["health"] or {}).get("state") == "healthy"
        ),
        "the replica to be healthy again",
        timeout_s=30,
    )
    assert browser.page()
