"""A process that writes a layer's files, so that the threads of a command only read, hash and decompress.

Writing files is a great many short system calls. In a thread each of them gives up the interpreter's lock and waits for it again; with
several layers at once that took more time than the work itself.

Run as `python -I -S -E unpacker.py DIRECTORY ENTRIES BYTES`: the uncompressed tar comes from standard input, what went wrong goes
to standard output, as JSON. A killed command's unpacker ends as the command's end of the pipe does.
"""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":
    # -I leaves the package's own directory off the path.
    sys.path.insert(0, os.path.abspath(__file__ + "/../../.."))

from engine import errors
from engine.images.layer import LayerWriter
from engine.images.tar import Limits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_PIPE_BYTES = 1 << 20
_READ_BYTES = 1 << 18


class Unpacker:
    """The command's side: `write()` the pieces of one tar, then `finish()`. Leaving the block before that kills the process.

    `keep` are descriptors that the process shall have open until its very end.
    """

    def __init__(self, directory: str, limits: Limits, keep: Sequence[int] = ()) -> None:
        self._data = self._report = -1
        self._pid = 0
        theirs, self._data = os.pipe()
        self._report, report = os.pipe()
        try:
            _widen(self._data)
            self._pid = _spawn(directory, limits, theirs, report, keep)
        except OSError as error:
            self.__exit__()
            raise errors.Unavailable(f"cannot start {sys.executable}: {(error.strerror or '').lower()}") from error
        finally:
            os.close(theirs)
            os.close(report)

    def __enter__(self) -> Unpacker:
        return self

    def __exit__(self, *_: object) -> None:
        self._close_data()
        if self._pid:
            import signal

            os.kill(self._pid, signal.SIGKILL)
            self._wait()
        os.close(self._report)

    def write(self, piece: bytes) -> None:
        """Hand on a piece; raise what made the process end, if it has."""
        view = memoryview(piece)
        try:
            while view:
                view = view[os.write(self._data, view) :]
        except BrokenPipeError:
            self.finish()
            raise

    def finish(self) -> None:
        """Say that this was all, and wait until everything is written. Raise what went wrong, as `LayerWriter` would."""
        self._close_data()
        with os.fdopen(os.dup(self._report), "rb") as file:
            report = file.read()
        status = self._wait()
        if report:
            raise _error_of(report)
        if status:
            raise errors.Unavailable(
                f"the process that unpacks it was ended by signal {-status}" if status < 0 else "the unpacker failed",
                hint="see `dmesg` for a kill for want of memory, then run the command again",
            )

    def _close_data(self) -> None:
        if self._data >= 0:
            os.close(self._data)
            self._data = -1

    def _wait(self) -> int:
        status = os.waitpid(self._pid, 0)[1]
        self._pid = 0
        return os.waitstatus_to_exitcode(status)


def _widen(pipe: int) -> None:
    """Let a pipe hold more, so that its two ends wait for each other less often. There may be a limit: pipe(7)."""
    import fcntl

    try:
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
    except PermissionError:
        pass


def _spawn(directory: str, limits: Limits, data: int, report: int, keep: Sequence[int]) -> int:
    python = os.path.realpath(sys.executable)
    numbers = (str(limits.entries), str(limits.data_bytes))
    return os.posix_spawn(
        python,
        [python, "-I", "-S", "-E", os.path.abspath(__file__), directory, *numbers],
        {"PATH": os.defpath, "LANG": "C.UTF-8"},
        file_actions=[
            (os.POSIX_SPAWN_DUP2, data, 0),
            (os.POSIX_SPAWN_DUP2, report, 1),
            # Onto itself: that clears close-on-exec.
            *((os.POSIX_SPAWN_DUP2, fd, fd) for fd in keep),
        ],
        # Its own process group: Ctrl-C is for the command, which then ends this.
        setpgroup=0,
        setsigmask=(),
    )


def _error_of(report: bytes) -> Exception:
    import json

    kind, message, hint, number = json.loads(report)
    if kind == "OSError":
        return OSError(number, message)
    if kind == "KernelError":
        return errors.KernelError(message, errno=number, hint=hint)
    error: errors.UmiakError = getattr(errors, kind)(message, hint=hint)
    return error


def _report_of(error: errors.UmiakError | OSError) -> bytes:
    import json

    if isinstance(error, OSError):
        return json.dumps(["OSError", error.strerror, None, error.errno]).encode()
    return json.dumps([type(error).__name__, error.message, error.hint, getattr(error, "errno", 0)]).encode()


def main(directory: str, limits: Limits) -> int:
    """Unpack standard input; return the exit code."""
    try:
        with LayerWriter(directory) as writer:
            writer.unpack(iter(lambda: os.read(0, _READ_BYTES), b""), limits)
            writer.finish()
    except (errors.UmiakError, OSError) as error:
        try:
            os.write(1, _report_of(error))
        except BrokenPipeError:
            pass  # the command was killed: nobody wants to know
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Limits(int(sys.argv[2]), int(sys.argv[3]))))
