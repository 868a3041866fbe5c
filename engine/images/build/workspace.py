"""The scratch directories of one build step: an upper and a work directory for an overlay, on the disk of the layers."""

from __future__ import annotations

import errno
import fcntl
import os
import posixpath
import re
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from engine.frozen import frozen
from engine.images.build.context import Tree
from engine.images.leases import locked
from engine.images.tree import remove_tree
from engine.kernel.mounts import MNT_DETACH, umount

_MOUNTINFO_ESCAPE = re.compile(r"\\([0-7]{3})")

CACHE_NAME = "cache"
"""The directory beside the workspaces that holds what `RUN --mount=type=cache` keeps."""

MOUNT_POINTS = ("etc/hosts", "etc/hostname", "etc/resolv.conf", "etc", "dev", "proc", "sys")
"""What the engine mounts on in every container; files before the directory they are in."""


@frozen
class Workspace:
    """`upper` receives what the step writes. `empty` is an empty directory to mount with. All of it lies in `path`."""

    path: str
    upper: str
    work: str
    empty: str

    def directory(self, name: str) -> str:
        """Make one more directory."""
        made = os.path.join(self.path, name)
        os.mkdir(made, 0o755)
        return made


@contextmanager
def workspace(directory: str, lower_dirs: Sequence[str]) -> Iterator[Workspace]:
    """Make a workspace below `directory`, removed at the end. The root of its upper looks like that of the layers below it."""
    os.makedirs(directory, mode=0o711, exist_ok=True)
    path = os.path.join(directory, os.urandom(8).hex())
    with locked(os.path.join(directory, ".lock"), exclusive=True):
        os.mkdir(path, 0o700)
        # The lock tells other builds that this one lives; the kernel ends it with the process.
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(fd, fcntl.LOCK_EX)
    try:
        space = Workspace(path, *(os.path.join(path, name) for name in ("upper", "work", "empty")))
        for part in (space.upper, space.work, space.empty):
            os.mkdir(part, 0o755)
            os.chmod(part, 0o755)
        if lower_dirs:
            root = os.stat(lower_dirs[-1])
            os.chown(space.upper, root.st_uid, root.st_gid)
            os.chmod(space.upper, stat.S_IMODE(root.st_mode))
        yield space
    finally:
        remove_tree(path)
        os.close(fd)


def date_back(directory: str, epoch: int) -> None:
    """Set every modification time after `epoch` (seconds) to it, so that the same content makes the same layer."""
    root_fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        tree = Tree(root_fd)
        for entry in tree.walk(""):
            if entry.stat.st_mtime_ns > epoch * 10**9:
                above, name = posixpath.split(entry.path)
                parent = tree.open(above, os.O_PATH | os.O_DIRECTORY)
                try:
                    os.utime(name or ".", (epoch, epoch), dir_fd=parent, follow_symlinks=False)
                finally:
                    os.close(parent)
    finally:
        os.close(root_fd)


def remove_mount_points(upper: str, lower_dirs: Sequence[str], further: Sequence[str] = ()) -> None:
    """Remove what a container made only to mount on: empty files and directories that the image does not have.

    `further` are mount points, relative to the root and without links, beside those that every container has. A directory that
    came up from the layers below for their sake goes too.
    """
    own = [path for point in further for path in _upwards(point)]
    for path in (*MOUNT_POINTS, *own):
        below = next((found for lower in reversed(lower_dirs) if (found := _lstat(os.path.join(lower, path)))), None)
        above, name = os.path.split(path)
        try:
            fd = os.open(os.path.join(upper, above), os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW)
        except (FileNotFoundError, NotADirectoryError):
            continue
        try:
            if below is None or (path in own and _is_like(os.path.join(upper, path), below)):
                _remove_if_empty(fd, name)
        finally:
            os.close(fd)


def _lstat(path: str) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except OSError:
        return None


def _is_like(path: str, below: os.stat_result) -> bool:
    """Whether a directory says nothing but what the one below it says: it hides nothing and has the same owner and mode."""
    found = _lstat(path)
    if found is None or not stat.S_ISDIR(found.st_mode) or "trusted.overlay.opaque" in os.listxattr(path):
        return False
    return (found.st_mode, found.st_uid, found.st_gid) == (below.st_mode, below.st_uid, below.st_gid)


def _upwards(path: str) -> Iterator[str]:
    """A path and the directories above it, the deepest first."""
    while path:
        yield path
        path = posixpath.dirname(path)


def _remove_if_empty(directory: int, name: str) -> None:
    try:
        found = os.stat(name, dir_fd=directory, follow_symlinks=False)
        if stat.S_ISDIR(found.st_mode):
            os.rmdir(name, dir_fd=directory)
        elif stat.S_ISREG(found.st_mode) and found.st_size == 0:
            os.unlink(name, dir_fd=directory)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTEMPTY):
            raise


def remove_abandoned(directory: str) -> None:
    """Remove the workspaces of builds that were killed."""
    if not os.path.isdir(directory) or not any(_is_workspace(name) for name in os.listdir(directory)):
        return
    with locked(os.path.join(directory, ".lock"), exclusive=True):
        for name in filter(_is_workspace, os.listdir(directory)):
            _remove_if_abandoned(os.path.join(directory, name))


def _is_workspace(name: str) -> bool:
    return not name.startswith(".") and name != CACHE_NAME


def _unmount_below(path: str) -> None:
    """Detach what a killed build had mounted, the deepest first, so that removing cannot reach through it."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        points = [_MOUNTINFO_ESCAPE.sub(lambda found: chr(int(found[1], 8)), line.split(" ", 5)[4]) for line in file]
    for point in sorted((point for point in points if point.startswith(f"{path}/")), reverse=True):
        umount(point, MNT_DETACH)


def _remove_if_abandoned(path: str) -> None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _unmount_below(os.path.realpath(path))
        remove_tree(path)
    except BlockingIOError:
        pass
    finally:
        os.close(fd)
