"""Where a command spends its time: look at its threads a thousand times a second, and say what each look found.

    python benchmarks/whereabouts.py WORDS…       runs that command once and prints, as JSON, how many looks found what

`table` runs commands many times and makes a Markdown table of it. Time before the first look (Python's own start) and after the
last is what is left of the wall-clock time.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType

EVERY_S = 0.001
REPORT = "WHEREABOUTS_REPORT"
START, IMPORTS, OTHER = "starting and ending Python", "importing modules", "the rest"
PLACES = {
    "engine.runtime.client": "waiting for monitors and zygote",
    "engine.runtime.attached": "waiting for monitors and zygote",
    "compose.cli.terminal": "waiting for monitors and zygote",
    "engine.state": "database and records",
    "engine.records": "database and records",
    "compose.spec": "reading Compose files",
    "compose.model": "reading Compose files",
    "compose.recollection": "reading Compose files",
    "compose.desired": "reading Compose files",
    "compose.observe": "planning",
    "compose.reconcile": "planning",
    "compose.verdicts": "planning",
    "compose.difference": "planning",
    "networking": "networks",
    "engine.images": "images",
    "engine.snapshots": "images",
    "engine": "containers",
    "volumes": "volumes",
    "compose.cli.view": "showing",
}
"""Module → what is going on while a thread is in it. The innermost module that is listed counts, the longest name first."""
COLUMNS = [START, IMPORTS, *dict.fromkeys(PLACES.values()), OTHER]
WAITING = ("threading", "queue", "concurrent.futures.thread", "concurrent.futures._base")


def place(frame: FrameType | None) -> str:
    """What a thread is doing."""
    while frame is not None:
        name = str(frame.f_globals.get("__name__", ""))
        if name.startswith(("importlib", "_frozen_importlib")):
            return IMPORTS
        parts = name.split(".")
        for length in range(len(parts), 0, -1):
            if found := PLACES.get(".".join(parts[:length])):
                return found if not _is_importing(frame) else IMPORTS
        frame = frame.f_back
    return OTHER


def _is_importing(frame: FrameType | None) -> bool:
    """Whether code runs because its module is being imported."""
    while frame is not None:
        if frame.f_code.co_name == "_call_with_frames_removed":
            return True
        frame = frame.f_back
    return False


def look(main: int, own: int) -> list[str]:
    """What the command is doing: its main thread, or those that this one waits for."""
    frames = {thread: frame for thread, frame in sys._current_frames().items() if thread != own}
    frame = frames.pop(main, None)
    if frame is not None and frame.f_globals.get("__name__") in WAITING and frames:
        found = [place(other) for other in frames.values() if other.f_globals.get("__name__") not in WAITING]
        return found or [place(frame)]
    return [place(frame)]


def watch(report: str) -> None:
    """Look at all threads until the process ends, which writes the report."""
    sys.setswitchinterval(EVERY_S / 2)
    seconds: Counter[str] = Counter()
    main, last = threading.main_thread().ident or 0, time.perf_counter()

    def keep_looking() -> None:
        nonlocal last
        while True:
            time.sleep(EVERY_S)
            now, found = time.perf_counter(), look(main, threading.get_ident())
            for one in found:
                seconds[one] += (now - last) / len(found)
            last = now

    threading.Thread(target=keep_looking, daemon=True).start()
    import compose.cli.entry as entry

    end = entry.end

    def ended(code: int) -> None:
        Path(report).write_text(json.dumps(seconds))
        end(code)

    entry.end = ended  # type: ignore[assignment]
    entry.entry()


def measure(words: Sequence[str], *, cwd: Path, environment: Mapping[str, str]) -> Counter[str]:
    """Run a command of umiak once; return the seconds by what it did, START being what no look saw."""
    with tempfile.NamedTemporaryFile() as file:
        program = [sys.executable, __file__, *words]
        started = time.perf_counter()
        subprocess.run(
            program,
            cwd=cwd,
            env={**environment, REPORT: file.name, "PYTHONPATH": str(Path(__file__).resolve().parents[1])},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=True,
        )
        elapsed = time.perf_counter() - started
        seconds = Counter(json.loads(Path(file.name).read_text()))
    seconds[START] = max(0.0, elapsed - seconds.total())
    return seconds


def table(steps: Mapping[str, Sequence[str]], *, cwd: Path, environment: Mapping[str, str], runs: int) -> str:
    """The mean milliseconds of each command by what it did, in Markdown. The commands run in turn, `runs` times each."""
    total: dict[str, Counter[str]] = {step: Counter() for step in steps}
    for number in range(runs + 1):
        for step, words in steps.items():
            found = measure(words, cwd=cwd, environment=environment)
            if number:  # the first run of each fills the caches
                total[step].update(found)
    shown = [column for column in COLUMNS if any(seconds[column] > 0.0005 * runs for seconds in total.values())]
    rows = [f"| ms | all | {' | '.join(shown)} |", "|---" * (len(shown) + 2) + "|"]
    for step, seconds in total.items():
        cells = [f"{1000 * seconds[column] / runs:.0f}" for column in shown]
        rows.append(f"| {step} | **{1000 * seconds.total() / runs:.0f}** | {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    watch(os.environ.pop(REPORT, "/dev/stdout"))
