"""Which tests run on the machines. There a command takes seconds, so not all do each time: `SELECTION=all` has the rest, too."""

from __future__ import annotations

ALIKE = ("build", "image_crashes", "image_layers", "layers_of_other_tools")
"""Kernel tests of what images are made of and how they are unpacked: every kernel has the same files. Minutes, emulated."""
MASSES = ("net_publish.py::test_a_thousand_connections_are_served", "monitor.py::test_however_short_a_life")
"""Kernel tests of many, which tell of our own code. A minute each, emulated."""

ONCE = {
    "crun": "debian-12",
    "runc": "debian-13",
    "test_fifty_containers_start_at_once": "debian-12",
    "test_net_dns": "debian-12",
    "test_health": "debian-13",
}
"""Tests, by a part of their names, that one of the machines is enough for."""

SCENARIOS = {
    "limits": ("cgroup v2: limits as seen from inside, and the OOM killer", "debian-12"),
    "guestbook": ("a whole application: images, volumes, health, dependencies, ports", "debian-12"),
    "cgroups": ("cgroup v2: what is seen of it, parents, containers with cgroups of their own", "debian-13"),
    "systemd": ("services, sessions, and our unit", "debian-13"),
}
"""Scenarios to which a kernel, cgroup v2 or systemd makes the most difference; which, and the machines that show it."""

GUESTBOOK = "tests/scenarios/guestbook/test_guestbook.py::test_the_page_is_served_by_both_replicas"


def tests(selection: str, machine: str) -> list[str]:
    """Return pytest's arguments for a selection, `host` or `all`, on a machine. KeyError for another selection."""
    left_out = [
        *(f"--ignore=tests/kernel/test_{name}.py" for name in ALIKE),
        *(f"--deselect=tests/kernel/test_{name}" for name in MASSES),
    ]
    elsewhere = [part for part, its_machine in ONCE.items() if its_machine != machine]
    kernel = ["tests/kernel", *left_out, "-k", " and ".join(f"not {part}" for part in elsewhere)]
    names = [name for name, (_, *machines) in SCENARIOS.items() if machine in machines]
    chosen = [GUESTBOOK if name == "guestbook" else f"tests/scenarios/{name}" for name in names]
    return {"host": [*kernel, *chosen], "all": ["tests/kernel", "tests/scenarios"]}[selection]
