"""Boots a machine under qemu, in software: the development machine cannot run a guest's kernel by KVM."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.vm.image import PROJECT, Disk
from tests.vm.machines import Machine

QEMU = "qemu-system-x86_64"
MEMORY = "2048"
CPU = "Nehalem"
"""With `max`, libc takes vector instructions that are slow to emulate: an eighth more time for all."""
CONSOLE = "console=ttyS0 quiet panic=-1 mitigations=off net.ifnames=0"
SYSTEMD = "systemd.wants=umiak-tests.service systemd.mask=serial-getty@ttyS0.service systemd.show_status=false"
LEFT_OUT = {".git", ".venv", "__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis"}


def run(
    machine: Machine,
    disk: Disk,
    images: Path,
    arguments: Sequence[str],
    environment: Mapping[str, str],
    say: Callable[[str], None],
    *,
    scratch: Path,
    timeout_s: float,
) -> int | None:
    """Boot, run pytest with `arguments`, hand every line of the console to `say`; return pytest's exit code.

    None where the machine did not tell: it crashed, or it was switched off after `timeout_s`.
    """
    project, result = scratch / f"{machine.name}.tar", scratch / f"{machine.name}.result"
    write_project(project, arguments, environment)
    result.touch()
    command = [
        *(QEMU, "-M", "q35", "-accel", "tcg", "-cpu", CPU, "-m", MEMORY, "-smp", "2"),
        *("-nodefaults", "-no-reboot", "-display", "none", "-serial", "stdio", "-serial", f"file:{result}"),
        *("-kernel", str(disk.kernel), "-initrd", str(disk.initrd)),
        *("-append", f"{CONSOLE} umiak.init={machine.init} {SYSTEMD if machine.init == 'systemd' else ''}"),
        *_drive(disk.root, "root"),
        *_drive(project, "project"),
        *_drive(images, "images"),
    ]
    environ = {**os.environ, "TMPDIR": str(scratch)}
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environ
    ) as qemu:
        timer = threading.Timer(timeout_s, qemu.kill)
        timer.start()
        try:
            assert qemu.stdout is not None
            for line in io.TextIOWrapper(qemu.stdout, errors="replace", newline="\n"):
                say(line.rstrip())
        finally:
            qemu.kill()
            timer.cancel()
    told = result.read_text().strip()
    return int(told) if told.isdigit() else None


def _drive(path: Path, name: str) -> list[str]:
    """A disk whose writes go to a file that vanishes with the machine: many may share an image."""
    return [
        "-drive",
        f"file={path},format=raw,if=none,id={name},snapshot=on",
        "-device",
        f"virtio-blk-pci,drive={name}",
    ]


def write_project(path: Path, arguments: Sequence[str], environment: Mapping[str, str]) -> None:
    """The project as a tar, with pytest's arguments and the environment beside it. Its size is a whole number of sectors."""
    with tarfile.open(path, "w") as tar:
        tar.add(PROJECT, ".", filter=lambda member: None if set(member.name.split("/")) & LEFT_OUT else _plain(member))
        _add(tar, "vm-arguments", "".join(f"{argument}\n" for argument in arguments))
        _add(tar, "vm-environment", "".join(f"export {name}='{value}'\n" for name, value in environment.items()))


def _plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    return member


def _add(tar: tarfile.TarFile, name: str, text: str) -> None:
    info = tarfile.TarInfo(name)
    data = text.encode()
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))
