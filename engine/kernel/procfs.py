"""What /proc says of processes and of this boot."""

from __future__ import annotations

import os
import time

PF_EXITING = 0x4
"""A flag of a task, from the kernel's sched.h: it is on its way out, its namespaces are gone already."""


def start_time(pid: int) -> int | None:
    """Return when the process started, in clock ticks since boot; None if there is no such process.

    With the pid and the boot it names a process for good. Field 22 of proc(5) stat, counted after the name's last ")".
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[19])
    except (FileNotFoundError, ProcessLookupError):
        return None


def age_s(started: int) -> float:
    """How long ago that start time was, whatever has been done to the clock since."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started / os.sysconf("SC_CLK_TCK")


def boot_id() -> str:
    with open("/proc/sys/kernel/random/boot_id", "rb") as file:
        return file.read().decode().strip()


def is_alive(pid: int, started: int) -> bool:
    """Tell whether the process of this boot recorded as (pid, start time) still exists and has not begun to exit.

    The init of a PID namespace may stay in its exit for ever: until all in it are reaped, which is up to their parents
    (pid_namespaces(7)). Fields 3, 9 and 22 of proc(5) stat.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return int(fields[19]) == started and fields[0] not in (b"Z", b"X") and not int(fields[6]) & PF_EXITING


def is_same_process(pid: int, started: int, boot: str) -> bool:
    """Tell whether the process recorded as (pid, start time, boot) still exists and has not begun to exit."""
    return pid > 0 and boot == boot_id() and is_alive(pid, started)


def is_taking_signals(pid: int) -> bool:
    """Whether a process is in sigwait(3) or one of its kind: what it waits for is then shown as neither blocked nor handled.

    Also for a 32-bit process on x86, whose calls have the two last numbers.
    """
    from engine.kernel.libc import NUMBERS  # ctypes is slow to import, and `ps` has no use for it

    try:
        with open(f"/proc/{pid}/syscall", encoding="ascii") as file:
            return file.read().split()[0] in (str(NUMBERS["rt_sigtimedwait"]), "177", "421")
    except (OSError, IndexError):
        return False
