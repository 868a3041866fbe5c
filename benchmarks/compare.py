"""Time `umiak` and `docker compose` on one stack of N services that only sleep, turn about, in one run.

    python benchmarks/compare.py [--services 10] [--rounds 9] [--write]

Docker takes part where `DOCKER_HOST` leads to a dockerd (`dockerd.sh` starts one) and a Compose client is found; else
only umiak is timed. `make benchmark` sets all of it up. With `--write` the table goes into README.md beside this file.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from tests import leaks  # noqa: E402
from tests.images import busybox_rootfs_tar  # noqa: E402

IMAGE = "busybox-bench"
STEPS: dict[str, tuple[str, ...]] = {
    "`up -d`": ("up", "-d"),
    "`up -d`, nothing to do": ("up", "-d"),
    "`ps`": ("ps",),
    "`exec true`": ("exec", "-T", "s0", "true"),
    "`run --rm … true`": ("run", "--rm", "-T", "s0", "true"),
    "`down`": ("down",),
}
TARGETS = {
    "`up -d`": 0.4,
    "`up -d`, nothing to do": 5.0,
    "`ps`": 2.5,
    "`exec true`": 2.0,
    "`run --rm … true`": 0.8,
    "`down`": 0.4,
}
"""The most of Docker's time that umiak may take."""
BEGIN, END = "<!-- compare.py: begin -->\n", "<!-- compare.py: end -->\n"


@dataclass
class Contender:
    """One way to run the stack: the command that takes Compose's verbs, its environment, and the times it took."""

    name: str
    command: list[str]
    environment: dict[str, str]
    seconds: dict[str, list[float]] = field(default_factory=lambda: {step: [] for step in STEPS})

    def run(self, *arguments: str, cwd: Path) -> float:
        """Run one command to its end and return how long it took; raise if it fails."""
        started = time.perf_counter()
        done = subprocess.run(
            [*self.command, *arguments],
            cwd=cwd,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        elapsed = time.perf_counter() - started
        if done.returncode != 0:
            raise SystemExit(f"{self.name} {' '.join(arguments)} failed:\n{done.stdout}{done.stderr}")
        return elapsed

    def running(self, cwd: Path) -> int:
        """How many containers of the stack run."""
        listed = subprocess.run(
            [*self.command, "ps", "-q"], cwd=cwd, env=self.environment, capture_output=True, text=True
        )
        return len(listed.stdout.split())

    def median(self, step: str) -> float:
        return statistics.median(self.seconds[step])


def compose_file(services: int) -> str:
    """N services that sleep and end when asked to, so that neither side waits for a grace period."""
    command = """["sh", "-c", "trap 'exit 0' TERM; sleep 600 & wait"]"""
    lines = [f"  s{number}: {{image: {IMAGE}, command: {command}}}\n" for number in range(services)]
    return "name: bench\nservices:\n" + "".join(lines)


def umiak(base: Path, tar: str) -> Contender:
    """The umiak of this environment, with a root of its own."""
    directories = {"UMIAK_ROOT": str(base / "root"), "UMIAK_RUN": str(base / "run")}
    contender = Contender("umiak", [str(Path(sys.executable).with_name("umiak"))], {**os.environ, **directories})
    contender.run("image", "import", tar, IMAGE, cwd=base)
    return contender


def warm(base: Path, tar: str) -> Contender:
    """The same, its commands run by a warm worker. It is left to `leaks.clean` to end it."""
    contender = umiak(base, tar)
    contender.name = "umiak, warm worker"
    contender.environment["UMIAK_WORKER"] = "1"
    contender.run("version", cwd=base)
    return contender


def docker(tar: str, command: str | None) -> Contender | None:
    """`docker compose` on the dockerd that DOCKER_HOST names, or None where there is none."""
    words = command.split() if command else _compose_client()
    if not words or not os.environ.get("DOCKER_HOST"):
        return None
    subprocess.run(["docker", "import", tar, IMAGE], check=True, capture_output=True)
    return Contender("docker compose", words, dict(os.environ))


def _compose_client() -> list[str]:
    if shutil.which("docker-compose"):
        return ["docker-compose"]
    has_plugin = (
        shutil.which("docker") and subprocess.run(["docker", "compose", "version"], capture_output=True).returncode == 0
    )
    return ["docker", "compose"] if has_plugin else []


def one_round(contender: Contender, cwd: Path, services: int, *, counts: bool) -> None:
    """Up, up again, ps, down. The first round of each warms the caches and does not count."""
    for step, arguments in STEPS.items():
        elapsed = contender.run(*arguments, cwd=cwd)
        if counts:
            contender.seconds[step].append(elapsed)
        elif step == "`up -d`" and contender.running(cwd) != services:
            raise SystemExit(f"{contender.name} did not bring up {services} containers")


def report(contenders: list[Contender], services: int, rounds: int) -> str:
    """The medians (and the fastest and slowest) as a Markdown table, with ratios where there are two."""
    *ours, last = contenders
    theirs = last if last.name == "docker compose" else None
    columns = [f"{contender.name}, ms" for contender in contenders]
    if theirs:
        columns += [*("ratio" if one is ours[0] else "ratio, warm" for one in ours), "target"]
    rows = [f"| {services} services | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for step in STEPS:
        cells = [_milliseconds(contender.seconds[step]) for contender in contenders]
        if theirs:
            cells += [f"**{one.median(step) / theirs.median(step):.2f}**" for one in ours]
            cells.append(f"≤ {TARGETS[step]:g}" if step in TARGETS else "")
        rows.append(f"| {step} | {' | '.join(cells)} |")
    kernel = platform.release().partition("-")[0]
    machine = f"{os.cpu_count()} CPUs, Linux {kernel}, Python {platform.python_version()}"
    head = f"{date.today()}, {machine}: median of {rounds} rounds (fastest–slowest), turn about."
    return head + "\n\n" + "\n".join(rows) + "\n"


def _milliseconds(seconds: list[float]) -> str:
    median, low, high = (1000 * value for value in (statistics.median(seconds), min(seconds), max(seconds)))
    return f"{median:.0f} ({low:.0f}–{high:.0f})"


def write(text: str, services: int) -> None:
    """Put the report between the marks in README.md: there are some for 10 services and some for 50."""
    path = HERE / "README.md"
    begin = BEGIN.replace("begin", f"{services} services, begin")
    end = END.replace("end", f"{services} services, end")
    before, _, rest = path.read_text().partition(begin)
    _, _, after = rest.partition(end)
    path.write_text(f"{before}{begin}{text}{end}{after}")


def compare(base: Path, services: int, rounds: int, compose: str | None) -> str:
    """Run it all below `base` and return the report."""
    cwd = base / "stack"
    cwd.mkdir()
    (cwd / "compose.yaml").write_text(compose_file(services))
    tar = busybox_rootfs_tar(base / "busybox.tar")
    (base / "warm").mkdir()
    found = [umiak(base, tar), warm(base / "warm", tar), docker(tar, compose)]
    contenders = [contender for contender in found if contender]
    try:
        for number in range(rounds + 1):
            for contender in contenders if number % 2 else reversed(contenders):
                one_round(contender, cwd, services, counts=number > 0)
    finally:
        for contender in contenders:
            subprocess.run([*contender.command, "down"], cwd=cwd, env=contender.environment, capture_output=True)
    return report(contenders, services, rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--services", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument(
        "--compose", help="the Compose client to compare with (default: docker-compose or docker compose)"
    )
    parser.add_argument("--write", action="store_true", help="put the table into benchmarks/README.md")
    arguments = parser.parse_args()
    base = Path(tempfile.mkdtemp(prefix="umiak-bench-"))

    try:
        text = compare(base, arguments.services, arguments.rounds, arguments.compose)
    finally:
        leaks.clean(str(base))
        shutil.rmtree(base, ignore_errors=True)
    print(text)
    if arguments.write:
        write(text, arguments.services)


if __name__ == "__main__":
    main()
