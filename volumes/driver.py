"""The volume driver: named volumes, binds and tmpfs as entries of an OCI `mounts` list."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from engine.errors import InvalidInput
from engine.paths import Paths
from engine.state import State
from engine.types import Mount, VolumeInfo, VolumeSpec
from volumes import binds, tmpfs
from volumes.local import LocalVolumes


class Volumes:
    """Implements `engine.ports.VolumeDriver` with the local driver."""

    def __init__(self, paths: Paths, state: State) -> None:
        self._local = LocalVolumes(paths, state)

    def create(self, spec: VolumeSpec, *, anonymous: bool = False) -> VolumeInfo:
        """Record a volume, or return the one of that name. Its directory is made on first use."""
        return self._local.create(spec, anonymous=anonymous)

    def remove(self, name: str) -> None:
        """Remove a volume and its content. Raise NotFound, or Conflict naming the containers that use it."""
        self._local.remove(name)

    def all(self) -> list[VolumeInfo]:
        """All volumes, by name."""
        return self._local.all()

    def get(self, name: str) -> VolumeInfo:
        """One volume. Raise NotFound."""
        return self._local.get(name)

    def prepare(self, mount: Mount, layer_dirs: Sequence[str], *, private_dir: str = "") -> dict[str, Any]:
        """Turn a mount into an OCI mount: make what it needs on the host, populate an empty volume from the image."""
        if mount.type == "tmpfs":
            return tmpfs.oci_mount(mount)
        if mount.type == "bind":
            return binds.oci_mount(mount, binds.host_source(mount))
        if mount.type == "file":
            from volumes import files

            return binds.oci_mount(mount, files.place(mount, private_dir))
        if mount.type == "volume":
            return self._prepare_volume(mount, layer_dirs)
        raise InvalidInput(f'cannot mount "{mount.target}": unknown type "{mount.type}"')

    def _prepare_volume(self, mount: Mount, layer_dirs: Sequence[str]) -> dict[str, Any]:
        volume = self._local.get(mount.source)
        directory = self._local.directory(volume)
        if layer_dirs and not mount.options.get("nocopy") and not mount.options.get("subpath"):
            from volumes.populate import populate

            populate(directory, layer_dirs, mount.target)
        return binds.oci_mount(mount, binds.inside_volume(directory, mount))
