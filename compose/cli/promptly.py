"""Signals handled at once, even where the main thread waits for a lock or for another process.

Python runs a handler between two steps of the main thread. One whose signal comes in the instant before a wait begins would only run
at the end of that wait, which may be never: a Ctrl-C that nothing follows. So a thread reads the wake-up descriptor and sends
the main thread a signal that means nothing, again and again until it has come by (signal.set_wakeup_fd).
"""

from __future__ import annotations

import _thread
import os
import select
import signal

NUDGE = signal.SIGURG
"""Does nothing, and is ignored by default."""
RETRY_MS = 20


def handle_signals_promptly() -> None:
    """Do so from now on, in this process. Call it in the main thread; a second call does nothing."""
    if signal.getsignal(NUDGE) is not signal.SIG_DFL:
        return
    came, woken = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK), os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        _thread.start_new_thread(_nudge, (came[0], woken[0], _thread.get_ident()))
    except RuntimeError:
        return  # no thread to be had; whoever can do without may go on
    signal.signal(NUDGE, lambda _number, _frame: os.write(woken[1], b"."))
    signal.set_wakeup_fd(came[1], warn_on_full_buffer=False)


def _nudge(came: int, woken: int, main: int) -> None:
    incoming, answers = select.poll(), select.poll()
    incoming.register(came, select.POLLIN)
    answers.register(woken, select.POLLIN)
    while incoming.poll():
        numbers = os.read(came, 512)
        if set(numbers) == {NUDGE}:
            continue
        signal.pthread_kill(main, NUDGE)
        while not answers.poll(RETRY_MS):
            signal.pthread_kill(main, NUDGE)
        os.read(woken, 512)
