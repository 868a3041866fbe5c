"""A machine's disk: a Debian root made by our own `image bootstrap`, its kernel's modules, and Python packages for the tests.

Made once and kept in the tests' cache, by what it is made from, as the image of a file system and as a directory to run its
programs from. Needs root, as `image bootstrap` does.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from engine.facade import Engine
from engine.images.apt.archive import DebianArchive
from engine.images.apt.dpkg import UnpackedPackage
from tests.vm.initrd import initrd
from tests.vm.machines import KERNEL, PACKAGES, Machine

HERE = Path(__file__).parent
PROJECT = HERE.parents[1]
SIZE = "4G"
VENV = "opt/umiak"
WHEELS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
HOST_SUITE = "bookworm"


@dataclass(frozen=True, slots=True)
class Disk:
    """What qemu is given."""

    directory: Path

    @property
    def root(self) -> Path:
        return self.directory / "root.img"

    @property
    def tree(self) -> Path:
        return self.directory / "tree"

    @property
    def kernel(self) -> Path:
        return self.directory / "vmlinuz"

    @property
    def initrd(self) -> Path:
        return self.directory / "initrd"


def cache() -> Path:
    """Where the tests keep what is expensive to make."""
    return Path(os.environ.get("UMIAK_CACHE") or os.path.expanduser("~/.cache/umiak-tests")) / "vm"


def kept(name: str, inputs: list[str | bytes], make: Callable[[Path], None]) -> Path:
    """The directory `<name>-<digest of inputs>` of the cache, filled by `make` where it is not there. Former ones go."""
    digest = hashlib.sha256(b"\0".join(i.encode() if isinstance(i, str) else i for i in inputs)).hexdigest()[:16]
    directory = cache() / f"{name}-{digest}"
    if directory.exists():
        return directory
    cache().mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=cache()))
    try:
        make(scratch)
        for former in cache().glob(f"{name}-*"):
            shutil.rmtree(former)
        scratch.rename(directory)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return directory


def disk(machine: Machine, say: Callable[[str], None]) -> Disk:
    """The machine's disk, made now if it was not yet."""
    sources = [(HERE / name).read_bytes() for name in ("image.py", "initrd.py", "initrd.sh", "machines.py")]
    inputs = [*sources, machine.name, *python_packages()]
    return Disk(kept(machine.name, inputs, lambda directory: _make(machine, Disk(directory), say)))


def python_packages() -> list[str]:
    """What the product needs, and the two that run its tests."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    tools = [name for name in project["optional-dependencies"]["dev"] if name.startswith(("pytest", "hypothesis"))]
    return [*project["dependencies"], *tools]


def _make(machine: Machine, disk: Disk, say: Callable[[str], None]) -> None:
    with scratch_engine(disk.directory) as engine:
        say(f"bootstrapping Debian {machine.suite}")
        image = engine.bootstrap(f"vm:{machine.suite}", suite=machine.suite, packages=PACKAGES)
        (layer,) = engine.images.layer_dirs(image)
        root = Path(layer)
        say("adding the kernel")
        release = _add_kernel(machine, root, disk)
        say("adding Python packages")
        _add_python(machine, root)
        for name in ("project", "images", "root"):
            (root / name).mkdir(exist_ok=True)
        (root / "etc/hostname").write_text(f"{machine.name}\n")
        disk.initrd.write_bytes(initrd(root, root / "usr/lib/modules" / release))
        say("writing the disk")
        make_file_system(root, disk.root, SIZE)
        root.rename(disk.tree)


@contextlib.contextmanager
def scratch_engine(directory: Path) -> Iterator[Engine]:
    """An engine with a root and run directory of its own below `directory`, both gone in the end."""
    from compose.wiring import open_engine

    base = Path(tempfile.mkdtemp(prefix="umiak-vm-"))
    former = {name: os.environ.get(name) for name in ("UMIAK_ROOT", "UMIAK_RUN")}
    os.environ.update({"UMIAK_ROOT": str(directory / "engine"), "UMIAK_RUN": str(base)})
    try:
        engine = open_engine()
        yield engine
        engine.close()
    finally:
        for name, value in former.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
        shutil.rmtree(directory / "engine", ignore_errors=True)
        shutil.rmtree(base, ignore_errors=True)


def _add_kernel(machine: Machine, root: Path, disk: Disk) -> str:
    """Unpack the kernel's package without its scripts, which would make an initrd of their own; return the release."""
    archive = DebianArchive(str(cache().parent / "apt"))
    chosen = archive.select(machine.suite, HOST_SUITE, "amd64", [KERNEL], _silent)
    packages = [p for p in chosen.packages if p.name.startswith("linux-image-") and p.name != KERNEL]
    for path in archive.fetch(packages, _silent).values():
        UnpackedPackage(path).unpack(str(root), lambda _path: False)
    (kernel,) = (root / "boot").glob("vmlinuz-*")
    release = kernel.name.removeprefix("vmlinuz-")
    shutil.copyfile(kernel, disk.kernel)
    subprocess.run(["chroot", root, "depmod", release], check=True)
    return release


def _silent(_text: str, _done: int, _total: int) -> None:
    """Progress that nobody follows."""


def _add_python(machine: Machine, root: Path) -> None:
    """A virtual environment as `venv` would make it, with the project in place and all compiled."""
    venv = root / VENV
    packages = venv / "lib" / f"python{machine.python}" / "site-packages"
    packages.mkdir(parents=True)
    (venv / "bin").mkdir()
    (venv / "bin/python").symlink_to("/usr/bin/python3")
    (venv / "pyvenv.cfg").write_text("home = /usr/bin\ninclude-system-site-packages = false\n")
    (packages / "umiak.pth").write_text("/project\n")
    script = venv / "bin/umiak"
    script.write_text(f"#!/{VENV}/bin/python\nfrom compose.cli.entry import entry\nentry()\n")
    script.chmod(0o755)
    platforms = [f"--platform={platform}" for platform in WHEELS]
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "-qq", "--disable-pip-version-check"),
            *("--target", packages, "--only-binary=:all:", f"--python-version={machine.python}", *platforms),
            *python_packages(),
        ],
        check=True,
    )
    subprocess.run(["chroot", root, f"/{VENV}/bin/python", "-m", "compileall", "-q", f"/{VENV}/lib"], check=True)


def make_file_system(tree: Path, image: Path, size: str) -> None:
    """An ext4 file system that holds `tree`. The file is sparse."""
    command = ["mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-d", str(tree), str(image), size]
    subprocess.run(command, check=True, env={**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"})
