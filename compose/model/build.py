"""How to build a service's image."""

from __future__ import annotations

from typing import Any

from pydantic import model_validator

from compose.model.base import Bool, Bytes, Extensible, WholeInt
from compose.model.files import FileReference


class Ulimit(Extensible):
    """A resource limit: `single` for both, or `soft` and `hard`."""

    single: WholeInt = 0
    """One number for both limits, where the file gives one; default 0."""
    soft: WholeInt = 0
    """The number that applies, where the file gives two; default 0."""
    hard: WholeInt = 0
    """The number up to which the process may raise the soft one; default 0."""

    @model_validator(mode="before")
    @classmethod
    def _read_number(cls, data: Any) -> Any:
        return data if isinstance(data, dict) else {"single": data}

    @property
    def limits(self) -> tuple[int, int]:
        """The soft and the hard limit."""
        return (self.single, self.single) if self.single else (self.soft, self.hard)


class Build(Extensible):
    """`services.*.build` in its long form."""

    context: str | None = None
    """Absolute path, or URL, of the build context; default the project directory."""
    dockerfile: str | None = None
    """Path of the Dockerfile relative to the context; default `Dockerfile`."""
    dockerfile_inline: str | None = None
    """The Dockerfile's text, instead of a file; default none."""
    entitlements: tuple[str, ...] = ()
    """Extra privileges of the build, such as `network.host`; default none."""
    args: dict[str, str | None] = {}
    """Build arguments; None takes the value from the environment of the command; default none."""
    provenance: str | None = None
    """Provenance attestation: `true`, `false` or its options; default the builder's."""
    sbom: str | None = None
    """Bill-of-materials attestation: `true`, `false` or its options; default none."""
    ssh: dict[str, str] = {}
    """SSH agents and keys by ID; an empty value is the default agent."""
    labels: dict[str, str] = {}
    """Labels of the image built; default none."""
    cache_from: tuple[str, ...] = ()
    """Where to look for cached steps; default none."""
    cache_to: tuple[str, ...] = ()
    """Where to write cached steps; default none."""
    no_cache: Bool = False
    """Ignore the build cache; default false."""
    no_cache_filter: tuple[str, ...] = ()
    """Stages to build without the cache; default none."""
    additional_contexts: dict[str, str] = {}
    """Further named contexts: paths, URLs, `docker-image://`, `oci-layout://`, `service:`; default none."""
    pull: Bool = False
    """Pull the base images even if they are present; default false."""
    extra_hosts: dict[str, tuple[str, ...]] = {}
    """Host names and their addresses during the build; default none."""
    isolation: str | None = None
    """Isolation technology (Windows); default the engine's."""
    network: str | None = None
    """Network of RUN steps: `host`, `none`, `default` or a name."""
    target: str | None = None
    """Stage to build; default the last one."""
    secrets: tuple[FileReference, ...] = ()
    """Secrets that RUN steps may mount; default none."""
    shm_size: Bytes = 0
    """Size of /dev/shm in RUN steps, in bytes; 0 is the default."""
    tags: tuple[str, ...] = ()
    """Further tags of the image; default none."""
    ulimits: dict[str, Ulimit] = {}
    """Resource limits of RUN steps; default none."""
    platforms: tuple[str, ...] = ()
    """Platforms to build for; default the host's."""
    privileged: Bool = False
    """Run RUN steps with all privileges; default false."""
