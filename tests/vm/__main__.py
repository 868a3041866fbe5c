"""Run the kernel and scenario tests on Debian's own kernels:  python -m tests.vm [--on MACHINE] [--prepare] [PYTEST ARGUMENT…]

The machines run at the same time. Their output is streamed, a line each, with the machine's name before it; what failed is listed once
more at the end. The exit code is 0 when all tests have passed. Without arguments for pytest, `SELECTION` in the environment names the
tests (`selection.py`). `--prepare` makes the disks, if they are not there yet, and runs nothing.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.vm import project, qemu
from tests.vm.image import Disk, disk
from tests.vm.images import images
from tests.vm.machines import MACHINES, Machine
from tests.vm.selection import tests

TIMEOUT_S = float(os.environ.get("UMIAK_VM_TIMEOUT") or 1500)
OPTIONS = ("-v", "-p", "no:cacheprovider", "-p", "tests.vm.at_once", "--durations=20", "--color=no")
TOOLS = {qemu.QEMU: "qemu-system-x86", "mke2fs": "e2fsprogs", "chroot": "coreutils"}
SEARCHED = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
TROUBLE = re.compile(r"(FAILED|ERROR) tests/|=+ .*(passed|failed|error).* =+$")


def main(arguments: list[str]) -> int:
    """Boot the machines and report."""
    parser = argparse.ArgumentParser("python -m tests.vm", add_help=False)
    parser.add_argument("--on", action="append", choices=[machine.name for machine in MACHINES])
    parser.add_argument("--prepare", action="store_true")
    options, chosen = parser.parse_known_args(arguments)
    lacking = [package for tool, package in TOOLS.items() if shutil.which(tool, path=SEARCHED) is None]
    if os.geteuid() != 0:
        lacking.append("root")
    if lacking:
        print(f"vm-test needs: {', '.join(lacking)}", file=sys.stderr)
        return 1
    machines = [machine for machine in MACHINES if not options.on or machine.name in options.on]
    say = _Voice()
    disks = [(machine, disk(machine, say.of(machine.name))) for machine in machines]
    image_disk = images(say.of("images"))
    if options.prepare:
        return 0
    return _run(disks, image_disk, chosen, say)


def _run(disks: list[tuple[Machine, Disk]], images: Path, chosen: list[str], say: _Voice) -> int:
    selection = os.environ.get("SELECTION") or "host"
    with tempfile.TemporaryDirectory(prefix="umiak-vm-") as scratch, ThreadPoolExecutor(len(disks)) as pool:

        def boot(entry: tuple[Machine, Disk]) -> qemu.Outcome:
            machine, own = entry
            tar = Path(scratch, f"{machine.name}.tar")
            arguments = [*OPTIONS, *(chosen or tests(selection, machine.name))]
            project.write(tar, own, arguments, _environment(machine))
            return qemu.run(machine, own, tar, images, say.of(machine.name), timeout_s=TIMEOUT_S)

        outcomes = list(pool.map(boot, disks))
    print()
    for (machine, _), outcome in zip(disks, outcomes, strict=True):
        for line in say.troubles(machine.name):
            print(f"{machine.name} | {line}")
        told = {None: "did not say how the tests ended", 0: "passed"}.get(outcome.code, f"failed ({outcome.code})")
        print(f"{machine.name}: {told}; {outcome.wall_s:.0f} s, {outcome.cpu_s:.0f} s of processor time", flush=True)
    return 0 if all(outcome.code == 0 for outcome in outcomes) else 1


def _environment(machine: Machine) -> dict[str, str]:
    return {
        "STRICT_NEEDS": os.environ.get("STRICT_NEEDS", "1"),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "UMIAK_TEST_MUST_HAVE": " ".join(machine.must_have),
        "UMIAK_TEST_PATIENCE": "8",
        "UMIAK_TEST_IMAGES": "/images/root",
        "TMPDIR": "/images/tmp",
    }


class _Voice:
    """Writes whole lines of several machines, each with its name before it, and remembers those that tell of failures."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lines: dict[str, list[str]] = {}

    def of(self, name: str) -> Callable[[str], None]:
        def say(line: str) -> None:
            with self._lock:
                if TROUBLE.match(line):
                    self._lines.setdefault(name, []).append(line)
                print(f"{name} | {line}", flush=True)

        return say

    def troubles(self, name: str) -> list[str]:
        return self._lines.get(name, [])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
