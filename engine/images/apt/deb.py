"""Debian binary packages (deb(5)): an ar archive of `debian-binary`, `control.tar.*` and `data.tar.*`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from engine.errors import InvalidInput
from engine.images.compression import decompressed
from engine.images.tar import Limits, TarReader

_MAGIC = b"!<arch>\n"
_HEADER_BYTES = 60
_CONTROL_LIMITS = Limits(entries=1000, data_bytes=32 << 20)


class Member:
    """A part of a file, read front to back."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._left = size

    def read(self, size: int = -1, /) -> bytes:
        """Read up to `size` bytes, or all that is left."""
        data = self._file.read(self._left if size < 0 else min(size, self._left))
        self._left -= len(data)
        return data


@contextmanager
def open_member(path: str, prefix: bytes) -> Iterator[Member]:
    """Open the member whose name begins with `prefix`, compressed as it is. Raise InvalidInput where there is none."""
    with open(path, "rb", buffering=0) as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            raise InvalidInput(f"{path} is not a Debian package")
        while len(header := file.read(_HEADER_BYTES)) == _HEADER_BYTES:
            name, size = header[:16].rstrip(b" /"), header[48:58].strip()
            if header[58:] != b"`\n" or not size.isdigit():
                break
            if name.startswith(prefix):
                yield Member(file, int(size))
                return
            file.seek(int(size) + int(size) % 2, os.SEEK_CUR)
    raise InvalidInput(f"{path} has no {prefix.decode()}")


def read_control(path: str) -> dict[str, tuple[int, bytes]]:
    """A package's control files: name → (mode, content). `control` itself is among them."""
    files: dict[str, tuple[int, bytes]] = {}
    with open_member(path, b"control.tar") as member:
        reader = TarReader(decompressed(member), _CONTROL_LIMITS)
        for entry in reader:
            name = os.fsdecode(entry.name).removeprefix("./")
            if entry.type == b"0" and name and "/" not in name:
                files[name] = (entry.mode, b"".join(bytes(piece) for _, piece in reader.data()))
    if "control" not in files:
        raise InvalidInput(f"{path} has no control file")
    return files
