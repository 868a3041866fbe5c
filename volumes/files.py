"""Single files with an owner and a mode of their own: what secrets and configs are mounted as."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat

from engine.errors import InvalidInput, NotFound, Unavailable
from engine.types import Mount


def place(mount: Mount, directory: str) -> str:
    """Copy the mount's source into a directory that only we can enter, as its options say; return the copy's path."""
    os.makedirs(directory, mode=0o700, exist_ok=True)
    copy = f"{directory}/{hashlib.sha256(mount.target.encode()).hexdigest()[:16]}"
    try:
        source = os.open(mount.source, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise NotFound(
            f"cannot mount {mount.source} on {mount.target}: no such file on the host",
            hint="create it; `umiak up` writes those that come from content or environment",
        ) from error
    except OSError as error:
        raise Unavailable(f"cannot read {mount.source}, to mount it on {mount.target}: {error.strerror}") from error
    try:
        if stat.S_ISDIR(os.fstat(source).st_mode):
            message = f"cannot mount {mount.source} on {mount.target} with an owner or mode: it is a directory"
            raise InvalidInput(message, hint="use a bind mount, or leave uid, gid and mode out")
        _copy(source, copy, mount)
    finally:
        os.close(source)
    return copy


def _copy(source: int, path: str, mount: Mount) -> None:
    """A new file each time, so that nothing of an earlier owner or content is left."""
    if os.path.lexists(path):
        os.unlink(path)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as writer, os.fdopen(os.dup(source), "rb") as reader:
        shutil.copyfileobj(reader, writer)
        writer.flush()
        os.fchown(descriptor, int(mount.options.get("uid", 0)), int(mount.options.get("gid", 0)))
        os.fchmod(descriptor, int(mount.options.get("mode", 0o444)))
