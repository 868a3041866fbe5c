"""Become a process that stands alone: a monitor, just forked."""

from __future__ import annotations

import os
import signal

from engine.kernel import process

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket


def detach(channel: socket.socket, comm: str, title: str) -> None:
    """Become a process of its own: own session, no terminal, no descriptor of others, default signals, a name to know it by."""
    os.setsid()
    os.umask(0o022)
    os.chdir("/")
    null = os.open("/dev/null", os.O_RDWR)
    for fd in range(3):
        os.dup2(null, fd)
    process.close_all_but({channel.fileno()})
    for number in signal.valid_signals():
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            try:
                signal.signal(number, signal.SIG_DFL)
            except OSError:
                continue
    # A client or a command that has gone away must be an error of the call, not the end of the monitor.
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    process.set_process_name(comm)
    set_title(title)


def set_title(title: str) -> None:
    """Replace the command line that `ps` shows, as far as there is room for it (proc(5), stat, fields 48 and 49)."""
    try:
        with open("/proc/self/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        start, end = int(fields[45]), int(fields[46])
        with open("/proc/self/mem", "r+b", buffering=0) as memory:
            memory.seek(start)
            memory.write(os.fsencode(title)[: end - start - 1].ljust(end - start, b"\0"))
    except (OSError, ValueError, IndexError):
        # A nicety: hosts that forbid it lose only the readable name.
        pass
