from __future__ import annotations

import struct

import pytest

from engine.kernel import bpf, capabilities, procfs
from engine.kernel.bpf import DeviceRule


def test_capability_names_and_masks_are_each_others_inverse() -> None:
    assert capabilities.to_names(capabilities.to_mask(["CAP_SYS_ADMIN", "chown", "Net_Raw"])) == [
        "CAP_CHOWN",
        "CAP_NET_RAW",
        "CAP_SYS_ADMIN",
    ]
    assert capabilities.NUMBERS["CAP_SYS_ADMIN"] == 21
    assert capabilities.NUMBERS["CAP_CHECKPOINT_RESTORE"] == 40
    with pytest.raises(KeyError):
        capabilities.to_mask(["CAP_FLY"])


def test_the_boot_and_start_times_identify_a_process() -> None:
    import os

    started = procfs.start_time(os.getpid())
    assert started is not None
    assert procfs.is_same_process(os.getpid(), started, procfs.boot_id())
    assert not procfs.is_same_process(os.getpid(), started + 1, procfs.boot_id())
    assert not procfs.is_same_process(os.getpid(), started, "another boot")
    assert not procfs.is_same_process(0, started, procfs.boot_id())


def decide(rules: list[DeviceRule], kind: str, major: int, minor: int, access: str) -> bool:
    """Interpret the device program: only the instructions that it is made of."""
    bits = sum({"m": 1, "r": 2, "w": 4}[letter] for letter in access)
    memory = {0: bits << 16 | {"b": 1, "c": 2}[kind], 4: major, 8: minor}
    registers = [0] * 10
    program = bpf.device_program(rules)
    counter = 0
    while True:
        code, regs, offset, constant = struct.unpack_from("<BBhi", program, counter * 8)
        target, source = regs & 15, regs >> 4
        counter += 1
        if code == 0x61:
            registers[target] = memory[offset]
        elif code == 0x54:
            registers[target] &= constant
        elif code == 0x74:
            registers[target] >>= constant
        elif code == 0xBC:
            registers[target] = registers[source]
        elif code == 0xB7:
            registers[target] = constant
        elif code == 0x95:
            return bool(registers[0])
        else:
            other = registers[source] if code == 0x5D else constant
            equal = registers[target] == other
            counter += offset if equal == (code == 0x15) else 0


def test_the_last_matching_device_rule_decides() -> None:
    rules = [
        DeviceRule(False, "a", None, None, "rwm"),
        DeviceRule(True, "c", None, None, "m"),
        DeviceRule(True, "c", 1, 5, "rwm"),
        DeviceRule(True, "b", 8, None, "r"),
        DeviceRule(False, "c", 1, 5, "w"),
    ]
    assert decide(rules, "c", 9, 9, "m")
    assert not decide(rules, "c", 9, 9, "r")
    assert not decide(rules, "b", 9, 9, "m")
    assert decide(rules, "c", 1, 5, "r")
    assert not decide(rules, "c", 1, 5, "rw")
    assert decide(rules, "b", 8, 3, "r")
    assert not decide(rules, "b", 8, 3, "rw")
    assert not decide([], "c", 1, 3, "r")


def test_rules_before_one_that_matches_everything_are_left_out() -> None:
    everything = DeviceRule(True, "a", None, None, "rwm")
    assert bpf.device_program([DeviceRule(False, "c", 1, 3, "r"), everything]) == bpf.device_program([everything])
