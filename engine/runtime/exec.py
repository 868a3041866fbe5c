"""Run a further process in a running container: the same namespaces, cgroup and restrictions, our own child."""

from __future__ import annotations

import os
import signal
import socket
import stat

from engine.kernel import capabilities, files, process
from engine.runtime import init, seccomp, steps, users
from engine.runtime.steps import LaunchError, Setup, invalid

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, NoReturn

    from engine.runtime.cgroup import Cgroup

__all__ = ["Entered", "LaunchError", "enter"]

_NAMESPACES = (
    process.CLONE_NEWNS
    | process.CLONE_NEWPID
    | process.CLONE_NEWIPC
    | process.CLONE_NEWUTS
    | process.CLONE_NEWNET
    | process.CLONE_NEWCGROUP
)
_ACCOUNT_FILE_LIMIT = 4 << 20


class Entered:
    """A process running in a container: our child. `console_fd` is its terminal's master, if it has one.

    It must be reaped when it has ended: until then the container's first process cannot end (pid_namespaces(7)).
    """

    __slots__ = ("console_fd", "pid", "pidfd")

    def __init__(self, pid: int, pidfd: int, console_fd: int | None) -> None:
        self.pid = pid
        self.pidfd = pidfd
        self.console_fd = console_fd


class _Request:
    """What the new process is to become, prepared before the container's files are in sight."""

    __slots__ = ("argv", "environment", "home_is_given", "limits", "oom_score", "privileges", "tty", "user")

    def __init__(
        self,
        config: dict[str, Any],
        argv: Sequence[str],
        env: Sequence[str],
        cwd: str | None,
        user: str | None,
        privileged: bool,
        tty: bool,
    ) -> None:
        if not argv or not argv[0]:
            raise invalid("Exec", "no command to run")
        settings = {**config["process"], **({"cwd": cwd} if cwd else {})}
        profile = (config.get("linux") or {}).get("seccomp")
        if privileged:
            everything = capabilities.to_names(capabilities.bounding_set())
            settings["capabilities"] = {"bounding": everything, "permitted": everything, "effective": everything}
        self.argv = list(argv)
        self.environment = init.parse_environment([*(settings.get("env") or ()), *env])
        self.home_is_given = any(entry.startswith("HOME=") for entry in env)
        self.privileges = steps.Privileges(settings, seccomp.from_config(profile, settings))
        self.limits = steps.SetRlimits(settings.get("rlimits") or ())
        self.oom_score = settings.get("oomScoreAdj") or 0
        self.tty = tty
        self.user = user
        if tty:
            self.environment.setdefault("TERM", "xterm")


def enter(
    pid: int,
    pidfd: int,
    config: dict[str, Any],
    *,
    argv: Sequence[str],
    env: Sequence[str],
    cwd: str | None,
    user: str | None,
    privileged: bool,
    tty: bool,
    stdio: tuple[int, int, int] | None,
    cgroup: Cgroup,
) -> Entered:
    """Start `argv` beside the container's first process (`pid`, `pidfd`) and return once it has been executed.

    `env` is added to the container's own; `user` is looked up in the container. `privileged` gives every capability that
    we have. The caller must have one thread only, and becomes the parent. On a LaunchError nothing is left.
    """
    request = _Request(config, argv, env, cwd, user, privileged, tty)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    null_fd = os.open("/dev/null", os.O_RDWR)
    with ours:
        try:
            helper_fd = _start_helper(request, pidfd, stdio or (null_fd,) * 3, cgroup, theirs)
        except OSError as error:
            raise LaunchError("Clone", error.errno or 0, f"cannot make a process: {error.strerror}") from error
        finally:
            theirs.close()
            os.close(null_fd)
        new_pid = _await_pid(ours, helper_fd, pid)
        new_pidfd = process.pidfd_open(new_pid)  # ours until we reap it: the number cannot have been reused
        console_fd = init.follow(ours, new_pid, new_pidfd, cgroup)
    return Entered(new_pid, new_pidfd, console_fd)


def _start_helper(
    request: _Request, pidfd: int, stdio: tuple[int, int, int], cgroup: Cgroup, channel: socket.socket
) -> int:
    """Clone the process that enters the namespaces: it cannot enter a PID namespace itself, only its children can."""
    mask = steps.block_signals()
    try:
        child, helper_fd = cgroup.clone(0)
        if child == 0:
            _help(request, pidfd, stdio, channel)
        return helper_fd
    finally:
        steps.restore_signals(mask)


def _await_pid(channel: socket.socket, helper_fd: int, container_pid: int) -> int:
    kind, data, _ = init.receive(channel)
    init.discard(helper_fd)
    if kind == b"E":
        raise init.decode_error(data)
    if kind != b"P":
        raise LaunchError("Exec", 0, f"the process that enters the container of {container_pid} ended unexpectedly")
    return int(data)


def _help(request: _Request, pidfd: int, stdio: tuple[int, int, int], channel: socket.socket) -> NoReturn:
    """Enter the namespaces and clone the process proper as our parent's child, then end."""
    try:
        init.prepare_child({channel.fileno(), pidfd, *stdio})
        steps.SetOomScore(request.oom_score).execute(Setup("/", channel, stdio))
        _join(pidfd)
        child, _ = process.clone3(process.CLONE_PARENT)
        if child == 0:
            _become(request, stdio, channel)
        channel.send(b"P%d" % child)
        os._exit(0)
    except BaseException as error:
        init.fail(channel, error)


def _join(pidfd: int) -> None:
    try:
        process.setns(pidfd, _NAMESPACES)
    except ProcessLookupError as error:
        raise LaunchError("Exec", error.errno or 0, "the container has ended", kind="conflict") from error
    except OSError as error:
        raise LaunchError(
            "Exec", error.errno or 0, f"cannot enter the container's namespaces: {error.strerror}"
        ) from error
    os.close(pidfd)


def _become(request: _Request, stdio: tuple[int, int, int], channel: socket.socket) -> NoReturn:
    """Be the process proper, in the container from here on."""
    try:
        process.prctl(process.PR_SET_PDEATHSIG, signal.SIGKILL)
        setup = Setup("/", channel, stdio)
        steps.AwaitCgroup(private=False).execute(setup)
        setup.root_fd = os.open("/", os.O_PATH | os.O_DIRECTORY)
        if request.tty:
            _open_terminal(setup)
        _choose_user(request)
        p = request.privileges
        steps.run(
            [steps.ConnectStdio(p.uid, p.gid), request.limits, steps.JoinKeyring(), steps.DropPrivileges(p)], setup
        )
        init.execute(request.argv, request.environment, channel)
    except BaseException as error:
        init.fail(channel, error)


def _open_terminal(setup: Setup) -> None:
    try:
        flags = os.O_RDWR | os.O_NOCTTY
        master_fd = files.open_in_root(setup.root_fd, "/dev/pts/ptmx", flags, symlinks=False)
        setup.console_fd = steps.open_terminal(master_fd)
    except OSError as error:
        raise LaunchError(
            "Terminal", error.errno or 0, f"cannot open a terminal of the container: {error.strerror}"
        ) from error
    socket.send_fds(setup.channel, [b"C"], [master_fd])
    os.close(master_fd)


def _choose_user(request: _Request) -> None:
    """Look the user up in the container's files, and give root (and nobody else) the capabilities that the container may have."""
    p = request.privileges
    if request.user:
        try:
            p.uid, p.gid, p.groups, home = users.resolve(
                request.user, _account_file("/etc/passwd"), _account_file("/etc/group")
            )
        except users.UserError as error:
            raise LaunchError(
                "User", 0, f"cannot run as that user: {error.message}", 126, error.hint, "not_found"
            ) from error
        if not request.home_is_given:
            request.environment["HOME"] = home
    p.permitted = p.effective = p.bounding if p.uid == 0 else p.ambient


def _account_file(path: str) -> bytes:
    """Read a file that the container controls: it may be missing, no file at all, or huge."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:
        return b""
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return b""
        chunks = []
        size = 0
        while size < _ACCOUNT_FILE_LIMIT and (chunk := os.read(fd, 65536)):
            chunks.append(chunk)
            size += len(chunk)
        return b"".join(chunks)
    finally:
        os.close(fd)
