"""Bind mounts: a host path, or a volume's directory, shown in a container."""

from __future__ import annotations

import os
from typing import Any

from engine.errors import InvalidInput, NotFound, Unavailable
from engine.types import Mount

PROPAGATIONS = {"private", "rprivate", "shared", "rshared", "slave", "rslave"}


def host_source(mount: Mount) -> str:
    """The host path of a bind, made as a directory if it is missing and the mount allows that (as Docker does)."""
    source = mount.source
    if not os.path.isabs(source):
        raise InvalidInput(f'cannot mount "{source}" on {mount.target}: the host path is not absolute')
    if os.path.exists(source):
        return source
    if not mount.options.get("create_host_path", True):
        raise NotFound(
            f"cannot mount {source} on {mount.target}: no such file or directory on the host",
            hint="create it, or set bind.create_host_path: true",
        )
    try:
        os.makedirs(source, exist_ok=True)
    except OSError as error:
        raise Unavailable(f"cannot make {source}, to mount it on {mount.target}: {error.strerror}") from error
    return source


def inside_volume(directory: str, mount: Mount) -> str:
    """The directory of a volume that a mount shows: all of it, or the part named by `subpath`."""
    subpath = str(mount.options.get("subpath") or "")
    if not subpath:
        return directory
    found = os.path.realpath(os.path.join(directory, subpath.lstrip("/")))
    if found != directory and not found.startswith(os.path.realpath(directory) + "/"):
        raise InvalidInput(f'cannot mount "{subpath}" of volume {mount.source}: it lies outside the volume')
    if not os.path.exists(found):
        raise NotFound(
            f'cannot mount "{subpath}" of volume {mount.source} on {mount.target}: the volume has no such path',
            hint="make it in the volume first, or drop volume.subpath",
        )
    return found


def oci_mount(mount: Mount, source: str) -> dict[str, Any]:
    """The OCI runtime specification's form of a bind."""
    recursive = mount.options.get("recursive", "enabled") != "disabled"
    propagation = str(mount.options.get("propagation") or "rprivate")
    if propagation not in PROPAGATIONS:
        raise InvalidInput(f'cannot mount "{source}" on {mount.target}: unknown propagation "{propagation}"')
    options = ["rbind" if recursive else "bind", "ro" if mount.read_only else "rw", propagation]
    return {"destination": mount.target, "type": "bind", "source": source, "options": options}
