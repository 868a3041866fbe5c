from __future__ import annotations

import gzip
import hashlib
import io
import json
import multiprocessing
import os
import signal
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.errors import Conflict, InvalidInput, NotFound
from engine.images.store import ImageStore, LayerRef
from engine.paths import Paths
from engine.state import State


def layer_tar(name: str = "file", data: bytes = b"content") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        info = tarfile.TarInfo(name)
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def add(store: ImageStore, data: bytes) -> LayerRef:
    return store.add_layer(io.BytesIO(data))


def blobs(store: ImageStore) -> set[str]:
    return set(store.blobs.all())


def open_store(base: Path) -> ImageStore:
    paths = Paths(str(base / "root"), str(base / "run"))
    return ImageStore(paths, State(paths.database))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ImageStore]:
    made = open_store(tmp_path)
    yield made
    made.close()


def test_a_layer_is_hashed_stored_and_extracted_in_one_go(store: ImageStore) -> None:
    plain = layer_tar()
    packed = gzip.compress(plain)
    layer = add(store, packed)
    assert layer.diff_id == f"sha256:{hashlib.sha256(plain).hexdigest()}"
    assert layer.blob == f"sha256:{hashlib.sha256(packed).hexdigest()}"
    assert layer.size_bytes == len(plain)
    assert Path(store.layer_dir(layer.diff_id), "file").read_bytes() == b"content"
    assert Path(store.blobs.path(layer.blob)).read_bytes() == packed


def test_an_image_is_found_by_tag_by_id_and_by_the_beginning_of_its_id(store: ImageStore) -> None:
    image = store.add_image({"config": {"Cmd": ["sh"]}}, [add(store, layer_tar())], ["app:1"])
    for reference in ("app:1", "docker.io/library/app:1", image.id, image.id[7:19], image.id[:15]):
        assert store.resolve(reference) == image
    assert image.config.cmd == ("sh",)
    assert image.size_bytes == len(layer_tar())
    assert store.config_json(image.id)["rootfs"]["diff_ids"] == list(image.layers)


def test_the_manifests_digest_names_the_image_too(store: ImageStore, tmp_path: Path) -> None:
    image = store.add_image({}, [add(store, layer_tar())], ["app:1"])
    [entry] = json.loads((tmp_path / "root/images/index.json").read_text())["manifests"]
    assert store.resolve(f"app@{entry['digest']}").id == image.id


def test_the_store_is_a_valid_oci_layout(store: ImageStore, tmp_path: Path) -> None:
    store.add_image({}, [add(store, gzip.compress(layer_tar()))], ["app:1", "app:2"])
    layout = tmp_path / "root" / "images"
    assert json.loads((layout / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
    index = json.loads((layout / "index.json").read_text())
    assert [m["annotations"]["org.opencontainers.image.ref.name"] for m in index["manifests"]] == ["app:1", "app:2"]
    manifest = json.loads(check_blob(layout, index["manifests"][0]))
    config = json.loads(check_blob(layout, manifest["config"]))
    [layer] = manifest["layers"]
    assert layer["mediaType"] == "application/vnd.oci.image.layer.v1.tar+gzip"
    check_blob(layout, layer)
    assert len(config["rootfs"]["diff_ids"]) == 1


def check_blob(layout: Path, descriptor: dict[str, object]) -> bytes:
    digest = str(descriptor["digest"]).removeprefix("sha256:")
    data = (layout / "blobs" / "sha256" / digest).read_bytes()
    assert hashlib.sha256(data).hexdigest() == digest
    assert len(data) == descriptor["size"]
    return data


def test_a_layer_that_two_images_share_is_kept_once_and_until_the_last_goes(store: ImageStore) -> None:
    shared, own = add(store, layer_tar()), add(store, layer_tar("other"))
    store.add_image({}, [shared], ["one"])
    store.add_image({}, [shared, own], ["two"])
    store.remove("two")
    assert store.layers.has(shared.diff_id)
    assert not store.layers.has(own.diff_id)
    assert own.blob not in blobs(store)
    store.remove("one")
    assert blobs(store) == set()
    assert list(store.layers.all()) == []


def test_removing_one_of_several_names_keeps_the_image(store: ImageStore) -> None:
    image = store.add_image({}, [add(store, layer_tar())], ["a:1", "b:1"])
    assert store.remove("a:1") == ["untagged: a:1"]
    assert store.resolve("b:1").id == image.id
    assert store.remove("b:1") == ["untagged: b:1", f"deleted: {image.id}"]
    assert store.all() == []


def test_removing_by_id_wants_force_where_there_are_several_names(store: ImageStore) -> None:
    image = store.add_image({}, [add(store, layer_tar())], ["a:1", "b:1"])
    with pytest.raises(Conflict, match="several names: a:1, b:1"):
        store.remove(image.id)
    store.remove(image.id, force=True)
    assert store.all() == []


def test_an_image_that_a_container_uses_is_not_removed(store: ImageStore) -> None:
    image = store.add_image({}, [add(store, layer_tar())], ["a:1"])
    insert = (
        "INSERT INTO containers (id, name, created_at, image_id, desired, spec, argv, volumes, rootfs)"
        " VALUES (?, ?, 0, ?, 'created', '', '', '', '')"
    )
    store.state.execute(insert, ("c1", "web-1", image.id))
    with pytest.raises(Conflict, match="cannot remove image a:1: used by container web-1"):
        store.remove("a:1")
    assert store.remove("a:1", force=True) == ["untagged: a:1"]
    assert store.layers.has(image.layers[0])
    with pytest.raises(Conflict):
        store.remove(image.id, force=True)
    store.state.execute("DELETE FROM containers")
    assert store.remove(image.id) == [f"deleted: {image.id}"]


def test_a_tag_moves_to_the_newer_image(store: ImageStore) -> None:
    old = store.add_image({}, [add(store, layer_tar("old"))], ["app"])
    new = store.add_image({}, [add(store, layer_tar("new"))], ["app"])
    assert store.resolve("app").id == new.id
    assert store.resolve(old.id).tags == ()


def test_a_missing_image_is_named_with_a_hint(store: ImageStore) -> None:
    store.add_image({}, [add(store, layer_tar())], ["redis:7"])
    with pytest.raises(NotFound) as typo:
        store.resolve("redsi:7")
    assert (typo.value.message, typo.value.hint) == ('no image "redsi:7"', "did you mean 'redis:7'?")
    with pytest.raises(NotFound) as debian:
        store.resolve("debian:bookworm-slim")
    assert debian.value.hint == "make it with `umiak image bootstrap debian:bookworm-slim`"
    with pytest.raises(NotFound) as other:
        store.resolve("foo:1")
    assert other.value.message == 'no image "foo:1"'
    assert "umiak build" in str(other.value.hint)
    assert "umiak image load" in str(other.value.hint)


def test_content_that_does_not_match_its_digest_is_refused_and_nothing_is_kept(store: ImageStore) -> None:
    wrong = "sha256:" + "0" * 64
    for expected in ({"diff_id": wrong}, {"blob": wrong}):
        with pytest.raises(InvalidInput, match="does not match"):
            store.add_layer(io.BytesIO(layer_tar()), **expected)
    assert blobs(store) == set()
    assert list(store.layers.all()) == []
    assert not any(name.startswith(".new") for name in os.listdir(store.layers.directory))
    assert os.listdir(store.blobs.ingest) == []


def test_layers_that_the_configuration_does_not_list_are_refused(store: ImageStore) -> None:
    config = json.dumps({"rootfs": {"type": "layers", "diff_ids": []}}).encode()
    with pytest.raises(InvalidInput, match="not those"):
        store.add_image_bytes(config, [add(store, layer_tar())])


@pytest.mark.parametrize(
    "config", [{"Env": "A=b"}, {"Cmd": [1]}, {"User": 3}, {"Healthcheck": {"Interval": "1s"}}, {"Labels": []}]
)
def test_a_configuration_of_wrong_types_is_refused(store: ImageStore, config: dict[str, object]) -> None:
    with pytest.raises(InvalidInput, match="the image configuration's"):
        store.add_image({"config": config}, [], ["a"])
    assert store.all() == []


def test_an_extracted_layer_that_is_lost_is_extracted_again_from_its_blob(store: ImageStore) -> None:
    image = store.add_image({}, [add(store, gzip.compress(layer_tar()))], ["a"])
    store.layers.trash(image.layers[0])
    [directory] = store.layer_dirs(image)
    assert Path(directory, "file").read_bytes() == b"content"


def test_a_damaged_blob_is_noticed_when_it_is_extracted(store: ImageStore) -> None:
    layer = add(store, layer_tar())
    image = store.add_image({}, [layer], ["a"])
    store.layers.trash(layer.diff_id)
    Path(store.blobs.path(layer.blob)).write_bytes(layer_tar("changed"))
    with pytest.raises(InvalidInput, match="damaged"):
        store.layer_dirs(image)
    assert not store.layers.has(layer.diff_id)
    store.remove("a")


def test_collection_leaves_what_a_running_command_has_added(store: ImageStore, tmp_path: Path) -> None:
    layer = add(store, layer_tar())
    other = open_store(tmp_path)
    other.collect_garbage()
    image = store.add_image({}, [layer], ["a"])
    assert Path(other.layer_dirs(image)[0], "file").exists()


def test_collection_takes_what_an_ended_command_left(store: ImageStore, tmp_path: Path) -> None:
    other = open_store(tmp_path)
    layer = add(other, layer_tar())
    other.close()
    store.collect_garbage()
    assert not store.layers.has(layer.diff_id)
    assert blobs(store) == set()


def add_slowly(base: Path, started: multiprocessing.synchronize.Event) -> None:
    class Slow(io.RawIOBase):
        def __init__(self) -> None:
            self._data = layer_tar(data=b"x" * 100_000)[:50_000]

        def read(self, size: int = -1, /) -> bytes:
            if not self._data:
                started.set()
                time.sleep(60)
            taken, self._data = self._data, b""
            return taken

    open_store(base).add_layer(Slow())


def test_a_command_killed_in_the_middle_leaves_nothing_after_the_next_collection(
    store: ImageStore, tmp_path: Path
) -> None:
    context = multiprocessing.get_context("spawn")
    started = context.Event()
    process = context.Process(target=add_slowly, args=(tmp_path, started))
    process.start()
    assert started.wait(20)
    store.prepare()
    store.collect_garbage()
    assert len(os.listdir(store.blobs.ingest)) == 1, "a living command keeps its temporary files"
    os.kill(process.pid or 0, signal.SIGKILL)
    process.join()
    store.collect_garbage()
    assert os.listdir(store.blobs.ingest) == []
    assert [name for name in os.listdir(store.layers.directory) if name != ".lock"] == []
    assert os.listdir(os.path.join(store.paths.images, "leases")) == []


def test_scratch_is_gone_after_its_block(store: ImageStore) -> None:
    with store.scratch() as directory:
        Path(directory, "x").touch()
        assert directory.startswith(store.paths.layers)
    assert not os.path.exists(directory)


def test_the_next_command_that_adds_something_clears_up_after_a_killed_one(store: ImageStore, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    started = context.Event()
    process = context.Process(target=add_slowly, args=(tmp_path, started))
    process.start()
    assert started.wait(20)
    os.kill(process.pid or 0, signal.SIGKILL)
    process.join()
    add(store, layer_tar())
    assert os.listdir(store.blobs.ingest) == []
    assert not any(name.startswith(".new") for name in os.listdir(store.layers.directory))


@pytest.mark.parametrize("text", ["a\0b", "\ud800"])
def test_text_that_no_process_could_be_given_is_refused(store: ImageStore, text: str) -> None:
    config = json.dumps({"config": {"Env": [f"A={text}"]}, "rootfs": {"diff_ids": []}}).encode()
    with pytest.raises(InvalidInput, match="Env is not a list of strings"):
        store.add_image_bytes(config, [])


def marker(store: ImageStore, layer: LayerRef) -> Path:
    return Path(store.layer_dir(layer.diff_id)).with_name("unsettled")


def test_a_layer_that_a_power_cut_may_have_emptied_is_extracted_again(store: ImageStore, tmp_path: Path) -> None:
    layer = add(store, layer_tar())
    image = store.add_image({}, [layer], ["app:1"])
    file = Path(store.layer_dir(layer.diff_id), "file")
    file.write_bytes(b"")
    marker(store, layer).write_text("an earlier boot")
    assert not store.layers.has(layer.diff_id)
    [directory] = open_store(tmp_path).layer_dirs(image)
    assert Path(directory, "file").read_bytes() == b"content"
    store.close()
    store.collect_garbage()
    assert not [name for name in os.listdir(store.layers.directory) if name.startswith(".old")]


def test_loading_again_replaces_a_layer_that_a_power_cut_may_have_emptied(store: ImageStore) -> None:
    layer = add(store, layer_tar())
    store.add_image({}, [layer], ["app:1"])
    Path(store.layer_dir(layer.diff_id), "file").write_bytes(b"")
    marker(store, layer).write_text("")
    assert store.find_layer(layer.diff_id) is None
    again = store.add_layer(io.BytesIO(layer_tar()), diff_id=layer.diff_id)
    assert Path(store.layer_dir(again.diff_id), "file").read_bytes() == b"content"


def test_a_layer_is_settled_once_it_is_surely_written_out(store: ImageStore) -> None:
    layer = add(store, layer_tar())
    path = marker(store, layer)
    store.layers.settle()
    assert path.exists()
    os.utime(path, (0, 0))
    assert store.layers.unsettled() == [layer.diff_id]
    store.layers.settle()
    assert not path.exists()
    assert store.layers.has(layer.diff_id)
