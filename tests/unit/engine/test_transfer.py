"""Copying between trees: where things land, what is kept, and that no link leads out of a tree."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from engine.errors import InvalidInput, NotFound
from engine.transfer import Tree, copy, pack

OWN = (os.geteuid(), os.getegid())


def tree(path: Path) -> Tree:
    return Tree({"/": os.open(path, os.O_PATH | os.O_DIRECTORY)})


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A directory `site` with a file, two links and a name of two, in a tree of its own."""
    top = tmp_path / "source"
    (top / "site/deep").mkdir(parents=True)
    (top / "site/index").write_text("index")
    (top / "site/index").chmod(0o640)
    (top / "site/deep/link").symlink_to("../index")
    os.link(top / "site/index", top / "site/twice")
    return top


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "target/there").mkdir(parents=True)
    return tmp_path / "target"


def moved(source: Path, path: str, target: Path, destination: str, *, follow: bool = False) -> None:
    with tree(source) as one, tree(target) as other:
        copy(one, path, other, destination, follow=follow, owner=OWN)


def test_a_directory_goes_into_one_that_is_there_or_becomes_the_one_named(source: Path, target: Path) -> None:
    moved(source, "/site", target, "/there")
    moved(source, "/site", target, "/named")
    moved(source, "/site/.", target, "/there")
    for place in ("there/site", "named", "there"):
        assert (target / place / "index").read_text() == "index"
    assert os.readlink(target / "named/deep/link") == "../index"
    assert (target / "named/index").stat().st_mode & 0o777 == 0o640
    assert (target / "named/index").samefile(target / "named/twice")


def test_a_file_goes_into_a_directory_or_takes_the_name_given(source: Path, target: Path) -> None:
    moved(source, "/site/index", target, "/there")
    moved(source, "/site/index", target, "/there/other")
    moved(source, "/site/deep/link", target, "/followed", follow=True)
    assert [(target / name).read_text() for name in ("there/index", "there/other", "followed")] == ["index"] * 3


@pytest.mark.parametrize(
    ("path", "destination", "error"),
    [
        ("/nothing", "/there", NotFound),
        ("/site/index", "/no/such", NotFound),
        ("/site/index", "/nothing/", NotFound),
        ("/site", "/file", InvalidInput),
    ],
)
def test_what_has_no_place_is_refused(
    source: Path, target: Path, path: str, destination: str, error: type[Exception]
) -> None:
    (target / "file").write_text("stays")
    with pytest.raises(error):
        moved(source, path, target, destination)
    assert (target / "file").read_text() == "stays"


def test_links_lead_nowhere_outside_the_tree(source: Path, target: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (target / "out").symlink_to(f"{'../' * 20}{tmp_path}/outside")
    with pytest.raises((NotFound, InvalidInput)):
        moved(source, "/site/index", target, "/out/index")
    (source / "secret").symlink_to("/etc/hostname")
    with pytest.raises(NotFound):
        moved(source, "/secret", target, "/there", follow=True)
    assert list((tmp_path / "outside").iterdir()) == []


def test_a_pack_is_a_tar(source: Path) -> None:
    with tree(source) as one:
        archive = b"".join(pack(one, "/site", "renamed"))
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        assert sorted(tar.getnames()) == [
            "renamed",
            "renamed/deep",
            "renamed/deep/link",
            "renamed/index",
            "renamed/twice",
        ]
        assert tar.getmember("renamed/twice").islnk() or tar.getmember("renamed/index").islnk()
