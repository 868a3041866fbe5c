"""Time `image load`, `image pull` and `build` of umiak and of Docker on the same files, turn about, in one run.

    python benchmarks/images.py [--megabytes 450] [--files 27000] [--layers 4] [--rounds 3] [--write]

The image is made of this host's own /usr: as many files, as many bytes. It is pulled from a docker-registry on loopback, where
that program is installed. Docker takes part where `DOCKER_HOST` is the socket of a dockerd that `dockerd.sh` has started; else only umiak
is timed. With `--write` the table goes into README.md beside this file.
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
from tests.images import busybox_rootfs_tar  # noqa: E402

TAG = "umiak-bench:images"
SOURCE = "/usr"
CONTEXT_FILES = 5_000
Command = tuple[str, ...]
BEGIN, END = "<!-- images.py: begin -->\n", "<!-- images.py: end -->\n"


@dataclass(frozen=True)
class Case:
    """One thing to time: the commands of either contender (after its name), and the most of Docker's time it may take.

    `forgets` are the images to remove before each round, outside of the time; they must be gone then.
    """

    name: str
    target: float
    ours: Sequence[Command]
    theirs: Sequence[Command]
    forgets: Sequence[str] = ()


def same(name: str, target: float, command: Command, forgets: Sequence[str] = ()) -> Case:
    """A case of one command that both understand."""
    return Case(name, target, (command,), (command,), forgets)


@dataclass
class Contender:
    """One engine and, by case, the seconds it took and the CPU seconds of its processes, those of its daemon among them."""

    name: str
    program: str
    environment: dict[str, str]
    daemon: int | None = None
    seconds: dict[str, list[float]] = field(default_factory=dict)
    cpu_seconds: dict[str, list[float]] = field(default_factory=dict)

    def run(self, command: Command) -> None:
        """Run a command; end the benchmark where it fails."""
        done = self._done(command)
        if done.returncode != 0:
            raise SystemExit(f"{self.name} {' '.join(command)}:\n{done.stdout}{done.stderr}")

    def forget(self, images: Sequence[str]) -> None:
        """Remove images with all their names; end the benchmark where one stays, since its layers would be found."""
        for image in images:
            self._done(("image", "rm", "--force", image))
            if self._done(("image", "inspect", image)).returncode == 0:
                raise SystemExit(f"{self.name}: the image {image} is still there")

    def time(self, case: Case) -> None:
        """Run a case once and note what it took."""
        self.forget(case.forgets)
        os.sync()
        used, started = self._cpu_seconds(), time.perf_counter()
        for command in case.theirs if self.daemon else case.ours:
            self.run(command)
        self.seconds.setdefault(case.name, []).append(time.perf_counter() - started)
        self.cpu_seconds.setdefault(case.name, []).append(self._cpu_seconds() - used)

    def median(self, case: Case) -> float:
        return statistics.median(self.seconds[case.name])

    def _done(self, command: Command) -> subprocess.CompletedProcess[str]:
        return subprocess.run([self.program, *command], env=self.environment, capture_output=True, text=True)

    def _cpu_seconds(self) -> float:
        """What the ended children of this process have used, and the daemon with its own ended children: proc_pid_stat(5)."""
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        if not self.daemon:
            return used.ru_utime + used.ru_stime
        fields = Path(f"/proc/{self.daemon}/stat").read_text().rpartition(")")[2].split()
        return used.ru_utime + used.ru_stime + sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


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


def umiak(base: Path, name: str = "umiak") -> Contender:
    """The umiak of this environment, with a root of its own."""
    command = str(Path(sys.executable).with_name("umiak"))
    environment = {**os.environ, "UMIAK_ROOT": str(base / name / "root"), "UMIAK_RUN": str(base / name / "run")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # what is installed has been compiled
    return Contender(name, command, environment)


def docker() -> Contender | None:
    """The dockerd that DOCKER_HOST names, or None where there is none."""
    pid_file = _pid_file_of_dockerd()
    if not pid_file.is_file() or not shutil.which("docker"):
        return None
    return Contender("docker", "docker", {**os.environ, "DOCKER_BUILDKIT": "0"}, int(pid_file.read_text()))


def _pid_file_of_dockerd() -> Path:
    """The file that `dockerd.sh` keeps beside the socket."""
    return Path(os.path.dirname(os.environ.get("DOCKER_HOST", "").removeprefix("unix://")), "pid")


def enter_network_of_dockerd() -> None:
    """Go on in the network namespace that dockerd.sh gave its dockerd, so that both reach the same registry on loopback."""
    pid_file = _pid_file_of_dockerd()
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
        same("`load`, `docker save` tar", 0.6, ("image", "load", "-i", str(raw)), (TAG,)),
        same("`load`, layers in gzip", 0.6, ("image", "load", "-i", str(small)), (TAG,)),
    ]


def pull_case(base: Path, archive: Path, registry: str) -> Case:
    """`image pull` from a registry, into which an umiak with another root has pushed the image."""
    name, pusher = f"{registry}/bench:images", umiak(base, "pusher")
    pusher.run(("image", "load", "-i", str(archive)))
    pusher.run(("image", "tag", TAG, name))
    pusher.run(("image", "push", "--quiet", name))
    pusher.forget((TAG, name))
    return same("`pull` from loopback, gzip", 0.6, ("image", "pull", "--quiet", name), (TAG, name))


def build_cases(base: Path, paths: Sequence[str]) -> list[Case]:
    """A build whose context has many files: everything anew, and again with nothing changed."""
    context, tag = base / "context", "umiak-bench:build"
    for number, path in enumerate(paths):
        directory = context / f"{number % 100}"
        directory.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, directory / str(number))
    (context / "Dockerfile").write_text("FROM scratch\nENV NAME=value\nCOPY . /srv\nLABEL kind=benchmark\n")
    build = ("image", "build", "-t", tag, str(context))
    return [
        same(f"`build`, {len(paths)} files in the context, cold", 1.0, (*build, "--no-cache"), (tag,)),
        same("the same again, nothing changed", 0.7, build),
    ]


def guestbook_case(base: Path, contenders: Sequence[Contender]) -> Case:
    """The images of samples/guestbook with a warm cache: `umiak build`, and `docker build` for each.

    What the steps did does not matter then, so their base is a small one whose apt-get only makes what later steps want.
    """
    sample, image = base / "guestbook", "umiak-bench:base"
    shutil.copytree(HERE.parent / "samples" / "guestbook", sample)
    dockerfiles = sorted(sample.glob("*/Dockerfile"))
    for path in dockerfiles:
        path.write_text(path.read_text().replace("FROM debian:bookworm-slim", f"FROM {image}"))
    builds = [("image", "build", "-t", f"umiak-bench:{path.parent.name}", str(path.parent)) for path in dockerfiles]
    case = Case(
        f"`build` of the guestbook's {len(builds)} images, nothing changed",
        0.7,
        (("-f", str(sample / "compose.yaml"), "build"),),
        builds,
    )
    _write_base(base / "base")
    for contender in contenders:
        contender.run(("image", "import", str(base / "base" / "rootfs.tar"), "umiak-bench:busybox"))
        contender.run(("image", "build", "-t", image, str(base / "base")))
        for command in case.theirs if contender.daemon else case.ours:
            contender.run(command)
    return case


def _write_base(directory: Path) -> None:
    directory.mkdir()
    busybox_rootfs_tar(directory / "rootfs.tar")
    made = "mkdir -p /etc/postgresql-common /var/log/nginx && touch /etc/postgresql-common/createcluster.conf"
    (directory / "apt-get").write_text(f"#!/bin/sh\n{made} && echo redis:x:999:999::/:/bin/sh >> /etc/passwd\n")
    (directory / "apt-get").chmod(0o755)
    (directory / "Dockerfile").write_text("FROM umiak-bench:busybox\nCOPY apt-get /usr/bin/apt-get\n")


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
            cases.append(pull_case(base, base / "gzip.tar", registry))
        cases += build_cases(base, paths[:: max(1, len(paths) // CONTEXT_FILES)][:CONTEXT_FILES])
        cases.append(guestbook_case(base, contenders))
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
    columns += [f"{contender.name}, CPU s" for contender in contenders]
    rows = [f"| {what} | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for case in cases:
        cells = [_seconds(contender.seconds[case.name]) for contender in contenders]
        if theirs:
            cells += [f"**{ours.median(case) / theirs.median(case):.2f}**", f"≤ {case.target:g}"]
        cells += [f"{statistics.median(contender.cpu_seconds[case.name]):.2f}" for contender in contenders]
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
