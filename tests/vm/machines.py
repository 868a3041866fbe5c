"""The hosts that the tests run on: Debian's own kernels and userlands, as users have them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Machine:
    """One virtual machine. `init` is what runs as process 1: `plain`, a shell script, or `systemd`.

    `must_have` are the needs of tests (`tests/needs.py`) that may be missing elsewhere and may not be missing here.
    """

    name: str
    suite: str
    python: str
    init: str
    must_have: tuple[str, ...]


MACHINES = (
    Machine("debian-12", "bookworm", "3.11", "plain", ("cgroup2",)),
    Machine("debian-13", "trixie", "3.13", "systemd", ("cgroup2", "systemd")),
)

PACKAGES = (
    *("python3", "iproute2", "nftables", "kmod", "procps", "busybox-static", "e2fsprogs"),
    *("systemd-sysv", "dbus", "crun", "runc", "libarchive-tools", "skopeo", "tini"),
)
"""What the root file system holds beside Debian's required packages."""

KERNEL = "linux-image-cloud-amd64"
"""The package that depends on the newest kernel for virtual machines: small, and with virtio."""
