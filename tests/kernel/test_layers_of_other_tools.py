"""What other programs pack, we unpack: GNU tar, bsdtar, Python's tarfile, umoci (Go) and skopeo, each against one tree of everything."""

from __future__ import annotations

import os
import shutil
import stat
import struct
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine.images.archive import load
from engine.images.layers import unpack
from engine.images.store import ImageStore
from engine.paths import Paths
from engine.state import State

pytestmark = pytest.mark.needs("root", "mount")
CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)
MTIME = 1_600_000_000
LONG = "long-" + "n" * 120
HOLE = 8 << 20

Seen = dict[str, tuple[object, ...]]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Files of all kinds, with all that a file can have."""
    root = tmp_path / "tree"
    (root / "d" / LONG).mkdir(parents=True)
    (root / "plain").write_bytes(b"plain content")
    (root / "ümläut").write_bytes(b"u")
    (root / "d" / LONG / LONG).write_bytes(b"deep")
    (root / "program").write_bytes(b"#!/bin/sh\n")
    os.setxattr(root / "program", "security.capability", CAPABILITY)
    os.setxattr(root / "plain", "user.note", b"a\0b\nc")
    os.link(root / "plain", root / "d" / "second-name")
    os.symlink("../plain", root / "d" / "link")
    os.mkfifo(root / "fifo")
    os.mknod(root / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mknod(root / "disk", stat.S_IFBLK | 0o660, os.makedev(259, 70_000))
    with (root / "sparse").open("wb") as file:
        file.write(b"begin")
        file.seek(HOLE)
        file.write(b"end")
        file.truncate(2 * HOLE)
    for path in root.rglob("*"):
        os.chown(path, 1000, 70_000, follow_symlinks=False)
    os.chmod(root / "plain", 0o640)
    os.chmod(root / "program", 0o6755)  # chown clears these bits, and capabilities
    os.setxattr(root / "program", "security.capability", CAPABILITY)
    os.chmod(root / "d", 0o1777)
    for path in sorted(root.rglob("*"), reverse=True):
        os.utime(path, (MTIME, MTIME), follow_symlinks=False)
    return root


def seen(root: Path) -> Seen:
    """Everything about every file below a directory, its first name standing for a file with several."""
    found: Seen = {}
    first: dict[int, str] = {}
    for path in sorted(root.rglob("*")):
        name, status = str(path.relative_to(root)), path.lstat()
        content: object = None
        if stat.S_ISREG(status.st_mode):
            content = path.read_bytes()
        elif stat.S_ISLNK(status.st_mode):
            content = os.readlink(path)
        xattrs = {
            key: os.getxattr(path, key, follow_symlinks=False) for key in os.listxattr(path, follow_symlinks=False)
        }
        same = first.setdefault(status.st_ino, name) if not path.is_dir() else name
        device = status.st_rdev if not stat.S_ISREG(status.st_mode) else 0
        found[name] = (status.st_mode, status.st_uid, status.st_gid, status.st_mtime, device, content, xattrs, same)
    return found


def gnu_tar(tree: Path, target: Path) -> None:
    words = ["--format=pax", "--xattrs", "--xattrs-include=*", "--sparse", "--numeric-owner"]
    subprocess.run(["tar", *words, "-cf", target, "-C", tree, "."], check=True)


def gnu_tar_old(tree: Path, target: Path) -> None:
    subprocess.run(["tar", "--format=gnu", "--sparse", "-czf", target, "-C", tree, "."], check=True)


def bsdtar(tree: Path, target: Path) -> None:
    subprocess.run(["bsdtar", "--format=pax", "--xattrs", "-cf", target, "-C", tree, "."], check=True)


def python(tree: Path, target: Path) -> None:
    def with_xattrs(info: tarfile.TarInfo) -> tarfile.TarInfo:
        path = tree / info.name
        for key in os.listxattr(path, follow_symlinks=False):
            value = os.getxattr(path, key, follow_symlinks=False)
            info.pax_headers[f"SCHILY.xattr.{key}"] = value.decode("utf-8", "surrogateescape")
        return info

    with tarfile.open(target, "w:xz", preset=0, format=tarfile.PAX_FORMAT) as tar:
        for path in sorted(tree.rglob("*")):
            tar.add(path, str(path.relative_to(tree)), recursive=False, filter=with_xattrs)


@pytest.mark.parametrize(
    ("pack", "keeps_xattrs", "is_sparse"),
    [
        pytest.param(gnu_tar, True, True, id="gnu-tar-pax", marks=pytest.mark.needs("tar")),
        pytest.param(gnu_tar_old, False, True, id="gnu-tar-gnu", marks=pytest.mark.needs("tar")),
        pytest.param(bsdtar, True, True, id="bsdtar", marks=pytest.mark.needs("bsdtar")),
        pytest.param(python, True, False, id="python"),
    ],
)
def test_a_tar_of_another_program_comes_out_as_it_went_in(
    tree: Path, tmp_path: Path, pack: Callable[[Path, Path], None], keeps_xattrs: bool, is_sparse: bool
) -> None:
    pack(tree, tmp_path / "layer.tar")
    out = tmp_path / "out"
    out.mkdir()
    with (tmp_path / "layer.tar").open("rb", buffering=0) as file:
        unpack(file, str(out), None, "the layer")
    wanted = seen(tree)
    if not keeps_xattrs:
        wanted = {name: (*facts[:6], {}, facts[7]) for name, facts in wanted.items()}
    assert seen(out) == wanted
    if is_sparse:
        assert (out / "sparse").stat().st_blocks * 512 < HOLE


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ImageStore]:
    paths = Paths(str(tmp_path / "root"), str(tmp_path / "run"))
    made = ImageStore(paths, State(paths.database))
    yield made
    made.close()


def _umoci_layout(tree: Path, tmp_path: Path) -> Path:
    """An OCI layout whose only layer umoci made of the tree."""
    layout, bundle = tmp_path / "layout", tmp_path / "bundle"
    for words in (
        ["init", "--layout", str(layout)],
        ["new", "--image", f"{layout}:made"],
        ["unpack", "--image", f"{layout}:made", str(bundle)],
    ):
        subprocess.run(["umoci", *words], check=True, capture_output=True)
    shutil.rmtree(bundle / "rootfs")
    subprocess.run(["cp", "-a", "--sparse=always", str(tree), str(bundle / "rootfs")], check=True)
    subprocess.run(["umoci", "repack", "--image", f"{layout}:made", str(bundle)], check=True, capture_output=True)
    return layout


@pytest.mark.needs("umoci")
def test_an_image_of_umoci_comes_out_as_it_went_in(tree: Path, tmp_path: Path, store: ImageStore) -> None:
    [image] = load(store, str(_umoci_layout(tree, tmp_path)))
    [directory] = store.layer_dirs(image)
    assert seen(Path(directory)) == seen(tree)


@pytest.mark.needs("umoci", "skopeo")
@pytest.mark.parametrize("target", ["docker-archive:{}:app:1", "oci-archive:{}:app:1"])
def test_an_image_that_skopeo_copied_comes_out_as_it_went_in(
    tree: Path, tmp_path: Path, store: ImageStore, target: str
) -> None:
    layout, archive = _umoci_layout(tree, tmp_path), tmp_path / "copied.tar"
    copy = ["skopeo", "--insecure-policy", "copy", "-q", f"oci:{layout}:made", target.format(archive)]
    subprocess.run(copy, check=True)
    [image] = load(store, str(archive))
    [directory] = store.layer_dirs(image)
    assert seen(Path(directory)) == seen(tree)
