"""Which tests run on the machines. There a command takes seconds, so not all do each time: `SELECTION=all` has the rest, too."""

from __future__ import annotations

ALIKE = ("build", "image_crashes", "image_layers", "layers_of_other_tools")
"""Kernel tests of what images are made of and how they are unpacked: every kernel has the same files. Minutes, emulated."""

SCENARIOS = {
    "limits": ("cgroup v2: limits as seen from inside, and the OOM killer", "debian-12", "debian-13"),
    "cgroups": (
        "cgroup v2: what is seen of it, parents, containers with cgroups of their own",
        "debian-12",
        "debian-13",
    ),
    "guestbook": ("a whole application: images, volumes, health, dependencies, ports", "debian-12", "debian-13"),
    "runtimes": ("crun and runc of that Debian make the same container on this kernel as we do", "debian-12"),
    "isolation": ("bridges, name servers and firewall rules", "debian-12"),
    "killed_monitor": ("kernels before 6.15 do not tell a stranger's exit code", "debian-12"),
    "restart": ("restart policies: a cgroup used again", "debian-13"),
    "systemd": ("services, sessions, and our unit", "debian-13"),
}
"""Scenarios to which a kernel, cgroup v2 or systemd makes a difference; which, and the machines that show it."""

GUESTBOOK = "tests/scenarios/guestbook/test_guestbook.py::test_the_page_is_served_by_both_replicas"


def tests(selection: str, machine: str) -> list[str]:
    """Return pytest's arguments for a selection, `host` or `all`, on a machine. KeyError for another selection."""
    kernel = ["tests/kernel", *(f"--ignore=tests/kernel/test_{name}.py" for name in ALIKE)]
    names = [name for name, (_, *machines) in SCENARIOS.items() if machine in machines]
    chosen = [GUESTBOOK if name == "guestbook" else f"tests/scenarios/{name}" for name in names]
    return {"host": [*kernel, *chosen], "all": ["tests/kernel", "tests/scenarios"]}[selection]
