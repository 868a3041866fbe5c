"""Time `image load`, `image pull` and `image build` of umiak and of Docker on the same files, turn about, in one run.

    python benchmarks/images.py [--megabytes 450] [--files 27000] [--layers 4] [--rounds 3] [--write]

The image is made of this host's own /usr: as many files, as many bytes. It is pulled from a docker-registry on loopback, where
that program is installed. Docker takes part where `DOCKER_HOST` leads to a dockerd (`dockerd.sh` starts one); else only umiak is
timed. With `--write` the table goes into README.md beside this file.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import json
import os
import platform
import random
import resource
import shutil
import stat
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from tests import leaks  # noqa: E402
from tests.conformance.registry.servers import docker_registry  # noqa: E402

TAG = "umiak-bench:images"
SOURCE = "/usr"
CONTEXT_FILES = 5_000
BEGIN, END = "<!-- images.py: begin -->\n", "<!-- images.py: end -->\n"


@dataclass(frozen=True)
class Case:
    """One thing to time: the arguments after `umiak image` and `docker image`, and the most of Docker's time it may take.

    `forgets` are the images to remove before each round, outside of the time.
    """

    name: str
    target: float
    arguments: Sequence[str]
    forgets: Sequence[str] = ()


@dataclass
class Contender:
    """One engine and, by case, the seconds it took and the CPU seconds of its processes (of Docker the client's alone)."""

    name: str
    program: Sequence[str]
    environment: dict[str, str]
    seconds: dict[str, list[float]] = field(default_factory=dict)
    cpu_seconds: dict[str, list[float]] = field(default_factory=dict)

    def run(self, *arguments: str) -> None:
        """Run a subcommand; end the benchmark where it fails."""
        done = subprocess.run([*self.program, *arguments], env=self.environment, capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(f"{self.name} {' '.join(arguments)}:\n{done.stdout}{done.stderr}")

    def time(self, case: Case) -> None:
        """Run a case once and note what it took."""
        if case.forgets:
            subprocess.run([*self.program, "rm", *case.forgets], env=self.environment, capture_output=True)
        os.sync()
        used, started = _children_cpu_seconds(), time.perf_counter()
        self.run(*case.arguments)
        self.seconds.setdefault(case.name, []).append(time.perf_counter() - started)
        self.cpu_seconds.setdefault(case.name, []).append(_children_cpu_seconds() - used)

    def median(self, case: Case) -> float:
        return statistics.median(self.seconds[case.name])


def _children_cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def choose_files(count: int, size_bytes: int) -> list[str]:
    """So many files of /usr, with so many bytes in all; the same ones at each call."""
    found = sorted(_regular_files())
    random.Random(0).shuffle(found)
    chosen, rest = found[:count], iter(found[count:])
    total = sum(size for _, size in chosen)
    chosen.sort(key=lambda file: file[1])
    while total > size_bytes:
        total -= chosen.pop()[1]
        path, size = next(file for file in rest if file[1] <= size_bytes // count)
        chosen.insert(0, (path, size))
        total += size
    return sorted(path for path, _ in chosen)


def _regular_files() -> Iterator[tuple[str, int]]:
    for directory, _, names in os.walk(SOURCE):
        for name in names:
            path = os.path.join(directory, name)
            found = os.lstat(path)
            if stat.S_ISREG(found.st_mode):
                yield path, found.st_size


def write_layers(directory: Path, paths: Sequence[str], count: int) -> list[Path]:
    """The files as so many layer tars of about equal size."""
    total = sum(os.lstat(path).st_size + 1024 for path in paths)
    layers: list[Path] = []
    tar, written = None, 0
    for path in paths:
        if tar is None or (written > total / count and len(layers) < count):
            if tar is not None:
                tar.close()
            layers.append(directory / f"layer{len(layers)}.tar")
            tar, written = tarfile.open(layers[-1], "w", format=tarfile.PAX_FORMAT), 0
        tar.add(path, recursive=False)
        written += os.lstat(path).st_size + 1024
    if tar is not None:
        tar.close()
    return layers


def write_archive(path: Path, layers: Sequence[Path], *, compressed: bool) -> Path:
    """A `docker save` tar of the layers: as Docker writes it, or with each layer in gzip."""
    config = {
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine()),
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{_sha256(layer)}" for layer in layers]},
        "history": [{"created": "2024-01-01T00:00:00Z", "created_by": "bench"} for _ in layers],
    }
    data = json.dumps(config).encode()
    name = f"{hashlib.sha256(data).hexdigest()}.json"
    with tarfile.open(path, "w") as archive:
        _add(archive, name, data)
        for number, layer in enumerate(layers):
            archive.add(_gzipped(layer) if compressed else layer, f"{number}/layer.tar")
        manifest = [{"Config": name, "RepoTags": [TAG], "Layers": [f"{n}/layer.tar" for n in range(len(layers))]}]
        _add(archive, "manifest.json", json.dumps(manifest).encode())
    return path


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _gzipped(layer: Path) -> Path:
    compressed = layer.with_suffix(".tar.gz")
    with layer.open("rb") as source, gzip.open(compressed, "wb", compresslevel=6) as target:
        shutil.copyfileobj(source, target, 1 << 20)
    return compressed


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    archive.addfile(info, io.BytesIO(data))


def umiak(base: Path) -> Contender:
    """The umiak of this environment, with a root of its own."""
    command = str(Path(sys.executable).with_name("umiak"))
    environment = {**os.environ, "UMIAK_ROOT": str(base / "root"), "UMIAK_RUN": str(base / "run")}
    return Contender("umiak", (command, "image"), environment)


def docker() -> Contender | None:
    """The dockerd that DOCKER_HOST names, or None where there is none."""
    if not os.environ.get("DOCKER_HOST") or not shutil.which("docker"):
        return None
    return Contender("docker", ("docker", "image"), dict(os.environ))


def enter_network_of_dockerd() -> None:
    """Go on in the network namespace that dockerd.sh gave its dockerd, so that both reach the same registry on loopback."""
    pid_file = Path(os.path.dirname(os.environ.get("DOCKER_HOST", "").removeprefix("unix://")), "pid")
    if not pid_file.is_file():
        return
    namespace = f"/proc/{pid_file.read_text().strip()}/ns/net"
    if not os.path.samefile(namespace, "/proc/self/ns/net"):
        os.execvp("nsenter", ["nsenter", f"--net={namespace}", sys.executable, *sys.argv])


def load_cases(base: Path, layers: Sequence[Path]) -> list[Case]:
    """`image load` of the image as `docker save` writes it, and with its layers in gzip."""
    raw = write_archive(base / "raw.tar", layers, compressed=False)
    small = write_archive(base / "gzip.tar", layers, compressed=True)
    return [
        Case("`load`, `docker save` tar", 0.6, ("load", "-i", str(raw)), (TAG,)),
        Case("`load`, layers in gzip", 0.6, ("load", "-i", str(small)), (TAG,)),
    ]


def pull_case(ours: Contender, archive: Path, registry: str) -> Case:
    """`image pull` of the image from a registry, into which umiak pushes it first."""
    name = f"{registry}/bench:images"
    ours.run("load", "-i", str(archive))
    ours.run("tag", TAG, name)
    ours.run("push", "--quiet", name)
    ours.run("rm", TAG)
    return Case("`pull` from loopback, gzip", 0.6, ("pull", "--quiet", name), (TAG, name))


def build_cases(base: Path, paths: Sequence[str]) -> list[Case]:
    """A build whose context has many files: everything anew, and again with nothing changed."""
    context, tag = base / "context", "umiak-bench:build"
    for number, path in enumerate(paths):
        directory = context / f"{number % 100}"
        directory.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, directory / str(number))
    (context / "Dockerfile").write_text("FROM scratch\nENV NAME=value\nCOPY . /srv\nLABEL kind=benchmark\n")
    build = ("build", "-t", tag, str(context))
    return [
        Case(f"`build`, {len(paths)} files in the context, cold", 1.0, (*build, "--no-cache"), (tag,)),
        Case("the same again, nothing changed", 0.7, build),
    ]


def compare(base: Path, size_bytes: int, files: int, layer_count: int, rounds: int) -> str:
    """Make the image below `base`, time each case `rounds` times with both, and return the report."""
    paths = choose_files(files, size_bytes)
    layers = write_layers(base, paths, layer_count)
    ours, theirs = umiak(base), docker()
    contenders = [ours, theirs] if theirs else [ours]
    with ExitStack() as stack:
        cases = load_cases(base, layers)
        if shutil.which("docker-registry"):
            (base / "registry").mkdir()
            registry = stack.enter_context(docker_registry(base / "registry"))
            cases.append(pull_case(ours, base / "gzip.tar", registry))
        cases += build_cases(base, paths[:: max(1, len(paths) // CONTEXT_FILES)][:CONTEXT_FILES])
        for case in cases:
            for number in range(rounds):
                for contender in contenders if number % 2 else reversed(contenders):
                    contender.time(case)
    what = f"{sum(os.lstat(path).st_size for path in paths) / 1e6:.0f} MB, {len(paths)} files, {len(layers)} layers"
    return report(cases, contenders, what, rounds)


def report(cases: Sequence[Case], contenders: Sequence[Contender], what: str, rounds: int) -> str:
    """The medians (and the fastest and slowest) as a Markdown table, with ratios where there are two."""
    ours, theirs = contenders[0], contenders[1] if len(contenders) > 1 else None
    columns = [f"{contender.name}, s" for contender in contenders] + (["ratio", "target"] if theirs else [])
    columns.append("umiak, CPU s")
    rows = [f"| {what} | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for case in cases:
        cells = [_seconds(contender.seconds[case.name]) for contender in contenders]
        if theirs:
            cells += [f"**{ours.median(case) / theirs.median(case):.2f}**", f"≤ {case.target:g}"]
        cells.append(f"{statistics.median(ours.cpu_seconds[case.name]):.2f}")
        rows.append(f"| {case.name} | {' | '.join(cells)} |")
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1000
    machine = f"{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}, Linux {platform.release()}, Python {platform.python_version()}"
    head = f"{date.today()}, {machine}: median of {rounds} rounds (fastest–slowest), turn about."
    return f"{head}\n\n" + "\n".join(rows) + f"\n\nLargest process of either client: {peak:.0f} MB.\n"


def _seconds(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f}–{max(values):.2f})"


def write(text: str) -> None:
    """Put the report between the marks in README.md."""
    path = HERE / "README.md"
    before, _, rest = path.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    path.write_text(f"{before}{BEGIN}{text}{END}{after}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=450)
    parser.add_argument("--files", type=int, default=27_000)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", action="store_true", help="put the table into benchmarks/README.md")
    arguments = parser.parse_args()
    enter_network_of_dockerd()
    base = Path(tempfile.mkdtemp(prefix="umiak-bench-"))
    try:
        text = compare(base, arguments.megabytes * 1_000_000, arguments.files, arguments.layers, arguments.rounds)
    finally:
        leaks.clean(str(base))
        shutil.rmtree(base, ignore_errors=True)
    print(text)
    if arguments.write:
        write(text)


if __name__ == "__main__":
    main()
