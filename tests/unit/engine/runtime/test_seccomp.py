from __future__ import annotations

import errno
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.runtime import seccomp, syscalls
from engine.runtime.steps import LaunchError
from tests.unit.engine.runtime import classic_bpf as bpf

DOCKER = [
    f"CAP_{name}"
    for name in (
        *("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP", "NET_BIND_SERVICE"),
        *("NET_RAW", "SYS_CHROOT", "MKNOD", "AUDIT_WRITE", "SETFCAP"),
    )
]
ABIS = [("x86_64", bpf.X86_64, "x86_64"), ("x86_64", bpf.X86_64, "x32"), ("x86_64", bpf.I386, "i386")]
ABIS += [("aarch64", bpf.AARCH64, "aarch64"), ("aarch64", bpf.ARM, "arm")]


def decide(name: str, *arguments: int, abi: str = "x86_64", capabilities: list[str] = DOCKER) -> int:
    machine, arch = next((machine, arch) for machine, arch, known in ABIS if known == abi)
    program = seccomp.default_filter(machine, capabilities)
    return bpf.run(program, arch, syscalls.table(abi)[name], arguments)


@pytest.mark.parametrize("abi", [abi for _, _, abi in ABIS])
def test_every_abi_allows_the_ordinary_and_refuses_the_dangerous(abi: str) -> None:
    for name in ("read", "write", "futex", "execve", "openat", "ptrace", "statx", "chroot"):
        assert decide(name, abi=abi) == bpf.ALLOW
    for name in ("mount", "unshare", "setns", "bpf", "keyctl", "swapon", "kexec_load", "pivot_root", "io_uring_setup"):
        assert bpf.errno_of(decide(name, abi=abi)) == errno.EPERM
    assert bpf.errno_of(decide("clone3", abi=abi)) == errno.ENOSYS
    assert bpf.errno_of(decide("file_setattr", abi=abi)) == errno.EPERM if abi == "arm" else errno.ENOSYS


def test_capabilities_open_their_calls() -> None:
    for capability, name in (
        ("CAP_SYS_ADMIN", "mount"),
        ("CAP_SYS_ADMIN", "clone3"),
        ("CAP_SYS_ADMIN", "unshare"),
        ("CAP_DAC_READ_SEARCH", "open_by_handle_at"),
        ("CAP_SYS_PTRACE", "kcmp"),
        ("CAP_BPF", "bpf"),
        ("CAP_SYSLOG", "syslog"),
        ("CAP_SYS_TIME", "settimeofday"),
    ):
        assert decide(name) != bpf.ALLOW
        assert decide(name, capabilities=[*DOCKER, capability]) == bpf.ALLOW
    assert decide("chroot", capabilities=[]) != bpf.ALLOW


def test_arguments_are_compared_whole() -> None:
    assert decide("personality", 0x20008) == bpf.ALLOW
    assert decide("personality", 0x20008 | 1 << 32) != bpf.ALLOW
    assert decide("personality", 0xFFFFFFFF) == bpf.ALLOW
    assert decide("personality", 0x4000) != bpf.ALLOW
    assert decide("clone", 17) == bpf.ALLOW
    assert decide("clone", 0x10000000) != bpf.ALLOW
    assert decide("clone", 0x10000000, capabilities=["CAP_SYS_ADMIN"]) == bpf.ALLOW
    # A 32-bit ABI hands over 32 bits.
    assert decide("personality", 0x20008 | 1 << 32, abi="i386") == bpf.ALLOW


def test_socket_families_that_reach_the_host_are_refused() -> None:
    allowed = [family for family in range(64) if decide("socket", family) == bpf.ALLOW]
    assert {1, 2, 10, 16, 17} <= set(allowed)
    assert not {38, 40} & set(allowed), "AF_ALG, AF_VSOCK"


def test_a_foreign_architecture_is_killed() -> None:
    program = seccomp.default_filter("x86_64", DOCKER)
    assert bpf.run(program, bpf.ARM, 1) == bpf.KILL_PROCESS


def test_numbers_beyond_all_tables_do_not_exist() -> None:
    program = seccomp.default_filter("x86_64", DOCKER)
    for number in (1000, 0x3FFFFFFF, 0x40000000 + 1000, 0xFFFFFFFF):
        assert bpf.errno_of(bpf.run(program, bpf.X86_64, number)) == errno.ENOSYS
    assert bpf.errno_of(bpf.run(program, bpf.X86_64, 400)) == errno.EPERM


def test_the_filter_is_small_and_made_once() -> None:
    program = seccomp.default_filter("x86_64", DOCKER)
    assert len(program) // 8 < 1000
    assert seccomp.default_filter("x86_64", list(reversed(DOCKER))) is program


def profile(*entries: dict[str, Any], default: str = "SCMP_ACT_ERRNO", **more: Any) -> dict[str, Any]:
    return {"defaultAction": default, "syscalls": list(entries), **more}


def run(what: dict[str, Any], name: str, *arguments: int) -> int:
    return bpf.run(seccomp.from_profile(what, "x86_64", DOCKER), bpf.X86_64, syscalls.table("x86_64")[name], arguments)


OPERATORS = {
    "SCMP_CMP_NE": lambda a, b: a != b,
    "SCMP_CMP_LT": lambda a, b: a < b,
    "SCMP_CMP_LE": lambda a, b: a <= b,
    "SCMP_CMP_EQ": lambda a, b: a == b,
    "SCMP_CMP_GE": lambda a, b: a >= b,
    "SCMP_CMP_GT": lambda a, b: a > b,
}
WORDS = st.sampled_from([0, 1, 2, 0xFFFFFFFE, 0xFFFFFFFF, 1 << 32, (1 << 32) + 1, (1 << 64) - 1]) | st.integers(
    0, 2**64 - 1
)


@given(st.sampled_from(sorted(OPERATORS)), WORDS, WORDS)
def test_every_operator_compares_64_bits(operator: str, argument: int, value: int) -> None:
    entry = {
        "names": ["read"],
        "action": "SCMP_ACT_ALLOW",
        "args": [{"index": 2, "op": operator, "value": value}, {"index": 1, "op": "SCMP_CMP_EQ", "value": 5}],
    }
    expected = OPERATORS[operator](argument, value)
    assert (run(profile(entry), "read", 0, 5, argument) == bpf.ALLOW) == expected
    assert run(profile(entry), "read", 0, 6, argument) != bpf.ALLOW


@given(WORDS, WORDS, WORDS)
def test_masks_are_applied_to_64_bits(argument: int, mask: int, value: int) -> None:
    comparison = {"index": 0, "op": "SCMP_CMP_MASKED_EQ", "value": mask, "valueTwo": value}
    entry = {"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [comparison]}
    assert (run(profile(entry), "read", argument) == bpf.ALLOW) == (argument & mask == value)


def test_an_argument_compared_twice_means_either() -> None:
    arguments = [{"index": 0, "op": "SCMP_CMP_EQ", "value": value} for value in (3, 9)]
    entry = {"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": arguments}
    assert [run(profile(entry), "read", value) == bpf.ALLOW for value in (3, 9, 4)] == [True, True, False]


def test_a_deny_list_lets_everything_else_through() -> None:
    entry = {"names": ["chmod", "no_such_call"], "action": "SCMP_ACT_ERRNO", "errnoRet": 13}
    what = profile(entry, default="SCMP_ACT_ALLOW")
    assert bpf.errno_of(run(what, "chmod")) == 13
    assert run(what, "mount") == bpf.ALLOW
    assert run(what, "file_getattr") == bpf.ALLOW


def test_the_first_form_of_docker_profiles_is_read() -> None:
    what = profile({"name": "read", "action": "SCMP_ACT_ALLOW"}, architectures=["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"])
    program = seccomp.from_profile(what, "x86_64", ())
    assert bpf.run(program, bpf.I386, syscalls.table("i386")["read"]) == bpf.ALLOW
    assert bpf.run(program, bpf.X86_64, syscalls.table("x86_64")["write"]) != bpf.ALLOW


@pytest.mark.parametrize(
    "what",
    [
        {},
        profile(default="SCMP_ACT_WHATEVER"),
        profile({"names": ["read"], "action": "SCMP_ACT_NOTIFY"}),
        profile(
            {"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 9, "op": "SCMP_CMP_EQ", "value": 1}]}
        ),
        profile({"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "op": "??", "value": 1}]}),
        profile({"names": ["read"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "x"}}),
    ],
)
def test_what_cannot_be_read_is_refused(what: dict[str, Any]) -> None:
    with pytest.raises(LaunchError) as caught:
        seccomp.from_profile(what, "x86_64", ())
    assert caught.value.kind == "invalid"


def test_kernel_versions_and_architectures_choose_entries() -> None:
    entries = [
        {"names": ["read"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "3.0", "arches": ["amd64"]}},
        {"names": ["write"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "999.0"}},
        {"names": ["open"], "action": "SCMP_ACT_ALLOW", "excludes": {"arches": ["amd64"]}},
    ]
    what = profile(*entries)
    assert [run(what, name) == bpf.ALLOW for name in ("read", "write", "open")] == [True, False, False]


def test_no_profile_means_no_filter() -> None:
    assert seccomp.from_config(None, {}) is None
    assert seccomp.from_config({"umiakProfile": "default"}, {"capabilities": {"bounding": DOCKER}})
