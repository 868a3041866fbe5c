"""The default filter, really loaded: what it lets through, refuses, and pretends not to know."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import platform
import socket

import pytest

from engine.kernel import process
from engine.kernel.libc import libc
from engine.runtime import seccomp, syscalls
from tests.kernel.launcher import CAPABILITIES

pytestmark = pytest.mark.needs("root", "seccomp")

MACHINE = platform.machine()


def under_filter(name: str, *arguments: int, capabilities: list[str] = CAPABILITIES) -> int:
    """Make a system call in a process under the default filter and return its errno, 0 if it worked."""
    program = seccomp.default_filter(MACHINE, capabilities)
    number = syscalls.table(MACHINE)[name]
    return in_child(program, lambda: libc.syscall(ctypes.c_long(number), *(ctypes.c_long(a) for a in arguments)))


def in_child(program: bytes, work: object) -> int:
    pid, pidfd = process.clone3(0)
    if pid == 0:
        try:
            process.load_seccomp_filter(program)
            ctypes.set_errno(0)
            result = work()  # type: ignore[operator]
            os._exit(ctypes.get_errno() if result < 0 else 0)
        except OSError as error:
            os._exit(error.errno or 255)
        finally:
            os._exit(255)
    code = process.wait_exit(pidfd)
    os.close(pidfd)
    assert code is not None
    return code


def test_ordinary_calls_work() -> None:
    for name in ("getpid", "sched_yield", "gettid", "getuid"):
        assert under_filter(name) == 0


@pytest.mark.parametrize(
    "name",
    ["mount", "umount2", "unshare", "setns", "reboot", "init_module", "bpf", "keyctl", "add_key", "io_uring_setup"],
)
def test_dangerous_calls_are_refused(name: str) -> None:
    assert under_filter(name, 0, 0, 0, 0, 0) == errno.EPERM


def test_clone3_and_calls_newer_than_the_profile_do_not_exist() -> None:
    # EPERM would make libc give up, where ENOSYS makes it use what is older.
    assert under_filter("clone3", 0, 0) == errno.ENOSYS
    assert under_filter("file_getattr", 0, 0, 0, 0, 0) == errno.ENOSYS


def test_a_capability_brings_its_calls() -> None:
    # EFAULT and EINVAL come from the kernel's own look at the arguments: the filter has let them pass.
    privileged = [*CAPABILITIES, "CAP_SYS_ADMIN"]
    assert under_filter("mount", 1, 1, 1, 0, 0, capabilities=privileged) == errno.EFAULT
    assert under_filter("clone3", 0, 0, capabilities=privileged) == errno.EINVAL
    assert under_filter("setns", -1, 0, capabilities=privileged) == errno.EBADF


def test_clone_may_not_make_namespaces() -> None:
    new_user = process.CLONE_NEWUSER
    assert under_filter("clone", new_user | 17, 0, 0, 0, 0) == errno.EPERM
    assert under_filter("clone", 1 << 40 | new_user | 17, 0, 0, 0, 0) == errno.EPERM


def test_only_harmless_personalities_can_be_taken() -> None:
    assert under_filter("personality", 0xFFFFFFFF) == 0
    assert under_filter("personality", 0) == 0
    assert under_filter("personality", 0x0040000) == errno.EPERM  # ADDR_NO_RANDOMIZE


def test_socket_families() -> None:
    assert under_filter("socket", socket.AF_INET, socket.SOCK_STREAM, 0) == 0
    assert under_filter("socket", socket.AF_UNIX, socket.SOCK_STREAM, 0) == 0
    assert under_filter("socket", socket.AF_VSOCK, socket.SOCK_STREAM, 0) == errno.EPERM
    assert under_filter("socket", socket.AF_ALG, socket.SOCK_SEQPACKET, 0) == errno.EPERM


# mov ebx, …; mov eax, number; int 0x80; then the result is returned in eax. See syscall(2), "i386".
def i386_call(number: int, first: int) -> int:
    code = b"\x53\xbb" + first.to_bytes(4, "little") + b"\xb8" + number.to_bytes(4, "little") + b"\xcd\x80\x5b\xc3"
    page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(code)
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    return int(ctypes.CFUNCTYPE(ctypes.c_int)(address)())


@pytest.mark.skipif(MACHINE != "x86_64", reason="int 0x80 is an x86 thing")
def test_32_bit_calls_are_under_the_same_rules() -> None:
    program = seccomp.default_filter(MACHINE, CAPABILITIES)
    numbers = syscalls.table("i386")

    def call(name: str, first: int = 0) -> int:
        def work() -> int:
            result = i386_call(numbers[name], first)
            ctypes.set_errno(-result if result < 0 else 0)
            return result

        return in_child(program, work)

    if call("getpid") == errno.ENOSYS:
        pytest.skip("this kernel has no 32-bit calls")
    assert call("getpid") == 0
    assert call("unshare", process.CLONE_NEWNS) == errno.EPERM
    assert call("personality", 0xFFFFFFFF) == 0
    assert call("personality", 0x0040000) == errno.EPERM
    assert call("clone3") == errno.ENOSYS


def test_the_x32_abi_is_no_way_round() -> None:
    if MACHINE != "x86_64":
        pytest.skip("x32 is an x86 thing")
    program = seccomp.default_filter(MACHINE, CAPABILITIES)
    number = syscalls.table("x32")["mount"]
    assert in_child(program, lambda: libc.syscall(ctypes.c_long(number), 0, 0, 0, 0, 0)) == errno.EPERM
