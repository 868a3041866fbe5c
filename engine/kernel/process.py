"""Processes: clone3, namespaces, pidfds, identities, limits that a process sets on itself."""

from __future__ import annotations

import ctypes
import fcntl
import os
import resource
import signal
import struct

from engine.kernel.libc import NUMBERS, call, libc, libc_with_gil, raise_errno

CLONE_PIDFD = 0x00001000
CLONE_PARENT = 0x00008000
CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
CLONE_INTO_CGROUP = 0x200000000

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_KEEPCAPS = 8
PR_SET_NAME = 15
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38

CLOSE_RANGE_CLOEXEC = 4
_LAST_FD = 0xFFFFFFFF
_KERNEL_SIGACTION_BYTES = 32
_SIGSET_BYTES = 8
_KEYCTL_JOIN_SESSION_KEYRING = 1
_SECCOMP_SET_MODE_FILTER = 1
_PIDFD_INFO_EXIT = 1 << 3
_PIDFD_INFO_SIZE = 64
_PIDFD_GET_INFO = (3 << 30) | (_PIDFD_INFO_SIZE << 16) | (0xFF << 8) | 11


class _CloneArgs(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_uint64)
        for name in (
            "flags",
            "pidfd",
            "child_tid",
            "parent_tid",
            "exit_signal",
            "stack",
            "stack_size",
            "tls",
            "set_tid",
            "set_tid_size",
            "cgroup",
        )
    ]


def clone3(flags: int, *, cgroup_fd: int | None = None) -> tuple[int, int]:
    """Fork into new namespaces, as `os.fork` would: return (pid, pidfd) in the parent, (0, -1) in the child.

    Only for a process with one thread: the child of a threaded one hangs in libc (it waits for threads that are gone).
    With `CLONE_PARENT` the child is the caller's sibling, so its pidfd belongs to whoever the common parent is: -1 is returned.
    """
    pidfd = ctypes.c_int(-1)
    arguments = _CloneArgs(flags=flags)
    if not flags & CLONE_PARENT:
        arguments.flags |= CLONE_PIDFD
        arguments.pidfd = ctypes.addressof(pidfd)
        arguments.exit_signal = signal.SIGCHLD
    if cgroup_fd is not None:
        arguments.flags |= CLONE_INTO_CGROUP
        arguments.cgroup = cgroup_fd
    ctypes.pythonapi.PyOS_BeforeFork()
    pid: int = libc_with_gil.syscall(
        ctypes.c_long(NUMBERS["clone3"]), ctypes.byref(arguments), ctypes.c_long(ctypes.sizeof(arguments))
    )
    if pid == 0:
        ctypes.pythonapi.PyOS_AfterFork_Child()
        return 0, -1
    number = ctypes.get_errno()
    ctypes.pythonapi.PyOS_AfterFork_Parent()
    if pid < 0:
        raise OSError(number, f"clone3: {os.strerror(number)}")
    return pid, pidfd.value


def unshare(flags: int) -> None:
    if libc.unshare(ctypes.c_int(flags)) < 0:
        raise_errno("unshare", f"{flags:#x}")


def setns(fd: int, flags: int = 0) -> None:
    """Join the namespace of `fd`, or with a pidfd those of its process that `flags` names. See setns(2)."""
    if libc.setns(ctypes.c_int(fd), ctypes.c_int(flags)) < 0:
        raise_errno("setns", f"{flags:#x}")


def prctl(option: int, value: int = 0, third: int = 0) -> int:
    result: int = libc.prctl(
        ctypes.c_int(option), ctypes.c_ulong(value), ctypes.c_ulong(third), ctypes.c_ulong(0), ctypes.c_ulong(0)
    )
    if result < 0:
        raise_errno("prctl", str(option))
    return result


def set_process_name(name: str) -> None:
    """Set the name that `ps` and `/proc/PID/comm` show; cut to 15 bytes."""
    buffer = ctypes.create_string_buffer(name.encode()[:15])
    if libc.prctl(ctypes.c_int(PR_SET_NAME), buffer, ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0)) < 0:
        raise_errno("prctl", "PR_SET_NAME")


def pidfd_open(pid: int) -> int:
    return os.pidfd_open(pid)


def pidfd_send_signal(pidfd: int, number: int) -> None:
    """Signal exactly this process: a pidfd is never reused. ProcessLookupError once it has been reaped."""
    signal.pidfd_send_signal(pidfd, number)


def wait_exit(pidfd: int, *, block: bool = True) -> int | None:
    """Reap a child: its exit code, 128+N when signal N ended it, None while it runs and `block` is false."""
    info = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | (0 if block else os.WNOHANG))
    if info is None:
        return None
    return info.si_status if info.si_code == os.CLD_EXITED else 128 + info.si_status


def exit_code_of(pidfd: int) -> int | None:
    """Tell how a process that is not our child ended: as `wait_exit`, None if it runs or the kernel cannot tell.

    PIDFD_GET_INFO knows the exit code from Linux 6.15 on, once the parent has reaped the process.
    """
    info = bytearray(_PIDFD_INFO_SIZE)
    struct.pack_into("=Q", info, 0, _PIDFD_INFO_EXIT)
    try:
        fcntl.ioctl(pidfd, _PIDFD_GET_INFO, info)
    except OSError:
        return None
    if not struct.unpack_from("=Q", info)[0] & _PIDFD_INFO_EXIT:
        return None
    status: int = struct.unpack_from("=i", info, 60)[0]
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def close_range(first: int, last: int = _LAST_FD, flags: int = 0) -> None:
    call("close_range", first, last, flags)


def close_all_but(keep: set[int]) -> None:
    """Close every descriptor above 2 that is not in `keep`."""
    first = 3
    for fd in sorted(fd for fd in keep if fd > 2):
        if fd > first:
            close_range(first, fd - 1)
        first = fd + 1
    close_range(first)


def set_groups(groups: list[int]) -> None:
    """Set the supplementary groups by the raw call: libc's would signal threads that do not exist after clone3."""
    array = (ctypes.c_uint32 * len(groups))(*groups)
    call("setgroups", len(groups), array)


def set_gid(gid: int) -> None:
    """Set real, effective and saved group by the raw call, as `set_groups` does."""
    call("setresgid", gid, gid, gid)


def set_uid(uid: int) -> None:
    """Set real, effective and saved user by the raw call, as `set_groups` does."""
    call("setresuid", uid, uid, uid)


def set_hostname(name: str) -> None:
    data = name.encode()
    if libc.sethostname(data, ctypes.c_size_t(len(data))) < 0:
        raise_errno("sethostname", name)


def set_domainname(name: str) -> None:
    data = name.encode()
    if libc.setdomainname(data, ctypes.c_size_t(len(data))) < 0:
        raise_errno("setdomainname", name)


def join_new_session_keyring() -> None:
    """Leave the session keyring of whoever started us for a new, empty one."""
    call("keyctl", _KEYCTL_JOIN_SESSION_KEYRING, None)


def prlimit(pid: int, number: int, limits: tuple[int, int] | None = None) -> tuple[int, int]:
    """Read, or set and return the former, (soft, hard) limit of a process; 0 is the caller. -1 is infinity."""
    return resource.prlimit(pid, number) if limits is None else resource.prlimit(pid, number, limits)


def load_seccomp_filter(program: bytes) -> None:
    """Put the calling thread, and all it will start, under a classic BPF filter. See seccomp(2)."""
    buffer = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("=H6xQ", len(program) // 8, ctypes.addressof(buffer))
    call("seccomp", _SECCOMP_SET_MODE_FILTER, 0, header)


def reset_signal(number: int) -> None:
    """Give a signal its default action, also one of the two that the C library keeps from us. rt_sigaction(2)."""
    call("rt_sigaction", number, bytes(_KERNEL_SIGACTION_BYTES), None, _SIGSET_BYTES)
