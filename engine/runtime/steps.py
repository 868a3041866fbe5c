"""What is done to turn a fresh process into a container's first one: a list of steps.

Each step is made from the configuration, and refuses a bad one, before anything has happened; it can then describe itself
and execute itself in the new process. `init.py` puts them in order. Those that make the file system are in `filesystem.py`.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import socket
import stat
import struct
import termios

from engine.kernel import capabilities, files, process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any


_KINDS = {errno.EPERM: "denied", errno.EACCES: "denied", errno.ENOSYS: "unsupported", errno.EOPNOTSUPP: "unsupported"}


class LaunchError(Exception):
    """A container's process could not be started: the step that failed, why, and what can be done.

    `exit_code` is 127 when the command is not there, 126 when it cannot be executed, 125 for everything else.
    """

    def __init__(
        self, step: str, errno: int, message: str, exit_code: int = 125, hint: str = "", kind: str = ""
    ) -> None:
        super().__init__(message)
        self.step = step
        self.errno = errno
        self.message = message
        self.exit_code = exit_code
        self.hint = hint
        self.kind = kind or self._kind_by_code()

    def _kind_by_code(self) -> str:
        """Return the category as `engine.errors` has it: invalid, not_found, denied, unsupported or kernel."""
        by_exit = {126: "denied", 127: "not_found"}
        return by_exit.get(self.exit_code) or _KINDS.get(self.errno, "kernel")


def invalid(step: str, message: str, hint: str = "") -> LaunchError:
    """Return the error for a configuration that cannot be obeyed."""
    return LaunchError(step, errno.EINVAL, message, hint=hint, kind="invalid")


class Setup:
    """What the steps of one process share: descriptors opened on the way, and the line to the parent."""

    __slots__ = ("channel", "console_fd", "root_fd", "root_path", "stdio")

    def __init__(self, root_path: str, channel: socket.socket, stdio: tuple[int, int, int]) -> None:
        self.root_path = root_path
        self.channel = channel
        self.stdio = stdio
        self.root_fd = -1
        self.console_fd = -1


class Step:
    """One thing to do. `describe` completes the sentence "cannot …"."""

    __slots__ = ()

    def describe(self) -> str:
        raise NotImplementedError

    def execute(self, setup: Setup) -> None:
        raise NotImplementedError


def run(steps: Sequence[Step], setup: Setup) -> None:
    """Execute the steps in order; an OSError becomes a LaunchError that says which one failed."""
    for step in steps:
        try:
            step.execute(setup)
        except OSError as error:
            reason = error.strerror or str(error)
            message = f"cannot {step.describe()}: {reason}"
            raise LaunchError(type(step).__name__, error.errno or 0, message, hint=kernel_hint(error)) from error


def kernel_hint(error: OSError) -> str:
    """Return what to do where the kernel lacks a call: mount_setattr(2) is the newest of those that nothing can replace."""
    return (
        f"this kernel is {os.uname().release}; Umiak needs Linux 5.12 or newer" if error.errno == errno.ENOSYS else ""
    )


class JoinNamespaces(Step):
    """Enter existing namespaces, given by descriptor (network) or by path."""

    __slots__ = ("namespaces",)

    def __init__(self, namespaces: Sequence[tuple[int, int | str]]) -> None:
        self.namespaces = namespaces

    def describe(self) -> str:
        return "join the container's namespaces"

    def execute(self, _setup: Setup) -> None:
        for kind, where in self.namespaces:
            fd = where if isinstance(where, int) else os.open(where, os.O_RDONLY)
            process.setns(fd, kind)
            os.close(fd)


class AwaitCgroup(Step):
    """Tell the parent that the mounts stand and wait until it has put us into the cgroup."""

    __slots__ = ("private",)

    def __init__(self, private: bool) -> None:
        self.private = private

    def describe(self) -> str:
        return "wait for the cgroup"

    def execute(self, setup: Setup) -> None:
        if setup.channel.recv(1) != b"G":
            os._exit(125)  # the parent is gone
        if self.private:
            # Only now: the namespace's root is the cgroup that the process is in at this moment.
            process.unshare(process.CLONE_NEWCGROUP)


class SetHostname(Step):
    """Name the container's UTS namespace."""

    __slots__ = ("domainname", "hostname")

    def __init__(self, hostname: str, domainname: str) -> None:
        self.hostname = hostname
        self.domainname = domainname

    def describe(self) -> str:
        return f"set the hostname to {self.hostname}"

    def execute(self, _setup: Setup) -> None:
        if self.hostname:
            process.set_hostname(self.hostname)
        if self.domainname:
            process.set_domainname(self.domainname)


class ConnectStdio(Step):
    """Start a session with the terminal, or the descriptors given, as standard input, output and error."""

    __slots__ = ("gid", "uid")

    def __init__(self, uid: int, gid: int) -> None:
        self.uid = uid
        self.gid = gid

    def describe(self) -> str:
        return "connect standard input, output and error"

    def execute(self, setup: Setup) -> None:
        os.setsid()
        if setup.console_fd >= 0:
            sources = (setup.console_fd,) * 3
            fcntl.ioctl(setup.console_fd, termios.TIOCSCTTY, 0)
        else:
            # Moved out of 0-2 first, lest one overwrite another before it is copied.
            sources = tuple(fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3) for fd in setup.stdio)  # type: ignore[assignment]
        for target, source in enumerate(sources):
            os.dup2(source, target)
            self._give(source)
        # Nothing else is needed any more, and the working directory must not be reachable through it.
        process.close_all_but({setup.channel.fileno()})

    def _give(self, fd: int) -> None:
        """Let the user open /dev/stdout and the like again: pipes and terminals are checked at each open."""
        status = os.fstat(fd)
        if stat.S_ISFIFO(status.st_mode) or (stat.S_ISCHR(status.st_mode) and os.major(status.st_rdev) == _PTY_MAJOR):
            try:
                os.fchown(fd, self.uid, -1 if stat.S_ISCHR(status.st_mode) else self.gid)
            except OSError as error:
                if error.errno not in (errno.EINVAL, errno.EPERM, errno.EROFS):
                    raise


class SetOomScore(Step):
    """Tell the OOM killer how gladly to take this process. Lowering needs CAP_SYS_RESOURCE; without it, it stays."""

    __slots__ = ("value",)

    def __init__(self, value: int) -> None:
        self.value = value

    def describe(self) -> str:
        return f"set the OOM score to {self.value}"

    def execute(self, _setup: Setup) -> None:
        try:
            with open("/proc/self/oom_score_adj", "wb", buffering=0) as file:
                file.write(str(self.value).encode())
        except PermissionError:
            pass


class SetRlimits(Step):
    """Set resource limits, clamped beforehand to what the host lets us have."""

    __slots__ = ("limits", "warnings")

    NUMBERS = (
        *("CPU", "FSIZE", "DATA", "STACK", "CORE", "RSS", "NPROC", "NOFILE", "MEMLOCK", "AS", "LOCKS"),
        *("SIGPENDING", "MSGQUEUE", "NICE", "RTPRIO", "RTTIME"),
    )

    def __init__(self, rlimits: Sequence[dict[str, Any]]) -> None:
        self.limits: list[tuple[int, int, int]] = []
        self.warnings: list[str] = []
        can_raise = (
            bool(capabilities.effective_set() >> capabilities.NUMBERS["CAP_SYS_RESOURCE"] & 1) if rlimits else True
        )
        for entry in rlimits:
            name = str(entry["type"]).removeprefix("RLIMIT_")
            if name not in self.NUMBERS:
                raise invalid("SetRlimits", f'unknown resource limit "{entry["type"]}"')
            self._add(name, _limit(entry["soft"]), _limit(entry["hard"]), can_raise)

    def _add(self, name: str, soft: int, hard: int, can_raise: bool) -> None:
        number = self.NUMBERS.index(name)
        ceiling = -1 if can_raise else process.prlimit(0, number)[1]
        if name == "NOFILE" and can_raise:
            ceiling = _most_files()
        if _is_above(hard, ceiling):
            self.warnings.append(
                f"ulimit {name.lower()} is {ceiling}, the host's hard limit, instead of {_shown(hard)}"
            )
            hard = ceiling
        if _is_above(soft, hard):
            soft = hard
        self.limits.append((number, soft, hard))

    def describe(self) -> str:
        return f"set {len(self.limits)} resource limits"

    def execute(self, _setup: Setup) -> None:
        for number, soft, hard in self.limits:
            process.prlimit(0, number, (soft, hard))


def _most_files() -> int:
    """Return what nobody can raise RLIMIT_NOFILE above, whatever the capabilities. See proc(5), /proc/sys/fs/nr_open."""
    try:
        with open("/proc/sys/fs/nr_open", "rb") as file:
            return int(file.read())
    except FileNotFoundError:
        return -1


def _limit(value: int) -> int:
    """Return a limit as the resource module has it: -1, or OCI's 2⁶⁴-1, is infinity."""
    return -1 if value < 0 or value >= 2**63 - 1 else value


def _is_above(value: int, ceiling: int) -> bool:
    return ceiling >= 0 and (value < 0 or value > ceiling)


def _shown(value: int) -> str:
    return "unlimited" if value < 0 else str(value)


_TIOCSPTLCK = 0x40045431
_TIOCGPTPEER = 0x5441
_PTY_MAJOR = 136


def open_terminal(ptmx_fd: int) -> int:
    """Return the slave of a terminal just opened, through the master and never by path. ioctl_tty(2), TIOCGPTPEER."""
    if not files.is_device(ptmx_fd, 5, 2):
        raise OSError(errno.ENOTTY, "its /dev/pts/ptmx is not the terminal multiplexer")
    fcntl.ioctl(ptmx_fd, _TIOCSPTLCK, struct.pack("=i", 0))
    slave_fd: int = fcntl.ioctl(ptmx_fd, _TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    if os.major(os.fstat(slave_fd).st_rdev) != _PTY_MAJOR:
        raise OSError(errno.ENOTTY, "its /dev/pts is not a terminal file system")
    return slave_fd


class JoinKeyring(Step):
    """Leave the session keyring of whoever started the monitor."""

    __slots__ = ()

    def describe(self) -> str:
        return "make a session keyring"

    def execute(self, _setup: Setup) -> None:
        try:
            process.join_new_session_keyring()
        except OSError as error:
            if error.errno not in (errno.ENOSYS, errno.EPERM):  # a kernel without keys, or one that forbids them to us
                raise


class Privileges:
    """What the process may do: user, groups, capability sets (masks), seccomp filter, no_new_privs."""

    __slots__ = (
        "ambient",
        "bounding",
        "cwd",
        "effective",
        "gid",
        "groups",
        "inheritable",
        "last_capability",
        "no_new_privs",
        "permitted",
        "seccomp",
        "uid",
        "umask",
    )

    def __init__(self, settings: dict[str, Any], seccomp: bytes | None) -> None:
        """Read an OCI `process` object. Capabilities beyond our own bounding set are left out: they cannot be had."""
        user = settings.get("user") or {}
        sets = settings.get("capabilities") or {}
        ours = capabilities.bounding_set()
        self.uid: int = user.get("uid", 0)
        self.gid: int = user.get("gid", 0)
        self.groups: list[int] = list(user.get("additionalGids") or ())
        self.umask: int = 0o022 if user.get("umask") is None else user["umask"]
        self.bounding = _mask(sets.get("bounding")) & ours
        self.permitted = _mask(sets.get("permitted")) & ours
        self.effective = _mask(sets.get("effective")) & self.permitted
        self.inheritable = _mask(sets.get("inheritable")) & ours
        self.ambient = _mask(sets.get("ambient")) & self.permitted & self.inheritable
        self.cwd: str = settings.get("cwd") or "/"
        self.no_new_privs = bool(settings.get("noNewPrivileges"))
        self.seccomp = seccomp
        self.last_capability = capabilities.last_capability()

    def allow_everything(self) -> None:
        """Give every capability that we have ourselves."""
        ours = capabilities.bounding_set()
        self.bounding = self.permitted = self.effective = ours
        self.inheritable = self.ambient = 0


def _mask(names: Sequence[str] | None) -> int:
    try:
        return capabilities.to_mask(names or ())
    except KeyError as error:
        raise invalid("Privileges", f"unknown capability {error}", "see capabilities(7) for the names") from None


class DropPrivileges(Step):
    """Become the container's user with exactly the capabilities and the system calls it is to have."""

    __slots__ = ("privileges",)

    def __init__(self, privileges: Privileges) -> None:
        self.privileges = privileges

    def describe(self) -> str:
        p = self.privileges
        seccomp = f"{len(p.seccomp) // 8} seccomp instructions" if p.seccomp else "no seccomp"
        return f"become user {p.uid}:{p.gid} with capabilities {p.permitted:#x}, {seccomp}"

    def execute(self, _setup: Setup) -> None:
        p = self.privileges
        capabilities.limit_bounding_set(p.bounding, p.last_capability)
        if p.seccomp and not p.no_new_privs:
            process.load_seccomp_filter(p.seccomp)  # needs CAP_SYS_ADMIN, which is about to go
        process.prctl(process.PR_SET_KEEPCAPS, 1)
        os.umask(p.umask)
        process.set_groups(p.groups)
        process.set_gid(p.gid)
        # As root first, for what the user cannot enter; then again, for what root cannot (NFS).
        entered = _enter(p.cwd, again=True)
        process.set_uid(p.uid)
        if not entered:
            _enter(p.cwd, again=False)
        _check_cwd(p.cwd)
        capabilities.set_capabilities(p.effective, p.permitted, p.inheritable)
        if p.ambient:
            capabilities.set_ambient(p.ambient)
        process.prctl(process.PR_SET_KEEPCAPS, 0)
        if p.no_new_privs:
            process.prctl(process.PR_SET_NO_NEW_PRIVS, 1)
            if p.seccomp:
                process.load_seccomp_filter(p.seccomp)


def _enter(cwd: str, *, again: bool) -> bool:
    try:
        os.chdir(cwd)
    except PermissionError as error:
        if again:
            return False
        raise LaunchError(
            "Chdir", errno.EACCES, f'cannot enter the working directory "{cwd}": {error.strerror}', 126
        ) from error
    except OSError as error:
        raise LaunchError(
            "Chdir", error.errno or 0, f'cannot enter the working directory "{cwd}": {error.strerror}', 127
        ) from error
    return True


def _check_cwd(cwd: str) -> None:
    """Refuse a working directory outside the root, as a leaked descriptor would give one (CVE-2024-21626)."""
    try:
        inside = os.getcwd().startswith("/")
    except OSError:
        inside = False
    if not inside:
        raise LaunchError("Chdir", errno.ENOENT, f'the working directory "{cwd}" is outside the container', 126)


_ALL_SIGNALS = [number for number in range(1, 65) if number not in (32, 33)]  # glibc keeps those two


def block_signals() -> set[signal.Signals]:
    """Block every signal, so that none reaches a handler of ours in a new process; return what was blocked before."""
    return signal.pthread_sigmask(signal.SIG_BLOCK, _ALL_SIGNALS)  # type: ignore[return-value]


def restore_signals(mask: set[signal.Signals]) -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def reset_signals() -> None:
    """Give every signal its default action (Python ignores SIGPIPE and SIGXFSZ) and block none."""
    signal.set_wakeup_fd(-1)
    for number in _ALL_SIGNALS:
        if number not in (signal.SIGKILL, signal.SIGSTOP) and signal.getsignal(number) is not signal.SIG_DFL:
            signal.signal(number, signal.SIG_DFL)
    for number in (32, 33):
        process.reset_signal(number)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
