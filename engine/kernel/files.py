"""Paths inside a root that someone else controls: resolved by the kernel, never by us. See openat2(2)."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import stat
import struct

from engine.kernel.libc import AT_FDCWD, call, libc, raise_errno

RESOLVE_NO_XDEV = 0x01
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
RESOLVE_IN_ROOT = 0x10

PROC_SUPER_MAGIC = 0x9FA0
_FS_IOC_GETFLAGS = 0x80086601
_FS_IOC_SETFLAGS = 0x40086602
_FS_TOPDIR_FL = 0x00020000
_LINK_LIMIT = 40
_RETRIES = 128


class _OpenHow(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("flags", "mode", "resolve")]


def openat2(dir_fd: int, path: str, flags: int, *, resolve: int = 0, mode: int = 0) -> int:
    """Open `path` below `dir_fd` under the rules of `resolve`. Tries again while a rename elsewhere makes the kernel unsure."""
    how = _OpenHow(flags | os.O_CLOEXEC, mode, resolve)
    for _ in range(_RETRIES):
        try:
            return call("openat2", dir_fd, os.fsencode(path), ctypes.byref(how), ctypes.sizeof(how), subject=path)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EINTR):
                raise
    raise OSError(errno.EAGAIN, "openat2: the tree keeps changing", path)


def open_in_root(root_fd: int, path: str, flags: int = os.O_PATH, *, symlinks: bool = True, mode: int = 0) -> int:
    """Open `path` as a process whose root is `root_fd` would: no link and no ".." leads out of it."""
    resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | (0 if symlinks else RESOLVE_NO_SYMLINKS)
    return openat2(root_fd, path, flags, resolve=resolve, mode=mode)


def make_in_root(root_fd: int, path: str, *, directory: bool, symlinks: bool = True, mode: int = 0o755) -> int:
    """Open `path` in the root as `O_PATH`, first making what is missing: directories, and at the end a directory or an empty file.

    A link to something that does not exist is followed too, and its target made, as a container engine's users expect.
    """
    try:
        return open_in_root(root_fd, path, symlinks=symlinks)
    except FileNotFoundError:
        return _make(root_fd, path, directory, symlinks, mode, _LINK_LIMIT)


def _make(root_fd: int, path: str, directory: bool, symlinks: bool, mode: int, links_left: int) -> int:
    names = [name for name in path.split("/") if name not in ("", ".")]
    for depth, name in enumerate(names, 1):
        prefix = "/".join(names[:depth])
        is_last = depth == len(names)
        try:
            os.close(open_in_root(root_fd, prefix, symlinks=symlinks))
            continue
        except FileNotFoundError:
            pass
        parent_fd = open_in_root(
            root_fd, "/".join(names[: depth - 1]) or ".", os.O_PATH | os.O_DIRECTORY, symlinks=symlinks
        )
        try:
            _create(parent_fd, name, directory or not is_last, mode)
        except FileExistsError:
            target = _dangling_target(parent_fd, name)
            if target is not None:
                if not symlinks or links_left == 0:
                    raise OSError(errno.ELOOP, "openat2: symbolic link", prefix) from None
                base = "" if target.startswith("/") else "/".join(names[: depth - 1])
                followed = "/".join([base, target, *names[depth:]])
                return _make(root_fd, followed, directory, symlinks, mode, links_left - 1)
        finally:
            os.close(parent_fd)
    return open_in_root(root_fd, "/".join(names) or ".", symlinks=symlinks)


def _create(parent_fd: int, name: str, directory: bool, mode: int) -> None:
    if directory:
        os.mkdir(name, mode, dir_fd=parent_fd)
    else:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        os.close(os.open(name, flags, mode & 0o666, dir_fd=parent_fd))


def _dangling_target(parent_fd: int, name: str) -> str | None:
    """Return where the link `name` leads, None if it is no link: then someone else has just made it."""
    try:
        return os.readlink(name, dir_fd=parent_fd)
    except OSError:
        return None


def filesystem_type(fd: int) -> int:
    """Return the magic number of the file system that `fd` is on. See statfs(2)."""
    buffer = ctypes.create_string_buffer(256)
    if libc.fstatfs(ctypes.c_int(fd), buffer) < 0:
        raise_errno("fstatfs")
    return int(ctypes.c_long.from_buffer(buffer).value)


def is_device(fd: int, major: int, minor: int) -> bool:
    """Tell whether `fd` is the character device major:minor."""
    status = os.fstat(fd)
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == os.makedev(major, minor)


__all__ = [
    "AT_FDCWD",
    "PROC_SUPER_MAGIC",
    "RESOLVE_BENEATH",
    "RESOLVE_IN_ROOT",
    "RESOLVE_NO_MAGICLINKS",
    "RESOLVE_NO_SYMLINKS",
    "RESOLVE_NO_XDEV",
    "filesystem_type",
    "is_device",
    "make_in_root",
    "open_in_root",
    "openat2",
    "spread_subdirectories",
    "syncfs",
]


def syncfs(fd: int) -> None:
    """Write out everything of the file system that `fd` is on, and wait for it."""
    if libc.syncfs(fd) < 0:
        raise_errno("syncfs")


def spread_subdirectories(path: str) -> None:
    """Tell the file system that what is below one directory in `path` has nothing to do with what is below the next.

    ext4 then puts each into block groups of its own (`chattr +T`, ext4(5)). What is written in parallel is not in each other's way,
    and, where there is no journal, a new file need not pass by the inodes of all files deleted a short while ago
    (recently_deleted() in fs/ext4/ialloc.c), which takes most of the time of making many. Other file systems do not mind.
    """
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        (flags,) = struct.unpack("l", fcntl.ioctl(fd, _FS_IOC_GETFLAGS, bytes(struct.calcsize("l"))))
        if not flags & _FS_TOPDIR_FL:
            fcntl.ioctl(fd, _FS_IOC_SETFLAGS, struct.pack("l", flags | _FS_TOPDIR_FL))
    except OSError:
        pass  # a file system without the hint, or one that is not ours
    finally:
        os.close(fd)
