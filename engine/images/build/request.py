"""What a caller asks of a build."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field

from engine.frozen import frozen
from engine.images.build.cache import Session
from engine.images.build.cancel import Cancellation
from engine.images.build.outputs import Output
from engine.images.build.secrets import Secret
from engine.types import StepOptions


@frozen
class BuildRequest:
    """What to build. `dockerfile` is relative to `context` (default `Dockerfile`); `dockerfile_inline` is its text instead.

    An argument of value None is not given, so the Dockerfile's default holds. `target` is a stage's name or number.
    `pull` asks for fresh base images. `cancellation` lets another thread give the build up: `build` then raises Cancelled.
    """

    context: str
    """A directory, a git repository as `url.git#ref:directory`, or the URL of a tar archive."""
    dockerfile: str | None = None
    dockerfile_inline: str | None = None
    args: Mapping[str, str | None] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    tags: Sequence[str] = ()
    target: str | None = None
    no_cache: bool = False
    no_cache_filter: Sequence[str] = ()
    """Stages whose steps are carried out anew."""
    pull: bool = False
    platforms: Sequence[str] = ()
    """The platform to build for; only this machine's own can be built."""
    named_contexts: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, Secret] = field(default_factory=dict)
    ssh: Mapping[str, str] = field(default_factory=dict)
    """SSH agents by ID: the path of a socket, or of key files with commas between, or "" for the caller's own agent."""
    entitlements: Sequence[str] = ()
    """What RUN may ask for: `network.host`, `security.insecure`."""
    options: StepOptions = field(default_factory=StepOptions)
    """How RUN steps run unless they say otherwise."""
    cache_from: Sequence[str] = ()
    cache_to: Sequence[str] = ()
    outputs: Sequence[Output] = ()
    """Where the result goes; none: into the store."""
    session: Session = field(default_factory=Session)
    """Shared by builds of one command, so that a step that several of them have is carried out once."""
    cancellation: Cancellation = field(default_factory=Cancellation)
