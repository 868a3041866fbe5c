"""Ctrl-C, SIGTERM and a closed terminal, all handled alike in the main thread, so that one path cleans up after each.

`main` lets them raise `Interrupt` as long as a command runs. A command that wants to go on in its own way, as `up` in the foreground
does, has a function of its own called instead.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupt(KeyboardInterrupt):
    """A signal that asks the command to end. `exit_code` is what a shell reports for it: 130 for Ctrl-C, 143, 129."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.exit_code = 128 + number


@contextmanager
def on_interrupt(act: Callable[[int], object]) -> Iterator[None]:
    """For a block, call `act` with the number of each of these signals. One that is being ignored (nohup) stays so."""

    def handle(number: int, _frame: object) -> None:
        if number == signal.SIGHUP:
            leave_terminal()
        act(number)

    before = {number: signal.getsignal(number) for number in _SIGNALS}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:
                signal.signal(number, handler)


_seen: list[int] = []


def interrupted() -> int:
    """The signal for which this process last raised `Interrupt`; 0 where there was none."""
    return _seen[-1] if _seen else 0


def interruptible() -> AbstractContextManager[None]:
    """For a block, let these signals raise `Interrupt`."""

    def interrupt(number: int) -> None:
        _seen.append(number)
        raise Interrupt(number)

    return on_interrupt(interrupt)


@contextmanager
def raising_hangups() -> Iterator[None]:
    """For a block, take the failure to write to a terminal that has gone for the SIGHUP that is on its way."""
    import errno

    try:
        yield
    except OSError as error:
        if error.errno != errno.EIO or not leave_terminal():
            raise
        raise Interrupt(signal.SIGHUP) from error


def leave_terminal() -> bool:
    """Put /dev/null in place of standard streams whose terminal has gone; tell whether there were any.

    What is still said must not end what is still to do.
    """
    gone = [fd for fd in (0, 1, 2) if _has_hung_up(fd)]
    for fd in gone:
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        os.dup2(null, fd)
        os.close(null)
    return bool(gone)


def _has_hung_up(fd: int) -> bool:
    """Whether a descriptor is of a terminal that has gone: each ioctl of such a one gives EIO."""
    import errno
    import termios

    try:
        termios.tcgetattr(fd)
    except termios.error as error:
        return bool(error.args[0] == errno.EIO)
    return False
