"""The record of what happened: whole lines from any number of writers, bounded in size, read across its files."""

from __future__ import annotations

import time
from pathlib import Path
from threading import Thread

import pytest

from engine import events
from engine.events import records
from engine.runtime import journal


def note(directory: Path, action: str) -> None:
    journal.append(str(directory), "container", action, "id", {"name": "c"})


def actions(directory: Path) -> list[str]:
    return [record.action for record in records(str(directory))]


def test_what_is_noted_can_be_read(tmp_path: Path) -> None:
    note(tmp_path / "events", "create")
    [record] = records(str(tmp_path / "events"))
    assert (record.type, record.action, record.id, record.attributes) == ("container", "create", "id", {"name": "c"})
    assert list(records(str(tmp_path / "events"), since=record.time + 1)) == []


def test_lines_of_many_writers_stay_whole(tmp_path: Path) -> None:
    writers = [Thread(target=lambda: [note(tmp_path, "start") for _ in range(50)]) for _ in range(8)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert actions(tmp_path) == ["start"] * 400


def test_a_large_record_is_rotated_and_read_across_both_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "MAX_SIZE_BYTES", 1000)
    for number in range(40):
        note(tmp_path, str(number))
    found = [int(action) for action in actions(tmp_path)]
    assert found == list(range(found[0], 40))
    assert len(found) < 40
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 3000


def test_what_happens_after_the_clock_was_set_back_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time()
    note(tmp_path, "create")
    following = records(str(tmp_path), since=now - 60, follow=True)
    assert next(following).action == "create"
    monkeypatch.setattr(time, "time", lambda: now - 3600)
    monkeypatch.setattr(events._Tail, "wait", lambda *_: note(tmp_path, "die"))
    assert next(following).action == "die"


def test_an_end_in_time_comes_though_the_clock_was_set_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time()
    real_wait = events._Tail.wait

    def wait(tail: events._Tail, timeout_s: float | None) -> None:
        monkeypatch.setattr(time, "time", lambda: now - 3600)
        real_wait(tail, timeout_s)

    monkeypatch.setattr(events._Tail, "wait", wait)
    assert list(records(str(tmp_path), since=now - 60, until=now + 0.2, follow=True)) == []


def test_a_torn_line_is_passed_over(tmp_path: Path) -> None:
    note(tmp_path, "create")
    with (tmp_path / journal.CURRENT).open("ab") as file:
        file.write(b'{"time": 1, "ty\n')
    note(tmp_path, "die")
    assert actions(tmp_path) == ["create", "die"]


def test_what_cannot_be_noted_stops_nobody(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    note(tmp_path / "file" / "events", "create")
