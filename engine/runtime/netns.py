"""A container's network namespace: made by its monitor, pinned by a bind mount, outliving restarts.

Whoever removes the container drops the pin; the kernel then frees the namespace and every link in it.
"""

from __future__ import annotations

import os

from engine.kernel.mounts import MNT_DETACH, MS_BIND, mount, umount
from engine.kernel.process import CLONE_NEWNET, setns, unshare
from engine.runtime.services import ServiceError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

_OWN = "/proc/thread-self/ns/net"


def open_own() -> int:
    """A descriptor of the caller's own network namespace."""
    return os.open(_OWN, os.O_RDONLY | os.O_CLOEXEC)


def is_pinned(pin: str) -> bool:
    """Whether a namespace is mounted on `pin`, rather than nothing or a plain file."""
    try:
        return os.stat(pin).st_dev == os.stat(_OWN).st_dev
    except FileNotFoundError:
        return False


def open_pin(pin: str) -> int:
    """A descriptor of the namespace pinned there; refused where there is none."""
    if not is_pinned(pin):
        raise ServiceError(
            "conflict", "the container whose network is shared is not running", "start that container first"
        )
    return os.open(pin, os.O_RDONLY | os.O_CLOEXEC)


def make_pin(pin: str) -> None:
    """Make a network namespace and pin it. Only for a process with one thread, which ends up where it was."""
    os.makedirs(os.path.dirname(pin), mode=0o711, exist_ok=True)
    os.close(os.open(pin, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o444))
    home = open_own()
    try:
        unshare(CLONE_NEWNET)
        try:
            mount(_OWN, pin, flags=MS_BIND)
        finally:
            setns(home, CLONE_NEWNET)
    finally:
        os.close(home)


def drop_pin(pin: str) -> None:
    """Let go of a pinned namespace; nothing where there is none."""
    if is_pinned(pin):
        umount(pin, MNT_DETACH)
    try:
        os.unlink(pin)
    except FileNotFoundError:
        pass


class Visit:
    """Be in another network namespace for a `with` block."""

    __slots__ = ("_home", "_namespace")

    def __init__(self, namespace: int) -> None:
        self._namespace = namespace
        self._home = -1

    def __enter__(self) -> None:
        self._home = open_own()
        try:
            setns(self._namespace, CLONE_NEWNET)
        except OSError:
            os.close(self._home)
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            setns(self._home, CLONE_NEWNET)
        finally:
            os.close(self._home)
