"""Start a container: clone into its namespaces, run the steps in the new process, execute the image's command.

Read `plan` for what is done and in which order, `launch` for the parent's side, `_become` for the child's. The two talk
over a close-on-exec socket: the child sends its terminal ("C" with a descriptor), a failure ("E" and JSON) and "X" just
before it executes the command; the parent sends "G" when the cgroup holds the child. Its end means that the command runs.
"""

from __future__ import annotations

import errno
import gc
import json
import os
import posixpath
import signal
import socket
import stat
import struct
import sys

from engine.kernel import process
from engine.runtime import filesystem, seccomp, steps
from engine.runtime.steps import LaunchError, Setup, Step, invalid

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, NoReturn

    from engine.runtime.cgroup import Cgroup

__all__ = ["LaunchError", "Launched", "launch", "plan"]

INIT_ANNOTATION = "io.umiak.init"
INIT_PATH = "/sbin/docker-init"
_INIT_PROGRAMS = (
    "/usr/libexec/docker/docker-init",
    "/usr/bin/docker-init",
    "/usr/bin/tini-static",
    "/usr/bin/tini",
    "/usr/libexec/podman/catatonit",
    "/usr/bin/catatonit",
)
_MESSAGE_LIMIT = 65536
_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_CLONE_HINTS = {
    errno.ENOSPC: "the host's limit on namespaces is reached: see the user.max_*_namespaces sysctls",
    errno.EAGAIN: "the host's limit on processes is reached",
    errno.EPERM: "making namespaces needs root",
}

_NAMESPACES = {
    "pid": process.CLONE_NEWPID,
    "ipc": process.CLONE_NEWIPC,
    "mount": process.CLONE_NEWNS,
    "uts": process.CLONE_NEWUTS,
    "cgroup": process.CLONE_NEWCGROUP,
    "network": process.CLONE_NEWNET,
}


class Launched:
    """A running container: its first process, its terminal's master if it has one, and what had to be done differently."""

    __slots__ = ("console_fd", "pid", "pidfd", "warnings")

    def __init__(self, pid: int, pidfd: int, console_fd: int | None, warnings: list[str]) -> None:
        self.pid = pid
        self.pidfd = pidfd
        self.console_fd = console_fd
        self.warnings = warnings


class Namespaces:
    """Which namespaces are new, which are joined, which stay the host's: from OCI `linux.namespaces`."""

    __slots__ = ("clone_flags", "joined", "own", "pid_path", "private_cgroup")

    def __init__(self, entries: Sequence[dict[str, Any]], netns_fd: int | None) -> None:
        self.clone_flags = 0
        self.joined: list[tuple[int, int | str]] = []
        self.pid_path: str | None = None
        self.private_cgroup = False
        self.own: set[str] = set()
        for entry in entries:
            self._add(entry["type"], entry.get("path"), netns_fd)
        if not self.clone_flags & process.CLONE_NEWNS:
            raise invalid("Namespaces", "a container needs a mount namespace of its own")
        if netns_fd is not None:
            self.own.add("network")
            self.joined.append((process.CLONE_NEWNET, netns_fd))

    def _add(self, kind: str, path: str | None, netns_fd: int | None) -> None:
        if kind not in _NAMESPACES or (kind == "mount" and path):
            raise invalid("Namespaces", f'cannot use the namespace "{kind}"' + (f" of {path}" if path else ""))
        if kind == "network" and netns_fd is not None:
            return
        self.own.add(kind)
        if path and kind == "pid":
            self.pid_path = path
        elif path:
            self.joined.append((_NAMESPACES[kind], path))
        elif kind == "cgroup":
            self.private_cgroup = True  # unshared later, once the process is in its cgroup
        else:
            self.clone_flags |= _NAMESPACES[kind]


class Plan:
    """All that is known before the clone: the steps, the command, the namespaces."""

    __slots__ = ("argv", "environment", "namespaces", "reaper", "steps", "warnings")

    def __init__(self, namespaces: Namespaces, argv: list[str], environment: dict[str, str]) -> None:
        self.namespaces = namespaces
        self.argv = argv
        self.environment = environment
        self.reaper = ""
        self.steps: list[Step] = []
        self.warnings: list[str] = []

    def describe(self) -> str:
        """Return the steps as text, one a line: for `--debug` and for tests."""
        return "\n".join(step.describe() for step in self.steps)


def plan(config: dict[str, Any], rootfs: dict[str, Any], *, netns_fd: int | None, cgroup: Cgroup) -> Plan:
    """Read an OCI configuration into steps, refusing what cannot be obeyed. Nothing outside this process is changed."""
    settings = config["process"]
    linux = config.get("linux") or {}
    argv = [str(word) for word in settings.get("args") or ()]
    if not argv or not argv[0]:
        raise invalid("Plan", "no command to run: the image names none", "set 'command' or 'entrypoint'")
    namespaces = Namespaces(linux.get("namespaces") or (), netns_fd)
    result = Plan(namespaces, argv, parse_environment(settings.get("env") or ()))
    binds, filesystems, views = _mount_steps(config, cgroup, namespaces.private_cgroup)
    if (config.get("annotations") or {}).get(INIT_ANNOTATION) == "1":
        host_init = find_static_init()
        result.reaper = "bound" if host_init else "own"
        if host_init:
            binds.append(filesystem.Bind(host_init, INIT_PATH, filesystem.MountOptions(["ro", "bind"])))
            filesystems.append(binds[-1])
    limits = steps.SetRlimits(settings.get("rlimits") or ())
    result.warnings += limits.warnings
    privileges = steps.Privileges(settings, seccomp.from_config(linux.get("seccomp"), settings))
    result.steps = [
        filesystem.OpenSources(binds),
        steps.JoinNamespaces(namespaces.joined),
        filesystem.IsolateMounts(linux.get("rootfsPropagation") or ""),
        filesystem.MountRoot(rootfs),
        *filesystems,
        *_device_steps(config, linux),
        filesystem.MakeCwd(privileges.cwd),
        *([filesystem.OpenConsole()] if settings.get("terminal") else ()),
        steps.AwaitCgroup(namespaces.private_cgroup),
        *views,
        *_kernel_steps(linux, namespaces.own),
        steps.SetOomScore(settings.get("oomScoreAdj") or 0),
        *([filesystem.ReadOnlyRoot()] if (config.get("root") or {}).get("readonly") else ()),
        filesystem.PivotRoot(),
        *_hostname_steps(config, namespaces.own),
        steps.ConnectStdio(privileges.uid, privileges.gid),
        limits,
        steps.JoinKeyring(),
        steps.DropPrivileges(privileges),
    ]
    return result


def parse_environment(entries: Sequence[str]) -> dict[str, str]:
    """Read "NAME=value" entries; a later one wins, and one without "=" is left out."""
    return {name: value for name, equals, value in (entry.partition("=") for entry in entries) if equals and name}


def _mount_steps(
    config: dict[str, Any], cgroup: Cgroup, private: bool
) -> tuple[list[filesystem.Bind], list[Step], list[Step]]:
    """Return the binds (whose sources are opened early), all mounts in order of depth, and the cgroup's, which come late."""
    binds: list[filesystem.Bind] = []
    filesystems: list[Step] = []
    views: list[Step] = []
    for entry in sorted(config.get("mounts") or (), key=lambda entry: _depth(entry["destination"])):
        destination, options, fstype = _checked_mount(entry)
        if fstype in ("bind", "none") or "bind" in entry.get("options", ()) or "rbind" in entry.get("options", ()):
            binds.append(filesystem.Bind(entry.get("source") or "", destination, options))
            filesystems.append(binds[-1])
        elif fstype in ("cgroup", "cgroup2"):
            views.append(filesystem.CgroupView(cgroup, destination, options, private))
        else:
            filesystems.append(filesystem.NewFilesystem(fstype, entry.get("source"), destination, options))
    return binds, filesystems, views


def _checked_mount(entry: dict[str, Any]) -> tuple[str, filesystem.MountOptions, str]:
    destination = posixpath.normpath("/" + entry["destination"].lstrip("/"))
    fstype = entry.get("type") or "bind"
    if destination == "/":
        raise invalid("Mounts", "cannot mount anything over the container's root")
    if destination == "/proc" and fstype != "proc":
        hint = "mount it anywhere else" if fstype != "bind" else "use 'pid: host' to see the host's processes"
        raise invalid(
            "Mounts", f"cannot mount {entry.get('source') or fstype} on /proc: only a procfs goes there", hint
        )
    return destination, filesystem.MountOptions(entry.get("options") or ()), fstype


def _depth(path: str) -> int:
    return len([name for name in path.split("/") if name])


def _device_steps(config: dict[str, Any], linux: dict[str, Any]) -> list[Step]:
    """A private /dev gets the default devices; one bound from the host is left alone. OCI runtime-spec, config-linux.md."""
    for entry in config.get("mounts") or ():
        if posixpath.normpath(entry["destination"]) == "/dev" and entry.get("type") == "tmpfs":
            return [filesystem.MakeDevices(linux.get("devices") or ())]
    return []


def _kernel_steps(linux: dict[str, Any], own: set[str]) -> list[Step]:
    result: list[Step] = []
    if linux.get("sysctl"):
        result.append(filesystem.WriteSysctls(linux["sysctl"], "network" in own, "ipc" in own))
    if linux.get("readonlyPaths"):
        result.append(filesystem.ReadOnlyPaths(linux["readonlyPaths"]))
    if linux.get("maskedPaths"):
        result.append(filesystem.MaskPaths(linux["maskedPaths"]))
    return result


def _hostname_steps(config: dict[str, Any], own: set[str]) -> list[Step]:
    hostname, domainname = config.get("hostname") or "", config.get("domainname") or ""
    return [steps.SetHostname(hostname, domainname)] if "uts" in own and (hostname or domainname) else []


def find_static_init() -> str | None:
    """Return a small init program of the host that runs in any image: one that is statically linked."""
    for path in _INIT_PROGRAMS:
        try:
            with open(path, "rb") as file:
                if read_elf(file.read(4096))[1] == "":
                    return path
        except (OSError, ValueError):
            continue
    return None


def launch(
    config: dict[str, Any],
    rootfs: dict[str, Any],
    *,
    rootfs_mountpoint: str,
    netns_fd: int | None,
    cgroup: Cgroup,
    stdio: tuple[int, int, int] | None,
) -> Launched:
    """Start the container's first process and return once its command has been executed.

    The cgroup must exist with its limits set. On a LaunchError nothing of the process is left. The caller must have
    one thread only, and becomes the parent. With `process.terminal` the standard descriptors are the container's
    terminal and `stdio` is not used; without `stdio` they are /dev/null.
    """
    what = plan(config, rootfs, netns_fd=netns_fd, cgroup=cgroup)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    null_fd = os.open("/dev/null", os.O_RDWR)  # the host's: the image's may be anything
    setup = Setup(rootfs_mountpoint, theirs, stdio or (null_fd,) * 3)
    keep = {theirs.fileno(), *setup.stdio, *([netns_fd] if netns_fd is not None else ())}
    try:
        pid, pidfd = _clone(what, cgroup, lambda: _become(what, setup, keep))
    except OSError as error:
        ours.close()
        message = f"cannot make the container's namespaces: {error.strerror}"
        hint = _CLONE_HINTS.get(error.errno or 0, "") or steps.kernel_hint(error)
        raise LaunchError("Clone", error.errno or 0, message, hint=hint) from error
    finally:
        theirs.close()
        os.close(null_fd)
    with ours:
        console_fd = follow(ours, pid, pidfd, cgroup)
    return Launched(pid, pidfd, console_fd, what.warnings)


def _clone(what: Plan, cgroup: Cgroup, child: Any) -> tuple[int, int]:
    """Clone with all signals blocked, in the PID namespace to be joined if there is one; run `child` in the new process."""
    mask = steps.block_signals()
    home_fd = -1
    try:
        if what.namespaces.pid_path is not None:
            home_fd = os.open("/proc/self/ns/pid", os.O_RDONLY)
            fd = os.open(what.namespaces.pid_path, os.O_RDONLY)
            process.setns(fd, process.CLONE_NEWPID)  # it holds for children only
            os.close(fd)
        pid, pidfd = cgroup.clone(what.namespaces.clone_flags)
        if pid == 0:
            child()
        return pid, pidfd
    finally:
        if home_fd >= 0:
            process.setns(home_fd, process.CLONE_NEWPID)
            os.close(home_fd)
        steps.restore_signals(mask)


def follow(channel: socket.socket, pid: int, pidfd: int, cgroup: Cgroup) -> int | None:
    """Put the new process into its cgroup, let it go on, and wait until it has executed its command.

    Returns its terminal's master, if it sent one. On failure the process is killed and reaped, and `pidfd` closed.
    """
    console_fd: int | None = None
    try:
        try:
            cgroup.attach(pid)
        except ProcessLookupError:
            pass  # it has ended already: what it has to say of that comes below
        except OSError as error:
            raise LaunchError(
                "Cgroup", error.errno or 0, f"cannot put the process into its cgroup: {error.strerror}"
            ) from error
        _send_go(channel)
        is_ready = False
        while True:
            kind, data, fds = receive(channel)
            if kind == b"C":
                console_fd = fds[0]
            elif kind == b"X":
                is_ready = True
            elif kind == b"E":
                raise decode_error(data)
            elif is_ready:
                return console_fd
            else:
                raise _unexplained_end(pidfd)
    except BaseException:
        if console_fd is not None:
            os.close(console_fd)
        discard(pidfd)
        raise


def _send_go(channel: socket.socket) -> None:
    try:
        channel.send(b"G")
    except (BrokenPipeError, ConnectionResetError):
        pass  # it has failed already: its message is waiting


def receive(channel: socket.socket) -> tuple[bytes, bytes, list[int]]:
    """The next message of the new process, or an empty one when it has no more to say.

    A process that ends without having read what it was sent resets the connection. The kernel tells that before it hands
    out the messages which are waiting, and once only, so the second look is the one that counts.
    """
    try:
        data, fds, _, _ = socket.recv_fds(channel, _MESSAGE_LIMIT, 1)
    except ConnectionResetError:
        data, fds, _, _ = socket.recv_fds(channel, _MESSAGE_LIMIT, 1)
    return data[:1], data[1:], fds


def _unexplained_end(pidfd: int) -> LaunchError:
    info = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOWAIT)
    how = (
        f"signal {info.si_status}"
        if info and info.si_code != os.CLD_EXITED
        else f"code {info.si_status if info else '?'}"
    )
    hint = "its memory limit may be too small to start anything" if info and info.si_status == signal.SIGKILL else ""
    return LaunchError("Setup", 0, f"the container ended with {how} before its command could run", hint=hint)


def discard(pidfd: int) -> None:
    """Kill and reap a process that must not go on."""
    try:
        process.pidfd_send_signal(pidfd, signal.SIGKILL)
    except ProcessLookupError:
        pass
    try:
        process.wait_exit(pidfd)
    except ChildProcessError:
        pass
    os.close(pidfd)


def _encode_error(error: BaseException) -> bytes:
    if not isinstance(error, LaunchError):
        number = error.errno if isinstance(error, OSError) else 0
        error = LaunchError("Setup", number or 0, f"cannot start the container: {type(error).__name__}: {error}")
    record = [error.step, error.errno, error.message[:8192], error.exit_code, error.hint, error.kind]
    return b"E" + json.dumps(record).encode()


def decode_error(data: bytes) -> LaunchError:
    return LaunchError(*json.loads(data))


def _become(what: Plan, setup: Setup, keep: set[int]) -> NoReturn:
    """Be the new process: never return, and load no code from now on, for soon every path is the image's."""
    try:
        prepare_child(keep)
        steps.run(what.steps, setup)
        if what.reaper == "bound":
            find_executable(what.argv[0], what.environment)
            what.argv = [INIT_PATH, "--", *what.argv]
        elif what.reaper == "own":
            _stay_as_reaper()
        execute(what.argv, what.environment, setup.channel)
    except BaseException as error:
        fail(setup.channel, error)


def prepare_child(keep: set[int]) -> None:
    """Make a just-cloned process safe to go on in: not traceable, dying with its parent, with no import and no foreign file."""
    process.prctl(process.PR_SET_PDEATHSIG, signal.SIGKILL)
    process.prctl(process.PR_SET_DUMPABLE, 0)
    sys.meta_path.clear()
    sys.path.clear()
    gc.disable()
    process.close_all_but(keep)


def fail(channel: socket.socket, error: BaseException) -> NoReturn:
    """Report why this process cannot become the command, and end it without running any clean-up of the parent's."""
    try:
        channel.send(_encode_error(error))
    finally:
        os._exit(125)


def execute(argv: list[str], environment: dict[str, str], channel: socket.socket) -> NoReturn:
    """Replace this process by the command. The privileges are gone already; LaunchError if the command does not work."""
    path = find_executable(argv[0], environment)
    steps.reset_signals()
    process.prctl(process.PR_SET_PDEATHSIG, 0)
    channel.send(b"X")
    process.close_range(3, flags=process.CLOSE_RANGE_CLOEXEC)
    try:
        os.execve(path, argv, environment)
    except OSError as error:
        raise explain_exec_failure(argv[0], path, error) from error


def find_executable(name: str, environment: dict[str, str]) -> str:
    """Look the command up as execvp(3) does, in the container's PATH; LaunchError says whether it is absent or not executable."""
    folders = environment.get("PATH", _DEFAULT_PATH).split(":")
    candidates = [name] if "/" in name else [f"{folder or '.'}/{name}" for folder in folders]
    denied = ""
    for path in candidates:
        try:
            is_file = stat.S_ISREG(os.stat(path).st_mode)
        except OSError as error:
            if error.errno == errno.EACCES:
                denied = denied or path
            continue
        if is_file and os.access(path, os.X_OK):
            return path
        denied = denied or path
    if denied:
        raise LaunchError(
            "Exec",
            errno.EACCES,
            f'cannot start "{name}": {denied} is not an executable file',
            126,
            "check its type and mode bits",
        )
    where = "in the image" if "/" in name else "in the image's PATH"
    hint = "check 'command' and 'entrypoint'"
    if " " in name:
        hint += "; a command with arguments must be a list, or a string that the shell form splits"
    raise LaunchError("Exec", errno.ENOENT, f'cannot start "{name}": no such file {where}', 127, hint)


_MACHINES = {
    3: "i386",
    8: "mips",
    20: "ppc",
    21: "ppc64le",
    22: "s390x",
    40: "arm",
    62: "x86_64",
    183: "aarch64",
    243: "riscv64",
    258: "loongarch64",
}


def read_elf(head: bytes) -> tuple[str, str]:
    """Return (architecture, interpreter) of an ELF file from its first bytes; ValueError if it is none."""
    if head[:4] != b"\x7fELF" or len(head) < 64:
        raise ValueError("not an ELF file")
    order = "<" if head[5] == 1 else ">"
    is_64 = head[4] == 2
    machine = struct.unpack_from(order + "H", head, 18)[0]
    table, size, count = (
        (*struct.unpack_from(order + "Q", head, 32), *struct.unpack_from(order + "HH", head, 54))
        if is_64
        else (*struct.unpack_from(order + "I", head, 28), *struct.unpack_from(order + "HH", head, 42))
    )
    interpreter = ""
    for index in range(count):
        start = table + index * size
        if start + size > len(head):
            break
        if struct.unpack_from(order + "I", head, start)[0] == 3:  # PT_INTERP
            offset, length = (
                (*struct.unpack_from(order + "Q", head, start + 8), *struct.unpack_from(order + "Q", head, start + 32))
                if is_64
                else (
                    *struct.unpack_from(order + "I", head, start + 4),
                    *struct.unpack_from(order + "I", head, start + 16),
                )
            )
            interpreter = head[offset : offset + length].rstrip(b"\0").decode(errors="replace") or "?"
    return _MACHINES.get(machine, f"machine {machine}"), interpreter


def explain_exec_failure(name: str, path: str, error: OSError) -> LaunchError:
    """Say why an existing, executable file could not be executed: the kernel's errno alone misleads."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        head = os.read(fd, 4096)
        os.close(fd)
    except OSError:
        head = b""
    exit_code = {errno.ENOENT: 127}.get(error.errno or 0, 126)
    reason, hint = _exec_reason(head, error)
    return LaunchError("Exec", error.errno or 0, f'cannot start "{name}": {reason}', exit_code, hint)


def _exec_reason(head: bytes, error: OSError) -> tuple[str, str]:
    if head[:2] == b"#!":
        interpreter = (head[2:].split(b"\n")[0].split() or [b""])[0].decode(errors="replace")
        if error.errno == errno.ENOENT:
            hint = "its first line ends in a carriage return" if "\r" in head[:256].decode(errors="replace") else ""
            return (
                f'its interpreter "{interpreter.strip()}" is not in the image',
                hint or "install it, or change the first line",
            )
        return f'its interpreter "{interpreter}" cannot be executed: {error.strerror}', ""
    try:
        machine, interpreter = read_elf(head)
    except ValueError:
        if error.errno == errno.ENOEXEC:
            return (
                "it is neither a program nor a script with a '#!' line",
                "add a '#!/bin/sh' line, or run it through a shell",
            )
        return error.strerror or str(error), ""
    ours = os.uname().machine
    if error.errno == errno.ENOENT:
        return f'its loader "{interpreter}" is not in the image', "the program was built for another C library"
    if error.errno == errno.ENOEXEC or machine != ours:
        return f"it is a program for {machine}, and this machine is {ours}", "use an image for this platform"
    return error.strerror or str(error), ""


def _stay_as_reaper() -> None:
    """Fork: return in the child, which goes on to the command; the parent stays to forward signals and reap, and never returns.

    All privileges are dropped before, so the two are alike. The parent holds no file and no copy of the output.
    """
    if os.getpid() != 1:
        process.prctl(process.PR_SET_CHILD_SUBREAPER, 1)
    child = os.fork()
    if child == 0:
        _take_terminal()
        return
    process.prctl(process.PR_SET_PDEATHSIG, 0)
    process.set_process_name("umiak-init")
    process.close_range(0)
    _reap_until(child)


def _take_terminal() -> None:
    """Be the foreground process group of the terminal, if there is one, as the shell of a session would."""
    os.setpgid(0, 0)
    if os.isatty(0):
        os.tcsetpgrp(0, os.getpgrp())  # SIGTTOU is blocked here, as every signal is


def _reap_until(child: int) -> NoReturn:
    while True:
        number = signal.sigwaitinfo(signal.valid_signals()).si_signo
        if number != signal.SIGCHLD:
            try:
                os.kill(child, number)
            except ProcessLookupError:
                pass
            continue
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            if pid == child:
                code = os.waitstatus_to_exitcode(status)
                os._exit(code if code >= 0 else 128 - code)
