"""A container started by crun or runc sees what one started by our own runtime sees, and `docs/runtime.md` says what that is."""

from __future__ import annotations

import os

import pytest

from tests.needs import is_there
from tests.scenarios.runtimes import document
from tests.scenarios.runtimes.properties import PROPERTIES, script
from tests.stack import Stack

pytestmark = pytest.mark.umiak("it compares umiak's runtime with others")

NAMESPACES = ("pid", "net", "ipc", "uts", "mnt", "cgroup", "user")


def probe(stack: Stack, *services: str) -> dict[str, dict[str, str]]:
    """Run the services to their end and return what each read."""
    (stack.directory / "probe").mkdir()
    (stack.directory / "probe" / "probe.sh").write_text(script())
    host = {f"HOST_{kind}": os.readlink(f"/proc/self/ns/{kind}") for kind in NAMESPACES}
    (stack.directory / "host.env").write_text("".join(f"{key}={value}\n" for key, value in host.items()))
    stack.umiak("up", "-d", *services)
    return {service: read(stack, service) for service in services}


def read(stack: Stack, service: str) -> dict[str, str]:
    stack.wait_until_state(service, "exited")
    printed = stack.umiak("logs", "--no-color", "--no-log-prefix", service).stdout
    found = dict(line.split("\t", 1) for line in printed.splitlines() if "\t" in line)
    return {key: value.strip().replace("\t", " ") for key, value in found.items()}


def test_every_runtime_makes_the_same_container(stack: Stack) -> None:
    others = [name for name in ("crun", "runc") if is_there(name)]
    found = probe(stack, "own", *others)
    own = found["own"]
    assert len(own) == len(PROPERTIES)
    differing = {
        f"{name}: {key}": f"{own[key]} → {found[name].get(key)}"
        for name in others
        for key in own
        if own[key] != found[name].get(key) and key not in document.DIFFERENCES
    }
    assert differing == {}
    table = document.table(own)
    if os.environ.get("UMIAK_WRITE_DOCS"):
        document.write(table)
    assert document.read() == table, "docs/runtime.md is stale: UMIAK_WRITE_DOCS=1 writes it anew"
