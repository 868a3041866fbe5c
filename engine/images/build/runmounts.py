"""What a RUN step sees beside its root, made for as long as its command runs.

Trees of stages and images are mounted in the step's workspace and bound from there; secrets and sockets lie on a tmpfs of
their own in it. All of it goes with the block; what a killed build left, the next one takes away.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from engine.errors import NotFound, UmiakError
from engine.frozen import frozen
from engine.images.build import agent
from engine.images.build.cachedirs import CacheDirectories
from engine.images.build.context import Match, Tree
from engine.images.build.copy import Copier, CopyOptions
from engine.images.build.mounts import number, size_bytes, truth
from engine.images.build.rootfs import attached, attached_tmpfs
from engine.images.build.secrets import Secret
from engine.images.build.solverun import SCRIPT_DIRECTORY, secret_id
from engine.images.build.work import FromContext, RunMount, RunWork, Source
from engine.images.build.workspace import Workspace
from engine.types import Mount

if TYPE_CHECKING:
    from engine.images.build.cancel import Cancellation

OpenSource = Callable[[Source, Workspace, ExitStack], tuple[Tree, list[Match]]]
LayersOf = Callable[[Source], list[str]]


@frozen
class Grants:
    """What the caller lets RUN steps use: secrets by ID, and SSH agents or keys by ID."""

    secrets: Mapping[str, Secret] = field(default_factory=dict)
    ssh: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Extras:
    """What a command gets: mounts, and variables beside its own."""

    mounts: list[Mount] = field(default_factory=list)
    env: list[str] = field(default_factory=list)


class RunMounts:
    """Makes the mounts of RUN steps. `open_source` and `layers_of` lead to the files of contexts, stages and images."""

    def __init__(
        self,
        grants: Grants,
        caches: CacheDirectories,
        cancellation: Cancellation,
        open_source: OpenSource,
        layers_of: LayersOf,
    ) -> None:
        self.grants = grants
        self.caches = caches
        self.cancellation = cancellation
        self.open_source = open_source
        self.layers_of = layers_of

    @contextmanager
    def made(self, work: RunWork, space: Workspace) -> Iterator[Extras]:
        """Make all that a step asks for, for a block. Raise NotFound for a required secret or agent that was not given."""
        extras = Extras()
        with ExitStack() as stack:
            private = ""
            if any(mount.type in ("secret", "ssh") for mount in work.mounts):
                private = stack.enter_context(attached_tmpfs(space.directory("private")))
            if work.script is not None:
                self._script(work.script, space, extras)
            for index, mount in enumerate(work.mounts):
                match mount.type:
                    case "bind":
                        self._bind(mount, space, index, stack, extras)
                    case "cache":
                        self._cache(mount, space, stack, extras)
                    case "tmpfs":
                        options = {"size": size_bytes(mount.words.get("size")), "exec": True, "dev": True}
                        extras.mounts.append(Mount("tmpfs", mount.target, options=options))
                    case "secret":
                        self._secret(mount, private, index, extras)
                    case "ssh":
                        self._ssh(mount, private, index, stack, extras)
            yield extras

    def _script(self, script: tuple[str, str], space: Workspace, extras: Extras) -> None:
        name, text = script
        path = os.path.join(space.path, "script")
        _write(path, text.encode(), (0, 0), 0o755)
        extras.mounts.append(_bound(path, f"{SCRIPT_DIRECTORY}/{name}", read_only=True))

    def _bind(self, mount: RunMount, space: Workspace, index: int, stack: ExitStack, extras: Extras) -> None:
        assert mount.source is not None
        target = space.directory(f"bind{index}")
        if isinstance(mount.source, FromContext):
            tree, (match,) = self.open_source(mount.source, space, stack)
            path = _copied(tree, match, target)
        else:
            upper = None if mount.read_only else space.directory(f"bind{index}-upper")
            work = None if mount.read_only else space.directory(f"bind{index}-work")
            layers = self.layers_of(mount.source)
            stack.enter_context(attached(layers, space.empty, target, upper, work))
            path = _inside(target, mount)
        extras.mounts.append(_bound(path, mount.target, read_only=mount.read_only))

    def _cache(self, mount: RunMount, space: Workspace, stack: ExitStack, extras: Extras) -> None:
        def fill(directory: str) -> None:
            if mount.source is not None:
                with ExitStack() as reading:
                    tree, matches = self.open_source(mount.source, space, reading)
                    for match in matches:
                        _copied(tree, match, directory, keep_owner=True)
            os.chown(directory, *_owner(mount))
            os.chmod(directory, number(mount.words.get("mode"), "mode", 0o755, 8))

        name = mount.words.get("id") or mount.target
        sharing = mount.words.get("sharing", "shared")
        path = stack.enter_context(self.caches.held(name, sharing, self.cancellation, fill))
        extras.mounts.append(_bound(path, mount.target, read_only=mount.read_only))

    def _secret(self, mount: RunMount, private: str, index: int, extras: Extras) -> None:
        name = secret_id(mount.words)
        secret = self.grants.secrets.get(name)
        if secret is None:
            if truth_of(mount, "required"):
                raise NotFound(
                    f"the secret {name!r} was not given",
                    hint=f"build with --secret id={name},src=FILE, or add it to build.secrets",
                )
            return
        value = secret.read(name)
        if "env" in mount.words:
            extras.env.append(f"{mount.words['env']}={value.decode(errors='surrogateescape')}")
        if mount.target:
            path = os.path.join(private, str(index))
            _write(path, value, _owner(mount), number(mount.words.get("mode"), "mode", 0o400, 8))
            extras.mounts.append(_bound(path, mount.target, read_only=True))

    def _ssh(self, mount: RunMount, private: str, index: int, stack: ExitStack, extras: Extras) -> None:
        name = mount.words.get("id", "default")
        if name not in self.grants.ssh:
            if truth_of(mount, "required"):
                raise NotFound(
                    f"the SSH agent {name!r} was not given", hint=f"build with --ssh {name}, or add it to build.ssh"
                )
            return
        socket_path = stack.enter_context(agent.offered(name, self.grants.ssh[name], private, f"agent{index}"))
        mode = number(mount.words.get("mode"), "mode", 0o600, 8)
        path = stack.enter_context(agent.forwarded(socket_path, private, str(index), _owner(mount), mode))
        extras.mounts.append(_bound(path, mount.target, read_only=False))
        if not any(item.startswith("SSH_AUTH_SOCK=") for item in extras.env):
            extras.env.append(f"SSH_AUTH_SOCK={mount.target}")


def truth_of(mount: RunMount, key: str) -> bool:
    """A word of a mount that is true or false, checked when the Dockerfile was solved."""
    from engine.images.build.mounts import MountOption

    return truth(MountOption(mount.type, mount.words), key)


def _owner(mount: RunMount) -> tuple[int, int]:
    return number(mount.words.get("uid"), "uid", 0), number(mount.words.get("gid"), "gid", 0)


def _bound(path: str, target: str, *, read_only: bool) -> Mount:
    return Mount("bind", target, path, read_only, {"create_host_path": False})


def _write(path: str, data: bytes, owner: tuple[int, int], mode: int) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
        file.write(data)
    os.chown(path, *owner)
    os.chmod(path, mode)


def _copied(tree: Tree, match: Match, directory: str, *, keep_owner: bool = False) -> str:
    """Copy what a context shows, which a command may then see, or write over; return the path of the copy."""
    root_fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with Copier(Tree(root_fd), CopyOptions(None if keep_owner else (0, 0))) as copier:
            copier.copy(tree, match, "/", into_directory=True)
    finally:
        os.close(root_fd)
    copy = os.path.join(directory, match.name)
    return directory if not match.name or _is_directory(tree, match) else copy


def _is_directory(tree: Tree, match: Match) -> bool:
    found = tree.lstat(match.path)
    return found is not None and (found.st_mode & 0o170000) == 0o040000


def _inside(root: str, mount: RunMount) -> str:
    """The path of a mount's source in a tree mounted at `root`, links followed within it."""
    source = mount.words.get("source") or "/"
    root_fd = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        tree = Tree(root_fd)
        path = tree.follow(source)
        if tree.lstat(path) is None:
            raise NotFound(f"--mount: there is no {posixpath.join('/', source)} in {mount.words.get('from')}")
    except OSError as error:
        raise UmiakError(f"--mount: cannot use {source}: {error.strerror}") from error
    finally:
        os.close(root_fd)
    return os.path.join(root, path)
