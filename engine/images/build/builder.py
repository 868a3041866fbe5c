"""Build an image from a Dockerfile.

parse       text → statements with places
group       statements → instructions → stages
Solver      variables, configuration and cache keys of the stages that the target needs
Executor    what the cache lacks is carried out, each step in a fresh upper directory that becomes a layer
_record     configuration and layers → image
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from engine.errors import InvalidInput, NotFound
from engine.images.build.cache import BuildCache, Built
from engine.images.build.cancel import Cancellation
from engine.images.build.context import Context, explained, open_context
from engine.images.build.events import BuildEvent
from engine.images.build.execute import Executor
from engine.images.build.parse import MAX_DOCKERFILE_BYTES, Place, parse
from engine.images.build.solve import Solver
from engine.images.build.stages import Dockerfile, Stage, group
from engine.images.build.work import SolvedStage
from engine.images.build.workspace import remove_abandoned
from engine.images.config import host_architecture, timestamp
from engine.types import Image

if TYPE_CHECKING:
    from engine.images.store import ImageStore
    from engine.ports import BuildRunner

INLINE_NAME = "dockerfile_inline"


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """What to build. `dockerfile` is relative to `context` (default `Dockerfile`); `dockerfile_inline` is its text instead.

    An argument of value None is not given, so the Dockerfile's default holds. `target` is a stage's name or number.
    `pull` asks for fresh base images, which a store without registries cannot fetch: what it has is used.
    `cancellation` lets another thread give the build up: `build` then raises Cancelled.
    """

    context: str
    dockerfile: str | None = None
    dockerfile_inline: str | None = None
    args: Mapping[str, str | None] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    tags: Sequence[str] = ()
    target: str | None = None
    no_cache: bool = False
    pull: bool = False
    cancellation: Cancellation = field(default_factory=Cancellation)


def build(
    store: ImageStore, runner: BuildRunner, request: BuildRequest, progress: Callable[[BuildEvent], None]
) -> Image:
    """Build an image, or find it unchanged in the cache, and give it its tags.

    Any number of builds may use one store at once. `progress` is called from the threads that work, one call at a time.
    Raise BuildFailed when a RUN command fails; every error about the Dockerfile names file, line and column.
    """
    epoch = source_date_epoch()
    text, name, path = _read_dockerfile(request)
    dockerfile = group(parse(text, name), name)
    target = dockerfile.target(request.target)
    directory = os.path.join(store.paths.root, "build")
    remove_abandoned(directory)
    context = open_context(request.context, path)
    try:
        solver = _solved(dockerfile, target, context, store, request)
        _warn(solver, target, progress)
        cache = BuildCache(store, read=not request.no_cache)
        executor = Executor(solver.stages, cache, runner, context, directory, progress, epoch, request.cancellation)
        built = executor.run(target.index)
    finally:
        context.close()
    return _record(store, cache, solver.stages[target.index], built, request, epoch)


def source_date_epoch() -> int | None:
    """SOURCE_DATE_EPOCH, the time to date everything to. Raise InvalidInput if it is no number."""
    text = os.environ.get("SOURCE_DATE_EPOCH")
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 11:
        raise InvalidInput(f"cannot read SOURCE_DATE_EPOCH={text}", hint="it counts seconds since 1970")
    return int(text)


def _read_dockerfile(request: BuildRequest) -> tuple[str, str, str | None]:
    """The text, the name to show in places, and the path, if it is a file."""
    if request.dockerfile_inline is not None:
        return request.dockerfile_inline, INLINE_NAME, None
    path = os.path.join(request.context, request.dockerfile or "Dockerfile")
    name = _shown(path)
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_DOCKERFILE_BYTES + 1)
    except FileNotFoundError as error:
        raise NotFound(f"there is no {name}", hint=_dockerfile_hint(request)) from error
    except OSError as error:
        raise explained(error, f"cannot read {name}") from error
    if len(data) > MAX_DOCKERFILE_BYTES:
        raise InvalidInput(f"{name} is larger than {MAX_DOCKERFILE_BYTES >> 20} MiB", hint="this is no Dockerfile")
    return data.decode("utf-8", "replace"), name, path


def _shown(path: str) -> str:
    """A path as people would write it: relative if it lies below the current directory."""
    path = os.path.normpath(path)
    relative = os.path.relpath(path)
    return path if relative.startswith("..") else relative


def _dockerfile_hint(request: BuildRequest) -> str:
    if not os.path.isdir(request.context):
        return f"the build context {request.context} does not exist"
    from difflib import get_close_matches

    close = get_close_matches(request.dockerfile or "Dockerfile", os.listdir(request.context), n=1)
    return (
        f"did you mean {close[0]}?" if close else "the path counts from the build context; name another with dockerfile"
    )


def _solved(
    dockerfile: Dockerfile, target: Stage, context: Context, store: ImageStore, request: BuildRequest
) -> Solver:
    for name, value in request.args.items():
        if "\0" in name or "\0" in (value or ""):
            raise InvalidInput(f"the build argument {name!r} holds a NUL byte")
    try:
        solver = Solver(dockerfile, context, store, request.args)
        solver.solve(target)
    except OSError as error:
        raise explained(error, f"cannot read the build context {context.directory}") from error
    return solver


def _warn(solver: Solver, target: Stage, progress: Callable[[BuildEvent], None]) -> None:
    warnings = list(solver.warnings)
    unused = solver.unused_args()
    if unused:
        warnings.append((Place(solver.dockerfile.file, 1), f"no ARG asks for the build arguments {', '.join(unused)}"))
    for place, text in warnings:
        progress(BuildEvent("warning", target.name, 0, 0, text, str(place)))


def _record(
    store: ImageStore, cache: BuildCache, stage: SolvedStage, built: Built, request: BuildRequest, epoch: int | None
) -> Image:
    """Make the image. The same steps with the same configuration give the same image, so nothing is written a second time."""
    base: dict[str, Any] = store.config_json(stage.base.id) if stage.base else {}
    history, created = _history(stage, built, base, epoch)
    if request.labels:
        stage.settings.set_labels(request.labels)
    document = {
        "created": created,
        "architecture": base.get("architecture") or host_architecture(),
        "os": base.get("os") or "linux",
        "config": stage.settings.config,
        "history": history,
    }
    if base.get("variant"):
        document["variant"] = base["variant"]
    if stage.settings.author:
        document["author"] = stage.settings.author
    return cache.image(document, built, request.tags)


def _history(
    stage: SolvedStage, built: Built, base: Mapping[str, Any], epoch: int | None
) -> tuple[list[dict[str, Any]], str]:
    """The image's history, and when it was made. A step without work of its own is dated like the one before it."""
    created = base.get("created") or timestamp(epoch or 0)
    history = list(base.get("history") or [])
    made = iter(built.made)
    for step in stage.steps:
        entry: dict[str, Any] = {"created": created, "created_by": step.created_by}
        result = next(made) if step.work is not None else None
        if result is not None:
            entry["created"] = created = result.created
        if result is None or not result.has_layer:
            entry["empty_layer"] = True
        history.append(entry)
    return history, created
