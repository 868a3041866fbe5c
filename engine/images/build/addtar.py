"""ADD of a local archive: its content is unpacked, whatever it is called."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from engine.errors import InvalidInput
from engine.images.build.context import Tree
from engine.images.build.copy import Copier
from engine.images.compression import decompressed
from engine.images.layer import LayerWriter
from engine.images.tar import TarReader

_WHITEOUT_PREFIX = b".wh."


def is_archive(source: Tree, path: str) -> bool:
    """Whether a path is a regular file that holds a tar archive, compressed or not."""
    found = source.lstat(path)
    if found is None or not stat.S_ISREG(found.st_mode):
        return False
    with _opened(source, path) as file:
        try:
            return next(iter(TarReader(decompressed(file))), None) is not None
        except InvalidInput:
            return False


def unpack(source: Tree, path: str, copier: Copier, destination: str) -> None:
    """Unpack an archive into a directory of the root, made if it is missing. Raise InvalidInput where it is broken."""
    target = copier.root.follow(destination)
    copier.make_directories(target)
    fd = copier.root.open(target, os.O_PATH | os.O_DIRECTORY)
    try:
        with _opened(source, path) as file, LayerWriter(f"/proc/self/fd/{fd}") as writer:
            reader = TarReader(decompressed(file))
            for entry in reader:
                if entry.name.rstrip(b"/").rpartition(b"/")[2].startswith(_WHITEOUT_PREFIX):
                    raise InvalidInput(f"{path} holds {entry.name!r}, a name that image layers give another meaning")
                if not entry.name.strip(b"./"):
                    continue  # the archive's own root does not change the directory it is unpacked into
                if copier.options.owner is not None:
                    entry.uid, entry.gid = copier.options.owner
                writer.write(entry, reader)
            writer.finish()
    finally:
        os.close(fd)


@contextmanager
def _opened(source: Tree, path: str) -> Iterator[BinaryIO]:
    """The file, which must be as it was when it was hashed, before and after."""
    with os.fdopen(source.open(path), "rb") as file:
        source.check(path, os.fstat(file.fileno()))
        yield file
        source.check(path, os.fstat(file.fileno()))
