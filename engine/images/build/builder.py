"""Build an image from a Dockerfile.

parse       text → statements with places
group       statements → instructions → stages
Solver      variables, configuration and cache keys of the stages that the target needs
Executor    what the cache lacks is carried out, each step in a fresh upper directory that becomes a layer
_record     configuration and layers → image
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from typing import TYPE_CHECKING, Any

from engine.errors import InvalidInput, NotFound, UmiakError
from engine.images.build import lint
from engine.images.build.bases import BaseImages, Pull
from engine.images.build.cache import BuildCache, Built
from engine.images.build.context import explained, open_context
from engine.images.build.contexts import Contexts
from engine.images.build.download import Downloads, is_url
from engine.images.build.events import BuildEvent
from engine.images.build.execute import Executor
from engine.images.build.git import is_git
from engine.images.build.parse import MAX_DOCKERFILE_BYTES, Place, parse
from engine.images.build.perform import Tools
from engine.images.build.request import BuildRequest
from engine.images.build.runmounts import Grants
from engine.images.build.solve import Solver, check_platform
from engine.images.build.stages import Stage, group
from engine.images.build.surroundings import ENTITLEMENTS, Surroundings
from engine.images.build.work import SolvedStage
from engine.images.build.workspace import remove_abandoned, workspace
from engine.images.config import host_architecture, timestamp
from engine.types import Image

if TYPE_CHECKING:
    from engine.images.build.cacheio import CachePlace
    from engine.images.build.outputs import Output
    from engine.images.store import ImageStore
    from engine.ports import BuildRunner

__all__ = ["BuildRequest", "build", "check"]

INLINE_NAME = "dockerfile_inline"

Progress = Callable[[BuildEvent], None]


def build(
    store: ImageStore,
    runner: BuildRunner,
    request: BuildRequest,
    progress: Progress,
    *,
    pull: Pull | None = None,
) -> Image:
    """Build an image, or find it unchanged in the cache, and give it its tags or put it where `output` says.

    Any number of builds may use one store at once. `progress` is called from the threads that work, one call at a time.
    `pull` fetches base images that the store lacks. Raise BuildFailed when a RUN command fails; every error about the
    Dockerfile names file, line and column.
    """
    remove_abandoned(os.path.join(store.paths.root, "build"))
    with closing(BuildCache(store, read=not request.no_cache, session=request.session)) as cache:
        return _built(store, runner, request, progress, cache, pull)


def _built(
    store: ImageStore,
    runner: BuildRunner,
    request: BuildRequest,
    progress: Progress,
    cache: BuildCache,
    pull: Pull | None,
) -> Image:
    epoch = source_date_epoch(request.args)
    directory = os.path.join(store.paths.root, "build")
    downloads = Downloads(store.paths.downloads, request.cancellation)
    with (
        _local_context(request, directory, downloads) as context,
        _surroundings(store, request, context, downloads, pull) as surroundings,
    ):
        solver, target = _solved(store, request, context, surroundings)
        _warn(solver, target, progress)
        exports = _caches(request, cache, progress)
        tools = Tools(
            runner,
            directory,
            surroundings.downloads,
            epoch,
            Grants(request.secrets, request.ssh),
            request.options,
            request.cancellation,
        )
        solved = solver.stages[target.index]
        base = store.config_json(solved.base.id) if solved.base else {}
        built = Executor(solver.stages, cache, tools, progress).run(target.index)
    extra = _export(store, exports, solver, solved, built, cache, progress)
    return _delivered(store, cache, solved, base, built, request, epoch, extra)


def check(request: BuildRequest) -> list[lint.Finding]:
    """What in the Dockerfile of a request is better written otherwise. Raise InvalidInput where it is wrong."""
    import tempfile

    with tempfile.TemporaryDirectory() as scratch:
        downloads = Downloads(os.path.join(scratch, "downloads"), request.cancellation)
        with _local_context(request, scratch, downloads) as directory:
            return lint.check(*read_dockerfile(request, directory), request.args)


@contextmanager
def _local_context(request: BuildRequest, directory: str, downloads: Downloads) -> Iterator[str]:
    """The directory of the build context; that of a repository or an archive lasts as long as the block."""
    if is_url(request.context) and not is_git(request.context):
        from engine.images.build.archivecontext import unpacked

        with workspace(directory, []) as space, unpacked(request.context, downloads, space.path) as path:
            yield path
        return
    if not is_git(request.context):
        yield request.context
        return
    from engine.images.build import git

    source = git.find(request.context, request.cancellation)
    with workspace(directory, []) as space, git.checked_out(source, space.path, request.cancellation) as path:
        yield path


@contextmanager
def _surroundings(
    store: ImageStore, request: BuildRequest, directory: str, downloads: Downloads, pull: Pull | None
) -> Iterator[Surroundings]:
    for name in request.entitlements:
        if name not in ENTITLEMENTS:
            raise InvalidInput(
                f"there is no entitlement {name!r}", hint=f"the entitlements are {', '.join(ENTITLEMENTS)}"
            )
    for platform in request.platforms:
        check_platform(platform)
    dockerfile = None if request.dockerfile_inline is not None else _dockerfile_path(request, directory)
    bases = BaseImages(store, pull, always=request.pull)
    with ExitStack() as stack:
        main = open_context(directory, dockerfile)
        stack.callback(main.close)
        scratch = ""
        if any(is_git(value) or is_url(value) for value in request.named_contexts.values()):
            scratch = stack.enter_context(workspace(os.path.join(store.paths.root, "build"), [])).path
        contexts = stack.enter_context(Contexts(main, request.named_contexts, store, bases, scratch, downloads))
        yield Surroundings(
            contexts,
            bases,
            downloads,
            request.cancellation,
            request.options.network,
            frozenset(request.entitlements),
            frozenset(name.lower() for name in request.no_cache_filter),
        )


def source_date_epoch(args: Mapping[str, str | None]) -> int | None:
    """SOURCE_DATE_EPOCH (a build argument, else a variable), the time to date everything to. Raise InvalidInput if it is no number."""
    text = args.get("SOURCE_DATE_EPOCH") or os.environ.get("SOURCE_DATE_EPOCH")
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 11:
        raise InvalidInput(f"cannot read SOURCE_DATE_EPOCH={text}", hint="it counts seconds since 1970")
    return int(text)


def _dockerfile_path(request: BuildRequest, directory: str) -> str:
    return os.path.join(directory, request.dockerfile or "Dockerfile")


def read_dockerfile(request: BuildRequest, directory: str) -> tuple[str, str]:
    """The text, and the name to show in places. Raise NotFound with a hint."""
    if request.dockerfile_inline is not None:
        return request.dockerfile_inline, INLINE_NAME
    path = _dockerfile_path(request, directory)
    name = _shown(path) if directory == request.context else request.dockerfile or "Dockerfile"
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_DOCKERFILE_BYTES + 1)
    except FileNotFoundError as error:
        raise NotFound(f"there is no {name}", hint=_dockerfile_hint(request, directory)) from error
    except OSError as error:
        raise explained(error, f"cannot read {name}") from error
    if len(data) > MAX_DOCKERFILE_BYTES:
        raise InvalidInput(f"{name} is larger than {MAX_DOCKERFILE_BYTES >> 20} MiB", hint="this is no Dockerfile")
    return data.decode("utf-8", "replace"), name


def _shown(path: str) -> str:
    """A path as people would write it: relative if it lies below the current directory."""
    path = os.path.normpath(path)
    relative = os.path.relpath(path)
    return path if relative.startswith("..") else relative


def _dockerfile_hint(request: BuildRequest, directory: str) -> str:
    if not os.path.isdir(directory):
        return f"the build context {request.context} does not exist"
    from difflib import get_close_matches

    close = get_close_matches(request.dockerfile or "Dockerfile", os.listdir(directory), n=1)
    return (
        f"did you mean {close[0]}?" if close else "the path counts from the build context; name another with dockerfile"
    )


def _solved(
    store: ImageStore, request: BuildRequest, directory: str, surroundings: Surroundings
) -> tuple[Solver, Stage]:
    """Parse the Dockerfile and work out the stages that the target needs."""
    for name, value in request.args.items():
        if "\0" in name or "\0" in (value or ""):
            raise InvalidInput(f"the build argument {name!r} holds a NUL byte")
    text, name = read_dockerfile(request, directory)
    statements = parse(text, name)
    dockerfile = group(statements, name)
    target = dockerfile.target(request.target)
    try:
        solver = Solver(dockerfile, store, request.args, surroundings, request.target or "default")
        solver.solve(target)
    except OSError as error:
        raise explained(error, f"cannot read the build context {request.context}") from error
    policy = lint.policy_of(text, name, request.args)
    findings = policy.wanted([*lint.findings_in(statements, dockerfile), *solver.findings])
    policy.enforce(findings)
    solver.warnings += [(finding.place, f"{finding.message} ({finding.rule})") for finding in findings]
    return solver, target


def _warn(solver: Solver, target: Stage, progress: Callable[[BuildEvent], None]) -> None:
    warnings = list(solver.warnings)
    unused = solver.unused_args()
    if unused:
        warnings.append((Place(solver.dockerfile.file, 1), f"no ARG asks for the build arguments {', '.join(unused)}"))
    for place, text in warnings:
        progress(BuildEvent("warning", target.name, 0, 0, text, str(place)))


def _caches(request: BuildRequest, cache: BuildCache, progress: Progress) -> list[CachePlace]:
    """Open the caches to read, and return those to write. One that cannot be used is a warning: the build needs none."""
    if not request.cache_from and not request.cache_to:
        return []
    from engine.images.build.cacheio import open_cache, read_place

    places: list[CachePlace] = []
    for texts, key in ((request.cache_from, "src"), (request.cache_to, "dest")):
        for text in texts:
            try:
                place = read_place(text, key)
                if key == "dest":
                    places.append(place)
                else:
                    cache.imports.append(open_cache(place))
            except UmiakError as error:
                progress(BuildEvent("warning", "", 0, 0, f"{error.message}: it is not used", ""))
    return places


def _export(
    store: ImageStore,
    places: Sequence[CachePlace],
    solver: Solver,
    solved: SolvedStage,
    built: Built,
    cache: BuildCache,
    progress: Progress,
) -> dict[str, Any]:
    """Write the caches asked for; return what an inline one adds to the image's configuration."""
    extra: dict[str, Any] = {}
    for place in places:
        from engine.images.build import cacheio

        try:
            if place.kind == "inline":
                extra[cacheio.INLINE_KEY] = cacheio.inline_document(solved, built, cache)
            else:
                stages = list(solver.stages.values()) if place.is_full else [solved]
                cacheio.export(store, place, stages, cache)
        except UmiakError as error:
            if not place.ignores_errors:
                raise
            progress(BuildEvent("warning", "", 0, 0, error.message, ""))
    return extra


def _delivered(
    store: ImageStore,
    cache: BuildCache,
    stage: SolvedStage,
    base: Mapping[str, Any],
    built: Built,
    request: BuildRequest,
    epoch: int | None,
    extra: Mapping[str, Any],
) -> Image:
    """Record the image, and write it where the caller wants it. Only an image that stays in the store gets its names there."""
    stays = not request.outputs or any(output.is_image for output in request.outputs)
    document = _document(stage, base, built, request.labels, epoch, extra)
    image = cache.image(document, built, request.tags if stays else ())
    if not stays and not image.tags:
        image = cache.entered(None, lambda: cache.image(document, built, ()))
    for output in request.outputs:
        if not output.is_image:
            _write(store, image, output, request.tags)
    return image


def _write(store: ImageStore, image: Image, output: Output, tags: Sequence[str]) -> None:
    from engine.images.build.outputs import write_files, write_image

    if output.kind not in ("local", "tar"):
        write_image(output, store, image, tags)
        return
    with workspace(os.path.join(store.paths.root, "build"), []) as space:
        write_files(output, store.layer_dirs(image), space.empty)


def _document(
    stage: SolvedStage,
    base: Mapping[str, Any],
    built: Built,
    labels: Mapping[str, str],
    epoch: int | None,
    extra: Mapping[str, Any],
) -> dict[str, Any]:
    """The image's configuration, with `extra` beside it. The same steps with the same configuration give the same image."""
    history, created = _history(stage, built, base, epoch)
    if labels:
        stage.settings.set_labels(labels)
    document = {
        "created": created,
        "architecture": base.get("architecture") or host_architecture(),
        "os": base.get("os") or "linux",
        "config": stage.settings.config,
        "history": history,
        **extra,
    }
    if base.get("variant"):
        document["variant"] = base["variant"]
    if stage.settings.author:
        document["author"] = stage.settings.author
    return document


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
