"""What a COPY or ADD comes to: where its files are, and what stands for them in the key of the step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from engine.errors import InvalidInput
from engine.images.build import instructions as ins
from engine.images.build.cache import key_of
from engine.images.build.context import Context, Match
from engine.images.build.download import is_url
from engine.images.build.expand import expand_heredoc
from engine.images.build.git import is_git
from engine.images.build.ignore import IgnoreRules, compile_rules
from engine.images.build.modes import read_mode
from engine.images.build.parse import heredoc_name
from engine.images.build.sources import context_matches
from engine.images.build.work import CopyWork, FromContext, FromImage, FromStage, Source

if TYPE_CHECKING:
    from engine.images.build.download import Download
    from engine.images.build.git import GitSource
    from engine.images.build.solve import StageSolver


def copy_work(stage: StageSolver, instruction: ins.Copy) -> tuple[CopyWork, tuple[object, ...], str]:
    """The work of a COPY or ADD, what it depends on, and how the image's history tells it."""
    keyword = "ADD" if instruction.is_add else "COPY"
    words = [stage.expand(word, instruction) for word in (*instruction.sources, instruction.destination)]
    *sources, written = words
    into_directory = written.endswith(("/", "/.")) or written in (".", "..", "")
    texts = _texts(instruction, stage.lookup)
    names = {name for name, _ in texts}
    files = [source for source in sources if heredoc_name(source) not in names]
    remote_urls = [source for source in files if instruction.is_add and (is_url(source) or is_git(source))]
    files = [source for source in files if source not in remote_urls]
    remotes = tuple(_remote(stage, instruction, url, len(sources)) for url in remote_urls)
    _refuse_nameless(remotes, into_directory)
    exclude = tuple(stage.expand(pattern, instruction) for pattern in instruction.exclude)
    chown = None if instruction.chown is None else stage.expand(instruction.chown, instruction)
    mode = None if instruction.chmod is None else read_mode(stage.expand(instruction.chmod, instruction))
    source, source_key = _source(stage, instruction, files, exclude)
    destination = stage.absolute(written)
    unpacks = instruction.is_add and instruction.unpack is not False
    shown_mode = mode and (mode.text if mode.octal is None else mode.octal)
    key: tuple[object, ...] = ("copy", source_key, texts, destination, into_directory, chown, shown_mode, unpacks)
    further = (_remote_keys(remotes), instruction.parents, exclude, instruction.unpack or False)
    if any(further):
        key += further
    link_key = key_of("link", *key) if instruction.link else None
    work = CopyWork(
        source,
        texts,
        destination,
        into_directory,
        chown,
        mode,
        unpacks,
        remotes,
        instruction.unpack is True,
        instruction.parents,
        exclude,
        link_key,
    )
    return work, key if link_key is None else ("link", *key), f"{keyword}{_shown(instruction, chown)} {' '.join(words)}"


def files_of(stage: StageSolver, name: str | None, patterns: Sequence[str]) -> tuple[Source, object] | Context:
    """Where `--from=name` leads: a stage or an image with its part of the key, or a context. None: the main context."""
    if name is None:
        return stage.solver.surroundings.contexts.main
    named = stage.solver.surroundings.contexts.named(name)
    if isinstance(named, Context):
        return named
    if named is None:
        other = stage.other_stage(name)
        if other is not None:
            solved = stage.solver.solve(other)
            stage.refresh = stage.refresh or solved.refresh
            return FromStage(other.index, tuple(patterns)), ("tree", solved.key, list(patterns))
        named = stage.solver.surroundings.bases.find(name)
    return FromImage(named, tuple(patterns)), ("tree", key_of("layers", named.layers), list(patterns))


def exclude_rules(patterns: Sequence[str]) -> IgnoreRules | None:
    """The rules of `--exclude`; None where there are none."""
    return compile_rules(("", pattern) for pattern in patterns) if patterns else None


def _source(
    stage: StageSolver, instruction: ins.Copy, patterns: list[str], exclude: tuple[str, ...]
) -> tuple[Source, object]:
    """Where files come from, and what stands for them in the key."""
    name = None if instruction.from_ is None else stage.expand(instruction.from_, instruction)
    found = files_of(stage, name, patterns)
    if not isinstance(found, Context):
        return found
    matches = tuple(match for pattern in patterns for match in _matches(stage, instruction, found, pattern))
    rules = exclude_rules(exclude)
    keys = [(match.name, found.digest(match.path, rules)) for match in matches]
    return FromContext(found, matches), keys


def _matches(stage: StageSolver, instruction: ins.Copy, context: Context, pattern: str) -> list[Match]:
    keyword = instruction.text.split()[0]
    matches = context_matches(context, keyword, pattern, parents=instruction.parents)
    if not matches:
        text = f"{keyword} {pattern}: nothing in the build context matches"
        stage.solver.warnings.append((instruction.place, text))
    return matches


def _remote(stage: StageSolver, instruction: ins.Copy, url: str, count: int) -> Download | GitSource:
    from engine.images.build import git

    surroundings = stage.solver.surroundings
    checksum = None if instruction.checksum is None else stage.expand(instruction.checksum, instruction)
    if checksum is not None and count != 1:
        raise InvalidInput("--checksum needs exactly one source", hint="give each source an ADD of its own")
    if not is_git(url):
        return surroundings.downloads.find(url, checksum)
    source = git.find(url, surroundings.cancellation, keep_git_dir=instruction.keep_git_dir)
    if checksum is not None and not source.commit.startswith(checksum):
        raise InvalidInput(f"{url} is at commit {source.commit}, which --checksum={checksum} does not allow")
    return source


def _refuse_nameless(remotes: Sequence[Download | GitSource], into_directory: bool) -> None:
    from engine.images.build.download import Download

    for remote in remotes:
        if isinstance(remote, Download) and not remote.name and into_directory:
            raise InvalidInput(f"{remote.url} gives no name for the file", hint="write one in the destination")


def _remote_keys(remotes: Sequence[Download | GitSource]) -> list[object]:
    from engine.images.build.download import Download

    return [
        ("url", remote.name, remote.digest)
        if isinstance(remote, Download)
        else ("git", remote.commit, remote.directory, remote.keep_git_dir)
        for remote in remotes
    ]


def _texts(instruction: ins.Copy, lookup: Callable[[str], str | None]) -> tuple[tuple[str, str], ...]:
    return tuple(
        (doc.name, expand_heredoc(doc.content, lookup, instruction.escape) if doc.expand else doc.content)
        for doc in instruction.heredocs
    )


def _shown(instruction: ins.Copy, chown: str | None) -> str:
    """The flags as the history shows them."""
    valued = (("from", instruction.from_), ("chown", chown), ("chmod", instruction.chmod))
    words = [f" --{name}={value}" for name, value in valued if value is not None]
    words += [f" --{name}" for name, given in (("link", instruction.link), ("parents", instruction.parents)) if given]
    words += [f" --exclude={pattern}" for pattern in instruction.exclude]
    return "".join(words)
