"""The local driver: a named volume is a directory that outlives its containers."""

from __future__ import annotations

import json
import os
import re
import time
from dataclasses import asdict

from engine.errors import Conflict, InvalidInput, NotFound, Unavailable, Unsupported
from engine.paths import Paths
from engine.state import State
from engine.types import VolumeInfo, VolumeSpec

NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")


class LocalVolumes:
    """Volumes recorded in the database, their content under `<root>/volumes/<name>/_data`."""

    def __init__(self, paths: Paths, state: State) -> None:
        self._paths = paths
        self._state = state

    def create(self, spec: VolumeSpec, *, anonymous: bool) -> VolumeInfo:
        """Record a volume, or return the one of that name."""
        if not NAME.fullmatch(spec.name) or len(spec.name) > 255:
            raise InvalidInput(
                f'cannot make volume "{spec.name}": the name must be letters, digits, "_", "." and "-", not starting with a sign'
            )
        if spec.driver != "local":
            raise Unsupported(
                f'cannot make volume "{spec.name}": there is no volume driver "{spec.driver}"',
                hint='use driver "local"',
            )
        self._check_options(spec)
        with self._state.transaction():
            self._state.execute(
                "INSERT INTO volumes (name, created_at, spec, anonymous) VALUES (?, ?, ?, ?) ON CONFLICT (name) DO NOTHING",
                (spec.name, time.time(), json.dumps(asdict(spec)), int(anonymous)),
            )
            return self.get(spec.name)

    def _check_options(self, spec: VolumeSpec) -> None:
        if not spec.options:
            return
        is_bind = "bind" in spec.options.get("o", "").split(",") and spec.options.get("device")
        if not is_bind:
            raise Unsupported(
                f'cannot make volume "{spec.name}": of the driver options only a bind (o: bind, device: PATH) is supported',
                hint="mount the file system on the host and use a bind mount",
            )

    def get(self, name: str) -> VolumeInfo:
        """One volume. Raise NotFound."""
        row = self._state.row("SELECT * FROM volumes WHERE name = ?", (name,))
        if row is None:
            raise NotFound(f'no volume "{name}"')
        return self._info(row["name"], row["created_at"], row["spec"], bool(row["anonymous"]))

    def all(self) -> list[VolumeInfo]:
        """All volumes, by name; a removal that was cut short is finished first."""
        for row in self._state.rows("SELECT name FROM volumes WHERE removing"):
            self._erase(row["name"])
        rows = self._state.rows("SELECT * FROM volumes ORDER BY name")
        return [self._info(row["name"], row["created_at"], row["spec"], bool(row["anonymous"])) for row in rows]

    def _info(self, name: str, created_at: float, spec_json: str, anonymous: bool) -> VolumeInfo:
        spec = VolumeSpec(**json.loads(spec_json))
        mountpoint = spec.options.get("device") or f"{self._paths.volumes}/{name}/_data"
        return VolumeInfo(spec, created_at, mountpoint, anonymous)

    def directory(self, volume: VolumeInfo) -> str:
        """The volume's directory, made if this is its first use. Raise NotFound where a bound device is missing."""
        if volume.spec.options.get("device"):
            if not os.path.isdir(volume.mountpoint):
                raise NotFound(
                    f'volume "{volume.spec.name}" binds {volume.mountpoint}, which is not a directory on the host'
                )
            return volume.mountpoint
        try:
            os.makedirs(self._paths.volumes, mode=0o711, exist_ok=True)
            os.makedirs(volume.mountpoint, mode=0o755, exist_ok=True)
        except OSError as error:
            raise Unavailable(f'cannot make volume "{volume.spec.name}": {error.strerror}') from error
        return volume.mountpoint

    def remove(self, name: str) -> None:
        """Remove a volume and its content. Raise NotFound, or Conflict naming the containers that use it."""
        with self._state.transaction():
            self.get(name)
            users = self._state.rows(
                "SELECT c.name FROM volume_uses u JOIN containers c ON c.id = u.container_id WHERE u.volume_name = ? ORDER BY c.name",
                (name,),
            )
            if users:
                names = ", ".join(row["name"] for row in users)
                raise Conflict(f'cannot remove volume "{name}": used by {names}', hint="remove those containers first")
            self._state.execute("UPDATE volumes SET removing = 1 WHERE name = ?", (name,))
        self._erase(name)

    def _erase(self, name: str) -> None:
        directory = f"{self._paths.volumes}/{name}"
        if os.path.isdir(directory):
            import shutil  # it brings four compressors along

            shutil.rmtree(directory)
        self._state.execute("DELETE FROM volumes WHERE name = ? AND removing", (name,))
