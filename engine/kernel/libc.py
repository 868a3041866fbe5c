"""The C library through ctypes, and the numbers of the system calls it has no wrapper for."""

from __future__ import annotations

import ctypes
import os

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing costs the monitor 5 ms
    from typing import Any, NoReturn

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long

# Calls through this handle keep the GIL: needed between PyOS_BeforeFork and PyOS_AfterFork_*.
libc_with_gil = ctypes.PyDLL(None, use_errno=True)
libc_with_gil.syscall.restype = ctypes.c_long

AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000

# Numbers from 424 on are the same on every architecture.
_COMMON = {
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
    "clone3": 435,
    "close_range": 436,
    "openat2": 437,
    "mount_setattr": 442,
}
_X86_64 = {
    "rt_sigaction": 13,
    "rt_sigtimedwait": 128,
    "setgroups": 116,
    "setresuid": 117,
    "setresgid": 119,
    "capget": 125,
    "capset": 126,
    "pivot_root": 155,
    "keyctl": 250,
    "setns": 308,
    "seccomp": 317,
    "bpf": 321,
}
_GENERIC = {
    "rt_sigaction": 134,
    "rt_sigtimedwait": 137,
    "setgroups": 159,
    "setresuid": 147,
    "setresgid": 149,
    "capget": 90,
    "capset": 91,
    "pivot_root": 41,
    "keyctl": 219,
    "setns": 268,
    "seccomp": 277,
    "bpf": 280,
}
MACHINE = os.uname().machine
NUMBERS = {**_COMMON, **(_X86_64 if MACHINE == "x86_64" else _GENERIC)}


def raise_errno(call: str, subject: str | None = None) -> NoReturn:
    """Raise the OSError of the last failed call, naming the call and what it was about."""
    number = ctypes.get_errno()
    raise OSError(number, f"{call}: {os.strerror(number)}", subject)


def call(name: str, *arguments: Any, subject: str | None = None) -> int:
    """Make a system call by name. Integers are passed as C longs; bytes, structures and None as pointers."""
    converted = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    result: int = libc.syscall(ctypes.c_long(NUMBERS[name]), *converted)
    if result < 0:
        raise_errno(name, subject)
    return result
