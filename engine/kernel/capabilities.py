"""Capabilities as names and as sets (bit masks). See capabilities(7)."""

from __future__ import annotations

import ctypes
import struct

from engine.kernel.libc import call
from engine.kernel.process import prctl

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_WORDS = """
    CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE
    NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT
    SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP
    MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE
"""
NAMES = [f"CAP_{word}" for word in _WORDS.split()]
NUMBERS = {name: number for number, name in enumerate(NAMES)}

_VERSION_3 = 0x20080522
_PR_CAPBSET_READ = 23
_PR_CAPBSET_DROP = 24
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_PR_CAP_AMBIENT_CLEAR_ALL = 4


def to_mask(names: Iterable[str]) -> int:
    """Return the set of these names; "cap_" in front and the case do not matter. KeyError for an unknown one."""
    mask = 0
    for name in names:
        upper = name.upper()
        mask |= 1 << NUMBERS[upper if upper.startswith("CAP_") else f"CAP_{upper}"]
    return mask


def to_names(mask: int) -> list[str]:
    return [name for number, name in enumerate(NAMES) if mask >> number & 1]


def last_capability() -> int:
    """Return the highest number that this kernel knows."""
    with open("/proc/sys/kernel/cap_last_cap", "rb") as file:
        return int(file.read())


def bounding_set() -> int:
    """Return the caller's bounding set: no process it starts can ever have more."""
    with open("/proc/self/status", "rb") as file:
        for line in file:
            if line.startswith(b"CapBnd:"):
                return int(line.split()[1], 16)
    return 0


def effective_set() -> int:
    header = struct.pack("=Ii", _VERSION_3, 0)
    data = ctypes.create_string_buffer(24)
    call("capget", header, data)
    low, _, _, high, _, _ = struct.unpack("=6I", data.raw)
    return int(low | high << 32)


def limit_bounding_set(keep: int, last: int) -> None:
    """Drop from the bounding set all but `keep`, up to the capability numbered `last`."""
    for number in range(last + 1):
        if not keep >> number & 1 and prctl(_PR_CAPBSET_READ, number):
            prctl(_PR_CAPBSET_DROP, number)


def set_capabilities(effective: int, permitted: int, inheritable: int) -> None:
    words = []
    for shift in (0, 32):
        words += [mask >> shift & 0xFFFFFFFF for mask in (effective, permitted, inheritable)]
    call("capset", struct.pack("=Ii", _VERSION_3, 0), struct.pack("=6I", *words))


def set_ambient(mask: int) -> None:
    """Make the ambient set exactly `mask`, which must be within the permitted and the inheritable set."""
    prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    for number in range(len(NAMES)):
        if mask >> number & 1:
            prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, number)
