"""Ctrl-C, SIGTERM and a closed terminal, all handled alike in the main thread, so that one path cleans up after each."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def on_interrupt(act: Callable[[], object]) -> Iterator[None]:
    """For a block, call `act` at each of these signals. One that is being ignored (nohup) stays so."""
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, lambda _number, _frame: act())
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:
                signal.signal(number, handler)


def interruptible() -> AbstractContextManager[None]:
    """For a block, let these signals raise KeyboardInterrupt."""

    def interrupt() -> None:
        raise KeyboardInterrupt

    return on_interrupt(interrupt)
