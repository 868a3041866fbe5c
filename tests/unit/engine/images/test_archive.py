from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.errors import InvalidInput, NotFound, UmiakError, Unsupported
from engine.images.archive import import_rootfs, load
from engine.images.config import host_architecture
from engine.images.store import ImageStore
from engine.paths import Paths
from engine.state import State

Files = dict[str, bytes]


def to_tar(files: Files, links: dict[str, str] | None = None) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        for name, target in (links or {}).items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            tar.addfile(info)
    return buffer.getvalue()


LAYER_ONE, LAYER_TWO = to_tar({"one": b"1"}), to_tar({"two": b"2"})


def hex_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def config_of(*layers: bytes) -> bytes:
    rootfs = {"type": "layers", "diff_ids": [f"sha256:{hex_of(layer)}" for layer in layers]}
    document = {
        "architecture": host_architecture(),
        "os": "linux",
        "created": "2024-01-02T03:04:05.678Z",
        "rootfs": rootfs,
    }
    return json.dumps({**document, "config": {"Cmd": ["sh"], "Env": ["A=b"]}}).encode()


def docker_save(config: bytes | None = None) -> Files:
    """The layout of `docker save` before version 25, with the manifest last."""
    config = config or config_of(LAYER_ONE, LAYER_TWO)
    manifest = [
        {
            "Config": f"{hex_of(config)}.json",
            "RepoTags": ["app:1", "docker.io/u/app:2"],
            "Layers": ["1/layer.tar", "2/layer.tar"],
        }
    ]
    return {
        "1/layer.tar": LAYER_ONE,
        "1/VERSION": b"1.0",
        "2/layer.tar": LAYER_TWO,
        f"{hex_of(config)}.json": config,
        "manifest.json": json.dumps(manifest).encode(),
    }


def oci_layout(
    *, compress: Callable[[bytes], bytes] = lambda data: data, kind: str = "", name: str = "docker.io/library/app:1"
) -> Files:
    config = config_of(LAYER_ONE, LAYER_TWO)
    layers = [compress(layer) for layer in (LAYER_ONE, LAYER_TWO)]
    layer_type = "application/vnd.oci.image.layer.v1.tar" + kind
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "config": {"digest": f"sha256:{hex_of(config)}", "size": len(config)},
            "layers": [
                {"mediaType": layer_type, "digest": f"sha256:{hex_of(data)}", "size": len(data)} for data in layers
            ],
        }
    ).encode()
    platform = {"architecture": host_architecture(), "os": "linux"}
    other = {
        "mediaType": MANIFEST,
        "digest": "sha256:" + "1" * 64,
        "platform": {"architecture": "unknown", "os": "unknown"},
    }
    inner = json.dumps(
        {"manifests": [other, {"mediaType": MANIFEST, "digest": f"sha256:{hex_of(manifest)}", "platform": platform}]}
    ).encode()
    index = {
        "manifests": [
            {
                "mediaType": INDEX,
                "digest": f"sha256:{hex_of(inner)}",
                "annotations": {"org.opencontainers.image.ref.name": name},
            }
        ]
    }
    files = {f"blobs/sha256/{hex_of(data)}": data for data in (config, manifest, inner, *layers)}
    return {**files, "oci-layout": b'{"imageLayoutVersion": "1.0.0"}', "index.json": json.dumps(index).encode()}


MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ImageStore]:
    paths = Paths(str(tmp_path / "root"), str(tmp_path / "run"))
    made = ImageStore(paths, State(paths.database))
    yield made
    made.close()


def write(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    return str(path)


def check(store: ImageStore) -> None:
    image = store.resolve("app:1")
    assert image.id == f"sha256:{hex_of(config_of(LAYER_ONE, LAYER_TWO))}"
    assert [os.listdir(directory) for directory in store.layer_dirs(image)] == [["one"], ["two"]]
    assert (image.config.cmd, image.config.env, image.created_at) == (("sh",), ("A=b",), 1704164645.678)


@pytest.mark.parametrize(
    "compress", [lambda data: data, gzip.compress, zstandard.ZstdCompressor().compress], ids=["plain", "gzip", "zstd"]
)
def test_a_docker_save_tar_is_loaded(store: ImageStore, tmp_path: Path, compress: Callable[[bytes], bytes]) -> None:
    [image] = load(store, write(tmp_path / "a.tar", compress(to_tar(docker_save()))))
    assert image.tags == ("app:1", "u/app:2")
    check(store)


@pytest.mark.parametrize(
    ("compress", "kind"),
    [(lambda data: data, ""), (gzip.compress, "+gzip"), (zstandard.ZstdCompressor().compress, "+zstd")],
    ids=["plain", "gzip", "zstd"],
)
def test_an_oci_layout_is_loaded_as_tar_and_as_folder(
    store: ImageStore, tmp_path: Path, compress: Callable[[bytes], bytes], kind: str
) -> None:
    files = oci_layout(compress=compress, kind=kind)
    load(store, write(tmp_path / "a.tar", to_tar(files)))
    check(store)
    store.remove("app:1")
    for name, data in files.items():
        (tmp_path / "folder" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "folder" / name).write_bytes(data)
    load(store, str(tmp_path / "folder"))
    check(store)


def test_an_archive_with_both_layouts_takes_its_names_from_dockers(store: ImageStore, tmp_path: Path) -> None:
    files = oci_layout(name="latest")
    config = config_of(LAYER_ONE, LAYER_TWO)
    layers = [f"blobs/sha256/{hex_of(layer)}" for layer in (LAYER_ONE, LAYER_TWO)]
    manifest = [{"Config": f"blobs/sha256/{hex_of(config)}", "RepoTags": ["app:1"], "Layers": layers}]
    load(store, write(tmp_path / "a.tar", to_tar({**files, "manifest.json": json.dumps(manifest).encode()})))
    check(store)


def test_a_layer_that_is_a_link_to_another_is_followed(store: ImageStore, tmp_path: Path) -> None:
    config = config_of(LAYER_ONE, LAYER_ONE)
    files = docker_save(config)
    del files["2/layer.tar"]
    [image] = load(store, write(tmp_path / "a.tar", to_tar(files, {"2/layer.tar": "../1/layer.tar"})))
    assert len(image.layers) == 2


def test_an_image_without_a_full_name_is_loaded_untagged(store: ImageStore, tmp_path: Path) -> None:
    [image] = load(store, write(tmp_path / "a.tar", to_tar(oci_layout(name="latest"))))
    assert image.tags == ()


def test_loading_twice_changes_nothing_and_reads_no_layer_again(store: ImageStore, tmp_path: Path) -> None:
    path = write(tmp_path / "a.tar", to_tar(docker_save()))
    load(store, path)
    inode = os.stat(store.layer_dir(store.resolve("app:1").layers[0])).st_ino
    blobs = set(store.blobs.all())
    load(store, path)
    assert set(store.blobs.all()) == blobs
    assert os.stat(store.layer_dir(store.resolve("app:1").layers[0])).st_ino == inode


def test_standard_input_is_read_from_a_pipe(tmp_path: Path) -> None:
    script = (
        "import sys; from engine.images.archive import load; from engine.images.store import ImageStore;"
        "from engine.paths import Paths; from engine.state import State; p = Paths(sys.argv[1], sys.argv[1]);"
        "print(load(ImageStore(p, State(p.database)), '-')[0].tags[0])"
    )
    data = gzip.compress(to_tar(docker_save()))
    result = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "s")], input=data, capture_output=True, check=True
    )
    assert result.stdout == b"app:1\n"


def broken(**changes: bytes | None) -> Files:
    files = {**docker_save(), **{k: v for k, v in changes.items() if v is not None}}
    return {name: data for name, data in files.items() if name not in changes or changes[name] is not None}


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({"a": b"b"}, "is not an image archive"),
        (broken(**{"manifest.json": b"["}), "not valid JSON"),
        (broken(**{"manifest.json": b"{}"}), "not a list"),
        (broken(**{"manifest.json": b'[{"Config": 1}]'}), "lacks the image configuration"),
        (broken(**{"2/layer.tar": None}), "lacks the layer"),
        (broken(**{"2/layer.tar": LAYER_ONE}), "does not match its digest"),
        (broken(**{"2/layer.tar": LAYER_TWO[:700]}), "cut off"),
        (
            broken(**{f"{hex_of(config_of(LAYER_ONE, LAYER_TWO))}.json": config_of(LAYER_ONE)}),
            "does not match its digest",
        ),
    ],
)
def test_a_broken_docker_archive_is_one_clear_error_and_leaves_nothing(
    store: ImageStore, tmp_path: Path, files: Files, told: str
) -> None:
    with pytest.raises(InvalidInput, match=told):
        load(store, write(tmp_path / "a.tar", to_tar(files)))
    assert store.all() == []
    store.close()
    store.collect_garbage()
    assert list(store.blobs.all()) == []
    assert [name for name in os.listdir(store.layers.directory) if name != ".lock"] == []


def test_another_platforms_image_is_refused(store: ImageStore, tmp_path: Path) -> None:
    files = oci_layout()
    index = {
        "manifests": [
            {"mediaType": MANIFEST, "digest": "sha256:" + "1" * 64, "platform": {"architecture": "mips", "os": "linux"}}
        ]
    }
    with pytest.raises(Unsupported, match="no image for linux/"):
        load(store, write(tmp_path / "a.tar", to_tar({**files, "index.json": json.dumps(index).encode()})))


def test_a_folder_cannot_name_files_outside_of_it(store: ImageStore, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(config_of())
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in ("../secret", str(tmp_path / "secret"), "link"):
        (folder / "manifest.json").write_text(json.dumps([{"Config": name, "Layers": []}]))
        if not (folder / "link").is_symlink():
            (folder / "link").symlink_to("../secret")
        with pytest.raises(InvalidInput):
            load(store, str(folder))


def test_a_missing_file_is_told(store: ImageStore, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no such file"):
        load(store, str(tmp_path / "none.tar"))


def test_a_root_file_system_becomes_an_image_with_the_changes_asked_for(store: ImageStore, tmp_path: Path) -> None:
    path = write(tmp_path / "rootfs.tar.gz", gzip.compress(LAYER_ONE))
    changes = [
        'CMD ["sh", "-l"]',
        "ENV A=b C='d e'",
        "ENV OLD old form",
        "EXPOSE 80 53/udp",
        "LABEL a=b",
        "USER 1:2",
        "WORKDIR /w",
        "VOLUME /data",
        "STOPSIGNAL INT",
        "entrypoint tini --",
    ]
    image = import_rootfs(store, path, "base:1", changes)
    config = image.config
    assert (config.cmd, config.entrypoint) == (("sh", "-l"), ("/bin/sh", "-c", "tini --"))
    assert config.env == ("A=b", "C=d e", "OLD=old form")
    assert (config.exposed_ports, config.volumes, config.labels) == (("80/tcp", "53/udp"), ("/data",), {"a": "b"})
    assert (config.user, config.working_dir, config.stop_signal) == ("1:2", "/w", "INT")
    assert os.listdir(store.layer_dirs(image)[0]) == ["one"]


def test_a_root_file_system_may_be_of_another_platform_and_have_no_name(store: ImageStore, tmp_path: Path) -> None:
    path = write(tmp_path / "a.tar", LAYER_ONE)
    image = import_rootfs(store, path, None, message="from the board", platform="linux/arm/v7")
    document = store.config_json(image.id)
    assert (image.tags, document["architecture"], document["variant"]) == ((), "arm", "v7")
    assert document["history"][0]["comment"] == "from the board"
    with pytest.raises(InvalidInput, match="as a platform"):
        import_rootfs(store, path, None, platform="a/b/c/d")


@pytest.mark.parametrize("change", ["RUN ls", "CMD", "EXPOSE x", "ENV a=b c", "LABEL 'x"])
def test_a_change_that_cannot_be_applied_is_named(store: ImageStore, tmp_path: Path, change: str) -> None:
    with pytest.raises(InvalidInput, match="cannot apply"):
        import_rootfs(store, write(tmp_path / "a.tar", LAYER_ONE), "base:1", [change])
    assert store.all() == []


def test_something_else_than_a_tar_is_refused(store: ImageStore, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="not a tar archive"):
        import_rootfs(store, write(tmp_path / "a.tar", b"hello " * 200), "base:1")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "Config",
                    "Layers",
                    "RepoTags",
                    "manifests",
                    "digest",
                    "mediaType",
                    "platform",
                    "config",
                    "layers",
                    "annotations",
                    "rootfs",
                    "diff_ids",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(["manifest.json", "index.json"]), json_values)
def test_any_json_in_an_archive_gives_our_own_error(
    store: ImageStore, tmp_path: Path, name: str, value: object
) -> None:
    path = write(tmp_path / "a.tar", to_tar({name: json.dumps(value).encode()}))
    try:
        assert load(store, path) == []
    except UmiakError:
        pass
