"""Remove a directory tree however deep it is: names come from archives, so neither recursion nor path length may bound it."""

from __future__ import annotations

import contextlib
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


def remove_tree(path: str | bytes, *, dir_fd: int | None = None) -> None:
    """Remove a directory and all below it, never following a symbolic link. A missing one is no error, nor that another removes it, too.

    Subdirectories are moved up into the tree's top one after the other, so the walk never goes two levels deep.
    """
    try:
        top = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dir_fd)
    except FileNotFoundError:
        return
    try:
        serial = iter(range(1 << 62))
        while directories := _unlink_files(top):
            for name in directories:
                _dissolve(top, name, serial)
    finally:
        os.close(top)
    with contextlib.suppress(FileNotFoundError):
        os.rmdir(path, dir_fd=dir_fd)


def _unlink_files(directory: int) -> list[str]:
    """Remove all that is not a directory; return the names of those that are."""
    directories = []
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                directories.append(entry.name)
            else:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(entry.name, dir_fd=directory)
    return directories


def _dissolve(top: int, name: str, serial: Iterator[int]) -> None:
    try:
        fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=top)
    except FileNotFoundError:
        return
    try:
        for below in _unlink_files(fd):
            _move_up(fd, below, top, serial)
    finally:
        os.close(fd)
    with contextlib.suppress(FileNotFoundError):
        os.rmdir(name, dir_fd=top)


def _move_up(source: int, name: str, top: int, serial: Iterator[int]) -> None:
    while True:
        try:
            os.rename(name, f".up{next(serial)}", src_dir_fd=source, dst_dir_fd=top)
            return
        except FileNotFoundError:
            return
        except OSError:
            # The name is taken by a directory that has something in it.
            if not os.path.lexists(f"/proc/self/fd/{source}/{name}"):
                raise


def disk_usage(directory: str) -> int:
    """The bytes that a tree takes on its disk, a file with several names once; what is not there, or goes meanwhile, takes none."""
    total = 0
    seen: set[tuple[int, int]] = set()
    try:
        for _, _, files, fd in os.fwalk(directory, follow_symlinks=False):
            for name in files:
                try:
                    found = os.stat(name, dir_fd=fd, follow_symlinks=False)
                except FileNotFoundError:
                    continue
                if found.st_nlink > 1:
                    if (found.st_dev, found.st_ino) in seen:
                        continue
                    seen.add((found.st_dev, found.st_ino))
                total += found.st_blocks * 512
    except FileNotFoundError:
        pass
    return total
