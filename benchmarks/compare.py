"""Time `umiak` and `docker compose` on the same stacks, turn about, in one run, and find out where umiak's time goes.

    python benchmarks/compare.py [--only PART]... [--write] [--compose path/to/docker-compose]

The parts: `10` and `50` services that only sleep; a `chain` of services that wait for each other's health; how the time per service
grows from 10 services to 100 (`growth`); a `profile` of umiak's commands. Docker takes part where `DOCKER_HOST` leads to a dockerd
(`dockerd.sh` starts one) and a Compose client is found; else only umiak is timed. `make benchmark` sets all of it up. With `--write` the
tables go into README.md beside this file.
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
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from benchmarks import whereabouts  # noqa: E402
from tests import leaks  # noqa: E402
from tests.images import busybox_rootfs_tar  # noqa: E402

IMAGE = "busybox-bench"
SLEEPS = """["sh", "-c", "trap 'exit 0' TERM; sleep 600 & wait"]"""
READY_AFTER = """["sh", "-c", "trap 'exit 0' TERM; sleep 0.4; touch /ready; sleep 600 & wait"]"""
STEPS: dict[str, tuple[str, ...]] = {
    "`up -d`": ("up", "-d"),
    "`up -d`, nothing to do": ("up", "-d"),
    "`ps`": ("ps",),
    "`exec true`": ("exec", "-T", "s0", "true"),
    "`run --rm … true`": ("run", "--rm", "-T", "s0", "true"),
    "`down`": ("down",),
}
TARGETS = {
    "`up -d`": (0.4, 0.25),
    "`up -d`, nothing to do": (5.0, 5.0),
    "`ps`": (2.5, 2.5),
    "`exec true`": (2.0, 2.0),
    "`run --rm … true`": (0.8, 0.8),
    "`down`": (0.4, 0.3),
}
"""The most of Docker's time that umiak may take: with few services, with many."""
CHAIN_STEPS = {"`up -d --wait` to all healthy": ("up", "-d", "--wait"), "`down`": ("down",)}
CHAIN_TARGETS = {"`up -d --wait` to all healthy": 0.12}
GROWTH = (10, 25, 50, 100)
DOCKER_GROWTH = (10, 100)
"""Where Docker is timed too: it takes half a minute for 100."""


@dataclass
class Contender:
    """One way to run a stack: the command that takes Compose's verbs, its environment, and the times it took."""

    name: str
    command: list[str]
    environment: dict[str, str]
    seconds: dict[str, list[float]] = field(default_factory=dict)

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


@dataclass
class Bench:
    """Who takes part, and where."""

    base: Path
    cold: Contender
    warm: Contender
    docker: Contender | None

    @property
    def all(self) -> list[Contender]:
        return [one for one in (self.cold, self.warm, self.docker) if one]

    def stack(self, text: str) -> Path:
        """A directory of its own for a Compose file."""
        directory = Path(tempfile.mkdtemp(prefix="stack-", dir=self.base))
        (directory / "compose.yaml").write_text(text)
        return directory


def sleepers(services: int) -> str:
    """N services that sleep and end when asked to, so that neither side waits for a grace period."""
    lines = [f"  s{number}: {{image: {IMAGE}, command: {SLEEPS}}}\n" for number in range(services)]
    return f"name: bench{services}\nservices:\n" + "".join(lines)


def chain(services: int) -> str:
    """N services, each ready 0.4 s after its start, each waiting for the one before to be healthy."""
    lines = ["name: bench-chain\nservices:\n"]
    for number in range(services):
        check = "healthcheck: {test: [CMD, test, -e, /ready], interval: 5s}"
        needs = f", depends_on: {{s{number - 1}: {{condition: service_healthy}}}}" if number else ""
        lines.append(f"  s{number}: {{image: {IMAGE}, command: {READY_AFTER}, {check}{needs}}}\n")
    return "".join(lines)


def umiak(base: Path, tar: str) -> Contender:
    """The umiak of this environment, with a root of its own."""
    base.mkdir()
    directories = {"UMIAK_ROOT": str(base / "root"), "UMIAK_RUN": str(base / "run")}
    contender = Contender("umiak", [str(Path(sys.executable).with_name("umiak"))], {**os.environ, **directories})
    contender.environment.pop("PYTHONDONTWRITEBYTECODE", None)  # what is installed has been compiled
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


def rounds_of(
    contenders: Sequence[Contender], cwd: Path, steps: dict[str, tuple[str, ...]], *, rounds: int, services: int
) -> None:
    """Time the steps, turn about. A first round of each warms the caches and does not count."""
    for contender in contenders:
        contender.seconds = {step: [] for step in steps}
    for number in range(rounds + 1):
        for contender in contenders if number % 2 else reversed(contenders):
            for position, (step, arguments) in enumerate(steps.items()):
                contender.seconds[step].append(contender.run(*arguments, cwd=cwd))
                if number == 0 and position == 0 and contender.running(cwd) != services:
                    raise SystemExit(f"{contender.name} did not bring up {services} containers")
    for contender in contenders:
        contender.seconds = {step: seconds[1:] for step, seconds in contender.seconds.items()}


def table(bench: Bench, title: str, steps: Sequence[str], targets: dict[str, float]) -> str:
    """The medians (and the fastest and slowest) as a Markdown table, with ratios where there are two."""
    theirs = bench.docker
    columns = [title, *(f"{contender.name}, ms" for contender in bench.all)]
    if theirs:
        columns += ["ratio", "ratio, warm", "target"]
    rows = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for step in steps:
        cells = [step, *(_milliseconds(contender.seconds[step]) for contender in bench.all)]
        if theirs:
            cells += [f"**{one.median(step) / theirs.median(step):.2f}**" for one in (bench.cold, bench.warm)]
            cells.append(f"≤ {targets[step]:g}" if step in targets else "")
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def _milliseconds(seconds: Sequence[float]) -> str:
    median, low, high = (1000 * value for value in (statistics.median(seconds), min(seconds), max(seconds)))
    return f"{median:.0f} ({low:.0f}–{high:.0f})"


def many(bench: Bench, services: int, rounds: int) -> str:
    """Services that have nothing to do with each other."""
    cwd = bench.stack(sleepers(services))
    rounds_of(bench.all, cwd, STEPS, rounds=rounds, services=services)
    targets = {step: pair[services > 10] for step, pair in TARGETS.items()}
    return _head(rounds) + table(bench, f"{services} services", list(STEPS), targets)


def chained(bench: Bench, rounds: int) -> str:
    """Four services, each ready after 0.4 s, each waiting for the one before; `interval: 5s`."""
    cwd = bench.stack(chain(4))
    rounds_of(bench.all, cwd, CHAIN_STEPS, rounds=rounds, services=4)
    return _head(rounds) + table(bench, "a chain of 4", list(CHAIN_STEPS), CHAIN_TARGETS)


def growth(bench: Bench, rounds: int) -> str:
    """Milliseconds per service of `up -d` and `down`, from few services to many."""
    steps = {"`up -d`": ("up", "-d"), "`down`": ("down",)}
    rows = ["| services | `up -d` | `down` | docker: `up -d` | `down` |", "|---|---|---|---|---|"]
    for services in GROWTH:
        cwd = bench.stack(sleepers(services))
        contenders = [bench.cold, *([bench.docker] if bench.docker and services in DOCKER_GROWTH else [])]
        cells = [str(services)]
        for contender in contenders:
            counted = rounds if contender is bench.cold else 1
            rounds_of([contender], cwd, steps, rounds=counted, services=services)
            cells += [f"{1000 * contender.median(step) / services:.0f}" for step in steps]
        rows.append(f"| {' | '.join([*cells, *[''] * (5 - len(cells))])} |")
    return _head(rounds) + "Milliseconds for each service:\n\n" + "\n".join(rows) + "\n"


def profile(bench: Bench, runs: int) -> str:
    """Where the time of umiak's commands goes."""
    cwd = bench.stack(sleepers(10))
    bench.cold.run("up", "-d", cwd=cwd)
    steps = {step: words for step, words in STEPS.items() if step not in ("`up -d`", "`down`")}
    steps |= {"`logs`": ("logs",), "`config`": ("config", "-q"), "`stop` and": ("stop",), "`start`": ("start",)}
    text = whereabouts.table(steps, cwd=cwd, environment=bench.cold.environment, runs=runs)
    bench.cold.run("down", cwd=cwd)
    return (
        _head(runs).replace("rounds", "runs").replace("median", "mean").replace(" (fastest–slowest), turn about", "")
        + text
    )


PARTS: dict[str, Callable[[Bench], str]] = {
    "10": lambda bench: many(bench, 10, rounds=5),
    "50": lambda bench: many(bench, 50, rounds=2),
    "chain": lambda bench: chained(bench, rounds=1),
    "growth": lambda bench: growth(bench, rounds=2),
    "profile": lambda bench: profile(bench, runs=15),
}


def _head(rounds: int) -> str:
    kernel = platform.release().partition("-")[0]
    machine = f"{os.cpu_count()} CPUs, Linux {kernel}, Python {platform.python_version()}"
    return f"{date.today()}, {machine}: median of {rounds} rounds (fastest–slowest), turn about.\n\n"


def write(part: str, text: str) -> None:
    """Put a table between its marks in README.md."""
    path = HERE / "README.md"
    begin, end = f"<!-- compare.py: {part}, begin -->\n", f"<!-- compare.py: {part}, end -->\n"
    before, found, rest = path.read_text().partition(begin)
    if not found:
        raise SystemExit(f"{path} has no place for {part}: {begin.strip()}")
    path.write_text(f"{before}{begin}{text}{end}{rest.partition(end)[2]}")


def compare(base: Path, parts: Sequence[str], compose: str | None, *, keeps: bool) -> None:
    """Run the parts below `base`; print each, and write it down where it `keeps` them."""
    tar = busybox_rootfs_tar(base / "busybox.tar")
    bench = Bench(base, umiak(base / "cold", tar), warm(base / "warm", tar), docker(tar, compose))
    try:
        for part in parts:
            text = PARTS[part](bench)
            print(text, flush=True)
            if keeps:
                write(part, text)
    finally:
        for contender in bench.all:
            for stack in base.glob("stack-*"):
                subprocess.run(
                    [*contender.command, "down", "-t", "0"],
                    cwd=stack,
                    env=contender.environment,
                    capture_output=True,
                )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=list(PARTS), help="only that part; repeatable")
    parser.add_argument(
        "--compose", help="the Compose client to compare with (default: docker-compose or docker compose)"
    )
    parser.add_argument("--write", action="store_true", help="put the tables into benchmarks/README.md")
    arguments = parser.parse_args()
    base = Path(tempfile.mkdtemp(prefix="umiak-bench-"))
    try:
        compare(base, arguments.only or list(PARTS), arguments.compose, keeps=arguments.write)
    finally:
        leaks.clean(str(base))
        shutil.rmtree(base, ignore_errors=True)


if __name__ == "__main__":
    main()
