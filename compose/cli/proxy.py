"""Passes the signals that this command gets on to a container, as if it were the process here."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from engine.errors import UmiakError

if TYPE_CHECKING:
    from engine.facade import Engine

_PASSED = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGCONT,
)
_INTERRUPTS_TO_KILL = 3


@contextmanager
def signals_to(engine: Engine, container_id: str, *, wanted: bool = True) -> Iterator[None]:
    """For a block, pass signals on. A process that ignores Ctrl-C is killed by the third one."""
    if not wanted:
        yield
        return
    interrupts = 0

    def forward(number: int, _frame: object) -> None:
        nonlocal interrupts
        interrupts += number == signal.SIGINT
        name = "SIGKILL" if interrupts >= _INTERRUPTS_TO_KILL else signal.Signals(number).name
        try:
            engine.kill_container(container_id, name)
        except UmiakError:
            pass  # it has ended

    before = {number: signal.signal(number, forward) for number in _PASSED}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
