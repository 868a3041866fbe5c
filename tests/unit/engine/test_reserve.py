"""Room is kept for removing things, and given up when the disk is full."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine import reserve


def test_the_reserve_is_kept_where_there_is_room_and_used_where_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "reserve"
    free = {"bytes": reserve.PLENTY_BYTES - 1}
    monkeypatch.setattr(reserve, "_free_bytes", lambda _path: free["bytes"])
    reserve.keep(str(path))
    assert not path.exists(), "too little room to take some of it"

    free["bytes"] = reserve.PLENTY_BYTES
    reserve.keep(str(path))
    assert path.stat().st_size == reserve.SIZE_BYTES
    assert not reserve.use(str(path)), "there is room"

    free["bytes"] = 4096
    assert reserve.use(str(path))
    assert not path.exists()
    assert not reserve.use(str(path))
