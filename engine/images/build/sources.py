"""The files of a build context that a COPY or ADD names, and good errors for those that are not there."""

from __future__ import annotations

import posixpath
import re

from engine.errors import InvalidInput, NotFound, UmiakError, Unsupported
from engine.images.build.context import Context, Match, has_wildcard

_REMOTE = re.compile(r"(https?|ftp|git|ssh)://|git@|[^/]*github\.com/", re.IGNORECASE)


def context_matches(context: Context, keyword: str, pattern: str, *, parents: bool = False) -> list[Match]:
    """What a source names in the context. Raise NotFound for a plain path that is missing; a pattern may match nothing."""
    if _REMOTE.match(pattern):
        raise Unsupported(
            f"{keyword} {pattern}: this cannot be fetched",
            hint="use ADD" if keyword == "COPY" else "ADD fetches http:// and https:// URLs and git repositories",
        )
    if posixpath.normpath(pattern.lstrip("/")).split("/")[0] == "..":
        raise InvalidInput(
            f"{keyword} {pattern}: this is outside of the build context",
            hint=f"the context is {context.directory}; choose one that holds the file",
        )
    matches = [
        match for match in context.matches(pattern, parents=parents) if next(context.walk(match.path), None) is not None
    ]
    if not matches and not has_wildcard(pattern):
        raise _missing(context, keyword, pattern)
    return matches


def _missing(context: Context, keyword: str, pattern: str) -> NotFound:
    """The error for a source that is not there, or that .dockerignore hides."""
    path = posixpath.normpath(pattern.lstrip("/"))
    hiding = context.ignored_by(context.follow(path))
    message = f"{keyword} {pattern}: no such file in the build context {context.directory}"
    if hiding is not None:
        return NotFound(f"{message}: ignored", hint=f"{hiding.place} hides it with {hiding.text!r}")
    return NotFound(message, hint=_nearby(context, path))


def _nearby(context: Context, path: str) -> str:
    """What else the last directory that exists holds."""
    from difflib import get_close_matches

    above = posixpath.dirname(path)
    try:
        names = [posixpath.basename(entry.path) for entry in context.children(context.follow(above))]
    except (OSError, UmiakError):
        return f"paths count from the context; {above} is not in it"
    close = get_close_matches(posixpath.basename(path), names, n=1)
    if close:
        return f"did you mean {posixpath.join(above, close[0])}?"
    return "paths count from the context, not from the Dockerfile"
