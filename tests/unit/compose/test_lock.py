from __future__ import annotations

import threading
from pathlib import Path

from compose.lock import project_lock


def test_a_second_command_waits_for_the_first_and_says_so(tmp_path: Path) -> None:
    order: list[str] = []
    waiting = threading.Event()

    def second() -> None:
        with project_lock(str(tmp_path), "p", waiting.set):
            order.append("second")

    with project_lock(str(tmp_path), "p", lambda: order.append("waited in vain")):
        thread = threading.Thread(target=second)
        thread.start()
        assert waiting.wait(5)
        order.append("first")
    thread.join(5)
    assert order == ["first", "second"]


def test_projects_do_not_wait_for_each_other(tmp_path: Path) -> None:
    waited: list[str] = []
    with (
        project_lock(str(tmp_path), "one", lambda: waited.append("one")),
        project_lock(str(tmp_path), "two", lambda: waited.append("two")),
    ):
        assert waited == []
