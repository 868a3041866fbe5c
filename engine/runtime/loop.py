"""The monitor's event loop: one epoll instance and a heap of timers, in one thread."""

from __future__ import annotations

import heapq
import select
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Callback = Callable[[], object]

_READ = select.EPOLLIN | select.EPOLLPRI | select.EPOLLHUP | select.EPOLLERR | select.EPOLLRDHUP
_WRITE = select.EPOLLOUT | select.EPOLLHUP | select.EPOLLERR


class Timer:
    """One pending call. `Loop.cancel` makes it void."""

    __slots__ = ("callback", "due")

    def __init__(self, due: float, callback: Callback) -> None:
        self.due = due
        self.callback: Callback | None = callback

    def __lt__(self, other: Timer) -> bool:
        return self.due < other.due


class _Watch:
    __slots__ = ("mask", "reader", "urgent", "writer")

    def __init__(self) -> None:
        self.urgent = False
        self.reader: Callback | None = None
        self.writer: Callback | None = None
        self.mask = 0

    def wanted(self) -> int:
        reading = select.EPOLLPRI if self.urgent else select.EPOLLIN
        return (reading if self.reader else 0) | (select.EPOLLOUT if self.writer else 0)


class Loop:
    """Calls back when a descriptor is ready or a time has come. Level triggered; callbacks take no argument.

    A callback that raises does not end the loop: the exception goes to `on_error`.
    """

    def __init__(self, on_error: Callable[[BaseException], object] | None = None) -> None:
        self._epoll = select.epoll()
        self._watches: dict[int, _Watch] = {}
        self._timers: list[Timer] = []
        self._stopped = False
        self.on_error = on_error

    def add_reader(self, fd: int, callback: Callback, *, urgent: bool = False) -> None:
        """Call `callback` whenever `fd` can be read or has been hung up. Replaces an earlier reader of `fd`.

        `urgent` is for files of the kernel that can be read always and say by EPOLLPRI that they have changed.
        """
        watch = self._watches.setdefault(fd, _Watch())
        watch.reader, watch.urgent = callback, urgent
        self._register(fd)

    def add_writer(self, fd: int, callback: Callback) -> None:
        """Call `callback` whenever `fd` can be written. Replaces an earlier writer of `fd`."""
        self._watches.setdefault(fd, _Watch()).writer = callback
        self._register(fd)

    def remove_reader(self, fd: int) -> None:
        """Forget the reader of `fd`, keep its writer."""
        if watch := self._watches.get(fd):
            watch.reader = None
            self._register(fd)

    def remove_writer(self, fd: int) -> None:
        """Forget the writer of `fd`, keep its reader."""
        if watch := self._watches.get(fd):
            watch.writer = None
            self._register(fd)

    def remove(self, fd: int) -> None:
        """Forget `fd`. Call it before closing the descriptor; unknown descriptors are fine."""
        if watch := self._watches.get(fd):
            watch.reader = watch.writer = None
            self._register(fd)

    def _register(self, fd: int) -> None:
        watch = self._watches[fd]
        wanted = watch.wanted()
        if wanted == watch.mask:
            return
        try:
            if not wanted:
                del self._watches[fd]
                self._epoll.unregister(fd)
            elif watch.mask:
                self._epoll.modify(fd, wanted)
            else:
                self._epoll.register(fd, wanted)
        except OSError:
            if wanted:
                self._watches.pop(fd, None)
                raise
        watch.mask = wanted

    def call_later(self, seconds: float, callback: Callback) -> Timer:
        """Call `callback` once, `seconds` from now on the monotonic clock."""
        timer = Timer(time.monotonic() + max(seconds, 0.0), callback)
        heapq.heappush(self._timers, timer)
        return timer

    def cancel(self, timer: Timer | None) -> None:
        """Make a timer void; one that has run, or None, is fine."""
        if timer is not None:
            timer.callback = None

    def run(self) -> None:
        """Serve until `stop` is called; return at once if it has been."""
        while not self._stopped:
            self.step()

    def stop(self) -> None:
        """Make `run` return after the present round."""
        self._stopped = True

    def step(self, timeout_s: float | None = None) -> None:
        """Wait for one round of events, at most `timeout_s`, and serve them."""
        for fd, events in self._epoll.poll(self._patience(timeout_s)):
            if watch := self._watches.get(fd):
                self._serve(fd, watch, events)
        self._run_due()

    def _serve(self, fd: int, watch: _Watch, events: int) -> None:
        if watch.reader and events & _READ:
            self._call(watch.reader)
        # The reader may have removed the descriptor, or closed it and had its number used again.
        if watch.writer and events & _WRITE and self._watches.get(fd) is watch:
            self._call(watch.writer)

    def _patience(self, timeout_s: float | None) -> float:
        while self._timers and self._timers[0].callback is None:
            heapq.heappop(self._timers)
        if not self._timers:
            return -1 if timeout_s is None else timeout_s
        wait = max(self._timers[0].due - time.monotonic(), 0.0)
        return wait if timeout_s is None else min(wait, timeout_s)

    def _run_due(self) -> None:
        now = time.monotonic()
        while self._timers and self._timers[0].due <= now:
            callback = heapq.heappop(self._timers).callback
            if callback:
                self._call(callback)

    def _call(self, callback: Callback) -> None:
        try:
            callback()
        except Exception as error:
            if self.on_error is None:
                raise
            self.on_error(error)

    def close(self) -> None:
        """Give back the epoll descriptor."""
        self._epoll.close()
