"""Images from files: `docker save` tars (both layouts), OCI layouts (tar or folder), and root file system tars."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import BinaryIO

from engine.errors import NotFound, UmiakError
from engine.images.changes import apply_changes
from engine.images.config import host_architecture, timestamp
from engine.images.store import ImageStore
from engine.types import Image


def import_rootfs(store: ImageStore, tar_path: str, reference: str, changes: Sequence[str] = ()) -> Image:
    """Make a single-layer image from a root file system's tar, of any compression; "-" is standard input.

    `changes` are Dockerfile instructions that set the image's configuration: `CMD ["sh"]`, `ENV A=b`, …
    """
    config = apply_changes({}, changes)
    with open_archive(tar_path) as file:
        layer = store.add_layer(file)
    created = timestamp(time.time())
    document = {
        "created": created,
        "architecture": host_architecture(),
        "os": "linux",
        "config": config,
        "history": [{"created": created, "comment": f"imported from {os.path.basename(tar_path)}"}],
    }
    return store.add_image(document, [layer], [reference])


@contextmanager
def open_archive(path: str) -> Iterator[BinaryIO]:
    """Open a file for reading, "-" being standard input."""
    if path == "-":
        yield sys.stdin.buffer
        return
    try:
        file = open(path, "rb", buffering=0)
    except FileNotFoundError as error:
        raise NotFound(f"no such file: {path}") from error
    except OSError as error:
        raise UmiakError(f"cannot read {path}: {(error.strerror or '').lower()}") from error
    with file:
        yield file
