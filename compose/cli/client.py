"""The command's side of a warm worker (`worker.py`): hand over what this process has, pass signals on, end as the worker says.

Imports as little as it can: with a worker this is all that a command costs.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from types import FrameType

from compose.cli.promptly import handle_signals_promptly

FORWARDED = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGWINCH,
    signal.SIGUSR1,
    signal.SIGUSR2,
)
REFUSED = b"refused"
"""The worker's answer to a process that lives in other circumstances than its own: it must run its command itself."""


def socket_path() -> str:
    """Where a worker listens, in the run directory that this environment chooses."""
    from engine.paths import Paths

    return f"{Paths.from_environment().run}/worker.sock"


def hand_over(arguments: list[str]) -> int | None:
    """Let the worker run a command line; return its exit code.

    None: there is no worker for us. One is started for the next command; this one has to be run by the caller.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        try:
            connection.connect(socket_path())
            _send(connection, arguments)
        except OSError:
            _start_worker()
            return None
        return _result(connection)


def _send(connection: socket.socket, arguments: list[str]) -> None:
    """The command line and the environment go in a memory file, for a message may be too small for them."""
    request = os.memfd_create("umiak-command")
    with open(request, "wb", closefd=False) as file:
        file.write(packed(arguments))
    here = os.open(".", os.O_PATH | os.O_DIRECTORY)
    socket.send_fds(connection, [b"run"], [request, here, *_streams()])
    os.close(request)
    os.close(here)


def packed(arguments: list[str]) -> bytes:
    """The number of arguments, the arguments and `NAME=VALUE` of each variable; a zero byte, which none can have, parts them."""
    variables = (name + b"=" + value for name, value in os.environb.items())
    return b"\0".join([b"%d" % len(arguments), *map(os.fsencode, arguments), *variables])


def unpacked(request: bytes) -> tuple[list[str], dict[bytes, bytes]]:
    """What was packed: the arguments, the environment."""
    count, *words = request.split(b"\0")
    variables = (word.partition(b"=") for word in words[int(count) :])
    return [os.fsdecode(word) for word in words[: int(count)]], {name: value for name, _, value in variables}


def _streams() -> list[int]:
    """Standard input, output and error; where one is closed, /dev/null."""
    return [fd if _is_open(fd) else os.open(os.devnull, os.O_RDWR) for fd in (0, 1, 2)]


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def _result(connection: socket.socket) -> int | None:
    def forward(number: int, _frame: FrameType | None) -> None:
        _tell(connection, number)

    def suspend(_number: int, _frame: FrameType | None) -> None:
        _tell(connection, signal.SIGSTOP)
        os.kill(os.getpid(), signal.SIGSTOP)
        _tell(connection, signal.SIGCONT)

    passed_on = [number for number in FORWARDED if signal.getsignal(number) is not signal.SIG_IGN]
    for number in passed_on:
        signal.signal(number, forward)
    signal.signal(signal.SIGTSTP, suspend)
    handle_signals_promptly()
    answer = connection.recv(64)
    if answer == REFUSED:
        for number in (*passed_on, signal.SIGTSTP):
            signal.signal(number, signal.SIG_DFL)
        return None
    if not answer:
        print("umiak: the warm worker was killed, and the command with it; run it again to finish it", file=sys.stderr)
        return 1
    return int(answer)


def _tell(connection: socket.socket, number: int) -> None:
    import contextlib

    with contextlib.suppress(OSError):
        connection.send(b"%d" % number)


def _start_worker() -> None:
    """A process of its own that outlives this one; where two are started, one of them ends at once."""
    null = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in (0, 1, 2)]
    argv = [sys.executable, "-P", "-m", "compose.cli.worker"]
    os.posix_spawn(sys.executable, argv, os.environ, file_actions=null, setsid=True)
