"""Parts of one piece of work on threads: they succeed together, or the first failure gives up the others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine.errors import UmiakError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from concurrent.futures import Future


class Cancelled(UmiakError):
    """Given up, because another part of the same work has failed."""


def gather(futures: Iterable[Future[Any]], cancel: Callable[[], None]) -> None:
    """Wait for all; where one fails, or the user interrupts, give the others up and raise that."""
    from concurrent.futures import FIRST_EXCEPTION, wait

    pending = list(futures)
    try:
        done, _ = wait(pending, return_when=FIRST_EXCEPTION)
        for future in done:
            future.result()
    except BaseException as error:
        cancel()
        for future in pending:
            future.cancel()
        if isinstance(error, Cancelled):
            raise _first_cause(pending) or error
        raise


def _first_cause(futures: Iterable[Future[Any]]) -> BaseException | None:
    """Why the parts were given up."""
    ended = (future.exception() for future in futures if future.done() and not future.cancelled())
    return next((error for error in ended if error is not None and not isinstance(error, Cancelled)), None)
