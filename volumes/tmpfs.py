"""tmpfs mounts: memory that goes away with the container."""

from __future__ import annotations

from typing import Any

from engine.errors import InvalidInput
from engine.types import Mount

DEFAULT_FLAGS = ("nosuid", "nodev", "noexec")
"""What Docker sets on every tmpfs; `exec`, `dev` and `suid` among the options undo it."""


def oci_mount(mount: Mount) -> dict[str, Any]:
    """The OCI runtime specification's form of a tmpfs."""
    options = {key: value for key, value in mount.options.items() if value is not None}
    flags = [flag for flag in DEFAULT_FLAGS if not options.pop(flag.removeprefix("no"), False)]
    text = ["ro" if mount.read_only else "rw", *flags]
    for key, value in options.items():
        if key == "size":
            text.append(f"size={int(value)}")
        elif key == "mode":
            text.append(f"mode={int(value):o}")
        elif key in ("uid", "gid", "nr_inodes"):
            text.append(f"{key}={int(value)}")
        elif value is True:
            if key not in text:
                text.append(key)
        else:
            raise InvalidInput(f'cannot mount a tmpfs on {mount.target}: unknown option "{key}"')
    return {"destination": mount.target, "type": "tmpfs", "source": "tmpfs", "options": text}
