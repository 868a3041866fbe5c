"""What a container uses, at one moment: its cgroup's counters, its network interfaces' counters, its processes."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from engine.kernel import procfs
from engine.runtime.cgroup import Cgroup
from engine.types import EndpointInfo

NO_LIMIT_FROM = 1 << 60
"""cgroup v1 tells "no limit" as the largest page-aligned number."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Counters since the container's start (`cpu_ns`, network, I/O) and amounts at `time` (monotonic, in seconds).

    Memory is counted without file cache that can be dropped at once, as Docker counts it; its limit is the host's where the
    container has none. `processes_limit` None: no limit.
    """

    time: float
    cpu_ns: int
    memory_bytes: int
    memory_limit_bytes: int
    network_received_bytes: int
    network_sent_bytes: int
    io_read_bytes: int
    io_written_bytes: int
    processes: int
    processes_limit: int | None

    def cpu_percent_since(self, earlier: Usage) -> float:
        """How busy it was between two moments, in percent of one CPU."""
        elapsed_ns = (self.time - earlier.time) * 1e9
        return max(self.cpu_ns - earlier.cpu_ns, 0) / elapsed_ns * 100 if elapsed_ns > 0 else 0.0

    @property
    def memory_percent(self) -> float:
        """Memory in percent of its limit."""
        return self.memory_bytes / self.memory_limit_bytes * 100 if self.memory_limit_bytes else 0.0


@dataclass(frozen=True, slots=True)
class Process:
    """A process of a container as the host sees it, in the columns of `ps -ef`."""

    user: str
    pid: int
    ppid: int
    cpu: int
    started: str
    terminal: str
    time: str
    command: str


def measure(cgroup: Cgroup, endpoints: Iterable[EndpointInfo]) -> Usage:
    """Read all counters. What the host does not tell counts as 0."""
    stats = cgroup.stats()
    value = {key: number or 0 for key, number in stats.items()}
    received, sent = _network(endpoints)
    limit = stats.get("memory_limit_bytes")
    return Usage(
        time=time.monotonic(),
        cpu_ns=value["cpu_usage_ns"],
        memory_bytes=max(value["memory_usage_bytes"] - value["memory_cache_bytes"], 0),
        memory_limit_bytes=_host_memory() if limit is None or limit >= NO_LIMIT_FROM else min(limit, _host_memory()),
        network_received_bytes=received,
        network_sent_bytes=sent,
        io_read_bytes=value["io_read_bytes"],
        io_written_bytes=value["io_write_bytes"],
        processes=value["pids_current"],
        processes_limit=stats.get("pids_limit"),
    )


def _network(endpoints: Iterable[EndpointInfo]) -> tuple[int, int]:
    """Bytes received and sent, read at the host's ends of the veth pairs: what one end sends the other receives."""
    received = sent = 0
    for endpoint in endpoints:
        received += _counter(f"/sys/class/net/{endpoint.link}/statistics/tx_bytes")
        sent += _counter(f"/sys/class/net/{endpoint.link}/statistics/rx_bytes")
    return received, sent


def _counter(path: str) -> int:
    try:
        with open(path) as file:
            return int(file.read())
    except (OSError, ValueError):
        return 0


def _host_memory() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def processes(pids: Sequence[int]) -> Iterator[Process]:
    """Describe processes, in the order given. One that has ended meanwhile is left out."""
    booted_at = time.time() - procfs.age_s(0)
    names: dict[int, str] = {}
    for pid in pids:
        try:
            yield _process(pid, booted_at, names)
        except (OSError, IndexError, ValueError):
            continue


def _process(pid: int, booted_at: float, names: dict[int, str]) -> Process:
    """Read /proc/PID/stat and cmdline. proc(5)."""
    with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
        before, _, after = file.read().rpartition(")")
    fields = after.split()
    with open(f"/proc/{pid}/cmdline", encoding="utf-8", errors="replace") as file:
        arguments = file.read().rstrip("\0").replace("\0", " ")
    ticks = os.sysconf("SC_CLK_TCK")
    cpu_s = (int(fields[11]) + int(fields[12])) / ticks
    age_s = procfs.age_s(int(fields[19]))
    started_at = booted_at + int(fields[19]) / ticks
    uid = os.stat(f"/proc/{pid}").st_uid
    if uid not in names:
        names[uid] = _user_name(uid)
    return Process(
        user=names[uid],
        pid=pid,
        ppid=int(fields[1]),
        cpu=int(cpu_s * 100 / max(age_s, 0.001)),
        started=_start_time(started_at),
        terminal=_terminal(int(fields[4])),
        time=_cpu_time(int(cpu_s)),
        command="".join(c if c.isprintable() else "?" for c in arguments) or f"[{before.partition('(')[2]}]",
    )


def _user_name(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _start_time(moment: float) -> str:
    """`15:04` within a day, else `Nov24`. ps(1), STIME."""
    age = time.time() - moment
    return time.strftime("%H:%M" if age < 86400 else "%b%d", time.localtime(moment))


def _terminal(number: int) -> str:
    """The terminal's name by its device number, `?` where the process has none. proc(5), tty_nr."""
    major, minor = number >> 8 & 0xFFF, number & 0xFF | number >> 12 & 0xFFF00
    if 136 <= major <= 143:
        return f"pts/{(major - 136) * 256 + minor}"
    return f"tty{minor}" if major == 4 else "?"


def _cpu_time(seconds: int) -> str:
    days, rest = divmod(seconds, 86400)
    text = f"{rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}"
    return f"{days}-{text}" if days else text
