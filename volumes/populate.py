"""Copy-up: an empty volume is filled from the image's content at the path where it is first mounted."""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
from collections.abc import Sequence

from engine import snapshots
from engine.errors import Unavailable
from engine.kernel import files

CHUNK_BYTES = 1 << 20


def populate(directory: str, layer_dirs: Sequence[str], target: str) -> None:
    """Fill an empty volume directory with what the image has at `target`, owners and modes included.

    Does nothing when the volume has any content or the image has no such directory. The copy is made beside the
    volume and renamed over it, so a copy cut short leaves the volume empty, to be filled by the next container.
    """
    lock = os.open(os.path.dirname(directory), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if os.listdir(directory):
            return
        view = snapshots.open_view(layer_dirs)
        try:
            _fill(directory, view, target)
        finally:
            os.close(view)
    except OSError as error:
        raise Unavailable(f"cannot fill the volume {directory} from {target} of the image: {error.strerror}") from error
    finally:
        os.close(lock)


def _fill(directory: str, view: int, target: str) -> None:
    source = _open_in_image(view, target)
    if source is None:
        return
    partial = f"{directory}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    try:
        os.mkdir(partial, 0o700)
        destination = os.open(partial, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _copy_directory(source, destination)
        finally:
            os.close(destination)
        os.rename(partial, directory)
    finally:
        os.close(source)
        shutil.rmtree(partial, ignore_errors=True)


def _open_in_image(view: int, target: str) -> int | None:
    flags = os.O_RDONLY | os.O_DIRECTORY
    try:
        return files.open_in_root(view, target, flags)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _copy_directory(source: int, destination: int) -> None:
    with os.scandir(source) as entries:
        for entry in entries:
            _copy_entry(entry.name, source, destination)
    _copy_attributes(source, destination)


def _copy_entry(name: str, source: int, destination: int) -> None:
    info = os.stat(name, dir_fd=source, follow_symlinks=False)
    if stat.S_ISDIR(info.st_mode):
        os.mkdir(name, 0o700, dir_fd=destination)
        with _Opened(name, source, os.O_RDONLY | os.O_DIRECTORY) as old, _Opened(name, destination, os.O_RDONLY) as new:
            _copy_directory(old, new)
    elif stat.S_ISREG(info.st_mode):
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        with _Opened(name, source, os.O_RDONLY) as old, _Opened(name, destination, flags) as new:
            while os.sendfile(new, old, None, CHUNK_BYTES):
                pass
            _copy_attributes(old, new)
    elif stat.S_ISLNK(info.st_mode):
        os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=destination)
        os.chown(name, info.st_uid, info.st_gid, dir_fd=destination, follow_symlinks=False)
    else:
        os.mknod(name, info.st_mode, info.st_rdev, dir_fd=destination)
        os.chown(name, info.st_uid, info.st_gid, dir_fd=destination, follow_symlinks=False)


def _copy_attributes(source: int, destination: int) -> None:
    info = os.fstat(source)
    os.fchown(destination, info.st_uid, info.st_gid)
    os.fchmod(destination, stat.S_IMODE(info.st_mode))
    for name in os.listxattr(source):
        if not name.startswith("trusted.overlay."):
            os.setxattr(destination, name, os.getxattr(source, name))
    os.utime(destination, ns=(info.st_atime_ns, info.st_mtime_ns))


class _Opened:
    def __init__(self, name: str, directory: int, flags: int) -> None:
        self._fd = os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=directory)

    def __enter__(self) -> int:
        return self._fd

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)
