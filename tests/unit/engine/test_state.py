"""The engine's database: what others may rely on when Ctrl-C, a damaged file or a full disk comes in between."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest

from engine.errors import Unavailable
from engine.state import State


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database with a volume in it, closed."""
    path = tmp_path / "state.db"
    state = State(str(path))
    state.execute("INSERT INTO volumes (name, created_at, spec, anonymous) VALUES ('data', 0, '{}', 0)")
    state.close()
    return path


def test_an_interrupted_transaction_is_undone_and_the_next_one_works(path: Path) -> None:
    state = State(str(path))
    with suppress(KeyboardInterrupt), state.transaction():
        state.execute("DELETE FROM volumes")
        raise KeyboardInterrupt
    assert state.row("SELECT name FROM volumes")
    with state.transaction():
        state.execute("DELETE FROM volumes")
    assert not State(str(path)).rows("SELECT name FROM volumes")


def test_a_file_that_is_no_database_is_told_with_what_to_do(path: Path) -> None:
    path.write_bytes(b"no database at all" * 100)
    with pytest.raises(Unavailable, match="damaged") as failure:
        State(str(path))
    assert failure.value.hint
    assert "mv " in failure.value.hint


def test_a_damaged_page_is_told_when_it_is_met(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (path.stat().st_size - 4096))
    with pytest.raises(Unavailable, match="damaged"):
        State(str(path)).rows("SELECT * FROM volumes")
