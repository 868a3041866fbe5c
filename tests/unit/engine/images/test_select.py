from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.errors import InvalidInput
from engine.images.describe import describe, history
from engine.images.select import moment, select
from engine.images.store import ImageStore
from engine.prune import images as prune
from tests.unit.engine.images.test_save import add, open_store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ImageStore]:
    """Three images: `old` and `app`, with labels, and one without a name."""
    made = open_store(tmp_path)
    for name, created, labels, tags in (
        ("old", "2020-01-01T00:00:00Z", {"team": "a"}, ["old:1"]),
        ("app", "2022-01-01T00:00:00Z", {"team": "b", "keep": ""}, ["team/app:1", "team/app:2"]),
        ("nameless", "2024-01-01T00:00:00Z", {}, []),
    ):
        made.add_image({"created": created, "config": {"Cmd": [name], "Labels": labels}}, [], tags)
    yield made
    made.close()


def chosen(store: ImageStore, *filters: str) -> list[str]:
    return [(image.config.cmd or ("",))[0] for image in select(store, filters)]


@pytest.mark.parametrize(
    ("filters", "wanted"),
    [
        ((), ["nameless", "app", "old"]),
        (("dangling=true",), ["nameless"]),
        (("dangling=false",), ["app", "old"]),
        (("label=team",), ["app", "old"]),
        (("label=team=b",), ["app"]),
        (("reference=old",), ["old"]),
        (("reference=team/*",), ["app"]),
        (("reference=*",), ["old"]),
        (("reference=*/*:2",), ["app"]),
        (("before=team/app:1",), ["old"]),
        (("since=old:1",), ["nameless", "app"]),
        (("until=2021-01-01T00:00:00Z",), ["old"]),
        (("reference=old", "reference=team/app"), ["app", "old"]),
        (("label=team", "dangling=true"), []),
    ],
)
def test_filters_choose_as_dockers_do(store: ImageStore, filters: tuple[str, ...], wanted: list[str]) -> None:
    assert chosen(store, *filters) == wanted


@pytest.mark.parametrize("text", ["dangling=perhaps", "colour=red", "until=soon", "label"])
def test_a_filter_that_means_nothing_is_refused(store: ImageStore, text: str) -> None:
    with pytest.raises(InvalidInput):
        select(store, [text])


def test_moments_are_ages_times_or_seconds() -> None:
    assert abs(moment("1h30m") - (time.time() - 5400)) < 5
    assert moment("2024-01-01T00:00:00Z") == 1_704_067_200
    assert moment("1704067200") == 1_704_067_200


def test_pruning_takes_what_has_no_name_and_with_everything_all_that_no_container_uses(store: ImageStore) -> None:
    used = store.resolve("old:1").id
    store.state.execute(
        "INSERT INTO containers (id, name, created_at, image_id, desired, spec, argv, volumes, rootfs)"
        " VALUES ('c', 'c', 0, ?, 'created', '{}', '[]', '{}', '')",
        (used,),
    )
    assert [line.partition(":")[0] for line in prune(store).removed] == ["deleted"]
    assert chosen(store) == ["app", "old"]
    assert not prune(store, everything=True, filters=["label!=keep"]).removed
    assert not prune(store, everything=True, filters=["until=2021-01-01T00:00:00Z"]).removed
    removed = prune(store, everything=True).removed
    assert removed[:2] == ("untagged: team/app:1", "untagged: team/app:2")
    assert chosen(store) == ["old"]


def test_an_image_is_described_as_docker_does(store: ImageStore) -> None:
    image = add(store, "run", "run:1")
    found = describe(store, image)
    assert found["Id"] == image.id
    assert found["RepoTags"] == ["run:1"]
    assert found["Config"]["Cmd"] == ["run"]
    assert found["Config"]["Env"] is None
    assert found["RootFS"] == {"Type": "layers", "Layers": list(image.layers)}
    assert found["Size"] == image.size_bytes


def test_the_history_is_newest_first_and_knows_which_steps_made_layers(store: ImageStore) -> None:
    base = add(store, "base")
    records = [
        {"created": "2024-01-01T00:00:00Z", "created_by": "COPY a"},
        {"created_by": "ENV b", "empty_layer": True},
        {"created_by": "RUN c", "comment": "last"},
    ]
    image = store.add_image({"history": records}, store.layer_refs(base), ["h:1"])
    entries = history(store, image)
    assert [entry.created_by for entry in entries] == ["RUN c", "ENV b", "COPY a"]
    assert [entry.size_bytes > 0 for entry in entries] == [True, False, True]
    assert entries[0].image_id == image.id
    assert entries[0].tags == ("h:1",)


def test_layers_without_a_history_are_shown_all_the_same(store: ImageStore) -> None:
    assert len(history(store, add(store, "bare"))) == 2
