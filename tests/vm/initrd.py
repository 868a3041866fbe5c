"""The first root of a machine: busybox, and the modules that it takes to reach the disk. See cpio(5), "newc"."""

from __future__ import annotations

import lzma
import stat
from collections.abc import Iterator
from pathlib import Path

NEEDED = ("virtio_pci", "virtio_blk", "ext4", "crc32c_generic")
HERE = Path(__file__).parent


def initrd(root: Path, modules: Path) -> bytes:
    """The archive for the kernel whose `modules` lie in `root`."""
    members: list[tuple[str, int, bytes]] = [
        *((name, stat.S_IFDIR | 0o755, b"") for name in ("bin", "dev", "modules", "proc", "root")),
        ("bin/busybox", stat.S_IFREG | 0o755, (root / "usr/bin/busybox").read_bytes()),
        ("bin/sh", stat.S_IFLNK | 0o777, b"busybox"),
        ("init", stat.S_IFREG | 0o755, (HERE / "initrd.sh").read_bytes()),
    ]
    for number, path in enumerate(load_order(modules)):
        members.append((f"modules/{number:02}.ko", stat.S_IFREG | 0o644, module(modules / path)))
    return b"".join(_entry(*member) for member in [*members, ("TRAILER!!!", 0, b"")])


def load_order(modules: Path) -> list[str]:
    """The files of the needed modules, each after those it depends on; what is built into the kernel has none."""
    dependencies = {
        path: found.split()
        for path, _, found in (line.partition(":") for line in (modules / "modules.dep").read_text().splitlines())
    }
    by_name = {Path(path).name.partition(".")[0].replace("-", "_"): path for path in dependencies}

    def with_dependencies(path: str) -> Iterator[str]:
        for other in dependencies[path]:
            yield from with_dependencies(other)
        yield path

    return list(dict.fromkeys(p for name in NEEDED if name in by_name for p in with_dependencies(by_name[name])))


def module(path: Path) -> bytes:
    """A module as `insmod` wants it: Debian 13 compresses them, and busybox cannot decompress."""
    data = path.read_bytes()
    return lzma.decompress(data) if path.suffix == ".xz" else data


def _entry(name: str, mode: int, data: bytes) -> bytes:
    numbers = (0, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0)
    header = b"070701" + b"".join(b"%08X" % number for number in numbers) + name.encode() + b"\0"
    return _padded(header) + _padded(data)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
