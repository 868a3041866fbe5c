"""A signal that comes just before the main thread begins to wait is handled all the same."""

from __future__ import annotations

import subprocess
import sys

WAITS = """
import os, signal, sys, threading
from compose.cli.promptly import handle_signals_promptly

def end(number, frame):
    print("handled")
    sys.exit(0)

signal.signal(signal.SIGTERM, end)
handle_signals_promptly()
# A signal that is taken by another thread wakes nobody: what follows is the wait that it comes too early for.
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
other = threading.Event()

def take():
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    other.set()
    threading.Event().wait()

threading.Thread(target=take, daemon=True).start()
other.wait()
threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGTERM)).start()
threading.Event().wait(60)
print("waited in vain")
"""


def test_a_signal_ends_a_wait_that_it_came_too_early_for() -> None:
    done = subprocess.run([sys.executable, "-c", WAITS], capture_output=True, text=True, timeout=50, check=False)
    assert done.stdout == "handled\n", done.stderr
