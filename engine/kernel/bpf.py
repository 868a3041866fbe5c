"""The device rules of cgroup v2: a small eBPF program, assembled here, that decides each open and mknod. See bpf(2)."""

from __future__ import annotations

import ctypes
import errno
import struct

from engine.kernel.libc import call

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_BPF_PROG_LOAD = 5
_BPF_PROG_ATTACH = 8
_BPF_PROG_TYPE_CGROUP_DEVICE = 15
_BPF_CGROUP_DEVICE = 6
_BPF_F_ALLOW_MULTI = 2

_TYPES = {"b": 1, "c": 2}
_ACCESS = {"m": 1, "r": 2, "w": 4}
_ALL_ACCESS = 7

# Instruction codes, linux/bpf.h: class | size or operation | source.
_LOAD_WORD = 0x61
_AND32 = 0x54
_SHIFT_RIGHT32 = 0x74
_MOVE32 = 0xBC
_MOVE_CONSTANT = 0xB7
_JUMP_NOT_EQUAL = 0x55
_JUMP_NOT_EQUAL_REGISTER = 0x5D
_EXIT = 0x95

# Where the prologue puts what the kernel tells, struct bpf_cgroup_dev_ctx.
_TYPE, _REQUEST, _MAJOR, _MINOR, _SCRATCH = 2, 3, 4, 5, 1


class DeviceRule:
    """Allow or deny an access ("r", "w", "m") to devices of a type ("a", "b", "c"); None stands for any number."""

    __slots__ = ("access", "allow", "major", "minor", "type")

    def __init__(self, allow: bool, type: str, major: int | None, minor: int | None, access: str) -> None:
        self.allow = allow
        self.type = type
        self.major = major
        self.minor = minor
        self.access = access

    def __repr__(self) -> str:
        numbers = ":".join("*" if number is None else str(number) for number in (self.major, self.minor))
        return f"{'allow' if self.allow else 'deny'} {self.type} {numbers} {self.access}"


def _instruction(code: int, destination: int = 0, source: int = 0, offset: int = 0, constant: int = 0) -> bytes:
    return struct.pack("<BBhi", code, source << 4 | destination, offset, constant)


def device_program(rules: Sequence[DeviceRule]) -> bytes:
    """Assemble the rules; the last one that matches decides, as with v1's files, and nothing matching means no."""
    program = b"".join(
        (
            _instruction(_LOAD_WORD, _TYPE, 1, 0),
            _instruction(_AND32, _TYPE, constant=0xFFFF),
            _instruction(_LOAD_WORD, _REQUEST, 1, 0),
            _instruction(_SHIFT_RIGHT32, _REQUEST, constant=16),
            _instruction(_LOAD_WORD, _MAJOR, 1, 4),
            _instruction(_LOAD_WORD, _MINOR, 1, 8),
        )
    )
    for rule in reversed(rules):
        program += _rule(rule)
        if _matches_all(rule):
            return program  # the verifier refuses instructions that cannot be reached
    return program + _verdict(False)


def _matches_all(rule: DeviceRule) -> bool:
    return rule.type == "a" and rule.major is None and rule.minor is None and _mask(rule.access) == _ALL_ACCESS


def _mask(access: str) -> int:
    return sum(bit for letter, bit in _ACCESS.items() if letter in access)


def _verdict(allow: bool) -> bytes:
    return _instruction(_MOVE_CONSTANT, 0, constant=int(allow)) + _instruction(_EXIT)


def _rule(rule: DeviceRule) -> bytes:
    """Return tests that jump past the verdict when they fail, built from the last to the first."""
    code = _verdict(rule.allow)
    for register, number in ((_MINOR, rule.minor), (_MAJOR, rule.major)):
        if number is not None:
            code = _instruction(_JUMP_NOT_EQUAL, register, offset=len(code) // 8, constant=number) + code
    mask = _mask(rule.access)
    if mask != _ALL_ACCESS:
        # Any of the letters denied denies the access; all of what is requested must be allowed.
        code = _access_test(rule.allow, mask, len(code) // 8) + code
    if rule.type != "a":
        code = _instruction(_JUMP_NOT_EQUAL, _TYPE, offset=len(code) // 8, constant=_TYPES[rule.type]) + code
    return code


def _access_test(allow: bool, mask: int, skip: int) -> bytes:
    copy_and_mask = _instruction(_MOVE32, _SCRATCH, _REQUEST) + _instruction(_AND32, _SCRATCH, constant=mask)
    if allow:
        return copy_and_mask + _instruction(_JUMP_NOT_EQUAL_REGISTER, _SCRATCH, _REQUEST, skip)
    jump_if_zero = 0x15
    return copy_and_mask + _instruction(jump_if_zero, _SCRATCH, offset=skip)


def load_device_program(program: bytes) -> int:
    """Give the program to the kernel and return its descriptor."""
    code = ctypes.create_string_buffer(program, len(program))
    licence = ctypes.create_string_buffer(b"Apache-2.0")
    attributes = struct.pack(
        "=IIQQIIQI",
        _BPF_PROG_TYPE_CGROUP_DEVICE,
        len(program) // 8,
        ctypes.addressof(code),
        ctypes.addressof(licence),
        0,
        0,
        0,
        0,
    )
    attributes += bytes(4 + 16 + 16)
    try:
        return call("bpf", _BPF_PROG_LOAD, attributes, len(attributes))
    except OSError as error:
        if error.errno == errno.EPERM:
            raise OSError(error.errno, "bpf: not permitted to load a device program") from error
        raise


def attach_device_program(cgroup_fd: int, program_fd: int) -> None:
    """Let the program decide for the processes of the cgroup, beside what its ancestors have."""
    attributes = struct.pack("=IIII", cgroup_fd, program_fd, _BPF_CGROUP_DEVICE, _BPF_F_ALLOW_MULTI)
    call("bpf", _BPF_PROG_ATTACH, attributes, len(attributes))
