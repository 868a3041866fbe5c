"""A live region at the bottom of the terminal: one row for each thing, what it waits for, and how long it took.

    up shop  3/5  2.3s
    ✓ Network shop_default   created                                        0.02s
    ✓ Container shop-db-1    healthy after 6 probes                         1.14s
    ◐ Container shop-web-1   probe 3: connection refused                    0.31s

Each frame is one write, inside a synchronized update (DEC mode 2026), at most ten a second, none where nothing changed but the
clock less than twice a second. The rows stay on the screen when it closes.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from typing import TYPE_CHECKING, TextIO

from compose.cli.errors import uses_colour
from compose.cli.view.plain import NOUNS
from compose.failure import printable

if TYPE_CHECKING:
    from engine.events import Event

FRAME_S = 0.1
CLOCK_FRAMES = 5

_ACTIVE = frozenset(
    {
        "creating",
        "starting",
        "stopping",
        "retiring",
        "retired",
        "removing",
        "waiting",
        "building",
        "pulling",
        "pushing",
        "pausing",
        "unpausing",
        "recreate",
        "prepared",
        "providing",
        "running post_start",
        "running pre_stop",
    }
)
_SYMBOLS = {"active": "◐", "done": "✓", "failed": "✗", "skipped": "‖"}
_ASCII = {"active": "~", "done": "+", "failed": "x", "skipped": "="}
_COLOURS = {"active": "36", "done": "32", "failed": "31", "skipped": "33"}


class Row:
    """One thing and what is happening to it."""

    __slots__ = ("begun", "detail", "ended", "label", "layers", "mood", "state")

    def __init__(self, label: str, now: float) -> None:
        self.label = label
        self.state = ""
        self.detail = ""
        self.mood = "active"
        self.begun = now
        self.ended: float | None = None
        self.layers: dict[str, tuple[int, int]] = {}

    def take_transfer(self, event: Event) -> str:
        """What a pull is at: the bytes of all its layers, or why it waits."""
        if event.state == "step retrying":
            return printable(str(event.data["text"]))
        if event.data["layer"] and event.data["total"]:
            self.layers[event.data["layer"]] = event.data["done"], event.data["total"]
        done, total = (sum(amounts) for amounts in zip(*self.layers.values(), strict=True)) if self.layers else (0, 0)
        return f"{done / 1e6:.1f}/{total / 1e6:.1f} MB" if total else ""

    def seconds(self, now: float) -> float:
        """How long it has taken."""
        return (self.ended or now) - self.begun


class Live:
    """Keeps the rows and draws them."""

    def __init__(self, stream: TextIO, title: str) -> None:
        self._stream = stream
        self._title = title
        self._lock = threading.Lock()
        self._rows: dict[tuple[str, str], Row] = {}
        self._above: list[str] = []
        self._begun = time.monotonic()
        self._drawn_rows = 0
        self._changed = True
        self._closed = threading.Event()
        self._colour = uses_colour(stream)
        unicode = (getattr(stream, "encoding", "") or "").lower().replace("-", "") == "utf8"
        self._symbols = _SYMBOLS if unicode else _ASCII
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def sink(self, event: Event) -> None:
        """Take an event into its row; warnings go above the region."""
        with self._lock:
            self._changed = True
            if event.state == "warning":
                self._above.append(f"warning: {printable(str(event.data.get('message', '')))}")
            elif event.kind == "watch":
                self._above.append(printable(str(event.data["message"])))
            elif event.kind == "probe":
                self._take_probe(event)
            elif event.kind in NOUNS and event.name:
                self._take_change(event)

    def close(self) -> None:
        """Draw the last frame and leave it on the screen."""
        if self._closed.is_set():
            return
        self._closed.set()
        self._thread.join()
        self._draw(time.monotonic())

    def _row(self, event: Event, now: float) -> Row:
        kind = "container" if event.kind == "probe" else event.kind
        return self._rows.setdefault((kind, event.name), Row(f"{NOUNS[kind]} {event.name}", now))

    def _take_probe(self, event: Event) -> None:
        row = self._row(event, time.monotonic())
        probe = event.data["probe"]
        if probe["exit"] != 0:
            last = printable(str(probe["output"])).strip().split("\n")[-1]
            row.detail = f"probe {event.data['number']}: {last or 'exit ' + str(probe['exit'])}"

    def _take_change(self, event: Event) -> None:
        now = time.monotonic()
        row = self._row(event, now)
        message = printable(str(event.data.get("message", ""))).split("\n")[0]
        if event.kind in ("pull", "push") and event.state.startswith("step "):
            row.detail = row.take_transfer(event)
            return
        if event.state.startswith("step "):
            if event.state != "step output":
                where = f"[{event.data['step']}/{event.data['steps']}] " if event.data["steps"] else ""
                row.detail = where + printable(str(event.data["text"]))
            return
        if row.mood != "active" and event.state in _ACTIVE:
            row.begun, row.ended = now, None
        row.state, row.detail = event.state, message
        if event.state in _ACTIVE:
            row.mood = "active"
            return
        row.ended = now
        row.mood = "failed" if event.state == "error" else "skipped" if event.state == "not required" else "done"
        if "probes" in event.data and event.state == "healthy":
            row.detail = f"after {event.data['probes']} probes"

    def _run(self) -> None:
        frame = 0
        while not self._closed.wait(FRAME_S):
            frame += 1
            if self._changed or frame % CLOCK_FRAMES == 0:
                self._draw(time.monotonic())

    def _draw(self, now: float) -> None:
        with self._lock:
            self._changed = False
            above, self._above = self._above, []
            rows = self._frame(now) if self._rows else []
            back = f"\x1b[{self._drawn_rows}A\r" if self._drawn_rows else "\r"
            self._drawn_rows = len(rows)
        if not rows and not above:
            return
        body = "".join(f"{line}\x1b[K\n" for line in (*above, *rows))
        try:
            self._stream.write(f"\x1b[?2026h{back}{body}\x1b[J\x1b[?2026l")
            self._stream.flush()
        except (OSError, ValueError):
            return  # the terminal has gone; the work goes on

    def _frame(self, now: float) -> list[str]:
        """The region's lines, cut to the terminal: rows that are not done come first when there are too many."""
        width, height = _terminal_size(self._stream)
        done = sum(row.mood == "done" for row in self._rows.values())
        head = f"{self._title}  {done}/{len(self._rows)}  {now - self._begun:.1f}s"
        rows = list(self._rows.values())
        room = max(height - 3, 1)
        hidden = 0
        if len(rows) > room:
            order = {"failed": 0, "active": 1, "skipped": 2, "done": 3}
            kept = sorted(rows, key=lambda row: order[row.mood])[: room - 1]
            hidden, rows = len(rows) - len(kept), [row for row in rows if row in kept]
        label_width = min(max(len(row.label) for row in rows), max(width // 2, 10))
        lines = [head[: width - 1], *(self._line(row, label_width, width, now) for row in rows)]
        return lines + ([f"… {hidden} more"] if hidden else [])

    def _line(self, row: Row, label_width: int, width: int, now: float) -> str:
        clock = f"{row.seconds(now):.2f}s"
        text = (
            f"{row.state} {row.detail}".strip()
            if row.state not in ("waiting", "error") or not row.detail
            else row.detail
        )
        room = max(width - label_width - len(clock) - 7, 4)
        text = text if len(text) <= room else text[: room - 1] + "…"
        label = row.label if len(row.label) <= label_width else row.label[: label_width - 1] + "…"
        symbol = self._symbols[row.mood]
        if self._colour:
            symbol = f"\x1b[{_COLOURS[row.mood]}m{symbol}\x1b[0m"
        return f"{symbol} {label:<{label_width}}  {text:<{room}} {clock}"


def _terminal_size(stream: TextIO) -> tuple[int, int]:
    try:
        size = os.get_terminal_size(stream.fileno())
    except (OSError, ValueError):
        size = shutil.get_terminal_size()
    columns = os.environ.get("COLUMNS", "")
    return int(columns) if columns.isdecimal() and int(columns) > 10 else size.columns or 80, size.lines or 24
