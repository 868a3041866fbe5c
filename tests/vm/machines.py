"""The hosts that the tests run on: Debian's own kernels and userlands, as users have them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Machine:
    """One virtual machine. `init` is what runs as process 1: `plain`, a shell script, or `systemd`."""

    name: str
    suite: str
    python: str
    init: str


MACHINES = (
    Machine("debian-12", "bookworm", "3.11", "plain"),
    Machine("debian-13", "trixie", "3.13", "systemd"),
)

SCENARIOS = {
    "debian-12": ("limits", "isolation", "publish"),
    "debian-13": ("guestbook/test_guestbook.py::test_the_page_is_served_by_both_replicas", "limits", "killed_monitor"),
}
"""Those that a kernel or cgroup v2 can make a difference to. A command takes seconds on an emulated machine, so not all."""

PACKAGES = (
    *("python3", "iproute2", "nftables", "kmod", "procps", "busybox-static", "e2fsprogs"),
    *("systemd-sysv", "dbus", "crun", "runc"),
)
"""What the root file system holds beside Debian's required packages."""

KERNEL = "linux-image-cloud-amd64"
"""The package that depends on the newest kernel for virtual machines: small, and with virtio."""
