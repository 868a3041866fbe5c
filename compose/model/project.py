"""A loaded project: everything that its Compose files mean, resolved."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import PrivateAttr

from compose.errors import Place, Warning
from compose.model.base import Extensible
from compose.model.files import FileObject
from compose.model.resources import LanguageModel, Network, Volume
from compose.model.service import Service


class Project(Extensible):
    """The canonical project. `extensions` are the top-level `x-` keys."""

    name: str
    """Project name; required."""
    services: dict[str, Service] = {}
    """Enabled services, by key; default none."""
    networks: dict[str, Network] = {}
    """Networks that enabled services use, by key; default none."""
    volumes: dict[str, Volume] = {}
    """Volumes that enabled services use, by key; default none."""
    secrets: dict[str, FileObject] = {}
    """Secrets that enabled services use, by key; default none."""
    configs: dict[str, FileObject] = {}
    """Configs that enabled services use, by key; default none."""
    models: dict[str, LanguageModel] = {}
    """Language models, by key; default none."""
    working_dir: str = ""
    """Absolute project directory; default none."""
    compose_files: tuple[str, ...] = ()
    """Absolute paths of the Compose files, in order; `-` for standard input; default none."""
    env_files: tuple[str, ...] = ()
    """Absolute paths of the files given by --env-file; default none."""
    profiles: tuple[str, ...] = ()
    """Profiles that were enabled; default none."""
    environment: dict[str, str] = {}
    """Variables that interpolation saw: of the process, the .env file and COMPOSE_PROJECT_NAME; default none."""
    disabled_services: dict[str, Service] = {}
    """Services whose profiles are not enabled, by key; default none."""
    separator: str = "-"
    """What stands between the parts of the names of containers and images: `-`, or `_` for compatibility with Compose v1; default `-`."""
    warnings: tuple[Warning, ...] = ()
    """What the loader accepted and the user should know; default none."""

    _find: Callable[[tuple[str | int, ...]], Place | None] | None = PrivateAttr(default=None)

    def place(self, path: str | tuple[str | int, ...]) -> Place | None:
        """Where a node stands: `("services", "web", "ports", 0)` or `services.web.ports[0]`; else its nearest parent."""
        if self._find is None:
            return None
        return self._find(split_path(path) if isinstance(path, str) else path)

    def bind_places(self, find: Callable[[tuple[str | int, ...]], Place | None]) -> None:
        """Give the project the function that finds places; for the loader."""
        self._find = find

    def with_services(self, services: dict[str, Service], **changes: Any) -> Project:
        """A copy that has other enabled services (and other changed attributes)."""
        return self.model_copy(update={"services": services, **changes})


def split_path(path: str) -> tuple[str | int, ...]:
    """Split `services.web.ports[0]` into its steps."""
    steps: list[str | int] = []
    for part in path.split("."):
        key, *indices = part.replace("]", "").split("[")
        steps.append(key)
        steps += [int(index) for index in indices]
    return tuple(steps)
