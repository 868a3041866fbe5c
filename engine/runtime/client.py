"""The command's side of the monitors: start them through a zygote, ask them things over their control sockets."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import sys
import time
from contextlib import contextmanager, suppress

from engine.errors import (
    Conflict,
    Denied,
    InvalidInput,
    KernelError,
    NotFound,
    TimedOut,
    UmiakError,
    Unavailable,
    Unsupported,
)
from engine.runtime import liveness

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

CONTROL_SOCKET = "control.sock"
MESSAGE_BYTES = 1024 * 1024
# After its grace period a container is killed; the kernel then needs a moment to free what it held.
KILL_PATIENCE_S = 60.0
# How long a monitor may take to get its container going, or to clean up after it.
SETTLE_PATIENCE_S = 30.0
# How long a monitor may take to say how its container is.
ASK_PATIENCE_S = 2.0

_KINDS: dict[str, type[UmiakError]] = {
    "conflict": Conflict,
    "not_found": NotFound,
    "denied": Denied,
    "unsupported": Unsupported,
    "unavailable": Unavailable,
    "kernel": KernelError,
    "invalid": InvalidInput,
}


def error_of(reply: dict[str, Any]) -> UmiakError:
    """The exception for a reply that tells of a failure."""
    error = _KINDS.get(reply.get("kind", ""), KernelError)(reply["message"], hint=reply.get("hint") or None)
    error.exit_code = reply.get("exit_code", 1)
    return error


class Zygote:
    """The process that monitors are forked from. Start it early: it gets ready while the command reads its files.

    Safe to share between threads; `launch` may be called many times at once.
    """

    def __init__(self, pid: int, commands: socket.socket) -> None:
        self._pid = pid
        self._commands = commands

    @classmethod
    def spawn(cls) -> Zygote:
        """Start a zygote; return without waiting until it is ready."""
        python = os.path.realpath(sys.executable)
        script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "zygote.py")
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        executable = _untouchable(python)
        try:
            pid = os.posix_spawn(
                f"/proc/self/fd/{executable}",
                [python, "-I", "-S", "-E", script, str(theirs.fileno())],
                {"PATH": os.defpath, "LANG": "C.UTF-8"},
                file_actions=[
                    *((os.POSIX_SPAWN_OPEN, fd, "/dev/null", os.O_RDWR, 0) for fd in range(3)),
                    # Onto itself: that clears close-on-exec.
                    (os.POSIX_SPAWN_DUP2, theirs.fileno(), theirs.fileno()),
                ],
                # Its own process group: Ctrl-C is for the command, which decides what becomes of a start.
                setpgroup=0,
                setsigmask=(),
                setsigdef=(signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT),
            )
        except OSError as error:
            ours.close()
            raise Unavailable(f"cannot start {python}: {error.strerror}") from error
        finally:
            os.close(executable)
            theirs.close()
        return cls(pid, ours)

    def launch(
        self, container_id: str, monitor_json_path: str, op: str = "start", *, hold: bool = False
    ) -> dict[str, Any]:
        """Start a container's monitor (`op` "start" or "reattach") and wait until its process runs.

        With `hold` the monitor first of all waits for a client to attach, so that no output is missed.

        Return the reply, with the `pid`. Raise the failure as its class of `engine.errors`, with Docker's `exit_code`.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours:
            with theirs:
                message = json.dumps({"op": op, "id": container_id, "config": monitor_json_path, "hold": hold})
                try:
                    socket.send_fds(self._commands, [message.encode()], [theirs.fileno()])
                except OSError as error:
                    raise self._died() from error
            reply = ours.recv(MESSAGE_BYTES)
        if not reply:
            raise self._died()
        answer: dict[str, Any] = json.loads(reply)
        if answer["event"] == "failed":
            raise error_of(answer)
        return answer

    def _died(self) -> Unavailable:
        return Unavailable(
            "the container's monitor ended before it could tell how the start went",
            hint="see `dmesg` for a kill for want of memory, `ulimit -u` and pids.max for too few processes; then run it again",
        )

    def close(self) -> None:
        """Let the zygote end. The monitors stay."""
        if self._pid:
            self._commands.close()
            try:
                os.waitpid(self._pid, 0)
            except ChildProcessError:
                pass
            self._pid = 0


def _untouchable(path: str) -> int:
    """A descriptor of an executable that no container can overwrite through /proc/PID/exe (CVE-2019-5736)."""
    from engine.kernel import mounts

    try:
        fd = mounts.open_tree(path)
        try:
            mounts.mount_setattr(fd, mounts.MOUNT_ATTR_RDONLY)
        except OSError:
            os.close(fd)
            raise
        return fd
    except OSError:
        return _sealed_copy(path)


def _sealed_copy(path: str) -> int:
    """For those who may not mount, or an older kernel: a copy in memory that nobody can write any more."""
    with open(path, "rb") as source:
        size = os.fstat(source.fileno()).st_size
        copy = os.memfd_create("python", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            sent = 0
            while sent < size:
                sent += os.sendfile(copy, source.fileno(), sent, size - sent)
            os.fchmod(copy, 0o755)
            seals = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
            fcntl.fcntl(copy, fcntl.F_ADD_SEALS, seals)
            # A file open for writing cannot be executed (ETXTBSY).
            return os.open(f"/proc/self/fd/{copy}", os.O_RDONLY | os.O_CLOEXEC)
        finally:
            os.close(copy)


class MonitorClient:
    """One container's monitor, by the container's run directory. Each call is a connection of its own."""

    def __init__(self, run_dir: str, bundle_dir: str | None = None) -> None:
        self._run = run_dir
        self._bundle = bundle_dir

    def alive(self) -> bool:
        """Whether the container has a monitor."""
        return liveness.monitor_alive(self._run)

    def status(self) -> dict[str, Any]:
        """The truth about the container, monitor or not: see `liveness.observe`."""
        return liveness.observe(self._run, self._bundle)

    def told(self) -> dict[str, Any]:
        """What the monitor itself says, at once; {} where it cannot be asked. For a status file that may not tell the truth."""
        try:
            with self._open_connection() as connection:
                connection.settimeout(ASK_PATIENCE_S)
                connection.send(json.dumps({"op": "status"}).encode())
                answer: dict[str, Any] = json.loads(connection.recv(MESSAGE_BYTES) or b"{}")
                return answer
        except OSError:
            return {}

    def watch(self, until: float | None = None) -> Iterator[dict[str, Any]]:
        """The status now and after each change; ends after the last one, or at `until` on the monotonic clock."""
        try:
            connection = self._ask({"op": "watch"})
        except Unavailable:
            yield self.status()
            return
        latest: dict[str, Any] = {}
        with connection:
            while data := _receive_until(connection, until):
                latest = json.loads(data)
                yield latest
        if latest.get("state") != "exited":
            yield self.status()

    def stop(self, timeout_s: float | None = None, signal: int | None = None) -> dict[str, Any]:
        """End the container, restart policy or not; return the reply (`status`, `hint`) when all it held is free.

        A container that does not run is stopped already.
        """
        request = {"op": "stop", "timeout_s": timeout_s, "signal": signal}
        try:
            with self._ask(request) as connection:
                if timeout_s is not None and timeout_s >= 0:
                    connection.settimeout(timeout_s + KILL_PATIENCE_S)
                reply = self._reply(connection)
                # The end of the connection is the end of the monitor.
                _receive(connection)
            return reply
        except Unavailable:
            # It may just have come to its end by itself.
            found = self.status()
            if found["state"] not in ("created", "exited"):
                raise
            return {"ok": True, "status": found, "hint": None}

    def kill(self, signal: int) -> None:
        """Send the container's process a signal."""
        self._request({"op": "kill", "signal": signal})

    def rename(self, name: str) -> None:
        """Give the container another name."""
        self._request({"op": "rename", "name": name})

    def pause(self) -> None:
        """Freeze the container."""
        self._request({"op": "pause"})

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Freeze the container for a block. Where this process is killed in it, the monitor lets the container go on."""
        with self._ask({"op": "pause", "hold": True}) as connection:
            self._reply(connection)
            yield
            connection.send(json.dumps({"op": "unpause"}).encode())
            with suppress(Conflict):  # somebody else has let it go on
                self._reply(connection)

    def unpause(self) -> None:
        """Let a frozen container go on."""
        self._request({"op": "unpause"})

    def resize(self, rows: int, cols: int) -> None:
        """Set the size of the container's terminal."""
        self._request({"op": "resize", "rows": rows, "cols": cols})

    def attach(self, *, stdin: bool = True, lossless: bool = False) -> AttachSession:
        """Join the container's own output from now on, and with `stdin` its input, where it has one.

        `lossless` holds up the container where we do not read fast enough; otherwise output is then left out.
        """
        pipes = [os.pipe2(os.O_CLOEXEC) for _ in range(2)]
        theirs, ours = [pipe[1] for pipe in pipes], [pipe[0] for pipe in pipes]
        try:
            connection = self._ask({"op": "attach", "stdin": stdin, "lossless": lossless}, theirs)
            try:
                data, fds, _, _ = socket.recv_fds(connection, MESSAGE_BYTES, 1)
            except ConnectionError:
                data, fds = b"", []
            reply = self._checked(data, connection)
        except UmiakError:
            for fd in ours:
                os.close(fd)
            raise
        finally:
            for fd in theirs:
                os.close(fd)
        return AttachSession(connection, fds[0] if fds else -1, *ours, tty=reply["tty"])

    def exec(
        self,
        argv: Sequence[str],
        *,
        env: Sequence[str] = (),
        cwd: str | None = None,
        user: str | None = None,
        tty: bool = False,
        privileged: bool = False,
        rows: int = 0,
        cols: int = 0,
        detach: bool = False,
    ) -> ExecSession:
        """Start a command in the container. `env` adds to the container's own environment.

        With `detach` its input and output are /dev/null, and the session has none.
        """
        request: dict[str, Any] = {
            "op": "exec",
            "argv": list(argv),
            "env": list(env),
            "cwd": cwd,
            "user": user,
            "tty": tty,
        }
        request |= {"privileged": privileged, "rows": rows, "cols": cols}
        if tty:
            return self._exec_on_terminal(request)
        if detach:
            return self._exec_detached(request)
        pipes = [os.pipe2(os.O_CLOEXEC) for _ in range(3)]
        theirs = [pipes[0][0], pipes[1][1], pipes[2][1]]
        ours = [pipes[0][1], pipes[1][0], pipes[2][0]]
        try:
            connection = self._ask(request, theirs)
            reply = self._reply(connection)
        except UmiakError:
            for fd in ours:
                os.close(fd)
            raise
        finally:
            for fd in theirs:
                os.close(fd)
        return ExecSession(connection, reply["pid"], stdin=ours[0], stdout=ours[1], stderr=ours[2])

    def _exec_detached(self, request: dict[str, Any]) -> ExecSession:
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        try:
            connection = self._ask(request, [null] * 3)
            return ExecSession(connection, self._reply(connection)["pid"])
        finally:
            os.close(null)

    def _exec_on_terminal(self, request: dict[str, Any]) -> ExecSession:
        connection = self._ask(request)
        try:
            data, fds, _, _ = socket.recv_fds(connection, MESSAGE_BYTES, 1)
        except ConnectionError:
            data, fds = b"", []
        reply = self._checked(data, connection)
        return ExecSession(connection, reply["pid"], master=fds[0])

    def _request(self, message: dict[str, Any]) -> dict[str, Any]:
        connection = self._ask(message)
        with connection:
            return self._reply(connection)

    def _ask(self, message: dict[str, Any], fds: Sequence[int] = ()) -> socket.socket:
        connection = self._connect()
        try:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MESSAGE_BYTES)
            socket.send_fds(connection, [json.dumps(message).encode()], list(fds))
        except ConnectionError as error:
            connection.close()
            raise self._unreachable() from error
        except OSError as error:
            connection.close()
            raise InvalidInput(f"cannot ask the container's monitor: {error.strerror}") from error
        return connection

    def _connect(self) -> socket.socket:
        deadline = time.monotonic() + SETTLE_PATIENCE_S
        while True:
            try:
                return self._open_connection()
            except (FileNotFoundError, ConnectionError) as error:
                # A monitor without a socket is about to have one, or to end.
                if not self.alive() or time.monotonic() > deadline:
                    raise self._unreachable() from error
            time.sleep(0.005)

    def _open_connection(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            # The path of a socket is limited to 107 bytes; the one through the directory's descriptor is short.
            directory = os.open(self._run, os.O_PATH | os.O_DIRECTORY)
            try:
                connection.connect(f"/proc/self/fd/{directory}/{CONTROL_SOCKET}")
                return connection
            finally:
                os.close(directory)
        except OSError:
            connection.close()
            raise

    def _unreachable(self) -> Unavailable:
        if liveness.init_alive(self.status()):
            return Unavailable("the container's monitor has died", hint="`umiak ps` gives the container a new one")
        return Unavailable("the container is not running", hint="start it first")

    def _reply(self, connection: socket.socket) -> dict[str, Any]:
        return self._checked(_receive(connection), connection)

    def _checked(self, data: bytes, connection: socket.socket) -> dict[str, Any]:
        if not data:
            connection.close()
            raise self._unreachable()
        reply: dict[str, Any] = json.loads(data)
        if not reply.get("ok"):
            connection.close()
            raise error_of(reply)
        return reply


def _receive(connection: socket.socket) -> bytes:
    try:
        return connection.recv(MESSAGE_BYTES)
    except ConnectionError:
        return b""
    except TimeoutError as error:
        raise TimedOut(
            "the container could not be ended in time", hint="a process may hang in the kernel: see `ps axf`"
        ) from error


def _receive_until(connection: socket.socket, until: float | None) -> bytes:
    """The next message; nothing where none comes until then."""
    if until is not None:
        left_s = until - time.monotonic()
        if left_s <= 0:
            return b""
        connection.settimeout(left_s)
    try:
        return _receive(connection)
    except TimedOut:
        return b""


class ExecSession:
    """A command that runs in a container. Without a terminal: `stdin`, `stdout`, `stderr` are our ends of pipes; with one: `master`.

    All are the caller's to close; -1 where they are not. Closing the session does not end the command.
    """

    def __init__(
        self,
        connection: socket.socket,
        pid: int,
        *,
        stdin: int = -1,
        stdout: int = -1,
        stderr: int = -1,
        master: int = -1,
    ) -> None:
        self._connection = connection
        self.pid = pid
        self.stdin = stdin
        self.stdout = stdout
        self.stderr = stderr
        self.master = master

    def fileno(self) -> int:
        """Readable once `wait` would not block."""
        return self._connection.fileno()

    def wait(self) -> int:
        """Wait for the end of the command; return its exit code, 128 + N for signal N."""
        data = _receive(self._connection)
        self._connection.close()
        if not data:
            raise Unavailable("the container's monitor ended before the command did")
        return int(json.loads(data)["exit_code"])

    def resize(self, rows: int, cols: int) -> None:
        """Set the size of the command's terminal."""
        self._connection.send(json.dumps({"op": "resize", "rows": rows, "cols": cols}).encode())

    def close_stdin(self) -> None:
        """Say that our end of its input is closed. The pipe itself says that of a command."""

    def close(self) -> None:
        """Close the connection. The command goes on."""
        self._connection.close()


class AttachSession(ExecSession):
    """A client of a container's own input and output. `tty`: it has a terminal, and all output comes on `stdout`.

    `stdin` is -1 where the container has no input. Closing the session leaves the container running.
    """

    def __init__(self, connection: socket.socket, stdin: int, stdout: int, stderr: int, *, tty: bool) -> None:
        super().__init__(connection, 0, stdin=stdin, stdout=stdout, stderr=stderr)
        self.tty = tty

    def close_stdin(self) -> None:
        """Say that no more input comes: the container's input ends where it was made for one client."""
        try:
            self._connection.send(json.dumps({"op": "close_stdin"}).encode())
        except OSError:
            pass  # it has ended
