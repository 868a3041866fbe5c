"""Is the container's service well? `Checkup` decides (pure), `Prober` runs the probes.

While a container is starting, it is probed at once and then often (50 ms, growing to at most 1 s), whatever its `interval` says,
so that what waits for it goes on within milliseconds. Those extra probes can only bring good news: their failures never count
towards `retries`. The probes due at each `interval` count as they do in Docker. A file that sets `start_interval`, and `strict`,
get Docker's timing exactly.
"""

from __future__ import annotations

import os
import signal
import time

from engine.kernel.process import wait_exit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from engine.runtime.loop import Loop, Timer

    Spawn = Callable[[list[str], tuple[int, int, int]], tuple[int, int]]

FIRST_EXTRA_S = 0.05
EXTRA_GROWTH = 1.5
LAST_EXTRA_S = 1.0
LOG_ENTRIES = 5
OUTPUT_BYTES = 4096
# A due probe this close is taken instead of an extra one.
SLACK_S = 0.001


class Checkup:
    """The state of health of one run of a container, and when to probe next. Times are on one clock of the caller's choice."""

    __slots__ = (
        "_adaptive",
        "_due_real",
        "_extra_s",
        "_interval_s",
        "_real",
        "_retries",
        "_start_interval_s",
        "_start_period_s",
        "_started",
        "failing_streak",
        "log",
        "next_probe",
        "state",
    )

    def __init__(self, config: Mapping[str, Any], now: float) -> None:
        self._interval_s: float = config["interval_s"]
        self._retries: int = max(config["retries"], 1)
        self._start_period_s: float = config["start_period_s"]
        self._start_interval_s: float | None = config["start_interval_s"]
        self._adaptive = not config.get("strict") and self._start_interval_s is None
        self._extra_s = FIRST_EXTRA_S
        self._started = now
        self._real = True
        self.state = "starting"
        self.failing_streak = 0
        self.log: list[dict[str, Any]] = []
        self._due_real = now + self._docker_interval(now)
        self.next_probe = now if self._adaptive else self._due_real

    def _docker_interval(self, now: float) -> float:
        # Docker obeys start_interval (5 s unless set) only within the start period.
        if self.state == "starting" and now - self._started < self._start_period_s and not self._adaptive:
            return 5.0 if self._start_interval_s is None else self._start_interval_s
        return self._interval_s

    def begin(self, now: float) -> None:
        """Note that a probe starts: it is a real one if the interval has passed, else an extra one."""
        self._real = now >= self._due_real - SLACK_S

    def finish(self, begun: float, now: float, exit_code: int) -> None:
        """Take in a probe's result and set `next_probe`."""
        if exit_code == 0:
            self.failing_streak = 0
            self.state = "healthy"
        elif self._counts(begun):
            self.failing_streak += 1
            if self.failing_streak >= self._retries:
                self.state = "unhealthy"
        if self._real or exit_code == 0:
            self._due_real = now + self._docker_interval(now)
        self.next_probe = self._due_real
        if self._adaptive and self.state == "starting":
            # A slow or costly probe limits itself: rest twice as long as it took.
            rest = max(self._extra_s, 2 * (now - begun))
            self._extra_s = min(self._extra_s * EXTRA_GROWTH, self._interval_s, LAST_EXTRA_S)
            self.next_probe = min(now + rest, max(self._due_real, now))

    def _counts(self, begun: float) -> bool:
        in_start_period = self.state == "starting" and begun - self._started < self._start_period_s
        return self._real and not in_start_period

    def record(self, start: float, end: float, exit_code: int, output: str) -> None:
        """Keep a probe's result for `status.json`."""
        entry = {"start": start, "end": end, "exit_code": exit_code, "output": output}
        self.log = [*self.log[-(LOG_ENTRIES - 1) :], entry]

    def take_over(self, before: Mapping[str, Any]) -> None:
        """Go on from the `health` field that an earlier monitor left."""
        self.state = before["state"]
        self.failing_streak = before["failing_streak"]
        self.log = before["log"]

    def as_status(self) -> dict[str, Any]:
        """The `health` field of `status.json`."""
        return {"state": self.state, "failing_streak": self.failing_streak, "log": self.log}


def argv_of(test: list[str]) -> list[str]:
    """The command of a health test: `CMD` runs as it is, `CMD-SHELL` through the container's /bin/sh."""
    return test[1:] if test[0] == "CMD" else ["/bin/sh", "-c", *test[1:]]


class Prober:
    """Runs the probes of one run of a container on the monitor's loop.

    `spawn(argv, stdio)` starts a command in the container and returns its pid and pidfd; it raises if it cannot.
    `changed()` is called after each probe.
    """

    def __init__(self, loop: Loop, config: Mapping[str, Any], spawn: Spawn, changed: Callable[[], object]) -> None:
        self._loop = loop
        self._argv = argv_of(config["test"])
        self._timeout_s: float = config["timeout_s"]
        self._spawn = spawn
        self._changed = changed
        self._timer: Timer | None = None
        self._probe: _Probe | None = None
        self.checkup = Checkup(config, time.monotonic())
        self._plan()

    def _plan(self) -> None:
        self._timer = self._loop.call_later(self.checkup.next_probe - time.monotonic(), self._begin)

    def _begin(self) -> None:
        self.checkup.begin(time.monotonic())
        self._probe = _Probe(self._loop, self._timeout_s, self._end)
        self._probe.start(self._argv, self._spawn)

    def _end(self, probe: _Probe) -> None:
        self._probe = None
        now = time.monotonic()
        self.checkup.record(probe.start_time, time.time(), probe.exit_code, probe.text())
        self.checkup.finish(probe.begun, now, probe.exit_code)
        self._plan()
        self._changed()

    def pause(self) -> None:
        """Start no further probe until `resume`; one that runs is ended and not counted."""
        self._loop.cancel(self._timer)
        if self._probe:
            self._probe.abandon()
            self._probe = None

    def resume(self) -> None:
        """Go on after `pause`."""
        self._plan()

    stop = pause


class _Probe:
    """One run of the health test."""

    def __init__(self, loop: Loop, timeout_s: float, done: Callable[[_Probe], object]) -> None:
        self._loop = loop
        self._timeout_s = timeout_s
        self._done: Callable[[_Probe], object] | None = done
        self._output = bytearray()
        self._timer: Timer | None = None
        self._pid = 0
        self._pidfd = self._pipe = -1
        self._timed_out = False
        self.begun = time.monotonic()
        self.start_time = time.time()
        self.exit_code = -1

    def start(self, argv: list[str], spawn: Spawn) -> None:
        """Start the command; a command that cannot start is a failed probe."""
        null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        self._pipe, write_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        os.set_blocking(write_end, True)
        try:
            self._pid, self._pidfd = spawn(argv, (null, write_end, write_end))
        except Exception as error:
            self._output += str(error).encode("utf-8", "replace")[:OUTPUT_BYTES]
            self._loop.call_later(0, self._finish)
            return
        finally:
            os.close(null)
            os.close(write_end)
        self._timer = self._loop.call_later(self._timeout_s, self._time_out)
        self._loop.add_reader(self._pipe, self._read)
        self._loop.add_reader(self._pidfd, self._reap)

    def _read(self) -> bool:
        try:
            data = os.read(self._pipe, 65536)
        except BlockingIOError:
            return False
        if not data:
            self._loop.remove(self._pipe)
            return False
        self._output += data[: OUTPUT_BYTES - len(self._output)]
        return True

    def _time_out(self) -> None:
        self._timed_out = True
        kill_tree(self._pid)

    def _reap(self) -> None:
        self.exit_code = wait_exit(self._pidfd) or 0
        # One pipe's worth: what a leftover grandchild goes on writing is not waited for.
        while self._read() and len(self._output) < OUTPUT_BYTES:
            pass
        self._finish()

    def _finish(self) -> None:
        if self._timed_out:
            self.exit_code = -1
            note = b"timed out after %g s" % self._timeout_s
            self._output = self._output[: OUTPUT_BYTES - len(note) - 1]
            self._output += (b"\n" if self._output and not self._output.endswith(b"\n") else b"") + note
        self._close()
        if self._done:
            self._done(self)

    def _close(self) -> None:
        self._loop.cancel(self._timer)
        for fd in (self._pipe, self._pidfd):
            if fd >= 0:
                self._loop.remove(fd)
                os.close(fd)
        self._pipe = self._pidfd = -1

    def abandon(self) -> None:
        """Kill the probe; tell no one, but stay to reap it."""
        self._done = None
        if self._pid:
            kill_tree(self._pid)

    def text(self) -> str:
        """The output, as text that JSON can carry."""
        return bytes(self._output).decode("utf-8", "replace")


def kill_tree(pid: int) -> None:
    """Kill a child of ours that we have not reaped, its process group, and all that descends from it.

    `pid` cannot have been given to another process while we have not reaped it.
    """
    doomed = [pid]
    for parent in doomed:
        doomed += _children(parent)
    try:
        if os.getpgid(pid) == pid:
            os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    for victim in doomed:
        try:
            os.kill(victim, signal.SIGKILL)
        except ProcessLookupError:
            continue


def _children(pid: int) -> list[int]:
    found: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children", "rb") as file:
                found += [int(child) for child in file.read().split()]
    except OSError:
        return found
    return found
