"""A terminal for a command under test: what a person would see, and the keys that a person would press."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.patience import PATIENCE


class Terminal:
    """A command on a pseudo-terminal of its own, in a session of its own."""

    def __init__(
        self, argv: list[str], *, cwd: Path, env: Mapping[str, str], lines: int = 24, columns: int = 80
    ) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self.child = subprocess.Popen(
            argv,
            cwd=cwd,
            env=dict(env),
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            preexec_fn=_take_terminal,
        )
        self._slave = slave
        self.seen = ""

    def press(self, keys: str) -> None:
        """Type."""
        os.write(self._master, keys.encode())

    def wait_for(self, text: str, timeout_s: float = 10.0) -> None:
        """Read on until `text` has been seen."""
        deadline = time.monotonic() + timeout_s * PATIENCE
        while text not in self.seen:
            left = deadline - time.monotonic()
            assert left > 0, f"waited {timeout_s:g} s in vain for {text!r} on the terminal; seen: {self.seen!r}"
            self._read(left)

    def end(self, timeout_s: float = 10.0) -> int:
        """Wait for the command to end; return its exit code."""
        deadline = time.monotonic() + timeout_s * PATIENCE
        while self.child.poll() is None:
            assert time.monotonic() < deadline, f"the command has not ended; seen: {self.seen!r}"
            self._read(0.05)
        self._read(0)
        return self.child.returncode

    def is_raw(self) -> bool:
        """Whether keys are passed on at once, as a container's terminal wants it."""
        return not termios.tcgetattr(self._slave)[3] & termios.ICANON

    def hang_up(self, timeout_s: float = 10.0) -> int:
        """Close the terminal's window, as it were; return the command's exit code."""
        os.close(self._master)
        self._master = -1
        return self.child.wait(timeout_s * PATIENCE)

    def close(self) -> None:
        """Kill what is left."""
        if self.child.poll() is None:
            self.child.kill()
        self.child.wait()
        for fd in {self._master, self._slave} - {-1}:
            os.close(fd)

    def _read(self, timeout_s: float) -> None:
        if select.select([self._master], [], [], timeout_s)[0]:
            self.seen += os.read(self._master, 65536).decode(errors="replace")


def _take_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


Opener = Callable[..., Terminal]
"""Opens a terminal that runs a command with these arguments."""
