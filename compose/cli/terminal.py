"""Joins this process's standard streams with those of a command that runs in a container."""

from __future__ import annotations

import os
import select
import signal
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from compose.cli.signals import leave_terminal
from engine.errors import InvalidInput

if TYPE_CHECKING:
    from engine.runtime.client import AttachSession, ExecSession

PIECE_BYTES = 65536
DETACH_KEYS = b"\x10\x11"
"""Ctrl-p, Ctrl-q."""
LAST_WORDS_MS = 100
"""How long to wait, after the command has ended, for output that is still on its way (a child of its may hold the pipe)."""


def attach(session: ExecSession) -> int:
    """Pass bytes both ways until the command has ended and its output is through; return its exit code."""
    sys.stdout.flush()
    if session.master >= 0:
        with _raw_terminal(session):
            _Pump(session, {session.master: 1}, session.master).run()
    else:
        _Pump(session, {session.stdout: 1, session.stderr: 2}, session.stdin).run()
    return session.wait()


def read_keys(text: str) -> bytes:
    """Detach keys as Docker writes them: letters, and `ctrl-` with a letter or one of @[\\]^_, joined by commas."""
    return bytes(_key(word) for word in text.split(","))


def _key(word: str) -> int:
    if len(word) == 1 and word.isascii():
        return ord(word)
    letter = word.removeprefix("ctrl-").upper()
    if not word.startswith("ctrl-") or len(letter) != 1 or not "@" <= letter <= "_":
        raise InvalidInput(f'cannot read "{word}" as a detach key', hint="for example: --detach-keys ctrl-p,ctrl-q")
    return ord(letter) - ord("@")


def join(session: AttachSession, *, stdin: bool = True, keys: bytes = DETACH_KEYS) -> int | None:
    """Take part in a container's own input and output until it ends; return its exit code, None after the detach keys."""
    sys.stdout.flush()
    outputs = {session.stdout: 1, session.stderr: 2}
    if session.tty and stdin and sys.stdin.isatty():
        with _raw_terminal(session):
            pump = _Pump(session, outputs, session.stdin, keys=keys)
            pump.run()
    else:
        pump = _Pump(session, outputs, session.stdin if stdin else -1)
        pump.run()
    if pump.detached:
        session.close()
        return None
    return session.wait()


class _Pump:
    """Moves bytes. The command's stdin is written without blocking, so that a command that does not read cannot stop its output."""

    def __init__(self, session: ExecSession, outputs: dict[int, int], stdin: int, *, keys: bytes = b"") -> None:
        self._outputs = outputs
        self._keys = keys
        self._held = b""
        self.detached = False
        self._stdin = stdin
        self._session = session
        self._pending = b""
        self._poll = select.poll()
        for fd in (*outputs, session.fileno()):
            self._poll.register(fd, select.POLLIN)
        if stdin >= 0:
            os.set_blocking(stdin, False)
            self._listen_to_stdin(True)

    def run(self) -> None:
        """Run until the command has ended and no more output comes."""
        ended = False
        while self._outputs and not self.detached:
            ready = self._poll.poll(LAST_WORDS_MS if ended else None)
            if not ready and ended:
                return
            for fd, events in ready:
                if fd == self._session.fileno():
                    ended = True
                    self._poll.unregister(fd)
                if fd in self._outputs and events & ~select.POLLOUT:
                    self._pass_on(fd)
                elif fd == 0:
                    self._take_stdin()
                if fd == self._stdin and events & (select.POLLOUT | select.POLLERR):
                    self._feed()

    def _pass_on(self, fd: int) -> None:
        try:
            data = os.read(fd, PIECE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""  # EIO: nobody holds the other side of the terminal any more
        if not data:
            self._poll.unregister(fd)
            del self._outputs[fd]
            return
        try:
            _write_all(self._outputs[fd], data)
        except OSError:
            if not leave_terminal():
                raise

    def _take_stdin(self) -> None:
        try:
            self._pending = os.read(0, PIECE_BYTES)
        except OSError:
            self._pending = b""
        self._listen_to_stdin(False)
        if not self._pending:
            self._close_stdin()
            return
        if self._keys:
            self._pending = self._without_keys(self._pending)
        self._feed()

    def _without_keys(self, data: bytes) -> bytes:
        """Hold back what may become the detach keys; once they are whole, detach."""
        data = self._held + data
        self._held = b""
        before, found, _ = data.partition(self._keys)
        if found:
            self.detached = True
            return before
        for length in range(len(self._keys) - 1, 0, -1):
            if data.endswith(self._keys[:length]):
                self._held = data[-length:]
                return data[:-length]
        return data

    def _feed(self) -> None:
        try:
            self._pending = self._pending[os.write(self._stdin, self._pending) :]
        except BlockingIOError:
            pass
        except OSError:
            self._pending = b""
            self._close_stdin()
            return
        self._watch_writable(bool(self._pending))
        self._listen_to_stdin(not self._pending)

    def _watch_writable(self, wanted: bool) -> None:
        if self._stdin in self._outputs:  # a terminal: one descriptor both ways
            self._poll.register(self._stdin, select.POLLIN | (select.POLLOUT if wanted else 0))
        elif wanted:
            self._poll.register(self._stdin, select.POLLOUT)
        else:
            self._forget(self._stdin)

    def _listen_to_stdin(self, wanted: bool) -> None:
        if not wanted:
            self._forget(0)
            return
        try:
            self._poll.register(0, select.POLLIN)
        except OSError:
            self._close_stdin()

    def _close_stdin(self) -> None:
        """Let the command see the end of its input; a terminal has none."""
        self._forget(0)
        if self._stdin not in self._outputs and self._stdin >= 0:
            self._forget(self._stdin)
            os.close(self._stdin)
            self._stdin = -1
            self._session.close_stdin()

    def _forget(self, fd: int) -> None:
        try:
            self._poll.unregister(fd)
        except KeyError:
            pass


def _write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


@contextmanager
def _raw_terminal(session: ExecSession) -> Iterator[None]:
    """Our terminal passes every key on and follows its size, until the block ends however it ends."""

    def follow_size(*_: object) -> None:
        size = os.get_terminal_size(0)
        session.resize(size.lines, size.columns)

    before = termios.tcgetattr(0)
    handler = signal.signal(signal.SIGWINCH, follow_size)
    try:
        follow_size()
        # Not TCSAFLUSH, which is the default: what was typed ahead is for the command.
        tty.setraw(0, termios.TCSADRAIN)
        yield
    finally:
        signal.signal(signal.SIGWINCH, handler)
        with suppress(termios.error):  # it may have gone
            termios.tcsetattr(0, termios.TCSADRAIN, before)
