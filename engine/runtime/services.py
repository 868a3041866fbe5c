"""What a monitor runs beside its container: a name server, published ports. Loaded by module name."""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractContextManager
    from typing import Any, Protocol

    from engine.runtime.loop import Loop

    class Host(Protocol):
        """What a monitor offers its services."""

        id: str
        loop: Loop
        netns_fd: int

        def kill(self, number: int) -> None:
            """Send init a signal. Raise ServiceError where it does not run."""

        def in_netns(self) -> AbstractContextManager[None]:
            """Be in the container's network namespace for a block."""

    class Service(Protocol):
        """Something that lives as long as the monitor, across restarts of the container's init."""

        def acquire(self) -> None:
            """Take what must be had before init is made (host ports, sockets in the namespace), or raise."""

        def ports(self) -> list[dict[str, Any]]:
            """The published ports, as `status.json` shows them."""

        def release(self) -> None:
            """Give everything back. May be called more than once, and after a failed `acquire`."""


class ServiceError(Exception):
    """A service cannot be had. `kind` is `conflict`, `not_found`, `denied`, `unsupported`, `kernel` or `invalid`."""

    def __init__(self, kind: str, message: str, hint: str | None = None, exit_code: int = 1) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.hint = hint
        self.exit_code = exit_code


def load(names: Sequence[str]) -> None:
    """Import the modules of services, so that monitors forked later share them."""
    for name in names:
        import_module(name)


def create(entry: Mapping[str, Any], host: Host) -> Service:
    """Make the service of one `monitor.json` entry (`{"module": …, "config": …}`)."""
    service: Service = import_module(entry["module"]).create(entry["config"], host)
    return service
