"""An interpreter of classic BPF, as far as seccomp filters go: it tells what a filter decides without loading it."""

from __future__ import annotations

import struct
from collections.abc import Sequence

ALLOW = 0x7FFF0000
KILL_PROCESS = 0x80000000
X86_64 = 0xC000003E
I386 = 0x40000003
AARCH64 = 0xC00000B7
ARM = 0x40000028


def errno_of(action: int) -> int | None:
    return action & 0xFFFF if action & 0xFFFF0000 == 0x00050000 else None


def run(program: bytes, arch: int, number: int, arguments: Sequence[int] = ()) -> int:
    """Return what the filter says of a system call."""
    padded = [*arguments, 0, 0, 0, 0, 0, 0][:6]
    data = struct.pack("<IIQ6Q", number, arch, 0, *padded)
    accumulator = counter = 0
    while True:
        code, if_true, if_false, constant = struct.unpack_from("=HBBI", program, counter * 8)
        counter += 1
        if code == 0x20:
            accumulator = struct.unpack_from("<I", data, constant)[0]
        elif code == 0x54:
            accumulator &= constant
        elif code == 0x06:
            return int(constant)
        elif code == 0x05:
            counter += constant
        else:
            truth = {
                0x15: accumulator == constant,
                0x25: accumulator > constant,
                0x35: accumulator >= constant,
            }[code]
            counter += if_true if truth else if_false
