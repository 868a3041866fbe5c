"""Run the tests in parts, at the same time:  python -m tests.parallel [--machines]

A part's lines are shown as they come, after its name. The parts do not see each other: the scenarios have this machine itself, the
others run apart (`apart.py`), and with `--machines` kernel and scenario tests run on emulated ones too (`vm`), at a low priority. The
last line is pytest's own closing line, with the sums of what ran on this machine.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

PYTEST = (sys.executable, "-m", "pytest", "--color=no")
CLOSING = re.compile(r"^=+ (.*\b(?:passed|failed|errors?|skipped|no tests ran)\b.*) in [\d.]+s.* =+$")
TROUBLE = re.compile(r"(debian-\d+ \| )?(FAILED|ERROR) ")
WORDS = ("failed", "passed", "skipped", "error")


@dataclass
class Part:
    """Some of the tests: a name, the command that runs them, and, once it has, its exit code and what it counted."""

    name: str
    command: Sequence[str]
    code: int | None = None
    counted: Counter[str] = field(default_factory=Counter)
    troubles: list[str] = field(default_factory=list)

    def run(self, say: Callable[[str], None]) -> None:
        """Run the tests, a line at a time to `say`."""
        with subprocess.Popen(
            self.command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, errors="replace", text=True
        ) as child:
            assert child.stdout is not None
            for line in child.stdout:
                self._read(line.rstrip("\n"))
                say(f"{self.name} | {line.rstrip()}")
        self.code = child.returncode

    def _read(self, line: str) -> None:
        if TROUBLE.match(line):
            self.troubles.append(line)
        closing = CLOSING.match(line)
        if closing:
            self.counted.update(counts(closing[1]))


APART = (sys.executable, "-m", "tests.apart") if os.geteuid() == 0 else ()
OTHERS = Part("others", (*APART, *PYTEST, "tests/kernel", "tests/conformance", "tests/unit"))
DISKS = Part("disks", (sys.executable, "-m", "tests.vm", "--prepare"))
SCENARIOS = Part("scenarios", (*PYTEST, "tests/scenarios"))
MACHINES = Part("machines", ("nice", "-n", "10", sys.executable, "-m", "tests.vm"))


def counts(closing: str) -> Counter[str]:
    """What a closing line counts: "3 failed, 2 errors" is {"failed": 3, "error": 2}."""
    return Counter({word.removesuffix("s"): int(number) for number, word in re.findall(r"(\d+) (\w+)", closing)})


def closing_line(counted: Counter[str], seconds: float) -> str:
    """The line that pytest would have ended with."""
    told = ", ".join(f"{counted[word]} {word}" for word in WORDS if counted[word]) or "no tests ran"
    minutes = f"{int(seconds) // 3600}:{int(seconds) // 60 % 60:02}:{int(seconds) % 60:02}"
    return f" {told} in {seconds:.2f}s ({minutes}) ".center(80, "=")


def main(arguments: Sequence[str]) -> int:
    """Run the parts; 0 if all tests have passed."""
    started, lock = time.monotonic(), threading.Lock()

    def say(line: str) -> None:
        with lock:
            print(line, flush=True)

    # The making of the machines' disks starts containers here, which scenarios would take for leaks; the others do not see them.
    first, then = [OTHERS], [SCENARIOS]
    with ThreadPoolExecutor(3) as pool:
        running = [pool.submit(part.run, say) for part in first]
        if "--machines" in arguments:
            DISKS.run(say)
            first.append(DISKS)
            then.append(MACHINES)
        running += [pool.submit(part.run, say) for part in then]
        for future in running:
            future.result()
    return _report([*first, *then], time.monotonic() - started)


def _report(parts: Sequence[Part], seconds: float) -> int:
    failed = [part for part in parts if part.code]
    for part in failed:
        print(f"{part.name} ended with code {part.code}:", *part.troubles, sep="\n  ")
    print(closing_line(sum((part.counted for part in parts), Counter()), seconds), flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
