"""Contexts that are archives on a server: `https://host/context.tar.gz`, fetched like the files of ADD and unpacked."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from engine.errors import InvalidInput
from engine.images.build import addtar
from engine.images.build.context import Tree
from engine.images.build.copy import Copier, CopyOptions
from engine.images.tree import remove_tree

if TYPE_CHECKING:
    from engine.images.build.download import Downloads


@contextmanager
def unpacked(url: str, downloads: Downloads, directory: str) -> Iterator[str]:
    """Unpack the archive into a new directory below `directory`, removed at the end; give its path. Raise InvalidInput for other files."""
    with downloads.opened(downloads.find(url, None)) as (path, _):
        work = os.path.join(directory, f"archive-{os.urandom(6).hex()}")
        os.mkdir(work, 0o755)
        try:
            unpack(url, path, work)
            yield work
        finally:
            remove_tree(work)


def is_archive(path: str) -> bool:
    """Whether a file is a tar, compressed or not."""
    fd = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY)
    try:
        return addtar.is_archive(Tree(fd), os.path.basename(path))
    finally:
        os.close(fd)


def unpack(what: str, path: str, work: str) -> None:
    """Unpack an archive, which messages call `what`, into an empty directory. Raise InvalidInput for other files."""
    source_fd, work_fd = (os.open(name, os.O_PATH | os.O_DIRECTORY) for name in (os.path.dirname(path), work))
    try:
        source, name = Tree(source_fd), os.path.basename(path)
        if not addtar.is_archive(source, name):
            raise InvalidInput(f"{what} is not a tar archive", hint="give a context as a tar, compressed or not")
        with Copier(Tree(work_fd), CopyOptions()) as copier:
            addtar.unpack(source, name, copier, "/")
    finally:
        os.close(source_fd)
        os.close(work_fd)
