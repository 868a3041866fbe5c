"""Volumes, binds and tmpfs as entries of an OCI mounts list."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from engine.errors import Conflict, InvalidInput, NotFound, Unsupported
from engine.paths import Paths
from engine.state import State
from engine.types import Mount, VolumeSpec
from volumes.driver import Volumes


@pytest.fixture
def state(tmp_path: Path) -> State:
    return State(str(tmp_path / "state.db"))


@pytest.fixture
def volumes(tmp_path: Path, state: State) -> Volumes:
    return Volumes(Paths(str(tmp_path), str(tmp_path / "run")), state)


def test_a_volume_made_twice_is_one_volume(volumes: Volumes) -> None:
    first = volumes.create(VolumeSpec("data", labels={"a": "1"}))
    assert volumes.create(VolumeSpec("data")) == first
    assert [volume.spec.name for volume in volumes.all()] == ["data"]


def test_a_volume_in_use_is_not_removed(volumes: Volumes, state: State) -> None:
    volumes.create(VolumeSpec("data"))
    state.execute(
        "INSERT INTO containers (id, name, created_at, image_id, desired, spec, argv, volumes, rootfs)"
        " VALUES ('c', 'p-db-1', 0, '', 'created', '', '', '', '')"
    )
    state.execute("INSERT INTO volume_uses VALUES ('data', 'c')")
    with pytest.raises(Conflict, match="used by p-db-1"):
        volumes.remove("data")


def test_removing_takes_the_content_too(volumes: Volumes, tmp_path: Path) -> None:
    volumes.create(VolumeSpec("data"))
    entry = volumes.prepare(Mount("volume", "/data", "data"), [])
    Path(entry["source"], "file").write_text("x")
    volumes.remove("data")
    assert not (tmp_path / "volumes/data").exists()
    with pytest.raises(NotFound):
        volumes.get("data")


def test_a_removal_cut_short_is_finished_by_the_next_look(volumes: Volumes, state: State, tmp_path: Path) -> None:
    volumes.create(VolumeSpec("data"))
    volumes.prepare(Mount("volume", "/data", "data"), [])
    state.execute("UPDATE volumes SET removing = 1")
    assert volumes.all() == []
    assert not (tmp_path / "volumes/data").exists()


@pytest.mark.parametrize("name", ["", "../etc", "a/b", ".hidden", "x" * 256])
def test_names_that_would_leave_the_directory_are_refused(volumes: Volumes, name: str) -> None:
    with pytest.raises(InvalidInput):
        volumes.create(VolumeSpec(name))


def test_foreign_drivers_are_refused(volumes: Volumes) -> None:
    with pytest.raises(Unsupported, match="nfs"):
        volumes.create(VolumeSpec("data", driver="nfs"))
    with pytest.raises(Unsupported):
        volumes.create(VolumeSpec("data", options={"type": "nfs", "o": "addr=x", "device": ":/x"}))


def test_a_missing_bind_source_is_made_as_docker_does(volumes: Volumes, tmp_path: Path) -> None:
    source = tmp_path / "made/here"
    entry = volumes.prepare(Mount("bind", "/data", str(source), read_only=True), [])
    assert source.is_dir()
    assert entry == {
        "destination": "/data",
        "type": "bind",
        "source": str(source),
        "options": ["rbind", "ro", "rprivate"],
    }


def test_a_missing_bind_source_is_an_error_where_it_must_exist(volumes: Volumes, tmp_path: Path) -> None:
    mount = Mount("bind", "/data", str(tmp_path / "no"), options={"create_host_path": False})
    with pytest.raises(NotFound) as caught:
        volumes.prepare(mount, [])
    assert "create_host_path" in (caught.value.hint or "")


def test_a_subpath_stays_inside_its_volume(volumes: Volumes, tmp_path: Path) -> None:
    volumes.create(VolumeSpec("data"))
    directory = Path(volumes.prepare(Mount("volume", "/d", "data"), [])["source"])
    (directory / "in").mkdir()
    (directory / "out").symlink_to("/etc")
    assert volumes.prepare(Mount("volume", "/d", "data", options={"subpath": "in"}), [])["source"] == str(
        directory / "in"
    )
    for outside in ("out", "../.."):
        with pytest.raises(InvalidInput, match="outside"):
            volumes.prepare(Mount("volume", "/d", "data", options={"subpath": outside}), [])


def test_tmpfs_options_are_dockers(volumes: Volumes) -> None:
    plain = volumes.prepare(Mount("tmpfs", "/run"), [])
    assert plain["options"] == ["rw", "nosuid", "nodev", "noexec"]
    sized = volumes.prepare(Mount("tmpfs", "/run", options={"size": 1 << 20, "mode": 0o1777, "exec": True}), [])
    assert sized["options"] == ["rw", "nosuid", "nodev", "size=1048576", "mode=1777"]
    with pytest.raises(InvalidInput, match="colour"):
        volumes.prepare(Mount("tmpfs", "/run", options={"colour": "red"}), [])


def test_a_file_is_copied_with_its_own_mode_each_time(volumes: Volumes, tmp_path: Path) -> None:
    source, private = tmp_path / "secret", tmp_path / "private"
    source.write_text("first")
    mount = Mount("file", "/run/secrets/s", str(source), True, {"uid": os.getuid(), "gid": os.getgid(), "mode": 0o400})
    copy = Path(volumes.prepare(mount, [], private_dir=str(private))["source"])
    assert (copy.read_text(), copy.stat().st_mode & 0o777, private.stat().st_mode & 0o777) == ("first", 0o400, 0o700)
    source.write_text("second")
    assert volumes.prepare(mount, [], private_dir=str(private)) == {
        "destination": "/run/secrets/s",
        "type": "bind",
        "source": str(copy),
        "options": ["rbind", "ro", "rprivate"],
    }
    assert copy.read_text() == "second"


def test_a_file_that_is_missing_or_a_directory_is_named(volumes: Volumes, tmp_path: Path) -> None:
    for source, error in ((tmp_path / "none", NotFound), (tmp_path, InvalidInput)):
        with pytest.raises(error, match=f"cannot mount {source} on /s"):
            volumes.prepare(Mount("file", "/s", str(source)), [], private_dir=str(tmp_path / "private"))
