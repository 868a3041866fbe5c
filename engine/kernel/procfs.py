"""What /proc says of processes and of this boot."""

from __future__ import annotations


def start_time(pid: int) -> int | None:
    """Return when the process started, in clock ticks since boot; None if there is no such process.

    With the pid and the boot it names a process for good. Field 22 of proc(5) stat, counted after the name's last ")".
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[19])
    except (FileNotFoundError, ProcessLookupError):
        return None


def state_of(pid: int) -> str | None:
    """Return the state letter of the process ("R", "S", "Z", …), None if there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0].decode()
    except (FileNotFoundError, ProcessLookupError):
        return None


def boot_id() -> str:
    with open("/proc/sys/kernel/random/boot_id", "rb") as file:
        return file.read().decode().strip()


def is_alive(pid: int, started: int) -> bool:
    """Tell whether the process of this boot recorded as (pid, start time) still exists and is not a zombie."""
    return start_time(pid) == started and state_of(pid) not in ("Z", "X", None)


def is_same_process(pid: int, started: int, boot: str) -> bool:
    """Tell whether the process recorded as (pid, start time, boot) still exists and is not a zombie."""
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
