"""Reads the files that people name: regular ones, pipes and devices, none of which may hang a command or fill its memory."""

from __future__ import annotations

import os
import re
import select
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from compose.errors import ComposeError, Place, display_path
from compose.spec.limits import MAX_BYTES

_REMOTE = re.compile(r".*://|git@|github\.com/", re.DOTALL)

PATIENCE_S = 5.0
"""How long a named pipe or a device may take to be written and closed: some programs write `.env` on demand."""

Look = tuple[str, str]
"""A question, "kind" or "content", and the path that it is about."""
Sight = str | tuple[int, ...] | None
"""The answer: a kind; device, inode, size and times of what was read; None for what cannot be read a second time."""

_looks: list[dict[Look, Sight]] = []
"""Those who want to know what is looked at."""

_once: dict[tuple[str, int, int], bytes] = {}
"""What pipes and standard input said, by path, device and inode: they say it once, and a command may load twice."""


@contextmanager
def noting() -> Iterator[dict[Look, Sight]]:
    """Note what is looked at meanwhile, and what is seen."""
    noted: dict[Look, Sight] = {}
    _looks.append(noted)
    try:
        yield noted
    finally:
        _looks.remove(noted)


def _note(question: str, path: str, seen: Sight) -> None:
    for noted in _looks:
        noted[(question, path)] = seen


def look(question: str, path: str) -> Sight:
    """Look again: what a note of that question would say now."""
    try:
        status = os.stat(path)
    except OSError:
        return ""
    return _signature(status) if question == "content" else _kind(status)


def _kind(status: os.stat_result) -> str:
    return "file" if stat.S_ISREG(status.st_mode) else "directory" if stat.S_ISDIR(status.st_mode) else "other"


def _signature(status: os.stat_result) -> Sight:
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def kind(path: str) -> str:
    """What is at a path: "file", "directory", "other", or "" for nothing."""
    seen = look("kind", path)
    _note("kind", path, seen)
    return str(seen)


def read_bytes(path: str) -> bytes:
    """The bytes of a file, `-` being standard input, and one more than MAX_BYTES at most; raises an OSError that says why not.

    Standard input and the pipes of a shell's `<(…)` are read to their end. A named pipe, a terminal or another device
    that is not at its end after PATIENCE_S is a TimeoutError: no one writes to it, or someone does for ever.
    """
    _note("content", path, None)
    if path == "-":
        return _read_stdin()
    # O_NONBLOCK: opening a named pipe waits for a writer otherwise. O_NOCTTY: a terminal stays just a file.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(21, "it is a directory")
        if stat.S_ISREG(status.st_mode):
            _note("content", path, _signature(status))
            return file.read(MAX_BYTES + 1)
        key = (path, status.st_dev, status.st_ino)
        if key not in _once:
            is_named = not stat.S_ISFIFO(status.st_mode) or os.path.exists(os.path.realpath(path))
            _once[key] = _to_the_end(descriptor, PATIENCE_S if is_named else None)
        return _once[key]


def no_such_file(path: str) -> ComposeError:
    """The error of a Compose file that is named and not there."""
    hint = "check the path given by -f or COMPOSE_FILE"
    return ComposeError("E001", f"cannot open {display_path(path)}: no such file", hint=hint)


def is_remote(path: str) -> bool:
    """Whether a file or a build context is a URL or a Git reference rather than a path."""
    return bool(_REMOTE.match(path))


def remote_file(verb: str, path: str, at: Place | None = None) -> ComposeError:
    """The error of a Compose file that is to come from Git, a registry or another host."""
    hint = "fetch it first (git clone, curl), and name its path here"
    return ComposeError("E001", f"cannot {verb} {path}: remote files are not supported", at=at, hint=hint)


def _read_stdin() -> bytes:
    try:
        status = os.fstat(sys.stdin.fileno())
    except (OSError, ValueError):
        return sys.stdin.buffer.read(MAX_BYTES + 1)  # no file is behind it
    key = ("-", status.st_dev, status.st_ino)
    if key not in _once:
        _once[key] = sys.stdin.buffer.read(MAX_BYTES + 1)
    return _once[key]


def _to_the_end(descriptor: int, patience_s: float | None) -> bytes:
    """All that comes out of a descriptor, waiting so long for its end; None waits as long as it takes."""
    chunks: list[bytes] = []
    rest = MAX_BYTES + 1
    waiting = select.poll()
    waiting.register(descriptor, select.POLLIN)
    deadline = time.monotonic() + patience_s if patience_s is not None else None
    while rest:
        wait_ms = None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000
        if not waiting.poll(wait_ms):
            raise TimeoutError(110, f"it is no regular file, and its end did not come within {patience_s:g} s")
        try:
            chunk = os.read(descriptor, rest)
        except BlockingIOError:
            continue  # someone else read it first
        if not chunk:
            break
        chunks.append(chunk)
        rest -= len(chunk)
    return b"".join(chunks)
