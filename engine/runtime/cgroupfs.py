"""Cgroups as directories and files: what the kernel shows of them, and making and removing the directories. cgroups(7)."""

from __future__ import annotations

import errno
import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_MADE = "trusted.umiak"  # an extended attribute of the directories that we make
_NO_LIMIT_FROM = 2**62  # v1 shows "no limit" as the largest page-aligned number


def write(path: str, value: str) -> None:
    """Write a file in one go. Raise OSError, which names it."""
    fd = os.open(path, os.O_WRONLY)
    try:
        os.write(fd, value.encode())
    except OSError as error:
        error.filename = path
        raise
    finally:
        os.close(fd)


def read(path: str) -> str:
    """Return what a file holds."""
    with open(path, encoding="ascii") as file:
        return file.read()


def number(path: str) -> int | None:
    """Read one number; None for "max", for v1's way to say it, and when the file is not there."""
    try:
        value = int(read(path))
    except (OSError, ValueError):
        return None
    return value if value < _NO_LIMIT_FROM else None


def table(path: str) -> dict[str, int]:
    """Read "name number" lines; empty when the file is not there."""
    try:
        lines = read(path).splitlines()
    except OSError:
        return {}
    return {name: int(value) for name, _, value in (line.partition(" ") for line in lines) if value.isdigit()}


def pressure(path: str) -> int | None:
    """Read for how long some process has had to wait. None where the kernel does not count it (psi=1 switches it on)."""
    try:
        return int(read(path).split("\n", 1)[0].rpartition("total=")[2])
    except (OSError, ValueError):
        return None


def v1_io(path: str) -> tuple[int | None, int | None]:
    """Return the bytes read and written, from a file of v1's blkio controller; None where there is none."""
    totals = {"Read": 0, "Write": 0}
    try:
        for line in read(path).splitlines():
            fields = line.split()
            if len(fields) == 3 and fields[1] in totals:
                totals[fields[1]] += int(fields[2])
    except OSError:
        return None, None
    return totals["Read"], totals["Write"]


def v2_io(path: str) -> tuple[int | None, int | None]:
    """Return the bytes read and written, from `io.stat`; None where there is none."""
    totals = {"rbytes": 0, "wbytes": 0}
    try:
        for field in read(path).split():
            key, _, value = field.partition("=")
            if key in totals:
                totals[key] += int(value)
    except OSError:
        return None, None
    return totals["rbytes"], totals["wbytes"]


def make_directories(path: str) -> None:
    """Make a directory and its parents, which another's `remove` may take away again at any moment; those made are marked."""
    for _ in range(100):
        try:
            os.mkdir(path)
        except FileExistsError:
            return
        except FileNotFoundError:
            make_directories(os.path.dirname(path))
            continue
        try:
            os.setxattr(path, _MADE, b"1")
        except OSError:
            pass  # it just stays when it is no longer needed
        return
    raise OSError(errno.EAGAIN, "its parent keeps vanishing", path)


def is_made(path: str) -> bool:
    """Whether it was us who made the directory. One that others made, with limits perhaps, is theirs to remove."""
    try:
        return bool(os.getxattr(path, _MADE))
    except OSError:
        return False


def made_above(path: str) -> int:
    """Count the directories above that we made."""
    level = 0
    while is_made(path := os.path.dirname(path)):
        level += 1
    return level


def below(path: str) -> Iterator[str]:
    """Yield the directories of a cgroup, the innermost first: a container may have made some."""
    try:
        with os.scandir(path) as entries:
            children = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return
    for child in children:
        yield from below(child)
    yield path


def pids_below(path: str) -> set[int]:
    """Return the processes in a cgroup and in those below it."""
    return {pid for directory in below(path) for pid in pids_of(directory)}


def pids_of(directory: str) -> set[int]:
    """Return the processes in a cgroup itself."""
    try:
        found = {int(line) for line in read(f"{directory}/cgroup.procs").split()}
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENODEV, errno.EOPNOTSUPP):  # the last: it has but threads
            raise
        return set()
    return found - {0}  # a process of another PID namespace


def remove_unused(path: str) -> None:
    """Remove a parent that we made and its parents, as long as they are empty."""
    while is_made(path):
        if not remove_empty(path):
            return
        path = os.path.dirname(path)


def remove_empty(path: str) -> bool:
    """Remove a directory unless others are in it; return whether it went."""
    try:
        os.rmdir(path)
    except OSError:
        return False  # others are in it, or one is just being made
    return True


def remove_tree(path: str, deadline: float) -> None:
    """Remove a cgroup and those below it, waiting until `deadline` (monotonic) for processes that are just ending."""
    pause_s = 0.001
    while True:
        try:
            for directory in below(path):
                os.rmdir(directory)
            return
        except FileNotFoundError:
            continue
        except OSError as error:
            # A process that has been reaped stays counted for a moment.
            if error.errno != errno.EBUSY or time.monotonic() > deadline:
                raise
        time.sleep(pause_s)
        pause_s = min(pause_s * 2, 0.05)
