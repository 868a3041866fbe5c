"""Seccomp filters: Docker's default profile, and profiles in its JSON format, compiled to classic BPF.

A filter is a binary search over ranges of system call numbers, so that a call costs about eight comparisons. See seccomp(2),
and for the profile's meaning Docker's `profiles/seccomp` and the OCI runtime-spec, config-linux.md, "Seccomp".
"""

from __future__ import annotations

import errno
import os
import struct

from engine.runtime import syscalls
from engine.runtime.steps import invalid

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    Comparison = tuple[int, str, int, int]  # argument, operator, value, second value (of a masked comparison)
    Rule = tuple[tuple[Comparison, ...], int]  # all comparisons must hold; what to return then

_ALLOWED = """
    accept accept4 access adjtimex alarm bind brk cachestat capget capset chdir chmod chown chown32 clock_adjtime
    clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64 clock_nanosleep clock_nanosleep_time64
    close close_range connect copy_file_range creat dup dup2 dup3 epoll_create epoll_create1 epoll_ctl epoll_ctl_old
    epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2 execve execveat exit exit_group faccessat
    faccessat2 fadvise64 fadvise64_64 fallocate fanotify_mark fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat
    fcntl fcntl64 fdatasync fgetxattr flistxattr flock fork fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs
    fstatfs64 fsync ftruncate ftruncate64 futex futex_requeue futex_time64 futex_wait futex_waitv futex_wake futimesat
    get_robust_list get_thread_area getcpu getcwd getdents getdents64 getegid getegid32 geteuid geteuid32 getgid getgid32
    getgroups getgroups32 getitimer getpeername getpgid getpgrp getpid getppid getpriority getrandom getresgid
    getresgid32 getresuid getresuid32 getrlimit getrusage getsid getsockname getsockopt gettid gettimeofday getuid
    getuid32 getxattr getxattrat inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel io_destroy
    io_getevents io_pgetevents io_pgetevents_time64 io_setup io_submit ioctl ioprio_get ioprio_set ipc kill
    landlock_add_rule landlock_create_ruleset landlock_restrict_self lchown lchown32 lgetxattr link linkat listen
    listmount listxattr listxattrat llistxattr _llseek lremovexattr lseek lsetxattr lstat lstat64 madvise
    map_shadow_stack membarrier memfd_create memfd_secret mincore mkdir mkdirat mknod mknodat mlock mlock2 mlockall mmap
    mmap2 mprotect mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend
    mq_timedsend_time64 mq_unlink mremap mseal msgctl msgget msgrcv msgsnd msync munlock munlockall munmap
    name_to_handle_at nanosleep newfstatat _newselect open openat openat2 pause pidfd_open pidfd_send_signal pipe pipe2
    pkey_alloc pkey_free pkey_mprotect poll ppoll ppoll_time64 prctl pread64 preadv preadv2 prlimit64 process_mrelease
    process_vm_readv process_vm_writev pselect6 pselect6_time64 ptrace pwrite64 pwritev pwritev2 read readahead readlink
    readlinkat readv recv recvfrom recvmmsg recvmmsg_time64 recvmsg remap_file_pages removexattr removexattrat rename
    renameat renameat2 restart_syscall rmdir rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn
    rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo sched_get_priority_max sched_get_priority_min
    sched_getaffinity sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64
    sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield seccomp select semctl semget semop
    semtimedop semtimedop_time64 send sendfile sendfile64 sendmmsg sendmsg sendto set_robust_list set_thread_area
    set_tid_address setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups setgroups32 setitimer setpgid
    setpriority setregid setregid32 setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 setrlimit setsid
    setsockopt setuid setuid32 setxattr setxattrat shmat shmctl shmdt shmget shutdown sigaltstack signalfd signalfd4
    sigprocmask sigreturn socketcall socketpair splice stat stat64 statfs statfs64 statmount statx symlink symlinkat sync
    sync_file_range syncfs sysinfo tee tgkill time timer_create timer_delete timer_getoverrun timer_gettime
    timer_gettime64 timer_settime timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime
    timerfd_settime64 times tkill truncate truncate64 ugetrlimit umask uname unlink unlinkat uretprobe utime utimensat
    utimensat_time64 utimes vfork vmsplice wait4 waitid waitpid write writev
"""
_ALLOWED_BY_ARCHITECTURE = (
    (("amd64", "x32"), "arch_prctl modify_ldt"),
    (("arm", "arm64"), "arm_fadvise64_64 arm_sync_file_range sync_file_range2 breakpoint cacheflush set_tls"),
)
_ALLOWED_BY_CAPABILITY = (
    ("CAP_DAC_READ_SEARCH", "open_by_handle_at"),
    ("CAP_SYS_ADMIN", "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie lsm_get_self_attr"),
    ("CAP_SYS_ADMIN", "lsm_list_modules lsm_set_self_attr mount mount_setattr move_mount open_tree perf_event_open"),
    ("CAP_SYS_ADMIN", "quotactl quotactl_fd setdomainname sethostname setns syslog umount umount2 unshare"),
    ("CAP_SYS_BOOT", "reboot"),
    ("CAP_SYS_CHROOT", "chroot"),
    ("CAP_SYS_MODULE", "delete_module init_module finit_module"),
    ("CAP_SYS_PACCT", "acct"),
    ("CAP_SYS_PTRACE", "kcmp pidfd_getfd process_madvise"),
    ("CAP_SYS_RAWIO", "iopl ioperm"),
    ("CAP_SYS_TIME", "settimeofday stime clock_settime clock_settime64"),
    ("CAP_SYS_TTY_CONFIG", "vhangup"),
    ("CAP_SYS_NICE", "get_mempolicy mbind set_mempolicy set_mempolicy_home_node"),
    ("CAP_SYSLOG", "syslog"),
    ("CAP_BPF", "bpf"),
    ("CAP_PERFMON", "perf_event_open"),
)
_DECISIVE_CAPABILITIES = frozenset(capability for capability, _ in _ALLOWED_BY_CAPABILITY)
# PER_LINUX, UNAME26 and PER_LINUX32 with and without it, and the question which one holds.
_PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)
# All that the kernel still has but AF_ALG (its crypto interface) and AF_VSOCK (which reaches the host past the network).
_SOCKET_FAMILIES = (*range(1, 12), *range(13, 19), 21, 22, 24, *range(26, 34), 35, 36, 39, *range(41, 46))
_NEW_NAMESPACE_FLAGS = 0x7E020000

_ABIS = {"x86_64": ("x86_64", "x32", "i386"), "aarch64": ("aarch64", "arm")}
_AUDIT_ARCH = {"x86_64": 0xC000003E, "x32": 0xC000003E, "i386": 0x40000003, "aarch64": 0xC00000B7, "arm": 0x40000028}
_DOCKER_NAMES = {"x86_64": "amd64", "aarch64": "arm64"}
_LIBSECCOMP_NAMES = {
    "SCMP_ARCH_X86_64": "x86_64",
    "SCMP_ARCH_X32": "x32",
    "SCMP_ARCH_X86": "i386",
    "SCMP_ARCH_AARCH64": "aarch64",
    "SCMP_ARCH_ARM": "arm",
}
_32_BIT = ("x32", "i386", "arm")

_RETURN_KILL_PROCESS = 0x80000000
_RETURN_KILL_THREAD = 0x00000000
_RETURN_TRAP = 0x00030000
_RETURN_ERRNO = 0x00050000
_RETURN_TRACE = 0x7FF00000
_RETURN_LOG = 0x7FFC0000
_RETURN_ALLOW = 0x7FFF0000
_ACTIONS = {
    "SCMP_ACT_ALLOW": _RETURN_ALLOW,
    "SCMP_ACT_ERRNO": _RETURN_ERRNO,
    "SCMP_ACT_KILL": _RETURN_KILL_THREAD,
    "SCMP_ACT_KILL_THREAD": _RETURN_KILL_THREAD,
    "SCMP_ACT_KILL_PROCESS": _RETURN_KILL_PROCESS,
    "SCMP_ACT_TRAP": _RETURN_TRAP,
    "SCMP_ACT_TRACE": _RETURN_TRACE,
    "SCMP_ACT_LOG": _RETURN_LOG,
}
_OPERATORS = ("NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ")

_cache: dict[tuple[str, frozenset[str]], bytes] = {}


def from_config(profile: Mapping[str, Any] | None, settings: Mapping[str, Any]) -> bytes | None:
    """Return the filter for an OCI `linux.seccomp` and `process`; None for none.

    `{"umiakProfile": "default"}` stands for the default profile, which depends on the process's capabilities.
    """
    if profile is None:
        return None
    capabilities = (settings.get("capabilities") or {}).get("bounding") or ()
    machine = os.uname().machine
    if profile.get("umiakProfile") == "default":
        return default_filter(machine, capabilities)
    return from_profile(profile, machine, capabilities)


def as_oci(profile: Mapping[str, Any] | None, settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return an OCI `linux.seccomp` that says for this machine and process what ours or Docker's profile says in general."""
    if profile is None:
        return None
    if profile.get("umiakProfile") == "default":
        profile = default_profile()
    arch = os.uname().machine
    capabilities = frozenset((settings.get("capabilities") or {}).get("bounding") or ())
    names = {abi: name for name, abi in _LIBSECCOMP_NAMES.items()}
    kept = ("defaultAction", "defaultErrnoRet", "flags", "listenerPath", "listenerMetadata")
    rules = [entry for entry in profile.get("syscalls") or () if _applies(entry, arch, capabilities)]
    return {
        **{key: profile[key] for key in kept if key in profile},
        "architectures": [names[abi] for abi in _abis(profile, arch)],
        "syscalls": [_oci_rule(rule) for rule in rules],
    }


def _oci_rule(entry: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: entry[key] for key in ("action", "errnoRet", "args") if entry.get(key) is not None}
    return {"names": entry.get("names") or [entry["name"]], **kept}


def default_filter(arch: str, capabilities: Iterable[str]) -> bytes:
    """Return Docker's default profile for a process with these capabilities, compiled for the machine `arch`.

    Only the capabilities that matter to the profile tell filters apart; each is made once.
    """
    key = (arch, _DECISIVE_CAPABILITIES.intersection(capabilities))
    if key not in _cache:
        _cache[key] = from_profile(default_profile(), arch, key[1])
    return _cache[key]


def preload() -> None:
    """Make the filter that most containers get, so that a zygote has it ready for all its monitors."""
    default_filter(os.uname().machine, ("CAP_SYS_CHROOT",))


def default_profile() -> dict[str, Any]:
    """Return the default profile in Docker's own format."""
    allow = "SCMP_ACT_ALLOW"
    rules: list[dict[str, Any]] = [{"names": _ALLOWED.split(), "action": allow}]
    for arches, names in _ALLOWED_BY_ARCHITECTURE:
        rules.append({"names": names.split(), "action": allow, "includes": {"arches": list(arches)}})
    for capability, names in _ALLOWED_BY_CAPABILITY:
        rules.append({"names": names.split(), "action": allow, "includes": {"caps": [capability]}})
    for name, values in (("personality", _PERSONALITIES), ("socket", _SOCKET_FAMILIES)):
        for value in values:
            rules.append(
                {"names": [name], "action": allow, "args": [{"index": 0, "value": value, "op": "SCMP_CMP_EQ"}]}
            )
    flags = {"index": 0, "value": _NEW_NAMESPACE_FLAGS, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}
    without = {"caps": ["CAP_SYS_ADMIN"]}
    rules.append({"names": ["clone"], "action": allow, "args": [flags], "excludes": without})
    # clone3's flags are behind a pointer. ENOSYS makes libc fall back to clone.
    rules.append({"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno.ENOSYS, "excludes": without})
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": errno.EPERM,
        "archMap": [
            {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X32", "SCMP_ARCH_X86"]},
            {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]},
        ],
        "syscalls": rules,
    }


def from_profile(profile: Mapping[str, Any], arch: str, capabilities: Iterable[str]) -> bytes:
    """Compile a profile in Docker's (or OCI's) JSON format for the machine `arch`; InvalidInput as a LaunchError.

    As with runc, system calls newer than any that the profile mentions give ENOSYS, so that programs fall back to older ones.
    """
    if arch not in _ABIS:
        raise invalid("Seccomp", f"no seccomp filter can be made for the architecture {arch}", "use seccomp=unconfined")
    default = _action(profile.get("defaultAction"), profile.get("defaultErrnoRet"))
    entries = [entry for entry in profile.get("syscalls") or () if _applies(entry, arch, frozenset(capabilities))]
    by_name = _rules_by_name(entries, default)
    sections: dict[int, list[tuple[int, bytes]]] = {}
    for abi in _abis(profile, arch):
        sections.setdefault(_AUDIT_ARCH[abi], []).extend(_ranges(by_name, abi, default))
    return _assemble(sections)


def _applies(entry: Mapping[str, Any], arch: str, capabilities: frozenset[str]) -> bool:
    """Tell whether the entry's `includes` and `excludes` hold for this machine, kernel and set of capabilities."""
    includes, excludes = entry.get("includes") or {}, entry.get("excludes") or {}
    name = _DOCKER_NAMES[arch]
    if (includes.get("arches") and name not in includes["arches"]) or name in (excludes.get("arches") or ()):
        return False
    if not set(includes.get("caps") or ()) <= capabilities or capabilities & set(excludes.get("caps") or ()):
        return False
    if includes.get("minKernel") and _kernel_version() < _version(includes["minKernel"]):
        return False
    return not (excludes.get("minKernel") and _kernel_version() >= _version(excludes["minKernel"]))


def _kernel_version() -> tuple[int, ...]:
    return _version(os.uname().release)


def _version(text: str) -> tuple[int, ...]:
    """Return the first two numbers of "6.1.0-13-amd64"."""
    parts = text.replace("-", ".").split(".")[:2]
    if not all(part.isdigit() for part in parts):
        raise invalid("Seccomp", f'cannot read "{text}" as a kernel version')
    return tuple(int(part) for part in parts)


def _abis(profile: Mapping[str, Any], arch: str) -> list[str]:
    """Return the ABIs that the profile covers: the machine's own first."""
    names = [arch]
    for entry in profile.get("archMap") or ():
        if _LIBSECCOMP_NAMES.get(entry.get("architecture")) == arch:
            names += [_LIBSECCOMP_NAMES.get(name, "") for name in entry.get("subArchitectures") or ()]
    names += [_LIBSECCOMP_NAMES.get(name, "") for name in profile.get("architectures") or ()]
    # x32 follows x86_64, whose section it shares.
    return [abi for abi in _ABIS[arch] if abi in names]


def _action(name: Any, errno_return: int | None) -> int:
    if name not in _ACTIONS:
        raise invalid("Seccomp", f'the seccomp action "{name}" is not known here', "known: " + ", ".join(_ACTIONS))
    action = _ACTIONS[name]
    if action in (_RETURN_ERRNO, _RETURN_TRACE):
        action |= (errno.EPERM if errno_return is None else errno_return) & 0xFFFF
    return action


def _rules_by_name(entries: Iterable[Mapping[str, Any]], default: int) -> dict[str, list[Rule]]:
    result: dict[str, list[Rule]] = {}
    for entry in entries:
        action = _action(entry.get("action"), entry.get("errnoRet"))
        alternatives = _alternatives(entry.get("args") or ())
        for name in entry.get("names") or ([entry["name"]] if entry.get("name") else ()):
            rules = result.setdefault(name, [])
            if action != default:
                rules += [(comparisons, action) for comparisons in alternatives]
    return result


def _alternatives(arguments: Sequence[Mapping[str, Any]]) -> list[tuple[Comparison, ...]]:
    """Return what must hold: everything, unless one argument is compared twice: then, as in runc, any one of them."""
    comparisons: list[Comparison] = []
    for argument in arguments:
        operator = str(argument.get("op", "")).removeprefix("SCMP_CMP_")
        index = argument.get("index")
        if operator not in _OPERATORS or not isinstance(index, int) or not 0 <= index <= 5:
            raise invalid("Seccomp", f"cannot read {dict(argument)} as a comparison of a system call's argument")
        comparisons.append((index, operator, int(argument.get("value") or 0), int(argument.get("valueTwo") or 0)))
    if len({comparison[0] for comparison in comparisons}) < len(comparisons):
        return [(comparison,) for comparison in comparisons]
    return [tuple(comparisons)]


def _ranges(by_name: Mapping[str, Sequence[Rule]], abi: str, default: int) -> list[tuple[int, bytes]]:
    """Return (first number, code that decides) in ascending order; each holds up to the next one's first."""
    numbers = syscalls.table(abi)
    codes = {
        numbers[name]: _decide(rules, default, abi in _32_BIT) for name, rules in by_name.items() if name in numbers
    }
    fallback = _return(default)
    start = syscalls.X32_BIT if abi == "x32" else 0
    ranges = [(start, fallback)]
    for number in sorted(codes):
        _extend(ranges, number, codes[number])
        _extend(ranges, number + 1, fallback)
    if codes and default & 0xFFFF0000 not in (_RETURN_ALLOW, _RETURN_LOG, _RETURN_TRACE):
        _extend(ranges, max(codes) + 1, _return(_RETURN_ERRNO | errno.ENOSYS))
    return ranges


def _extend(ranges: list[tuple[int, bytes]], first: int, code: bytes) -> None:
    if ranges and ranges[-1][0] == first:
        ranges.pop()
    if not ranges or ranges[-1][1] != code:
        ranges.append((first, code))


# Classic BPF, linux/filter.h. The accumulator holds one 32-bit word of struct seccomp_data at a time.
_LOAD = 0x20
_AND = 0x54
_JUMP = 0x05
_JUMP_EQUAL = 0x15
_JUMP_GREATER = 0x25
_JUMP_GREATER_EQUAL = 0x35
_RETURN = 0x06
_NUMBER_OFFSET = 0
_ARCH_OFFSET = 4
_ARGUMENTS_OFFSET = 16
_FARTHEST = 255


def _instruction(code: int, constant: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, constant)


def _return(action: int) -> bytes:
    return _instruction(_RETURN, action)


def _assemble(sections: Mapping[int, Sequence[tuple[int, bytes]]]) -> bytes:
    program = _instruction(_LOAD, _ARCH_OFFSET)
    for audit_arch, ranges in sections.items():
        body = _instruction(_LOAD, _NUMBER_OFFSET) + _search(ranges)
        program += _instruction(_JUMP_EQUAL, audit_arch, 1, 0) + _instruction(_JUMP, len(body) // 8) + body
    return program + _return(_RETURN_KILL_PROCESS)


def _search(ranges: Sequence[tuple[int, bytes]]) -> bytes:
    if len(ranges) == 1:
        return ranges[0][1]
    middle = len(ranges) // 2
    below, above = _search(ranges[:middle]), _search(ranges[middle:])
    distance = len(below) // 8
    if distance <= _FARTHEST:
        return _instruction(_JUMP_GREATER_EQUAL, ranges[middle][0], distance, 0) + below + above
    far = _instruction(_JUMP_GREATER_EQUAL, ranges[middle][0], 0, 1) + _instruction(_JUMP, distance)
    return far + below + above


def _decide(rules: Sequence[Rule], default: int, is_32_bit: bool) -> bytes:
    """Return the code for one system call: an unconditional rule wins, else the first whose comparisons all hold."""
    for comparisons, action in rules:
        if not comparisons:
            return _return(action)
    one_of = _values(rules)
    if one_of:
        return _any_of(rules[0][0][0][0], one_of, rules[0][1], is_32_bit) + _return(default)
    code = b""
    for comparisons, action in rules:
        alternative = _return(action)
        for comparison in reversed(comparisons):
            alternative = _test(comparison, len(alternative) // 8, is_32_bit) + alternative
        code += alternative
    return code + _return(default)


def _values(rules: Sequence[Rule]) -> list[int]:
    """Return the values if all that the rules say is "this argument is one of them": common, and shorter in one go."""
    heads = {(comparisons[0][:2], action, len(comparisons)) for comparisons, action in rules}
    values = [comparisons[0][2] for comparisons, _ in rules]
    if len(heads) != 1 or next(iter(heads))[0][1] != "EQ" or next(iter(heads))[2] != 1:
        return []
    return (
        values if len(values) > 1 and len(values) < _FARTHEST - 4 and all(value >> 32 == 0 for value in values) else []
    )


def _any_of(index: int, values: Sequence[int], action: int, is_32_bit: bool) -> bytes:
    code = _instruction(_LOAD, _ARGUMENTS_OFFSET + 8 * index)
    last = len(values) - 1
    for position, value in enumerate(values):
        code += _instruction(_JUMP_EQUAL, value, last - position, int(position == last))
    code += _return(action)
    if is_32_bit:
        return code
    high_is_zero = _instruction(_JUMP_EQUAL, 0, 0, len(code) // 8)
    return _instruction(_LOAD, _ARGUMENTS_OFFSET + 8 * index + 4) + high_is_zero + code


def _test(comparison: Comparison, skip: int, is_32_bit: bool) -> bytes:
    """Return code that jumps over `skip` instructions when the comparison fails. Arguments are two words, the low one first."""
    index, operator, value, second = comparison
    low_offset = _ARGUMENTS_OFFSET + 8 * index
    low, high = value & 0xFFFFFFFF, value >> 32 & 0xFFFFFFFF
    if operator == "MASKED_EQ":
        code = _masked(low_offset, low, second & 0xFFFFFFFF, skip)
        return code if is_32_bit else _masked(low_offset + 4, high, second >> 32 & 0xFFFFFFFF, skip + 3) + code
    load = _instruction(_LOAD, low_offset)
    jump, wanted = {
        "EQ": (_JUMP_EQUAL, True),
        "NE": (_JUMP_EQUAL, False),
        "GE": (_JUMP_GREATER_EQUAL, True),
        "LT": (_JUMP_GREATER_EQUAL, False),
        "GT": (_JUMP_GREATER, True),
        "LE": (_JUMP_GREATER, False),
    }[operator]
    code = load + _instruction(jump, low, *((0, skip) if wanted else (skip, 0)))
    return code if is_32_bit else _high_word(low_offset + 4, high, jump, wanted, skip) + code


def _masked(offset: int, mask: int, value: int, skip: int) -> bytes:
    return _instruction(_LOAD, offset) + _instruction(_AND, mask) + _instruction(_JUMP_EQUAL, value, 0, skip)


def _high_word(offset: int, high: int, jump: int, wanted: bool, skip: int) -> bytes:
    """Decide by the high word if it differs from the value's; if it does not, fall through to the two instructions for the low one."""
    success, failure = 2, 2 + skip
    load = _instruction(_LOAD, offset)
    if jump == _JUMP_EQUAL:
        return load + _instruction(_JUMP_EQUAL, high, 0, failure if wanted else success)
    above = _instruction(_JUMP_GREATER, high, (success if wanted else failure) + 1, 0)
    return load + above + _instruction(_JUMP_EQUAL, high, 0, failure if wanted else success)
