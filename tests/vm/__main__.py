"""Run the kernel and scenario tests on Debian's own kernels:  python -m tests.vm [--on MACHINE] [PYTEST ARGUMENT…]

Both machines run at the same time. Their output is streamed, a line each; the exit code is 0 when all tests have passed.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.vm import qemu
from tests.vm.image import Disk, disk
from tests.vm.images import images
from tests.vm.machines import MACHINES, Machine

TIMEOUT_S = 1200.0
SCENARIOS = {
    "debian-12": ("runtimes", "limits", "isolation", "publish"),
    "debian-13": (
        *("guestbook/test_guestbook.py::test_the_page_is_served_by_both_replicas", "runtimes", "limits"),
        "killed_monitor",
    ),
}
"""Those that a kernel or cgroup v2 can make a difference to. A command takes seconds on an emulated machine, so not all."""
ALIKE = ("build", "image_crashes", "image_layers", "layers_of_other_tools")
"""Kernel tests of what images are made of and how they are unpacked: every kernel has the same files. Minutes, emulated."""
OPTIONS = ("-v", "-p", "no:cacheprovider", "--durations=15", "--color=no")
TOOLS = {qemu.QEMU: "qemu-system-x86", "mke2fs": "e2fsprogs", "chroot": "coreutils"}
SEARCHED = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


def main(arguments: list[str]) -> int:
    """Boot the machines and report."""
    chosen = [machine for machine in MACHINES if "--on" not in arguments or machine.name in arguments]
    arguments = [a for a in arguments if a != "--on" and a not in {machine.name for machine in MACHINES}]
    lacking = [package for tool, package in TOOLS.items() if shutil.which(tool, path=SEARCHED) is None]
    if os.geteuid() != 0:
        lacking.append("root")
    if lacking:
        print(f"vm-test needs: {', '.join(lacking)}", file=sys.stderr)
        return 1
    say = _Voice()
    started = time.monotonic()
    disks = [(machine, disk(machine, say.of(machine.name))) for machine in chosen]
    image_disk = images(say.of("images"))
    with tempfile.TemporaryDirectory(prefix="umiak-vm-") as scratch, ThreadPoolExecutor(len(disks)) as pool:

        def boot(entry: tuple[Machine, Disk]) -> int | None:
            machine, own = entry
            return qemu.run(
                *(
                    machine,
                    own,
                    image_disk,
                    arguments or [*OPTIONS, *_kernel_tests(), *_scenarios(machine)],
                    _environment(),
                    say.of(machine.name),
                ),
                scratch=Path(scratch),
                timeout_s=TIMEOUT_S,
            )

        codes = list(pool.map(boot, disks))
    for machine, code in zip(chosen, codes, strict=True):
        told = "did not say how the tests ended" if code is None else "passed" if code == 0 else f"failed ({code})"
        print(f"{machine.name}: {told}")
    print(f"{time.monotonic() - started:.0f} s in all", flush=True)
    return 0 if codes and all(code == 0 for code in codes) else 1


def _kernel_tests() -> list[str]:
    return ["tests/kernel", *(f"--ignore=tests/kernel/test_{name}.py" for name in ALIKE)]


def _scenarios(machine: Machine) -> list[str]:
    return [f"tests/scenarios/{name}" for name in SCENARIOS[machine.name]]


def _environment() -> dict[str, str]:
    return {
        "STRICT_NEEDS": os.environ.get("STRICT_NEEDS", "1"),
        "UMIAK_TEST_PATIENCE": "8",
        "UMIAK_TEST_IMAGES": "/images/root",
        "TMPDIR": "/images/tmp",
    }


class _Voice:
    """Writes whole lines of several machines, each with its name before it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def of(self, name: str):  # type: ignore[no-untyped-def]
        def say(line: str) -> None:
            with self._lock:
                print(f"{name} | {line}", flush=True)

        return say


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
