from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from engine.errors import Conflict, InvalidInput, NotFound
from engine.images.build.context import Context, Match, open_context


@contextmanager
def context(directory: Path, dockerfile: Path | None = None) -> Iterator[Context]:
    opened = open_context(str(directory), str(dockerfile) if dockerfile else None)
    try:
        yield opened
    finally:
        opened.close()


def digest(directory: Path, path: str = "") -> str:
    with context(directory) as opened:
        return opened.digest(path)


def fill(directory: Path, *paths: str) -> None:
    for path in paths:
        (directory / path).parent.mkdir(parents=True, exist_ok=True)
        (directory / path).write_text(path)


def test_a_walk_gives_parents_first_and_names_sorted(tmp_path: Path) -> None:
    fill(tmp_path, "b/z", "b/a/y", "a")
    with context(tmp_path) as opened:
        assert [entry.path for entry in opened.walk("")] == ["", "a", "b", "b/a", "b/a/y", "b/z"]


def test_a_walk_leaves_out_what_is_ignored(tmp_path: Path) -> None:
    fill(tmp_path, "a/x", "a/y.md", "b/z")
    (tmp_path / ".dockerignore").write_text("b\n**/*.md\n.dockerignore\n")
    with context(tmp_path) as opened:
        assert [entry.path for entry in opened.walk("")] == ["", "a", "a/x"]


def test_an_ignored_directory_is_shown_for_what_is_taken_back_in_it(tmp_path: Path) -> None:
    fill(tmp_path, "a/b/c", "a/b/d", "a/e")
    (tmp_path / ".dockerignore").write_text("*\n!a/b/c\n")
    with context(tmp_path) as opened:
        assert [entry.path for entry in opened.walk("")] == ["", "a", "a/b", "a/b/c"]


def test_a_dockerfile_may_have_its_own_ignore_file(tmp_path: Path) -> None:
    fill(tmp_path, "a", "b", "Dockerfile.dev")
    (tmp_path / ".dockerignore").write_text("a")
    (tmp_path / "Dockerfile.dev.dockerignore").write_text("b")
    with context(tmp_path, tmp_path / "Dockerfile.dev") as opened:
        assert opened.rules.ignores("b")
        assert not opened.rules.ignores("a")


def test_sockets_and_pipes_are_no_part_of_a_context(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with context(tmp_path) as opened:
        assert [entry.path for entry in opened.walk("")] == [""]


def test_the_digest_does_not_depend_on_times(tmp_path: Path) -> None:
    fill(tmp_path, "a/b")
    before = digest(tmp_path)
    os.utime(tmp_path / "a/b", (1, 1))
    assert digest(tmp_path) == before


@pytest.mark.parametrize(
    "change",
    [
        lambda path: (path / "a/b").write_text("c"),
        lambda path: (path / "a/b").chmod(0o755),
        lambda path: (path / "a/b").rename(path / "a/c"),
        lambda path: (path / "a/c").mkdir(),
        lambda path: (path / "a").chmod(0o700),
        lambda path: ((path / "a/b").unlink(), (path / "a/b").symlink_to("a/b")),
        lambda path: (path / "l").unlink() or (path / "l").symlink_to("b"),
    ],
    ids=["content", "mode", "name", "new directory", "directory mode", "type", "link target"],
)
def test_the_digest_depends_on_everything_else(tmp_path: Path, change: object) -> None:
    fill(tmp_path, "a/b")
    (tmp_path / "l").symlink_to("a")
    before = digest(tmp_path)
    assert callable(change)
    change(tmp_path)
    assert digest(tmp_path) != before


def test_a_change_of_what_is_ignored_does_not_change_the_digest(tmp_path: Path) -> None:
    fill(tmp_path, "a", "log")
    (tmp_path / ".dockerignore").write_text("log")
    before = digest(tmp_path)
    (tmp_path / "log").write_text("more")
    assert digest(tmp_path) == before


@pytest.mark.parametrize(
    ("pattern", "matches"),
    [
        ("a.py", [Match("a.py", "a.py")]),
        ("/a.py", [Match("a.py", "a.py")]),
        ("./d/", [Match("d", "d")]),
        (".", [Match(".", "")]),
        ("*.py", [Match("a.py", "a.py"), Match("b.py", "b.py")]),
        ("d/*/x", [Match("x", "d/1/x"), Match("x", "d/2/x")]),
        ("d*", [Match("d", "d")]),
        ("[ab].py", [Match("a.py", "a.py"), Match("b.py", "b.py")]),
        ("no*", []),
        ("link", [Match("link", "d/1")]),
        ("li?k/x", [Match("x", "d/1/x")]),
        ("out", [Match("out", "etc/hostname")]),
    ],
)
def test_a_source_means_what_docker_takes_it_for(tmp_path: Path, pattern: str, matches: list[Match]) -> None:
    fill(tmp_path, "a.py", "b.py", "d/1/x", "d/2/x")
    (tmp_path / "link").symlink_to("d/1")
    (tmp_path / "out").symlink_to("../../../../../../etc/hostname")
    with context(tmp_path) as opened:
        if pattern == "li?k/x":  # a link below a wildcard is not followed, but one that is matched is
            assert opened.matches("li?k") == [Match("link", "d/1")]
            assert opened.matches(pattern) == []
        else:
            assert opened.matches(pattern) == matches


def test_links_that_lead_in_a_circle_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with context(tmp_path) as opened, pytest.raises(InvalidInput):
        opened.matches("a/x")


def test_a_file_that_changes_after_it_was_hashed_is_noticed(tmp_path: Path) -> None:
    fill(tmp_path, "a")
    with context(tmp_path) as opened:
        opened.digest("a")
        opened.check("a", os.stat(tmp_path / "a"))
        (tmp_path / "a").write_text("other")
        with pytest.raises(Conflict, match="a changed while the build was running"):
            opened.check("a", os.stat(tmp_path / "a"))


def test_a_context_that_is_missing_or_a_file_is_refused(tmp_path: Path) -> None:
    fill(tmp_path, "file")
    with pytest.raises(NotFound):
        open_context(str(tmp_path / "missing"), None)
    with pytest.raises(InvalidInput):
        open_context(str(tmp_path / "file"), None)


def test_a_very_deep_tree_is_walked(tmp_path: Path) -> None:
    depth = 300
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    with context(tmp_path) as opened:
        assert sum(1 for _ in opened.walk("")) == depth + 1
