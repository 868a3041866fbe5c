"""What loading the same files gave last time. Making the models, checking and translating cost a fifth of a second; most commands
of a day find the files as the one before left them.

A recollection holds for one command line's view of one directory: options, environment, current directory, version. It also knows
each file that was read, by device, inode, size and times, and each that was looked for in vain, and counts only while all of that
is still so. It lies in the run directory, for its user alone to read, and a reboot forgets it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import pickle
import time
from collections.abc import Mapping
from dataclasses import field, is_dataclass
from typing import TYPE_CHECKING

from compose.spec import source
from compose.version import VERSION
from engine.frozen import frozen

if TYPE_CHECKING:
    from compose.desired import Desired

LIMIT = 64
"""So many are kept; the oldest goes first."""
SETTLED_S = 0.1
"""A file changed less than this before it was read may change again without its times telling: the kernel's clock ticks slowly."""
SOURCES = ("", "spec", "model")
"""Folders of this package whose modules decide what a load gives: a checkout changes without its version."""


@frozen
class Recollection:
    """What a load gave: what is desired, and what the user was warned of."""

    desired: Desired
    warnings: tuple[str, ...] = ()
    looks: Mapping[source.Look, source.Sight] = field(default_factory=dict)
    """What was looked at, and what was seen."""

    def holds(self) -> bool:
        """Whether a load would see the same now."""
        return all(source.look(*one) == seen for one, seen in self.looks.items())


class Recollections:
    """Those of one run directory."""

    def __init__(self, run: str) -> None:
        self._directory = f"{run}/loaded"

    def recall(self, *view: object) -> Recollection | None:
        """The last load from the same point of view, if it still holds."""
        try:
            with os.fdopen(os.open(self._path(view), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW), "rb") as file:
                status = os.fstat(file.fileno())
                found = _Reader(file).load() if status.st_uid == os.geteuid() and not status.st_mode & 0o077 else None
        except FileNotFoundError:
            return None
        except Exception:  # what another version wrote, or half of it: loading anew is always right
            return None
        return found if isinstance(found, Recollection) and found.holds() else None

    def keep(self, found: Recollection, *view: object) -> None:
        """Keep a load for the next command, unless what it saw may still be changing or it holds contents of secrets or configs.

        Those are kept as long as a container needs them, and no longer.
        """
        if found.desired.files or not _is_settled(found.looks):
            return
        with contextlib.suppress(OSError):  # no space, no right: the next command loads anew
            os.makedirs(self._directory, mode=0o700, exist_ok=True)
            self._make_room()
            path = self._path(view)
            temporary = f"{path}.{os.getpid()}"
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                pickle.dump(found, file, protocol=pickle.HIGHEST_PROTOCOL)
            os.rename(temporary, path)

    def _make_room(self) -> None:
        entries = sorted(os.scandir(self._directory), key=lambda entry: entry.stat().st_mtime_ns)
        for entry in entries[: max(0, len(entries) - LIMIT + 1)]:
            os.unlink(entry.path)

    def _path(self, view: tuple[object, ...]) -> str:
        parts = (VERSION, _sources(), os.getcwd(), *view, sorted(os.environ.items()))
        return f"{self._directory}/{hashlib.sha256(repr(parts).encode('utf-8', 'surrogateescape')).hexdigest()}"


class _Reader(pickle.Unpickler):
    """Makes nothing but plain data and this program's own dataclasses, whatever the file says."""

    def find_class(self, module: str, name: str) -> type:
        """The class of that name. Raise UnpicklingError for any other."""
        if (module, name) == ("builtins", "frozenset"):
            return frozenset
        found = super().find_class(module, name) if module.startswith(("compose.", "engine.")) else None
        if not isinstance(found, type) or not is_dataclass(found):
            raise pickle.UnpicklingError(f"{module}.{name}")
        return found


def _is_settled(looks: Mapping[source.Look, source.Sight]) -> bool:
    latest_ns = (time.time() - SETTLED_S) * 1e9
    return all(
        question == "kind" or (isinstance(seen, tuple) and max(seen[-2:]) < latest_ns)
        for (question, _), seen in looks.items()
    )


def _sources() -> tuple[int, ...]:
    here = os.path.dirname(os.path.abspath(__file__))
    return tuple(
        entry.stat().st_mtime_ns
        for folder in SOURCES
        for entry in sorted(os.scandir(os.path.join(here, folder)), key=lambda entry: entry.name)
        if entry.name.endswith(".py")
    )
