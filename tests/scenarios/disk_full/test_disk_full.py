"""A disk that fills while an image is unpacked: one error, nothing half-made, and the same works with more room."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.images import busybox_rootfs_tar
from tests.stack import Host, StackMaker

pytestmark = pytest.mark.umiak("it fills umiak's root")

MIB = 1 << 20


def test_a_full_disk_while_unpacking_leaves_nothing_half_made(tmp_path: Path) -> None:
    small = Host(tmp_path)
    small.root.mkdir()
    tar = tmp_path / "big.tar"
    with tarfile.open(tar, "w") as archive:
        for number in range(20):
            entry = tarfile.TarInfo(f"file-{number}")
            entry.size = MIB
            archive.addfile(entry, io.BytesIO(os.urandom(MIB)))

    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=30m", "none", str(small.root)], check=True)
    try:
        failed = small.umiak("image", "import", str(tar), "big:latest", exit_code=1)
        assert "space" in failed.stderr.lower()
        assert "big" not in small.umiak("image", "ls").stdout
        left = sum(path.stat().st_size for path in small.root.rglob("*") if path.is_file() and path.suffix != ".db-wal")
        assert left < 2 * MIB, "what was unpacked has been removed"

        subprocess.run(["mount", "-o", "remount,size=100m", str(small.root)], check=True)
        small.umiak("image", "import", str(tar), "big:latest")
        assert "big" in small.umiak("image", "ls").stdout
    finally:
        subprocess.run(["umount", str(small.root)], check=True)


def test_down_works_on_a_full_disk_and_frees_it(tmp_path: Path, make_stack: StackMaker) -> None:
    stack = make_stack(Path(__file__).parent)
    small = stack.host = Host(tmp_path)
    small.root.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m", "none", str(small.root)], check=True)
    try:
        small.umiak("image", "import", busybox_rootfs_tar(tmp_path / "busybox.tar"), "busybox:latest")
        stack.up()
        filled = stack.exec("writer", "dd", "if=/dev/zero", "of=/data/fill", "bs=4k", exit_code=1)
        assert "No space left" in filled.stderr
        assert stack.states() == {"disk_full-writer-1": "running"}
        stack.down("-v", "-t", "0")
        assert stack.states() == {}
        stack.up()
        stack.down("-v", "-t", "0")
    finally:
        subprocess.run(["umount", "-l", str(small.root)], check=True)
