"""Do what one step says in its workspace: run a command, copy files, make a directory."""

from __future__ import annotations

import os
import stat
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import field, replace
from typing import TYPE_CHECKING

from engine.errors import InvalidInput, NotFound, UmiakError
from engine.frozen import frozen
from engine.images.build import addtar
from engine.images.build.cachedirs import CacheDirectories
from engine.images.build.cancel import Cancellation
from engine.images.build.context import Match, Tree, TreeEntry, has_wildcard
from engine.images.build.copy import Copier, CopyOptions
from engine.images.build.download import Download, Downloads
from engine.images.build.git import GitSource
from engine.images.build.rootfs import mounted
from engine.images.build.runmounts import Grants, RunMounts
from engine.images.build.solvecopy import exclude_rules
from engine.images.build.work import CopyWork, FromContext, MakeDirectoryWork, RunWork, Source, Step
from engine.images.build.workspace import CACHE_NAME, Workspace, remove_mount_points
from engine.types import StepOptions

if TYPE_CHECKING:
    from engine.ports import BuildRunner

LAST_LINES = 20
_LAST_BYTES = 16 << 10


class BuildFailed(UmiakError):
    """A RUN command ended with something else than 0. `output` is the end of what it wrote."""

    def __init__(self, message: str, *, output: str, hint: str | None = None, place: str | None = None) -> None:
        super().__init__(message, hint=hint, place=place)
        self.output = output


@frozen
class Tools:
    """What steps are carried out with. `directory` is that of workspaces; `epoch` the time that all made is dated to."""

    runner: BuildRunner
    directory: str
    downloads: Downloads
    epoch: int | None = None
    grants: Grants = field(default_factory=Grants)
    options: StepOptions = field(default_factory=StepOptions)
    cancellation: Cancellation = field(default_factory=Cancellation)


class Performer:
    """Carries out steps. `layer_dirs` gives the directories of a stage's or an image's layers, and what to call it."""

    def __init__(
        self,
        tools: Tools,
        layers_of: Callable[[Source], tuple[list[str], str]],
        output: Callable[[Step, bytes], None],
    ) -> None:
        self.tools = tools
        self.layers_of = layers_of
        self.output = output
        caches = CacheDirectories(os.path.join(tools.directory, CACHE_NAME))
        self.mounts = RunMounts(
            tools.grants, caches, tools.cancellation, self._opened, lambda source: self.layers_of(source)[0]
        )

    def perform(self, step: Step, lower: list[str], space: Workspace, owners: list[str] | None = None) -> None:
        """Do it. `lower` are the layers below; `owners`, where given, those that names of users are looked up in."""
        match step.work:
            case RunWork():
                self._run(step, step.work, lower, space)
            case CopyWork():
                self._copy(step.work, lower, space, owners)
            case MakeDirectoryWork():
                self._make_directory(step.work, lower, space)

    def _run(self, step: Step, work: RunWork, lower: list[str], space: Workspace) -> None:
        tail: deque[bytes] = deque()
        size = 0

        def output(piece: bytes) -> None:
            # An empty piece is the runner asking whether to go on.
            nonlocal size
            self.tools.cancellation.check()
            if piece:
                tail.append(piece)
                size += len(piece)
                while size - len(tail[0]) > _LAST_BYTES:
                    size -= len(tail.popleft())
                self.output(step, piece)

        points = self._mount_points(work, lower, space)
        with self.mounts.made(work, space) as extras:
            code = self.tools.runner(
                layer_dirs=lower or [space.empty],
                upper=space.upper,
                work=space.work,
                argv=work.argv,
                env=[*work.env, *extras.env],
                cwd=work.cwd,
                user=work.user,
                output=output,
                mounts=extras.mounts,
                options=replace(self.tools.options, network=work.network, privileged=work.privileged),
            )
        self.tools.cancellation.check()
        if code != 0:
            raise _run_failed(step, code, b"".join(tail))
        remove_mount_points(space.upper, lower, points)

    def _mount_points(self, work: RunWork, lower: list[str], space: Workspace) -> list[str]:
        """Where the step's mounts go, links followed."""
        targets = [mount.target for mount in work.mounts if mount.target]
        if not targets:
            return []
        with mounted(lower, space.empty) as fd:
            return [Tree(fd).follow(target) for target in targets]

    def _copy(self, work: CopyWork, lower: list[str], space: Workspace, owners: list[str] | None) -> None:
        with ExitStack() as stack:
            root = Tree(stack.enter_context(mounted(lower, space.empty, space.upper, space.work)))
            names = root if owners is None else Tree(stack.enter_context(mounted(owners, space.empty)))
            source, matches = self._opened(work.source, space, stack, parents=work.parents)
            owner = None if work.chown is None else owner_in(names, work.chown)
            options = CopyOptions(owner, work.mode, exclude_rules(work.exclude))
            copier = stack.enter_context(Copier(root, options))
            if not work.into_directory:
                _refuse_several(root, work, source, matches)
            for match in matches:
                self.tools.cancellation.check()
                if work.parents:
                    copier.copy_with_parents(source, match, work.destination)
                elif work.unpacks and addtar.is_archive(source, match.path):
                    addtar.unpack(source, match.path, copier, work.destination)
                else:
                    copier.copy(source, match, work.destination, into_directory=work.into_directory)
            for name, text in work.texts:
                copier.write_file(text.encode(), work.destination, name, into_directory=work.into_directory)
            for remote in work.remotes:
                self._add_remote(remote, work, copier, space)

    def _add_remote(self, remote: Download | GitSource, work: CopyWork, copier: Copier, space: Workspace) -> None:
        if isinstance(remote, GitSource):
            from engine.images.build import git

            with git.checked_out(remote, space.path, self.tools.cancellation) as path, _opened_tree(path) as tree:
                copier.copy(tree, Match("", ""), work.destination, into_directory=True)
            return
        with self.tools.downloads.opened(remote) as (path, modified), _opened_tree(os.path.dirname(path)) as tree:
            name = os.path.basename(path)
            if work.unpacks_remotes and addtar.is_archive(tree, name):
                addtar.unpack(tree, name, copier, work.destination)
            else:
                match = Match(remote.name, name)
                copier.copy(
                    Downloaded(tree.root_fd, modified), match, work.destination, into_directory=work.into_directory
                )

    def _opened(
        self, source: Source, space: Workspace, stack: ExitStack, *, parents: bool = False
    ) -> tuple[Tree, list[Match]]:
        """The tree to copy from, mounted if it is one of layers, and what to copy of it."""
        if isinstance(source, FromContext):
            return source.context, list(source.matches)
        layers, name = self.layers_of(source)
        tree = Tree(stack.enter_context(mounted(layers, space.empty)))
        matches: list[Match] = []
        for pattern in source.patterns:
            found = [match for match in tree.matches(pattern, parents=parents) if tree.lstat(match.path) is not None]
            if not found and not has_wildcard(pattern):
                raise NotFound(
                    f"COPY {pattern}: no such file in {name}", hint="paths count from the root of that file system"
                )
            matches += found
        return tree, matches

    def _make_directory(self, work: MakeDirectoryWork, lower: list[str], space: Workspace) -> None:
        with mounted(lower, space.empty, space.upper, space.work) as fd:
            root = Tree(fd)
            owner = owner_in(root, work.user) if work.user else None
            with Copier(root, CopyOptions(owner)) as copier:
                copier.make_directories(root.follow(work.path))


class Downloaded(Tree):
    """The directory of downloads: what is taken from it is root's, and dated as the server says."""

    def __init__(self, root_fd: int, modified: float) -> None:
        super().__init__(root_fd)
        self.modified = modified

    def owner(self, entry: TreeEntry) -> tuple[int, int]:  # noqa: ARG002
        return 0, 0

    def modified_ns(self, entry: TreeEntry) -> int:  # noqa: ARG002
        return int(self.modified * 10**9)


@contextmanager
def _opened_tree(path: str) -> Iterator[Tree]:
    fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield Tree(fd)
    finally:
        os.close(fd)


def _run_failed(step: Step, code: int, tail: bytes) -> BuildFailed:
    lines = tail.decode("utf-8", "replace").splitlines()[-LAST_LINES:]
    hint = None
    if code == 127:
        hint = "127 means that the command was not found in the image"
    elif code == 137:
        hint = "137 means that it was killed, perhaps for want of memory"
    shown = "".join(f"\n  {line}" for line in lines)
    return BuildFailed(
        f"{step.text}: exit code {code}{shown}", output="\n".join(lines), hint=hint, place=str(step.place)
    )


def _refuse_several(root: Tree, work: CopyWork, source: Tree, matches: Sequence[Match]) -> None:
    """Several files cannot go into one that is not a directory: each would replace the one before.

    A directory or an archive that comes first makes a directory.
    """
    count = len(matches) + len(work.texts) + len(work.remotes)
    target = root.lstat(root.follow(work.destination))
    if count < 2 or (target is not None and stat.S_ISDIR(target.st_mode)):
        return
    if matches:
        path = matches[0].path
        first = source.lstat(path)
        if (first and stat.S_ISDIR(first.st_mode)) or (work.unpacks and addtar.is_archive(source, path)):
            return
    raise InvalidInput(
        f"{count} files are to go to {work.destination}, which is not a directory",
        hint=f"end it with a slash: {work.destination}/",
    )


def owner_in(root: Tree, text: str) -> tuple[int, int]:
    """The numbers of `user[:group]`, looked up in the root's /etc/passwd and /etc/group. A bare number is both."""
    from engine.runtime import users

    try:
        uid, gid, *_ = users.resolve(text, _read(root, "etc/passwd"), _read(root, "etc/group"))
    except users.UserError as error:
        raise InvalidInput(error.message, hint=error.hint) from error
    return uid, uid if text.isascii() and text.isdigit() else gid


def _read(root: Tree, path: str) -> bytes:
    try:
        fd = root.open(root.follow(path))
    except (FileNotFoundError, NotADirectoryError):
        return b""
    with os.fdopen(fd, "rb") as file:
        return file.read(16 << 20)
