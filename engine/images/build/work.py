"""What a solved Dockerfile consists of: stages of steps, and the work that a step means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.images.build.context import Match
from engine.images.build.imageconfig import ImageSettings
from engine.images.build.parse import Place

if TYPE_CHECKING:
    from engine.types import Image


@dataclass(frozen=True, slots=True)
class FromContext:
    """Files of the build context."""

    matches: tuple[Match, ...]


@dataclass(frozen=True, slots=True)
class FromStage:
    """Files of another stage, by its index."""

    stage: int
    patterns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FromImage:
    """Files of an image."""

    image: Image
    patterns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RunWork:
    """Run a command."""

    argv: tuple[str, ...]
    env: tuple[str, ...]
    cwd: str
    user: str


@dataclass(frozen=True, slots=True)
class CopyWork:
    """Copy files. `texts` are here-documents: (name, content)."""

    source: FromContext | FromStage | FromImage
    texts: tuple[tuple[str, str], ...]
    destination: str
    into_directory: bool
    chown: str | None
    mode: int | None
    unpacks: bool


@dataclass(frozen=True, slots=True)
class MakeDirectoryWork:
    """Make a working directory, of the user who will work in it."""

    path: str
    user: str


Work = RunWork | CopyWork | MakeDirectoryWork


@dataclass(frozen=True, slots=True)
class Step:
    """One instruction in its stage. `key` names what the root holds after it; `work` None changes the configuration only."""

    place: Place
    stage: str
    number: int
    total: int
    text: str
    created_by: str
    key: str
    work: Work | None


@dataclass(frozen=True, slots=True)
class SolvedStage:
    """A stage worked out. `steps` begin with those of the stage it starts from, so that `base` is an image, or None for scratch."""

    name: str
    base: Image | None
    steps: tuple[Step, ...]
    settings: ImageSettings
    key: str
