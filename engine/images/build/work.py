"""What a solved Dockerfile consists of: stages of steps, and the work that a step means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from engine.frozen import frozen
from engine.images.build.context import Context, Match
from engine.images.build.imageconfig import ImageSettings
from engine.images.build.modes import ModeChange
from engine.images.build.parse import Place

if TYPE_CHECKING:
    from engine.images.build.download import Download
    from engine.images.build.git import GitSource
    from engine.types import Image


@frozen
class FromContext:
    """Files of a build context."""

    context: Context
    matches: tuple[Match, ...]


@frozen
class FromStage:
    """Files of another stage, by its index."""

    stage: int
    patterns: tuple[str, ...]


@frozen
class FromImage:
    """Files of an image."""

    image: Image
    patterns: tuple[str, ...]


Source = FromContext | FromStage | FromImage


@frozen
class RunMount:
    """What a command sees at `target` beside its root. `words` are those of the `--mount`, variables replaced."""

    type: str
    target: str
    words: Mapping[str, str]
    source: Source | None = None
    read_only: bool = False


@frozen
class RunWork:
    """Run a command. `script` is a program to run it from (name, text)."""

    argv: tuple[str, ...]
    env: tuple[str, ...]
    cwd: str
    user: str
    mounts: tuple[RunMount, ...] = ()
    network: str = "default"
    privileged: bool = False
    script: tuple[str, str] | None = None


@frozen
class CopyWork:
    """Copy files. `texts` are here-documents (name, content), `remotes` what was or will be fetched.

    `link_key` names the files alone where they make a layer of their own whatever lies below it.
    """

    source: Source
    texts: tuple[tuple[str, str], ...]
    destination: str
    into_directory: bool
    chown: str | None
    mode: ModeChange | None
    unpacks: bool
    remotes: tuple[Download | GitSource, ...] = ()
    unpacks_remotes: bool = False
    parents: bool = False
    exclude: tuple[str, ...] = ()
    link_key: str | None = None


@frozen
class MakeDirectoryWork:
    """Make a working directory, of the user who will work in it."""

    path: str
    user: str


Work = RunWork | CopyWork | MakeDirectoryWork


@frozen
class Step:
    """One instruction in its stage. `key` names what the root holds after it; `work` None changes the configuration only.

    `refresh` says that the cache of earlier builds does not count.
    """

    place: Place
    stage: str
    number: int
    total: int
    text: str
    created_by: str
    key: str
    work: Work | None
    refresh: bool = False

    @property
    def stages_used(self) -> tuple[int, ...]:
        """The stages that this step takes files from."""
        sources: list[Source | None] = []
        if isinstance(self.work, CopyWork):
            sources.append(self.work.source)
        elif isinstance(self.work, RunWork):
            sources += [mount.source for mount in self.work.mounts]
        return tuple(source.stage for source in sources if isinstance(source, FromStage))


@frozen
class SolvedStage:
    """A stage worked out. `steps` begin with those of the stage it starts from, so that `base` is an image, or None for scratch."""

    name: str
    base: Image | None
    steps: tuple[Step, ...]
    settings: ImageSettings
    key: str
    refresh: bool = False
