from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from engine.errors import InvalidInput
from engine.images.build.context import Match, Tree
from engine.images.build.copy import Copier, CopyOptions
from engine.images.build.modes import read_mode

ME = (os.getuid(), os.getgid())


class Place:
    """A source and a root to copy into, both plain directories."""

    def __init__(self, base: Path) -> None:
        self.source, self.root = base / "source", base / "root"
        self.source.mkdir()
        self.root.mkdir()

    def copy(self, path: str, destination: str, *, mode: int | None = None) -> None:
        fds = [os.open(path, os.O_PATH | os.O_DIRECTORY) for path in (self.source, self.root)]
        try:
            source, root = Tree(fds[0]), Tree(fds[1])
            with Copier(root, CopyOptions(ME, mode)) as copier:
                for match in source.matches(path):
                    copier.copy(
                        source, Match(match.name, match.path), destination, into_directory=destination.endswith("/")
                    )
        finally:
            for fd in fds:
                os.close(fd)

    def files(self) -> dict[str, str]:
        """All files of the root with what they hold."""
        return {
            str(path.relative_to(self.root)): path.read_text()
            for path in sorted(self.root.rglob("*"))
            if path.is_file() and not path.is_symlink()
        }


@pytest.fixture
def place(tmp_path: Path) -> Place:
    made = Place(tmp_path)
    (made.source / "d/sub").mkdir(parents=True)
    (made.source / "a").write_text("A")
    (made.source / "d/b").write_text("B")
    (made.source / "d/sub/c").write_text("C")
    return made


@pytest.mark.parametrize(
    ("path", "destination", "files"),
    [
        ("a", "/x", {"x": "A"}),
        ("a", "/x/", {"x/a": "A"}),
        ("a", "/x/y/z", {"x/y/z": "A"}),
        ("d", "/x", {"x/b": "B", "x/sub/c": "C"}),
        ("d", "/x/", {"x/b": "B", "x/sub/c": "C"}),
        ("d/*", "/x/", {"x/b": "B", "x/c": "C"}),
        (".", "/", {"a": "A", "d/b": "B", "d/sub/c": "C"}),
        ("a", "/../../x", {"x": "A"}),
    ],
)
def test_files_and_directories_go_where_docker_puts_them(
    place: Place, path: str, destination: str, files: dict[str, str]
) -> None:
    place.copy(path, destination)
    assert place.files() == files


def test_a_file_goes_into_an_existing_directory(place: Place) -> None:
    (place.root / "x").mkdir()
    place.copy("a", "/x")
    assert place.files() == {"x/a": "A"}


def test_a_file_replaces_a_file_and_a_link(place: Place) -> None:
    (place.root / "x").write_text("old")
    (place.root / "y").mkdir()
    (place.root / "y/a").symlink_to("/x")
    place.copy("a", "/x")
    place.copy("a", "/y/")
    assert place.files() == {"x": "A", "y/a": "A"}


def test_a_directory_is_merged_into_what_is_there(place: Place) -> None:
    (place.root / "x/sub").mkdir(parents=True)
    (place.root / "x/sub/kept").write_text("K")
    place.copy("d", "/x")
    assert place.files() == {"x/b": "B", "x/sub/c": "C", "x/sub/kept": "K"}


def test_a_directory_that_exists_keeps_its_mode_and_those_below_take_the_source_s(place: Place) -> None:
    (place.source / "d").chmod(0o711)
    (place.source / "d/sub").chmod(0o750)
    (place.root / "x").mkdir(mode=0o700)
    place.copy("d", "/x")
    place.copy("d", "/new")
    modes = {name: stat.S_IMODE((place.root / name).stat().st_mode) for name in ("x", "x/sub", "new", "new/sub")}
    assert modes == {"x": 0o700, "x/sub": 0o750, "new": 0o755, "new/sub": 0o750}


def test_mode_applies_to_files_and_directories_that_are_copied(place: Place) -> None:
    place.copy("d", "/x", mode=read_mode("700"))
    assert {stat.S_IMODE(path.stat().st_mode) for path in (place.root / "x").rglob("*")} == {0o700}
    assert stat.S_IMODE((place.root / "x").stat().st_mode) == 0o755


def test_modes_and_times_are_kept(place: Place) -> None:
    (place.source / "d/b").chmod(0o4751)
    os.utime(place.source / "d/b", (1000, 2000))
    os.utime(place.source / "d/sub", (1000, 3000))
    place.copy("d", "/x")
    found = (place.root / "x/b").stat()
    assert (stat.S_IMODE(found.st_mode), found.st_mtime) == (0o4751, 2000)
    assert (place.root / "x/sub").stat().st_mtime == 3000


def test_links_are_copied_as_links_but_a_source_that_is_one_is_followed(place: Place) -> None:
    (place.source / "d/link").symlink_to("/etc/passwd")
    (place.source / "to-a").symlink_to("a")
    place.copy("d", "/x")
    place.copy("to-a", "/y/")
    assert os.readlink(place.root / "x/link") == "/etc/passwd"
    assert place.files()["y/to-a"] == "A"


def test_hard_links_stay_hard_links(place: Place) -> None:
    os.link(place.source / "d/b", place.source / "d/sub/b2")
    place.copy("d", "/x")
    assert (place.root / "x/b").stat().st_ino == (place.root / "x/sub/b2").stat().st_ino


def test_a_link_in_the_destination_leads_no_further_than_the_root(place: Place, tmp_path: Path) -> None:
    (place.root / "abs").symlink_to("/inside")
    (place.root / "up").symlink_to("../../../../outside")
    (place.root / "host").symlink_to(tmp_path)
    for name in ("abs", "up", "host"):
        place.copy("a", f"/{name}/")
    assert sorted(place.files()) == sorted(["inside/a", "outside/a", f"{str(tmp_path)[1:]}/a"])
    assert not (tmp_path / "a").exists()


def test_a_link_below_the_destination_is_not_followed(place: Place, tmp_path: Path) -> None:
    (place.root / "x").mkdir()
    (place.root / "x/sub").symlink_to(tmp_path)
    with pytest.raises(InvalidInput, match="cannot copy a directory over /x/sub, which is not a directory"):
        place.copy("d", "/x")
    assert not (tmp_path / "c").exists()


def test_a_file_does_not_replace_a_directory(place: Place) -> None:
    (place.root / "x/a").mkdir(parents=True)
    with pytest.raises(InvalidInput, match="cannot copy a file over the directory /x/a"):
        place.copy("a", "/x/")


def test_a_file_in_the_way_of_a_directory_is_told(place: Place) -> None:
    (place.root / "x").write_text("")
    with pytest.raises(InvalidInput, match="/x is in the image, and it is not a directory"):
        place.copy("d", "/x/y")


def test_extended_attributes_are_kept(place: Place) -> None:
    try:
        os.setxattr(place.source / "d/b", "user.note", b"n")
    except OSError:
        pytest.skip("this file system has no extended attributes")
    place.copy("d", "/x")
    assert os.getxattr(place.root / "x/b", "user.note") == b"n"


def test_a_text_becomes_a_file(place: Place) -> None:
    fd = os.open(place.root, os.O_PATH | os.O_DIRECTORY)
    with Copier(Tree(fd), CopyOptions(ME)) as copier:
        copier.write_file(b"text", "/x/", "name", into_directory=True)
        copier.write_file(b"text", "/y", "name", into_directory=False)
    os.close(fd)
    assert place.files() == {"x/name": "text", "y": "text"}
    assert stat.S_IMODE((place.root / "y").stat().st_mode) == 0o644
