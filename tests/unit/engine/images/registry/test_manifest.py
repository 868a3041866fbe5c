from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import InvalidInput, UmiakError
from engine.images.registry.manifest import OCI_INDEX, OCI_MANIFEST, Platform, choose, read_image, read_manifest

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["mediaType", "schemaVersion", "config", "layers", "manifests", "digest", "size", "platform", "os"]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("linux/arm64", "linux/arm64"),
        ("amd64", "linux/amd64"),
        ("Linux/ARM/v7", "linux/arm/v7"),
        ("aarch64", "linux/arm64"),
    ],
)
def test_platforms_are_read(text: str, shown: str) -> None:
    assert str(Platform.parse(text)) == shown


@pytest.mark.parametrize("text", ["", "linux/", "a/b/c/d", "linux/a b"])
def test_what_is_no_platform(text: str) -> None:
    with pytest.raises(InvalidInput):
        Platform.parse(text)


def best(wanted: str, *offered: str) -> str | None:
    entries = []
    for number, name in enumerate(offered):
        os, architecture, variant = (*name.split("/"), "")[:3]
        platform = {"os": os, "architecture": architecture, "variant": variant}
        entries.append({"mediaType": OCI_MANIFEST, "digest": f"sha256:{number:064x}", "size": 1, "platform": platform})
    data = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).encode()
    try:
        return offered[int(choose(read_manifest(data, OCI_INDEX, None), Platform.parse(wanted)).digest[7:], 16)]
    except UmiakError:
        return None


@pytest.mark.parametrize(
    ("wanted", "offered", "chosen"),
    [
        ("linux/amd64", ("linux/arm64", "linux/amd64"), "linux/amd64"),
        ("linux/arm64", ("linux/arm64/v8",), "linux/arm64/v8"),
        ("linux/arm/v7", ("linux/arm/v5", "linux/arm/v6"), "linux/arm/v6"),
        ("linux/arm/v6", ("linux/arm/v7",), None),
        ("linux/amd64", ("windows/amd64",), None),
        ("linux/amd64", (), None),
    ],
)
def test_the_best_of_an_index_is_chosen(wanted: str, offered: tuple[str, ...], chosen: str | None) -> None:
    assert best(wanted, *offered) == chosen


@given(JSON, st.sampled_from([OCI_MANIFEST, OCI_INDEX, "", "text/html"]))
def test_any_json_is_read_or_refused(document: object, media_type: str) -> None:
    try:
        remote = read_manifest(json.dumps(document).encode(), media_type, None)
        choose(remote, Platform.host()) if remote.is_index else read_image(remote)
    except UmiakError:
        pass
