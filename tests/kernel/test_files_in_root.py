"""Paths inside a hostile root, descriptors, process ends: the kernel layer's own tests."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
from pathlib import Path

import pytest

from engine.kernel import files, inotify, mounts, process, procfs

pytestmark = pytest.mark.needs("root")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "root"
    path.mkdir()
    return path


def opened(root: Path) -> int:
    return os.open(root, os.O_PATH | os.O_DIRECTORY)


def made(root: Path, path: str, *, directory: bool = True, symlinks: bool = True) -> str:
    root_fd = opened(root)
    try:
        fd = files.make_in_root(root_fd, path, directory=directory, symlinks=symlinks)
        place = os.readlink(f"/proc/self/fd/{fd}")
        os.close(fd)
        return os.path.relpath(place, root)
    finally:
        os.close(root_fd)


def test_missing_parents_are_made(root: Path) -> None:
    assert made(root, "/a/b/c") == "a/b/c"
    assert made(root, "/a/b/file", directory=False) == "a/b/file"
    assert (root / "a/b/file").is_file()
    assert stat.S_IMODE((root / "a").stat().st_mode) == 0o755


def test_links_and_dots_stay_inside(root: Path) -> None:
    (root / "abs").symlink_to("/target/deep")
    (root / "up").symlink_to("../../../../../../etc")
    (root / "chain").symlink_to("abs/more")
    assert made(root, "/abs/x") == "target/deep/x"
    assert made(root, "/up/x") == "etc/x"
    assert made(root, "/chain/y") == "target/deep/more/y"
    assert made(root, "/../../z") == "z"
    assert sorted(path.name for path in root.parent.iterdir()) == ["root"]


def test_a_loop_of_links_is_refused(root: Path) -> None:
    (root / "one").symlink_to("two")
    (root / "two").symlink_to("one")
    with pytest.raises(OSError) as caught:
        made(root, "/one/x")
    assert caught.value.errno == errno.ELOOP


def test_links_can_be_refused_altogether(root: Path) -> None:
    (root / "proc").symlink_to("/somewhere")
    with pytest.raises(OSError) as caught:
        made(root, "/proc", symlinks=False)
    assert caught.value.errno == errno.ELOOP


def test_a_file_in_the_way_is_an_error(root: Path) -> None:
    (root / "file").touch()
    with pytest.raises(NotADirectoryError):
        made(root, "/file/x")


def test_magic_links_of_proc_are_not_followed() -> None:
    proc_fd = os.open("/proc", os.O_PATH | os.O_DIRECTORY)
    try:
        with pytest.raises(OSError) as caught:
            files.open_in_root(proc_fd, f"{os.getpid()}/root/etc")
        assert caught.value.errno == errno.ELOOP
    finally:
        os.close(proc_fd)


def test_file_system_types_are_told_apart(tmp_path: Path) -> None:
    proc_fd = os.open("/proc", os.O_PATH)
    other_fd = os.open(tmp_path, os.O_PATH)
    assert files.filesystem_type(proc_fd) == files.PROC_SUPER_MAGIC
    assert files.filesystem_type(other_fd) != files.PROC_SUPER_MAGIC
    os.close(proc_fd)
    os.close(other_fd)


def test_the_error_of_a_file_system_says_what_the_kernel_says() -> None:
    with pytest.raises(OSError, match="nonsense"):
        mounts.new_filesystem("tmpfs", [("nonsense", "1")])


@pytest.mark.needs("overlay")
def test_an_overlay_takes_long_paths_and_a_colon(tmp_path: Path) -> None:
    lower = tmp_path
    for _ in range(3):
        lower = lower / ("y" * 120)
    lower = lower / "with:colon"
    lower.mkdir(parents=True)
    (lower / "here").touch()
    other = tmp_path / "other"
    other.mkdir()
    mount_fd = mounts.overlay([str(lower), str(other)], None, None)
    if mount_fd is None:
        pytest.skip("this kernel has no lowerdir+")
    directory_fd = os.open(".", os.O_RDONLY, dir_fd=mount_fd)
    assert os.listdir(directory_fd) == ["here"]
    os.close(directory_fd)
    os.close(mount_fd)


def test_exit_codes_of_children() -> None:
    for work, code in ((lambda: os._exit(7), 7), (lambda: os.kill(os.getpid(), signal.SIGKILL), 137)):
        pid, pidfd = process.clone3(0)
        if pid == 0:
            work()
        assert process.wait_exit(pidfd) == code
        os.close(pidfd)


def test_a_running_child_has_no_exit_code_yet() -> None:
    pid, pidfd = process.clone3(0)
    if pid == 0:
        signal.pause()
    assert process.wait_exit(pidfd, block=False) is None
    assert process.exit_code_of(pidfd) is None
    assert procfs.is_same_process(pid, procfs.start_time(pid) or 0, procfs.boot_id())
    process.pidfd_send_signal(pidfd, signal.SIGTERM)
    assert process.wait_exit(pidfd) == 143
    assert procfs.start_time(pid) is None
    os.close(pidfd)


def test_the_exit_code_of_a_process_that_is_not_ours_can_be_had() -> None:
    reader, writer = os.pipe()
    middle, middle_fd = process.clone3(0)
    if middle == 0:
        pid, pidfd = process.clone3(0)
        if pid == 0:
            os.close(writer)
            os.read(0, 0)
            signal.sigtimedwait([], 0.2)
            os._exit(7)
        os.write(writer, b"%d" % pid)
        process.wait_exit(pidfd)
        os._exit(0)
    grandchild_fd = process.pidfd_open(int(os.read(reader, 20)))
    assert process.wait_exit(middle_fd) == 0
    code = process.exit_code_of(grandchild_fd)
    kernel = tuple(int(part) for part in os.uname().release.split(".")[:2])
    assert code == (7 if kernel >= (6, 15) else None)
    for fd in (reader, writer, middle_fd, grandchild_fd):
        os.close(fd)


def test_descriptors_are_closed_but_those_kept() -> None:
    pid, pidfd = process.clone3(0)
    if pid == 0:
        kept = [os.open("/", os.O_PATH) for _ in range(9)]
        process.close_all_but({kept[2], kept[7], 0})
        here = {int(name) for name in os.listdir("/proc/self/fd")} - {0, 1, 2}
        # listdir's own descriptor is among them, and closed by now.
        alive = {fd for fd in here if os.path.exists(f"/proc/self/fd/{fd}")}
        os._exit(0 if alive == {kept[2], kept[7]} else 1)
    assert process.wait_exit(pidfd) == 0
    os.close(pidfd)


def test_inotify_tells_what_happens_in_a_directory(tmp_path: Path) -> None:
    with inotify.Inotify() as watcher:
        watch = watcher.add(str(tmp_path), inotify.IN_CREATE | inotify.IN_MOVED_TO | inotify.IN_DELETE)
        assert watcher.read() == []
        (tmp_path / "one").touch()
        (tmp_path / "one").rename(tmp_path / "two")
        (tmp_path / "two").unlink()
        assert [(mask, name) for number, mask, name in watcher.read() if number == watch] == [
            (inotify.IN_CREATE, "one"),
            (inotify.IN_MOVED_TO, "two"),
            (inotify.IN_DELETE, "two"),
        ]
        watcher.remove(watch)


def test_subdirectories_are_spread_where_the_file_system_knows_how(root: Path) -> None:
    files.spread_subdirectories(os.fspath(root))
    files.spread_subdirectories(os.fspath(root))
    fd = os.open(root, os.O_RDONLY)
    try:
        is_ext4 = files.filesystem_type(fd) == 0xEF53
    finally:
        os.close(fd)
    if is_ext4:
        shown = subprocess.run(["lsattr", "-d", root], capture_output=True, text=True, check=True).stdout
        assert "T" in shown.split()[0]


def test_a_file_system_that_cannot_spread_is_left_as_it_is() -> None:
    files.spread_subdirectories("/proc")
