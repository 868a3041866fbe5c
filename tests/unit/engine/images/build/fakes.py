"""A store that knows images by name, and what a Dockerfile comes to with it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.errors import NotFound
from engine.images.build.bases import BaseImages
from engine.images.build.cancel import Cancellation
from engine.images.build.context import open_context
from engine.images.build.contexts import Contexts
from engine.images.build.download import Downloads
from engine.images.build.parse import parse
from engine.images.build.solve import Solver
from engine.images.build.stages import group
from engine.images.build.surroundings import Surroundings
from engine.images.build.work import SolvedStage
from engine.types import Image, ImageConfig

DEBIAN = {
    "architecture": "amd64",
    "os": "linux",
    "config": {"Env": ["PATH=/usr/bin:/bin", "LANG=C"], "Cmd": ["bash"], "Labels": {"from": "base"}},
}


class FakeStore:
    """Implements what `Solver` asks of an `ImageStore`."""

    def __init__(self, images: Mapping[str, Mapping[str, Any]] | None = None) -> None:
        self.images = dict(images or {"debian": DEBIAN})

    def resolve(self, reference: str) -> Image:
        if reference not in self.images:
            raise NotFound(f'no image "{reference}"', hint="make it")
        return Image(reference, (reference,), 0.0, 0, "amd64", "linux", ImageConfig(), (f"sha256:{reference}",))

    def config_json(self, image_id: str) -> Mapping[str, Any]:
        return self.images[image_id]


def solved(
    text: str,
    context: Path,
    args: Mapping[str, str | None] | None = None,
    target: str | None = None,
    store: FakeStore | None = None,
    named: Mapping[str, str] | None = None,
    **rules: Any,
) -> SolvedStage:
    """Work out a Dockerfile's target, warnings aside."""
    return solver(text, context, args, target, store, named, **rules)[1]


def solver(
    text: str,
    context: Path,
    args: Mapping[str, str | None] | None = None,
    target: str | None = None,
    store: FakeStore | None = None,
    named: Mapping[str, str] | None = None,
    **rules: Any,
) -> tuple[Solver, SolvedStage]:
    dockerfile = group(parse(text, "Dockerfile"), "Dockerfile")
    opened = open_context(str(context), None)
    images: Any = store or FakeStore()
    bases = BaseImages(images)
    cancellation = Cancellation()
    contexts = Contexts(opened, named or {}, images, bases, "", Downloads("", cancellation))
    around = Surroundings(contexts, bases, Downloads("", cancellation), cancellation, **rules)
    try:
        with contexts:
            made = Solver(dockerfile, images, args or {}, around)
            return made, made.solve(dockerfile.target(target))
    finally:
        opened.close()
