"""Unpack a layer's tar into a directory that overlayfs can use as a lower one.

The archive is hostile: every parent is resolved inside the directory by openat2(2) with RESOLVE_IN_ROOT, the last component
is never followed, and what is there already is replaced, not written through. Whiteouts become overlayfs's own: a character
device 0:0, and `trusted.overlay.opaque` on a directory (OCI image-spec, layer.md; kernel, overlayfs.rst).
"""

from __future__ import annotations

import errno
import os
import stat

from engine.errors import Denied, InvalidInput, KernelError, UmiakError
from engine.images.tar import Entry, Limits, TarReader
from engine.images.tree import remove_tree
from engine.kernel.files import open_in_root

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

WHITEOUT_PREFIX = b".wh."
OPAQUE_MARKER = b".wh..wh..opq"
OPAQUE_XATTR = "trusted.overlay.opaque"

_DIRECTORY_FLAGS = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_CREATE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_CACHED_PARENTS = 512
_MAX_LINKS_FOLLOWED = 40
_USUAL_DEPTH = 64
_KEPT_XATTRS = (b"user.", b"security.capability", b"system.posix_acl_")
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
_ARCHIVE_FAULTS = (
    errno.ENAMETOOLONG,
    errno.ELOOP,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EEXIST,
    errno.EFBIG,
    errno.EINVAL,
    errno.EMLINK,
    errno.EILSEQ,
    errno.ERANGE,
    errno.E2BIG,
    errno.ENOENT,
    errno.EXDEV,
    errno.EOVERFLOW,
)


class LayerWriter:
    """Writes entries below one directory. Use it as a context manager; `finish()` sets the directories' times.

    `rename` maps an entry's path to the one to write, or None to leave it out. With `keep_directory_links` a directory entry
    where a link to a directory stands leaves the link, as dpkg does (a layer would replace it). Without `overlay` the directory
    is an ordinary one: a whiteout is a file like any other, and no directory makes way for a file, nor the other way round.
    """

    def __init__(
        self,
        directory: str,
        *,
        rename: Callable[[bytes], bytes | None] | None = None,
        keep_directory_links: bool = False,
        overlay: bool = True,
    ) -> None:
        self._root = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._parents: dict[bytes, int] = {}
        self._directory_times: dict[bytes, int] = {}
        self._rename = rename
        self._keep_directory_links = keep_directory_links
        self._overlay = overlay
        self._stale = False

    def __enter__(self) -> LayerWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._forget_parents()
        os.close(self._root)

    def unpack(self, pieces: Iterable[bytes], limits: Limits | None = None) -> None:
        """Write all entries of an archive. Raise InvalidInput where it is broken or names something outside.

        A full disk passes through as OSError: the caller knows what was being unpacked and where.
        """
        reader = TarReader(pieces, limits)
        for entry in reader:
            self.write(entry, reader)

    def write(self, entry: Entry, reader: TarReader) -> None:
        """Write one entry; `reader` stands at its data."""
        path = _path(entry.name)
        if self._rename is not None:
            renamed = self._rename(path)
            if renamed is None:
                return
            path = renamed
        if self._stale or len(self._parents) >= _CACHED_PARENTS:
            self._forget_parents()
        above, _, name = path.rpartition(b"/")
        try:
            if not path:
                self._set_root(entry)
            else:
                self._write(entry, reader, above, name)
        except OSError as error:
            if error.errno in _NO_SPACE:
                raise
            raise _explained(error, path) from error

    def finish(self) -> None:
        """Set the directories' modification times, which writing into them had changed."""
        for path, mtime_ns in reversed(self._directory_times.items()):
            above, _, name = path.rpartition(b"/")
            try:
                parent = self._parent(above)
                if stat.S_ISDIR(os.lstat(name or b".", dir_fd=parent).st_mode):
                    os.utime(name or b".", ns=(mtime_ns, mtime_ns), dir_fd=parent, follow_symlinks=False)
            except OSError as error:
                raise _explained(error, path) from error

    def _write(self, entry: Entry, reader: TarReader, above: bytes, name: bytes) -> None:
        parent = self._parent(above)
        if self._overlay and name.startswith(WHITEOUT_PREFIX):
            self._whiteout(parent, name)
            return
        kind = entry.type
        if kind == b"0":
            self._file(entry, reader, parent, name)
        elif kind in b"5D":
            self._directory(entry, parent, above, name)
        elif kind == b"2":
            self._create(parent, name, lambda: os.symlink(entry.link, name, dir_fd=parent))
            self._own(entry, parent, name)
            self._set_xattrs(entry, parent, name)
        elif kind == b"1":
            self._hard_link(entry, parent, name)
        elif kind in b"346":
            self._node(entry, parent, name)
        else:
            raise InvalidInput(f"the tar archive holds an entry of unknown type {kind!r}")

    def _file(self, entry: Entry, reader: TarReader, parent: int, name: bytes) -> None:
        try:
            fd = os.open(name, _CREATE_FLAGS, 0o600, dir_fd=parent)
        except FileExistsError:
            self._remove(parent, name)
            fd = os.open(name, _CREATE_FLAGS, 0o600, dir_fd=parent)
        try:
            for offset, piece in reader.data():
                if entry.sparse is not None:
                    os.lseek(fd, offset, os.SEEK_SET)
                while piece:
                    piece = piece[os.write(fd, piece) :]
            if entry.sparse is not None:
                os.ftruncate(fd, entry.size)
            if entry.uid or entry.gid:
                os.fchown(fd, entry.uid, entry.gid)
            os.fchmod(fd, entry.mode)
            if entry.xattrs:
                self._set_xattrs(entry, parent, name)
            os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))
        finally:
            os.close(fd)

    def _directory(self, entry: Entry, parent: int, above: bytes, name: bytes) -> None:
        opaque = False
        try:
            os.mkdir(name, 0o700, dir_fd=parent)
        except FileExistsError:
            found = os.lstat(name, dir_fd=parent)
            if self._keep_directory_links and self._is_directory_link(above, name, found):
                return
            if not stat.S_ISDIR(found.st_mode):
                if not self._overlay:
                    raise OSError(errno.ENOTDIR, "a file is in the place of the directory") from None
                opaque = _is_whiteout(found)
                self._remove(parent, name)
                os.mkdir(name, 0o700, dir_fd=parent)
        self._own(entry, parent, name)
        os.chmod(name, entry.mode, dir_fd=parent)
        self._set_xattrs(entry, parent, name)
        if opaque:  # the same layer removed what was there and made this directory anew
            _make_opaque(parent, name)
        self._directory_times[above + b"/" + name if above else name] = entry.mtime_ns

    def _is_directory_link(self, above: bytes, name: bytes, found: os.stat_result) -> bool:
        if not stat.S_ISLNK(found.st_mode):
            return False
        try:
            os.close(open_in_root(self._root, os.fsdecode(above + b"/" + name), _DIRECTORY_FLAGS))
        except OSError:
            return False
        return True

    def _hard_link(self, entry: Entry, parent: int, name: bytes) -> None:
        target = _components(entry.link)
        if not target:
            raise InvalidInput("a hard link in the tar archive has no target")
        try:
            # Pinned, since what stands at `name` may be part of the path to it.
            source = os.open(
                target[-1], os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._parent(b"/".join(target[:-1]))
            )
        except FileNotFoundError as error:
            raise InvalidInput(
                f"a hard link in the tar archive points to what it lacks: {_shown(entry.link)}"
            ) from error
        try:
            found, pinned = _lstat_or_none(parent, name), os.fstat(source)
            if stat.S_ISDIR(pinned.st_mode):
                raise InvalidInput(f"a hard link in the tar archive points to a directory: {_shown(entry.link)}")
            if found is None or not os.path.samestat(found, pinned):
                self._create(parent, name, lambda: os.link(f"/proc/self/fd/{source}", name, dst_dir_fd=parent))
        finally:
            os.close(source)

    def _node(self, entry: Entry, parent: int, name: bytes) -> None:
        if entry.type == b"6":
            self._create(parent, name, lambda: os.mkfifo(name, 0o600, dir_fd=parent))
        else:
            kind = stat.S_IFCHR if entry.type == b"3" else stat.S_IFBLK
            if entry.major >= 1 << 12 or entry.minor >= 1 << 20:
                raise InvalidInput("a device number in the tar archive is out of range")
            device = os.makedev(entry.major, entry.minor)
            self._create(parent, name, lambda: os.mknod(name, kind | 0o600, device, dir_fd=parent))
        self._own(entry, parent, name)
        os.chmod(name, entry.mode, dir_fd=parent)
        self._set_xattrs(entry, parent, name)

    def _whiteout(self, parent: int, name: bytes) -> None:
        if name == OPAQUE_MARKER:
            _make_opaque(parent, b"")
            return
        hidden = name[len(WHITEOUT_PREFIX) :]
        if hidden in (b"", b".", b"..") or name.startswith(b".wh..wh."):
            return  # aufs's own records; nothing of the image
        found = _lstat_or_none(parent, hidden)
        if found is None:
            os.mknod(hidden, stat.S_IFCHR, os.makedev(0, 0), dir_fd=parent)
        elif stat.S_ISDIR(found.st_mode):
            _make_opaque(parent, hidden)  # a whiteout hides lower layers only

    def _set_root(self, entry: Entry) -> None:
        if entry.type == b"5":
            os.chown(self._root, entry.uid, entry.gid)
            os.chmod(self._root, entry.mode)
            self._directory_times[b""] = entry.mtime_ns

    def _own(self, entry: Entry, parent: int, name: bytes) -> None:
        if entry.uid or entry.gid:
            os.chown(name, entry.uid, entry.gid, dir_fd=parent, follow_symlinks=False)
        if entry.type != b"5":
            os.utime(name, ns=(entry.mtime_ns, entry.mtime_ns), dir_fd=parent, follow_symlinks=False)

    def _set_xattrs(self, entry: Entry, parent: int, name: bytes) -> None:
        """Set what an image may carry. overlayfs's own would let a layer reach into others (redirect, metacopy)."""
        for key, value in entry.xattrs.items():
            if not key.startswith(_KEPT_XATTRS) or key.startswith(b"user.overlay."):
                continue
            try:
                os.setxattr(_by_fd(parent, name), key, value, follow_symlinks=False)
            except OSError as error:
                if error.errno not in (errno.ENOTSUP, errno.EPERM) or key == b"security.capability":
                    raise

    def _create(self, parent: int, name: bytes, make: Callable[[], None]) -> None:
        """Make something new at `name`, in place of what is there."""
        try:
            make()
        except FileExistsError:
            self._remove(parent, name)
            make()

    def _remove(self, parent: int, name: bytes) -> None:
        if stat.S_ISDIR(os.lstat(name, dir_fd=parent).st_mode):
            if not self._overlay:
                raise OSError(errno.EISDIR, "a directory is in the place of the file")
            remove_tree(name, dir_fd=parent)
        else:
            os.unlink(name, dir_fd=parent)
        self._stale = True  # cached parents may have led through it

    def _parent(self, path: bytes) -> int:
        """A descriptor of the directory at `path`, made where it is missing (with its own parents)."""
        if not path:
            return self._root
        found = self._parents.get(path)
        if found is None:
            try:
                found = open_in_root(self._root, os.fsdecode(path), _DIRECTORY_FLAGS)
            except (FileNotFoundError, NotADirectoryError):
                found = self._make_below(path) or self._make_parents(path, 0)
            self._parents[path] = found
        return found

    def _make_below(self, path: bytes) -> int | None:
        """Make a directory in its parent, the usual case; None where something stands there or the path is very deep."""
        if path.count(b"/") >= _USUAL_DEPTH:
            return None
        above, _, name = path.rpartition(b"/")
        parent = self._parent(above)
        try:
            os.mkdir(name, 0o755, dir_fd=parent)
        except FileExistsError:
            return None
        os.chmod(name, 0o755, dir_fd=parent)
        return os.open(name, _DIRECTORY_FLAGS | os.O_NOFOLLOW, dir_fd=parent)

    def _make_parents(self, path: bytes, followed: int) -> int:
        """Walk down `path`, making what is missing, and return a descriptor of its end."""
        parts = path.split(b"/")
        current = os.dup(self._root)
        for depth, name in enumerate(parts, 1):
            try:
                below = open_in_root(self._root, os.fsdecode(b"/".join(parts[:depth])), _DIRECTORY_FLAGS)
            except (FileNotFoundError, NotADirectoryError):
                try:
                    below = self._make_parent(current, parts[: depth - 1], name, followed)
                except BaseException:
                    os.close(current)
                    raise
            os.close(current)
            current = below
        return current

    def _make_parent(self, above: int, above_parts: list[bytes], name: bytes, followed: int) -> int:
        """Make one directory; a symbolic link to a missing one has its target made, as an image's own program would see it."""
        opaque = False
        found = _lstat_or_none(above, name)
        if found is not None and stat.S_ISLNK(found.st_mode):
            if followed >= _MAX_LINKS_FOLLOWED:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
            target = os.readlink(name, dir_fd=above)
            base = [] if target.startswith(b"/") else above_parts
            return self._make_parents(_normalised(base + target.split(b"/")), followed + 1)
        if found is not None and _is_whiteout(found):
            self._remove(above, name)
            opaque = True
        os.mkdir(name, 0o755, dir_fd=above)
        os.chmod(name, 0o755, dir_fd=above)
        if opaque:
            _make_opaque(above, name)
        return os.open(name, _DIRECTORY_FLAGS | os.O_NOFOLLOW, dir_fd=above)

    def _forget_parents(self) -> None:
        for fd in self._parents.values():
            os.close(fd)
        self._parents.clear()
        self._stale = False


def _path(name: bytes) -> bytes:
    """A name as a path below the layer's root, without `.` and empty parts."""
    name = name.removeprefix(b"./").strip(b"/")
    if name.startswith(b".") or b"/." in name or b"//" in name:
        return b"/".join(_components(name))
    return name


def _components(name: bytes) -> list[bytes]:
    """A name's parts below the layer's root. A leading slash means that root; `..` is refused."""
    parts = [part for part in name.split(b"/") if part not in (b"", b".")]
    if b".." in parts:
        raise InvalidInput(f"the tar archive names something outside of itself: {_shown(name)}")
    return parts


def _normalised(parts: list[bytes]) -> bytes:
    kept: list[bytes] = []
    for part in parts:
        if part == b"..":
            del kept[-1:]
        elif part not in (b"", b"."):
            kept.append(part)
    return b"/".join(kept) or b"."


def _by_fd(parent: int, name: bytes) -> bytes:
    """A path for calls that take no directory descriptor."""
    return b"/proc/self/fd/%d/%s" % (parent, name or b".")


def _lstat_or_none(parent: int, name: bytes) -> os.stat_result | None:
    try:
        return os.lstat(name, dir_fd=parent)
    except FileNotFoundError:
        return None


def _is_whiteout(found: os.stat_result) -> bool:
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == 0


def _make_opaque(parent: int, name: bytes) -> None:
    os.setxattr(_by_fd(parent, name), OPAQUE_XATTR, b"y", follow_symlinks=False)


def _shown(name: bytes) -> str:
    text = name.decode("utf-8", "backslashreplace")
    return repr(text if len(text) <= 120 else f"{text[:120]}…")


def _explained(error: OSError, path: bytes) -> UmiakError:
    name, why = _shown(path), os.strerror(error.errno or 0).lower()
    if error.errno in (errno.EPERM, errno.EACCES):
        return Denied(f"cannot unpack {name}: {why}", hint="run umiak as root")
    if error.errno in _ARCHIVE_FAULTS:
        return InvalidInput(f"cannot unpack {name}: {why}")
    return KernelError(f"cannot unpack {name}: {why}", errno=error.errno or 0)
