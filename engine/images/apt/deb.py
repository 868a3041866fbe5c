"""The members of a Debian binary package (deb(5)): an ar archive of `debian-binary`, `control.tar.*` and `data.tar.*`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from engine.errors import InvalidInput

_MAGIC = b"!<arch>\n"
_HEADER_BYTES = 60


class _Member:
    """A part of a file, read front to back."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._left = size

    def read(self, size: int = -1, /) -> bytes:
        data = self._file.read(self._left if size < 0 else min(size, self._left))
        self._left -= len(data)
        return data


@contextmanager
def open_data(path: str) -> Iterator[_Member]:
    """Open a package's data.tar, compressed as it is. Raise InvalidInput where this is no package."""
    with open(path, "rb", buffering=0) as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            raise InvalidInput(f"{path} is not a Debian package")
        while len(header := file.read(_HEADER_BYTES)) == _HEADER_BYTES:
            name, size = header[:16].rstrip(b" /"), header[48:58].strip()
            if header[58:] != b"`\n" or not size.isdigit():
                break
            if name.startswith(b"data.tar"):
                yield _Member(file, int(size))
                return
            file.seek(int(size) + int(size) % 2, os.SEEK_CUR)
    raise InvalidInput(f"{path} has no data.tar")
