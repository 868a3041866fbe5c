"""The runtimes that can start a container: our own, and OCI runtimes that the host may have."""

from __future__ import annotations

import os

from engine.errors import InvalidInput, NotFound
from engine.types import RUNTIMES

_FOLDERS = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")


def check(name: str | None) -> None:
    """Raise InvalidInput unless a runtime has this name."""
    if name is not None and name not in RUNTIMES:
        raise InvalidInput(f'unknown runtime "{name}"', hint=f"known: {', '.join(RUNTIMES)}")


def program_of(name: str | None) -> str:
    """Return the path of a runtime's program, "" for our own runtime; NotFound if the host lacks it."""
    check(name)
    if name is None or name == RUNTIMES[0]:
        return ""
    for folder in dict.fromkeys((*os.environ.get("PATH", "").split(":"), *_FOLDERS)):
        path = f"{folder}/{name}"
        if folder.startswith("/") and os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    raise NotFound(
        f'cannot use the runtime "{name}": this host has no program {name}',
        hint=f"install it (apt-get install {name}), or drop 'runtime' to use umiak's own",
    )
