"""Which tests run on the machines. There a command takes seconds, so not all do each time: `SELECTION=all` has the rest, too."""

from __future__ import annotations

ALIKE = ("build", "image_crashes", "image_layers", "layers_of_other_tools")
"""Kernel tests of what images are made of and how they are unpacked: every kernel has the same files. Minutes, emulated."""

SCENARIOS = {
    "limits": "cgroup v2: limits as seen from inside, and the OOM killer",
    "runtimes": "crun and runc make the same container on this kernel as we do",
    "isolation": "bridges, name servers and firewall rules",
    "killed_monitor": "descriptors of processes; kernels before 6.15 do not tell a stranger's exit code",
    "guestbook": "a whole application: images, volumes, health, dependencies, published ports",
    "restart": "restart policies, with the cgroup used again",
    "health": "probes join the container's cgroup and namespaces",
    "systemd": "services, sessions, and our unit",
}
"""Scenarios to which a kernel, cgroup v2 or systemd makes a difference, and which."""

GUESTBOOK = "tests/scenarios/guestbook/test_guestbook.py::test_the_page_is_served_by_both_replicas"


def tests(selection: str) -> list[str]:
    """Return pytest's arguments for a selection: `host` or `all`. KeyError for another."""
    kernel = ["tests/kernel", *(f"--ignore=tests/kernel/test_{name}.py" for name in ALIKE)]
    chosen = [GUESTBOOK if name == "guestbook" else f"tests/scenarios/{name}" for name in SCENARIOS]
    return {"host": [*kernel, *chosen], "all": ["tests/kernel", "tests/scenarios"]}[selection]
