"""Git repositories as sources of ADD and as build contexts: `https://host/name.git#ref:directory`.

The git program does the work; what it gives is named by its commit, so an unchanged repository is a cached step.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from engine.errors import InvalidInput, NotFound, TimedOut, Unavailable, Unsupported
from engine.frozen import frozen
from engine.images.tree import remove_tree

if TYPE_CHECKING:
    from engine.images.build.cancel import Cancellation

_GIT_ONLY = re.compile(r"(git|ssh)://|[\w.-]+@[\w.-]+:|github\.com/", re.IGNORECASE)
_HTTP_REPOSITORY = re.compile(r"https?://[^#?]+\.git(?:[#?]|$)", re.IGNORECASE)
_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_STOP_POLL_S = 0.1
_SETTINGS = (
    "core.hooksPath=/dev/null",
    "init.defaultBranch=main",
    "http.lowSpeedLimit=64",
    "http.lowSpeedTime=30",
)
_SSH = "ssh -o BatchMode=yes -o ConnectTimeout=30 -o ServerAliveInterval=10"
_ASK_S = 120.0
_FETCH_S = 3600.0
"""How long a server may take to say what it has, and to send it."""


@frozen
class GitSource:
    """A directory of a repository at a commit. `ref` is what was asked for ("" is the default branch)."""

    url: str
    ref: str
    directory: str
    commit: str
    keep_git_dir: bool

    @property
    def name(self) -> str:
        """What people call it."""
        return f"{self.url}#{self.ref}" if self.ref else self.url


def is_git(source: str) -> bool:
    """Whether a source of ADD or a context is a repository."""
    return _GIT_ONLY.match(source) is not None or _HTTP_REPOSITORY.match(source) is not None


def find(source: str, cancellation: Cancellation, *, keep_git_dir: bool = False) -> GitSource:
    """Learn which commit a source means now. Raise NotFound for a missing reference, Unsupported where git is missing."""
    url, _, fragment = source.partition("#")
    ref, _, directory = fragment.partition(":")
    if url.lower().startswith("github.com/"):
        url = f"https://{url}"
    if ref.startswith("-") or url.startswith("-"):
        raise InvalidInput(f"cannot read {source!r} as a repository")
    if ".." in directory.split("/"):
        raise InvalidInput(f"{source}: the directory lies outside of the repository")
    commit = ref if _COMMIT.fullmatch(ref) else _remote_commit(url, ref, cancellation)
    return GitSource(url, ref, directory.strip("/"), commit, keep_git_dir)


@contextmanager
def checked_out(source: GitSource, directory: str, cancellation: Cancellation) -> Iterator[str]:
    """Fetch the files into a new directory below `directory`, removed at the end; give the path of what was asked for."""
    work = os.path.join(directory, f"git-{os.urandom(6).hex()}")
    os.mkdir(work, 0o755)
    try:
        _git(["init", "--quiet"], work, cancellation, source.url)
        _git(["remote", "add", "origin", source.url], work, cancellation, source.url)
        _fetch(source, work, cancellation)
        _git(["checkout", "--quiet", "--detach", source.commit], work, cancellation, source.url)
        if os.path.exists(os.path.join(work, ".gitmodules")):
            update = ["submodule", "--quiet", "update", "--init", "--recursive", "--depth=1"]
            _git(update, work, cancellation, source.url)
        if not source.keep_git_dir:
            remove_tree(os.path.join(work, ".git"))
        path = os.path.join(work, source.directory)
        if not os.path.isdir(path) or os.path.realpath(path) != os.path.normpath(path):
            raise NotFound(f"{source.name} has no directory {source.directory}")
        yield path
    finally:
        remove_tree(work)


def _fetch(source: GitSource, work: str, cancellation: Cancellation) -> None:
    """Fetch the one commit; from a server that gives no commits by name, all of the history."""
    try:
        _git(["fetch", "--quiet", "--depth=1", "origin", source.commit], work, cancellation, source.url)
    except Unavailable:
        everything = ["fetch", "--quiet", "origin", "+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*"]
        _git(everything, work, cancellation, source.url)


def _remote_commit(url: str, ref: str, cancellation: Cancellation) -> str:
    words = ["ls-remote", "--", url, *([ref, f"{ref}^{{}}"] if ref else ["HEAD"])]
    listing = _git(words, "/", cancellation, url, limit_s=_ASK_S)
    found: dict[str, str] = {}
    for line in listing.splitlines():
        commit, _, name = line.partition("\t")
        found[name] = commit
    for name in (f"refs/tags/{ref}^{{}}", f"refs/tags/{ref}", f"refs/heads/{ref}", ref or "HEAD"):
        if name in found:
            return found[name]
    raise NotFound(f"{url} has no branch or tag {ref!r}", hint="write it behind #, as in repository.git#main")


def _git(
    words: Sequence[str], directory: str, cancellation: Cancellation, url: str, *, limit_s: float = _FETCH_S
) -> str:
    """Run git; return what it wrote. Never asks for a password, runs no hooks of the repository.

    Raise TimedOut where a server hardly sends anything for half a minute, as far as git can tell, or after `limit_s`.
    """
    program = shutil.which("git")
    if program is None:
        raise Unsupported(f"cannot fetch {url}: git is not installed", hint="install it: apt-get install git")
    settings = [word for setting in _SETTINGS for word in ("-c", setting)]
    command = [program, *settings, *words]
    environment = {"GIT_TERMINAL_PROMPT": "0", "GIT_SSH_COMMAND": _SSH, "LC_ALL": "C"}
    process = subprocess.Popen(
        command,
        cwd=directory,
        env={**os.environ, **{k: os.environ.get(k, v) for k, v in environment.items()}},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        umask=0o022,
        start_new_session=True,
        text=True,
        errors="replace",
    )
    try:
        output, errors = _communicate(process, cancellation, time.monotonic() + limit_s)
    except subprocess.TimeoutExpired as error:
        _kill_group(process)
        raise TimedOut(f"cannot fetch {url}: the server did not finish within {limit_s:.0f} s") from error
    except BaseException:
        _kill_group(process)
        raise
    if process.returncode != 0:
        why = next((line for line in reversed(errors.splitlines()) if line.strip()), "git failed")
        raise Unavailable(
            f"cannot fetch {url}: {why.removeprefix('fatal: ')}", hint="check the address, the network and the access"
        )
    return output


def _communicate(process: subprocess.Popen[str], cancellation: Cancellation, until: float) -> tuple[str, str]:
    """What git wrote. Raise TimeoutExpired at the time `until` (monotonic seconds)."""
    while True:
        cancellation.check()
        try:
            return process.communicate(timeout=_STOP_POLL_S)
        except subprocess.TimeoutExpired:
            if time.monotonic() > until:
                raise


def _kill_group(process: subprocess.Popen[str]) -> None:
    """End git and what it started."""
    try:
        os.killpg(process.pid, 9)
    except ProcessLookupError:
        pass
    process.communicate()
