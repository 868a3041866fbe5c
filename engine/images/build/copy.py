"""COPY and ADD: from a tree into a root, as Docker does it.

A directory's content is copied, not the directory; a file goes into a destination that is a directory or ends with a slash;
missing parents are made. The destination is followed once inside the root; below it no symbolic link is followed.
"""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from engine.errors import InvalidInput
from engine.frozen import frozen
from engine.images.build.context import Match, Tree, TreeEntry, without
from engine.images.build.ignore import IgnoreRules
from engine.images.build.modes import ModeChange

_DIRECTORY_MODE = 0o755
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_SENDFILE_BYTES = 1 << 30

_Made = TypeVar("_Made")


@frozen
class CopyOptions:
    """`owner` and `mode` None keep what the source has. `exclude` names what is not copied, relative to each source."""

    owner: tuple[int, int] | None = None
    mode: ModeChange | None = None
    exclude: IgnoreRules | None = None


class Copier:
    """Copies into one root with one set of options. Use it as a context manager."""

    def __init__(self, root: Tree, options: CopyOptions) -> None:
        self.root = root
        self.options = options
        self._links: dict[tuple[int, int], str] = {}
        self._parent: tuple[str, int] | None = None

    def __enter__(self) -> Copier:
        return self

    def __exit__(self, *_: object) -> None:
        self._forget_parent()

    def copy(self, source: Tree, match: Match, destination: str, *, into_directory: bool) -> None:
        """Copy one match from `source`. `into_directory` says that the destination was written as a directory."""
        entries = source.walk(match.path)
        first = next(entries, None)
        if first is None:
            raise InvalidInput(f"/{match.path} does not exist")
        target = self.root.follow(destination)
        if stat.S_ISDIR(first.stat.st_mode):
            self.make_directories(target)
            self._copy_below(source, match.path, entries, target)
            return
        found = self.root.lstat(target)
        if into_directory or (found is not None and stat.S_ISDIR(found.st_mode)):
            self.make_directories(target)
            target = posixpath.join(target, match.name)
        self._copy_file(source, first, target)

    def copy_with_parents(self, source: Tree, match: Match, destination: str) -> None:
        """Copy one match to its name (a path) below the destination, with the directories above it as they are in the source."""
        entries = source.walk(match.path)
        first = next(entries, None)
        if first is None:
            raise InvalidInput(f"/{match.path} does not exist")
        target = self.root.follow(destination)
        self.make_directories(target)
        dropped = match.path.removesuffix(match.name).rstrip("/")
        is_directory = stat.S_ISDIR(first.stat.st_mode)
        above = match.name if is_directory else posixpath.dirname(match.name)
        made = []
        for name in _prefixes(above):
            path = posixpath.join(dropped, name)
            found = source.lstat(path)
            assert found is not None
            entry = TreeEntry(path, found)
            below = posixpath.join(target, name)
            if self.root.lstat(below) is None:
                self._put(source, entry, below)
                made.append((entry, below))
        if is_directory:
            self._copy_below(source, match.path, entries, posixpath.join(target, match.name))
        else:
            self._copy_file(source, first, posixpath.join(target, match.name))
        for entry, below in reversed(made):
            self._set_metadata(source, entry, below)

    def _copy_file(self, source: Tree, entry: TreeEntry, target: str) -> None:
        for wanted in without([entry], entry.path, self.options.exclude):
            self.make_directories(posixpath.dirname(target))
            self._put(source, wanted, target)

    def _copy_below(self, source: Tree, path: str, entries: Iterable[TreeEntry], target: str) -> None:
        """Copy what is in a directory into one that exists."""
        exclude = self.options.exclude
        directories: list[tuple[TreeEntry, str]] = []
        for entry in without(entries, path, exclude):
            below = posixpath.join(target, entry.path[len(path) :].lstrip("/"))
            if exclude is not None and exclude.has_exceptions:
                self.make_directories(posixpath.dirname(below))
            self._put(source, entry, below)
            if stat.S_ISDIR(entry.stat.st_mode):
                directories.append((entry, below))
        # Last, since writing into a directory changes its times.
        for entry, below in reversed(directories):
            self._set_metadata(source, entry, below)

    def write_file(self, content: bytes, destination: str, name: str, *, into_directory: bool) -> None:
        """Write a file with this content, as `copy` would copy one called `name`. Its mode is 0644."""
        target = self.root.follow(destination)
        found = self.root.lstat(target)
        if into_directory or (found is not None and stat.S_ISDIR(found.st_mode)):
            target = posixpath.join(target, name)
        self.make_directories(posixpath.dirname(target))
        parent, name = self._at(target)
        fd = self._create(target, lambda: os.open(name, _NEW_FILE, 0o600, dir_fd=parent))
        try:
            with os.fdopen(os.dup(fd), "wb") as file:
                file.write(content)
            os.fchown(fd, *(self.options.owner or (0, 0)))
            os.fchmod(fd, self._changed(0o644, is_directory=False))
        finally:
            os.close(fd)

    def make_directories(self, path: str) -> None:
        """Make a directory and its missing parents: mode 0755, of the given owner. Existing ones stay as they are."""
        parts = path.split("/") if path else []
        for count in range(1, len(parts) + 1):
            prefix = "/".join(parts[:count])
            found = self.root.lstat(prefix)
            if found is None:
                parent, name = self._at(prefix)
                os.mkdir(name, _DIRECTORY_MODE, dir_fd=parent)
                os.chmod(name, _DIRECTORY_MODE, dir_fd=parent)
                os.chown(name, *(self.options.owner or (0, 0)), dir_fd=parent)
            elif not stat.S_ISDIR(found.st_mode):
                raise InvalidInput(f"/{prefix} is in the image, and it is not a directory")

    def _put(self, source: Tree, entry: TreeEntry, target: str) -> None:
        """Make the copy of one entry; a directory's metadata follow later."""
        kind = stat.S_IFMT(entry.stat.st_mode)
        parent, name = self._at(target)
        if kind == stat.S_IFDIR:
            self._put_directory(parent, name, target)
        elif kind == stat.S_IFREG:
            self._put_file(source, entry, target)
        elif kind == stat.S_IFLNK:
            leads_to = source.readlink(entry.path)
            self._create(target, lambda: os.symlink(leads_to, name, dir_fd=parent))
            self._set_metadata(source, entry, target)
        else:
            self._create(target, lambda: os.mknod(name, kind | 0o600, entry.stat.st_rdev, dir_fd=parent))
            self._set_metadata(source, entry, target)

    def _put_directory(self, parent: int, name: str, target: str) -> None:
        try:
            os.mkdir(name, 0o700, dir_fd=parent)
        except FileExistsError:
            if not stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
                raise InvalidInput(f"cannot copy a directory over /{target}, which is not a directory") from None

    def _put_file(self, source: Tree, entry: TreeEntry, target: str) -> None:
        key = (entry.stat.st_dev, entry.stat.st_ino)
        if entry.stat.st_nlink > 1 and key in self._links:
            self._link(self._links[key], target)
            return
        parent, name = self._at(target)
        reading = source.open(entry.path, os.O_RDONLY | os.O_NOFOLLOW)
        try:
            source.check(entry.path, os.fstat(reading))
            writing = self._create(target, lambda: os.open(name, _NEW_FILE, 0o600, dir_fd=parent))
            try:
                while os.sendfile(writing, reading, None, _SENDFILE_BYTES):
                    pass
                source.check(entry.path, os.fstat(reading))
                self._set_file_metadata(source, entry, writing)
            finally:
                os.close(writing)
        finally:
            os.close(reading)
        self._links[key] = target

    def _link(self, first: str, target: str) -> None:
        """Make a second name of a file copied before."""
        parent, name = self._at(target)
        above, first_name = posixpath.split(first)
        fd = self.root.open(above, os.O_PATH | os.O_DIRECTORY)
        try:
            self._create(
                target, lambda: os.link(first_name, name, src_dir_fd=fd, dst_dir_fd=parent, follow_symlinks=False)
            )
        finally:
            os.close(fd)

    def _set_file_metadata(self, source: Tree, entry: TreeEntry, fd: int) -> None:
        os.fchown(fd, *(self.options.owner or source.owner(entry)))
        os.fchmod(fd, self._mode(entry))
        for key, value in source.xattrs(entry).items():
            os.setxattr(fd, key, value)
        modified = source.modified_ns(entry)
        os.utime(fd, ns=(modified, modified))

    def _set_metadata(self, source: Tree, entry: TreeEntry, target: str) -> None:
        parent, name = self._at(target)
        os.chown(name, *(self.options.owner or source.owner(entry)), dir_fd=parent, follow_symlinks=False)
        if not stat.S_ISLNK(entry.stat.st_mode):
            os.chmod(name, self._mode(entry), dir_fd=parent)
        for key, value in source.xattrs(entry).items():
            os.setxattr(f"/proc/self/fd/{parent}/{name}", key, value, follow_symlinks=False)
        modified = source.modified_ns(entry)
        os.utime(name, ns=(modified, modified), dir_fd=parent, follow_symlinks=False)

    def _mode(self, entry: TreeEntry) -> int:
        return self._changed(stat.S_IMODE(entry.stat.st_mode), is_directory=stat.S_ISDIR(entry.stat.st_mode))

    def _changed(self, mode: int, *, is_directory: bool) -> int:
        change = self.options.mode
        return mode if change is None else change.apply(mode, is_directory=is_directory)

    def _create(self, target: str, make: Callable[[], _Made]) -> _Made:
        """Make a file, link or node, in place of what stands there unless that is a directory."""
        try:
            return make()
        except FileExistsError:
            parent, name = self._at(target)
            try:
                os.unlink(name, dir_fd=parent)
            except IsADirectoryError:
                raise InvalidInput(
                    f"cannot copy a file over the directory /{target}", hint="end the destination with a slash"
                ) from None
            return make()

    def _at(self, path: str) -> tuple[int, str]:
        """A descriptor of the directory above a path, valid until the next call, and the path's last name."""
        above, name = posixpath.split(path)
        if self._parent is None or self._parent[0] != above:
            self._forget_parent()
            self._parent = (above, self.root.open(above, os.O_PATH | os.O_DIRECTORY))
        return self._parent[1], name

    def _forget_parent(self) -> None:
        if self._parent is not None:
            os.close(self._parent[1])
            self._parent = None


def _prefixes(path: str) -> Iterator[str]:
    """`a`, `a/b`, `a/b/c` of `a/b/c`."""
    parts = path.split("/") if path else []
    for count in range(1, len(parts) + 1):
        yield "/".join(parts[:count])
