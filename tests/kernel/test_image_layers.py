"""Layers and overlayfs: what a layer says must be what a mount shows, and what a mount wrote must be what its layer says."""

from __future__ import annotations

import io
import os
import stat
import struct
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from engine.errors import Unavailable
from engine.images.archive import import_rootfs
from engine.images.diff import write_tar
from engine.images.layer import LayerWriter
from engine.images.store import ImageStore
from engine.kernel.mounts import MNT_DETACH, mount, umount
from engine.paths import Paths
from engine.state import State
from tests.images import busybox_rootfs_tar

pytestmark = pytest.mark.needs("root", "mount", "overlay")
CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)


def tar(*members: tuple[str, bytes, dict[str, object]]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as file:
        for name, kind, fields in members:
            info = tarfile.TarInfo(name)
            info.type = kind
            data = bytes(fields.pop("data", b""))  # type: ignore[call-overload]
            info.size = len(data)
            for key, value in fields.items():
                setattr(info, key, value)
            file.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def file(name: str, data: bytes = b"", **fields: object) -> tuple[str, bytes, dict[str, object]]:
    return name, tarfile.REGTYPE, {"data": data, **fields}


def folder(name: str) -> tuple[str, bytes, dict[str, object]]:
    return name, tarfile.DIRTYPE, {"mode": 0o755}


def unpack(directory: Path, *members: tuple[str, bytes, dict[str, object]]) -> Path:
    directory.mkdir()
    with LayerWriter(str(directory)) as writer:
        writer.unpack([tar(*members)])
        writer.finish()
    return directory


@contextmanager
def overlay(base: Path, *lowest_first: Path) -> Iterator[tuple[Path, Path]]:
    """A mount over layers; gives (merged, upper)."""
    upper, work, merged = base / "upper", base / "work", base / "merged"
    for path in (upper, work, merged):
        path.mkdir()
    lower = ":".join(str(path) for path in reversed(lowest_first))
    mount("overlay", str(merged), "overlay", 0, f"lowerdir={lower},upperdir={upper},workdir={work}")
    try:
        yield merged, upper
    finally:
        umount(str(merged), MNT_DETACH)


def shown(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))


def test_a_whiteout_hides_the_file_of_the_layer_below(tmp_path: Path) -> None:
    below = unpack(tmp_path / "1", file("gone"), file("stays"), file("d/gone"), file("d/stays"))
    above = unpack(tmp_path / "2", file(".wh.gone"), file("d/.wh.gone"))
    with overlay(tmp_path, below, above) as (merged, _):
        assert shown(merged) == ["d", "d/stays", "stays"]


def test_an_opaque_directory_hides_all_below_and_shows_its_own(tmp_path: Path) -> None:
    below = unpack(tmp_path / "1", file("d/old"), file("d/e/old"))
    above = unpack(tmp_path / "2", file("d/new"), file("d/.wh..wh..opq"))
    with overlay(tmp_path, below, above) as (merged, _):
        assert shown(merged) == ["d", "d/new"]


@pytest.mark.parametrize("order", [[".wh.d", "d/new"], ["d/new", ".wh.d"]])
def test_a_directory_removed_and_made_anew_in_one_layer_shows_only_the_new(tmp_path: Path, order: list[str]) -> None:
    below = unpack(tmp_path / "1", file("d/old"))
    above = unpack(tmp_path / "2", *(file(name) for name in order))
    with overlay(tmp_path, below, above) as (merged, _):
        assert shown(merged) == ["d", "d/new"]


@pytest.mark.parametrize("order", [[".wh.f", "f"], ["f", ".wh.f"]])
def test_a_file_removed_and_made_anew_in_one_layer_is_there(tmp_path: Path, order: list[str]) -> None:
    below = unpack(tmp_path / "1", file("f", b"old"))
    above = unpack(tmp_path / "2", *(file(name, b"new") if name == "f" else file(name) for name in order))
    with overlay(tmp_path, below, above) as (merged, _):
        assert (merged / "f").read_bytes() == b"new"


def test_owners_devices_fifos_and_capabilities_come_out(tmp_path: Path) -> None:
    root = unpack(
        tmp_path / "1",
        file(
            "f",
            b"x",
            uid=1000,
            gid=1001,
            mode=0o6755,
            pax_headers={"SCHILY.xattr.security.capability": CAPABILITY.decode("latin1")},
        ),
        ("null", tarfile.CHRTYPE, {"devmajor": 1, "devminor": 3, "mode": 0o666}),
        ("pipe", tarfile.FIFOTYPE, {"mode": 0o640, "gid": 5}),
        ("link", tarfile.SYMTYPE, {"linkname": "f", "uid": 7}),
    )
    found = (root / "f").stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (1000, 1001, 0o6755)
    assert os.getxattr(root / "f", "security.capability") == CAPABILITY
    assert (root / "null").stat().st_rdev == os.makedev(1, 3)
    assert stat.S_ISFIFO((root / "pipe").stat().st_mode)
    assert (root / "link").lstat().st_uid == 7


def test_what_a_mount_changed_comes_back_from_its_layer(tmp_path: Path) -> None:
    below = unpack(
        tmp_path / "1", file("gone"), file("stays"), file("dir/a"), file("replaced/a"), file("moded"), folder("empty")
    )
    with overlay(tmp_path, below) as (merged, upper):
        (merged / "gone").unlink()
        (merged / "new é").write_bytes(b"n" * 70_000)
        os.link(merged / "new é", merged / "zlink")
        os.symlink("new é", merged / "sym")
        (merged / "moded").chmod(0o4711)
        os.chown(merged / "dir", 42, 43)
        for path in ("replaced/a", "dir/a"):
            (merged / path).unlink()
        (merged / "replaced").rmdir()
        (merged / "replaced").mkdir()
        (merged / "replaced" / "b").touch()
        (merged / ("long" * 60)).write_text("x")
        os.setxattr(merged / "stays", "user.x", b"y")
        os.setxattr(merged / "stays", "security.capability", CAPABILITY)
        os.mknod(merged / "node", stat.S_IFCHR | 0o600, os.makedev(1, 3))
        os.mkfifo(merged / "fifo")
        wanted = {name: (merged / name).lstat() for name in shown(merged)}
    parts: list[bytes] = []
    write_tar(str(upper), parts.append)
    data = b"".join(parts)
    names = subprocess.run(["tar", "-tf", "-"], input=data, capture_output=True, check=True).stdout
    assert b".wh.gone" in names
    assert b"replaced/.wh..wh..opq" in names

    again = tmp_path / "again"
    again.mkdir()
    with LayerWriter(str(again)) as writer:
        writer.unpack([data])
        writer.finish()
    second = tmp_path / "second"
    second.mkdir()
    with overlay(second, below, again) as (merged, _):
        assert shown(merged) == sorted(wanted)
        for name, before in wanted.items():
            after = (merged / name).lstat()
            assert (after.st_mode, after.st_uid, after.st_gid, after.st_rdev) == (
                before.st_mode,
                before.st_uid,
                before.st_gid,
                before.st_rdev,
            ), name
            assert int(after.st_mtime) == int(before.st_mtime), name
        assert (merged / "zlink").samefile(merged / "new é")
        assert (merged / "new é").read_bytes() == b"n" * 70_000
        assert os.getxattr(merged / "stays", "user.x") == b"y"
        assert os.getxattr(merged / "stays", "security.capability") == CAPABILITY
    repeated: list[bytes] = []
    write_tar(str(again), repeated.append)
    assert b"".join(repeated) == data, "equal trees give equal bytes"


def open_store(root: Path) -> ImageStore:
    paths = Paths(str(root), str(root / "run"))
    return ImageStore(paths, State(paths.database))


def test_an_upper_directory_becomes_a_layer_by_rename(tmp_path: Path) -> None:
    store = open_store(tmp_path / "root")
    base = import_rootfs(store, busybox_rootfs_tar(tmp_path / "b.tar"), "busybox")
    with store.scratch() as scratch:
        [lower] = store.layer_dirs(base)
        with overlay(Path(scratch), Path(lower)) as (merged, upper):
            (merged / "etc/new").write_text("new")
            (merged / "etc/passwd").unlink()
        inode = upper.stat().st_ino
        layer = store.add_layer_from_upper(str(upper))
    assert os.stat(store.layer_dir(layer.diff_id)).st_ino == inode
    image = store.add_image({}, [*[store.find_layer(d) for d in base.layers], layer], ["two"])  # type: ignore[list-item]
    check = tmp_path / "check"
    check.mkdir()
    with overlay(check, *map(Path, store.layer_dirs(image))) as (merged, _):
        assert (merged / "etc/new").read_text() == "new"
        assert not (merged / "etc/passwd").exists()
        assert (merged / "etc/group").exists()
    assert not any(
        key.startswith("trusted.overlay.") and key != "trusted.overlay.opaque"
        for key in os.listxattr(store.layer_dir(layer.diff_id))
    )
    store.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "disk"
    path.mkdir()
    mount("tmpfs", str(path), "tmpfs", 0, "size=6m")
    yield path
    umount(str(path), MNT_DETACH)


def test_a_full_disk_while_unpacking_is_one_clear_error_and_leaves_nothing_half_made(
    small_disk: Path, tmp_path: Path
) -> None:
    store = open_store(small_disk / "root")
    (tmp_path / "big.tar").write_bytes(tar(file("big", os.urandom(4 << 20))))
    with pytest.raises(Unavailable) as caught:
        import_rootfs(store, str(tmp_path / "big.tar"), "big")
    assert "cannot unpack the layer: no space left in" in caught.value.message
    assert "MB free)" in caught.value.message
    assert "UMIAK_ROOT" in str(caught.value.hint)
    assert store.all() == []
    assert list(store.blobs.all()) == []
    assert os.listdir(store.blobs.ingest) == []
    assert os.listdir(store.layers.directory) == []
    free = os.statvfs(small_disk).f_bavail * 4096
    assert free > 5 << 20
    image = import_rootfs(store, busybox_rootfs_tar(tmp_path / "b.tar"), "busybox")
    assert store.resolve("busybox") == image
    store.close()
