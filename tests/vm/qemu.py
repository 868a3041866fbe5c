"""Boots a machine under qemu, in software: the development machine cannot run a guest's kernel by KVM."""

from __future__ import annotations

import io
import os
import resource
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.vm.image import Disk
from tests.vm.machines import Machine

QEMU = "qemu-system-x86_64"
MEMORY = "2048"
CPU = "Nehalem"
"""With `max`, libc takes vector instructions that are slow to emulate: an eighth more time for all."""
ACCELERATOR = "tcg,thread=single"
"""With a thread for each emulated processor, one may run an instruction of the kernel that another is just patching: a panic."""
CONSOLE = "console=ttyS0 quiet panic=-1 net.ifnames=0"
FASTER = "mitigations=off init_on_alloc=0 tsc=reliable clocksource=tsc"
"""What costs an emulated processor much, and no test looks at."""
MASKED = ("serial-getty@ttyS0", "ldconfig", "systemd-journal-catalog-update", "systemd-sysusers", "e2scrub_reap")
"""The console is the tests'; the others are for a first boot, and slow."""
SYSTEMD = " ".join(
    [
        "systemd.wants=umiak-tests.service systemd.show_status=false",
        *(f"systemd.mask={name}.service" for name in MASKED),
    ]
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a machine's run ended. `code` is pytest's, or None if the machine did not tell: it crashed or was switched off."""

    code: int | None
    wall_s: float
    cpu_s: float


def run(
    machine: Machine, disk: Disk, project: Path, images: Path, say: Callable[[str], None], *, timeout_s: float
) -> Outcome:
    """Boot, run the tests as the `project` says, hand every line of the console to `say`. Switched off after `timeout_s`."""
    result = project.with_suffix(".result")
    result.touch()
    command = [
        *(QEMU, "-M", "q35", "-accel", ACCELERATOR, "-cpu", CPU, "-m", MEMORY, "-smp", "2"),
        *("-nodefaults", "-no-reboot", "-display", "none", "-serial", "stdio", "-serial", f"file:{result}"),
        *("-kernel", str(disk.kernel), "-initrd", str(disk.initrd)),
        *("-append", f"{CONSOLE} {FASTER} umiak.init={machine.init} {SYSTEMD if machine.init == 'systemd' else ''}"),
        *(
            part
            for path, name in ((disk.root, "root"), (project, "project"), (images, "images"))
            for part in _drive(path, name)
        ),
    ]
    started = time.monotonic()
    environ = {**os.environ, "TMPDIR": str(project.parent)}
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environ
    ) as qemu:
        timer = threading.Timer(timeout_s, os.kill, (qemu.pid, signal.SIGKILL))
        timer.start()
        try:
            assert qemu.stdout is not None
            for line in io.TextIOWrapper(qemu.stdout, errors="replace", newline="\n"):
                say(line.rstrip())
        finally:
            os.kill(qemu.pid, signal.SIGKILL)  # not reaped yet, so it is this process
            timer.cancel()
            spent = _reap(qemu)
    told = result.read_text().strip()
    code = int(told) if told.isdigit() else None
    return Outcome(code, time.monotonic() - started, spent.ru_utime + spent.ru_stime)


def _reap(qemu: subprocess.Popen[bytes]) -> resource.struct_rusage:
    """Wait for the end and return what it took; the pipe has been read to its end."""
    _, status, spent = os.wait4(qemu.pid, 0)
    qemu.returncode = os.waitstatus_to_exitcode(status)
    return spent


def _drive(path: Path, name: str) -> list[str]:
    """A disk whose writes go to a file that vanishes with the machine: many may share an image."""
    return [
        "-drive",
        f"file={path},format=raw,if=none,id={name},snapshot=on,cache=unsafe",
        "-device",
        f"virtio-blk-pci,drive={name}",
    ]
