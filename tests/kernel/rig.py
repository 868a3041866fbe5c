"""A container of the runtime alone: bundle and `monitor.json` written by hand, no engine, no image store."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine import logs
from engine.kernel.mounts import MNT_DETACH, umount
from engine.runtime import netns
from engine.runtime.client import MonitorClient, Zygote
from tests.images import shared_busybox_rootfs
from tests.patience import PATIENCE

PATIENCE_S = 15.0 * PATIENCE
ENV = ["PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root"]


class Container:
    """One container and what its tests ask of it."""

    def __init__(self, rig: Rig, name: str, argv: list[str], **changes: Any) -> None:
        self.id = f"{os.getpid():08x}{name}".ljust(64, "0")[:64]
        self.bundle = rig.base / "root" / "containers" / self.id
        self.run = rig.base / "run" / "containers" / self.id
        self.pin = rig.base / "run" / "netns" / self.id
        self._rig = rig
        for path in (self.bundle / "upper", self.bundle / "work", self.run):
            path.mkdir(parents=True)
        self.oci = oci_config(argv, tty=changes.get("tty", False))
        self.monitor = {
            "v": 1,
            "id": self.id,
            "name": name,
            "bundle": str(self.bundle),
            "run": str(self.run),
            "rootfs": {
                "lowerdirs": [str(rig.rootfs)],
                "upperdir": str(self.bundle / "upper"),
                "workdir": str(self.bundle / "work"),
            },
            "tty": False,
            "stdin_open": False,
            "init": False,
            "stop_signal": 15,
            "stop_timeout_s": 10.0,
            "restart": {"name": "no", "max_retries": 0},
            "health": None,
            "log": {"driver": "raw", "dir": str(self.bundle / "log"), "max_size_bytes": None, "max_files": 1},
            "netns": {"mode": "private", "pin": str(self.pin)},
            "endpoints": [],
            "services": [],
            "cgroup": {"parent": "/umiak", "name": self.id, "resources": {}},
            **changes,
        }
        self.client = MonitorClient(str(self.run), str(self.bundle))

    def start(self, op: str = "start") -> dict[str, Any]:
        """Start it, or give it a new monitor with "reattach"."""
        (self.bundle / "config.json").write_text(json.dumps(self.oci))
        (self.bundle / "monitor.json").write_text(json.dumps(self.monitor))
        return self._rig.zygote.launch(self.id, str(self.bundle / "monitor.json"), op)

    def status(self) -> dict[str, Any]:
        return self.client.status()

    def wait(self, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Wait until the status is as wanted, by watching."""
        deadline = time.monotonic() + PATIENCE_S
        for found in self.client.watch():
            if condition(found):
                return found
            assert time.monotonic() < deadline, f"waited in vain: {found}"
        raise AssertionError(f"the container ended: {self.status()}")

    def wait_exited(self) -> dict[str, Any]:
        return self.wait(lambda found: found["state"] == "exited")

    def output(self, stream: str | None = None) -> bytes:
        records = logs.read(self.monitor["log"]["dir"])
        return b"".join(record.data for record in records if stream in (None, record.stream))

    def run_command(self, *argv: str, **options: Any) -> tuple[int, bytes]:
        """Run a command in it; return its exit code and what it wrote to stdout."""
        session = self.client.exec(argv, **options)
        os.close(session.stdin)
        with os.fdopen(session.stdout, "rb") as stdout, os.fdopen(session.stderr, "rb"):
            data = stdout.read()
        return session.wait(), data

    def remove(self) -> None:
        found = self.status()
        if found["monitored"]:
            self.client.stop(0)
        elif found["pid"] and found["state"] != "exited":
            os.kill(found["pid"], 9)
        netns.drop_pin(str(self.pin))


class Rig:
    """A zygote and the containers made with it, all of the same root file system."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.rootfs = shared_busybox_rootfs()
        self.containers: list[Container] = []
        self.zygote = Zygote.spawn()

    def container(self, *argv: str, name: str = "", **changes: Any) -> Container:
        made = Container(self, name or f"c{len(self.containers):03}", list(argv), **changes)
        self.containers.append(made)
        return made

    def shell(self, script: str, **changes: Any) -> Container:
        return self.container("/bin/sh", "-c", script, **changes)

    def close(self) -> None:
        with contextlib.ExitStack() as stack:
            stack.callback(self._erase)
            stack.callback(self.zygote.close)
            for container in self.containers:
                stack.callback(container.remove)

    def _erase(self) -> None:
        for line in Path("/proc/self/mountinfo").read_text().splitlines():
            if line.split()[4].startswith(f"{self.base}/"):
                umount(line.split()[4], MNT_DETACH)
        shutil.rmtree(self.base)


def oci_config(argv: list[str], *, tty: bool) -> dict[str, Any]:
    guarded = ["nosuid", "noexec", "nodev"]
    capabilities = ["CAP_CHOWN", "CAP_KILL", "CAP_NET_BIND_SERVICE", "CAP_SETGID", "CAP_SETUID"]
    dev = ["nosuid", "strictatime", "mode=755", "size=65536k"]
    pts = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]
    return {
        "ociVersion": "1.1.0",
        "process": {
            "terminal": tty,
            "user": {"uid": 0, "gid": 0, "additionalGids": []},
            "args": argv,
            "env": ENV,
            "cwd": "/",
            "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), capabilities),
            "noNewPrivileges": False,
        },
        "root": {"path": "rootfs", "readonly": False},
        "hostname": "rig",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": guarded},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": dev},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": pts},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": [*guarded, "ro"]},
        ],
        "linux": {
            "namespaces": [{"type": kind} for kind in ("pid", "ipc", "uts", "mount", "cgroup", "network")],
            "maskedPaths": [],
            "readonlyPaths": [],
            "seccomp": {"umiakProfile": "default"},
            "resources": {},
        },
    }


def private_kib(pid: int) -> int:
    """The memory that a process shares with no other, in KiB."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Private_"))


def children_of(pid: int) -> list[int]:
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False)
    return [int(text) for text in found.stdout.split()]
