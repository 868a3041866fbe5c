"""A view shows layers as one tree; copy-up fills an empty volume from it, once and whole."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from engine import snapshots
from volumes.populate import populate

pytestmark = pytest.mark.needs("root", "overlay")


@pytest.fixture
def layers(tmp_path: Path) -> list[str]:
    lower, upper = tmp_path / "lower", tmp_path / "upper"
    (lower / "data/sub").mkdir(parents=True)
    (lower / "data/kept").write_text("low")
    (lower / "data/hidden").write_text("low")
    (upper / "data").mkdir(parents=True)
    os.mknod(upper / "data/hidden", 0o020000, os.makedev(0, 0))
    (upper / "data/kept").write_text("high")
    (upper / "data/kept").chmod(0o640)
    os.chown(upper / "data/kept", 33, 34)
    os.symlink("/data", lower / "link")
    os.chmod(upper / "data", 0o710)
    os.chown(upper / "data", 70, 71)
    return [str(lower), str(upper)]


def test_a_view_shows_layers_with_their_whiteouts(layers: list[str]) -> None:
    view = snapshots.open_view(layers)
    try:
        names = sorted(os.listdir(f"/proc/self/fd/{view}/data"))
    finally:
        os.close(view)
    assert names == ["kept", "sub"]


def test_the_view_of_old_kernels_is_the_same_and_leaves_no_mount(layers: list[str]) -> None:
    view = snapshots._mounted_view(layers[::-1])
    try:
        assert sorted(os.listdir(f"/proc/self/fd/{view}/data")) == ["kept", "sub"]
    finally:
        os.close(view)
    assert "umiak-view-" not in Path("/proc/self/mountinfo").read_text()


@pytest.mark.parametrize("target", ["/data", "/link"])
def test_an_empty_volume_gets_content_owners_and_modes(layers: list[str], tmp_path: Path, target: str) -> None:
    volume = tmp_path / "volume/_data"
    volume.mkdir(parents=True)
    populate(str(volume), layers, target)
    assert sorted(os.listdir(volume)) == ["kept", "sub"]
    kept, root = (volume / "kept").stat(), volume.stat()
    assert (kept.st_mode & 0o7777, kept.st_uid, kept.st_gid) == (0o640, 33, 34)
    assert (root.st_mode & 0o7777, root.st_uid, root.st_gid) == (0o710, 70, 71)
    assert os.listdir(tmp_path / "volume") == ["_data"]


def test_a_volume_with_content_is_left_alone(layers: list[str], tmp_path: Path) -> None:
    volume = tmp_path / "volume/_data"
    volume.mkdir(parents=True)
    (volume / "mine").write_text("x")
    populate(str(volume), layers, "/data")
    assert os.listdir(volume) == ["mine"]


def test_a_copy_cut_short_is_made_again(layers: list[str], tmp_path: Path) -> None:
    volume = tmp_path / "volume/_data"
    volume.mkdir(parents=True)
    (tmp_path / "volume/_data.partial").mkdir()
    (tmp_path / "volume/_data.partial/half").write_text("x")
    populate(str(volume), layers, "/data")
    assert sorted(os.listdir(volume)) == ["kept", "sub"]
    assert os.listdir(tmp_path / "volume") == ["_data"]


def test_a_path_the_image_lacks_leaves_the_volume_empty(layers: list[str], tmp_path: Path) -> None:
    volume = tmp_path / "volume/_data"
    volume.mkdir(parents=True)
    populate(str(volume), layers, "/data/kept/none")
    assert os.listdir(volume) == []
