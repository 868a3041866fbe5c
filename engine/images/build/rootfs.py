"""A stage's root file system while a step works on it: all its layers as one tree, seen through a detached overlay.

The mount is never attached anywhere: it lives as long as its descriptor, so nothing is left behind however a build ends.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from engine.kernel import mounts
from engine.kernel.process import unshare

_CLONE_NEWNS = 0x00020000


@contextmanager
def mounted(layer_dirs: Sequence[str], empty: str, upper: str | None = None, work: str | None = None) -> Iterator[int]:
    """Give a descriptor of the merged tree of `layer_dirs` (lowest first), writable where an upper directory is given.

    `empty` is an empty directory: overlayfs wants at least two layers to read and one to write over. Nothing is synced:
    a step that does not end is thrown away.
    """
    lowerdirs = [*reversed(layer_dirs), empty]
    fd = mounts.overlay(lowerdirs, upper, work, volatile=True)
    if fd is None:
        fd = _mounted_in_passing(lowerdirs, empty, upper, work)
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def attached(
    layer_dirs: Sequence[str], empty: str, target: str, upper: str | None = None, work: str | None = None
) -> Iterator[None]:
    """Mount the merged tree of `layer_dirs` (lowest first) on the directory `target` for a block, for a container to bind."""
    lowerdirs = [*reversed(layer_dirs), empty]
    fd = mounts.overlay(lowerdirs, upper, work, volatile=True)
    if fd is None:
        mounts.mount_overlay(target, lowerdirs, upper, work, volatile=True)
    else:
        _attach(fd, target)
    try:
        yield
    finally:
        mounts.umount(target, mounts.MNT_DETACH)


@contextmanager
def attached_tmpfs(target: str) -> Iterator[str]:
    """Mount a tmpfs that only root can enter on the directory `target` for a block; give its path."""
    _attach(mounts.new_filesystem("tmpfs", [("mode", "700"), ("size", "16m")], mounts.MOUNT_ATTR_NOSUID), target)
    try:
        yield target
    finally:
        mounts.umount(target, mounts.MNT_DETACH)


def _attach(mount_fd: int, target: str) -> None:
    try:
        mounts.mount_setattr(mount_fd, propagation=mounts.MS_PRIVATE)
        target_fd = os.open(target, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            mounts.move_mount(mount_fd, target_fd)
        finally:
            os.close(target_fd)
    finally:
        os.close(mount_fd)


def _mounted_in_passing(lowerdirs: list[str], target: str, upper: str | None, work: str | None) -> int:
    """Make the mount on kernels before 6.8: attach it in a thread's own mount namespace, keep the descriptor, detach it."""
    result: list[int] = []
    errors: list[OSError] = []

    def attach() -> None:
        try:
            unshare(_CLONE_NEWNS)
            mounts.mount(None, "/", None, mounts.MS_REC | mounts.MS_PRIVATE)
            mounts.mount_overlay(target, lowerdirs, upper, work, volatile=True)
            result.append(os.open(target, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
            mounts.umount(target, mounts.MNT_DETACH)
        except OSError as error:
            errors.append(error)

    thread = threading.Thread(target=attach, name="overlay-mount")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return result[0]
