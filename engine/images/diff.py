"""Write what an overlay mount's upper directory holds as an OCI layer: whiteouts for what was removed, in a fixed order."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator

from engine.errors import Unsupported
from engine.images.layer import OPAQUE_MARKER, OPAQUE_XATTR, WHITEOUT_PREFIX
from engine.images.tar import BLOCK_BYTES, Entry, header, type_of

_CHUNK_BYTES = 1 << 20
_OVERLAY_XATTR = "trusted.overlay."
_KEPT_XATTRS = ("user.", "security.capability", "system.posix_acl_")
_END_OF_ARCHIVE = bytes(2 * BLOCK_BYTES)


def write_tar(
    upper: str,
    write: Callable[[bytes], object],
    *,
    mounted: bool = False,
    leave_out: Callable[[bytes, os.stat_result], bool] | None = None,
) -> None:
    """Write the layer's tar, uncompressed. Names are sorted, times are whole seconds, so equal trees give equal bytes.

    overlayfs's bookkeeping attributes are removed from `upper` on the way, since as a lower directory it must not have them;
    of a directory that is still `mounted` nothing is changed. `leave_out` tells names that do not belong to the layer.
    """
    links: dict[tuple[int, int], bytes] = {}
    _xattrs(os.fsencode(upper), keep=mounted)
    for path, name in _walk(os.fsencode(upper)):
        found = os.lstat(path)
        if leave_out is not None and leave_out(name, found):
            continue
        if stat.S_ISSOCK(found.st_mode):
            continue
        if stat.S_ISCHR(found.st_mode) and found.st_rdev == 0:
            above, _, last = name.rpartition(b"/")
            write(header(_marker(above, WHITEOUT_PREFIX + last)))
            continue
        xattrs, is_opaque = _xattrs(path, keep=mounted)
        entry = _entry(path, name, found)
        entry.xattrs = xattrs
        if found.st_nlink > 1 and not stat.S_ISDIR(found.st_mode):
            first = links.setdefault((found.st_dev, found.st_ino), entry.name)
            if first != entry.name:
                entry.type, entry.link, entry.size, entry.xattrs = b"1", first, 0, {}
        write(header(entry))
        if entry.type == b"0":
            _copy(path, entry.size, write)
        if is_opaque:
            write(header(_marker(name, OPAQUE_MARKER)))
    write(_END_OF_ARCHIVE)


def _walk(top: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Every path below `top` with its name in the archive, each directory before its content, names in byte order."""
    pending = [b""]
    while pending:
        name = pending.pop()
        path = os.path.join(top, name) if name else top
        if name:
            yield path, name
        if stat.S_ISDIR(os.lstat(path).st_mode):
            pending.extend(name + b"/" + below if name else below for below in sorted(os.listdir(path), reverse=True))


def _entry(path: bytes, name: bytes, found: os.stat_result) -> Entry:
    kind = type_of(found.st_mode)
    assert kind is not None
    entry = Entry(name + b"/" if kind == b"5" else name, kind, found.st_size if kind == b"0" else 0)
    entry.mode = stat.S_IMODE(found.st_mode)
    entry.uid, entry.gid = found.st_uid, found.st_gid
    entry.mtime_ns = found.st_mtime_ns
    if kind == b"2":
        entry.link = os.readlink(path)
    elif kind in b"34":
        entry.major, entry.minor = os.major(found.st_rdev), os.minor(found.st_rdev)
    return entry


def _marker(directory: bytes, name: bytes) -> Entry:
    return Entry(directory + b"/" + name if directory else name, b"0")


def _xattrs(path: bytes, *, keep: bool) -> tuple[dict[bytes, bytes], bool]:
    """The attributes that belong to the image, and whether overlayfs holds the directory opaque."""
    kept: dict[bytes, bytes] = {}
    is_opaque = False
    for key in os.listxattr(path, follow_symlinks=False):
        if key == OPAQUE_XATTR:
            is_opaque = os.getxattr(path, key, follow_symlinks=False) == b"y"
        elif key in (f"{_OVERLAY_XATTR}redirect", f"{_OVERLAY_XATTR}metacopy"):
            raise Unsupported(f"the upper directory uses overlayfs's {key.removeprefix(_OVERLAY_XATTR)}")
        elif key.startswith(_OVERLAY_XATTR):
            if not keep:
                os.removexattr(path, key, follow_symlinks=False)
        elif key.startswith(_KEPT_XATTRS):
            kept[os.fsencode(key)] = os.getxattr(path, key, follow_symlinks=False)
    return kept, is_opaque


def _copy(path: bytes, size: int, write: Callable[[bytes], object]) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        left = size
        while left:
            piece = os.read(fd, min(left, _CHUNK_BYTES))
            if not piece:
                raise OSError(errno.EIO, "a file became shorter while it was read", os.fsdecode(path))
            write(piece)
            left -= len(piece)
    finally:
        os.close(fd)
    if size % BLOCK_BYTES:
        write(bytes(BLOCK_BYTES - size % BLOCK_BYTES))
