"""The labels by which a project's containers, networks and volumes are found again: exactly Docker Compose's.

Other tools key on them, and `down`, `ps`, `logs` and `exec` work from them alone, with no Compose file read.
"""

from __future__ import annotations

from collections.abc import Mapping

PREFIX = "com.docker.compose."
PROJECT = PREFIX + "project"
SERVICE = PREFIX + "service"
NUMBER = PREFIX + "container-number"
ONEOFF = PREFIX + "oneoff"
CONFIG_HASH = PREFIX + "config-hash"
IMAGE = PREFIX + "image"
DEPENDS_ON = PREFIX + "depends_on"
WORKING_DIR = PREFIX + "project.working_dir"
CONFIG_FILES = PREFIX + "project.config_files"
ENVIRONMENT_FILE = PREFIX + "project.environment_file"
VERSION = PREFIX + "version"
SLUG = PREFIX + "slug"
REPLACE = PREFIX + "replace"
NETWORK = PREFIX + "network"
VOLUME = PREFIX + "volume"
HOOK = PREFIX + "hook"
"""On a container that runs to its end before its service's own start: `pre_start`."""
PRE_START = "io.umiak.pre-start"
"""The containers that must have run before a container's first start: `compose.pre_start`."""
HOOKS = "io.umiak.hooks"
"""The commands that run after a container's start and before its stop: `compose.hooks`."""

BOOKKEEPING = frozenset(
    {NUMBER, CONFIG_HASH, IMAGE, DEPENDS_ON, WORKING_DIR, CONFIG_FILES, ENVIRONMENT_FILE, VERSION, REPLACE, SLUG}
)
"""Labels that say how a container came about; a difference in one of them alone is no reason to recreate it."""


def number(labels: Mapping[str, str]) -> int:
    """The replica's number, 0 where the label is missing or no number."""
    text = labels.get(NUMBER, "")
    return int(text) if text.isdecimal() else 0


def restarted_with(labels: Mapping[str, str]) -> list[str]:
    """The services whose restart is to restart this container too: those of `depends_on` with `restart: true`."""
    entries = (entry.split(":") for entry in labels.get(DEPENDS_ON, "").split(","))
    return [entry[0] for entry in entries if entry[2:] == ["true"]]


def dependencies(labels: Mapping[str, str]) -> dict[str, str]:
    """Service → condition, from `db:service_healthy:false,…`."""
    entries = (entry.split(":") for entry in labels.get(DEPENDS_ON, "").split(",") if entry)
    return {entry[0]: entry[1] if len(entry) > 1 else "service_started" for entry in entries}
