"""Contents of secrets and configs that lie in no file of the user's own: kept where only we can read them.

They are on disk, so that containers can be started again after a reboot, when the variables that they came from are gone. What
containers see are copies with the owner and mode asked for, which the engine makes anew at each start.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection
from dataclasses import field

from engine.frozen import frozen


@frozen
class PrivateFile:
    """A content, and the path where it must be for containers to start. The path tells contents apart."""

    path: str
    content: str = field(repr=False)

    def write(self) -> None:
        """Write the file, whole or not at all, in a directory that only we can enter."""
        os.makedirs(os.path.dirname(self.path), mode=0o700, exist_ok=True)
        temporary = f"{self.path}.{os.getpid()}"
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(self.content)
        os.rename(temporary, self.path)


def directory(root: str, project: str) -> str:
    """Where the contents of a project are kept, below the engine's root directory."""
    return f"{root}/projects/{project}"


def kept(directory: str) -> set[str]:
    """The paths of the contents that are kept in a directory."""
    return {entry.path for entry in os.scandir(directory)} if os.path.isdir(directory) else set()


def forget(directory: str, keep: Collection[str] = ()) -> None:
    """Remove the contents of a project but for those at the paths to `keep`; the directory too where nothing is kept."""
    if not keep:
        shutil.rmtree(directory, ignore_errors=True)
    for path in kept(directory) - set(keep):
        os.unlink(path)
