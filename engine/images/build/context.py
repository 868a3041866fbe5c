"""The trees that COPY and ADD read: a stage's root, or the build context without what .dockerignore hides.

Paths are relative to the tree's root ("" is the root), resolved by the kernel inside it. A context is hashed by content
(names, types, modes, bytes), never by times, so that a fresh checkout finds the same cache.
"""

from __future__ import annotations

import errno
import hashlib
import os
import posixpath
import re
import stat
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from engine.errors import Conflict, Denied, InvalidInput, KernelError, NotFound, UmiakError, Unavailable
from engine.images.build.ignore import IgnoreRules, Pattern, glob_regex, read_rules
from engine.kernel.files import open_in_root

MAX_LINKS = 40
_KEPT_XATTRS = ("user.", "security.capability", "system.posix_acl_")
_WILDCARD = re.compile(r"(?<!\\)[*?\[]")


class TreeEntry(NamedTuple):
    """A file, directory, link or node; `path` is relative to the tree's root."""

    path: str
    stat: os.stat_result


class Match(NamedTuple):
    """A path to copy, links followed, and the name that its copy gets in a directory."""

    name: str
    path: str


class Tree:
    """A directory tree opened by a descriptor, which stays the caller's to close. `rules` may hide some of it."""

    def __init__(self, root_fd: int, rules: IgnoreRules | None = None) -> None:
        self.root_fd = root_fd
        self.rules = rules or IgnoreRules()

    def open(self, path: str, flags: int = os.O_RDONLY) -> int:
        """Open a path that holds no symbolic link."""
        return open_in_root(self.root_fd, path or ".", flags | os.O_CLOEXEC, symlinks=False)

    def lstat(self, path: str) -> os.stat_result | None:
        """The status of a path whose parents are no symbolic links; None where it does not exist."""
        above, name = posixpath.split(path)
        try:
            parent = self.open(above, os.O_PATH | os.O_DIRECTORY)
        except (FileNotFoundError, NotADirectoryError):
            return None
        try:
            return os.stat(name or ".", dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            return None
        finally:
            os.close(parent)

    def readlink(self, path: str) -> str:
        """Where a symbolic link leads."""
        above, name = posixpath.split(path)
        parent = self.open(above, os.O_PATH | os.O_DIRECTORY)
        try:
            return os.readlink(name, dir_fd=parent)
        finally:
            os.close(parent)

    def follow(self, path: str) -> str:
        """Follow all symbolic links as a process whose root is this tree would; what is missing stays as written."""
        pending = path.split("/")[::-1]
        done: list[str] = []
        links = 0
        while pending:
            name = pending.pop()
            if name in ("", "."):
                continue
            if name == "..":
                del done[-1:]
                continue
            here = "/".join([*done, name])
            found = self.lstat(here)
            if found is None or not stat.S_ISLNK(found.st_mode):
                done.append(name)
                continue
            links += 1
            if links > MAX_LINKS:
                raise InvalidInput(f"too many symbolic links in /{path}")
            target = self.readlink(here)
            if target.startswith("/"):
                done.clear()
            pending.extend(target.split("/")[::-1])
        return "/".join(done)

    def walk(self, path: str) -> Iterator[TreeEntry]:
        """The path itself, then all below it: parents first, names sorted."""
        found = self.lstat(path)
        if found is None:
            return
        hidden: dict[str, TreeEntry] = {}
        stack = [TreeEntry(path, found)]
        while stack:
            entry = stack.pop()
            is_directory = stat.S_ISDIR(entry.stat.st_mode)
            if not self.rules.ignores(entry.path):
                yield from _revealed(hidden, entry.path)
                yield entry
            elif is_directory and self.rules.has_exceptions:
                hidden[entry.path] = entry
            else:
                continue
            if is_directory:
                stack.extend(reversed(self.children(entry.path)))

    def children(self, path: str) -> list[TreeEntry]:
        """What is in a directory, sorted by name, sockets left out."""
        fd = self.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            with os.scandir(fd) as found:
                entries = [
                    TreeEntry(posixpath.join(path, item.name), item.stat(follow_symlinks=False)) for item in found
                ]
        finally:
            os.close(fd)
        return sorted(entry for entry in entries if self.takes(entry.stat))

    def takes(self, found: os.stat_result) -> bool:
        """Whether an entry of this type can be copied."""
        return not stat.S_ISSOCK(found.st_mode)

    def owner(self, entry: TreeEntry) -> tuple[int, int]:
        """Whom a copy of this entry belongs to unless --chown says otherwise."""
        return entry.stat.st_uid, entry.stat.st_gid

    def modified_ns(self, entry: TreeEntry) -> int:
        """When a copy of this entry was last modified, in nanoseconds."""
        return entry.stat.st_mtime_ns

    def xattrs(self, entry: TreeEntry) -> dict[str, bytes]:
        """The extended attributes that a copy keeps: those an image layer may carry."""
        if stat.S_IFMT(entry.stat.st_mode) not in (stat.S_IFREG, stat.S_IFDIR):
            return {}
        fd = self.open(entry.path, os.O_PATH)
        try:
            name = f"/proc/self/fd/{fd}"
            return {key: os.getxattr(name, key) for key in os.listxattr(name) if _is_kept(key)}
        except OSError as error:
            if error.errno == errno.ENOTSUP:
                return {}
            raise
        finally:
            os.close(fd)

    def check(self, path: str, found: os.stat_result) -> None:
        """Raise Conflict if a file is no longer what it was when it was hashed."""

    def matches(self, pattern: str, *, parents: bool = False) -> list[Match]:
        """What a COPY source means. A pattern may match nothing; a plain path is returned whether it exists or not.

        With `parents` a match's name is its path from the root, or from `/./` in the pattern on; and `**` spans directories.
        """
        kept_from = _kept_from(pattern) if parents else 0
        parts = [part for part in pattern.split("/") if part not in ("", ".")]
        plain = next((index for index, part in enumerate(parts) if _WILDCARD.search(part)), len(parts))
        start = self.follow("/".join(re.sub(r"\\(.)", r"\1", part) for part in parts[:plain]))
        found = [start]
        for part in parts[plain:]:
            found = self._below(found, part, deep=parents and part == "**")
        if parents:
            return [Match("/".join(path.split("/")[kept_from:]), path) for path in found]
        if plain == len(parts):
            return [Match(posixpath.basename(pattern.rstrip("/")), start)]
        return [Match(posixpath.basename(path), self.follow(path)) for path in found]

    def _below(self, found: list[str], part: str, *, deep: bool) -> list[str]:
        """The paths below `found` that one component of a pattern means."""
        if deep:
            inside = (entry for above in found for entry in self.walk(above))
            return list(dict.fromkeys([*found, *(entry.path for entry in inside if stat.S_ISDIR(entry.stat.st_mode))]))
        regex = _component_regex(part)
        return [
            child.path
            for above in found
            for child in self._directory(above)
            if regex.fullmatch(posixpath.basename(child.path))
            and (self.rules.has_exceptions or not self.rules.ignores(child.path))
        ]

    def _directory(self, path: str) -> list[TreeEntry]:
        found = self.lstat(path)
        return self.children(path) if found is not None and stat.S_ISDIR(found.st_mode) else []


def _kept_from(pattern: str) -> int:
    """How many components of a path `COPY --parents` drops: those before `/./`."""
    before, pivot, _ = pattern.partition("/./")
    if not pivot:
        return 0
    if "**" in before.split("/"):
        raise InvalidInput(f"cannot read {pattern!r}: ** stands before /./")
    return len([part for part in before.split("/") if part not in ("", ".")])


def _is_kept(key: str) -> bool:
    return key.startswith(_KEPT_XATTRS) and not key.startswith("user.overlay.")


def without(entries: Iterable[TreeEntry], path: str, exclude: IgnoreRules | None) -> Iterator[TreeEntry]:
    """Leave out what `COPY --exclude` names: patterns count from `path`, or are for the name of a file copied itself."""
    for entry in entries:
        if exclude is not None:
            inside = entry.path.removeprefix(path).lstrip("/")
            is_file = not inside and not stat.S_ISDIR(entry.stat.st_mode)
            if exclude.ignores(posixpath.basename(path) if is_file else inside):
                continue
        yield entry


def has_wildcard(pattern: str) -> bool:
    """Whether a COPY source is a pattern."""
    return _WILDCARD.search(pattern) is not None


def _component_regex(part: str) -> re.Pattern[str]:
    try:
        return re.compile(glob_regex(part, double_star=False), re.DOTALL)
    except (ValueError, re.error) as error:
        raise InvalidInput(f"cannot read the pattern {part!r}: {error}") from error


def _revealed(hidden: dict[str, TreeEntry], path: str) -> Iterator[TreeEntry]:
    """The hidden directories above a path that is shown: they are needed to hold it."""
    if hidden:
        parts = path.split("/")
        for count in range(1, len(parts)):
            entry = hidden.pop("/".join(parts[:count]), None)
            if entry is not None:
                yield entry


class Context(Tree):
    """A build context: a directory on the host. Its files are remembered as they were when first hashed."""

    def __init__(self, directory: str, rules: IgnoreRules | None = None) -> None:
        super().__init__(os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC), rules)
        self.directory = directory
        self._digests: dict[str, tuple[tuple[int, ...], bytes]] = {}

    def close(self) -> None:
        """Close the directory."""
        os.close(self.root_fd)

    def ignored_by(self, path: str) -> Pattern | None:
        """The .dockerignore line that hides a path which exists."""
        decision = self.rules.deciding(path)
        return decision if decision is not None and not decision.negated and self.lstat(path) is not None else None

    def takes(self, found: os.stat_result) -> bool:
        return stat.S_IFMT(found.st_mode) in (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK)

    def owner(self, entry: TreeEntry) -> tuple[int, int]:  # noqa: ARG002
        return 0, 0

    def xattrs(self, entry: TreeEntry) -> dict[str, bytes]:  # noqa: ARG002
        return {}

    def check(self, path: str, found: os.stat_result) -> None:
        known = self._digests.get(path)
        if known is not None and known[0] != _stamp(found):
            raise Conflict(f"{path} changed while the build was running", hint="build again")

    def digest(self, path: str, exclude: IgnoreRules | None = None) -> str:
        """The content hash of a path and all below it, without what `exclude` names (relative to the path)."""
        whole = hashlib.sha256()
        for entry in without(self.walk(path), path, exclude):
            mode = entry.stat.st_mode
            name = os.fsencode(entry.path.removeprefix(path).lstrip("/"))
            if stat.S_ISREG(mode):
                content = self._file_digest(entry)
            elif stat.S_ISLNK(mode):
                content = os.fsencode(self.readlink(entry.path))
            else:
                content = b""
            # The mode of a copied directory itself does not reach the image, only those below it do.
            bits = 0 if stat.S_ISDIR(mode) and not name else stat.S_IMODE(mode)
            whole.update(b"%d %o %o %d " % (len(name), stat.S_IFMT(mode), bits, len(content)) + name + content)
        return whole.hexdigest()

    def _file_digest(self, entry: TreeEntry) -> bytes:
        known = self._digests.get(entry.path)
        if known is not None and known[0] == _stamp(entry.stat):
            return known[1]
        fd = self.open(entry.path)
        try:
            found = os.fstat(fd)
            digest = hashlib.sha256()
            while piece := os.read(fd, 1 << 20):
                digest.update(piece)
        finally:
            os.close(fd)
        self._digests[entry.path] = (_stamp(found), digest.digest())
        return digest.digest()


def _stamp(found: os.stat_result) -> tuple[int, ...]:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def open_context(directory: str, dockerfile: str | None) -> Context:
    """Open a build context with its `<Dockerfile>.dockerignore`, else its `.dockerignore`. Raise NotFound or Denied."""
    try:
        rules = ignore_rules(directory, dockerfile)
        return Context(directory, rules)
    except FileNotFoundError as error:
        raise NotFound(
            f"there is no build context {directory}", hint="check the path; it must be a directory"
        ) from error
    except NotADirectoryError as error:
        raise InvalidInput(f"the build context {directory} is not a directory") from error
    except OSError as error:
        raise explained(error, f"cannot read the build context {directory}") from error


def ignore_rules(directory: str, dockerfile: str | None) -> IgnoreRules:
    """What a context hides, by `<Dockerfile>.dockerignore`, else by its `.dockerignore`."""
    for path in ([f"{dockerfile}.dockerignore"] if dockerfile else []) + [os.path.join(directory, ".dockerignore")]:
        try:
            with open(path, encoding="utf-8", errors="surrogateescape") as file:
                return read_rules(file.read(), path)
        except (FileNotFoundError, NotADirectoryError):
            continue
    return IgnoreRules()


def explained(error: OSError, what: str) -> UmiakError:
    """The error to raise for a failed system call on files of a build."""
    why = (os.strerror(error.errno) if error.errno else str(error)).lower()
    name = f" ({error.filename})" if isinstance(error.filename, str) and error.filename not in (".", "") else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Unavailable(f"{what}: {why}", hint="free some space, or set UMIAK_ROOT to another disk")
    if error.errno in (errno.EACCES, errno.EPERM):
        return Denied(f"{what}: {why}{name}", hint="check the permissions, or run umiak as root")
    if error.errno in (errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOENT):
        return InvalidInput(f"{what}: {why}{name}")
    return KernelError(f"{what}: {why}{name}", errno=error.errno or 0)
