from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.compose.stack import FakeStack


@pytest.fixture
def stack(tmp_path: Path) -> FakeStack:
    """A project `p` on an engine in memory."""
    return FakeStack(tmp_path)
