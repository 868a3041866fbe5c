"""Secrets and configs: the files that Compose hands to containers, and how a service asks for them."""

from __future__ import annotations

from compose.model.base import Bool, Extensible, FileMode


class FileReference(Extensible):
    """One entry of a service's `secrets` or `configs`."""

    source: str | None = None
    """Name of the top-level secret or config; required."""
    target: str | None = None
    """Path in the container; default `/run/secrets/<source>` for a secret and `/<source>` for a config."""
    uid: str | None = None
    """Owner of the file in the container; default 0."""
    gid: str | None = None
    """Group of the file in the container; default 0."""
    mode: FileMode | None = None
    """Permission bits; default 0444."""


class FileObject(Extensible):
    """A top-level secret or config: exactly one of `file`, `environment`, `content`, `external`, or a driver."""

    name: str | None = None
    """Name of the object; default `<project>_<key>`."""
    file: str | None = None
    """Absolute path of the file that holds the value; default none."""
    environment: str | None = None
    """Name of the variable that holds the value; default none."""
    content: str | None = None
    """The value itself, from the file or resolved from `environment`; `config` never prints a secret's; default none."""
    external: Bool = False
    """The object exists outside the project; default false."""
    labels: dict[str, str] = {}
    """Labels of the object; default none."""
    driver: str | None = None
    """Secret driver (swarm); default none."""
    driver_opts: dict[str, str] = {}
    """Options of the secret driver; default none."""
    template_driver: str | None = None
    """Driver that expands templates in the value (swarm); default none."""
