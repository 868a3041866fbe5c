"""The warm worker: a resident process with the modules of the commands loaded, which forks for each command line it is handed.

It holds no state: whatever it is asked for is found out anew by the fork, exactly as a cold command does. A command that
sees `UMIAK_WORKER=1` starts it, and it ends after `IDLE_S` without work. A fork gets the caller's command line, environment,
directory, standard streams, umask, niceness and resource limits; the caller passes its signals on, and a caller that
is killed takes the fork along. Callers whose namespaces, root, user or capabilities are not the worker's are refused.

    python -m compose.cli.worker
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import importlib
import os
import select
import signal
import socket
import struct
import sys
import time
from typing import NoReturn

from compose.cli.client import FORWARDED, REFUSED, socket_path, unpacked
from compose.cli.entry import end, run
from engine.kernel.process import PR_SET_PDEATHSIG, prctl, set_process_name

IDLE_S = 300.0
"""How long a worker waits for the next command before it ends."""
MODULES = (
    *(
        "compose.cli." + name
        for name in ("main", "errors", "up", "down", "ps", "logs", "exec_", "run", "build", "config")
    ),
    *(
        "compose." + name
        for name in ("orchestrator", "wiring", "desired", "observe", "reconcile", "execute", "lifecycle")
    ),
    *(
        "compose.spec.load",
        "compose.graph",
        "compose.builds",
        "engine.images.build.builder",
        "networkx",
        "pyroute2",
        "rich.live",
        "rich.table",
    ),
)
"""What takes long to import; a module that is missing from the list is imported by each fork that wants it."""
PASSED_ON = frozenset({*FORWARDED, signal.SIGSTOP, signal.SIGCONT})
FDS = 5
PATIENCE_S = 1.0
"""How long a caller that has connected may take to send its request."""
NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts")
CREDENTIALS = ("Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp")


def serve() -> None:
    """Be the worker of this run directory until nothing was asked for `IDLE_S` long. Returns at once if there is one."""
    path = socket_path()
    os.chdir("/")
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return
    for name in MODULES:
        importlib.import_module(name)
    set_process_name("umiak-worker")
    gc.freeze()
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(0))
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(path)
        os.chmod(path, 0o600)
        listener.listen(64)
        try:
            Worker(listener, lock).loop()
        finally:
            os.unlink(path)


class Job:
    """A command that runs for a caller: the fork, a descriptor that is readable when it ends, the caller's connection."""

    __slots__ = ("connection", "pid", "pidfd")

    def __init__(self, pid: int, connection: socket.socket) -> None:
        self.pid = pid
        self.pidfd = os.pidfd_open(pid)
        self.connection = connection


class Worker:
    """One loop over the listening socket, the callers' connections and the forks."""

    def __init__(self, listener: socket.socket, lock: int) -> None:
        self.listener = listener
        self.lock = lock
        self.circumstances = circumstances("self")
        self.code_version = _code_version()
        self.jobs: dict[int, Job] = {}
        self.poller = select.epoll()
        self.poller.register(listener, select.EPOLLIN)

    def loop(self) -> None:
        """Serve until idle for long, or until the code on disk is no longer the code that is loaded."""
        while self.jobs or not self._is_outdated():
            ready = self.poller.poll(IDLE_S)
            if not ready and not self.jobs:
                return
            for fd, _ in ready:
                self._attend(fd)

    def _is_outdated(self) -> bool:
        return _code_version() != self.code_version

    def _attend(self, fd: int) -> None:
        job = self.jobs.get(fd)
        if fd == self.listener.fileno():
            self._accept()
        elif job is not None and fd == job.pidfd:
            self._finish(job)
        elif job is not None:
            self._pass_on(job)

    def _accept(self) -> None:
        connection, _ = self.listener.accept()
        connection.settimeout(PATIENCE_S)
        fds: list[int] = []
        try:
            peer, _, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
            _, fds, _, _ = socket.recv_fds(connection, 16, FDS)
            if len(fds) != FDS or self._is_outdated() or circumstances(str(peer)) != self.circumstances:
                raise PermissionError
            self._start(connection, fds, peer)
        except OSError:
            with contextlib.suppress(OSError):
                connection.send(REFUSED)
            connection.close()
        finally:
            for fd in fds:
                os.close(fd)

    def _start(self, connection: socket.socket, fds: list[int], peer: int) -> None:
        # A signal for the fork must not meet the worker's handler in it.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        pid = os.fork()
        if pid == 0:
            self._let_go(connection)
            _become(fds, peer)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        job = Job(pid, connection)
        for fd in (job.pidfd, connection.fileno()):
            self.jobs[fd] = job
            self.poller.register(fd, select.EPOLLIN)

    def _let_go(self, connection: socket.socket) -> None:
        """In a fork: close what is the worker's, for a lock is held and a caller waits until the last copy is closed."""
        os.close(self.lock)
        self.poller.close()
        self.listener.close()
        connection.close()
        for job in self.jobs.values():
            job.connection.close()

    def _finish(self, job: Job) -> None:
        """Tell the caller how its command ended."""
        _, status = os.waitpid(job.pid, 0)
        code = os.waitstatus_to_exitcode(status)
        with contextlib.suppress(OSError):
            job.connection.send(b"%d" % (code if code >= 0 else 128 - code))
        for fd in (job.pidfd, job.connection.fileno()):
            self.poller.unregister(fd)
            del self.jobs[fd]
        os.close(job.pidfd)
        job.connection.close()

    def _pass_on(self, job: Job) -> None:
        """A signal of the caller. A caller that is gone was killed: so is its command."""
        try:
            message = job.connection.recv(16)
        except OSError:
            message = b""
        number = int(message) if message.isdigit() else signal.SIGKILL
        os.kill(job.pid, number if number in PASSED_ON else signal.SIGKILL)
        if not message:
            self.poller.modify(job.connection, 0)


def _become(fds: list[int], peer: int) -> NoReturn:
    """In the fork: take over the caller's circumstances, run its command line, end."""
    code = 1
    try:
        set_process_name("umiak")
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        with open(fds[0], "rb", closefd=False) as request:
            request.seek(0)
            arguments, environment = unpacked(request.read())
        os.fchdir(fds[1])
        for number, fd in enumerate(fds[2:]):
            os.dup2(fd, number)
        for fd in fds:
            os.close(fd)
        _take_over(peer, environment)
        code = run(arguments)
    finally:
        end(code)


def _take_over(peer: int, environment: dict[bytes, bytes]) -> None:
    import resource

    os.environ.clear()
    os.environb.update(environment)
    time.tzset()
    os.umask(int(_status(str(peer)).get("Umask", "022"), 8))
    os.setpriority(os.PRIO_PROCESS, 0, os.getpriority(os.PRIO_PROCESS, peer))
    for kind in {getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")}:
        limit = resource.prlimit(peer, kind)
        if limit != resource.getrlimit(kind):
            resource.setrlimit(kind, limit)
    sys.stdin = open(0, errors="surrogateescape", closefd=False)
    sys.stdout = open(1, "w", errors="surrogateescape", closefd=False, buffering=1 if os.isatty(1) else -1)
    sys.stderr = open(2, "w", errors="backslashreplace", closefd=False, buffering=1)


def circumstances(pid: str) -> object:
    """What decides what a process may do and sees: its namespaces, root directory, user and capabilities. None if it is gone."""
    try:
        root = os.stat(f"/proc/{pid}/root")
        status = _status(pid)
        namespaces = [_link(f"/proc/{pid}/ns/{name}") for name in NAMESPACES]
    except OSError:
        return None
    return (root.st_dev, root.st_ino, namespaces, [status.get(name) for name in CREDENTIALS])


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except FileNotFoundError:
        return ""


def _status(pid: str) -> dict[str, str]:
    with open(f"/proc/{pid}/status") as file:
        lines = (line.partition(":") for line in file)
        return {name: value.strip() for name, _, value in lines}


def _code_version() -> tuple[int, ...]:
    """Changes when the package is installed anew."""
    try:
        return tuple(os.stat(path).st_mtime_ns for path in (__file__, os.path.dirname(__file__), sys.executable))
    except OSError:
        return ()


if __name__ == "__main__":
    serve()
