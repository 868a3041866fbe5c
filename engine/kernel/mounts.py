"""Mounts, by the calls of Linux 5.2 and later: everything is prepared detached and then attached by descriptor."""

from __future__ import annotations

import ctypes
import errno
import os

from engine.kernel.libc import AT_EMPTY_PATH, AT_FDCWD, call, libc, raise_errno

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REMOUNT = 32
MS_BIND = 4096
MS_MOVE = 8192
MS_REC = 16384
MS_UNBINDABLE = 1 << 17
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MS_SHARED = 1 << 20
MNT_DETACH = 2

MOUNT_ATTR_RDONLY = 0x01
MOUNT_ATTR_NOSUID = 0x02
MOUNT_ATTR_NODEV = 0x04
MOUNT_ATTR_NOEXEC = 0x08
MOUNT_ATTR_ATIME = 0x70  # a field, not a flag: 0 is relatime
MOUNT_ATTR_NOATIME = 0x10
MOUNT_ATTR_STRICTATIME = 0x20
MOUNT_ATTR_NODIRATIME = 0x80
MOUNT_ATTR_NOSYMFOLLOW = 0x00200000

AT_RECURSIVE = 0x8000
_OPEN_TREE_CLONE = 1
_FSOPEN_CLOEXEC = 1
_FSMOUNT_CLOEXEC = 1
_FSCONFIG_SET_FLAG = 0
_FSCONFIG_SET_STRING = 1
_FSCONFIG_CMD_CREATE = 6
_MOVE_MOUNT_F_EMPTY_PATH = 0x04
_MOVE_MOUNT_T_EMPTY_PATH = 0x40
_STRING_LIMIT = 255  # fsconfig(2): a value of 256 bytes or more is refused
_DATA_LIMIT = 4095  # mount(2): the options are one page


class _MountAttr(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("attr_set", "attr_clr", "propagation", "userns_fd")]


def _encode(text: str | None) -> bytes | None:
    return None if text is None else os.fsencode(text)


def mount(source: str | None, target: str, fstype: str | None = None, flags: int = 0, data: str | None = None) -> None:
    if libc.mount(_encode(source), os.fsencode(target), _encode(fstype), ctypes.c_ulong(flags), _encode(data)) < 0:
        raise_errno("mount", target)


def umount(target: str, flags: int = 0) -> None:
    if libc.umount2(os.fsencode(target), flags) < 0:
        raise_errno("umount2", target)


def pivot_root(new_root: str, put_old: str) -> None:
    """Swap the root of the mount namespace. With "." for both, the old root ends on top of the new one: detach it. pivot_root(2)."""
    call("pivot_root", os.fsencode(new_root), os.fsencode(put_old), subject=new_root)


def fsopen(fstype: str) -> int:
    return call("fsopen", fstype.encode(), _FSOPEN_CLOEXEC, subject=fstype)


def fsconfig_set(fs_fd: int, key: str, value: str | None = None) -> None:
    """Set one option of a file system being made; None sets a flag. The message of an error is the kernel's own."""
    command = _FSCONFIG_SET_FLAG if value is None else _FSCONFIG_SET_STRING
    try:
        call("fsconfig", fs_fd, command, key.encode(), _encode(value), 0, subject=key)
    except OSError as error:
        raise _with_kernel_message(fs_fd, error) from None


def fsconfig_create(fs_fd: int) -> None:
    try:
        call("fsconfig", fs_fd, _FSCONFIG_CMD_CREATE, None, None, 0)
    except OSError as error:
        raise _with_kernel_message(fs_fd, error) from None


def _with_kernel_message(fs_fd: int, error: OSError) -> OSError:
    """Add what the file system context has to say: each read of it gives one message, "e overlay: …"."""
    messages = []
    try:
        for _ in range(8):
            messages.append(os.read(fs_fd, 1024).decode(errors="replace")[2:].strip())
    except OSError:
        pass
    detail = "; ".join(messages)
    return OSError(error.errno, f"{error.strerror} ({detail})" if detail else error.strerror, error.filename)


def fsmount(fs_fd: int, attributes: int = 0) -> int:
    return call("fsmount", fs_fd, _FSMOUNT_CLOEXEC, attributes)


def new_filesystem(
    fstype: str, options: Iterable[tuple[str, str | None]] = (), attributes: int = 0, source: str | None = None
) -> int:
    """Make a file system and return its mount, detached: a descriptor to attach with `move_mount`."""
    fs_fd = fsopen(fstype)
    try:
        if source is not None:
            fsconfig_set(fs_fd, "source", source)
        for key, value in options:
            fsconfig_set(fs_fd, key, value)
        fsconfig_create(fs_fd)
        return fsmount(fs_fd, attributes)
    finally:
        os.close(fs_fd)


def open_tree(path: str, *, dir_fd: int = AT_FDCWD, recursive: bool = False) -> int:
    """Return a detached copy of the mount at `path` (of `dir_fd` itself when empty): what a bind mount attaches."""
    flags = _OPEN_TREE_CLONE | os.O_CLOEXEC | (AT_RECURSIVE if recursive else 0) | (0 if path else AT_EMPTY_PATH)
    return call("open_tree", dir_fd, os.fsencode(path), flags, subject=path)


def move_mount(mount_fd: int, target_fd: int, name: str = "") -> None:
    """Attach a detached mount on `target_fd`, or on `name` below it."""
    flags = _MOVE_MOUNT_F_EMPTY_PATH | (0 if name else _MOVE_MOUNT_T_EMPTY_PATH)
    call("move_mount", mount_fd, b"", target_fd, os.fsencode(name), flags, subject=name or None)


def mount_setattr(
    mount_fd: int, set_: int = 0, clear: int = 0, propagation: int = 0, *, recursive: bool = False
) -> None:
    attributes = _MountAttr(attr_set=set_, attr_clr=clear, propagation=propagation)
    flags = AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0)
    call("mount_setattr", mount_fd, b"", flags, ctypes.byref(attributes), ctypes.sizeof(attributes))


def overlay(lowerdirs: list[str], upperdir: str | None, workdir: str | None, *, volatile: bool = False) -> int | None:
    """Return a detached overlay of `lowerdirs`, the highest first; None if the kernel (before 6.8) lacks `lowerdir+`.

    `volatile` leaves out all syncing, which otherwise costs a syncfs(2) of the upper's file system when the mount goes.
    """
    if not can_append_layers(os.uname().release):
        return None
    held: list[int] = []
    fs_fd = fsopen("overlay")
    try:
        fsconfig_set(fs_fd, "source", "overlay")
        try:
            for path in lowerdirs:
                fsconfig_set(fs_fd, "lowerdir+", _short_name(path, held))
        except OSError as error:
            if error.errno == errno.EINVAL and path is lowerdirs[0]:
                return None
            raise
        for key, value in _overlay_options(upperdir, workdir):
            fsconfig_set(fs_fd, key, _short_name(value, held) if value.startswith("/") else value)
        if volatile and upperdir is not None:
            fsconfig_set(fs_fd, "volatile")
        fsconfig_create(fs_fd)
        return fsmount(fs_fd)
    finally:
        for fd in (fs_fd, *held):
            os.close(fd)


def can_append_layers(release: str) -> bool:
    """Tell whether a kernel has `lowerdir+`. Trying it on one that has not puts a line into the host's log at each start."""
    major, _, rest = release.partition(".")
    minor = rest.partition(".")[0]
    return not (major.isdigit() and minor.isdigit()) or (int(major), int(minor)) >= (6, 8)


def mount_overlay(
    target: str, lowerdirs: list[str], upperdir: str | None, workdir: str | None, *, volatile: bool = False
) -> None:
    """Mount an overlay by mount(2), for kernels without `lowerdir+`.

    All options share one page there, so the directories are named by their descriptors in /proc/self/fd: enough for 200
    layers, more than Docker allows an image. Beyond that the names are relative, so only a process with one thread may ask.
    """
    held: list[int] = []
    try:
        names = [_numbered(path, held) for path in lowerdirs]
        options = [
            (key, _numbered(value, held) if value.startswith("/") else value)
            for key, value in _overlay_options(upperdir, workdir)
        ]
        data = _mount_data(names, options, "/proc/self/fd/", volatile=volatile and upperdir is not None)
        if len(data) <= _DATA_LIMIT:
            mount("overlay", target, "overlay", 0, data)
            return
        data = _mount_data(names, options, "", volatile=volatile and upperdir is not None)
        if len(data) > _DATA_LIMIT:
            raise OSError(errno.E2BIG, f"overlay: {len(lowerdirs)} layers do not fit in one page of options", target)
        here = os.open(".", os.O_PATH | os.O_DIRECTORY)
        target = os.path.abspath(target)
        try:
            os.chdir("/proc/self/fd")
            mount("overlay", target, "overlay", 0, data)
        finally:
            os.fchdir(here)
            os.close(here)
    finally:
        for fd in held:
            os.close(fd)


def _mount_data(names: list[str], options: list[tuple[str, str]], prefix: str, *, volatile: bool) -> str:
    parts = ["lowerdir=" + ":".join(prefix + name for name in names)]
    parts += [f"{key}={prefix if key in ('upperdir', 'workdir') else ''}{value}" for key, value in options]
    return ",".join(parts + ["volatile"] * volatile)


def _overlay_options(upperdir: str | None, workdir: str | None) -> list[tuple[str, str]]:
    # An upper directory may become an image layer: it must not refer to the layers below (redirects, metadata-only copies).
    options = [("redirect_dir", "off"), ("metacopy", "off"), ("index", "off")]
    if upperdir is not None and workdir is not None:
        options += [("upperdir", upperdir), ("workdir", workdir)]
    return options


def _short_name(path: str, held: list[int]) -> str:
    if len(os.fsencode(path)) <= _STRING_LIMIT:
        return path
    return "/proc/self/fd/" + _numbered(path, held)


def _numbered(path: str, held: list[int]) -> str:
    held.append(os.open(path, os.O_PATH | os.O_DIRECTORY))
    return str(held[-1])
