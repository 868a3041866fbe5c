from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.errors import InvalidInput, NotFound
from engine.images.archive import load
from engine.images.save import save
from engine.images.store import ImageStore
from engine.paths import Paths
from engine.state import State
from engine.types import Image


def layer_tar(name: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        info = tarfile.TarInfo(name)
        info.size = 3
        tar.addfile(info, io.BytesIO(b"abc"))
    return buffer.getvalue()


def open_store(base: Path) -> ImageStore:
    paths = Paths(str(base / "root"), str(base / "run"))
    return ImageStore(paths, State(paths.database))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ImageStore]:
    made = open_store(tmp_path / "one")
    yield made
    made.close()


@pytest.fixture
def other(tmp_path: Path) -> Iterator[ImageStore]:
    made = open_store(tmp_path / "other")
    yield made
    made.close()


def add(store: ImageStore, command: str, *tags: str) -> Image:
    layers = [store.add_layer(io.BytesIO(gzip.compress(layer_tar(name), mtime=0))) for name in ("shared", command)]
    return store.add_image({"config": {"Cmd": [command]}, "created": "2024-05-01T10:00:00Z"}, layers, tags)


def saved(store: ImageStore, path: Path, *references: str, format: str = "docker") -> Path:
    with path.open("wb") as file:
        save(store, references, file.write, format=format)
    return path


@pytest.mark.parametrize("format", ["docker", "oci"])
def test_what_was_saved_loads_elsewhere_as_the_same_images(
    store: ImageStore, other: ImageStore, tmp_path: Path, format: str
) -> None:
    images = [add(store, "a", "a:1", "registry.lan:5000/x/a:2"), add(store, "b", "b:1")]
    path = saved(store, tmp_path / "x.tar", images[0].id, "b:1", format=format)
    load(other, str(path))
    assert {image.id for image in other.all()} == {image.id for image in images}
    assert other.resolve("registry.lan:5000/x/a:2").tags == images[0].tags


def test_only_the_names_asked_for_are_saved(store: ImageStore, other: ImageStore, tmp_path: Path) -> None:
    add(store, "a", "a:1", "a:2")
    [image] = load(other, str(saved(store, tmp_path / "x.tar", "a:2")))
    assert image.tags == ("a:2",)


def test_an_oci_archive_keeps_the_manifest_and_its_digest(store: ImageStore, other: ImageStore, tmp_path: Path) -> None:
    image = add(store, "a", "a:1")
    load(other, str(saved(store, tmp_path / "x.tar", "a:1", format="oci")))
    digest = store.manifest(image.id).digest
    assert other.manifest(image.id).digest == digest
    assert other.repo_digests(image.id) == [f"a@{digest}"]
    assert other.resolve(f"a@{digest}").id == image.id


def test_a_docker_archive_holds_a_shared_layer_once_and_uncompressed(store: ImageStore, tmp_path: Path) -> None:
    add(store, "a", "a:1")
    add(store, "b", "b:1")
    with tarfile.open(saved(store, tmp_path / "x.tar", "a:1", "b:1")) as tar:
        names = tar.getnames()
        [a, b] = json.load(tar.extractfile("manifest.json"))  # type: ignore[arg-type]
        assert len(names) == len(set(names))
        assert a["Layers"][0] == b["Layers"][0]
        assert a["RepoTags"] == ["a:1"]
        assert tar.extractfile(a["Layers"][1]).read() == layer_tar("a")  # type: ignore[union-attr]


def test_a_missing_image_is_told_before_anything_is_written(store: ImageStore) -> None:
    add(store, "a", "a:1")
    written: list[bytes] = []
    with pytest.raises(NotFound):
        save(store, ["a:1", "b:1"], written.append)
    with pytest.raises(InvalidInput):
        save(store, ["a:1"], written.append, format="zip")
    assert not written
