from __future__ import annotations

import io
import os
import stat
import tarfile
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import InvalidInput, UmiakError
from engine.images.layer import LayerWriter
from engine.images.tree import remove_tree


def member(
    name: str, type: bytes = tarfile.REGTYPE, link: str = "", data: bytes = b"", mode: int = 0o644
) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode, info.size = type, link, mode, len(data)
    return info, data


def symlink(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, tarfile.SYMTYPE, target)


def hardlink(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, tarfile.LNKTYPE, target)


def directory(name: str, mode: int = 0o755) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, tarfile.DIRTYPE, mode=mode)


def tar(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as file:
        for info, data in members:
            file.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def unpack(root: Path | str, *members: tuple[tarfile.TarInfo, bytes]) -> None:
    with LayerWriter(os.fspath(root)) as writer:
        writer.unpack([tar(*members)])
        writer.finish()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").write_text("untouched")
    made = tmp_path / "root"
    made.mkdir()
    return made


def test_files_directories_and_links_come_out_as_they_are(root: Path) -> None:
    old = os.umask(0o077)
    try:
        unpack(
            root,
            directory("d", 0o1777),
            member("d/f", data=b"hi", mode=0o4755),
            symlink("s", "d/f"),
            hardlink("h", "d/f"),
            member("e/x/y"),
        )
    finally:
        os.umask(old)
    assert (root / "d/f").read_bytes() == b"hi"
    assert stat.S_IMODE((root / "d/f").stat().st_mode) == 0o4755
    assert stat.S_IMODE((root / "d").stat().st_mode) == 0o1777
    assert stat.S_IMODE((root / "e/x").stat().st_mode) == 0o755
    assert (root / "d/f").stat().st_mtime == 0
    assert (root / "d").stat().st_mtime == 0
    assert os.readlink(root / "s") == "d/f"
    assert (root / "h").samefile(root / "d/f")


def test_a_sparse_file_keeps_its_holes(root: Path) -> None:
    info, data = member("a", data=b"1\n1000000\n1\n".ljust(512, b"\0") + b"x")
    info.pax_headers = {
        "GNU.sparse.major": "1",
        "GNU.sparse.minor": "0",
        "GNU.sparse.realsize": "2000000",
        "GNU.sparse.name": "a",
    }
    unpack(root, (info, data))
    found = (root / "a").stat()
    assert found.st_size == 2_000_000
    assert found.st_blocks * 512 < 100_000
    assert (root / "a").read_bytes()[1_000_000:1_000_001] == b"x"


def test_user_xattrs_are_set_and_overlays_own_are_not(root: Path) -> None:
    info, data = member("a")
    info.pax_headers = {
        "SCHILY.xattr.user.a": "b",
        "SCHILY.xattr.trusted.overlay.redirect": "/x",
        "SCHILY.xattr.user.overlay.opaque": "y",
    }
    unpack(root, (info, data))
    assert os.listxattr(root / "a") == ["user.a"]


def test_an_entry_replaces_what_the_same_archive_had_there(root: Path) -> None:
    unpack(
        root,
        member("a/b/c"),
        member("a", data=b"now a file"),
        directory("x"),
        member("x/y"),
        symlink("x", "z"),
        directory("z"),
        member("x/w", data=b"1"),
    )
    assert (root / "a").read_bytes() == b"now a file"
    assert (root / "z/w").read_bytes() == b"1"


def test_a_directory_replaces_a_link(root: Path) -> None:
    unpack(root, directory("real"), symlink("link", "real"), member("link/one"), directory("link"), member("link/two"))
    assert os.listdir(root / "real") == ["one"]
    assert os.listdir(root / "link") == ["two"]


def test_below_a_link_to_a_missing_directory_the_directory_is_made_inside(root: Path) -> None:
    unpack(
        root,
        symlink("var/run", "/run/deep"),
        member("var/run/pid", data=b"1"),
        symlink("up", "../../../../etc"),
        member("up/passwd", data=b"2"),
    )
    assert (root / "run/deep/pid").read_bytes() == b"1"
    assert (root / "etc/passwd").read_bytes() == b"2"


@pytest.mark.parametrize("name", ["../x", "a/../../x", "a/..", "/../x", "./../outside/file"])
def test_a_name_with_dots_that_go_up_is_refused(root: Path, name: str) -> None:
    with pytest.raises(InvalidInput, match="outside of itself"):
        unpack(root, member(name, data=b"bad"))


def test_an_absolute_name_lands_inside(root: Path) -> None:
    unpack(root, member("/etc/umiak-test", data=b"in"))
    assert (root / "etc/umiak-test").read_bytes() == b"in"
    assert not os.path.exists("/etc/umiak-test")


@pytest.mark.parametrize(
    "target", ["../outside", "../../../../../../tmp", "/", "..", "/proc/self/cwd", "/proc/self/root"]
)
def test_a_link_to_the_outside_leads_inside(root: Path, target: str) -> None:
    unpack(root, symlink("out", target), member("out/file", data=b"mine"))
    assert (root.parent / "outside" / "file").read_text() == "untouched"
    assert any(path.name == "file" and path.read_bytes() == b"mine" for path in root.rglob("*"))


def test_a_file_over_a_link_does_not_write_through_it(root: Path) -> None:
    unpack(root, symlink("out", str(root.parent / "outside" / "file")), member("out", data=b"mine"))
    assert (root.parent / "outside" / "file").read_text() == "untouched"
    assert (root / "out").read_bytes() == b"mine"


@pytest.mark.parametrize("target", ["../outside/file", "missing", "", "/", "link/file"])
def test_a_hard_link_to_the_outside_or_to_nothing_is_refused(root: Path, target: str) -> None:
    with pytest.raises(InvalidInput):
        unpack(root, symlink("link", str(root.parent / "outside")), hardlink("h", target))
    assert (root.parent / "outside" / "file").stat().st_nlink == 1


def test_a_hard_link_to_itself_changes_nothing(root: Path) -> None:
    unpack(root, member("a", data=b"1"), hardlink("a", "a"), hardlink("./a", "a"))
    assert (root / "a").read_bytes() == b"1"


def test_links_in_a_circle_are_refused(root: Path) -> None:
    with pytest.raises(InvalidInput):
        unpack(root, symlink("a", "b"), symlink("b", "a"), member("a/x"))


def test_a_file_as_a_parent_is_refused(root: Path) -> None:
    with pytest.raises(InvalidInput, match=r"not a directory|file exists"):
        unpack(root, member("a"), member("a/b"))


def test_a_deep_tree_is_made_and_replaced_without_recursion(root: Path) -> None:
    deep = "d/" * 1900
    unpack(root, member(deep + "x"), symlink("s", deep), member("s/" + deep + "y"), member("d", data=b"flat"))
    assert (root / "d").read_bytes() == b"flat"


def test_unknown_types_are_refused(root: Path) -> None:
    with pytest.raises(InvalidInput, match="unknown type"):
        unpack(root, member("a", b"Z"))


def test_remove_tree_takes_deep_trees_and_follows_no_link(tmp_path: Path) -> None:
    (tmp_path / "keep").mkdir()
    (tmp_path / "keep" / "file").touch()
    top = tmp_path / "top"
    unpack_root = top / "a"
    unpack_root.mkdir(parents=True)
    unpack(unpack_root, member("x/" * 1000 + "f"), symlink("l", str(tmp_path / "keep")), member(".up0/.up1/f"))
    remove_tree(top)
    assert not top.exists()
    assert (tmp_path / "keep" / "file").exists()
    remove_tree(top)


path = st.lists(
    st.sampled_from(["a", "b", "c", "..", ".", "", "s", ".wh.a", ".wh..wh..opq", "long" * 70]), min_size=1, max_size=5
).map("/".join)
target = st.one_of(
    path, path.map(lambda p: "/" + p), st.sampled_from(["../outside", "../../..", "/proc/self/root", "/"])
)
entry = st.one_of(
    st.builds(member, path, data=st.binary(max_size=20), mode=st.integers(0, 0o7777)),
    st.builds(directory, path),
    st.builds(symlink, path, target),
    st.builds(hardlink, path, target),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(entry, max_size=12))
def test_no_archive_writes_outside_or_fails_other_than_by_our_errors(
    entries: list[tuple[tarfile.TarInfo, bytes]],
) -> None:
    with tempfile.TemporaryDirectory() as base:
        outside, root = Path(base, "outside"), Path(base, "root")
        outside.mkdir()
        root.mkdir()
        (outside / "a").write_text("untouched")
        before = outside.stat().st_mtime_ns
        try:
            unpack(root, *entries)
        except UmiakError:
            pass
        assert os.listdir(outside) == ["a"]
        assert (outside / "a").read_text() == "untouched"
        assert (outside / "a").stat().st_nlink == 1
        assert outside.stat().st_mtime_ns == before
        assert sorted(os.listdir(base)) == ["outside", "root"]
        remove_tree(root)
