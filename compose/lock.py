"""One change of a project at a time: two `up`s, or `up` beside `down`, come one after the other."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def project_lock(run_dir: str, project: str, waiting: Callable[[], None]) -> Iterator[None]:
    """Hold the project's lock for a block; call `waiting` once if another command holds it. The kernel frees it with its holder."""
    directory = f"{run_dir}/projects"
    os.makedirs(directory, mode=0o700, exist_ok=True)
    descriptor = os.open(f"{directory}/{project}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
