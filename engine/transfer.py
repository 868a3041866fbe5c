"""Copy files into and out of containers, and between any two trees, as tar streams.

Both sides may be under someone else's control while this runs: each path is resolved by the kernel inside its tree's root
(openat2(2), RESOLVE_IN_ROOT), so that no link and no rename at the wrong moment leads out of it. What is being written while
it is read comes out cut or padded to the size that it had.
"""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Iterable, Iterator, Mapping
from types import TracebackType

from engine.errors import InvalidInput, NotFound
from engine.images.layer import LayerWriter
from engine.images.tar import BLOCK_BYTES, Entry, TarReader, header, type_of
from engine.kernel.files import open_in_root

PIECE_BYTES = 1 << 18
END_OF_ARCHIVE = bytes(2 * BLOCK_BYTES)
_LINK_LIMIT = 40
_KEPT_XATTRS = ("user.", "security.capability", "system.posix_acl_")


class Tree:
    """A file system as those see it who live in it: open directories by mount point, "/" among them. Owns the descriptors.

    `devices` tells whether device nodes may be made in it.
    """

    def __init__(self, roots: Mapping[str, int], *, devices: bool = True) -> None:
        self._roots = dict(roots)
        self.devices = devices

    @classmethod
    def of_host(cls) -> Tree:
        """This host's own files. What comes out of a container makes no devices here."""
        return cls({"/": os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)}, devices=False)

    def __enter__(self) -> Tree:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for fd in self._roots.values():
            os.close(fd)

    def locate(self, path: str) -> tuple[int, str]:
        """The open root that a path lies in, and the path there ("." for the root itself)."""
        whole = posixpath.normpath(f"/{path}").replace("//", "/")
        inside = [point for point in self._roots if point == "/" or whole == point or whole.startswith(f"{point}/")]
        point = max(inside, key=len)
        return self._roots[point], whole[len(point.rstrip("/")) :].lstrip("/") or "."

    def open(self, path: str, *, follow: bool) -> int:
        """A path's own descriptor (`O_PATH`). Raise NotFound."""
        root, inner = self.locate(path)
        try:
            return open_in_root(root, inner, os.O_PATH | (0 if follow else os.O_NOFOLLOW))
        except (FileNotFoundError, NotADirectoryError) as error:
            raise NotFound(f'no such file or directory: "{path}"') from error
        except OSError as error:
            raise InvalidInput(f'cannot use "{path}": {(error.strerror or str(error)).lower()}') from error

    def look(self, path: str, *, follow: bool) -> os.stat_result | None:
        """What is at a path, None for nothing."""
        try:
            fd = self.open(path, follow=follow)
        except NotFound:
            return None
        try:
            return os.fstat(fd)
        finally:
            os.close(fd)


def copy(
    source: Tree,
    path: str,
    target: Tree,
    destination: str,
    *,
    follow: bool = False,
    owner: tuple[int, int] | None = None,
) -> None:
    """Copy as `docker cp` does: into `destination` where that is a directory, else as it.

    A `path` that ends with "/." stands for a directory's content. With `follow` a link at `path` is followed. All copies belong
    to `owner` (user, group); None keeps the numbers that they have.
    """
    found = source.look(path, follow=follow)
    if found is None:
        raise NotFound(f'no such file or directory: "{path}"')
    directory, name = _place(stat.S_ISDIR(found.st_mode), path, target, destination)
    unpack(target, directory, pack(source, path, name, follow=follow), owner=owner)


def _place(is_directory: bool, path: str, target: Tree, destination: str) -> tuple[str, str]:
    """The directory to copy into and the name there; "" for the content alone."""
    there = target.look(destination, follow=True)
    if there is not None and stat.S_ISDIR(there.st_mode):
        last = posixpath.basename(path.rstrip("/"))
        return destination, "" if is_directory and last in ("", ".", "..") else last
    if there is not None and is_directory:
        raise InvalidInput(f'cannot copy a directory onto the file "{destination}"')
    if destination.endswith("/") and not is_directory:
        raise NotFound(f'cannot copy into "{destination}": there is no such directory')
    place = _followed(target, destination)
    directory, name = posixpath.split(posixpath.normpath(place))
    above = target.look(directory or "/", follow=True)
    if above is None or not stat.S_ISDIR(above.st_mode):
        raise NotFound(f'cannot copy to "{destination}": there is no directory "{directory or "/"}"')
    return directory or "/", name


def _followed(target: Tree, path: str) -> str:
    """Where a link at `path` leads, link after link, in the tree's own terms."""
    for _ in range(_LINK_LIMIT):
        try:
            fd = target.open(path, follow=False)
        except NotFound:
            return path
        try:
            if not stat.S_ISLNK(os.fstat(fd).st_mode):
                return path
            path = posixpath.join(posixpath.dirname(posixpath.normpath(path)), os.readlink("", dir_fd=fd))
        finally:
            os.close(fd)
    raise InvalidInput(f'cannot follow "{path}": too many links')


def pack(tree: Tree, path: str, name: str, *, follow: bool = False) -> Iterator[bytes]:
    """A tar of what is at `path`, called `name` in it; "" packs a directory's content without the directory."""
    top = tree.open(path, follow=follow)
    try:
        yield from _Packer(top, os.fsencode(name)).pieces()
        yield END_OF_ARCHIVE
    finally:
        os.close(top)


class _Packer:
    """Walks down from an open directory; each file is opened from the top without following any link."""

    def __init__(self, top: int, name: bytes) -> None:
        self._top = top
        self._name = name
        self._links: dict[tuple[int, int], bytes] = {}

    def pieces(self) -> Iterator[bytes]:
        pending = [b""]
        while pending:
            below = pending.pop()
            try:
                fd = self._open(below)
            except OSError:
                continue  # it was removed, or became something else, after it had been listed
            try:
                found = os.fstat(fd)
                if stat.S_ISDIR(found.st_mode):
                    names = sorted(os.listdir(b"/proc/self/fd/%d" % fd), reverse=True)
                    pending += [below + b"/" + each if below else each for each in names]
                yield from self._entry(fd, found, b"/".join(part for part in (self._name, below) if part))
            finally:
                os.close(fd)

    def _open(self, below: bytes) -> int:
        if not below:
            return os.dup(self._top)
        return open_in_root(self._top, os.fsdecode(below), os.O_PATH | os.O_NOFOLLOW, symlinks=False)

    def _entry(self, fd: int, found: os.stat_result, name: bytes) -> Iterator[bytes]:
        kind = type_of(found.st_mode)
        if kind is None or not name:
            return  # a socket; or the directory whose content alone was asked for
        entry = Entry(name + b"/" if kind == b"5" else name, kind, found.st_size if kind == b"0" else 0)
        entry.mode, entry.uid, entry.gid = stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid
        entry.mtime_ns = found.st_mtime_ns
        if kind == b"2":
            entry.link = os.readlink(b"", dir_fd=fd)
        else:
            entry.xattrs = _xattrs(fd)
        if kind in b"34":
            entry.major, entry.minor = os.major(found.st_rdev), os.minor(found.st_rdev)
        if found.st_nlink > 1 and kind != b"5":
            first = self._links.setdefault((found.st_dev, found.st_ino), name)
            if first != name:
                entry.type, entry.link, entry.size, entry.xattrs = b"1", first, 0, {}
        yield header(entry)
        if entry.type == b"0":
            yield from _content(fd, entry.size)


def _xattrs(fd: int) -> dict[bytes, bytes]:
    path = f"/proc/self/fd/{fd}"
    try:
        return {os.fsencode(k): os.getxattr(path, k) for k in os.listxattr(path) if k.startswith(_KEPT_XATTRS)}
    except OSError:
        return {}


def _content(fd: int, size: int) -> Iterator[bytes]:
    """Exactly `size` bytes of a file and the padding after them."""
    left = size
    with open(f"/proc/self/fd/{fd}", "rb", buffering=0) as file:
        while left and (piece := file.read(min(left, PIECE_BYTES))):
            left -= len(piece)
            yield piece
    while left:
        piece = bytes(min(left, PIECE_BYTES))
        left -= len(piece)
        yield piece
    yield bytes(-size % BLOCK_BYTES)


def unpack(tree: Tree, directory: str, pieces: Iterable[bytes], *, owner: tuple[int, int] | None = None) -> None:
    """Write a tar below a directory of a tree. All that is written belongs to `owner`; None: to whom the tar says.

    No directory makes way for a file, nor the other way round. Files given another owner lose their set-user-ID bits.
    """
    found = tree.look(directory, follow=True)
    if found is None or not stat.S_ISDIR(found.st_mode):
        raise NotFound(f'cannot copy into "{directory}": there is no such directory')
    root, inner = tree.locate(directory)
    base = b"" if inner == "." else os.fsencode(inner)

    def below(path: bytes) -> bytes | None:
        return b"/".join(part for part in (base, path) if part) if path else None

    with LayerWriter(f"/proc/self/fd/{root}", rename=below, keep_directory_links=True, overlay=False) as writer:
        reader = TarReader(pieces)
        for entry in reader:
            if entry.type in b"34" and not tree.devices:
                continue
            if owner is not None:
                entry.uid, entry.gid = owner
                entry.mode &= ~(stat.S_ISUID | stat.S_ISGID) if entry.type != b"5" else ~0
            if entry.type == b"1" and base:
                entry.link = base + b"/" + entry.link
            writer.write(entry, reader)
        writer.finish()


def send(source: Tree, files: Iterable[tuple[str, str]], target: Tree, *, owner: tuple[int, int] | None = None) -> None:
    """Copy single files, each to its own path; missing directories on the way are made. What has gone meanwhile is left out."""

    def pieces() -> Iterator[bytes]:
        for path, destination in files:
            try:
                fd = source.open(path, follow=False)
            except NotFound:
                continue
            try:
                yield from _Packer(fd, os.fsencode(destination.strip("/"))).pieces()
            finally:
                os.close(fd)
        yield END_OF_ARCHIVE

    unpack(target, "/", pieces(), owner=owner)


def remove(tree: Tree, path: str) -> None:
    """Remove what is at a path, a directory with all that is in it. What is not there is no error."""
    from engine.images.tree import remove_tree

    above, name = posixpath.split(posixpath.normpath(path))
    root, inner = tree.locate(above or "/")
    try:
        parent = open_in_root(root, inner, os.O_RDONLY | os.O_DIRECTORY)
    except (FileNotFoundError, NotADirectoryError):
        return
    try:
        os.unlink(name, dir_fd=parent)
    except IsADirectoryError:
        remove_tree(name, dir_fd=parent)
    except FileNotFoundError:
        return
    finally:
        os.close(parent)
