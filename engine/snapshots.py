"""Root file systems made of layers: a writable snapshot for each container, and read-only views of an image."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from typing import Any

from engine.errors import Unavailable
from engine.kernel import files, mounts
from engine.paths import Paths


def prepare(paths: Paths, container_id: str, layer_dirs: Sequence[str]) -> dict[str, Any]:
    """Make a container's writable layer if it has none yet; return the `rootfs` of its monitor.json.

    `layer_dirs` are lowest first; the result lists them highest first, as overlayfs does.
    """
    directory = paths.container(container_id)
    upper, work = f"{directory}/upper", f"{directory}/work"
    try:
        for path in (upper, work):
            os.makedirs(path, mode=0o755, exist_ok=True)
        # The upper directory's own attributes are those of the container's "/".
        os.chmod(upper, 0o755)
    except OSError as error:
        raise Unavailable(f"cannot make the writable layer {upper}: {error.strerror}") from error
    return {"lowerdirs": list(reversed(layer_dirs)), "upperdir": upper, "workdir": work}


def open_view(layer_dirs: Sequence[str]) -> int:
    """An open directory that shows layers (lowest first) as one read-only tree, mounted nowhere.

    The mount is detached: it goes away with the file descriptor, whatever happens to this process.
    """
    if len(layer_dirs) == 1:
        return mounts.open_tree(files.AT_FDCWD, layer_dirs[0], mounts.OPEN_TREE_CLONE | mounts.OPEN_TREE_CLOEXEC)
    return mounts.overlay(list(reversed(layer_dirs)))


def remove(path: str) -> None:
    """Remove a snapshot or any directory of a container, whatever the container made of it."""
    shutil.rmtree(path, ignore_errors=False, onerror=_ignore_missing)


def _ignore_missing(_function: object, _path: object, failure: Any) -> None:
    if not isinstance(failure[1], FileNotFoundError):
        raise failure[1]
