"""What a container's first process can see of its surroundings: a table of properties and the shell that reads each."""

from __future__ import annotations

from typing import NamedTuple


class Property(NamedTuple):
    """`read` is a line of busybox shell; `fixed` says that the value is the same on every host, and so belongs into the document."""

    group: str
    name: str
    read: str
    fixed: bool = True


FUNCTIONS = r"""
# By the shell itself: while it waits for a child it blocks signals of its own accord.
while read -r key value; do [ "$key" = SigBlk: ] && blocked=$value; done < /proc/1/status
mount_of() { awk -v p="$1" '$5 == p { for (i = 7; $i != "-"; i++); t = $(i + 1) " " $6
  for (j = 7; j < i; j++) { f = $j; sub(/:.*/, "", f); t = t " " f } } END { print t }' /proc/1/mountinfo; }
size_of() { awk -v p="$1" '$5 == p { s = $NF } END { n = split(s, o, ","); for (i = 1; i <= n; i++)
  if (o[i] ~ /^(size|mode|gid|ptmxmode|nr_inodes)=/) printf "%s ", o[i] }' /proc/1/mountinfo; }
of() { awk -v k="$1:" '$1 == k { $1 = ""; sub(/^ /, ""); print }' /proc/1/status; }
limit() { awk -v k="$1" 'index($0, k) == 1 { print $(NF - 2), $(NF - 1) }' /proc/1/limits; }
fails() { if "$@" > /dev/null 2>&1; then echo allowed; else echo refused; fi; }
hidden() { if [ -d "$1" ]; then [ -z "$(ls -A "$1")" ] && echo hidden || echo visible
  elif [ -e "$1" ]; then [ -z "$(head -c 1 "$1" 2> /dev/null)" ] && echo hidden || echo visible; else echo hidden; fi; }
own_or_host() { [ "$(readlink "/proc/1/ns/$1")" = "$2" ] && echo host || echo own; }
any() { for f in "$@"; do [ -e "$f" ] && { cat "$f"; return; }; done; echo none; }
node() { stat -c '%F %a %u:%g %t:%T' "$1"; }
"""

_NAMESPACES = ("pid", "net", "ipc", "uts", "mnt", "cgroup", "user")
_MOUNTS = (
    *("/", "/proc", "/dev", "/dev/pts", "/dev/mqueue", "/dev/shm", "/sys", "/sys/fs/cgroup"),
    *("/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/probe", "/data", "/scratch"),
)
_KERNEL_MOUNTS = ("/", "/proc", "/dev", "/dev/pts", "/dev/mqueue", "/dev/shm", "/sys", "/scratch")
"""What is mounted there is the same on every host."""
_MASKED = (
    *("/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats"),
    *("/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats", "/sys/firmware"),
    "/sys/devices/virtual/powercap",
)
_READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
_STATUS = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs")
_LIMITS = (
    *("Max cpu time", "Max file size", "Max data size", "Max stack size", "Max core file size", "Max resident set"),
    *("Max processes", "Max open files", "Max locked memory", "Max address space", "Max file locks"),
    *("Max pending signals", "Max msgqueue size", "Max nice priority", "Max realtime priority", "Max realtime timeout"),
)
_SET_LIMITS = ("Max core file size", "Max open files")
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty", "pts/ptmx")

PROPERTIES = (
    *(Property("namespaces", kind, f'own_or_host {kind} "$HOST_{kind}"') for kind in _NAMESPACES),
    Property("namespaces", "interfaces", "ls /sys/class/net"),
    Property("namespaces", "hostname", "hostname"),
    Property("namespaces", "domain name", "cat /proc/sys/kernel/domainname"),
    *(Property("mounts", path, f"mount_of {path}", path in _KERNEL_MOUNTS) for path in _MOUNTS),
    *(
        Property("mounts", f"{path}: size and mode", f"size_of {path}", False)
        for path in ("/dev", "/dev/pts", "/dev/shm", "/scratch")
    ),
    Property("mounts", "others", "awk '{ print $5 }' /proc/1/mountinfo | sort -u | wc -l", False),
    *(Property("hidden and read-only", path, f"hidden {path}") for path in _MASKED),
    *(
        Property("hidden and read-only", path, f"mount_of {path} | cut -d , -f 1", path != "/proc/sysrq-trigger")
        for path in _READ_ONLY
    ),
    Property("hidden and read-only", "write to a sysctl", "fails sh -c 'echo 1 > /proc/sys/kernel/panic'"),
    *(Property("capabilities", name, f"of {name}") for name in _STATUS),
    Property("capabilities", "securebits", "of Securebits", False),
    Property("seccomp", "mode", "of Seccomp"),
    Property("seccomp", "mount", "fails mount -t tmpfs none /tmp"),
    Property("seccomp", "unshare", "fails unshare -m true"),
    Property("seccomp", "chroot", "fails chroot / /bin/true"),
    Property("seccomp", "set the clock", "date -s 2020-01-01 2>&1 | grep -q permitted && echo refused || echo allowed"),
    Property("seccomp", "kernel log", "fails dmesg"),
    Property("seccomp", "personality", "cat /proc/1/personality"),
    *(Property("resource limits", name[4:], f"limit '{name}'", name in _SET_LIMITS) for name in _LIMITS),
    *(Property("devices", f"/dev/{name}", f"node /dev/{name}", name != "pts/ptmx") for name in _DEVICES),
    Property("devices", "all of /dev", "ls /dev"),
    *(
        Property("devices", f"/dev/{name}", f"readlink /dev/{name}")
        for name in ("fd", "stdin", "stdout", "stderr", "ptmx", "core")
    ),
    Property("devices", "write to /dev/null", "fails sh -c 'echo > /dev/null'"),
    Property("devices", "make a node", "fails mknod /tmp/node b 8 0"),
    Property("environment", "names", "env | cut -d = -f 1 | sort"),
    *(Property("environment", name, f"echo ${name}") for name in ("PATH", "HOME", "HOSTNAME", "GREETING", "TERM")),
    Property("signals", "SigBlk at exec", "echo $blocked"),
    *(Property("signals", f"{name} at exec", f"of {name}") for name in ("SigIgn", "ShdPnd")),
    Property("cgroup", "what /proc/1/cgroup shows", "cut -d : -f 3 /proc/1/cgroup | sort -u"),
    Property("cgroup", "entries", "ls /sys/fs/cgroup | head -n 4", False),
    Property("cgroup", "memory limit", "any /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes"),
    Property("cgroup", "pids limit", "any /sys/fs/cgroup/pids.max /sys/fs/cgroup/pids/pids.max"),
    Property("cgroup", "CPU limit", "any /sys/fs/cgroup/cpu.max /sys/fs/cgroup/cpu/cpu.cfs_quota_us | cut -d ' ' -f 1"),
    Property("cgroup", "make a child", "d=/sys/fs/cgroup/pids; [ -d $d ] || d=/sys/fs/cgroup; fails mkdir $d/x"),
    Property("user and groups", "user", "of Uid"),
    Property("user and groups", "group", "of Gid"),
    Property("user and groups", "further groups", "of Groups"),
    Property("user and groups", "umask", "umask"),
    Property("process", "working directory", "readlink /proc/1/cwd"),
    Property("process", "program", "readlink /proc/1/exe"),
    Property("process", "arguments", "tr '\\0' ' ' < /proc/1/cmdline"),
    Property("process", "parent, group, session", "awk '{ print $4, $5, $6 }' /proc/1/stat"),
    Property("process", "terminal", "awk '{ print $7 }' /proc/1/stat"),
    Property("process", "nice value", "awk '{ print $19 }' /proc/1/stat", False),
    Property("process", "scheduling policy", "awk '{ print $41 }' /proc/1/stat"),
    Property("process", "OOM score adjustment", "cat /proc/1/oom_score_adj"),
    Property("process", "descriptors", "ls /proc/1/fd 2> /dev/null | head -n 3"),  # it says of pipes that they are gone
    Property("process", "input", "readlink /proc/1/fd/0"),
    Property("process", "output", "readlink /proc/1/fd/1 | cut -c 1-5", False),
    Property("process", "threads", "of Threads"),
    Property("process", "CPUs allowed", "of Cpus_allowed_list", False),
    Property("sysctls", "ip_default_ttl", "cat /proc/sys/net/ipv4/ip_default_ttl"),
    Property("sysctls", "ip_unprivileged_port_start", "cat /proc/sys/net/ipv4/ip_unprivileged_port_start"),
    Property("sysctls", "ping_group_range", "cat /proc/sys/net/ipv4/ping_group_range"),
    Property("sysctls", "forwarding", "cat /proc/sys/net/ipv4/ip_forward", False),
)


def script() -> str:
    """Return the shell script that prints each property's key and value, a line each."""
    lines = [
        f"printf '%s\\t' '{each.group}: {each.name}'; {{ {each.read}; }} 2>&1 | tr '\\n' ' '; echo"
        for each in PROPERTIES
    ]
    return FUNCTIONS + "\n".join(lines) + "\n"
