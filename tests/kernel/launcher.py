"""Containers by `init.launch` alone: no monitor, no engine. What their process prints comes back as text."""

from __future__ import annotations

import copy
import os
import select
import shutil
import signal
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from engine.kernel import process
from engine.runtime import exec as exec_
from engine.runtime import init
from engine.runtime.cgroup import Cgroup, open_cgroup
from tests.images import shared_busybox_rootfs
from tests.patience import PATIENCE

PATIENCE_S = 15.0 * PATIENCE
CAPABILITIES = [
    f"CAP_{name}"
    for name in (
        *("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP", "NET_BIND_SERVICE"),
        *("NET_RAW", "SYS_CHROOT", "MKNOD", "AUDIT_WRITE", "SETFCAP"),
    )
]


def mount_entry(destination: str, fstype: str, *options: str, source: str | None = None) -> dict[str, Any]:
    return {"destination": destination, "type": fstype, "source": source or fstype, "options": list(options)}


CONFIG: dict[str, Any] = {
    "process": {
        "args": ["true"],
        "env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root"],
        "cwd": "/",
        "user": {"uid": 0, "gid": 0},
        "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), CAPABILITIES),
        "noNewPrivileges": False,
    },
    "root": {"readonly": False},
    "hostname": "kayak",
    "mounts": [
        mount_entry("/proc", "proc", "nosuid", "noexec", "nodev"),
        mount_entry("/dev", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
        mount_entry("/dev/pts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"),
        mount_entry("/dev/shm", "tmpfs", "nosuid", "noexec", "nodev", "mode=1777", "size=64m"),
        mount_entry("/dev/mqueue", "mqueue", "nosuid", "noexec", "nodev"),
        mount_entry("/sys", "sysfs", "nosuid", "noexec", "nodev", "ro"),
        mount_entry("/sys/fs/cgroup", "cgroup", "nosuid", "noexec", "nodev", "ro"),
    ],
    "linux": {
        "namespaces": [{"type": name} for name in ("pid", "ipc", "uts", "mount", "network", "cgroup")],
        "seccomp": {"umiakProfile": "default"},
        "maskedPaths": ["/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/scsi", "/sys/firmware"],
        "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
    },
}


def changed(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return a deep copy with `changes` put over it; dictionaries are merged, all else replaced."""
    result = copy.deepcopy(base)
    for key, value in changes.items():
        result[key] = (
            changed(result[key], value) if isinstance(value, dict) and isinstance(result.get(key), dict) else value
        )
    return result


class Running:
    """A started process whose output we hold."""

    def __init__(self, pid: int, pidfd: int, output_fd: int, console_fd: int | None, warnings: Sequence[str]) -> None:
        self.pid = pid
        self.pidfd = pidfd
        self.output_fd = output_fd
        self.console_fd = console_fd
        self.warnings = warnings
        self.output = ""

    def signal(self, number: int) -> None:
        process.pidfd_send_signal(self.pidfd, number)

    def read_until(self, text: str) -> None:
        """Wait until the output contains `text`."""
        deadline = time.monotonic() + PATIENCE_S
        while text not in self.output:
            assert time.monotonic() < deadline, f"{text!r} has not come: {self.output!r}"
            if select.select([self.output_fd], [], [], 0.1)[0]:
                data = os.read(self.output_fd, 65536)
                assert data, f"the output ended without {text!r}: {self.output!r}"
                self.output += data.decode(errors="replace")

    def wait(self) -> int:
        """Return the exit code, with all the output read."""
        deadline = time.monotonic() + PATIENCE_S
        while select.select([self.output_fd], [], [], max(0.0, deadline - time.monotonic()))[0]:
            try:
                data = os.read(self.output_fd, 65536)
            except OSError:  # a terminal whose other side has gone
                break
            if not data:
                break
            self.output += data.decode(errors="replace")
        assert select.select([self.pidfd], [], [], max(0.0, deadline - time.monotonic()))[0], "it does not end"
        code = process.wait_exit(self.pidfd)
        assert code is not None
        self.close()
        return code

    def close(self) -> None:
        for fd in {self.pidfd, self.output_fd}:
            os.close(fd)
        self.pidfd = -1


class Launcher:
    """A root file system of busybox, a cgroup, and the containers started on them one after another."""

    def __init__(self, cgroup: Cgroup | None = None) -> None:
        self.base = Path(tempfile.mkdtemp(prefix="umiak-launch-"))
        self.lower = self.base / "lower"
        self.top = self.base / "top"
        for name in ("lower", "top", "upper", "work", "mnt", "host"):
            (self.base / name).mkdir()
        self.busybox = shared_busybox_rootfs()
        self.cgroup: Cgroup = cgroup or open_cgroup("/umiak", f"test-{self.base.name}")
        self.cgroup.create({})
        self.running: list[Running] = []
        self.config: dict[str, Any] = CONFIG

    def start(
        self, *argv: str, rootfs: dict[str, Any] | None = None, netns_fd: int | None = None, **changes: Any
    ) -> Running:
        """Launch a container; `changes` go over the configuration. `top` and `lower` lie on busybox."""
        process_changes = {"args": list(argv), **changes.pop("process", {})}
        self.config = changed(CONFIG, {"process": process_changes, **changes})
        output_fd, theirs = os.pipe()
        null = os.open("/dev/null", os.O_RDONLY)
        try:
            launched = init.launch(
                self.config,
                rootfs or self.rootfs(),
                rootfs_mountpoint=str(self.base / "mnt"),
                netns_fd=netns_fd,
                cgroup=self.cgroup,
                stdio=(null, theirs, theirs),
            )
        except BaseException:
            os.close(output_fd)
            raise
        finally:
            os.close(null)
            os.close(theirs)
        if launched.console_fd is not None:
            os.close(output_fd)
            output_fd = launched.console_fd
        running = Running(launched.pid, launched.pidfd, output_fd, launched.console_fd, launched.warnings)
        self.running.append(running)
        return running

    def rootfs(self) -> dict[str, Any]:
        return {
            "lowerdirs": [str(self.top), str(self.lower), str(self.busybox)],
            "upperdir": str(self.base / "upper"),
            "workdir": str(self.base / "work"),
        }

    def run(self, *argv: str, **changes: Any) -> tuple[int, str]:
        """Launch a container and return its exit code and output."""
        running = self.start(*argv, **changes)
        code = running.wait()
        return code, running.output

    def sh(self, script: str, **changes: Any) -> str:
        """Run a shell script in a container and return what it prints."""
        return self.run("sh", "-c", script, **changes)[1]

    def enter(self, container: Running, *argv: str, **options: Any) -> Running:
        """Run a further process in a container."""
        output_fd, theirs = os.pipe()
        null = os.open("/dev/null", os.O_RDONLY)
        defaults = {"env": [], "cwd": None, "user": None, "privileged": False, "tty": False}
        try:
            entered = exec_.enter(
                container.pid,
                container.pidfd,
                self.config,
                argv=argv,
                stdio=(null, theirs, theirs),
                cgroup=self.cgroup,
                **{**defaults, **options},
            )
        except BaseException:
            os.close(output_fd)
            raise
        finally:
            os.close(null)
            os.close(theirs)
        if entered.console_fd is not None:
            os.close(output_fd)
            output_fd = entered.console_fd
        running = Running(entered.pid, entered.pidfd, output_fd, entered.console_fd, ())
        self.running.append(running)
        return running

    def close(self) -> None:
        for running in self.running:
            if running.pidfd >= 0:
                running.signal(signal.SIGKILL)
        # The last first: a container's init cannot end before what has been put beside it is reaped.
        for running in reversed(self.running):
            if running.pidfd >= 0:
                process.wait_exit(running.pidfd)
                running.close()
        self.cgroup.remove()
        shutil.rmtree(self.base)
