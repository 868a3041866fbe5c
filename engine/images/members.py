"""The files of an image archive by name, whether it is a tar (perhaps compressed, perhaps a pipe) or a folder."""

from __future__ import annotations

import io
import os
import posixpath
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, Protocol

from engine.errors import Denied, InvalidInput, NotFound, Unavailable
from engine.images.compression import decompressed, detect
from engine.images.config import MAX_JSON_BYTES
from engine.images.tar import Limits, SeekableSource, TarReader
from engine.kernel.files import open_in_root

_MAX_MEMBERS = 100_000
_MAX_LINKS_FOLLOWED = 16


class Members(Protocol):
    """An archive's files. Names are as the archive's own index gives them, and so not to be trusted."""

    def open(self, name: str) -> BinaryIO | None:
        """Open one file for reading; None where there is no such file."""


def read_member(members: Members, name: str) -> bytes | None:
    """Read a small file (JSON) whole; None where there is no such file."""
    file = members.open(name)
    if file is None:
        return None
    with file:
        data = file.read(MAX_JSON_BYTES + 1)
    if len(data) > MAX_JSON_BYTES:
        raise InvalidInput(f"{name} in the archive is too large")
    return data


@contextmanager
def open_input(path: str) -> Iterator[BinaryIO]:
    """Open a file for reading, "-" being standard input."""
    if path == "-":
        yield sys.stdin.buffer
        return
    try:
        file = open(path, "rb", buffering=0)
    except FileNotFoundError as error:
        raise NotFound(f"no such file: {path}") from error
    except PermissionError as error:
        raise Denied(f"cannot read {path}: permission denied") from error
    except OSError as error:
        raise InvalidInput(f"cannot read {path}: {(error.strerror or '').lower()}") from error
    with file:
        yield file


@contextmanager
def open_members(path: str, spool_directory: str) -> Iterator[Members]:
    """Open an archive or folder. What cannot be sought (a pipe, compressed data) goes through a nameless file in `spool_directory`."""
    if path != "-" and os.path.isdir(path):
        fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield _Folder(fd)
        finally:
            os.close(fd)
        return
    with open_input(path) as file:
        if stat.S_ISREG(os.fstat(file.fileno()).st_mode) and file.seekable():
            file.seek(0)
            is_plain = not detect(file.read(6))
            file.seek(0)
            if is_plain:
                yield _Tar(file)
                return
        with _spooled(file, spool_directory) as spool:
            yield _Tar(spool)


@contextmanager
def _spooled(file: BinaryIO, directory: str) -> Iterator[BinaryIO]:
    fd = os.open(directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    with open(fd, "r+b", buffering=0) as spool:
        limit = Limits().data_bytes
        for piece in decompressed(file):
            limit -= len(piece)
            if limit < 0:
                raise InvalidInput("the archive is larger than allowed when uncompressed")
            view = memoryview(piece)
            while view:
                view = view[spool.write(view) :]
        spool.seek(0)
        yield spool


class _Tar:
    """A seekable, uncompressed tar. Members that are links to others (`docker save` before version 25) are followed."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._files: dict[str, tuple[int, int]] = {}
        self._links: dict[str, str] = {}
        limits = Limits(entries=_MAX_MEMBERS)
        reader = TarReader(SeekableSource(file, limits.data_bytes), limits)
        for entry in reader:
            name = _clean(os.fsdecode(entry.name))
            if entry.type == b"0" and entry.sparse is None:
                self._files[name] = (reader.data_offset, entry.size)
            elif entry.type == b"1":
                self._links[name] = _clean(os.fsdecode(entry.link))
            elif entry.type == b"2":
                self._links[name] = _clean(posixpath.join(posixpath.dirname(name), os.fsdecode(entry.link)))

    def open(self, name: str) -> BinaryIO | None:
        name = _clean(name)
        for _ in range(_MAX_LINKS_FOLLOWED):
            if name in self._files:
                return io.BufferedReader(_Range(self._file.fileno(), *self._files[name]), 1 << 16)
            if name not in self._links:
                return None
            name = self._links[name]
        raise InvalidInput(f"{name} in the archive is a link that leads nowhere")


class _Range(io.RawIOBase):
    """A part of a file, read without moving the file's own position."""

    def __init__(self, fd: int, offset: int, size: int) -> None:
        self._fd = fd
        self._offset = offset
        self._end = offset + size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(buffer)[: self._end - self._offset]  # type: ignore[arg-type]
        done = os.preadv(self._fd, [view], self._offset) if view else 0
        if view and not done:
            raise Unavailable("the archive became shorter while it was read")
        self._offset += done
        return done


class _Folder:
    """A folder. Symbolic links in it are refused: they could name any file of the host."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def open(self, name: str) -> BinaryIO | None:
        try:
            fd = open_in_root(self._fd, name, os.O_RDONLY | os.O_NONBLOCK, symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise InvalidInput(f"cannot read {name!r} in the folder: {(error.strerror or '').lower()}") from error
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise InvalidInput(f"{name!r} in the folder is not a file")
        return open(fd, "rb", buffering=0)


def _clean(name: str) -> str:
    return posixpath.normpath(name).lstrip("/")
