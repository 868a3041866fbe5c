"""Everything the engine raises on purpose.

    UmiakError
    ├── InvalidInput   the request itself is wrong: a value, a name, a file
    ├── NotFound       the thing named does not exist
    ├── Conflict       the state of things forbids it: in use, taken, running
    ├── Denied         the host's permissions forbid it
    ├── Unsupported    this host or this version cannot do it
    ├── Unavailable    something outside did not answer: a registry, a disk, a monitor
    ├── TimedOut       it took longer than allowed
    └── KernelError    a system call failed in a way that none of the above explains

A front end reacts to classes, never to text. Only `compose.cli` ends the process.
"""

from __future__ import annotations


class UmiakError(Exception):
    """A failure that a person can act on: what could not be done, to what, why; and a hint.

    `message` is lower case without a full stop; `hint` says what to do next; `place` is `file:line:column`
    where there is one.
    """

    exit_code: int = 1
    """What the command that meets it exits with. A container that cannot be started sets 125, 126 or 127, as Docker does."""

    def __init__(self, message: str, *, hint: str | None = None, place: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.place = place

    def __str__(self) -> str:
        return f"{self.place}: {self.message}" if self.place else self.message


class InvalidInput(UmiakError):
    """The request itself is wrong."""


class NotFound(UmiakError):
    """The thing named does not exist."""


class Conflict(UmiakError):
    """The present state forbids it: a name taken, a port in use, a container running."""


class Denied(UmiakError):
    """The host's permissions forbid it."""


class Unsupported(UmiakError):
    """This host or this version cannot do it."""


class Unavailable(UmiakError):
    """Something the engine depends on did not answer or ran out: a disk, a registry, a monitor."""


class TimedOut(UmiakError):
    """It took longer than allowed."""


class KernelError(UmiakError):
    """A system call failed; `errno` says how."""

    def __init__(self, message: str, *, errno: int = 0, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.errno = errno
