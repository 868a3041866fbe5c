"""Root file systems made of layers: a writable snapshot for each container, and read-only views of an image."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from typing import Any

from engine.errors import Unavailable
from engine.kernel import files, mounts
from engine.paths import Paths

FILE_LIMIT_BYTES = 4 << 20


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
        return mounts.open_tree(layer_dirs[0])
    highest_first = list(reversed(layer_dirs))
    view = mounts.overlay(highest_first, None, None)
    return _mounted_view(highest_first) if view is None else view


def _mounted_view(lowerdirs: Sequence[str]) -> int:
    """The view on kernels before 6.8: mounted for an instant, then detached while it is held open."""
    import tempfile

    held = [os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) for path in lowerdirs]
    target = tempfile.mkdtemp(prefix="umiak-view-")
    try:
        data = "lowerdir=" + ":".join(f"/proc/self/fd/{fd}" for fd in held)
        mounts.mount("overlay", target, "overlay", mounts.MS_RDONLY, data)
        try:
            return os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        finally:
            mounts.umount(target, mounts.MNT_DETACH)
    finally:
        os.rmdir(target)
        for fd in held:
            os.close(fd)


def open_writable(rootfs: Mapping[str, Any]) -> int:
    """An open directory that shows a container's root (as `prepare` returns it), writable, mounted nowhere.

    No container may use the writable layer meanwhile.
    """
    lowerdirs, upper, work = rootfs["lowerdirs"], rootfs["upperdir"], rootfs["workdir"]
    mount = mounts.overlay(lowerdirs, upper, work)
    if mount is not None:
        return mount
    import tempfile

    with tempfile.TemporaryDirectory(prefix="umiak-root-") as target:
        mounts.mount_overlay(target, lowerdirs, upper, work)
        try:
            return os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        finally:
            mounts.umount(target, mounts.MNT_DETACH)


def read_file(layer_dirs: Sequence[str], directory: str, name: str) -> bytes:
    """The content of `/<directory>/<name>` in an image, at most `FILE_LIMIT_BYTES`; nothing where there is no such file.

    Looks into the layers, highest first; where links or deletions make that ambiguous, a view decides.
    """
    for layer in reversed(layer_dirs):
        place = f"{layer}/{directory}"
        try:
            if not stat.S_ISDIR(os.lstat(place).st_mode) or _is_opaque(place):
                return _read_in_view(layer_dirs, f"{directory}/{name}")
            if not stat.S_ISREG(os.lstat(f"{place}/{name}").st_mode):
                return _read_in_view(layer_dirs, f"{directory}/{name}")
        except FileNotFoundError:
            continue
        with open(os.open(f"{place}/{name}", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
            return file.read(FILE_LIMIT_BYTES)
    return b""


def _is_opaque(directory: str) -> bool:
    return "trusted.overlay.opaque" in os.listxattr(directory)


def _read_in_view(layer_dirs: Sequence[str], path: str) -> bytes:
    view = open_view(layer_dirs)
    try:
        # Not blocking: a FIFO in the place of the file must not hold us up.
        with open(files.open_in_root(view, path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            return file.read(FILE_LIMIT_BYTES) if stat.S_ISREG(os.fstat(file.fileno()).st_mode) else b""
    except (FileNotFoundError, NotADirectoryError):
        return b""
    finally:
        os.close(view)


def remove(path: str) -> None:
    """Remove a snapshot or any directory of a container, whatever the container made of it."""
    import shutil  # it brings four compressors along

    shutil.rmtree(path, ignore_errors=False, onerror=_ignore_missing)


def _ignore_missing(_function: object, _path: object, failure: Any) -> None:
    if not isinstance(failure[1], FileNotFoundError):
        raise failure[1]
